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
from fedn.reducer.engine.objects import Cutter, Download, InMemory

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


def download_of(data):
    sink = InMemory(digest(data))
    return Download(digest(data), len(data), sink), sink


def share(object_id, kind, data):
    cutter = Cutter()
    cutter.add(memoryview(data))
    return cutter.shared(object_id, kind)


async def settle():
    for _ in range(100):
        await asyncio.sleep(0)


def test_orders_do_not_wait_for_the_stream_and_leave_in_order():
    async def scenario():
        async with connected() as (connection, stream, downs):
            stream.free.clear()
            connection.close_round(NAME, "enough")
            connection.cancel_round(NAME, "enough")
            await settle()
            assert not stream.written
            stream.free.set()
            await settle()
            assert [frame.WhichOneof("control") for frame in stream.written] == ["close", "cancel"]
            assert not downs

    asyncio.run(scenario())


def test_who_gives_up_waiting_for_an_answer_does_not_break_the_link():
    async def scenario():
        async with connected() as (connection, stream, downs):
            stream.free.clear()
            asking = asyncio.create_task(connection.start_round(link.StartRound(round=round_to_wire(NAME))))
            await settle()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            stream.free.set()
            connection.cancel_round(NAME, "enough")
            await settle()
            assert [frame.WhichOneof("control") for frame in stream.written] == ["start", "cancel"]
            assert not downs

    asyncio.run(scenario())


def test_an_order_overtakes_an_object_under_way_and_objects_keep_their_order():
    async def scenario():
        async with connected() as (connection, stream, _):
            stream.free.clear()
            for data in (b"a" * (3 << 20), b"b" * 10):
                connection.push(share(digest(data), wire.OBJECT_KIND_MODEL, data))
            await settle()
            connection.close_round(NAME, "enough")
            stream.free.set()
            await settle()
            kinds = [frame.WhichOneof("control") for frame in stream.written]
            assert kinds == ["object", "close", None, None, None, "object", None]
            assert [frame.offset >> 20 for frame in stream.written if frame.data] == [0, 1, 2, 0]

    asyncio.run(scenario())


def test_the_end_of_the_stream_ends_what_waits_to_be_written():
    async def scenario():
        async with connected() as (connection, stream, downs):
            stream.free.clear()
            connection.close_round(NAME, "enough")
            await settle()
            stream.say(problem=wire.Problem(code="link_replaced", message="a newer link took its place"))
            await settle()
            assert downs == [connection]
            with pytest.raises(LinkDown, match="link_replaced"):
                connection.close_round(NAME, "enough")

    asyncio.run(scenario())


def test_a_combiner_that_lets_orders_wait_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr("fedn.reducer.engine.outbox._MAX_WAITING_BYTES", 10_000)

    async def scenario():
        async with connected() as (connection, stream, downs):
            stream.free.clear()
            for _ in range(1000):
                if downs:
                    break
                connection.close_round(NAME, "enough " * 10)
            with pytest.raises(LinkDown, match="does not read"):
                connection.close_round(NAME, "enough")
            assert downs == [connection]

    asyncio.run(scenario())


def test_what_comes_of_a_fetch_that_was_given_up_is_not_taken_for_the_next_object():
    async def scenario():
        async with connected() as (connection, stream, downs):
            old, new = b"a" * 4000, b"b" * 4000
            first = asyncio.create_task(connection.fetch(download_of(old)[0]))
            await settle()
            first.cancel()
            await settle()
            wanted, sink = download_of(new)
            second = asyncio.create_task(connection.fetch(wanted))
            await settle()
            for data in (old, new):
                begin = wire.ObjectBegin(object_id=digest(data), kind=wire.OBJECT_KIND_MODEL, size_bytes=len(data))
                stream.say(object=begin)
                for piece in encode_pieces(data):
                    stream.inbox.put_nowait(piece)
            await second
            assert sink.pieces().copy() == new
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
