"""A light client's stream to its combiner, and the connections that streams may share.

It does what `fedn.client.stream` does, without tasks that wait for something to do: an idle stream is one reader.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from fedn.network.bundles import Bundler
from fedn.network.frames import MAX_MESSAGE_BYTES
from fedn.network.generated import client_pb2 as wire
from fedn.network.tls import grpc_channel_credentials
from fedn.protocol.errors import FednError, Forbidden, Unauthenticated, Unavailable
from fedn.swarm.updates import Sending

_METHOD = "/fedn.v1.ClientService/Attach"
_FAREWELL_S = 1.0
_OPTIONS = (
    # A channel is a connection: without this, gRPC would let all channels to one address share one.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    # The buffer that gRPC keeps for the next read of each connection; it would grow to the size of a model.
    ("grpc.experimental.tcp_max_read_buffer_size", 32 << 10),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)


@dataclass(eq=False)
class Connection:
    """A channel to a combiner, and how many streams use it."""

    address: str
    channel: grpc.aio.Channel
    streams: int = 0


class Connections:
    """Channels to combiners, each for a number of streams.

    Args:
        ca: PEM that combiners are verified against; empty: no TLS.
        streams: on one connection.
    """

    def __init__(self, ca: bytes, streams: int) -> None:
        # One object for all channels: gRPC then keeps one TLS context instead of one for each.
        self._credentials = grpc_channel_credentials(ca) if ca else None
        self._streams = streams
        self._free: dict[str, list[Connection]] = {}

    def take(self, host: str, port: int) -> Connection:
        """A connection with room for one more stream; to be given back."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        free = self._free.setdefault(address, [])
        if free:
            connection = free[-1]
        else:
            connection = Connection(address, self._open(address))
            free.append(connection)
        connection.streams += 1
        if connection.streams >= self._streams:
            free.remove(connection)
        return connection

    async def give_back(self, connection: Connection) -> None:
        connection.streams -= 1
        free = self._free[connection.address]
        if connection.streams == 0:
            if connection in free:
                free.remove(connection)
            await connection.channel.close(None)
        elif connection not in free:
            free.append(connection)

    def _open(self, address: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, options=_OPTIONS)
        return grpc.aio.secure_channel(address, self._credentials, options=_OPTIONS)


class StreamOwner(Protocol):
    """Whose stream it is."""

    def sent(self, size_bytes: int) -> None:
        """So many bytes of an update have left."""

    def cut_off(self) -> None:
        """The upload came to where it shall be cut."""


class LightStream:
    """One open stream. Its owner reads; what is posted is written by a task that lives while there is something.

    Args:
        token: of the client.
        combiner: its name, for messages.
    """

    def __init__(self, connection: Connection, token: str, combiner: str, owner: StreamOwner) -> None:
        self._loop = asyncio.get_running_loop()
        self._where = {"combiner": combiner, "address": connection.address}
        self._owner = owner
        attach: Any = connection.channel.stream_stream(_METHOD, request_serializer=None, response_deserializer=None)
        self._call = attach(metadata=(("authorization", f"Bearer {token}"),), wait_for_ready=False)
        self._control: deque[bytes] = deque()
        self._uploads: deque[Sending] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._bundler = Bundler()
        self._taken_bytes = 0
        """Of updates, in the message that is written."""
        self._paced: Sending | None = None
        """The upload that ends the message that is written, since it has to wait, or may be cut, behind its piece."""
        self._given_up = ""
        self.active_at = self._loop.time()
        """When a byte moved last; loop time in seconds."""

    def post(self, frame: wire.ClientFrame) -> None:
        """Queues a control message. One that the broken stream did not carry is lost."""
        self._control.append(frame.SerializeToString())
        self._wake()

    def use_bundles(self) -> None:
        """The combiner reads several frames in one message."""
        self._bundler.enabled = True

    def upload(self, sending: Sending) -> None:
        """Queues an upload, instead of an earlier one of the same task."""
        self.drop_upload(sending.task_id)
        self._uploads.append(sending)
        self._wake()

    @property
    def uploading(self) -> bool:
        """Whether an update is on its way."""
        return bool(self._uploads)

    def drop_upload(self, task_id: str) -> None:
        for sending in [sending for sending in self._uploads if sending.task_id == task_id]:
            self._uploads.remove(sending)

    async def read(self) -> bytes:
        """The next message.

        Raises:
            Unavailable: `combiner_lost`: connect again.
            Unauthenticated, Forbidden: the combiner does not take our token.
        """
        try:
            message: Any = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._ended(error.code(), error.details() or "") from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._given_up and not (task is not None and task.cancelling()):
                raise self._lost(self._given_up) from None
            raise
        if not isinstance(message, bytes):
            raise self._ended(await self._call.code(), await self._call.details() or "")
        self.active_at = self._loop.time()
        return message

    def give_up(self, why: str) -> None:
        """Cuts the stream without a word; whoever reads gets Unavailable (`combiner_lost`)."""
        self._given_up = why
        self._call.cancel()

    async def finish(self, last: wire.ClientFrame) -> None:
        """Sends what waits and a last message, if that works within a second; the combiner then ends the stream."""
        self._uploads.clear()
        self.post(last)
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=_FAREWELL_S)

    async def close(self) -> None:
        """Ends the stream at once."""
        self._call.cancel()
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)

    def _wake(self) -> None:
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while (message := self._bundler.take(self._next_message)) is not None:
                await self._call.write(message)
                await self._written(len(message))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader is told the reason
        finally:
            self._writer = None

    def _next_message(self) -> bytes | None:
        if self._control:
            return self._control.popleft()
        while self._uploads and self._paced is None:
            sending = self._uploads[0]
            before, message = sending.offset, sending.next_message()
            if message is not None:
                self._taken_bytes += sending.offset - before
                self._paced = sending if sending.paced else None
                return message
            self._uploads.popleft()
        return None

    async def _written(self, size_bytes: int) -> None:
        """A message has left."""
        sending, self._paced = self._paced, None
        if self._taken_bytes:
            self.active_at = self._loop.time()
            self._owner.sent(self._taken_bytes)
            self._taken_bytes = 0
        if sending is not None and sending.cut:
            self._owner.cut_off()
        elif sending is not None and sending.bytes_per_s:
            await asyncio.sleep(size_bytes / sending.bytes_per_s)  # a slow link, not a wait for something

    def _ended(self, code: grpc.StatusCode, details: str) -> FednError:
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return Unauthenticated(
                "combiner_refused_token", f"the combiner does not take our token: {details}", where=self._where
            )
        if code is grpc.StatusCode.PERMISSION_DENIED:
            return Forbidden("combiner_forbids", f"the combiner does not let us attach: {details}", where=self._where)
        return self._lost("it ended the stream" if code is grpc.StatusCode.OK else f"{code.name.lower()}: {details}")

    def _lost(self, why: str) -> Unavailable:
        return Unavailable(
            "combiner_lost",
            f"the stream to the combiner broke: {why}",
            fix="The client connects again by itself.",
            where=self._where,
        )
