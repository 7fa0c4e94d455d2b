"""The reference says what the code does: generated parts are up to date, every error code has its section."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml

import fedn
from fedn.cli.main import root
from fedn.protocol import errors
from fedn.protocol.explain import explanations

ROOT = Path(fedn.__file__).resolve().parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", sorted(path.name for path in (DOCS / "reference").glob("*.md")))
def test_what_is_generated_is_up_to_date(generate: ModuleType, page: str) -> None:
    text = (DOCS / "reference" / page).read_text()
    assert generate.fresh(text) == text, "run: python docs/generate.py"


def test_the_packaged_explanations_are_up_to_date(generate: ModuleType) -> None:
    packaged = ROOT / "fedn" / "protocol" / "error_codes.json"
    assert packaged.read_text() == generate.error_file(), "run: python docs/generate.py"
    assert set(explanations()) == set(generate.error_codes())


def test_every_code_that_is_raised_has_a_section(generate: ModuleType) -> None:
    sections = set(re.findall(r"^### (\w+) ", (DOCS / "reference" / "errors.md").read_text(), re.MULTILINE))
    raised = set()
    classes = "|".join(name for name, value in vars(errors).items() if isinstance(value, type))
    pattern = re.compile(rf"\b(?:{classes})\(\s*\"([a-z0-9_]+)\"")
    for path in (ROOT / "fedn").rglob("*.py"):
        raised |= set(pattern.findall(path.read_text()))
    assert len(raised) > 100
    assert raised <= sections, "run: python docs/generate.py"


def test_links_to_errors_name_codes_that_exist(generate: ModuleType) -> None:
    codes = set(generate.error_codes())
    linked = {code for path in DOCS.rglob("*.md") for code in re.findall(r"errors\.md#(\w+)", path.read_text())}
    assert linked <= codes


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("nav:")[2]
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert pages == set(re.findall(r"[\w/-]+\.md", navigation))


def test_commands_on_the_pages_exist() -> None:
    def known(words: list[str]) -> bool:
        command: click.Command = root
        for word in words:
            if not isinstance(command, click.Group):
                return True
            inner = command.get_command(click.Context(command), word)
            if inner is None:
                return False
            command = inner
        return True

    texts = {path: path.read_text() for path in [*DOCS.rglob("*.md"), ROOT / "README.md"]}
    unknown = [
        f"{path.name}: fedn {call}"
        for path, text in texts.items()
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        for call in re.findall(r"^(?:[A-Z_]+=\S+ )*fedn ([a-z][a-z -]*)", block, re.MULTILINE)
        if not known(call.split(" -")[0].split()[:2])
    ]
    assert not unknown


def test_blocks_of_yaml_can_be_read() -> None:
    for path in DOCS.rglob("*.md"):
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL):
            assert isinstance(yaml.safe_load(block), dict), path
