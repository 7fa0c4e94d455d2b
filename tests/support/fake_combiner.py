"""A combiner for tests of the client: real gRPC, TLS and frames, but a test decides each message."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any

import grpc

from fedn.network.convert import task_to_wire
from fedn.network.frames import decode_control, decode_piece, encode_pieces
from fedn.network.generated import client_pb2 as wire
from fedn.network.generated import common_pb2 as common
from fedn.network.tls import CertificateAuthority, grpc_server_credentials, make_csr, new_private_key
from fedn.protocol.tasks import RoundName, TaskSpec
from tests.support.servers import free_port

PATIENCE_S = 60.0
"""How long a test waits for what must come."""

MODEL = common.OBJECT_KIND_MODEL
PACKAGE = common.OBJECT_KIND_PACKAGE


class FakeStream:
    """One attached client, as the combiner sees it."""

    def __init__(self, hello: wire.Hello, token: str, context: Any) -> None:
        self.hello = hello
        self.token = token
        self.mute = False
        """Answers no ping."""
        self._context = context
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._cut = asyncio.Event()

    async def send(self, **control: Any) -> None:
        await self._context.write(wire.CombinerFrame(**control).SerializeToString())

    async def send_raw(self, message: bytes) -> None:
        await self._context.write(message)

    async def push(
        self, object_id: str, data: bytes, kind: int = MODEL, offset: int = 0, stop: int | None = None
    ) -> None:
        """An object, from `offset` on; only up to `stop` if given."""
        await self.send(object=common.ObjectBegin(object_id=object_id, kind=kind, size_bytes=len(data), offset=offset))
        for message in encode_pieces(data[:stop], offset, 1 << 16):
            await self._context.write(message)

    async def task(
        self, task: TaskSpec, name: RoundName, deadline_s: float = PATIENCE_S, *, credit_bytes: int = 0
    ) -> None:
        message = task_to_wire(task, name, deadline_s)
        message.upload_credit_bytes = credit_bytes
        await self.send(task=message)

    async def grant(self, task_id: str, offset: int = 0) -> None:
        await self.send(grant=wire.Grant(task_id=task_id, offset=offset))

    async def ack(self, task_id: str) -> None:
        await self.send(ack=wire.Ack(task_id=task_id))

    async def bye(self, code: str, retry_after_s: float = 0.0) -> None:
        problem = common.Problem(code=code, message=f"the test says {code}")
        await self.send(bye=wire.Bye(problem=problem, retry_after_s=retry_after_s))
        self.cut()

    def cut(self) -> None:
        """Ends the stream as a dying combiner does."""
        self._cut.set()

    async def next(self) -> wire.ClientFrame | tuple[int, bytes]:
        """The client's next message: a control message or a piece. EOFError when it has gone."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self._incoming.get()
        if message is None:
            self._incoming.put_nowait(None)
            raise EOFError("the client's stream has ended")
        piece = decode_piece(message)
        return decode_control(wire.ClientFrame, message) if piece is None else (piece[0], bytes(piece[1]))

    async def expect(self, control: str, *, skip: Sequence[str] = ("task_accepted", "task_progress", "ping")) -> Any:
        """The next control message, which must be of this kind but for those to skip."""
        while True:
            message = await self.next()
            assert not isinstance(message, tuple), f"a piece came instead of {control}"
            kind = message.WhichOneof("control")
            if kind == control:
                return getattr(message, control)
            assert kind in skip, f"{kind} came instead of {control}: {message}"

    async def upload(self, pieces: int | None = None) -> tuple[int, bytes]:
        """(first offset, bytes) of an upload: all of it with its end, or so many pieces of it."""
        first, data = -1, b""
        while pieces is None or pieces > 0:
            message = await self.next()
            if isinstance(message, tuple):
                first = message[0] if first < 0 else first
                assert message[0] == first + len(data)
                data += message[1]
                pieces = None if pieces is None else pieces - 1
            elif message.HasField("upload_end"):
                break
        return first, data

    async def following(self, size_bytes: int) -> bytes:
        """The bytes of an upload that follows its Ready at once; nothing comes between its pieces."""
        data = b""
        while len(data) < size_bytes:
            message = await self.next()
            assert isinstance(message, tuple), f"no piece came: {message}"
            assert message[0] == len(data)
            data += message[1]
        return data

    async def take(self, task_id: str) -> tuple[wire.Ready, bytes]:
        """Takes a result to its end: Ready, Grant, pieces, Ack."""
        ready = await self.expect("ready")
        assert ready.metadata.task_id == task_id
        data = b""
        if ready.size_bytes:
            await self.grant(task_id)
            _, data = await self.upload()
        await self.ack(task_id)
        return ready, data

    async def _serve(self) -> None:
        reading = asyncio.create_task(self._read())
        cutting = asyncio.create_task(self._cut.wait())
        try:
            await asyncio.wait({reading, cutting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, cutting):
                task.cancel()
            await asyncio.gather(reading, cutting, return_exceptions=True)
            self._incoming.put_nowait(None)

    async def _read(self) -> None:
        while isinstance(message := await self._context.read(), bytes):
            frame = None if decode_piece(message) else decode_control(wire.ClientFrame, message)
            if frame is not None and frame.HasField("ping") and not self.mute:
                await self.send(pong=common.Pong(nonce=frame.ping.nonce))
            self._incoming.put_nowait(message)


class FakeCombiner:
    """See the module. `async with`; may be stopped and started again at the same port."""

    def __init__(
        self, ca: CertificateAuthority, name: str = "fake", *, progress_s: float = 30.0, port: int = 0
    ) -> None:
        self.name = name
        self.port = port or free_port()  # kept for it while it is stopped
        self.refuse: grpc.StatusCode | None = None
        """Status that each stream gets instead of a welcome."""
        self.bye_at_once = ""
        """Code of the Bye that each stream gets instead of a welcome."""
        self.refused = asyncio.Event()
        """Set once a stream got it."""
        self._progress_s = progress_s
        key = new_private_key()
        certificate = ca.sign(make_csr(key, name), name=name, role="combiner", hosts=["localhost"], valid_days=1)
        self._credentials = grpc_server_credentials(key, certificate, ca.certificate_pem, True)
        self._streams: asyncio.Queue[FakeStream] = asyncio.Queue()
        self._open: set[FakeStream] = set()
        self._server: Any = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handler = grpc.stream_stream_rpc_method_handler(self._attach)
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("fedn.v1.ClientService", {"Attach": handler})]
        )
        self.port = self._server.add_secure_port(f"localhost:{self.port}", self._credentials)
        await self._server.start()

    async def stop(self) -> None:
        for stream in self._open:
            stream.cut()
        await self._server.stop(0)

    async def __aenter__(self) -> "FakeCombiner":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def attached(self) -> FakeStream:
        """The next client that attaches."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._streams.get()

    async def _attach(self, requests: AsyncIterator[bytes], context: Any) -> None:
        if self.refuse is not None:
            self.refused.set()
            await context.abort(self.refuse, "the test refuses")
        first = await context.read()
        if not isinstance(first, bytes):
            return
        token = dict(context.invocation_metadata()).get("authorization", "")
        stream = FakeStream(decode_control(wire.ClientFrame, first).hello, token, context)
        if self.bye_at_once:
            await stream.bye(self.bye_at_once)
            return
        welcome = wire.Welcome(combiner=self.name, instance="i", chunk_bytes=1 << 20, progress_s=self._progress_s)
        await stream.send(welcome=welcome)
        self._open.add(stream)
        self._streams.put_nowait(stream)
        try:
            await stream._serve()
        finally:
            self._open.discard(stream)


def train_task(client: str, model_id: str, task_id: str = "t1", **fields: Any) -> TaskSpec:
    return TaskSpec(task_id=task_id, client=client, kind=fields.pop("kind", "train"), model_id=model_id, **fields)


def round_name(index: int = 0, attempt: int = 0, session: str = "s1") -> RoundName:
    return RoundName(session=session, index=index, attempt=attempt, epoch=1)


__all__ = ["MODEL", "PACKAGE", "PATIENCE_S", "FakeCombiner", "FakeStream", "round_name", "train_task"]
