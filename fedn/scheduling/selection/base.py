"""What a selector is: from the clients that could train in a round, it chooses the cohort, and says why not the others.

A choice is a pure function of the seed, the round and the clients: it does not depend on the order in which clients
came, is the same after a restart, and a client that leaves does not change who else is drawn.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import Field, model_validator

from fedn.plan.option_values import OptionValues
from fedn.plan.options import SELECTORS, load_option
from fedn.protocol.tasks import UpdateMetadata


@dataclass(frozen=True)
class Candidate:
    """An attached client that can train."""

    client: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What it said of itself."""
    latest: UpdateMetadata | None = None
    """What it said of its latest work in this session."""
    last_asked: int | None = None
    """Index of the latest earlier round of this session whose cohort it was in."""
    times_asked: int = 0
    """Number of those rounds."""


@dataclass(frozen=True)
class Cohort:
    """Who takes part in a round."""

    clients: tuple[str, ...]
    """Sorted by name."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Client to a sentence that says why it does not take part; every candidate is in one of the two."""


@dataclass(frozen=True)
class Draw:
    """The chance of one round: for each client its own, and always the same."""

    seed: int
    round_index: int

    def rank(self, client: str) -> bytes:
        """Those of lowest rank are a uniform sample without replacement."""
        return hashlib.sha256(f"{self.seed}\0{self.round_index}\0{client}".encode()).digest()

    def uniform(self, client: str) -> float:
        """In (0, 1)."""
        return (int.from_bytes(self.rank(client)[:8], "big") + 0.5) / 2**64


class Selector(Protocol):
    """Built with the plan's options (unknown ones: InvalidInput). Has no state: what it must know is given to it."""

    name: str
    uses_past: bool
    """Whether it looks at `Candidate.latest` or `last_asked`."""

    def __init__(self, **options: Any) -> None: ...

    @property
    def most(self) -> int | None:
        """Size that no cohort exceeds, where that is known."""

    def select(self, candidates: Sequence[Candidate], draw: Draw, limit: int | None) -> Cohort:
        """The cohort.

        Args:
            limit: clients at the most, as the plan's `clients_requested` says; None: no limit.
        """


class Size(OptionValues):
    """How many clients, as a number or as a part of them."""

    count: int | None = Field(default=None, ge=1)
    """Clients of each round."""
    fraction: float | None = Field(default=None, gt=0, le=1)
    """Part of the clients, rounded up (a participation ratio)."""

    @model_validator(mode="after")
    def _not_both(self) -> "Size":
        if self.count is not None and self.fraction is not None:
            raise ValueError("count and fraction are both given")
        return self

    def of(self, number: int) -> int:
        """How many of so many clients; all where nothing is said."""
        if self.fraction is not None:
            return part_of(self.fraction, number)
        return number if self.count is None else min(self.count, number)


def part_of(fraction: float, number: int) -> int:
    """So large a part of so many clients, rounded up, but for what floating point adds."""
    return min(number, math.ceil(fraction * number - 1e-9))


def first(ranked: Sequence[str], size: int, limit: int | None, why: str) -> Cohort:
    """The first `size` of the clients, or `limit` if that is less; `why` says that for the others."""
    if limit is not None and limit < size:
        size, why = limit, f"the plan's clients_requested lets {limit} of {len(ranked)} clients take part"
    return Cohort(tuple(sorted(ranked[:size])), dict.fromkeys(ranked[size:], why))


def get_selector(name: str, options: Mapping[str, Any]) -> Selector:
    """The selector of that name. InvalidInput for an unknown name or option."""
    selector: Selector = load_option(SELECTORS, name)(**options)
    return selector
