"""Puts the reducer's parts together: which needs which, and in what order they start and end."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fedn.network.tickets import TicketVerifier
from fedn.plan.settings import ReducerSettings
from fedn.reducer.assignment import Assigner
from fedn.reducer.catalog import Catalog
from fedn.reducer.detours.desk import RelayDesk, tell_of_detour
from fedn.reducer.detours.streams import Detours
from fedn.reducer.engine.engine import Engine
from fedn.reducer.enrolment import Enrolment
from fedn.reducer.events import EventLog
from fedn.reducer.garbage import GarbageCollector
from fedn.reducer.guard import SecretGuard
from fedn.reducer.health import StoreHealth
from fedn.reducer.keys import Keys, Secrets
from fedn.reducer.metrics import Metrics
from fedn.reducer.pages.live import LiveViews
from fedn.reducer.pages.topics import topics_of
from fedn.reducer.registry import Registry
from fedn.reducer.services import Services, start_watching
from fedn.reducer.trail import Trail
from fedn.reducer.uploads import Spool
from fedn.reducer.worker_groups import WorkerGroups
from fedn.stores.base import ModelStore, StateStore


@dataclass(frozen=True)
class Core:
    """What works without anybody asking: the engine, and what it needs."""

    settings: ReducerSettings
    keys: Keys
    state: StateStore
    models: ModelStore
    epoch: int
    events: EventLog
    trail: Trail
    catalog: Catalog
    registry: Registry
    engine: Engine
    metrics: Metrics
    detours: Detours


def start_core(
    settings: ReducerSettings,
    keys: Keys,
    state: StateStore,
    models: ModelStore,
    epoch: int,
    exits: contextlib.ExitStack,
) -> Core:
    """Starts it; how to end it goes onto `exits`."""
    events = EventLog(state, max_subscriptions=settings.max_event_streams, clock=time.time)
    exits.callback(events.stop)
    events.start()
    trail = Trail(state, settings.federation, keys.trail, epoch)
    catalog = Catalog(
        state=state,
        models=models,
        trail=trail,
        events=events,
        algorithm=settings.digest,
        max_model_bytes=int(settings.max_model_bytes),
        max_package_bytes=int(settings.max_package_bytes),
    )
    registry = Registry(state, events, dead_after_s=settings.combiner_dead_after_s)
    engine = Engine(
        state=state,
        models=models,
        trail=trail,
        registry=registry,
        events=events,
        catalog=catalog,
        tokens=keys.tokens,
        tls=keys.certificate if settings.tls else None,
        epoch=epoch,
        settings=settings,
    )
    registry.start()
    exits.callback(registry.stop)
    engine.start()
    exits.callback(engine.stop)
    exits.callback(registry.stop)  # before the engine, so that it tells no loop that has ended; again does no harm
    metrics = Metrics()
    events.add_listener(metrics.note_event)
    detours = Detours(
        settings.max_relayed_workers, partial(tell_of_detour, events), on_passed=metrics.relayed_worker_bytes.inc
    )
    metrics.relayed_worker_streams.set_function(lambda: detours.streams)
    metrics.relayed_worker_held_bytes.set_function(lambda: detours.held_bytes)
    detours.start()
    exits.callback(detours.stop)
    return Core(settings, keys, state, models, epoch, events, trail, catalog, registry, engine, metrics, detours)


def make_services(
    core: Core, secrets: Secrets, *, url: Callable[[], str], make_room: Callable[[int], None]
) -> Services:
    """What the REST API and the pages need, around a core that has started.

    Args:
        url, make_room: as in Services.
    """
    settings, sessions = core.settings, core.engine.sessions
    enrolment = Enrolment(
        core.state, core.keys.authority, core.keys.tokens, federation=settings.federation, ttl_s=settings.token_ttl_s
    )
    enrolment.start()
    worker_groups = WorkerGroups(
        core.state,
        core.registry,
        core.keys.tickets,
        ttl_s=settings.token_ttl_s,
        max_groups=settings.max_worker_groups,
        max_size=settings.max_worker_group_size,
        dead_after_s=settings.combiner_dead_after_s,
    )
    worker_groups.start()
    core.metrics.add_gauges(lambda: _gauges(core))
    core.metrics.add_worker_groups(worker_groups.list)
    return Services(
        settings=settings,
        enrolment=enrolment,
        enrolment_guard=SecretGuard(
            secrets.enrolment, what="enrolment secret", fix="Use the join string that `fedn token create` prints."
        ),
        enrolment_secret=secrets.enrolment,
        admin_guard=SecretGuard(
            secrets.admin,
            what="admin secret",
            fix="It is in secrets/admin of the reducer's data directory, or in a sandbox's admin.json.",
        ),
        registry=core.registry,
        assigner=Assigner(core.registry, core.engine.roster),
        worker_groups=worker_groups,
        relay_desk=RelayDesk(
            worker_groups,
            core.registry,
            core.detours,
            TicketVerifier(core.keys.tokens.public_key_pem, settings.federation),
            core.keys.tokens,
            tls=core.keys.certificate if settings.tls else None,
            ttl_s=settings.token_ttl_s,
        ),
        sessions=sessions,
        trail=core.trail,
        catalog=core.catalog,
        models=core.models,
        events=core.events,
        garbage=GarbageCollector(
            state=core.state,
            models=core.models,
            trail=core.trail,
            catalog=core.catalog,
            session_runs=lambda: sessions.running() is not None,
        ),
        health=StoreHealth(core.state, core.models),
        metrics=core.metrics,
        spool=Spool(settings.data_dir / "spool"),
        watching=start_watching(core.events, sessions, core.trail),
        live=LiveViews(core.events, topics_of),
        epoch=core.epoch,
        started_at=time.time(),
        url=url,
        make_room=make_room,
    )


def _gauges(core: Core) -> dict[str, tuple[str, float]]:
    combiners, sessions = core.registry.combiners(), core.engine.sessions
    head = core.trail.head()
    return {
        "fedn_combiners": ("Combiners known", len(combiners)),
        "fedn_combiners_alive": ("Combiners alive", sum(record.alive for record in combiners)),
        "fedn_clients_attached": ("Clients attached to combiners", len(core.engine.roster)),
        "fedn_trail_length": ("Entries of the trail", 0 if head is None else head.index + 1),
        "fedn_session_running": ("1 while a session runs", float(sessions.running() is not None)),
        "fedn_event_streams": ("Open event streams", core.events.subscriptions),
    }
