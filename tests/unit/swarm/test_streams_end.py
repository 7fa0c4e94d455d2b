"""What is closed is gone at once: a connection must not wait for a search for garbage."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import Unavailable
from fedn.swarm.stream import Connections, LightStream


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Owner:
    def sent(self, size_bytes: int) -> None:
        raise AssertionError("nothing is sent here")

    def cut_off(self) -> None:
        raise AssertionError("nothing is sent here")


async def fails(connections: Connections) -> tuple[Unavailable, "weakref.ref[LightStream]"]:
    """A stream to a port that nobody listens at: the error that ends it, kept as a client keeps it."""
    connection = connections.take("127.0.0.1", 1)
    stream = LightStream(connection, "token", "combiner-1", Owner())
    stream.post(wire.ClientFrame())
    try:
        await stream.read()
    except Unavailable as error:
        return error.without_frames(), weakref.ref(stream)
    finally:
        await stream.close()
        await connections.give_back(connection)
    raise AssertionError("somebody listens at port 1")


@pytest.mark.usefixtures("no_garbage_collector")
def test_a_stream_is_freed_when_it_has_ended_although_the_error_that_ended_it_is_kept() -> None:
    async def run() -> None:
        error, stream = await fails(Connections(b"", 1))
        assert error.code == "combiner_lost"
        for _ in range(100):  # gRPC's own callbacks may have a turn to go
            if stream() is None:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"held by {gc.get_referrers(stream())}")

    asyncio.run(run())
