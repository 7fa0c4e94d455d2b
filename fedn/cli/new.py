"""`fedn new`: a project that runs as it is."""

import keyword
import re
from importlib.resources import files
from pathlib import Path

import click

from fedn.cli.connection import json_option
from fedn.cli.output import Output
from fedn.protocol.errors import Conflict, FednError, InvalidInput

_PARAMETERS = {
    "numpy": {"epochs": "20", "learning_rate": "1.0"},
    "sklearn": {"epochs": "3", "batch_size": "32"},
    "pytorch": {"epochs": "3", "batch_size": "32", "learning_rate": "0.1"},
    "keras": {"epochs": "3", "batch_size": "32", "learning_rate": "0.1"},
}
"""Framework to the hyper-parameters that its learner reads."""


@click.command()
@click.argument("name")
@click.option("--framework", type=click.Choice(sorted(_PARAMETERS)), default="numpy", help="[default: numpy]")
@json_option
def new(name: str, framework: str, out: Output) -> None:
    """Make a project in the folder NAME: a Learner, its data, a plan. It trains in the sandbox as it is, offline.

    \b
        fedn new my-project --framework sklearn
        fedn sandbox --project my-project --exit
    """
    folder = Path(name)
    written = make_project(folder, framework)
    if out.json:
        out.data({"folder": str(folder), "files": [str(path) for path in written]})
        return
    for path in written:
        out.say(f"  {path}")
    out.say(f"\nTry it:   fedn sandbox --project {folder} --exit\nThen change {folder / 'client' / 'learner.py'}.")


def make_project(folder: Path, framework: str) -> list[Path]:
    """Writes the project and returns its files. The folder must not be there, or be empty.

    Raises:
        InvalidInput: (`bad_project_name`) no class can be named after the folder.
        Conflict: (`folder_exists`).
        FednError: (`cannot_write_file`).
    """
    words = re.findall(r"[A-Za-z0-9]+", folder.name)
    stem = "".join(word[:1].upper() + word[1:] for word in words)
    if not stem or not stem[0].isalpha() or keyword.iskeyword(stem):
        raise InvalidInput(
            "bad_project_name",
            f"{folder.name!r} gives no name for a Python class",
            fix="Choose a name that starts with a letter, such as my-project.",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(
            "folder_exists",
            "there is something of this name already",
            fix="Choose another name.",
            where={"folder": folder},
        )
    values = {
        "name": folder.name,
        "framework": framework,
        "class_name": f"{stem}Learner",
        "package": "_".join(words).lower(),
        "parameters": "\n".join(f"  {key}: {value}" for key, value in _PARAMETERS[framework].items()),
    }
    data = "data_sklearn.py" if framework == "sklearn" else "data_synthetic.py"
    texts = {
        "README.md": _template("README.md", values),
        "plan.yaml": _template("plan.yaml", values),
        "client/fedn.yaml": _template("fedn.yaml", values),
        "client/learner.py": _template(f"learner_{framework}.py", values),
        "client/data.py": _template(data, None),
    }
    try:
        for place, text in texts.items():
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FednError(
            "cannot_write_file",
            f"the project cannot be written: {error.strerror}",
            fix="Choose another place, or make room.",
            where={"folder": folder},
        ) from error
    return [folder / place for place in texts]


def _template(name: str, values: dict[str, str] | None) -> str:
    text = files("fedn.cli").joinpath("templates", f"{name}.tmpl").read_text(encoding="utf-8")
    return text if values is None else text.format_map(values)
