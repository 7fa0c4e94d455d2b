"""The cohort of a round: which of the attached clients take part, as a pure function of the seed."""

import hashlib
from collections.abc import Collection


def select_cohort(clients: Collection[str], requested: int | None, *, seed: int, round_index: int) -> list[str]:
    """The clients of a round, sorted by name.

    All of them if `requested` is None or not smaller than their number; else a uniform sample without replacement.
    Each client's rank is the hash of (seed, round, name), so the choice does not depend on the order in which
    clients came, is the same after a restart, and a client that leaves does not change who else is chosen.
    """
    if requested is None or requested >= len(clients):
        return sorted(clients)

    def rank(client: str) -> bytes:
        return hashlib.sha256(f"{seed}\0{round_index}\0{client}".encode()).digest()

    return sorted(sorted(clients, key=rank)[:requested])
