"""The reducer's stream: what it asks for, and the events and objects that it gets.

One link at a time: a newer one takes over, one of an older reducer process (a lower epoch) is refused. Rounds outlive
their link.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from fedn.combiner.auth import caller
from fedn.combiner.buffered import BufferedRound
from fedn.combiner.clients import Clients, Peer
from fedn.combiner.events import Listener
from fedn.combiner.lineage import Lineages
from fedn.combiner.objects import IncomingObject, ObjectCache, StoredObject
from fedn.combiner.options import LINK_OUTBOX_BYTES, CombinerOptions
from fedn.combiner.outbox import Outbox
from fedn.combiner.rounds import Rounds
from fedn.combiner.streams import TokenTimer, first_message, run_stream
from fedn.network.convert import reason_to_wire, round_from_wire, round_to_wire, spec_from_wire
from fedn.network.frames import Buffer, decode_control, decode_piece
from fedn.network.generated import combiner_pb2 as wire
from fedn.network.generated import common_pb2 as common
from fedn.network.tokens import Claims, TokenVerifier
from fedn.plan.logs import bind
from fedn.protocol.errors import Conflict, FednError, Forbidden, InvalidInput
from fedn.protocol.tasks import RoundName

_log = bind(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

_ALL = (1 << 32) - 1
"""Updates that are kept of a client, where there is no such limit."""
_TASKS_AT_ONCE = 256
"""A round of more is read in a thread: to begin one takes as long as some tasks do."""
_SNAPSHOT_BYTES = 4 << 20
"""Attached clients beyond that follow the snapshot one by one."""


@dataclass
class Epoch:
    """The highest writer epoch seen, and the link that obeys it now."""

    highest: int = -1
    link: "ReducerLink | None" = None


@dataclass(frozen=True)
class LinkServices:
    """What all links of a combiner share."""

    options: CombinerOptions
    instance: str
    verifier: TokenVerifier
    clients: Clients
    rounds: Rounds
    objects: ObjectCache
    lineages: Lineages
    epoch: Epoch


class ReducerLink:
    """One stream of a reducer. Its life is `serve`."""

    def __init__(self, hello: wire.LinkHello, claims: Claims, services: LinkServices) -> None:
        self._services = services
        self._claims = claims
        self._outbox = Outbox(stall_s=services.options.progress_s, max_bytes=LINK_OUTBOX_BYTES, bundles=hello.bundles)
        self._incoming: IncomingObject | None = None
        self._watched: dict[RoundName, Listener] = {}
        self._token = TokenTimer(services.verifier, claims, self.end)

    def end(self, error: FednError) -> None:
        """Tells the reducer why, and ends the stream."""
        self._outbox.end(_problem(error))

    def client_attached(self, peer: Peer) -> None:
        self._send(wire.LinkFrame(client=wire.ClientChanged(client=peer.info.as_wire(), attached=True)))

    def client_detached(self, peer: Peer, reason: str) -> None:
        changed = wire.ClientChanged(client=peer.info.as_wire(), attached=False, reason=reason)
        self._send(wire.LinkFrame(client=changed))

    async def serve(self, context: Context, hello: wire.LinkHello) -> None:
        """From the welcome to the end of the stream. Conflict where the hello is refused."""
        self._take_over(hello)
        stop_listening = self._services.clients.listen(self)
        reason = "the stream broke"
        try:
            self._greet()
            _log.info("reducer linked", extra={"epoch": hello.epoch})
            reason = await run_stream(context, self._outbox, self._receive, _problem)
        finally:
            stop_listening()
            self.close()
            _log.info("reducer unlinked", extra={"epoch": hello.epoch, "reason": reason})

    def close(self) -> None:
        """Rounds go on without this link."""
        self._token.cancel()
        for name, listener in self._watched.items():
            for watched in self._services.rounds:
                if watched.name == name:
                    self._services.rounds.unwatch(watched, listener)
        self._watched.clear()
        if self._services.epoch.link is self:
            self._services.epoch.link = None

    def _take_over(self, hello: wire.LinkHello) -> None:
        services, epoch = self._services, self._services.epoch
        if self._claims.subject != services.options.name:
            raise Forbidden(
                "link_token",
                "the token is for the link to another combiner",
                fix="Only the reducer opens links, with a token made for each combiner.",
                where={"combiner": services.options.name},
            )
        if hello.federation != services.options.federation:
            raise Conflict(
                "wrong_federation",
                f"the combiner belongs to the federation {services.options.federation!r}",
                fix="Enrol the combiner with this reducer's join string, in a data directory of its own.",
                where={"federation": hello.federation},
            )
        if hello.epoch < epoch.highest:
            raise Conflict(
                "epoch_fenced",
                f"the combiner obeys a reducer process of epoch {epoch.highest}",
                fix="Another reducer took the federation over: stop this one.",
                where={"epoch": hello.epoch},
            )
        old, epoch.highest, epoch.link = epoch.link, hello.epoch, self
        if old is not None:
            old.close()
            old.end(Conflict("link_replaced", "a newer link of the reducer took this one's place"))

    def _greet(self) -> None:
        services = self._services
        welcome = wire.LinkWelcome(
            combiner=services.options.name,
            instance=services.instance,
            max_clients=services.clients.max_clients,
            rounds=[round_to_wire(held.name) for held in services.rounds],
            bundles=True,
            updates_kept=_ALL if services.options.updates.keeps is None else services.options.updates.keeps,
        )
        self._send(wire.LinkFrame(welcome=welcome))
        snapshot, size_bytes, rest = wire.AttachedClients(), 0, []
        for peer in services.clients:
            client = peer.info.as_wire()
            size_bytes += client.ByteSize() + 8
            if size_bytes <= _SNAPSHOT_BYTES:
                snapshot.clients.append(client)
            else:
                rest.append(client)
        self._send(wire.LinkFrame(attached=snapshot))
        for client in rest:
            self._send(wire.LinkFrame(client=wire.ClientChanged(client=client, attached=True)))

    def _send(self, frame: wire.LinkFrame) -> None:
        self._outbox.put(frame.SerializeToString())

    async def _receive(self, message: Buffer) -> None:
        if self._services.epoch.link is not self:
            return  # replaced: what it still says does not count
        piece = decode_piece(message)
        if piece is not None:
            self._piece(*piece, bytes(message))
            return
        frame = decode_control(wire.ReducerFrame, message)
        match frame.WhichOneof("control"):
            case "start":
                await self._start(frame.start)
            case "watch":
                self._watch(frame.watch)
            case "close" | "extend" | "cancel" | "commit_ack" | "hand_up" | "hand_up_ack":
                self._steer(frame)
            case "object":
                self._begin(frame.object)
            case "fetch":
                self._fetch(frame.fetch)
            case "ping":
                self._send(wire.LinkFrame(pong={"nonce": frame.ping.nonce}))
            case "token":
                self._token.renew(frame.token.token)
            case "detach":
                self._detach(frame.detach)
            case "forget_session":
                self._services.lineages.forget(frame.forget_session.session)
            case "hello":
                raise InvalidInput("bad_frame", "a second LinkHello came on a stream", fix="Open a new stream.")

    async def _start(self, start: wire.StartRound) -> None:
        try:
            if len(start.tasks) <= _TASKS_AT_ONCE:
                spec = spec_from_wire(start)
            else:  # ten thousand take half a second to read: in a thread, others get their turn meanwhile
                spec = await asyncio.to_thread(spec_from_wire, start)
            started = self._services.rounds.start(spec)
        except FednError as error:
            self._refuse_round(start.round, error)
            return
        status = started.status()
        # Without objects to send, nobody waits for it: it goes with what comes next.
        self._tell(wire.LinkFrame(status=status).SerializeToString(), prompt=bool(status.needed_objects))
        if started.name not in self._watched:
            self._watch_from(started.name, 1)

    def _watch(self, watch: wire.WatchRound) -> None:
        try:
            watched = self._services.rounds.get(round_from_wire(watch.round))
        except FednError as error:
            self._refuse_round(watch.round, error)
            return
        self._send(wire.LinkFrame(status=watched.status()))
        self._watch_from(watched.name, watch.from_event)

    def _watch_from(self, name: RoundName, from_event: int) -> None:
        watched = self._services.rounds.get(name)
        old = self._watched.pop(name, None)
        if old is not None:
            watched.events.unwatch(old)
        listener = self._watched[name] = self._tell
        self._services.rounds.watch(watched, listener, from_event)

    def _tell(self, message: bytes, prompt: bool) -> None:
        """What became of one client need not be known at once: a message each would cost more than they say."""
        if prompt:
            self._outbox.put(message)
        else:
            self._outbox.put_lazily(message)

    def _refuse_round(self, name: common.RoundName, error: FednError) -> None:
        refused = wire.RoundRefused(round=name, problem=reason_to_wire(error))
        self._send(wire.LinkFrame(refused=refused))

    def _steer(self, frame: wire.ReducerFrame) -> None:
        """Orders to a round that may be gone: then there is nothing to do."""
        what = frame.WhichOneof("control")
        assert what is not None  # the caller looked
        name = round_from_wire(getattr(frame, what).round)
        steered = next((held for held in self._services.rounds if held.name == name), None)
        if steered is None:
            return
        match what:
            case "close":
                steered.close(frame.close.reason)
            case "extend":
                steered.extend(frame.extend.deadline_s)
            case "cancel":
                steered.cancel(frame.cancel.reason)
            case "hand_up" if isinstance(steered, BufferedRound):
                steered.hand_up(frame.hand_up.number, frozenset(frame.hand_up.members.clients))
            case "hand_up_ack" if isinstance(steered, BufferedRound):
                steered.forget(frame.hand_up_ack.number)
            case "commit_ack":
                self._watched.pop(name, None)
                self._services.rounds.release(name)

    def _begin(self, begin: common.ObjectBegin) -> None:
        incoming = self._incoming = IncomingObject(begin, self._services.options.max_model_bytes)
        if begin.offset:
            raise InvalidInput("bad_frame", "the reducer sends objects from their beginning", fix="Update the reducer.")
        self._take(incoming.whole())

    def _piece(self, offset: int, data: memoryview, message: bytes) -> None:
        if self._incoming is None:
            raise InvalidInput("bad_frame", "a piece came that belongs to no object", fix="Update the reducer.")
        self._take(self._incoming.feed(offset, data, message))

    def _take(self, stored: StoredObject | None) -> None:
        if stored is not None:
            self._incoming = None
            self._services.objects.add(stored)

    def _fetch(self, fetch: common.ObjectFetch) -> None:
        stored = self._services.objects.get(fetch.object_id)
        if stored is None or fetch.offset > stored.size_bytes:
            self._send(wire.LinkFrame(missing={"object_id": fetch.object_id}))
            return

        def messages() -> Iterator[bytes]:
            yield wire.LinkFrame(object=stored.begin(fetch.offset)).SerializeToString()
            yield from stored.messages(fetch.offset)

        self._outbox.put_object(messages())

    def _detach(self, detach: wire.DetachClient) -> None:
        peer = self._services.clients.get(detach.client)
        if peer is not None:
            problem = detach.problem
            peer.end(Conflict(problem.code or "detached", problem.message or "the reducer asked for it"), 0.0)


def _problem(error: FednError) -> bytes:
    return wire.LinkFrame(problem=reason_to_wire(error)).SerializeToString()


async def link(context: Context, services: LinkServices) -> None:
    """The RPC Link."""
    claims = caller()
    message = await first_message(context)
    if message is None:
        return
    reducer: ReducerLink | None = None
    try:
        frame = decode_control(wire.ReducerFrame, message)
        if not frame.HasField("hello"):
            raise InvalidInput("bad_frame", "the first message of a link is a LinkHello", fix="Update the reducer.")
        reducer = ReducerLink(frame.hello, claims, services)
        await reducer.serve(context, frame.hello)
    except FednError as error:
        if reducer is not None:
            reducer.close()
        await context.write(_problem(error))
