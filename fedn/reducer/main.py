"""The program `fedn reducer start`: puts the reducer's parts together, runs them, and takes them down in order."""

import contextlib
import logging
import signal
import threading
import time
from types import FrameType

from fedn.api.context import Context, write_context
from fedn.network.identity import FolderLock
from fedn.network.tls import server_context
from fedn.plan.logs import configure_logging
from fedn.plan.settings import ReducerSettings
from fedn.plan.settings_base import is_loopback
from fedn.protocol.errors import Conflict
from fedn.reducer.app import create_app
from fedn.reducer.assignment import Assigner
from fedn.reducer.catalog import Catalog
from fedn.reducer.engine.engine import Engine
from fedn.reducer.enrolment import Enrolment
from fedn.reducer.events import EventLog
from fedn.reducer.garbage import GarbageCollector
from fedn.reducer.guard import SecretGuard
from fedn.reducer.health import StoreHealth
from fedn.reducer.keys import load_keys, load_secrets
from fedn.reducer.lease import LeaseKeeper
from fedn.reducer.metrics import Metrics
from fedn.reducer.registry import Registry
from fedn.reducer.server import RestServer
from fedn.reducer.services import Services
from fedn.reducer.trail import Trail
from fedn.reducer.uploads import Spool
from fedn.stores.base import StateStore
from fedn.stores.open import open_model_store, open_state_store

log = logging.getLogger(__name__)

STORE_PATIENCE_S = 60.0
"""A state store that is away at the start is waited for so long."""
_ABOUT = "federation"


class Reducer:
    """A whole reducer in this process. `start` and `stop` once each, from any thread."""

    def __init__(self, settings: ReducerSettings) -> None:
        self.settings = settings
        self.ended = threading.Event()
        """Set when the reducer must not go on: another one took over the federation."""
        self._exits = contextlib.ExitStack()
        self._server: RestServer | None = None

    def start(self) -> None:
        """Returns when requests are answered, and an interrupted session goes on.

        Raises:
            FednError: what keeps it from running; nothing is left running then.
        """
        with contextlib.ExitStack() as exits:
            self._start(exits)
            self._exits = exits.pop_all()

    def stop(self) -> None:
        """Ends everything. A running session stays `running`, for the next reducer process."""
        self._exits.close()

    @property
    def port(self) -> int:
        """Where it listens; the one that was found, where the settings say 0."""
        assert self._server is not None, "the reducer has not started"
        return self._server.port

    @property
    def url(self) -> str:
        """Address for join strings."""
        return self.settings.url(self.port)

    def _start(self, exits: contextlib.ExitStack) -> None:
        settings = self.settings
        lock = FolderLock(settings.data_dir)
        exits.callback(lock.release)
        secrets, keys = load_secrets(settings), load_keys(settings)
        state = open_state_store(settings.state)
        exits.callback(state.close)
        models = open_model_store(settings.models)
        exits.callback(models.close)
        lease = LeaseKeeper(state, keys.instance, self.ended.set)
        exits.callback(lease.release)
        epoch = lease.acquire(STORE_PATIENCE_S)
        _check_federation(state, settings.federation)

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
        enrolment = Enrolment(
            state, keys.authority, keys.tokens, federation=settings.federation, ttl_s=settings.token_ttl_s
        )
        enrolment.start()
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
        exits.callback(registry.stop)  # first, so that it tells no engine that has ended; again does no harm

        metrics = Metrics()
        events.add_listener(metrics.note_event)
        sessions = engine.sessions
        parts = Services(
            settings=settings,
            enrolment=enrolment,
            enrolment_guard=SecretGuard(
                secrets.enrolment, what="enrolment secret", fix="Use the join string that `fedn token create` prints."
            ),
            enrolment_secret=secrets.enrolment,
            admin_guard=SecretGuard(
                secrets.admin, what="admin secret", fix="It is in secrets/admin of the reducer's data directory."
            ),
            registry=registry,
            assigner=Assigner(registry, sessions.attached_clients),
            sessions=sessions,
            trail=trail,
            catalog=catalog,
            models=models,
            events=events,
            garbage=GarbageCollector(
                state=state,
                models=models,
                trail=trail,
                catalog=catalog,
                session_runs=lambda: sessions.running() is not None,
            ),
            health=StoreHealth(state, models),
            metrics=metrics,
            spool=Spool(settings.data_dir / "spool"),
            epoch=epoch,
            started_at=time.time(),
            url=lambda: self.url,
            make_room=lambda streams: server.make_room(streams),
        )
        metrics.add_gauges(lambda: _gauges(parts))
        own = keys.certificate
        server = self._server = RestServer(
            create_app(parts),
            bind=settings.bind,
            port=settings.port,
            threads=settings.rest_threads,
            max_streams=settings.max_event_streams,
            context=server_context(own.cert_path, own.key_path, own.ca_path, settings.mutual_tls)
            if settings.tls
            else None,
        )
        server.start()
        exits.callback(server.stop)
        exits.callback(events.end_subscriptions)
        context = Context(_local_url(settings, server.port), own.ca_path if settings.tls else None, secrets.admin)
        write_context(settings.data_dir / "admin.json", context)
        log.info("the reducer of %s listens at %s (epoch %d)", settings.federation, self.url, epoch)


def run(settings: ReducerSettings) -> int:
    """Runs a reducer until SIGINT or SIGTERM; returns the exit status. Main thread only.

    Raises:
        FednError: what keeps it from starting.
    """
    secrets = load_secrets(settings)
    hidden = [secrets.enrolment, secrets.admin, settings.models.secret_key, settings.state.password]
    configure_logging(settings.log_level, settings.log_format, secrets=[secret for secret in hidden if secret])
    reducer = Reducer(settings)
    asked = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        asked.set()
        reducer.ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    reducer.start()
    try:
        reducer.ended.wait()
        log.info("the reducer ends%s", "" if asked.is_set() else ": another one took over")
    finally:
        reducer.stop()
    return 0 if asked.is_set() else 1


def _check_federation(state: StateStore, federation: str) -> None:
    """One state store belongs to one federation, from its first start on."""
    known = state.get(_ABOUT, "name")
    if known is None:
        state.put(_ABOUT, "name", {"name": federation})
    elif known["name"] != federation:
        raise Conflict(
            "other_federation",
            f"the state store belongs to the federation {known['name']!r}, not to {federation!r}",
            fix="Give each federation a state store of its own, or use the name that this one was begun with.",
        )


def _local_url(settings: ReducerSettings, port: int) -> str:
    """The address for commands on this machine."""
    local = next((host for host in settings.public_hosts if is_loopback(host)), None)
    if local is None or settings.bind not in {"0.0.0.0", "::", "127.0.0.1", "localhost"}:
        return settings.url(port)
    shown = f"[{local}]" if ":" in local else local
    return f"{'https' if settings.tls else 'http'}://{shown}:{port}"


def _gauges(parts: Services) -> dict[str, tuple[str, float]]:
    combiners = parts.registry.combiners()
    head = parts.trail.head()
    return {
        "fedn_combiners": ("Combiners known", len(combiners)),
        "fedn_combiners_alive": ("Combiners alive", sum(record.alive for record in combiners)),
        "fedn_clients_attached": ("Clients attached to combiners", len(parts.sessions.attached_clients())),
        "fedn_trail_length": ("Entries of the trail", 0 if head is None else head.index + 1),
        "fedn_session_running": ("1 while a session runs", float(parts.sessions.running() is not None)),
        "fedn_event_streams": ("Open event streams", parts.events.subscriptions),
    }
