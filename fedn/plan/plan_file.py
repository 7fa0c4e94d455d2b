"""Plans from a YAML file and flags, checked as a whole before anything is sent."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedn.plan.session import SessionPlan
from fedn.plan.strict_yaml import read_mapping
from fedn.protocol.errors import FednError, InvalidInput, InvalidSettings


def read_plan(file: Path | None) -> dict[str, Any]:
    """What a plan file says; empty without a file. InvalidInput (`unreadable_file`, `bad_yaml`)."""
    if file is None:
        return {}
    try:
        return dict(read_mapping(file.read_bytes(), name=str(file)))
    except OSError as error:
        raise InvalidInput(
            "unreadable_file",
            f"the plan cannot be read: {error.strerror}",
            fix="Give the path of a YAML file; `fedn plan example` prints one.",
            where={"file": file},
        ) from error


def make_plan(content: Mapping[str, Any], *, source: str) -> SessionPlan:
    """The plan. InvalidSettings names every fault, each with code `bad_plan` and its field."""
    try:
        return SessionPlan.model_validate(dict(content))
    except ValidationError as error:
        problems: list[FednError] = [_problem(detail) for detail in error.errors(include_url=False)]
        raise InvalidSettings(problems, what=f"The plan ({source})") from error


def _problem(detail: Mapping[str, Any]) -> FednError:
    field = ".".join(map(str, detail["loc"]))
    message = str(detail["msg"]).removeprefix("Value error, ")
    fix = "`fedn plan fields` lists what a plan may say."
    if detail["type"] == "extra_forbidden":
        message = "a plan has no such field"
        known = [info.alias or name for name, info in SessionPlan.model_fields.items()]
        if near := difflib.get_close_matches(field, known, n=1):
            fix = f"Did you mean {near[0]!r}? {fix}"
    return InvalidInput("bad_plan", message, fix=fix, where={"field": field or "(plan)"})


def parse_values(items: Sequence[str]) -> dict[str, Any]:
    """`name=value` texts; a value is read as YAML: 3 is a number, true a truth value, [1, 2] a list.

    InvalidInput (`bad_parameter`).
    """
    values: dict[str, Any] = {}
    for item in items:
        name, equals, _ = item.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(
                "bad_parameter", f"{item!r} is not NAME=VALUE", fix="Write, for example, -p learning_rate=0.1."
            )
        text = item[len(name) + 1 :]
        values[name.strip()] = read_mapping(f"value: {text}", name="parameter").get("value")
    return values
