"""One task of a round: who has it, how far it is, and what the ledger says of it."""

import asyncio
import time
from dataclasses import dataclass, field

from fedn.combiner.buffers import Storage
from fedn.combiner.clients import Peer
from fedn.combiner.traffic import Traffic
from fedn.combiner.uploads import Upload
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import FednError, UpdateRefused
from fedn.protocol.rounds import LedgerEntry, LedgerState, Reason
from fedn.protocol.tasks import CodecChain, TaskSpec, UpdateMetadata

_RANK = {LedgerState.SELECTED: 0, LedgerState.TRAINING: 1, LedgerState.UPLOADING: 2}


@dataclass(eq=False)
class OpenTask:
    """Mutable; the round moves it. `final` states never change."""

    spec: TaskSpec
    state: LedgerState = LedgerState.SELECTED
    metadata: UpdateMetadata | None = None
    upload: Upload | None = None
    """The result on its way."""
    update_id: str = ""
    """The result that is in; with an update, not yet final until it is in the sum."""
    answered: bool = False
    """The result is in, or the task is final: nothing is waited for from the client."""
    encoded_id: str = ""
    """The encoded model that it was sent with."""
    sent_to: Peer | None = None
    """The stream that the task went out on last."""
    credit: Storage | None = None
    """Room for the result, which the client was told of with the task."""
    traffic: Traffic = field(default_factory=Traffic)
    """What its objects and its result took on the client's link."""
    busy_since: float | None = None
    """Loop time at which the client was first told of it."""
    sent_at: float = 0.0
    """The same as Unix time, in seconds."""
    busy_ms: float = 0.0
    """From then to the result's announcement, or the end."""
    absent: asyncio.TimerHandle | None = None
    """Runs while the client is away."""

    def advance(self, state: LedgerState) -> bool:
        """Moves on towards the end; False where it is there or beyond already."""
        if self.state.final or _RANK[state] <= _RANK[self.state]:
            return False
        self.state = state
        return True

    def begin(self, now: float) -> None:
        """The client was told of it, at this loop time."""
        if self.busy_since is None:
            self.busy_since, self.sent_at = now, time.time()

    def done(self, now: float) -> None:
        """The work is over, as far as can be seen from here. Only the first time counts."""
        if self.busy_since is not None and not self.busy_ms:
            self.busy_ms = (now - self.busy_since) * 1e3

    def rest(self) -> None:
        """The client is back, or no longer waited for."""
        if self.absent is not None:
            self.absent.cancel()
            self.absent = None

    def take_credit(self) -> Storage | None:
        """The room that was kept for the result; it is the caller's from now on."""
        credit, self.credit = self.credit, None
        return credit

    def drop_credit(self) -> None:
        if (credit := self.take_credit()) is not None:
            credit.release()

    def names(self, object_id: str) -> bool:
        """Whether the client needs the object for it."""
        return object_id in (self.spec.brings_model, self.spec.package_id) or object_id == self.encoded_id != ""

    def wants_encoded(self, peer: Peer) -> bool:
        """Whether its model goes through a chain on its way to this client."""
        return bool(self.spec.model_id and self.spec.model_chain) and _knows(peer, self.spec.model_chain)

    def asked_of(self, peer: Peer) -> TaskSpec:
        """The task as this client is told it: with an encoded model, if it is sent one, and only with codecs it knows.

        A chain with a codec that it does not know is left out as a whole: its tensors come as they are.
        """
        if not (self.spec.update_chain or self.spec.model_chain):
            return self.spec
        return self.spec.model_copy(
            update={
                "update_chain": self.spec.update_chain if _knows(peer, self.spec.update_chain) else (),
                "model_chain": self.spec.model_chain if self.encoded_id else (),
                "encoded_model_id": self.encoded_id,
            }
        )

    def is_answered_by(self, ready: wire.Ready) -> bool:
        """Whether this very result is in."""
        if ready.size_bytes:
            return bool(self.update_id) and self.update_id == ready.object_id
        return self.state is LedgerState.UPDATED and not self.update_id

    def entry(self, reason: Reason | None = None, size_bytes: int = 0) -> LedgerEntry:
        updated = self.state is LedgerState.UPDATED
        return LedgerEntry(
            client=self.spec.client,
            task_id=self.spec.task_id,
            state=self.state,
            reason=reason,
            update_id=self.update_id if updated else "",
            size_bytes=size_bytes,
            metadata=self.metadata if updated else None,
            down_bytes=self.traffic.down_bytes,
            up_bytes=self.traffic.up_bytes,
            busy_ms=self.busy_ms,
            sent_at=self.sent_at,
            updated_at=time.time(),
        )


def _knows(peer: Peer, chain: CodecChain) -> bool:
    """Whether the client said that it knows all codecs of the chain."""
    return all(choice.name in peer.info.codecs for choice in chain)


def reason_of(error: FednError) -> Reason:
    return Reason(code=error.code, message=error.message, fix=error.fix)


def already_answered(task: OpenTask) -> UpdateRefused:
    """Why a result of a task that is over does not count."""
    if not task.update_id and task.state is not LedgerState.UPDATED:
        return late("it came afterwards", task.spec)
    return UpdateRefused(
        "update_twice",
        "another result of this task is in already",
        fix="A client answers a task once; run one process for each data directory.",
        where={"client": task.spec.client, "task": task.spec.task_id},
    )


def away(seconds: float) -> Reason:
    message = f"the client was away for more than {seconds:g} s"
    return Reason(code="client_disconnected", message=message, fix="Look at the client and its network.")


def late(what: str, task: TaskSpec) -> UpdateRefused:
    return UpdateRefused(
        "update_late",
        f"the round closed before the result was in ({what})",
        fix="Nothing to do for this round; a longer round_timeout_s waits for slower clients.",
        where={"client": task.client, "task": task.task_id},
    )
