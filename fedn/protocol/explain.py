"""What error codes mean: the explanations of docs/reference/errors.md, as they come with the package."""

import json
from functools import cache
from importlib.resources import files

from fedn.protocol.errors import NotFound
from fedn.protocol.tasks import Frozen

_FILE = "error_codes.json"
"""Written by docs/generate.py from the source and docs/reference/error-notes.yaml."""


class Explanation(Frozen):
    """One error code."""

    code: str
    kinds: tuple[str, ...] = ()
    """Classes of `fedn.protocol.errors` that carry it."""
    statuses: tuple[int, ...] = ()
    """HTTP statuses."""
    messages: tuple[str, ...] = ()
    """As the program says them, with … for what is filled in."""
    note: str = ""
    """What is behind it, where the message does not say."""
    fixes: tuple[str, ...] = ()
    """What to do."""
    modules: tuple[str, ...] = ()
    """Where it is raised."""


@cache
def explanations() -> dict[str, Explanation]:
    """All codes, by name."""
    text = files("fedn.protocol").joinpath(_FILE).read_text(encoding="utf-8")
    return {one["code"]: Explanation.model_validate(one) for one in json.loads(text)}


def explain(code: str) -> Explanation:
    """What a code means. NotFound (`no_such_code`)."""
    found = explanations().get(code)
    if found is None:
        raise NotFound(
            "no_such_code",
            "this version of fedn raises no error of that code",
            fix="List them with: fedn explain.",
            where={"code": code[:80]},
        )
    return found
