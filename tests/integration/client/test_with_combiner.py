"""Clients and a real combiner: whole rounds between a reducer of a few lines and learners in their workers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.combiner.combiner import Combiner
from fedn.combiner.options import CombinerOptions, TlsFiles
from fedn.models.digest import digest
from fedn.models.wire import decode
from fedn.network.tickets import TicketVerifier
from fedn.network.tls import grpc_channel_credentials, make_csr, new_private_key
from fedn.network.tokens import Role, TokenVerifier
from fedn.plan.package import build_package
from fedn.plan.settings import ClientSettings
from fedn.protocol.rounds import LedgerState
from tests.integration.client.conftest import model_of, running
from tests.integration.client.stand_ins import FakeReducer, Place
from tests.integration.client.test_packages import write_package
from tests.support.fake_combiner import PACKAGE
from tests.support.wire import WireReducer, round_spec

MakeSettings = Callable[..., ClientSettings]
BASE, BASE_BYTES = model_of(np.arange(4, dtype=np.float32), np.zeros(600_000, np.float32))


class Scene:
    """Combiners that can be killed and started again at the same port, and the reducer's streams to them."""

    def __init__(self, reducer: FakeReducer, folder: Path) -> None:
        self.reducer = reducer
        self._folder = folder / "combiner"
        self._verifier = TokenVerifier(reducer.issuer.public_key_pem, reducer.federation)
        self._tickets = TicketVerifier(reducer.issuer.public_key_pem, reducer.federation)

    def _tls(self, name: str, role: Role) -> TlsFiles:
        key, ca = new_private_key(), self.reducer.ca
        hosts = ["localhost"] if role is Role.COMBINER else []
        certificate = ca.sign(make_csr(key, name), name=name, role=role, hosts=hosts, valid_days=1)
        return TlsFiles(key, certificate, ca.certificate_pem)

    def combiner(self, port: int = 0, name: str = "c1") -> Combiner:
        options = CombinerOptions(
            name=name,
            federation=self.reducer.federation,
            data_dir=self._folder,
            bind="localhost",
            port=port,
            mutual_tls=True,
        )
        return Combiner(options, verifier=self._verifier, tickets=self._tickets, tls=self._tls(name, Role.COMBINER))

    @asynccontextmanager
    async def link(self, combiner: Combiner) -> AsyncIterator[WireReducer]:
        files = self._tls("reducer", Role.ADMIN)
        token = self.reducer.issuer.issue_link(combiner.options.name, 600)
        credentials = grpc_channel_credentials(files.ca, files.key, files.certificate)
        async with WireReducer(f"localhost:{combiner.port}", token, credentials) as link:
            await link.hello(federation=self.reducer.federation)
            yield link

    @asynccontextmanager
    async def running(self, *clients: ClientSettings) -> AsyncIterator[tuple[WireReducer, Combiner]]:
        async with AsyncExitStack() as stack:
            combiner = await stack.enter_async_context(self.combiner())
            self.reducer.places = [Place("c1", combiner.port)]
            link = await stack.enter_async_context(self.link(combiner))
            agents = [await stack.enter_async_context(running(settings)) for settings in clients]
            for agent in agents:
                await agent.wait_attached()
            yield link, combiner


@pytest.fixture
def scene(reducer: FakeReducer, tmp_path: Path) -> Scene:
    return Scene(reducer, tmp_path)


@pytest.fixture
def clients(settings: MakeSettings, tmp_path: Path) -> list[ClientSettings]:
    return [settings(name=name, data_dir=tmp_path / name) for name in ("alice", "bob")]


def test_rounds_of_two_clients_give_the_mean(scene: Scene, clients: list[ClientSettings]) -> None:
    async def scenario() -> None:
        async with scene.running(*clients) as (link, _):
            base = BASE_BYTES
            for index in range(3):
                spec = round_spec(base, ["alice", "bob"], index=index)
                await link.start(spec, {digest(base): base})
                done = await link.done(spec.name)
                assert done.weight == 14
                fetched = await link.fetch(done.model_id)
                assert fetched is not None
                await link.order("commit_ack", spec.name)
                base = fetched
            np.testing.assert_array_equal(decode(base)["0"], np.arange(4) + 3)

    asyncio.run(scenario())


def test_failing_client_is_in_the_ledger_and_the_round_goes_on(scene: Scene, clients: list[ClientSettings]) -> None:
    async def scenario() -> None:
        async with scene.running(*clients) as (link, _):
            spec = round_spec(BASE_BYTES, ["alice", "bob"])
            bad = spec.tasks[1].model_copy(update={"parameters": {"step": "raise"}})
            spec = spec.model_copy(update={"tasks": (spec.tasks[0], bad)})
            await link.start(spec, {BASE: BASE_BYTES})
            failed = await link.ledger("bob", LedgerState.FAILED)
            assert "no such column" in failed.problem.message
            assert (await link.done(spec.name)).weight == 7

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("changes", "missing", "who"),
    [
        ({"scaling_factor": "NumCompletedBatches"}, "num_steps", "the scaling factor NumCompletedBatches"),
        ({"rule": "fednova"}, "num_steps", "the rule fednova"),
        ({"required_metadata": {"ms_per_epoch": "the scheduler semi_synchronous"}}, "ms_per_epoch", "the scheduler"),
    ],
)
def test_a_client_says_itself_which_number_its_learner_left_out(
    scene: Scene, clients: list[ClientSettings], changes: dict[str, Any], missing: str, who: str
) -> None:
    async def scenario() -> None:
        async with scene.running(clients[0]) as (link, _):
            spec = round_spec(BASE_BYTES, ["alice"], **changes)
            # What the learner returns then has num_examples alone.
            task = spec.tasks[0].model_copy(update={"parameters": {"step": "keep"}})
            await link.start(spec.model_copy(update={"tasks": (task,)}), {BASE: BASE_BYTES})
            failed = await link.ledger("alice", LedgerState.FAILED)
            assert failed.problem.code == "update_lacks_metadata"
            assert missing in failed.problem.message and who in failed.problem.message
            # It was found before anything was uploaded.
            assert failed.up_bytes == 0

    asyncio.run(scenario())


def test_package_reaches_the_clients_through_the_combiner(scene: Scene, settings: MakeSettings, tmp_path: Path) -> None:
    packed = build_package(write_package(tmp_path / "package"))
    mine = settings(learner=None)

    async def scenario() -> None:
        async with scene.running(mine) as (link, _):
            spec = round_spec(BASE_BYTES, ["alice"], package_id=digest(packed))
            status = await link.start(spec, {BASE: BASE_BYTES})
            assert digest(packed) in status.needed_objects
            await link.push(digest(packed), packed, PACKAGE)
            assert (await link.done(spec.name)).weight == 11

    asyncio.run(scenario())


def test_nobody_trains_twice_when_the_combiner_was_restarted(scene: Scene, clients: list[ClientSettings]) -> None:
    mine = clients[0]

    async def scenario() -> None:
        async with scene.running(mine) as (link, combiner):
            spec = round_spec(BASE_BYTES, ["alice"])
            waiting = spec.tasks[0].model_copy(update={"parameters": {"step": "wait"}})
            spec = spec.model_copy(update={"tasks": (waiting,)})
            await link.start(spec, {BASE: BASE_BYTES})
            await link.ledger("alice", LedgerState.TRAINING)
            port = combiner.port
            await combiner.stop()
            async with scene.combiner(port) as second, scene.link(second) as again:
                (mine.data_dir / "work" / "go").touch()
                retried = spec.model_copy(update={"name": spec.name.model_copy(update={"attempt": 1})})
                await again.expect("client")
                await again.start(retried, {BASE: BASE_BYTES})
                assert (await again.done(retried.name)).weight == 7

    asyncio.run(scenario())
    assert (mine.data_dir / "work" / "trained").read_text().split() == ["s-0-alice"]
