"""A reducer's parts without server and engine: real stores and keys, sessions that only remember."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flask import Flask

from fedn.network.tickets import TicketVerifier
from fedn.network.tls import make_csr, new_private_key
from fedn.network.tokens import Role
from fedn.plan.session import SessionPlan
from fedn.plan.settings import ReducerSettings
from fedn.protocol.errors import Conflict, NotFound
from fedn.protocol.rest import (
    Accounting,
    EnrolRequest,
    PredictionView,
    RoundView,
    SessionStatistics,
    SessionView,
    account,
    session_statistics,
)
from fedn.protocol.rounds import RoundKind
from fedn.reducer.app import create_app
from fedn.reducer.assignment import Assigner
from fedn.reducer.catalog import Catalog
from fedn.reducer.detours.desk import RelayDesk
from fedn.reducer.detours.streams import Detours
from fedn.reducer.engine.roster import Roster
from fedn.reducer.enrolment import Enrolment
from fedn.reducer.events import EventLog
from fedn.reducer.garbage import GarbageCollector
from fedn.reducer.guard import SecretGuard
from fedn.reducer.health import StoreHealth
from fedn.reducer.keys import load_keys
from fedn.reducer.metrics import Metrics
from fedn.reducer.pages.live import LiveViews
from fedn.reducer.pages.topics import topics_of
from fedn.reducer.registry import Registry
from fedn.reducer.services import Services, start_watching
from fedn.reducer.trail import Trail
from fedn.reducer.uploads import Spool
from fedn.reducer.worker_groups import WorkerGroups
from fedn.stores.base import Scalar
from fedn.stores.memory import MemoryModelStore
from fedn.stores.sqlite import SqliteStateStore

ADMIN_SECRET = "an admin secret of the tests"
ENROLMENT_SECRET = "an enrolment secret of the tests"


Where = Mapping[str, Scalar] | None


@dataclass
class FakeSessions:
    """Sessions that start at once and never do anything."""

    views: dict[str, SessionView] = field(default_factory=dict)
    roster: Roster = field(default_factory=lambda: Roster(lambda kind, **fields: None))
    views_of_rounds: list[RoundView] = field(default_factory=list)
    plans: list[SessionPlan] = field(default_factory=list)
    detached: list[tuple[str, str]] = field(default_factory=list)

    def start(
        self, plan: SessionPlan, name: str | None = None, kind: RoundKind = RoundKind.TRAIN, *, key: str = ""
    ) -> SessionView:
        if self.running() is not None:
            raise Conflict("session_running", "a session is running already")
        session = f"s-{len(self.views)}"
        view = SessionView(
            id=session,
            name=name or session,
            kind=kind,
            state="running",
            plan=plan.model_dump(mode="json", by_alias=True),
            rounds_done=0,
            rounds=plan.rounds,
            created_at=time.time(),
            links={"self": f"/api/v1/sessions/{session}"},
        )
        self.plans.append(plan)
        self.views[session] = view
        return view

    def stop(self, session: str) -> SessionView:
        view = self.views[session] = self.get(session).model_copy(update={"state": "stopped"})
        return view

    def resume(self, session: str) -> SessionView:
        view = self.views[session] = self.get(session).model_copy(update={"state": "running"})
        return view

    def _fitting(self, where: Where) -> list[SessionView]:
        return [
            view
            for view in self.views.values()
            if all(getattr(view, name) == value for name, value in (where or {}).items())
        ]

    def list(
        self,
        limit: int | None = None,
        offset: int = 0,
        *,
        where: Where = None,
        order_by: str = "",
        descending: bool = True,
    ) -> list[SessionView]:
        return self._fitting(where)[::-1][offset:][:limit]

    def count(self, where: Where = None) -> int:
        return len(self._fitting(where))

    def get(self, session: str) -> SessionView:
        if session not in self.views:
            raise NotFound("no_such_session", "there is no such session")
        return self.views[session]

    def chosen(self, session: str | None) -> SessionView | None:
        return self.get(session) if session else self.running() or next(iter(self.list(1)), None)

    def running(self) -> SessionView | None:
        return next((view for view in self.views.values() if view.state == "running"), None)

    def rounds(
        self,
        session: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        where: Where = None,
        order_by: str = "index",
        descending: bool = False,
    ) -> Sequence[RoundView]:
        self.get(session)
        return self.views_of_rounds[offset:][:limit]

    def count_rounds(self, session: str, where: Where = None) -> int:
        return len(self.views_of_rounds)

    def accounting(self, session: str) -> Accounting:
        self.get(session)
        return account(session, self.views_of_rounds)

    def statistics(self, session: str) -> SessionStatistics:
        return session_statistics(self.get(session), self.views_of_rounds)

    def detach_client(self, client: str, code: str, message: str) -> None:
        self.detached.append((client, code))

    def predictions(self, session: str) -> Sequence[PredictionView]:
        self.get(session)
        return ()

    def prediction(self, session: str, client: str) -> PredictionView:
        self.get(session)
        raise NotFound("no_such_prediction", "the client predicted nothing")

    def round(self, session: str, index: int) -> RoundView:
        if index >= len(self.views_of_rounds):
            raise NotFound("no_such_round", "the session has no such round")
        return self.views_of_rounds[index]


@dataclass
class Parts:
    """What a test may look into."""

    services: Services
    app: Flask
    sessions: FakeSessions
    state: SqliteStateStore

    def token(self, role: Role, name: str = "") -> str:
        """A token of that role; that of a site is enrolled first, under its role's name where none is given."""
        enrolment = self.services.enrolment
        if role in {Role.ADMIN, Role.VIEWER}:
            return enrolment.person_token(role).token
        name = name or f"a {role.value}"
        request = EnrolRequest(name=name, role=role.value, csr=make_csr(new_private_key(), name).decode())
        return enrolment.enrol(request).token

    def headers(self, role: Role, name: str = "") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(role, name)}"}

    def close(self) -> None:
        self.services.live.stop()
        self.services.events.stop()
        self.services.registry.stop()
        self.state.close()


def make_parts(folder: Path, **changes: object) -> Parts:
    settings = ReducerSettings(data_dir=folder, **changes)  # type: ignore[arg-type]
    keys = load_keys(settings)
    state = SqliteStateStore(folder / "state.db")
    models = MemoryModelStore()
    events = EventLog(state, max_subscriptions=settings.max_event_streams, clock=time.time)
    events.start()
    trail = Trail(state, settings.federation, keys.trail, epoch=1)
    catalog = Catalog(
        state=state,
        models=models,
        trail=trail,
        events=events,
        algorithm=settings.digest,
        max_model_bytes=int(settings.max_model_bytes),
        max_package_bytes=int(settings.max_package_bytes),
    )
    enrolment = Enrolment(state, keys.authority, keys.tokens, federation=settings.federation, ttl_s=600)
    enrolment.start()
    registry = Registry(state, events, dead_after_s=settings.combiner_dead_after_s)
    registry.start()
    worker_groups = WorkerGroups(
        state,
        registry,
        keys.tickets,
        ttl_s=settings.token_ttl_s,
        max_groups=settings.max_worker_groups,
        max_size=settings.max_worker_group_size,
        dead_after_s=settings.combiner_dead_after_s,
    )
    worker_groups.start()
    sessions = FakeSessions()
    metrics = Metrics()
    events.add_listener(metrics.note_event)
    metrics.add_worker_groups(worker_groups.list)
    services = Services(
        settings=settings,
        enrolment=enrolment,
        enrolment_guard=SecretGuard(ENROLMENT_SECRET, what="enrolment secret", fix="Look it up."),
        enrolment_secret=ENROLMENT_SECRET,
        admin_guard=SecretGuard(ADMIN_SECRET, what="admin secret", fix="Look it up."),
        registry=registry,
        assigner=Assigner(registry, sessions.roster),
        worker_groups=worker_groups,
        relay_desk=RelayDesk(
            worker_groups,
            registry,
            Detours(0, lambda detour, reason: None, on_passed=lambda size: None),
            TicketVerifier(keys.tokens.public_key_pem, settings.federation),
            keys.tokens,
            tls=keys.certificate,
            ttl_s=settings.token_ttl_s,
        ),
        sessions=sessions,  # type: ignore[arg-type]
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
        spool=Spool(folder / "spool"),
        watching=start_watching(events, sessions, trail),  # type: ignore[arg-type]
        live=LiveViews(events, topics_of),
        epoch=1,
        started_at=time.time(),
        url=lambda: "https://reducer.example.org:8090",
        make_room=lambda streams: None,
    )
    return Parts(services, create_app(services), sessions, state)
