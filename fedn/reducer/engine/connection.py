"""One live stream to a combiner: requests out, replies and events in, until it breaks.

A connection never outlives its stream and never repairs itself: whoever waits on it gets LinkDown, and asks the link
for the next one.
"""

import asyncio
import itertools
from collections.abc import Callable, Collection
from typing import Any, Protocol

import grpc

from fedn.network.bundles import split
from fedn.network.convert import round_from_wire, round_to_wire
from fedn.network.frames import MAX_MESSAGE_BYTES, Buffer, decode_control, decode_piece
from fedn.network.generated import combiner_pb2 as link
from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import FednError, InvalidInput, LimitExceeded, NotFound, Unavailable
from fedn.protocol.tasks import RoundName
from fedn.reducer.engine.objects import Download, SharedObject
from fedn.reducer.engine.outbox import Outbox


class LinkDown(Unavailable):
    """The stream to a combiner broke. What was asked may or may not have arrived."""

    def __init__(self, combiner: str, why: str) -> None:
        super().__init__(
            "link_down",
            f"the link to a combiner is down: {why}",
            fix="It is opened again by itself; see whether the combiner runs and is reachable.",
            where={"combiner": combiner},
        )


class RoundRefused(FednError):
    """A combiner will not do what it was asked for a round."""

    http_status = 409
    grpc_status = "FAILED_PRECONDITION"


class Stream(Protocol):
    """The part of grpc.aio.StreamStreamCall that is used."""

    async def read(self) -> bytes | object: ...

    async def write(self, request: bytes) -> None: ...

    def cancel(self) -> bool: ...


class ClientListener(Protocol):
    """Who is told of the combiner's attached clients."""

    def snapshot(self, clients: list[link.AttachedClient]) -> None: ...

    def changed(self, change: link.ClientChanged) -> None: ...


class Connection:
    """See the module. All methods belong to the engine's loop.

    Args:
        on_down: called once, at the moment from which every method raises LinkDown.
    """

    def __init__(
        self, combiner: str, stream: Stream, clients: ClientListener, on_down: Callable[["Connection"], None]
    ) -> None:
        self.combiner = combiner
        self.instance = ""
        self.updates_kept = 0
        """Of each client, for rules that go by earlier updates."""
        self.rounds: frozenset[RoundName] = frozenset()
        """Rounds that the combiner held when the stream was opened."""
        self._stream = stream
        self._clients = clients
        self._on_down = on_down
        self._outbox = Outbox(stream.write, self._fail)
        self._fetch_lock = asyncio.Lock()
        self._statuses: dict[RoundName, asyncio.Future[link.RoundStatus]] = {}
        self._events: dict[RoundName, asyncio.Queue[link.RoundEvent | None]] = {}
        self._download: Download | None = None
        self._arriving: Download | None = None
        """The download that the pieces belong to; None while they are of an object that nobody waits for any more."""
        self._incoming: asyncio.Future[link.LinkFrame] | None = None
        self._down: str | None = None
        self._unread: list[Buffer] = []
        """What came together with the welcome."""

    async def open(self, federation: str, epoch: int, timeout_s: float) -> link.LinkWelcome:
        """Says hello and waits for the welcome."""
        self._send(link.ReducerFrame(hello=link.LinkHello(federation=federation, epoch=epoch, bundles=True)))
        try:
            async with asyncio.timeout(timeout_s):
                message = await self._stream.read()
        except TimeoutError as error:
            raise LinkDown(self.combiner, f"no welcome within {timeout_s:g} s") from error
        if not isinstance(message, bytes):
            raise LinkDown(self.combiner, "the combiner ended the stream")
        first, *self._unread = split(message) or (b"",)
        frame = decode_control(link.LinkFrame, first)
        if frame.HasField("problem"):
            raise RoundRefused(frame.problem.code, frame.problem.message, fix=frame.problem.fix)
        if not frame.HasField("welcome"):
            raise InvalidInput("bad_message", "a combiner's first message was not its welcome")
        if frame.welcome.bundles:
            self._outbox.bundle()
        self.instance = frame.welcome.instance
        self.updates_kept = frame.welcome.updates_kept
        self.rounds = frozenset(round_from_wire(name) for name in frame.welcome.rounds)
        return frame.welcome

    async def serve(self) -> None:
        """Reads until the stream ends; then everybody who waits gets LinkDown."""
        try:
            for frame in self._unread:
                self._receive(frame)
            while self._down is None and isinstance(message := await self._stream.read(), bytes):
                for frame in split(message):
                    self._receive(frame)
            self._fail("the combiner ended the stream")
        except grpc.aio.AioRpcError as error:
            self._fail(f"{error.code().name}: {error.details()}")
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            self._fail(str(error))
        except FednError as error:
            self._fail(str(error))
        finally:
            self._fail("closed")
            self._stream.cancel()

    def _receive(self, message: Buffer) -> None:
        piece = decode_piece(message)
        if piece is not None:
            if self._arriving is not None:
                self._arriving.feed(*piece)
            return
        frame = decode_control(link.LinkFrame, message)
        match frame.WhichOneof("control"):
            case "event":
                events = self._events.get(round_from_wire(frame.event.round))
                if events is not None:
                    events.put_nowait(frame.event)
            case "status":
                self._resolve_status(round_from_wire(frame.status.round), frame.status)
            case "refused":
                problem = frame.refused.problem
                refusal = RoundRefused(problem.code, problem.message, fix=problem.fix)
                future = self._statuses.get(round_from_wire(frame.refused.round))
                if future is not None and not future.done():
                    future.set_exception(refusal)
            case "object":
                wanted = self._download
                place = (frame.object.object_id, frame.object.offset)
                self._arriving = wanted if wanted and (wanted.object_id, wanted.received) == place else None
                if self._arriving is not None:
                    self._answer_fetch(frame)
            case "missing":
                if self._download is not None and frame.missing.object_id == self._download.object_id:
                    self._answer_fetch(frame)
            case "attached":
                self._clients.snapshot(list(frame.attached.clients))
            case "client":
                self._clients.changed(frame.client)
            case "problem":
                self._fail(f"{frame.problem.message} [{frame.problem.code}]")

    def _answer_fetch(self, frame: link.LinkFrame) -> None:
        if self._incoming is not None and not self._incoming.done():
            self._incoming.set_result(frame)

    def _resolve_status(self, name: RoundName, status: link.RoundStatus) -> None:
        future = self._statuses.get(name)
        if future is not None and not future.done():
            future.set_result(status)

    def _fail(self, why: str) -> None:
        if self._down is not None:
            return
        self._down = why
        self._outbox.close()
        self._on_down(self)
        error = LinkDown(self.combiner, why)
        for future in self._statuses.values():
            if not future.done():
                future.set_exception(error)
        if self._incoming is not None and not self._incoming.done():
            self._incoming.set_exception(error)
        for events in self._events.values():
            events.put_nowait(None)

    def _send(self, frame: link.ReducerFrame) -> None:
        self._check_up()
        self._outbox.put(frame.SerializeToString())

    def _check_up(self) -> None:
        if self._down is not None:
            raise LinkDown(self.combiner, self._down)

    async def _ask_status(self, name: RoundName, frame: link.ReducerFrame) -> link.RoundStatus:
        future: asyncio.Future[link.RoundStatus] = asyncio.get_running_loop().create_future()
        self._statuses[name] = future
        try:
            self._send(frame)
            return await future
        finally:
            self._statuses.pop(name, None)
            if future.done() and not future.cancelled():
                future.exception()  # seen here, so that a refusal nobody awaits any more is not reported as lost

    async def start_round(self, start: link.StartRound) -> link.RoundStatus:
        """Asks for a round; the reply says which objects the combiner needs for it."""
        frame = link.ReducerFrame(start=start)
        if frame.ByteSize() > MAX_MESSAGE_BYTES:
            raise LimitExceeded(
                "round_too_large",
                f"the {len(start.tasks)} tasks for one combiner do not fit one message of {MAX_MESSAGE_BYTES} bytes",
                fix="Spread the clients over more combiners, or give the clients' code fewer parameters.",
                where={"combiner": self.combiner},
            )
        return await self._ask_status(round_from_wire(start.round), frame)

    async def watch(self, name: RoundName, from_event: int) -> link.RoundStatus:
        """Asks for a round's events from that number on. RoundRefused where the combiner does not hold the round."""
        self._events.setdefault(name, asyncio.Queue())
        request = link.WatchRound(round=round_to_wire(name), from_event=from_event)
        return await self._ask_status(name, link.ReducerFrame(watch=request))

    def listen(self, name: RoundName) -> None:
        """Events of this round are kept from now on, until `forget`."""
        self._events.setdefault(name, asyncio.Queue())

    async def next_event(self, name: RoundName) -> link.RoundEvent:
        """The next event of a round that is listened to. LinkDown where the stream breaks first."""
        event = await self._events[name].get()
        if event is None:
            raise LinkDown(self.combiner, self._down or "closed")
        return event

    def forget(self, name: RoundName) -> None:
        self._events.pop(name, None)

    def push(self, shared: SharedObject) -> None:
        """Sends an object after those that are on their way; its pieces are the same messages for all links."""
        self._check_up()
        begin = link.ReducerFrame(object=shared.begin()).SerializeToString()
        self._outbox.put_object(itertools.chain((begin,), shared.pieces))

    async def fetch(self, download: Download) -> None:
        """Receives the rest of an object. NotFound where the combiner has it no more."""
        async with self._fetch_lock:
            self._incoming = asyncio.get_running_loop().create_future()
            self._download = download
            try:
                request = wire.ObjectFetch(
                    object_id=download.object_id, offset=download.received, kind=wire.OBJECT_KIND_MODEL
                )
                self._send(link.ReducerFrame(fetch=request))
                reply = await self._incoming
                if reply.HasField("missing"):
                    raise NotFound(
                        "no_such_object",
                        "a combiner no longer has the model of a round",
                        where={"combiner": self.combiner, "object": download.object_id},
                    )
                # The pieces come after the reply; a broken stream ends the wait through the same future's successor.
                self._incoming = asyncio.get_running_loop().create_future()
                arrived = asyncio.ensure_future(download.done.wait())
                try:
                    either: set[asyncio.Future[Any]] = {arrived, self._incoming}
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    arrived.cancel()
                if not download.done.is_set():
                    self._incoming.result()
            finally:
                self._download = self._arriving = None
                if self._incoming.done() and not self._incoming.cancelled():
                    self._incoming.exception()
                self._incoming = None

    def close_round(self, name: RoundName, reason: str) -> None:
        self._send(link.ReducerFrame(close=link.CloseRound(round=round_to_wire(name), reason=reason)))

    def hand_up(self, name: RoundName, number: int, members: Collection[str] = ()) -> None:
        """Asks a buffered round for what is in; the answer is an event.

        Args:
            members: whose updates count, where the rule goes by earlier ones.
        """
        asked = link.HandUp(round=round_to_wire(name), number=number, members=link.Members(clients=sorted(members)))
        self._send(link.ReducerFrame(hand_up=asked))

    def acknowledge_hand_up(self, name: RoundName, number: int) -> None:
        self._send(link.ReducerFrame(hand_up_ack=link.HandUpAck(round=round_to_wire(name), number=number)))

    def cancel_round(self, name: RoundName, reason: str) -> None:
        self._send(link.ReducerFrame(cancel=link.CancelRound(round=round_to_wire(name), reason=reason)))

    def acknowledge_commit(self, name: RoundName) -> None:
        self._check_up()
        self._outbox.put_lazily(_commit_ack(name))

    def release(self, over: Callable[[RoundName], bool]) -> None:
        """Lets the combiner forget those of the rounds that it held at the beginning which are over."""
        gone = {name for name in self.rounds if over(name)}
        self.rounds -= gone
        for name in gone:
            self._outbox.put_lazily(_commit_ack(name))

    def forget_session(self, session: str) -> None:
        """Lets the combiner forget what it keeps of the clients' updates."""
        self._send(link.ReducerFrame(forget_session=link.ForgetSession(session=session)))

    def detach_client(self, client: str, code: str, message: str) -> None:
        problem = wire.Problem(code=code, message=message, retryable=True)
        self._send(link.ReducerFrame(detach=link.DetachClient(client=client, problem=problem)))

    def renew_token(self, token: str) -> None:
        self._send(link.ReducerFrame(token=link.LinkTokenRenewal(token=token)))


def _commit_ack(name: RoundName) -> bytes:
    return link.ReducerFrame(commit_ack=link.CommitAck(round=round_to_wire(name))).SerializeToString()
