"""The part of the reference that says what a plan can choose by name, from the docstrings and fields of the options."""

import inspect
from typing import Any

from pydantic.fields import FieldInfo

from fedn.plan.option_values import OptionValues
from fedn.plan.options import CODECS, GROUPS, HELPERS, load_option, option_names

ELSEWHERE = {CODECS, HELPERS}
"""Groups whose options have pages of their own, or none."""


def options_reference() -> str:
    """A section for each group, and in it one for each option of fedn itself."""
    lines: list[str] = []
    for field, group in GROUPS.items():
        if group in ELSEWHERE:
            continue
        lines += [f"## {field}", "", f"Entry points: `{group}`.", ""]
        for name in option_names(group):
            option = load_option(group, name)
            if option.__module__.startswith("fedn."):
                lines += _option(field, name, option)
    return "\n".join(lines)


def _option(field: str, name: str, option: type) -> list[str]:
    paragraphs = inspect.cleandoc(option.__doc__ or "").split("\n\n")
    text = "\n\n".join(paragraph for paragraph in paragraphs if not paragraph.startswith(("Args:", "Raises:")))
    lines = [f"### {name} {{ #{field}-{name} }}", "", text, ""]
    values: type[OptionValues] | None = getattr(option, "Options", None)
    if values is not None and values.model_fields:
        lines += ["| option | default | what it is |", "|---|---|---|"]
        for key, info in values.model_fields.items():
            about = " ".join((info.description or "").split()).replace("|", "\\|")
            lines.append(f"| `{info.alias or key}` | {_default(info)} | {about}{_range(info)} |")
        lines.append("")
    return lines


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "must be given"
    value: Any = info.get_default(call_default_factory=True)
    return "" if value is None else f"`{value}`"


def _range(info: FieldInfo) -> str:
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    found = [f"{text} {getattr(one, key)}" for one in info.metadata for key, text in words.items() if hasattr(one, key)]
    return f" ({', '.join(found)})" if found else ""
