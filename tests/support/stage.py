"""The reducer's engine on a stage: real combiners over gRPC and TLS, and clients of a few lines that a test steers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedn.combiner.combiner import Combiner
from fedn.models.digest import ALGORITHM
from fedn.models.wire import decode, encode
from fedn.network.generated import common_pb2
from fedn.network.tls import grpc_channel_credentials
from fedn.network.tokens import Role, Signer
from fedn.plan.session import SessionPlan
from fedn.plan.settings import ReducerSettings
from fedn.protocol.errors import StoreUnavailable
from fedn.protocol.rest import CombinerRegistration
from fedn.protocol.rounds import RoundKind
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
    """Away for as many objects, or attempts at one, as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.away = 0

    def _add(self, object_id, data):
        if self.away:
            self.away -= 1
            raise StoreUnavailable("store_unavailable", "away")
        super()._add(object_id, data)


class Tier1:
    """The parts of a reducer that its engine needs, on stores that outlive it."""

    def __init__(self, folder: Path, trust: Trust, dead_after_s: float) -> None:
        self.folder, self.trust, self.dead_after_s = folder, trust, dead_after_s
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
        self.registry = Registry(self.state, self.events, dead_after_s=self.dead_after_s)
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
            tokens=self.trust.issuer,
            tls=self.tls,
            epoch=self.epoch,
            settings=ReducerSettings(
                federation=FEDERATION, data_dir=self.folder, combiner_dead_after_s=self.dead_after_s
            ),
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
    asked: int = 0
    """Tasks that came."""
    answers: asyncio.Event | None = None
    says: dict[str, object] = field(default_factory=dict)
    """More of an update's metadata."""
    shrinks: float = 1.0
    """What the model is multiplied by before `step` is added."""
    update_of: Callable[[common_pb2.Task, bytes], bytes] | None = None
    """What is sent as the update, of a task and its model; None: the model with `step` added."""
    rests_after: int | None = None
    """Train tasks after which it is silent, until told to go on."""
    budgets: list[int] = field(default_factory=list)
    """Steps that its train tasks asked for; 0 where they left it to the learner."""

    async def serve(self) -> None:
        assert self.answers is not None
        with contextlib.suppress(AssertionError, TimeoutError):
            while True:
                task = await self.wire.accept()
                self.asked += 1
                await self.answers.wait()
                await self._answer(task)

    def _trained(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(self.shrinks * array + self.step).astype(array.dtype)

    async def _answer(self, task: common_pb2.Task) -> None:
        held = bytes(self.wire.objects[task.model_id]) if task.model_id else b""
        base = decode(held) if held else {}
        mean = {"mean": float(base["w"].mean())} if "w" in base else {}
        match task.kind:
            case common_pb2.TASK_KIND_TRAIN:
                self.trained += 1
                self.budgets.append(task.step_budget)
                if self.trained == self.rests_after:
                    self.answers.clear()
                if self.update_of is not None:
                    update = self.update_of(task, held)
                else:
                    update = encode({name: self._trained(array) for name, array in base.items()})
                metrics = {"loss": self.step}
                await self.wire.answer(
                    task, bytes(update), num_examples=self.examples, metrics=metrics, validation=mean, **self.says
                )
            case common_pb2.TASK_KIND_VALIDATE:
                await self.wire.answer(task, b"", metrics=mean, num_examples=0, num_validation_examples=5)
            case common_pb2.TASK_KIND_INIT:
                await self.wire.answer(task, bytes(encode({"w": np.ones(3, np.float32)})), num_examples=1)
            case common_pb2.TASK_KIND_PREDICT:
                await self.wire.answer(task, bytes(encode({"p": base["w"] * 2})), num_examples=1)


class Stage:
    """Combiners and sites around a tier 1."""

    def __init__(self, folder: Path, dead_after_s: float) -> None:
        self.folder = folder
        self.trust = Trust(folder)
        self.tier1 = Tier1(folder, self.trust, dead_after_s)
        self.combiners: dict[str, Combiner] = {}
        self.sites: dict[str, Site] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def combiner(self, name: str, **options: object) -> Combiner:
        combiner = make_combiner(self.trust, self.folder / name, name=name, **options)
        await combiner.start()
        self.combiners[name] = combiner
        await asyncio.to_thread(self.tier1.add, combiner)
        return combiner

    async def site(
        self,
        name: str,
        combiner: str,
        *,
        step: float = 1.0,
        examples: int = 10,
        kinds=None,
        attributes=None,
        update_of=None,
        **says: object,
    ) -> Site:
        address = f"localhost:{self.combiners[combiner].port}"
        wire = WireClient(name, address, self.trust.token(name), grpc_channel_credentials(self.trust.ca))
        site = self.sites[name] = Site(wire, step, examples, answers=asyncio.Event(), says=says, update_of=update_of)
        site.answers.set()
        wire.forgets = True
        await wire.hello(kinds=kinds or KINDS, attributes=attributes)
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
        await self.until(lambda: len(self.tier1.sessions.roster) == count, f"{count} clients")

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
async def stage(
    folder: Path, *, seeded: bool = True, plain: bool = False, dead_after_s: float = 60.0
) -> AsyncIterator[Stage]:
    """See the module.

    Args:
        plain: the model has float32 tensors only, so that a combiner's mean of it is a global model as it is.
        dead_after_s: nobody sends heartbeats here: a combiner whose link is not open so long after it was cut, or after
            the reducer's start, is given up. Short where a test waits for that.
    """
    scene = Stage(folder, dead_after_s)
    await asyncio.to_thread(scene.tier1.start)
    try:
        if seeded:
            model = encode({"w": np.zeros(5, np.float32), **({} if plain else {"n": np.zeros((), np.int64)})})
            await asyncio.to_thread(scene.tier1.catalog.add_seed, bytes(model))
        yield scene
    finally:
        await scene.close()


def ledger_of(tier1, session, index):
    return {
        e.client: (str(e.state), e.reason.code if e.reason else "") for e in tier1.sessions.round(session, index).ledger
    }
