"""Light streams to a combiner: one that stands for a client, one that stands for the reducer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import grpc

from benchmarks.wire.trust import FEDERATION, HOST, Trust
from fedn.network.convert import metadata_to_wire, round_from_wire, round_to_wire, spec_to_wire
from fedn.network.frames import MAX_MESSAGE_BYTES, decode_control, decode_piece, encode_pieces
from fedn.network.generated import client_pb2, combiner_pb2, common_pb2
from fedn.protocol.rounds import RoundSpec
from fedn.protocol.tasks import RoundName, UpdateMetadata

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)


@asynccontextmanager
async def channel(trust: Trust, port: int, *, tls: bool) -> AsyncIterator[grpc.aio.Channel]:
    """A channel of its own connection to the combiner."""
    address = f"{HOST}:{port}"
    if tls:
        opened = grpc.aio.secure_channel(address, trust.channel_credentials(), options=OPTIONS)
    else:
        opened = grpc.aio.insecure_channel(address, options=OPTIONS)
    try:
        yield opened
    finally:
        await opened.close(None)


class StreamEnded(RuntimeError):
    """The combiner has ended the stream; the message says how."""


class _Stream:
    """What both streams share: frames in, frames out, pieces counted and dropped."""

    method: str
    frame_in: Any

    def __init__(self, opened: grpc.aio.Channel, token: str) -> None:
        attach: Any = opened.stream_stream(self.method, request_serializer=None, response_deserializer=None)
        self.call = attach(metadata=(("authorization", f"Bearer {token}"),))
        self.received_bytes = 0
        """Of objects, so far."""

    async def write(self, frame: Any) -> None:
        await self.call.write(frame if isinstance(frame, bytes) else frame.SerializeToString())

    async def expect(self, *fields: str) -> Any:
        """The content of the next frame of one of these kinds; others are dropped. StreamEnded."""
        while True:
            message = await self.call.read()
            if not isinstance(message, bytes):
                raise StreamEnded(f"{await self.call.code()}: {await self.call.details()}")
            piece = decode_piece(message)
            if piece is not None:
                self.received_bytes += len(piece[1])
                continue
            frame = decode_control(self.frame_in, message)
            field = frame.WhichOneof("control")
            if field in fields:
                return getattr(frame, field)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call.cancel()


class ClientStream(_Stream):
    """Stands for a client."""

    method = "/fedn.v1.ClientService/Attach"
    frame_in = client_pb2.CombinerFrame

    def __init__(self, opened: grpc.aio.Channel, name: str, trust: Trust) -> None:
        super().__init__(opened, trust.client_token(name))
        self.name = name

    async def hello(self) -> None:
        """Attaches. StreamEnded where the combiner does not take it."""
        kinds = [common_pb2.TASK_KIND_TRAIN]
        hello = client_pb2.Hello(client=self.name, instance=f"{self.name}-1", kinds=kinds)
        await self.write(client_pb2.ClientFrame(hello=hello))
        answer = await self.expect("welcome", "bye")
        if isinstance(answer, client_pb2.Bye):
            raise StreamEnded(answer.problem.message)

    async def ping(self, nonce: int) -> None:
        """A turn: there and back."""
        await self.write(client_pb2.ClientFrame(ping=common_pb2.Ping(nonce=nonce)))
        await self.expect("pong")

    async def upload(self, task: common_pb2.Task, object_id: str, size_bytes: int, pieces: Sequence[bytes]) -> None:
        """Delivers an update of `size_bytes` in messages made before, until it is acknowledged.

        Raises:
            StreamEnded: it was refused; the message says why.
        """
        metadata = UpdateMetadata(
            task_id=task.task_id,
            client=self.name,
            round=round_from_wire(task.round),
            base_model_id=task.model_id,
            num_examples=100,
        )
        follows = size_bytes <= task.upload_credit_bytes
        ready = client_pb2.Ready(
            metadata=metadata_to_wire(metadata), object_id=object_id, size_bytes=size_bytes, follows=follows
        )
        await self.write(client_pb2.ClientFrame(ready=ready))
        if follows:
            for piece in pieces:
                await self.write(piece)
        answer = await self.expect("grant", "ack", "refused")
        if isinstance(answer, client_pb2.Grant) and answer.offset == 0:
            for piece in pieces:
                await self.write(piece)
            await self.write(client_pb2.ClientFrame(upload_end=client_pb2.UploadEnd(task_id=task.task_id)))
            answer = await self.expect("grant", "ack", "refused")
        if isinstance(answer, client_pb2.Grant):
            raise StreamEnded(f"the combiner lacks the update from byte {answer.offset} on")
        if isinstance(answer, client_pb2.Refused):
            raise StreamEnded(f"the update was refused: {answer.problem.message}")


class ReducerStream(_Stream):
    """Stands for the reducer."""

    method = "/fedn.v1.CombinerService/Link"
    frame_in = combiner_pb2.LinkFrame

    def __init__(self, opened: grpc.aio.Channel, trust: Trust) -> None:
        super().__init__(opened, trust.link_token())

    async def hello(self) -> None:
        hello = combiner_pb2.LinkHello(federation=FEDERATION, epoch=1)
        await self.write(combiner_pb2.ReducerFrame(hello=hello))
        answer = await self.expect("welcome", "problem")
        if isinstance(answer, common_pb2.Problem):
            raise StreamEnded(answer.message)

    async def start(self, spec: RoundSpec, model_id: str, size_bytes: int, pieces: Sequence[bytes]) -> None:
        """Starts a round, and pushes its model where the combiner needs it."""
        await self.write(combiner_pb2.ReducerFrame(start=spec_to_wire(spec)))
        status = await self.expect("status", "refused")
        if isinstance(status, combiner_pb2.RoundRefused):
            raise StreamEnded(status.problem.message)
        if model_id in status.needed_objects:
            begin = common_pb2.ObjectBegin(object_id=model_id, kind=common_pb2.OBJECT_KIND_MODEL, size_bytes=size_bytes)
            await self.write(combiner_pb2.ReducerFrame(object=begin))
            for piece in pieces:
                await self.write(piece)

    async def done(self) -> combiner_pb2.RoundDone:
        """Waits for the end of the round that runs."""
        while True:
            event: combiner_pb2.RoundEvent = await self.expect("event")
            if event.HasField("done"):
                return event.done

    async def fetch(self, object_id: str, size_bytes: int) -> None:
        """Pulls an object, and drops it."""
        fetch = common_pb2.ObjectFetch(object_id=object_id, kind=common_pb2.OBJECT_KIND_MODEL)
        begun = self.received_bytes
        await self.write(combiner_pb2.ReducerFrame(fetch=fetch))
        await self.expect("object")
        while self.received_bytes - begun < size_bytes:
            message = await self.call.read()
            if not isinstance(message, bytes):
                raise StreamEnded("the link has ended in the middle of an object")
            piece = decode_piece(message)
            self.received_bytes += len(piece[1]) if piece else 0

    async def acknowledge(self, name: RoundName) -> None:
        """Lets the combiner forget the round."""
        ack = combiner_pb2.CommitAck(round=round_to_wire(name))
        await self.write(combiner_pb2.ReducerFrame(commit_ack=ack))


def messages_of(content: bytes | bytearray) -> list[bytes]:
    """The messages that carry an object."""
    return list(encode_pieces(content))
