"""The values that an option of a plan may be given: read, checked, and told apart from what it does not know.

Each rule, selector, optimizer and the like declares its own as a subclass of `OptionValues`, whose fields and the
sentences under them are its documentation too.
"""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fedn.protocol.errors import FednError, InvalidInput, InvalidSettings


class OptionValues(BaseModel):
    """What one option knows; a value of another type, NaN and infinity are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class NoValues(OptionValues):
    """Of an option that has none."""


Values = TypeVar("Values", bound=OptionValues)


def read_values(what: str, name: str, model: type[Values], given: Mapping[str, Any]) -> Values:
    """The values of an option, with defaults for those that are not given.

    Args:
        what: field of the plan: rule, selection and the like.
        name: of the option.

    Raises:
        InvalidInput: (`unknown_option`) it has no such value; (`bad_option`) one is missing, or cannot be used.
            InvalidSettings where there are several such faults.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        faults: list[FednError] = [_fault(what, name, model, one) for one in error.errors(include_url=False)]
        if len(faults) == 1:
            raise faults[0] from error
        raise InvalidSettings(faults, what=f"The {what} {name}") from error


def _fault(what: str, name: str, model: type[OptionValues], error: Mapping[str, Any]) -> InvalidInput:
    path = ".".join(map(str, error["loc"]))
    field = f"{what}.options.{path}" if path else f"{what}.options"
    about = {info.alias or name: info.description for name, info in model.model_fields.items()}
    known = sorted(about)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path, known, n=1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        return InvalidInput(
            "unknown_option",
            f"The {what} {name} has no option {path}",
            fix=f"{guess}It knows: {', '.join(known)}." if known else "It has no options; leave them out.",
            where={"field": field},
        )
    text = about[str(error["loc"][0])] if error["loc"] else None
    message = "it must be given" if error["type"] == "missing" else str(error["msg"]).removeprefix("Value error, ")
    return InvalidInput(
        "bad_option",
        f"The {what} {name} cannot use its option{f' {path}' if path else 's'}: {message[:1].lower()}{message[1:]}",
        fix=f"{path}: {' '.join(text.split())}" if text else "See docs/reference/plan-options.md.",
        where={"field": field},
    )
