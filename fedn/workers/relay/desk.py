"""Where a worker asks for its place in a group: the reducer, over REST. Calls block; the stream's loop never waits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fedn.network.dialing import Endpoint


@dataclass(frozen=True)
class Place:
    """A worker's place in its group, and the combiner to attach to."""

    endpoint: Endpoint
    ticket: str = field(repr=False)
    group: str
    rank: int
    size: int
    expires_at: float
    """Unix time in seconds: the end of the token."""


class Desk(Protocol):
    """Gives places."""

    def join(self, avoid: Sequence[str]) -> Place:
        """The worker's place; the same rank each time.

        Args:
            avoid: combiners that were tried just now in vain.

        Raises:
            Unavailable: not now.
            FednError: never.
        """

    def renew(self) -> tuple[str, float]:
        """A new token, and the end of it in Unix seconds."""

    def close(self) -> None:
        """Lets go of all that it has opened."""
