"""Helpers by their names, from the entry-point group `fedn.helpers`. A framework is imported when it is asked for.

Not here: the options of plans in general (fedn.plan.options), which lies above this package and lists helpers too.
"""

from importlib.metadata import entry_points
from typing import cast

from fedn.models.helpers.base import Helper
from fedn.protocol.errors import InvalidInput

GROUP = "fedn.helpers"


def get_helper(name: str) -> Helper:
    """The helper of this name.

    Raises:
        InvalidInput: (`unknown_option`) no such name, the known ones are named; (`ambiguous_option`) two packages
            declare the name differently; (`broken_option`) it cannot be imported.
    """
    found = entry_points(group=GROUP, name=name)
    if not found:
        known = ", ".join(sorted({entry.name for entry in entry_points(group=GROUP)}))
        raise InvalidInput(
            "unknown_option",
            f"There is no helper {name!r}",
            fix=f"Known: {known or 'none'}. A package adds one by an entry point in {GROUP!r}.",
            where={"option": name},
        )
    values = sorted({entry.value for entry in found})
    if len(values) > 1:
        raise InvalidInput(
            "ambiguous_option",
            f"The helper {name!r} is declared as {' and as '.join(values)}",
            fix="Uninstall all but one of the packages, so that it is clear whose code runs.",
            where={"option": name},
        )
    try:
        helper = next(iter(found)).load()
    except (ImportError, AttributeError) as error:
        raise InvalidInput(
            "broken_option",
            f"The helper {name!r} cannot be loaded from {values[0]}: {error}",
            fix="Install the framework that it is for.",
            where={"option": name},
        ) from error
    return cast(Helper, helper())
