"""The two lanes of a stream, their bounds, and what happens to a peer that does not read."""

import asyncio

import pytest

from fedn.combiner.outbox import Outbox
from fedn.network.bundles import split
from fedn.protocol.errors import Unavailable
from tests.unit.combiner.waiting import Changes


class Wire:
    """Writes into a list; every write but the first waits for `gate`."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.gate = asyncio.Event()
        self.changes = Changes()

    async def write(self, message: bytes) -> None:
        self.written.append(message)
        self.changes.note()
        await self.gate.wait()


def test_control_overtakes_objects_and_a_task_comes_after_its_objects() -> None:
    async def run() -> None:
        wire, outbox = Wire(), Outbox(stall_s=60, max_bytes=1000)
        outbox.put_object(iter([b"begin", b"piece 1", b"piece 2"]))
        outbox.put_in_order(b"task")
        writing = asyncio.create_task(outbox.run(wire.write))
        await wire.changes.until(lambda: wire.written)
        outbox.put(b"ack")
        wire.gate.set()
        await wire.changes.until(lambda: len(wire.written) == 5)
        assert wire.written == [b"begin", b"ack", b"piece 1", b"piece 2", b"task"]
        outbox.end(b"bye")
        await writing
        assert wire.written[-1] == b"bye"
        assert outbox.sent_bytes == sum(map(len, wire.written))

    asyncio.run(run())


def test_ending_drops_what_waits_and_takes_no_more() -> None:
    async def run() -> None:
        wire, outbox = Wire(), Outbox(stall_s=60, max_bytes=1000)
        wire.gate.set()
        outbox.put(b"never sent")
        outbox.put_object(iter([b"nor this"]))
        outbox.end(b"bye")
        outbox.put(b"too late")
        outbox.end(b"second bye")
        await outbox.run(wire.write)
        assert wire.written == [b"bye"]

    asyncio.run(run())


def test_a_peer_for_whom_too_much_waits_is_cut_off() -> None:
    async def run() -> None:
        wire, outbox = Wire(), Outbox(stall_s=60, max_bytes=10)
        writing = asyncio.create_task(outbox.run(wire.write))
        outbox.put(b"x" * 10)
        await wire.changes.until(lambda: wire.written)
        outbox.put(b"x" * 10)
        outbox.put(b"one too many")
        wire.gate.set()
        with pytest.raises(Unavailable, match="peer_too_slow"):
            await writing

    asyncio.run(run())


def test_a_write_that_stalls_ends_the_stream() -> None:
    async def run() -> None:
        wire, outbox = Wire(), Outbox(stall_s=0.01, max_bytes=1000)
        outbox.put(b"stuck")
        with pytest.raises(Unavailable, match="peer_too_slow"):
            await asyncio.create_task(outbox.run(wire.write))

    asyncio.run(run())


def test_a_message_that_nobody_waits_for_leaves_with_the_next_one() -> None:
    async def run() -> None:
        wire, outbox = Wire(), Outbox(stall_s=60, max_bytes=1000, bundles=True, company_s=60)
        wire.gate.set()
        writing = asyncio.create_task(outbox.run(wire.write))
        await asyncio.sleep(0)
        outbox.put_lazily(b"ack")
        await asyncio.sleep(0)
        assert wire.written == []
        outbox.put_in_order(b"task")
        await wire.changes.until(lambda: wire.written)
        assert [bytes(frame) for frame in split(wire.written[0])] == [b"ack", b"task"]
        outbox.end()
        await writing

    asyncio.run(run())


@pytest.mark.parametrize(("bundles", "company_s"), [(True, 0.001), (False, 60)])
def test_a_message_that_nobody_waits_for_leaves_alone_in_the_end(bundles: bool, company_s: float) -> None:
    """At once, to a peer that does not read bundles."""

    async def run() -> None:
        wire, outbox = Wire(), Outbox(stall_s=60, max_bytes=1000, bundles=bundles, company_s=company_s)
        wire.gate.set()
        writing = asyncio.create_task(outbox.run(wire.write))
        outbox.put_lazily(b"ack")
        await wire.changes.until(lambda: wire.written)
        assert wire.written == [b"ack"]
        outbox.end()
        await writing

    asyncio.run(run())


def test_cancelling_the_writer_is_no_failure_of_the_peer() -> None:
    async def run() -> None:
        outbox = Outbox(stall_s=60, max_bytes=1000)
        writing = asyncio.create_task(outbox.run(Wire().write))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    asyncio.run(run())
