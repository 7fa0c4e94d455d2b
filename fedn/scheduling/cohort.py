"""A uniform sample of the attached clients, for rounds that train nothing; fedn.scheduling.selection has the others."""

from collections.abc import Collection

from fedn.scheduling.selection.base import Draw


def select_cohort(clients: Collection[str], requested: int | None, *, seed: int, round_index: int) -> list[str]:
    """The clients of a round, sorted by name.

    All of them if `requested` is None or not smaller than their number; else a uniform sample without replacement.
    """
    if requested is None or requested >= len(clients):
        return sorted(clients)
    return sorted(sorted(clients, key=Draw(seed, round_index).rank)[:requested])
