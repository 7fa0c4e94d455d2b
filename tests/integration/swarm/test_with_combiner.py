"""Light clients and a real combiner: whole rounds with a reducer of a few lines."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pydantic import PrivateAttr

from fedn.models.digest import digest
from fedn.models.wire import decode, encode
from fedn.network.generated import combiner_pb2
from fedn.protocol.errors import FednError, Unavailable
from fedn.protocol.rest import Assignment
from fedn.protocol.rounds import LedgerState, RoundSpec
from fedn.protocol.tasks import TaskKind
from fedn.swarm.client import LightClient
from fedn.swarm.joining import Token
from fedn.swarm.models import SharedModels
from fedn.swarm.options import Behaviour, SwarmOptions
from fedn.swarm.shared import Shared
from fedn.swarm.statistics import SwarmStatistics
from fedn.swarm.stream import Connections
from tests.support.servers import free_port
from tests.support.wire import PATIENCE_S, Scene, Trust, WireReducer, make_combiner, round_spec, scenario

BASE = bytes(encode({"w": np.arange(5000, dtype=np.float32), "n": np.arange(3)}))
LARGE = bytes(encode({"w": np.zeros(900_000, np.float32)}))
"""Four pieces."""


class StandIn:
    """What a reducer would answer; see `fedn.swarm.joining.Joining`."""

    def __init__(self, scene: Scene, *, ttl_s: float = 3600.0) -> None:
        self.scene, self.ttl_s, self.away = scene, ttl_s, 0
        self.renewed: list[str] = []

    async def enrol(self, name: str, key_pem: bytes) -> Token:
        if self.away:
            self.away -= 1
            raise Unavailable("reducer_unreachable", "the reducer is away")
        return self._token(name)

    async def renew(self, name: str, key_pem: bytes) -> Token:
        self.renewed.append(name)
        return self._token(name)

    async def assign(self, token: Token, preferred: str, avoid: Sequence[str]) -> Assignment:
        fresh = self._token(self.scene.trust.verifier.verify(token.text).subject)
        port = self.scene.combiner.port
        place = {"combiner": "c1", "host": "localhost", "port": port}
        return Assignment(status="assigned", **place, token=fresh.text, expires_at=fresh.expires_at)

    def _token(self, name: str) -> Token:
        return Token(self.scene.trust.token(name), time.time() + self.ttl_s)


class Watched(SwarmStatistics):
    """Says when something was counted."""

    _counted: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self._counted.set()

    def count_break(self, code: str) -> None:
        super().count_break(code)
        self._counted.set()


@dataclass
class Running:
    """Light clients that run."""

    shared: Shared
    clients: list[LightClient]
    counted: asyncio.Event
    ended: dict[str, FednError] = field(default_factory=dict)

    @property
    def statistics(self) -> SwarmStatistics:
        return self.shared.statistics

    @property
    def names(self) -> list[str]:
        return [client.name for client in self.clients]

    async def until(self, condition: Callable[[], object]) -> None:
        """Looks again whenever something was counted."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.counted.clear()
                await self.counted.wait()


@asynccontextmanager
async def swarm(
    scene: Scene,
    numbers: Sequence[int],
    *,
    joining: StandIn | None = None,
    models: SharedModels | None = None,
    **given: Any,
) -> AsyncIterator[Running]:
    behaviour = Behaviour(**{name: given.pop(name) for name in Behaviour.model_fields if name in given})
    watched = Watched()
    options = SwarmOptions(clients=len(numbers), name_base="s", behaviour=behaviour, **given)
    shared = Shared(
        options=options,
        joining=joining or StandIn(scene),  # type: ignore[arg-type]
        connections=Connections(scene.trust.ca, options.streams_per_connection),
        models=models or SharedModels(),
        statistics=watched,
        gate=asyncio.Semaphore(8),
    )
    running = Running(shared, [LightClient(number, b"", shared) for number in numbers], watched._counted)

    async def run(client: LightClient) -> None:
        try:
            await client.run()
        except FednError as error:
            running.ended[client.name] = error
            running.counted.set()
        finally:
            client.tasks.close()

    tasks = [asyncio.create_task(run(client)) for client in running.clients]
    try:
        await running.until(lambda: shared.statistics.attached + len(running.ended) >= len(numbers))
        yield running
    finally:
        await asyncio.gather(*(client.leave() for client in running.clients))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def finish(reducer: WireReducer, spec: RoundSpec, *bases: bytes) -> combiner_pb2.RoundDone:
    """Starts the round, and follows it to its end."""
    await reducer.start(spec, {digest(base): base for base in bases})
    return await reducer.done(spec.name)


@scenario()
async def test_the_combiner_model_is_what_the_constants_make_it(scene: Scene) -> None:
    async with swarm(scene, range(1, 21), step=0.5) as running, scene.reducer() as reducer:
        await reducer.hello()
        for index in (0, 1):
            done = await finish(reducer, round_spec(BASE, running.names, index=index), BASE)
            assert sorted(part.client for part in done.contributions) == running.names
            made = decode(await reducer.fetch(done.model_id) or b"")
            np.testing.assert_allclose(made["w"], np.arange(5000) + 0.5 * 10.5, rtol=1e-6)
            assert made["n"].tolist() == [0, 1, 2]
        await running.until(lambda: running.statistics.updated == 40)
    statistics = running.statistics
    assert (statistics.tasks, statistics.models) == (40, 20)  # the second round's model was held
    assert statistics.received_bytes == 20 * len(BASE)
    assert statistics.sent_bytes == 40 * len(BASE)
    assert statistics.task.count == 40 and statistics.attached == 0
    assert not statistics.breaks and not statistics.refused


@scenario()
async def test_several_streams_share_a_connection(scene: Scene) -> None:
    async with swarm(scene, range(1, 11), streams_per_connection=4) as running, scene.reducer() as reducer:
        await reducer.hello()
        port = scene.combiner.port
        connections = [one for one in psutil.Process().net_connections("tcp") if one.laddr and one.laddr.port == port]
        served = [one for one in connections if one.status == psutil.CONN_ESTABLISHED]
        assert len(served) == 3 + 1  # and the reducer's
        done = await finish(reducer, round_spec(BASE, running.names), BASE)
        assert len(done.contributions) == 10


@pytest.mark.parametrize(("receive", "received"), [("each", 2), ("shared", 1)])
def test_what_the_process_holds_is_sent_again_or_not(trust: Trust, tmp_path: Path, receive: str, received: int) -> None:
    @scenario()
    async def body(scene: Scene) -> None:
        models = SharedModels()
        async with scene.reducer() as reducer:
            await reducer.hello()
            async with swarm(scene, [1], models=models, receive=receive) as first:
                await finish(reducer, round_spec(BASE, first.names, index=0), BASE)
                async with swarm(scene, [2], models=models, receive=receive) as second:
                    done = await finish(reducer, round_spec(BASE, second.names, index=1), BASE)
                    assert [part.client for part in done.contributions] == second.names
        assert first.statistics.models + second.statistics.models == received

    body(trust, tmp_path)


@scenario()
async def test_clients_that_leave_or_vanish_come_back_and_answer(scene: Scene) -> None:
    async with swarm(scene, range(1, 13), dropout_rate=1.0, away_s=0.05) as running, scene.reducer() as reducer:
        await reducer.hello()
        done = await finish(reducer, round_spec(LARGE, running.names), LARGE)
        assert len(done.contributions) == 12
        await running.until(lambda: running.statistics.updated == 12)
    statistics = running.statistics
    assert statistics.went_away == 12 and statistics.attachments == 24 and statistics.away == 0
    assert statistics.tasks == 12  # asked again is not another task
    # What had arrived was not sent again: half an update at the most for each that vanished while it uploaded.
    assert 12 * len(LARGE) <= statistics.sent_bytes < 18 * len(LARGE)


@scenario()
async def test_tasks_that_shall_fail_are_reported_as_failed(scene: Scene) -> None:
    async with swarm(scene, [1, 2], failure_rate=1.0) as running, scene.reducer() as reducer:
        await reducer.hello()
        spec = round_spec(BASE, running.names)
        await reducer.start(spec, {digest(BASE): BASE})
        change = await reducer.ledger("s-00001", LedgerState.FAILED)
        assert (change.problem.code, running.statistics.updated) == ("task_failed", 0)
        assert not (await reducer.done(spec.name)).contributions
    assert running.statistics.failed == 2


@scenario()
async def test_a_slow_link_takes_its_time(scene: Scene) -> None:
    async with swarm(scene, [1], slow_share=1.0, slow_bytes_per_s=2e7) as running, scene.reducer() as reducer:
        await reducer.hello()
        begun = time.monotonic()
        done = await finish(reducer, round_spec(LARGE, running.names), LARGE)
        assert len(done.contributions) == 1
        assert time.monotonic() - begun > 0.8 * len(LARGE) / 2e7


@scenario()
async def test_a_validation_is_answered_with_metrics_alone(scene: Scene) -> None:
    async with swarm(scene, [3], step=2.0) as running, scene.reducer() as reducer:
        await reducer.hello()
        spec = round_spec(BASE, running.names, kind=TaskKind.VALIDATE)
        await reducer.start(spec, {digest(BASE): BASE})
        change = await reducer.ledger("s-00003", LedgerState.UPDATED)
        assert dict(change.metadata.metrics) == {"constant": 6.0}
        await reducer.done(spec.name)


def test_clients_come_back_to_a_combiner_that_was_started_again(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        port = free_port()
        async with make_combiner(trust, tmp_path, port=port) as first:
            scene = Scene(trust, first)
            joining = StandIn(scene)
            running_swarm = swarm(scene, [1, 2, 3], joining=joining)
            running = await running_swarm.__aenter__()
        async with make_combiner(trust, tmp_path, port=port) as second:
            scene.combiner = second
            await running.until(lambda: running.statistics.attached == 3 and second.attached_clients == 3)
            async with scene.reducer() as reducer:
                await reducer.hello()
                done = await finish(reducer, round_spec(BASE, running.names), BASE)
                assert len(done.contributions) == 3
            await running_swarm.__aexit__(None, None, None)
        assert running.statistics.breaks["combiner_stopping"] == 3

    asyncio.run(run())


@scenario()
async def test_a_second_client_of_a_name_with_another_key_gives_up(scene: Scene) -> None:
    other = scene.trust.token("s-00001", key_id="sha256:another key")
    async with scene.client("s-00001", token=other) as wire:
        await wire.hello()
        async with swarm(scene, [1, 2]) as running:
            assert running.ended["s-00001"].code == "name_taken"
            assert running.statistics.attached == 1


@scenario()
async def test_a_reducer_that_is_away_is_asked_again(scene: Scene) -> None:
    joining = StandIn(scene)
    joining.away = 3
    async with swarm(scene, [1], joining=joining) as running:
        assert running.statistics.breaks == {"reducer_unreachable": 3}
        assert running.statistics.enrolled == 1


@scenario()
async def test_pings_are_timed_and_tokens_renewed_while_the_stream_lasts(scene: Scene) -> None:
    joining = StandIn(scene, ttl_s=0.2)
    async with swarm(scene, [1], joining=joining, ping_s=0.01) as running:
        (client,) = running.clients
        loop = asyncio.get_running_loop()

        async with asyncio.timeout(PATIENCE_S):
            while running.statistics.ping.count < 3 or len(joining.renewed) < 2:
                client.tick(loop.time())
                await asyncio.sleep(0.01)  # the clock's part: a tick a second, made quicker
        assert running.statistics.attachments == 1


@scenario()
async def test_a_combiner_that_falls_silent_is_left(scene: Scene) -> None:
    async with swarm(scene, [1], progress_s=5.0) as running:
        (client,) = running.clients
        loop = asyncio.get_running_loop()
        client.tick(loop.time() + 3.0)  # half of the time over: it pings
        client.tick(loop.time() + 60.0)
        await running.until(lambda: running.statistics.attachments == 2)
        assert running.statistics.breaks == {"combiner_lost": 1}
