"""The stream to a combiner: opens it, writes and reads frames, and notices when it has died. Knows nothing of tasks."""

import asyncio
import itertools
import logging
from collections import deque
from typing import Any, Protocol

import grpc

from fedn.network.bundles import Bundler, split
from fedn.network.dialing import Endpoint, combiner_lost, error_of_call, error_of_status, open_channel
from fedn.network.frames import Buffer, decode_control, decode_piece
from fedn.network.generated import client_pb2 as wire
from fedn.network.generated import common_pb2 as common
from fedn.protocol.errors import FednError

_LOG = logging.getLogger(__name__)
_METHOD = "/fedn.v1.ClientService/Attach"
_FAREWELL_S = 1.0


class PieceSource(Protocol):
    """An upload: what is written while no control message waits."""

    def next_message(self) -> bytes | None:
        """The next piece, then the control message that ends the upload, then None. OSError: it cannot be read."""


Piece = tuple[int, memoryview]


class CombinerStream:
    """One open stream. One task reads; one task of its own writes, control messages before pieces.

    Args:
        endpoint: of the combiner.
        progress_s: seconds > 0 without a byte, although pinged, after which the stream counts as broken.
    """

    def __init__(self, endpoint: Endpoint, *, progress_s: float) -> None:
        self.endpoint = endpoint
        self.progress_s = progress_s
        self._channel = open_channel(endpoint)
        attach: Any = self._channel.stream_stream(_METHOD, request_serializer=None, response_deserializer=None)
        self._call = attach(metadata=endpoint.metadata, wait_for_ready=False)
        self._control: deque[wire.ClientFrame] = deque()
        self._received: deque[Buffer] = deque()
        """Frames of the message that was read last."""
        self._bundler = Bundler()
        self._ending = False
        self._wrote_piece = False
        self._uploads: deque[PieceSource] = deque()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._active_at = self._loop.time()
        self._nonces = itertools.count(1)
        self._given_up = False
        self._writer = asyncio.create_task(self._write())
        self._watcher = asyncio.create_task(self._watch())

    def post(self, frame: wire.ClientFrame) -> None:
        """Queues a control message. One that the broken stream did not carry is lost."""
        self._control.append(frame)
        self._wake.set()

    def upload(self, source: PieceSource) -> None:
        """Queues an upload; those queued are sent one after the other."""
        self._uploads.append(source)
        self._wake.set()

    def drop_upload(self, source: PieceSource) -> None:
        """Sends nothing more of an upload."""
        if source in self._uploads:
            self._uploads.remove(source)

    async def receive(self) -> Piece | wire.CombinerFrame:
        """The next piece or control message.

        Raises:
            Unavailable: `combiner_unreachable` or `combiner_lost`: connect again.
            Unauthenticated, Forbidden: the combiner does not take our token.
        """
        while not self._received:
            self._received.extend(split(await self._read()))
        frame = self._received.popleft()
        return decode_piece(frame) or decode_control(wire.CombinerFrame, frame)

    async def _read(self) -> bytes:
        try:
            message: Any = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, self.endpoint) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._given_up and not (task is not None and task.cancelling()):
                raise combiner_lost(self.endpoint, f"it was silent for {self.progress_s:g} s") from None
            raise
        if not isinstance(message, bytes):  # the end of the stream
            raise await self._end()
        self._active_at = self._loop.time()
        return message

    def use_bundles(self) -> None:
        """The combiner reads several frames in one message."""
        self._bundler.enabled = True

    async def finish(self, last: wire.ClientFrame) -> None:
        """Sends what waits and a last message, if that works within a second; the combiner then ends the stream."""
        if not self._writer.done():
            self.post(last)
            self.post(_END)
            await asyncio.wait({self._writer}, timeout=_FAREWELL_S)

    async def close(self) -> None:
        """Ends the stream at once."""
        self._call.cancel()
        for task in (self._writer, self._watcher):
            task.cancel()
        await asyncio.gather(self._writer, self._watcher, return_exceptions=True)
        await self._channel.close(None)

    async def _write(self) -> None:
        try:
            while True:
                self._wrote_piece = False
                message = self._bundler.take(self._next_message)
                if message is not None:
                    await self._call.write(message)
                    if self._wrote_piece:
                        self._active_at = self._loop.time()
                elif self._ending:
                    await self._call.done_writing()
                    return
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader is told the reason

    def _next_message(self) -> bytes | None:
        if self._ending:
            return None
        if self._control:
            frame = self._control.popleft()
            if frame is not _END:
                return frame.SerializeToString()
            self._ending = True
            return None
        while self._uploads:
            message = self._piece_of(self._uploads[0])
            if message is not None:
                self._wrote_piece = True
                return message
            self._uploads.popleft()
        return None

    def _piece_of(self, source: PieceSource) -> bytes | None:
        try:
            return source.next_message()
        except OSError as error:
            _LOG.error("an upload cannot go on, its file cannot be read: %s", error)
            return None

    async def _watch(self) -> None:
        """Pings a combiner of which nothing was heard for half of `progress_s`; gives it up after the other half."""
        while True:
            heard_at = self._active_at
            await self._sleep_until(heard_at + self.progress_s / 2)
            if self._active_at != heard_at:
                continue
            self.post(wire.ClientFrame(ping=common.Ping(nonce=next(self._nonces))))
            await self._sleep_until(heard_at + self.progress_s)
            if self._active_at == heard_at:
                self._given_up = True
                self._call.cancel()
                return

    async def _sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self._loop.time()))

    async def _end(self) -> FednError:
        code = await self._call.code()
        return error_of_status(code, await self._call.details() or "", self.endpoint)


_END = wire.ClientFrame()
"""Queued by `finish`: nothing comes after it."""
