"""Options found by name, with real distributions on the path."""

import sys
from pathlib import Path

import pytest

from fedn.plan.options import list_options, load_option
from fedn.protocol.errors import InvalidInput

GROUP = "fedn.test_rules"


def install(folder: Path, distribution: str, options: str) -> None:
    info = folder / f"{distribution}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{options}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "option_module.py").write_text('class Mean:\n    """A mean.\n\n    Long.\n    """\n\nnumber = 1\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "option_module", raising=False)
    return tmp_path


def test_option_of_anybody_is_found_by_its_name(site: Path) -> None:
    install(site, "someones", "mean = option_module:Mean")
    assert load_option(GROUP, "mean").__name__ == "Mean"
    assert list_options(GROUP) == {"mean": "A mean."}


def test_unknown_option_names_the_known_ones_and_the_nearest(site: Path) -> None:
    install(site, "someones", "mean = option_module:Mean\nother = option_module:Mean")
    with pytest.raises(InvalidInput, match="unknown_option") as caught:
        load_option(GROUP, "maen")
    assert "Did you mean 'mean'?" in caught.value.fix and "mean, other" in caught.value.fix


def test_name_that_two_packages_declare_differently_is_refused(site: Path) -> None:
    install(site, "first", "mean = option_module:Mean")
    install(site, "second", "mean = elsewhere:Mean")
    with pytest.raises(InvalidInput, match="ambiguous_option") as caught:
        load_option(GROUP, "mean")
    assert "first" in caught.value.message and "second" in caught.value.message


@pytest.mark.parametrize("value", ["missing_module:Mean", "option_module:Missing", "option_module:number"])
def test_broken_option_is_listed_with_the_reason_and_does_not_hide_the_others(site: Path, value: str) -> None:
    install(site, "someones", f"mean = option_module:Mean\nbroken = {value}")
    with pytest.raises(InvalidInput, match="broken_option"):
        load_option(GROUP, "broken")
    listed = list_options(GROUP)
    assert listed["mean"] == "A mean." and listed["broken"].startswith("cannot be used: ")
