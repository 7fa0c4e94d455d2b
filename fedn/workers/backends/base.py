"""What moves messages between workers: the one interface of all back ends, and their contract.

The contract, held by tests/integration/workers/test_backends.py for each of them: frames of a pair arrive in the order
they were sent, whole, once; a sender to whom the receiver does not listen blocks, and after `stall_s` without progress
gets PeerUnavailable; who closes loses nothing that it has sent; the others hear of it after the last of its frames,
and of a worker that dies, with the reason.
"""

import abc
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Self

from fedn.models.digest import Buffer
from fedn.protocol.errors import InvalidInput

BACKENDS = "fedn.worker_backends"
"""Entry-point group: name to a subclass of Backend."""

DEFAULT_STALL_S = 60.0
"""How long a receiver may take nothing before its sender gives up, in seconds."""


@dataclass(frozen=True)
class Arrival:
    """A frame that came."""

    sender: int
    frame: Buffer


@dataclass(frozen=True)
class Departure:
    """A worker that is gone, after all frames that it sent."""

    rank: int
    reason: str | None
    """Why it failed; None where it has finished its work."""


@dataclass(frozen=True)
class WorkerStart:
    """What a worker's process needs to be attached: environment variables and open files to inherit."""

    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: Sequence[int] = ()


class Backend(abc.ABC):
    """One worker's connection to all the others. `send` may be called by any thread, `receive` by one."""

    rank: int
    """This worker's number, from 0."""
    size: int
    """How many workers there are."""

    @classmethod
    @abc.abstractmethod
    def attach(cls, environment: Mapping[str, str]) -> Self:
        """The connection of the worker that this process is, by the variables that its launcher has set.

        Raises:
            InvalidInput: (`no_worker_backend`) the variables are not there.
        """

    @classmethod
    def start(cls, size: int) -> AbstractContextManager[Sequence[WorkerStart]]:
        """What to start `size` processes with; leaving the context gives up what the launcher holds of it.

        Raises:
            InvalidInput: (`cannot_launch`) workers of this back end are started another way.
        """
        raise InvalidInput(
            "cannot_launch",
            f"Workers over {cls.__name__} are not started as processes",
            fix=(cls.__doc__ or "See its documentation.").partition("\n")[0],
        )

    @abc.abstractmethod
    def send(self, receiver: int, frame: Buffer) -> None:
        """Sends a frame; the caller may not change it afterwards.

        Raises:
            PeerUnavailable: the receiver is gone, or took nothing for `stall_s`.
        """

    @abc.abstractmethod
    def receive(self, timeout_s: float | None) -> Arrival | Departure | None:
        """What comes next, or None after `timeout_s` seconds (None: waits as long as it takes).

        Raises:
            PeerUnavailable: (`worker_finished`) this worker is closed.
        """

    @abc.abstractmethod
    def close(self, reason: str | None = None) -> None:
        """Ends the connection; the others hear the reason, None where the work is done. Again does nothing."""
