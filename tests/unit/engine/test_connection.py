"""One stream to a combiner: what is given up halfway costs neither the stream nor what comes after it."""

import asyncio
import contextlib

import pytest

from fedn.models.digest import digest
from fedn.network.convert import round_to_wire
from fedn.network.frames import encode_pieces
from fedn.network.generated import combiner_pb2 as link
from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import LimitExceeded
from fedn.protocol.tasks import RoundName
from fedn.reducer.engine.connection import Connection, LinkDown
from fedn.reducer.engine.objects import Download

NAME = RoundName(session="s", index=0, attempt=0, epoch=1)


class FakeStream:
    """As grpc.aio's: a write or read that is cancelled ends the stream; then both say so with CancelledError."""

    def __init__(self):
        self.inbox: asyncio.Queue[object] = asyncio.Queue()
        self.written: list[link.ReducerFrame] = []
        self.free = asyncio.Event()
        self.free.set()
        self.cancelled = asyncio.Event()

    async def read(self):
        return await self._or_cancelled(self.inbox.get())

    async def write(self, request):
        await self._or_cancelled(self.free.wait())
        self.written.append(link.ReducerFrame.FromString(request))

    async def _or_cancelled(self, waited_for):
        work, end = asyncio.ensure_future(waited_for), asyncio.ensure_future(self.cancelled.wait())
        try:
            await asyncio.wait((work, end), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            end.cancel()
            if not work.done():
                work.cancel()
        if self.cancelled.is_set():
            raise asyncio.CancelledError
        return work.result()

    def cancel(self):
        self.cancelled.set()
        return True

    def say(self, **fields):
        self.inbox.put_nowait(link.LinkFrame(**fields).SerializeToString())


class NoClients:
    def snapshot(self, clients): ...

    def changed(self, change): ...


@contextlib.asynccontextmanager
async def connected():
    stream = FakeStream()
    downs: list[Connection] = []
    connection = Connection("c1", stream, NoClients(), downs.append)
    serving = asyncio.create_task(connection.serve())
    try:
        async with asyncio.timeout(60):
            yield connection, stream, downs
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def test_who_gives_up_a_write_does_not_break_the_link():
    async def scenario():
        async with connected() as (connection, stream, downs):
            stream.free.clear()
            asking = asyncio.create_task(connection.close_round(NAME, "enough"))
            await settle()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            stream.free.set()
            await connection.cancel_round(NAME, "enough")
            assert [frame.WhichOneof("control") for frame in stream.written] == ["close", "cancel"]
            assert not downs

    asyncio.run(scenario())


def test_a_write_that_the_end_of_the_stream_cuts_off_says_so_and_cancels_nobody():
    async def scenario():
        async with connected() as (connection, stream, downs):
            stream.free.clear()
            asking = asyncio.create_task(connection.close_round(NAME, "enough"))
            await settle()
            stream.say(problem=wire.Problem(code="link_replaced", message="a newer link took its place"))
            with pytest.raises(LinkDown, match="link_replaced"):
                await asking
            assert downs == [connection]

    asyncio.run(scenario())


def test_what_comes_of_a_fetch_that_was_given_up_is_not_taken_for_the_next_object():
    async def scenario():
        async with connected() as (connection, stream, downs):
            old, new = b"a" * 4000, b"b" * 4000
            first = asyncio.create_task(connection.fetch(Download(digest(old), len(old), 1 << 20)))
            await settle()
            first.cancel()
            await settle()
            wanted = Download(digest(new), len(new), 1 << 20)
            second = asyncio.create_task(connection.fetch(wanted))
            await settle()
            for data in (old, new):
                begin = wire.ObjectBegin(object_id=digest(data), kind=wire.OBJECT_KIND_MODEL, size_bytes=len(data))
                stream.say(object=begin)
                for piece in encode_pieces(data):
                    stream.inbox.put_nowait(piece)
            await second
            assert bytes(wanted.buffer) == new
            assert not downs

    asyncio.run(scenario())


def test_a_round_that_no_combiner_could_read_is_not_sent():
    async def scenario():
        async with connected() as (connection, stream, downs):
            tasks = [wire.Task(task_id=str(number), parameters_json=" " * 100_000) for number in range(100)]
            with pytest.raises(LimitExceeded, match="100 tasks"):
                await connection.start_round(link.StartRound(round=round_to_wire(NAME), tasks=tasks))
            assert not stream.written
            assert not downs

    asyncio.run(scenario())
