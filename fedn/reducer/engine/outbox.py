"""What waits to be written to one link. Orders go first, so that they overtake a model under way; small ones that wait
at the same time leave as one message.

Not here: what is written (the connection).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import grpc

from fedn.network.bundles import Bundler

_COMPANY_S = 0.02
"""How long an order that nobody waits for may wait for others to leave with."""
_MAX_WAITING_BYTES = 64 << 20
"""Of orders. A combiner that lets more of them wait does not read."""


class Outbox:
    """Belongs to one stream and one loop. Putting never waits; one task writes, and nobody ever cancels it: a write
    that is cancelled ends the whole stream.

    Args:
        write: of the stream.
        on_failure: told once why nothing can be written any more.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[None]], on_failure: Callable[[str], None]) -> None:
        self._write = write
        self._on_failure = on_failure
        self._orders: deque[bytes] = deque()
        self._objects: deque[Iterator[bytes]] = deque()
        self._waiting_bytes = 0
        self._bundler = Bundler()
        self._company: asyncio.TimerHandle | None = None
        self._closed = False
        self._writing: asyncio.Task[None] | None = None

    def bundle(self) -> None:
        """From now on: the combiner reads several frames in one message."""
        self._bundler.enabled = True

    def put(self, order: bytes) -> None:
        """Adds a message that may overtake objects."""
        if self._admit(order):
            self._go_on()

    def put_lazily(self, order: bytes) -> None:
        """Adds a message that nobody waits for: it leaves with the next one, or a moment later."""
        if not self._bundler.enabled:
            self.put(order)
        elif self._admit(order) and self._company is None and self._writing is None:
            self._company = asyncio.get_running_loop().call_later(_COMPANY_S, self._go_on)

    def _admit(self, order: bytes) -> bool:
        if self._closed:
            return False
        self._waiting_bytes += len(order)
        if self._waiting_bytes > _MAX_WAITING_BYTES:
            self._fail("the combiner does not read")
            return False
        self._orders.append(order)
        return True

    def put_object(self, messages: Iterator[bytes]) -> None:
        """Adds an object: its beginning and its pieces. Its messages are taken one by one, as they can be written."""
        if not self._closed:
            self._objects.append(messages)
            self._go_on()

    def close(self) -> None:
        """Drops what waits."""
        self._closed = True
        self._orders.clear()
        self._objects.clear()
        self._stop_waiting_for_company()

    def _stop_waiting_for_company(self) -> None:
        if self._company is not None:
            self._company.cancel()
            self._company = None

    def _go_on(self) -> None:
        self._stop_waiting_for_company()
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while (message := self._bundler.take(self._next)) is not None:
                await self._write(message)
        except (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            self._fail(str(error))
        except asyncio.CancelledError:
            self._fail("closed")  # the stream was cancelled, on this side
        finally:
            self._writing = None

    def _next(self) -> bytes | None:
        if self._orders:
            order = self._orders.popleft()
            self._waiting_bytes -= len(order)
            return order
        while self._objects:
            for piece in self._objects[0]:
                return piece
            self._objects.popleft()
        return None

    def _fail(self, why: str) -> None:
        self.close()
        self._on_failure(why)
