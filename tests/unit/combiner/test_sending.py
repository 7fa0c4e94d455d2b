"""How much of the objects is on its way to clients at one moment."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fedn.combiner.outbox import Outbox
from fedn.combiner.sending import SendGate
from tests.unit.combiner.waiting import Changes


def on_loop(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(body())


def test_what_fits_goes_at_once_and_the_rest_in_its_turn() -> None:
    async def run() -> None:
        gate, granted = SendGate(10, 60.0), []
        first = gate.request(6, lambda: granted.append("first"))
        second = gate.request(6, lambda: granted.append("second"))
        third = gate.request(1, lambda: granted.append("third"))
        assert (first.granted, second.granted, third.granted) == (True, False, False)  # nobody overtakes
        gate.leave(first)
        assert granted == ["second", "third"]
        assert gate.waiting == 0
        gate.close()

    on_loop(run)


def test_a_message_larger_than_all_goes_alone() -> None:
    async def run() -> None:
        gate = SendGate(10, 60.0)
        large, small = gate.request(1000, lambda: None), gate.request(1, lambda: None)
        assert large.granted and not small.granted
        gate.leave(large)
        assert small.granted
        gate.close()

    on_loop(run)


def test_one_who_waits_may_go_away() -> None:
    async def run() -> None:
        gate = SendGate(10, 60.0)
        first, second, third = (gate.request(10, lambda: None) for _ in range(3))
        gate.leave(second)
        gate.leave(first)
        assert third.granted and gate.waiting == 0
        gate.leave(third)
        assert gate.request(10, lambda: None).granted
        gate.close()

    on_loop(run)


def test_a_slow_peer_is_not_waited_for() -> None:
    async def run() -> None:
        gate, turn = SendGate(10, 0.01), asyncio.Event()
        slow = gate.request(10, lambda: None)
        waiting = gate.request(10, turn.set)
        async with asyncio.timeout(60):
            await turn.wait()
        assert waiting.granted
        gate.leave(slow)  # what did not count any more gives nothing back
        assert not gate.request(10, lambda: None).granted
        gate.close()

    on_loop(run)


def test_a_model_that_is_due_at_many_is_on_its_way_to_few() -> None:
    async def run() -> None:
        gate = SendGate(3 * 100, 60.0)
        under_way, most, done, released, changes = 0, 0, 0, asyncio.Event(), Changes()

        async def write(message: bytes) -> None:
            nonlocal under_way, most, done
            if len(message) == 100:
                under_way += 1
                most = max(most, under_way)
                await released.wait()
                under_way -= 1
            done += 1
            changes.note()

        outboxes = [Outbox(stall_s=60, max_bytes=1000, gate=gate) for _ in range(20)]
        writing = [asyncio.create_task(outbox.run(write)) for outbox in outboxes]
        for outbox in outboxes:
            outbox.put_object(iter([bytes(100), bytes(100)]))
            outbox.put_in_order(b"task")
        await asyncio.sleep(0)
        released.set()
        await changes.until(lambda: done == 20 * 3)
        assert most == 3
        for outbox in outboxes:
            outbox.end()
        await asyncio.gather(*writing)
        gate.close()

    on_loop(run)


def test_control_messages_go_on_while_a_piece_waits_for_the_gate() -> None:
    async def run() -> None:
        gate, written, changes = SendGate(10, 60.0), [], Changes()
        other = gate.request(10, lambda: None)
        outbox = Outbox(stall_s=60, max_bytes=1000, gate=gate)

        async def write(message: bytes) -> None:
            written.append(message)
            changes.note()

        writing = asyncio.create_task(outbox.run(write))
        outbox.put_object(iter([b"piece"]))
        await asyncio.sleep(0)
        outbox.put(b"pong")
        await changes.until(lambda: written == [b"pong"])
        gate.leave(other)
        await changes.until(lambda: written == [b"pong", b"piece"])
        outbox.end()
        await writing
        gate.close()

    on_loop(run)


def test_a_stream_that_ends_leaves_the_gate() -> None:
    async def run() -> None:
        gate = SendGate(10, 60.0)
        other = gate.request(10, lambda: None)
        outbox = Outbox(stall_s=60, max_bytes=1000, gate=gate)
        outbox.put_object(iter([b"piece"]))

        async def write(message: bytes) -> None:
            raise AssertionError("nothing may be written")

        writing = asyncio.create_task(outbox.run(write))
        await asyncio.sleep(0)
        assert gate.waiting == 1
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert gate.waiting == 0
        gate.leave(other)
        gate.close()

    on_loop(run)
