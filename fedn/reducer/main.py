"""The program `fedn reducer start`: puts the reducer's parts together, runs them, and takes them down in order."""

import contextlib
import logging
import signal
import threading
from types import FrameType

from fedn.api.context import Context, write_context
from fedn.network.identity import FolderLock
from fedn.network.tls import server_context
from fedn.plan.garbage import GarbageSchedule, Turnover
from fedn.plan.logs import configure_logging
from fedn.plan.settings import ReducerSettings
from fedn.plan.settings_base import is_loopback
from fedn.protocol.errors import Conflict
from fedn.reducer.app import create_app
from fedn.reducer.assembly import Core, make_services, start_core
from fedn.reducer.engine.records import SessionState
from fedn.reducer.keys import load_keys, load_secrets, publish_authority
from fedn.reducer.lease import LeaseKeeper
from fedn.reducer.server import RestServer
from fedn.stores.base import StateStore
from fedn.stores.open import open_model_store, open_state_store

log = logging.getLogger(__name__)

STORE_PATIENCE_S = 60.0
"""A state store that is away at the start is waited for so long."""
_ABOUT = "federation"
_WAKE_S = 1.0


class Reducer:
    """A whole reducer in this process. `start` and `stop` once each, from any thread."""

    def __init__(self, settings: ReducerSettings) -> None:
        self.settings = settings
        self.ended = threading.Event()
        """Set when the reducer must not go on: another one took over the federation."""
        self._exits = contextlib.ExitStack()
        self._server: RestServer | None = None
        self._core: Core | None = None

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

    @property
    def turnover(self) -> Turnover:
        """Who came and went, and what is under way: what garbage there may be. Waits for nothing."""
        if self._core is None:
            return Turnover()
        roster, session = self._core.engine.roster, self._core.engine.current
        busy = int(session is not None and session.record.state is SessionState.RUNNING)
        done = 0 if session is None else session.record.rounds_done
        return Turnover(came=roster.came, went=roster.came - len(roster), busy=busy, done=done)

    def _start(self, exits: contextlib.ExitStack) -> None:
        settings = self.settings
        lock = FolderLock(settings.data_dir)
        exits.callback(lock.release)
        secrets, keys = load_secrets(settings), load_keys(settings)
        if settings.trust_dir is not None:
            publish_authority(keys.certificate, settings.trust_dir)
        state = open_state_store(settings.state)
        exits.callback(state.close)
        models = open_model_store(settings.models)
        exits.callback(models.close)
        lease = LeaseKeeper(state, keys.instance, self.ended.set)
        exits.callback(lease.release)
        epoch = lease.acquire(STORE_PATIENCE_S)
        _check_federation(state, settings.federation)

        core = self._core = start_core(settings, keys, state, models, epoch, exits)

        def make_room(streams: int) -> None:
            server.make_room(streams)

        parts = make_services(core, secrets, url=lambda: self.url, make_room=make_room)
        own = keys.certificate
        tls = server_context(own.cert_path, own.key_path, own.ca_path, settings.mutual_tls) if settings.tls else None
        server = self._server = RestServer(
            create_app(parts),
            bind=settings.bind,
            port=settings.port,
            threads=settings.rest_threads,
            max_streams=settings.max_event_streams,
            context=tls,
        )
        server.start()
        exits.callback(server.stop)
        exits.callback(core.events.end_subscriptions)
        exits.callback(parts.live.stop)
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
    schedule = GarbageSchedule(lambda: reducer.turnover)
    asked = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        asked.set()
        reducer.ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    reducer.start()
    try:
        # The kernel may hand the signal to another thread; its handler runs when this one wakes up.
        schedule.begin()
        while not reducer.ended.wait(_WAKE_S):
            schedule.tick()
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
