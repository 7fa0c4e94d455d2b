"""One light client: enrols, is assigned to a combiner, attaches, answers tasks, and comes back whatever breaks.

What it does follows `fedn.client.agent`; what becomes of its tasks is in `fedn.swarm.tasks`.
"""

import asyncio
import time
from collections.abc import Sequence
from itertools import count

import fedn
from fedn.network.backoff import Backoff, jittered
from fedn.network.bundles import split
from fedn.network.convert import kind_to_wire
from fedn.network.frames import CHUNK_BYTES, Buffer, decode_control, decode_piece
from fedn.network.generated import client_pb2 as wire
from fedn.network.generated import common_pb2 as common
from fedn.protocol.errors import FednError, Forbidden, InvalidInput, Unauthenticated, Unavailable
from fedn.protocol.rest import Assignment
from fedn.protocol.tasks import TaskKind
from fedn.swarm.joining import Token
from fedn.swarm.shared import Shared
from fedn.swarm.stream import Connection, LightStream
from fedn.swarm.tasks import LightTasks
from fedn.swarm.updates import Sending

_MIN_WAIT_S = 0.1
_MAX_WAIT_S = 30.0
_STABLE_AFTER_S = 5.0
"""An attachment that lasted so long was a good one: back-off begins anew."""
_WELCOME_TIMEOUT_S = 30.0
_MIN_CHUNK_BYTES = 1 << 14
_FINAL_BYES = frozenset({"replaced", "name_taken"})
_KINDS = [kind_to_wire(kind) for kind in (TaskKind.TRAIN, TaskKind.VALIDATE)]


class _Ended(FednError):
    """The combiner said Bye; the code is its own."""

    retry_after_s = 0.0
    final = False
    """Whether trying again cannot help."""


class LightClient:
    """Made once; `run` once. Belongs to one loop."""

    def __init__(self, number: int, key_pem: bytes, shared: Shared) -> None:
        options = shared.options
        self.name = options.name(number)
        self._key_pem = key_pem
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._instance = f"{self.name}-{time.time_ns():x}"
        self._backoff = Backoff()
        self._token: Token | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._stream: LightStream | None = None
        self._chunk_bytes = CHUNK_BYTES
        self._progress_s = options.progress_s
        self._welcomed = False
        self._early: Sequence[Buffer] = ()
        """Frames that came together with the welcome."""
        self._leaving = False
        self._pinged_at = 0.0
        self._away_s = 0.0
        self._nonces = count(1)
        self.tasks = LightTasks(number, self.name, shared, self)

    async def run(self) -> None:
        """Until `leave`, until it is cancelled, or until the client cannot go on: then the FednError that says why."""
        assignment: Assignment | None = None
        avoid: tuple[str, ...] = ()
        while True:
            if self._token is None:
                await self._enrol()
            if assignment is None:
                assignment = await self._assigned(avoid)
            error, lasted_s = await self._attach(assignment)
            if self._leaving:
                return
            assignment, avoid = await self._after(assignment, error, lasted_s)

    async def leave(self) -> None:
        """Tells the combiner that this client goes for good."""
        self._leaving = True
        if self._stream is not None and self._welcomed:
            await self._stream.finish(wire.ClientFrame(leave=wire.Leave(reason="the swarm ends")))

    def tick(self, now: float) -> None:
        """Looks whether the stream is alive and the token lasts; to be called about once a second (loop time)."""
        stream = self._stream
        if stream is None or not self._welcomed:
            return
        silent_s, often_s = now - stream.active_at, self._shared.options.ping_s
        if silent_s >= self._progress_s:
            stream.give_up(f"it was silent for {self._progress_s:g} s")
        elif self._pinged_at <= stream.active_at and (
            silent_s >= self._progress_s / 2 or (often_s and now - self._pinged_at >= often_s)
        ):
            self._pinged_at = now
            self.post(wire.ClientFrame(ping=common.Ping(nonce=next(self._nonces))))
        if self._token is not None and self._renewing is None and time.time() >= self._renew_at:
            self._renewing = asyncio.create_task(self._renew(self._token))

    # Joining

    async def _enrol(self) -> None:
        statistics = self._shared.statistics
        while True:
            try:
                async with self._shared.gate:
                    begun = self._loop.time()
                    self._take_token(await self._shared.joining.enrol(self.name, self._key_pem))
            except Unavailable as error:
                statistics.count_break(error.code)
                await asyncio.sleep(self._backoff.next_s())
            else:
                statistics.enrolled += 1
                statistics.enrol.add(self._loop.time() - begun)
                return

    async def _assigned(self, avoid: tuple[str, ...]) -> Assignment:
        """Asks until there is a combiner for us."""
        shared = self._shared
        while True:
            try:
                async with shared.gate:
                    begun = self._loop.time()
                    assignment = await self._ask(avoid)
            except Unavailable as error:
                shared.statistics.count_break(error.code)
                await asyncio.sleep(self._backoff.next_s())
                continue
            shared.statistics.assign.add(self._loop.time() - begun)
            if assignment.status == "assigned":
                self._take_token(Token(assignment.token, assignment.expires_at))
                return assignment
            shared.statistics.count_break(assignment.code)
            await asyncio.sleep(jittered(min(max(assignment.retry_after_s, _MIN_WAIT_S), _MAX_WAIT_S)))

    async def _ask(self, avoid: tuple[str, ...]) -> Assignment:
        joining, preferred = self._shared.joining, self._shared.options.combiner
        assert self._token is not None
        try:
            return await joining.assign(self._token, preferred, avoid)
        except Unauthenticated:  # it expired while the client was away, or the reducer has a new signing key
            self._take_token(await joining.renew(self.name, self._key_pem))
            return await joining.assign(self._token, preferred, avoid)

    def _take_token(self, token: Token) -> None:
        self._token = token
        now = time.time()
        self._renew_at = now + max((token.expires_at - now) * 2 / 3, _MIN_WAIT_S)

    async def _renew(self, old: Token) -> None:
        try:
            token = await self._shared.joining.renew(self.name, self._key_pem)
        except FednError as error:
            self._shared.statistics.count_break(error.code)
            self._renew_at = time.time() + jittered(_MAX_WAIT_S)
            return
        finally:
            self._renewing = None
        if self._token is old:
            self._take_token(token)
            self.post(wire.ClientFrame(token=wire.TokenRenewal(token=token.text)))

    # The stream

    async def _attach(self, assignment: Assignment) -> tuple[FednError, float | None]:
        """One attachment, from its beginning to its end: why it ended, and seconds since the welcome, if it came."""
        shared, statistics = self._shared, self._shared.statistics
        attached_at: float | None = None
        try:
            async with shared.gate:
                begun = self._loop.time()
                await self._greet(assignment)
                attached_at = self._loop.time()
            statistics.attach.add(attached_at - begun)
            statistics.attachments += 1
            statistics.attached += 1
            await self._serve()
        except FednError as error:
            # Its frames hold the stream, and with it the connection, for as long as the error is kept.
            return error.without_frames(), None if attached_at is None else self._loop.time() - attached_at
        finally:
            if attached_at is not None:
                statistics.attached -= 1
            await self._detach()
        raise AssertionError("an attachment ends with an error")

    async def _greet(self, assignment: Assignment) -> None:
        assert self._token is not None
        self._welcomed = False
        self._connection = self._shared.connections.take(assignment.host, assignment.port)
        stream = self._stream = LightStream(self._connection, self._token.text, assignment.combiner, self)
        stream.post(wire.ClientFrame(hello=self._hello()))
        try:
            async with asyncio.timeout(_WELCOME_TIMEOUT_S):
                first, *self._early = split(await stream.read())
        except TimeoutError as error:
            raise Unavailable("combiner_silent", f"the combiner said nothing for {_WELCOME_TIMEOUT_S:g} s") from error
        frame = decode_control(wire.CombinerFrame, first)
        if frame.HasField("bye"):
            raise self._bye(frame.bye)
        if not frame.HasField("welcome"):
            raise InvalidInput("bad_frame", "the combiner's first message is no Welcome")
        self._welcomed = True
        self._pinged_at = stream.active_at  # not later, or the first silence would pass without a ping
        self._chunk_bytes = min(max(frame.welcome.chunk_bytes or CHUNK_BYTES, _MIN_CHUNK_BYTES), CHUNK_BYTES)
        if frame.welcome.bundles:
            stream.use_bundles()
        if frame.welcome.progress_s > 0:
            self._progress_s = min(self._shared.options.progress_s, frame.welcome.progress_s)
        self.tasks.attached(assignment.combiner)

    def _hello(self) -> wire.Hello:
        return wire.Hello(
            client=self.name,
            instance=self._instance,
            version=fedn.__version__,
            kinds=_KINDS,
            held_objects=self.tasks.held(),
            partial=self.tasks.partial(),
            spooled_tasks=self.tasks.spooled(),
            bundles=True,
        )

    async def _serve(self) -> None:
        stream = self._stream
        assert stream is not None
        frames, self._early = self._early, ()
        while True:
            self._take(stream, frames)
            frames = ()  # ten thousand clients shall not keep a model's bytes each while they wait
            frames = split(await stream.read())

    def _take(self, stream: LightStream, frames: Sequence[Buffer]) -> None:
        for frame in frames:
            piece = decode_piece(frame)
            if piece is not None:
                self.tasks.piece(*piece)
            else:
                self._hear(stream, decode_control(wire.CombinerFrame, frame))

    def _hear(self, stream: LightStream, frame: wire.CombinerFrame) -> None:
        tasks = self.tasks
        match frame.WhichOneof("control"):
            case "task":
                tasks.asked(frame.task)
            case "object":
                tasks.begin(frame.object)
            case "missing":
                tasks.missing(frame.missing.object_id)
            case "grant":
                tasks.granted(frame.grant)
            case "ack":
                stream.drop_upload(frame.ack.task_id)
                tasks.acknowledged(frame.ack.task_id)
            case "refused":
                stream.drop_upload(frame.refused.task_id)
                tasks.refused(frame.refused.task_id, frame.refused.problem.code)
            case "cancelled":
                stream.drop_upload(frame.cancelled.task_id)
                tasks.cancelled(frame.cancelled.task_id)
            case "pong":
                self._shared.statistics.ping.add(self._loop.time() - self._pinged_at)
            case "bye":
                raise self._bye(frame.bye)

    async def _detach(self) -> None:
        stream, self._stream = self._stream, None
        connection, self._connection = self._connection, None
        self.tasks.detached()
        if stream is not None:
            await stream.close()
        if connection is not None:
            await self._shared.connections.give_back(connection)

    async def _after(
        self, assignment: Assignment, error: FednError, lasted_s: float | None
    ) -> tuple[Assignment | None, tuple[str, ...]]:
        """What to do after an attachment: the assignment to use again, if any, and the combiners to avoid."""
        statistics = self._shared.statistics
        if self._away_s:
            away_s, self._away_s = self._away_s, 0.0
            statistics.away += 1
            try:
                await asyncio.sleep(jittered(away_s))
            finally:
                statistics.away -= 1
            return None, ()
        if isinstance(error, Forbidden) or (isinstance(error, _Ended) and error.final):
            raise error
        statistics.count_break(error.code)
        if lasted_s is not None and lasted_s >= _STABLE_AFTER_S:
            self._backoff.reset()
        if isinstance(error, _Ended):
            await asyncio.sleep(max(jittered(min(error.retry_after_s, _MAX_WAIT_S)), self._backoff.next_s()))
            return None, () if error.code == "token_expired" else (assignment.combiner,)
        await asyncio.sleep(self._backoff.next_s())
        if lasted_s is not None:
            return assignment, ()  # most cuts are short: the same combiner once more
        return None, () if isinstance(error, Unauthenticated) else (assignment.combiner,)

    def _bye(self, bye: wire.Bye) -> _Ended:
        error = _Ended(bye.problem.code, bye.problem.message, fix=bye.problem.fix, where={"client": self.name})
        error.retry_after_s = max(bye.retry_after_s, 0.0)
        error.final = error.code in _FINAL_BYES or not (
            self._welcomed or bye.problem.retryable or error.code == "token_expired"
        )
        return error

    # What the tasks and the stream tell

    def post(self, frame: wire.ClientFrame) -> None:
        if self._stream is not None:
            self._stream.post(frame)

    def upload(self, sending: Sending) -> None:
        if self._stream is not None:
            self._stream.upload(sending)

    @property
    def uploading(self) -> bool:
        return self._stream is not None and self._stream.uploading

    @property
    def chunk_bytes(self) -> int:
        return self._chunk_bytes

    def go_away(self, reason: str) -> None:
        if self._stream is None:
            return
        self._shared.statistics.went_away += 1
        self._away_s = max(self._shared.options.behaviour.away_s, 1e-3)
        if reason:
            self.post(wire.ClientFrame(leave=wire.Leave(reason=reason)))
        else:
            self._stream.give_up("the client vanished, on purpose")

    def sent(self, size_bytes: int) -> None:
        self._shared.statistics.sent_bytes += size_bytes

    def cut_off(self) -> None:
        self.go_away("")
