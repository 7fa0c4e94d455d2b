"""Workers' streams through the reducer: two combiners that do not reach each other, and the reducer's part between."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from fedn.combiner.combiner import Combiner
from fedn.combiner.workers.peers import RelayToken
from fedn.network.dialing import Endpoint
from fedn.network.generated import worker_pb2 as wire
from fedn.network.tls import grpc_server_credentials
from fedn.network.tokens import Role
from fedn.network.worker_chunks import CHUNK_BYTES, Chunk, encode_chunk
from fedn.protocol.errors import FednError, LimitExceeded
from fedn.reducer.detours.stream import HELD_BYTES, MAX_MESSAGE_BYTES, Detour
from fedn.reducer.detours.streams import Detours
from fedn.workers.backends import Arrival, Backend, Departure
from fedn.workers.relay.backend import Grpc
from tests.support.federation import wait_for
from tests.support.relayed import At, StubDesk
from tests.support.servers import free_port
from tests.support.wire import PATIENCE_S, Trust, make_combiner


class Reducer:
    """What the reducer does for a combiner named `other`, whose workers' groups meet at one named `home`."""

    def __init__(self, trust: Trust, max_streams: int = 8) -> None:
        self.trust = trust
        self.told: list[tuple[Detour, str]] = []
        self.asked: list[str] = []
        """Reasons, one for each time."""
        self.passed: list[int] = []
        """Bytes of each message."""
        self.detours = Detours(
            max_streams, lambda detour, reason: self.told.append((detour, reason)), on_passed=self.passed.append
        )
        self.port = 0
        """Of the home."""
        self.other_port = 0
        self._own = trust.tls("reducer", Role.ADMIN)
        self._other_key_id = ""

    def desk(self, key_id: str) -> "Reducer":
        """Of the other combiner, whose key this is."""
        self._other_key_id = key_id
        return self

    async def relay_token(self, group: str, ticket: str) -> RelayToken:
        return RelayToken(self.trust.issuer.issue_relay("other", "home", 600, self._other_key_id), time.time() + 600)

    async def ask_detour(self, group: str, ticket: str, call: str, reason: str) -> None:
        self.asked.append(reason)
        self.detours.begin(self.between(call), reason)

    def between(self, call: str) -> Detour:
        issuer = self.trust.issuer
        return Detour(
            near=self._endpoint("other", self.other_port, issuer.issue_link("other", 60)),
            far=self._endpoint(
                "home", self.port, issuer.issue_relay("other", "home", 60, self.trust.key_id(self._own))
            ),
            call=call,
        )

    def _endpoint(self, name: str, port: int, token: str) -> Endpoint:
        own = self._own
        return Endpoint(
            combiner=name,
            host="localhost",
            port=port,
            token=token,
            ca=self.trust.ca,
            key=own.key,
            certificate=own.certificate,
        )


@contextlib.asynccontextmanager
async def apart(trust: Trust, folder: Path, **limits: int) -> AsyncIterator[tuple[Combiner, Combiner, Reducer]]:
    """A home, another combiner that is told a dead address of it, and a reducer that reaches both; mutual TLS."""
    reducer = Reducer(trust, **limits)
    reducer.detours.start()
    try:
        async with (
            make_combiner(trust, folder / "home", name="home", mutual_tls=True) as home,
            make_combiner(trust, folder / "other", name="other", mutual_tls=True, desk=reducer.desk) as other,
        ):
            reducer.port, reducer.other_port = home.port, other.port
            yield home, other, reducer
    finally:
        await asyncio.to_thread(reducer.detours.stop)


async def attached(trust: Trust, rank: int, home: At, at: At, patience_s: float = 30) -> Backend:
    desk = StubDesk(trust, rank, 2, home, at)
    return await asyncio.to_thread(lambda: Grpc(desk, stall_s=30, patience_s=patience_s))


def dead() -> At:
    """The home, at an address where nobody listens."""
    return At("home", free_port())


async def ended(reducer: Reducer) -> None:
    """Waits until no stream is left."""
    await asyncio.to_thread(wait_for, lambda: not reducer.detours.streams, "all streams have ended")


def streams_through_reducer(combiner: Combiner) -> float | None:
    return combiner.metrics.registry.get_sample_value("fedn_combiner_worker_streams_through_reducer")


def test_a_worker_whose_home_is_not_reached_goes_through_the_reducer(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with apart(trust, tmp_path) as (home, other, reducer):
            near = await attached(trust, 0, At("home", home.port), At("home", home.port))
            gone = dead()
            far = await attached(trust, 1, gone, At("other", other.port))
            assert streams_through_reducer(other) == 1 and reducer.detours.streams == 1
            assert [(d.near.combiner, d.far.combiner) for d, _ in reducer.told] == [("other", "home")]
            assert "unavailable" in reducer.told[0][1]
            for number in range(20):
                await asyncio.to_thread(near.send, 1, b"%d" % number)
                await asyncio.to_thread(far.send, 0, b"%d" % number)
            for number in range(20):
                assert await asyncio.to_thread(far.receive, 60) == Arrival(0, b"%d" % number)
                assert await asyncio.to_thread(near.receive, 60) == Arrival(1, b"%d" % number)
            await asyncio.to_thread(far.close)
            assert await asyncio.to_thread(near.receive, 60) == Departure(1, None)
            await asyncio.to_thread(near.close)
        assert reducer.detours.held_bytes == reducer.detours.streams == 0 and len(reducer.passed) > 40

    asyncio.run(run())


def test_a_home_that_does_not_answer_is_given_up_in_time(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
            async with apart(trust, tmp_path) as (_home, other, reducer):
                far = await attached(trust, 1, At("home", silent.getsockname()[1]), At("other", other.port))
                assert reducer.asked == ["no answer within 4 s"]
                await asyncio.to_thread(far.close)

    asyncio.run(run())


def test_whom_neither_reaches_is_told_both_reasons(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with apart(trust, tmp_path) as (_home, other, reducer):
            reducer.port = free_port()
            with pytest.raises(FednError) as caught:
                await attached(trust, 1, dead(), At("other", other.port), patience_s=0.1)
            assert caught.value.code == "home_unreachable"
            assert "through the reducer: the combiner 'home' cannot be reached" in caught.value.message

    asyncio.run(run())


def test_more_streams_than_may_be_are_refused_with_the_setting(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with apart(trust, tmp_path, max_streams=0) as (_home, other, reducer):
            with pytest.raises(FednError) as caught:
                await attached(trust, 1, dead(), At("other", other.port), patience_s=0.1)
            assert "may" in caught.value.message
            with pytest.raises(LimitExceeded, match="max_relayed_workers"):
                reducer.detours.begin(reducer.between("x" * 16), "")

    asyncio.run(run())


def test_a_call_that_no_worker_waits_for_is_answered_so(
    trust: Trust, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with apart(trust, tmp_path) as (_home, _other, reducer):
            reducer.detours.begin(reducer.between("nobody waits for this"), "")
            await ended(reducer)
            assert "no worker waits here" in caplog.text and not reducer.told

    asyncio.run(run())


def test_another_combiners_ticket_opens_no_relay(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with apart(trust, tmp_path) as (home, other, _reducer):
            desk = StubDesk(trust, 1, 2, At("home", home.port), At("other", other.port))
            text = desk.place.ticket
            ticket = replace(trust.tickets.verify(text), entrance="elsewhere")
            desk.place = replace(desk.place, ticket=trust.ticket_issuer.issue(ticket))
            with pytest.raises(FednError) as caught:
                await asyncio.to_thread(lambda: Grpc(desk, stall_s=30, patience_s=0.1))
            assert caught.value.code in {"not_attached_there", "home_unreachable"}

    asyncio.run(run())


_COUNT = 200
_STOPPED_S = 2.0


class Ends:
    """Both combiners of one detour, as servers of a few lines: the near one sends all the time, the far one reads only
    when it may."""

    def __init__(self, last: bytes = b"") -> None:
        self.last = last
        """What the near one says at the end."""
        self.beyond: object = None
        """What of that has come to the far one."""
        self.sent = 0
        self.arrived = 0
        self.may_read = asyncio.Event()
        self.stopped = asyncio.Event()
        """Set when the near one waits with a message."""

    async def detour(self, context: Any) -> None:
        await context.read()
        await context.write(wire.WorkerFrame(hello=wire.WorkerHello(instance="1")).SerializeToString())
        for number in range(_COUNT):
            chunk = Chunk(0, 1, number, CHUNK_BYTES, bytes(CHUNK_BYTES))
            writing = asyncio.ensure_future(context.write(encode_chunk(chunk)))
            if not (await asyncio.wait({writing}, timeout=_STOPPED_S))[0]:
                self.stopped.set()
            await writing
            self.sent += CHUNK_BYTES
        if self.last:
            await context.write(self.last)
        while isinstance(await context.read(), bytes):
            continue

    async def relay(self, context: Any) -> None:
        await context.read()
        await context.write(wire.WorkerFrame(welcome=wire.WorkerWelcome()).SerializeToString())
        await self.may_read.wait()
        for _ in range(_COUNT):
            message = await context.read()
            assert isinstance(message, bytes)
            self.arrived += len(message)
        if self.last:
            self.beyond = await context.read()


async def serving(trust: Trust, name: str, method: str, handler: Callable[[Any], Any]) -> tuple[grpc.aio.Server, int]:
    files = trust.tls(name, Role.COMBINER)

    async def serve(_: object, context: Any) -> None:
        await handler(context)

    server = grpc.aio.server()
    handlers = {method: grpc.stream_stream_rpc_method_handler(serve)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("fedn.v1.WorkerService", handlers),))
    port = server.add_secure_port(
        "localhost:0", grpc_server_credentials(files.key, files.certificate, files.ca, mutual=False)
    )
    await server.start()
    return server, port


async def run_between(trust: Trust, ends: Ends, check: Callable[[], Awaitable[None]]) -> None:
    """One detour between these two, until it ends; `check` is awaited meanwhile."""
    reducer = Reducer(trust)
    near, reducer.other_port = await serving(trust, "other", "Detour", ends.detour)
    far, reducer.port = await serving(trust, "home", "Relay", ends.relay)
    reducer.detours.start()
    try:
        reducer.detours.begin(reducer.between("x" * 16), "for a test")
        await check()
        assert reducer.detours.held_bytes <= 2 * CHUNK_BYTES
        ends.may_read.set()
        await ended(reducer)
    finally:
        await near.stop(None)
        await far.stop(None)
        await asyncio.to_thread(reducer.detours.stop)


def test_a_home_that_does_not_read_stops_the_sender_within_the_stated_bound(trust: Trust) -> None:
    async def run() -> None:
        ends = Ends()

        async def check() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await ends.stopped.wait()
            # Besides what the reducer holds, the far end has read ahead up to 4 MiB, and the sockets hold something.
            assert ends.sent <= HELD_BYTES + (8 << 20) < _COUNT * CHUNK_BYTES

        await run_between(trust, ends, check)
        assert ends.arrived >= ends.sent == _COUNT * CHUNK_BYTES

    asyncio.run(run())


def test_a_message_beyond_the_bound_ends_the_stream(trust: Trust) -> None:
    async def run() -> None:
        ends = Ends(last=bytes(MAX_MESSAGE_BYTES + 1))
        ends.may_read.set()

        async def check() -> None:
            """Nothing: the far one reads on and on."""

        await run_between(trust, ends, check)
        assert ends.sent == _COUNT * CHUNK_BYTES and not isinstance(ends.beyond, bytes)

    asyncio.run(run())
