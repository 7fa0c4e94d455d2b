"""Messages between agent and worker: whole, in order, bounded."""

import asyncio
import json
import socket
import struct
import threading

import pytest

from fedn.client.worker_channel import AgentEnd, Parser, WorkerEnd, pack


def test_messages_are_whole_whatever_pieces_the_bytes_come_in() -> None:
    data = pack({"op": "a"}, b"xyz") + pack({"op": "b"}) + pack({"op": "c"}, b"!")
    for step in (1, 2, 5, len(data)):
        parser, found = Parser(), []
        for start in range(0, len(data), step):
            parser.feed(data[start : start + step])
            while (message := parser.next()) is not None:
                found.append((message.head["op"], bytes(message.payload)))
        assert found == [("a", b"xyz"), ("b", b""), ("c", b"!")]


def test_worker_reads_all_that_came_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        end = WorkerEnd(theirs)
        assert not end.has_message()
        ours.sendall(pack({"n": 1}) + pack({"n": 2}, b"ab"))
        assert end.has_message()
        assert end.receive().head == {"n": 1}
        assert end.has_message()
        assert bytes(end.receive().payload) == b"ab"
        assert not end.has_message()
        ours.close()
        with pytest.raises(EOFError):
            end.receive()


def test_agent_gets_what_a_worker_said_before_it_went() -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        end = await AgentEnd.open(ours)
        with theirs:
            worker = WorkerEnd(theirs)
            await end.send({"op": "task"}, b"model")
            message = worker.receive()
            assert (message.head, bytes(message.payload)) == ({"op": "task"}, b"model")
            worker.send({"op": "done"}, b"update")
        message = await end.receive()
        assert (message.head, bytes(message.payload)) == ({"op": "done"}, b"update")
        with pytest.raises(EOFError):
            await end.receive()
        with pytest.raises(ConnectionError):
            await end.send({"op": "task"})
        await end.close()

    asyncio.run(scenario())


def test_worker_that_says_much_waits_for_the_agent() -> None:
    number = 200_000

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        end = await AgentEnd.open(ours)
        sent = 0

        def flood() -> None:
            nonlocal sent
            worker = WorkerEnd(theirs)
            for index in range(number):
                worker.send({"n": index})
                sent = index

        thread = threading.Thread(target=flood)
        thread.start()
        assert (await end.receive()).head == {"n": 0}
        await asyncio.sleep(0.2)
        assert sent < number // 2
        for index in range(1, number):
            assert (await end.receive()).head["n"] == index
        thread.join()
        theirs.close()
        await end.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "garbage", [struct.pack("<IQ", 1 << 31, 0), struct.pack("<IQ", 1, 1 << 60), struct.pack("<IQ", 3, 0) + b"{,}"]
)
def test_what_is_no_message_ends_the_channel(garbage: bytes) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        end = await AgentEnd.open(ours)
        with theirs:
            theirs.sendall(pack({"op": "first"}) + garbage)
            assert (await end.receive()).head == {"op": "first"}
            with pytest.raises(ConnectionError, match="message"):
                await end.receive()
        await end.close()

    asyncio.run(scenario())


def test_any_text_and_number_arrives() -> None:
    head = {"text": "é \ud800", "\udc80": [1.5, float("inf"), 1 << 70], "none": None}
    parser = Parser()
    parser.feed(pack(head))
    message = parser.next()
    assert message is not None and message.head == head


def test_head_is_json() -> None:
    message = pack({"text": "é", "number": 1.5})
    assert json.loads(message[12:]) == {"text": "é", "number": 1.5}
