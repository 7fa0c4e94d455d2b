"""Rules, schedulers, helpers and codecs found by name through entry points, never by import.

A package of anybody adds an option by declaring an entry point in one of the groups; nothing here knows the options.
"""

import difflib
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from inspect import cleandoc

from fedn.protocol.errors import InvalidInput

CODECS = "fedn.codecs"
HELPERS = "fedn.helpers"
RULES = "fedn.rules"
SCHEDULERS = "fedn.schedulers"
SELECTORS = "fedn.selectors"
OPTIMIZERS = "fedn.optimizers"
SCALING_FACTORS = "fedn.scaling_factors"

GROUPS = {
    "codec": CODECS,
    "helper": HELPERS,
    "rule": RULES,
    "scaling_factor": SCALING_FACTORS,
    "scheduler": SCHEDULERS,
    "selection": SELECTORS,
    "server_optimizer": OPTIMIZERS,
}
"""What a plan chooses by name, to the entry-point group where it is found."""


def load_option(group: str, name: str) -> type:
    """The class that the option `name` of an entry-point group stands for.

    Raises:
        InvalidInput: (`unknown_option`) no such name, the known ones are named; (`ambiguous_option`) two packages
            declare the name differently; (`broken_option`) it cannot be imported, or is no class.
    """
    found = _entries(group).get(name)
    if not found:
        known = sorted(_entries(group))
        near = difflib.get_close_matches(name, known, n=1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        raise InvalidInput(
            "unknown_option",
            f"there is no {name!r} among the {_plural(group)}",
            fix=f"{guess}Known: {', '.join(known) or 'none'}. A package adds one by an entry point in {group!r}.",
            where={"option": name},
        )
    if len({entry.value for entry in found}) > 1:
        raise InvalidInput(
            "ambiguous_option",
            f"{name!r} is declared by several packages: {', '.join(sorted(map(_origin, found)))}",
            fix="Uninstall all but one of them, so that it is clear whose code runs.",
            where={"option": name},
        )
    return _load(found[0])


def option_names(group: str) -> list[str]:
    """Names of a group, sorted, whether they can be used or not."""
    return sorted(_entries(group))


def list_options(group: str) -> dict[str, str]:
    """Names of a group, sorted, each with the first line of its docstring, or with why it cannot be used."""
    described = {}
    for name in sorted(_entries(group)):
        try:
            option = load_option(group, name)
        except InvalidInput as error:
            described[name] = f"cannot be used: {error.message}"
        else:
            described[name] = cleandoc(option.__doc__ or "").partition("\n")[0]
    return described


def _entries(group: str) -> Mapping[str, list[EntryPoint]]:
    return _scan(group, tuple(sys.path))


@lru_cache(maxsize=16)
def _scan(group: str, path: tuple[str, ...]) -> Mapping[str, list[EntryPoint]]:
    """Reads the metadata of every installed package, which takes milliseconds: once for each search path."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=group):
        found.setdefault(entry.name, []).append(entry)
    return found


def _load(entry: EntryPoint) -> type:
    try:
        option = entry.load()
    except (ImportError, AttributeError) as error:
        raise InvalidInput(
            "broken_option",
            f"{entry.name!r} cannot be loaded from {_origin(entry)}: {error}",
            fix="Install what it needs, or reinstall the package that declares it.",
            where={"option": entry.name},
        ) from error
    if not isinstance(option, type):
        raise InvalidInput(
            "broken_option",
            f"{entry.name!r} of {_origin(entry)} is not a class",
            fix="Let the entry point name a class.",
            where={"option": entry.name},
        )
    return option


def _origin(entry: EntryPoint) -> str:
    return f"{entry.value} ({entry.dist.name})" if entry.dist is not None else entry.value


def _plural(group: str) -> str:
    return group.rpartition(".")[2]
