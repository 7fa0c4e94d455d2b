"""A worker group at its home: who is there, who is gone, and what goes from whom to whom. Belongs to one loop.

Identity is rank and instance. A worker whose stream breaks is waited for; one that does not come back in time is lost.
A home that was started anew learns from its workers whom they know. When all are gone the group begins again.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from fedn.combiner.metrics import CombinerMetrics
from fedn.combiner.options import WorkerLimits
from fedn.combiner.workers.pair import BASE_BYTES, Pair, Pool, Spooled
from fedn.combiner.workers.tally import Tally
from fedn.network.generated import worker_pb2 as wire
from fedn.network.tickets import WorkerTicket
from fedn.network.worker_chunks import Chunk
from fedn.plan.logs import bind
from fedn.protocol.errors import Conflict, FednError, InvalidInput, LimitExceeded
from fedn.protocol.rest import MAX_REASON, WorkerGroupReport, WorkerTraffic

_log = bind(__name__)

PRESENT, FINISHED, FAILED = wire.WorkerPeer.STATE_PRESENT, wire.WorkerPeer.STATE_FINISHED, wire.WorkerPeer.STATE_FAILED
_MAX_INSTANCE = 64


class Stream(Protocol):
    """An attached worker as the group sees it."""

    ticket: WorkerTicket
    instance: str

    def send(self, message: bytes) -> None:
        """Queues a message."""

    def end(self, error: FednError) -> None:
        """Says Bye, and ends the stream."""


@dataclass(eq=False)
class Member:
    """A worker that has been here."""

    instance: str
    stream: Stream | None = None
    timer: asyncio.TimerHandle | None = None
    """Ends the waiting for a worker that is away."""
    state: wire.WorkerPeer.State = PRESENT
    reason: str = ""
    outgoing: dict[int, Pair] = field(default_factory=dict)
    """By receiver."""


class Group:
    """See the module.

    Args:
        on_over: called when nobody is left, and nobody is waited for.
    """

    def __init__(
        self, name: str, size: int, limits: WorkerLimits, metrics: CombinerMetrics, on_over: Callable[[], None]
    ) -> None:
        self.name, self.size = name, size
        self._limits = limits
        self._metrics = metrics
        self._on_over = on_over
        self._pool = Pool(limits.spool_bytes)
        self._members: dict[int, Member] = {}
        self.tally = Tally()
        self._memory: asyncio.TimerHandle | None = None
        """Ends the memory of workers that are gone, for those that have not come yet."""
        self._ended = False

    def attach(self, stream: Stream, hello: wire.WorkerHello) -> None:
        """Takes a worker in, greets it, and sends it what waits.

        Raises:
            Conflict: `rank_taken`, `worker_departed`, `group_begun_anew`.
            InvalidInput: the Hello does not fit the group.
        """
        rank = stream.ticket.rank
        self._check_hello(rank, hello)
        member = self._admit(rank, stream.instance, {peer.rank: peer.instance for peer in hello.known})
        if member.timer is not None:
            member.timer.cancel()
            member.timer = None
        if member.stream is not None:
            member.stream.end(_replaced(rank))
        member.stream = stream
        self.tally.heard(rank)
        self._stop_forgetting()
        self._learn(hello)
        for ack in hello.expected:
            self._acknowledged(ack.peer, rank, ack.sequence)
        for pair in member.outgoing.values():
            pair.begin_stream()
        stream.send(wire.WorkerFrame(welcome=self._welcome(member)).SerializeToString())
        present = _peer(rank, member.instance, PRESENT)
        for other, known in self._members.items():
            if other == rank:
                continue
            if known.stream is not None:
                known.stream.send(present)
            self._tell_of(other, rank)
            for spooled in known.outgoing.get(rank, ()):
                self._hand(known.outgoing[rank], spooled, stream)

    def detach(self, stream: Stream) -> None:
        """Its stream is gone; it is waited for. Nothing where a newer one took its place, or it has left."""
        member = self._members.get(stream.ticket.rank)
        if member is None or member.stream is not stream:
            return
        member.stream = None
        self.tally.changed(stream.ticket.rank)
        if not self._ended:
            self._wait_for(stream.ticket.rank, member)

    def leave(self, stream: Stream, reason: str | None) -> None:
        """It goes on purpose; `reason`: why it failed."""
        self._depart(stream.ticket.rank, FINISHED if reason is None else FAILED, reason or "")

    def chunk(self, stream: Stream, chunk: Chunk, message: bytes) -> None:
        """Hands on a chunk, or keeps it.

        Raises:
            InvalidInput: `wrong_sender`, `no_such_worker`, `credit_exceeded`, `chunk_missing`.
            LimitExceeded: (`message_too_large`).
        """
        rank = stream.ticket.rank
        if chunk.sender != rank:
            raise InvalidInput(
                "wrong_sender", f"worker {rank} sends in the name of worker {chunk.sender}", where=self._where()
            )
        if chunk.left > self._limits.max_frame_bytes:
            raise LimitExceeded(
                "message_too_large",
                f"a message has {chunk.left} bytes, and {self._limits.max_frame_bytes} may be",
                fix="Send it in parts, or raise the combiner's worker_message_bytes.",
                where=self._where(),
            )
        pair = self._pair(rank, chunk.receiver)
        receiver = self._members.get(chunk.receiver)
        if receiver is not None and receiver.state != PRESENT:
            return  # the sender is told of that, or was
        self.tally.heard(rank)
        spooled = pair.add(chunk, message)
        if spooled is None:
            self._repeated(rank, len(chunk.data))
            self._tell_credit(pair)
            return
        self._metrics.worker_bytes.inc(spooled.data_bytes)
        self._metrics.worker_messages.inc(spooled.is_last)
        self.tally.spooled(rank, chunk.receiver, spooled)
        if receiver is not None and receiver.stream is not None:
            self._hand(pair, spooled, receiver.stream)

    def acknowledge(self, stream: Stream, sender: int, sequence: int) -> None:
        """A receiver has all chunks of `sender` before this one. InvalidInput (`no_such_worker`)."""
        self._check_rank(sender)
        self.tally.heard(stream.ticket.rank)
        self._acknowledged(sender, stream.ticket.rank, sequence)

    def want(self, stream: Stream, receiver: int, stream_bytes: int) -> None:
        """A sender waits with so many bytes. InvalidInput (`no_such_worker`)."""
        pair = self._pair(stream.ticket.rank, receiver)
        if pair.want(stream_bytes):
            self._tell_credit(pair)

    def end(self, error: FednError) -> None:
        """Says goodbye to all; they come back, here or elsewhere."""
        self._ended = True
        self._stop_forgetting()
        for member in self._members.values():
            if member.timer is not None:
                member.timer.cancel()
            if member.stream is not None:
                member.stream.end(error)

    def report(self, limit: int) -> WorkerGroupReport | None:
        """News of at most so many workers; None: the reducer has been told all."""
        return self.tally.report(self.name, limit, self._state_of)

    @property
    def is_empty(self) -> bool:
        """Whether nobody has ever been taken in."""
        return not self._members

    @property
    def held_bytes(self) -> int:
        """Spooled now."""
        return sum(pair.held_bytes for member in self._members.values() for pair in member.outgoing.values())

    @property
    def attached(self) -> int:
        """Workers with a stream."""
        return sum(member.stream is not None for member in self._members.values())

    def _admit(self, rank: int, instance: str, known: dict[int, str]) -> Member:
        """The member that comes, once nothing speaks against it."""
        for other, theirs in known.items():
            member = self._members.get(other)
            if other != rank and member is not None and member.instance != theirs:
                raise Conflict(
                    "group_begun_anew",
                    "the group has begun again without this worker",
                    fix="Start it again.",
                    where=self._where(rank),
                )
        member = self._members.get(rank)
        if member is not None and member.instance != instance and member.state != PRESENT and not self._alive():
            self._begin_anew()
            member = None
        if member is None:
            return self._members.setdefault(rank, Member(instance))
        if member.instance != instance and member.state == PRESENT:
            raise Conflict(
                "rank_taken",
                f"another process is worker {rank} of the group",
                fix="End it first; one that was killed is waited for, and then the group ends.",
                where=self._where(rank),
            )
        if member.state != PRESENT:
            raise Conflict(
                "worker_departed",
                f"worker {rank} has left the group{': ' + member.reason if member.reason else ''}",
                fix="Start the group's workers again when all of them have ended.",
                where=self._where(rank),
            )
        return member

    def _learn(self, hello: wire.WorkerHello) -> None:
        """Takes over what a worker knows of others that this home does not."""
        for peer in hello.known:
            if peer.rank in self._members:
                continue
            member = self._members[peer.rank] = Member(peer.instance)
            if peer.state == PRESENT:
                self._wait_for(peer.rank, member)
            else:
                member.state, member.reason = peer.state, peer.reason
            for other in self._members:
                self._tell_of(peer.rank, other)

    def _wait_for(self, rank: int, member: Member) -> None:
        reason = f"its stream broke, and it did not come back within {self._limits.grace_s:g} s"
        loop = asyncio.get_running_loop()
        member.timer = loop.call_later(self._limits.grace_s, self._depart, rank, FAILED, reason)

    def _depart(self, rank: int, state: wire.WorkerPeer.State, reason: str) -> None:
        member = self._members[rank]
        if member.state != PRESENT:
            return
        member.state, member.reason, member.stream = state, reason, None
        self.tally.changed(rank)
        if member.timer is not None:
            member.timer.cancel()
            member.timer = None
        _log.info("a worker has left its group", extra={"group": self.name, "rank": rank, "reason": reason})
        for other, known in self._members.items():
            if other != rank:
                if rank in known.outgoing:
                    known.outgoing[rank].drop()
                    self.tally.dropped(rank)
                self._tell_of(rank, other)
        self._feed_hungry()
        if not self._alive():
            self._all_gone()

    def _tell_of(self, rank: int, receiver: int) -> None:
        """Tells `receiver` of `rank`; of one that is gone when all that it sent has come."""
        member, listener = self._members[rank], self._members.get(receiver)
        if rank == receiver or listener is None or listener.stream is None:
            return
        pair = member.outgoing.get(receiver)
        if member.state != PRESENT and pair is not None and pair.is_spooling:
            pair.farewell = True  # until then it is there, as far as the receiver can see
            listener.stream.send(_peer(rank, member.instance, PRESENT))
        else:
            listener.stream.send(_peer(rank, member.instance, member.state, member.reason))

    def _acknowledged(self, sender: int, receiver: int, sequence: int) -> None:
        pair = self._pair(sender, receiver)
        taken = pair.acknowledge(sequence)
        if taken is None:
            return
        self.tally.taken(receiver, taken)
        self._tell_credit(pair)
        if pair.farewell and not pair.is_spooling:
            pair.farewell = False
            self._tell_of(sender, receiver)
        self._feed_hungry()

    def _feed_hungry(self) -> None:
        for pair in self._pool.waiting():
            if pair.promise_more():
                self._tell_credit(pair)

    def _hand(self, pair: Pair, spooled: Spooled, stream: Stream) -> None:
        if pair.hand(spooled):
            self._repeated(pair.receiver, spooled.data_bytes)
        stream.send(spooled.message)

    def _repeated(self, rank: int, size_bytes: int) -> None:
        self.tally.repeated(rank, size_bytes)
        self._metrics.worker_repeated_bytes.inc(size_bytes)

    def _state_of(self, rank: int) -> WorkerTraffic:
        member = self._members.get(rank)
        if member is None or member.state == PRESENT:
            return WorkerTraffic(state="away" if member is None or member.stream is None else "attached")
        if member.state == FINISHED:
            return WorkerTraffic(state="finished")
        return WorkerTraffic(state="failed", reason=member.reason[:MAX_REASON])

    def _tell_credit(self, pair: Pair) -> None:
        sender = self._members.get(pair.sender)
        if sender is not None and sender.stream is not None:
            ack = wire.WorkerAck(peer=pair.receiver, sequence=pair.acknowledged, credit=pair.credit)
            sender.stream.send(wire.WorkerFrame(ack=ack).SerializeToString())

    def _welcome(self, member: Member) -> wire.WorkerWelcome:
        return wire.WorkerWelcome(
            credit=BASE_BYTES,
            max_frame_bytes=self._limits.max_frame_bytes,
            grace_s=self._limits.grace_s,
            acks=[
                wire.WorkerAck(peer=pair.receiver, sequence=pair.acknowledged, credit=pair.credit, held=pair.held)
                for pair in member.outgoing.values()
            ],
        )

    def _pair(self, sender: int, receiver: int) -> Pair:
        self._check_rank(receiver)
        outgoing = self._members[sender].outgoing
        if receiver not in outgoing:
            outgoing[receiver] = Pair(sender, receiver, self._pool, self._limits.pair_bytes)
        return outgoing[receiver]

    def _alive(self) -> bool:
        return any(member.state == PRESENT for member in self._members.values())

    def _all_gone(self) -> None:
        if len(self._members) == self.size:
            self._on_over()
        else:
            self._memory = asyncio.get_running_loop().call_later(self._limits.grace_s, self._on_over)

    def _stop_forgetting(self) -> None:
        if self._memory is not None:
            self._memory.cancel()
            self._memory = None

    def _begin_anew(self) -> None:
        self._stop_forgetting()
        self._members.clear()
        self._pool = Pool(self._limits.spool_bytes)
        self.tally = Tally()

    def _check_hello(self, rank: int, hello: wire.WorkerHello) -> None:
        for number in self._ranks_in(hello):
            self._check_rank(number)
        instances = [hello.instance, *(peer.instance for peer in hello.known)]
        if any(not 0 < len(instance) <= _MAX_INSTANCE for instance in instances):
            raise InvalidInput("bad_frame", "a worker's instance has no name, or too long a one", where=self._where())
        senders = {ack.peer for ack in hello.expected}
        if senders - self._members.keys() - {peer.rank for peer in hello.known}:
            raise InvalidInput(
                "bad_frame", f"worker {rank} has heard workers that it does not know", where=self._where()
            )

    def _ranks_in(self, hello: wire.WorkerHello) -> Iterator[int]:
        yield from (ack.peer for ack in hello.expected)
        yield from (peer.rank for peer in hello.known)

    def _check_rank(self, rank: int) -> None:
        if not 0 <= rank < self.size:
            raise InvalidInput(
                "no_such_worker",
                f"There is no worker {rank}: there are the workers 0 to {self.size - 1}",
                where=self._where(),
            )

    def _where(self, rank: int | None = None) -> dict[str, object]:
        return {"group": self.name} | ({} if rank is None else {"worker": rank})


def _peer(rank: int, instance: str, state: wire.WorkerPeer.State, reason: str = "") -> bytes:
    peer = wire.WorkerPeer(rank=rank, instance=instance, state=state, reason=reason)
    return wire.WorkerFrame(peer=peer).SerializeToString()


def _replaced(rank: int) -> FednError:
    return Conflict(
        "replaced",
        "a newer stream of this worker took its place",
        fix="Nothing to do: it is the same process.",
        where={"worker": rank},
    )
