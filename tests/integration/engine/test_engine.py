"""The reducer's engine with real combiners over real gRPC and TLS; the clients are a few lines that the test steers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fedn.combiner.combiner import Combiner
from fedn.models.digest import ALGORITHM
from fedn.models.wire import decode, encode
from fedn.network.generated import common_pb2
from fedn.network.tls import grpc_channel_credentials
from fedn.network.tokens import Role, Signer
from fedn.plan.session import SessionPlan
from fedn.plan.settings import ReducerSettings
from fedn.protocol.errors import Conflict, StoreUnavailable
from fedn.protocol.rest import CombinerHeartbeat, CombinerRegistration
from fedn.protocol.rounds import RoundKind
from fedn.protocol.tasks import TaskKind
from fedn.reducer.catalog import Catalog
from fedn.reducer.engine.engine import Engine
from fedn.reducer.events import EventLog
from fedn.reducer.registry import Registry
from fedn.reducer.trail import Trail
from fedn.stores.memory import MemoryModelStore
from fedn.stores.sqlite import SqliteStateStore
from tests.support.federation import wait_for
from tests.support.wire import FEDERATION, Trust, WireClient, make_combiner

KINDS = [common_pb2.TASK_KIND_TRAIN, common_pb2.TASK_KIND_VALIDATE]


@dataclass
class Tls:
    ca_pem: bytes
    cert_pem: bytes
    key_pem: bytes


class FlakyModelStore(MemoryModelStore):
    """Away for as many `put`s as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.away = 0

    def put(self, object_id, chunks, size_bytes):
        if self.away:
            self.away -= 1
            raise StoreUnavailable("store_unavailable", "away")
        super().put(object_id, chunks, size_bytes)


class Tier1:
    """The parts of a reducer that its engine needs, on stores that outlive it."""

    def __init__(self, folder: Path, trust: Trust) -> None:
        self.folder, self.trust = folder, trust
        self.models = FlakyModelStore()
        self.epoch = 0
        files = trust.tls("reducer", Role.COMBINER)
        self.tls = Tls(trust.ca, files.certificate, files.key)
        self._parts = contextlib.ExitStack()

    def start(self) -> None:
        self.epoch += 1
        parts = self._parts = contextlib.ExitStack()
        self.state = SqliteStateStore(self.folder / "state.db")
        parts.callback(self.state.close)
        self.events = EventLog(self.state, clock=time.time)
        self.events.start()
        parts.callback(self.events.stop)
        self.registry = Registry(self.state, self.events, dead_after_s=2.0)
        self.registry.start()
        parts.callback(self.registry.stop)
        self.trail = Trail(self.state, FEDERATION, Signer(self.folder / "trail.pem"), self.epoch)
        self.catalog = Catalog(
            state=self.state,
            models=self.models,
            trail=self.trail,
            events=self.events,
            algorithm=ALGORITHM,
            max_model_bytes=1 << 30,
            max_package_bytes=1 << 20,
        )
        self.engine = Engine(
            state=self.state,
            models=self.models,
            trail=self.trail,
            registry=self.registry,
            events=self.events,
            catalog=self.catalog,
            tokens=self.trust.link_issuer,
            tls=self.tls,
            epoch=self.epoch,
            settings=ReducerSettings(federation=FEDERATION, data_dir=self.folder, combiner_dead_after_s=2.0),
        )
        self.engine.start()
        parts.callback(self.engine.stop)

    @property
    def sessions(self):
        return self.engine.sessions

    def stop(self) -> None:
        self._parts.close()

    def add(self, combiner: Combiner) -> None:
        self.registry.register(
            CombinerRegistration(
                name=combiner.options.name,
                host="localhost",
                port=combiner.port,
                max_clients=9,
                instance=combiner.instance,
            )
        )


@dataclass
class Site:
    """A client that trains by adding `step`, as often as it is asked, until told to be silent."""

    wire: WireClient
    step: float
    examples: int
    trained: int = 0
    answers: asyncio.Event | None = None

    async def serve(self) -> None:
        assert self.answers is not None
        with contextlib.suppress(AssertionError, TimeoutError):
            while True:
                task = await self.wire.accept()
                await self.answers.wait()
                await self._answer(task)

    async def _answer(self, task: common_pb2.Task) -> None:
        base = decode(bytes(self.wire.objects[task.model_id])) if task.model_id else {}
        mean = {"mean": float(base["w"].mean())} if base else {}
        match task.kind:
            case common_pb2.TASK_KIND_TRAIN:
                self.trained += 1
                update = encode({name: array + np.asarray(self.step, array.dtype) for name, array in base.items()})
                await self.wire.answer(
                    task, bytes(update), num_examples=self.examples, metrics={"loss": self.step}, validation=mean
                )
            case common_pb2.TASK_KIND_VALIDATE:
                await self.wire.answer(task, b"", metrics=mean, num_examples=0, num_validation_examples=5)
            case common_pb2.TASK_KIND_INIT:
                await self.wire.answer(task, bytes(encode({"w": np.ones(3, np.float32)})), num_examples=1)
            case common_pb2.TASK_KIND_PREDICT:
                await self.wire.answer(task, bytes(encode({"p": base["w"] * 2})), num_examples=1)


class Stage:
    """Combiners and sites around a tier 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trust = Trust(folder)
        self.tier1 = Tier1(folder, self.trust)
        self.combiners: dict[str, Combiner] = {}
        self.sites: dict[str, Site] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def combiner(self, name: str, **options: object) -> Combiner:
        combiner = make_combiner(self.trust, self.folder / name, name=name, **options)
        await combiner.start()
        self.combiners[name] = combiner
        await asyncio.to_thread(self.tier1.add, combiner)
        return combiner

    async def site(self, name: str, combiner: str, *, step: float = 1.0, examples: int = 10, kinds=None) -> Site:
        address = f"localhost:{self.combiners[combiner].port}"
        wire = WireClient(name, address, self.trust.token(name), grpc_channel_credentials(self.trust.ca))
        site = self.sites[name] = Site(wire, step, examples, answers=asyncio.Event())
        site.answers.set()
        await wire.hello(kinds=kinds or KINDS)
        self._tasks.append(asyncio.create_task(site.serve()))
        return site

    async def until(self, condition, what: str):
        """Looks again and again, in a thread; what is not there yet counts as no."""
        return await asyncio.to_thread(wait_for, condition, what)

    async def ended(self, session: str):
        def view():
            found = self.tier1.sessions.get(session)
            return found if found.state != "running" else None

        return await self.until(view, "the session ends")

    async def run(self, kind: RoundKind = RoundKind.TRAIN, **plan: object):
        view = await asyncio.to_thread(self.tier1.sessions.start, SessionPlan(**plan), None, kind)
        return await self.ended(view.id)

    async def attached(self, count: int) -> None:
        await self.until(lambda: len(self.tier1.sessions.attached_clients()) == count, f"{count} clients")

    def global_model(self) -> dict[str, np.ndarray]:
        head = self.tier1.trail.head()
        return decode(b"".join(self.tier1.models.read(head.model_id)))

    async def close(self) -> None:
        for site in self.sites.values():
            await site.wire.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.tier1.stop)
        for combiner in self.combiners.values():
            await combiner.stop()


@contextlib.asynccontextmanager
async def stage(folder: Path, *, seeded: bool = True) -> AsyncIterator[Stage]:
    scene = Stage(folder)
    await asyncio.to_thread(scene.tier1.start)
    try:
        if seeded:
            model = encode({"w": np.zeros(5, np.float32), "n": np.zeros((), np.int64)})
            await asyncio.to_thread(scene.tier1.catalog.add_seed, bytes(model))
        yield scene
    finally:
        await scene.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a round waits for after a combiner is gone is not what these tests are about."""
    monkeypatch.setattr("fedn.reducer.engine.roster.REATTACH_GRACE_S", 0.2)
    return


def ledger_of(tier1, session, index):
    return {
        e.client: (str(e.state), e.reason.code if e.reason else "") for e in tier1.sessions.round(session, index).ledger
    }


def test_rounds_over_two_combiners_are_weighted_by_examples(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            await scene.site("a", "c1", step=1, examples=100)
            await scene.site("b", "c2", step=4, examples=1)
            await scene.site("c", "c2", step=2, examples=7)
            await scene.site("eyes", "c1", kinds=[common_pb2.TASK_KIND_VALIDATE])
            await scene.attached(4)
            view = await scene.run(rounds=3, clients_required=3)
            assert (view.state, view.rounds_done) == ("finished", 3), view.error
            expected = 3 * (100 * 1 + 1 * 4 + 7 * 2) / 108
            np.testing.assert_allclose(scene.global_model()["w"], expected, rtol=1e-6)
            assert scene.global_model()["n"].dtype == np.int64
            tier1 = scene.tier1
            rounds = tier1.sessions.rounds(view.id)
            assert [str(r.kind) for r in rounds] == ["train"] * 3 + ["validate"]
            assert rounds[0].metrics == {"loss": pytest.approx((100 + 4 + 14) / 108)}
            assert set(rounds[0].times_ms) == {"waiting", "training", "collecting", "aggregation", "commit", "total"}
            await scene.until(lambda: tier1.trail.count_validations(session=view.id) == 16, "all validations")
            assert tier1.trail.verify().length == 4
            # Nothing is left at the combiners after the commits.
            await scene.until(lambda: not any(c.rounds for c in scene.combiners.values()), "rounds are released")

    asyncio.run(scenario())


def test_a_combiner_that_dies_is_left_out_of_the_round(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            dying = await scene.combiner("c2")
            await scene.site("a", "c1")
            b = await scene.site("b", "c2", step=50)
            await scene.attached(2)
            b.answers.clear()
            view = await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(rounds=2, validate=False))
            await scene.until(
                lambda: ledger_of(scene.tier1, view.id, 0).get("b", ("",))[0] == "training", "b is training"
            )
            await scene.combiners.pop("c2").stop()
            done = await scene.ended(view.id)
            assert done.state == "finished", done.error
            assert ledger_of(scene.tier1, view.id, 0)["b"][0] == "disconnected"
            np.testing.assert_allclose(scene.global_model()["w"], 2.0)
            assert dying.rounds == 0

    asyncio.run(scenario())


def test_a_round_without_quorum_is_tried_again_with_the_clients_that_are_left(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            await scene.site("a", "c1")
            b = await scene.site("b", "c2")
            await scene.attached(2)
            b.answers.clear()
            plan = SessionPlan(rounds=1, clients_required=2, validate=False)
            view = await asyncio.to_thread(scene.tier1.sessions.start, plan)
            await scene.until(
                lambda: ledger_of(scene.tier1, view.id, 0).get("b", ("",))[0] == "training", "b is training"
            )
            await scene.combiners.pop("c2").stop()
            await b.wire.close()
            again = await scene.site("b", "c1")
            done = await scene.ended(view.id)
            assert done.state == "finished", done.error
            assert scene.tier1.sessions.round(view.id, 0).attempt == 1
            assert again.trained == 1

    asyncio.run(scenario())


def test_a_reducer_that_comes_back_goes_on_with_the_round_that_runs(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            c1 = await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            a.answers.clear()
            view = await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(rounds=2))
            await scene.until(
                lambda: ledger_of(scene.tier1, view.id, 0).get("a", ("",))[0] == "training", "a is training"
            )
            await asyncio.to_thread(scene.tier1.stop)
            a.answers.set()
            await asyncio.to_thread(scene.tier1.start)
            await asyncio.to_thread(scene.tier1.registry.heartbeat, "c1", CombinerHeartbeat(instance=c1.instance))
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 2), done.error
            assert a.trained == 2
            assert [e.epoch for e in scene.tier1.trail.entries()] == [1, 2, 2]
            assert scene.tier1.sessions.round(view.id, 0).attempt == 0
            assert scene.tier1.trail.verify().length == 3

    asyncio.run(scenario())


def test_the_round_waits_for_a_store_that_is_away(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            scene.tier1.models.away = 3
            view = await scene.run(rounds=2, validate=False)
            assert view.state == "finished", view.error
            assert a.trained == 2
            kinds = [event.kind for event in scene.tier1.events.latest(100)]
            assert kinds.count("store_unavailable") == kinds.count("store_back") == 1

    asyncio.run(scenario())


def test_stop_resume_and_only_one_session_at_a_time(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            a.answers.clear()
            sessions = scene.tier1.sessions
            view = await asyncio.to_thread(sessions.start, SessionPlan(rounds=2, validate=False))
            with pytest.raises(Conflict, match="running"):
                await asyncio.to_thread(sessions.start, SessionPlan())
            await scene.until(lambda: ledger_of(scene.tier1, view.id, 0).get("a", ("",))[0] == "training", "training")
            stopped = await asyncio.to_thread(sessions.stop, view.id)
            assert stopped.state == "stopped"
            assert str(sessions.round(view.id, 0).state) == "cancelled"
            with pytest.raises(Conflict, match="not running"):
                await asyncio.to_thread(sessions.stop, view.id)
            a.answers.set()
            await asyncio.to_thread(sessions.resume, view.id)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 2)
            with pytest.raises(Conflict, match="finished"):
                await asyncio.to_thread(sessions.resume, view.id)

    asyncio.run(scenario())


def test_without_a_seed_a_client_is_asked_if_the_plan_says_so(tmp_path):
    async def scenario():
        async with stage(tmp_path, seeded=False) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1", kinds=[*KINDS, common_pb2.TASK_KIND_INIT, common_pb2.TASK_KIND_PREDICT])
            await scene.attached(1)
            with pytest.raises(Conflict, match="no_seed_model"):
                await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan())
            view = await scene.run(rounds=1, seed_from_client=True)
            assert view.state == "finished", view.error
            np.testing.assert_allclose(scene.global_model()["w"], 2.0)
            view = await scene.run(RoundKind.PREDICT)
            assert view.state == "finished", view.error
            (found,) = scene.tier1.sessions.predictions(view.id)
            predicted = decode(b"".join(scene.tier1.models.read(found.object_id)))
            np.testing.assert_allclose(predicted["p"], 4.0)
            view = await scene.run(RoundKind.VALIDATE)
            assert view.state == "finished", view.error
            assert str(scene.tier1.sessions.rounds(view.id)[0].kind) == TaskKind.VALIDATE

    asyncio.run(scenario())


def test_too_few_clients_fail_the_session_with_what_to_do(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            view = await scene.run(rounds=1, clients_required=2, wait_for_clients_s=0.1)
            assert view.state == "failed"
            assert view.error.code == "too_few_clients"
            assert "1 clients" in view.error.message
            assert view.error.fix

    asyncio.run(scenario())


def test_a_plan_that_starts_from_an_older_model_rolls_back_to_it(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            seed = scene.tier1.trail.head().model_id
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            await scene.run(rounds=2, validate=False)
            await scene.run(rounds=1, validate=False, model_id=seed)
            np.testing.assert_allclose(scene.global_model()["w"], 1.0)
            kinds = [str(e.kind) for e in scene.tier1.trail.entries()]
            assert kinds == ["seed", "round", "round", "rollback", "round"]
            assert scene.tier1.trail.verify().length == 5

    asyncio.run(scenario())
