"""Sessions as the REST API sees them: start, stop, resume, and views of what is and what was. Thread-safe."""

import secrets
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from fedn.plan.check import check_plan
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import Conflict, InvalidInput, NotFound, StoreUnavailable
from fedn.protocol.names import check_name
from fedn.protocol.rest import (
    Accounting,
    PredictionView,
    RoundView,
    SessionStatistics,
    SessionView,
    account,
    as_json,
    session_statistics,
)
from fedn.protocol.rounds import RoundKind
from fedn.protocol.trail import TrailEntry, digest_json
from fedn.reducer.catalog import Catalog
from fedn.reducer.engine.global_model import rule_of
from fedn.reducer.engine.records import (
    ROUNDS,
    SESSIONS,
    RoundRecord,
    SessionRecord,
    SessionState,
    load_round,
    read_round,
    read_session,
)
from fedn.reducer.engine.roster import Roster
from fedn.reducer.engine.session_run import PREDICTIONS, SessionRun
from fedn.reducer.trail import Trail
from fedn.stores.base import Scalar, StateStore

T = TypeVar("T")

KEYS = "session_keys"
"""Collection of the state store: what callers named their requests for sessions."""
_PART_OF_ROUNDS = 16
"""Rounds in memory at once, where all of a session are read."""


class SessionEngine(Protocol):
    """What runs sessions; `fedn.reducer.engine.engine.Engine`."""

    @property
    def roster(self) -> Roster: ...

    @property
    def current(self) -> SessionRun | None: ...

    def call(self, work: Coroutine[Any, Any, T]) -> T: ...

    async def start_session(self, record: SessionRecord) -> None: ...

    async def stop_session(self, session: str) -> None: ...

    async def detach_client(self, client: str, code: str, message: str) -> None: ...


class Sessions:
    def __init__(self, engine: SessionEngine, state: StateStore, trail: Trail, catalog: Catalog) -> None:
        self._engine = engine
        self._state = state
        self._trail = trail
        self._catalog = catalog
        self._keyed = threading.Lock()
        """Held while a request with a key is answered: one of two that come at once waits, and finds the session."""

    def start(
        self, plan: SessionPlan, name: str | None = None, kind: RoundKind = RoundKind.TRAIN, *, key: str = ""
    ) -> SessionView:
        """Starts a session and answers at once.

        Args:
            plan: validated; what it names is looked up here.
            name: for people; need not be unique.
            kind: `train`, or `validate` or `predict` for a session of one such round.
            key: the caller's own name for this request, unique among callers. Asked again with the same key, the
                session that it made is returned, whatever became of it meanwhile; also by a later reducer process.

        Raises:
            Conflict: `session_running`, or `no_seed_model`.
            InvalidInput: the plan names what is not there, or what does not fit together (`check_plan`);
                `idempotency_key_reused`: the key was used for another request.
        """
        if not key:
            return self._start(plan, name, kind, _new_identity())
        asked = {"plan": plan.model_dump(mode="json", by_alias=True), "name": name, "kind": kind.value}
        with self._keyed:
            # Which session the key stands for is written down before that session begins.
            identity = self._session_of(key, digest_json(as_json(asked)))
            known = self._state.get(SESSIONS, identity) is not None
            return self.get(identity) if known else self._start(plan, name, kind, identity)

    def _session_of(self, key: str, request: str) -> str:
        """The identity of the session that a key stands for; a new one for a new key."""
        name = digest_json(key)
        noted = self._state.get(KEYS, name)
        if noted is None:
            noted = {"request": request, "session": _new_identity()}
            self._state.put(KEYS, name, noted)
        if noted["request"] != request:
            raise InvalidInput(
                "idempotency_key_reused",
                "the Idempotency-Key was used before, for another request",
                fix="Make a new key for each session; use it again only to repeat the same request.",
                where={"session": noted["session"]},
            )
        return str(noted["session"])

    def _start(self, plan: SessionPlan, name: str | None, kind: RoundKind, identity: str) -> SessionView:
        plan = self._checked(self._with_package(plan), kind)
        record = SessionRecord(
            id=identity,
            name=check_name(name, what="session") if name else identity,
            kind=kind,
            state=SessionState.RUNNING,
            plan=plan,
            created_at=time.time(),
        )
        self._engine.call(self._engine.start_session(record))
        return session_view(record)

    def _with_package(self, plan: SessionPlan) -> SessionPlan:
        """The plan with the federation's active package where it names none, and with its package's helper."""
        try:
            package = self._catalog.active() if plan.package_id is None else self._catalog.package(plan.package_id)
        except NotFound as error:
            raise _in_field("package_id", error) from error
        if package is None:
            return plan
        changes = {"package_id": package.package_id}
        if package.helper and "helper" not in plan.model_fields_set:
            changes["helper"] = package.helper
        return plan.model_copy(update=changes)

    def _checked(self, plan: SessionPlan, kind: RoundKind) -> SessionPlan:
        """The plan, with all options of its codecs."""
        plan = check_plan(plan)
        head = self._trail.head()
        if head is None and not (plan.seed_from_client and kind is RoundKind.TRAIN):
            raise Conflict(
                "no_seed_model",
                "the federation has no model to start from",
                fix="Upload one with `fedn model seed FILE`, or set seed_from_client in the plan.",
            )
        if plan.model_id is not None:
            try:
                self._trail.entry_of(plan.model_id)
            except NotFound as error:
                raise _in_field("model_id", error) from error
        if kind is RoundKind.TRAIN:
            self._check_start(plan, head)
        return plan

    def _check_start(self, plan: SessionPlan, head: TrailEntry | None) -> None:
        """InvalidInput where the plan's rule cannot start from the model that is there."""
        model_id = plan.model_id or (head.model_id if head is not None else None)
        if model_id is None:
            return  # a client makes it
        try:
            spec = self._catalog.model_spec(model_id)
        except (NotFound, StoreUnavailable):
            return  # told by the session, which waits for its store
        rule_of(plan).update_spec(spec)

    def stop(self, session: str) -> SessionView:
        """Ends a running session now. Conflict (`session_not_running`)."""
        self._record(session)
        self._engine.call(self._engine.stop_session(session))
        return self.get(session)

    def resume(self, session: str) -> SessionView:
        """Goes on with a stopped or failed session after its last committed round. Conflict where it cannot."""
        record = self._record(session)
        if record.state in {SessionState.RUNNING, SessionState.FINISHED}:
            raise Conflict(
                "session_not_resumable",
                f"the session is {record.state}",
                fix="Only a stopped or failed session can be resumed; start a new one instead.",
                where={"session": session},
            )
        again = record.model_copy(update={"state": SessionState.RUNNING, "error": None, "ended_at": None})
        self._engine.call(self._engine.start_session(again))
        return session_view(again)

    def list(
        self,
        limit: int | None = None,
        offset: int = 0,
        *,
        where: Mapping[str, Scalar] | None = None,
        order_by: str = "created_at",
        descending: bool = True,
    ) -> list[SessionView]:
        """Sessions whose fields equal `where`; the latest first, unless asked otherwise."""
        documents = self._state.find(
            SESSIONS, where, order_by=order_by, descending=descending, limit=limit, offset=offset
        )
        return [session_view(self._newest(read_session(document))) for document in documents]

    def count(self, where: Mapping[str, Scalar] | None = None) -> int:
        return self._state.count(SESSIONS, where)

    def get(self, session: str) -> SessionView:
        return session_view(self._record(session))

    def running(self) -> SessionView | None:
        current = self._engine.current
        if current is None or current.record.state is not SessionState.RUNNING:
            return None
        return session_view(current.record)

    def chosen(self, session: str | None) -> SessionView | None:
        """That one; where none is named, the running one, or else the latest, if there is any."""
        return self.get(session) if session else self.running() or next(iter(self.list(1)), None)

    def rounds(
        self,
        session: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        where: Mapping[str, Scalar] | None = None,
        order_by: str = "index",
        descending: bool = False,
    ) -> Sequence[RoundView]:
        """Rounds whose fields equal `where`, in order unless asked otherwise; the running one as it is now."""
        self._record(session)
        wanted = {**(where or {}), "session": session}
        documents = self._state.find(
            ROUNDS, wanted, order_by=order_by, descending=descending, limit=limit, offset=offset
        )
        stored = [read_round(self._state, document) for document in documents]
        return [round_view(self._live_round(session, record.name.index) or record) for record in stored]

    def count_rounds(self, session: str, where: Mapping[str, Scalar] | None = None) -> int:
        return self._state.count(ROUNDS, {**(where or {}), "session": session})

    def accounting(self, session: str) -> Accounting:
        """What the session took up to now; its rounds are read in parts."""
        self._record(session)
        return account(session, self._all_rounds(session))

    def statistics(self, session: str) -> SessionStatistics:
        """Where the session's time went up to now; its rounds are read in parts."""
        return session_statistics(self.get(session), self._all_rounds(session))

    def _all_rounds(self, session: str) -> Iterator[RoundView]:
        offset = 0
        while part := self.rounds(session, _PART_OF_ROUNDS, offset):
            yield from part
            offset += len(part)

    def round(self, session: str, index: int) -> RoundView:
        """NotFound (`no_such_round`) for a round that was not begun."""
        self._record(session)
        live = self._live_round(session, index)
        if live is not None:
            return round_view(live)
        record = load_round(self._state, session, index)
        if record is None:
            raise NotFound("no_such_round", "the session has no such round", where={"session": session, "round": index})
        return round_view(record)

    def predictions(self, session: str) -> Sequence[PredictionView]:
        """What each client predicted in a session of kind predict, by client."""
        self._record(session)
        found = self._state.find(PREDICTIONS, {"session": session}, order_by="client")
        return [PredictionView.model_validate(document) for document in found]

    def prediction(self, session: str, client: str) -> PredictionView:
        """NotFound (`no_such_prediction`)."""
        for view in self.predictions(session):
            if view.client == client:
                return view
        raise NotFound(
            "no_such_prediction",
            "the client predicted nothing in this session",
            fix="See who did: GET /api/v1/sessions/<session>/predictions.",
            where={"session": session, "client": client},
        )

    @property
    def roster(self) -> Roster:
        """Clients with an open stream to a combiner."""
        return self._engine.roster

    def detach_client(self, client: str, code: str, message: str) -> None:
        """Ends a client's stream, if it has one; the client is told why."""
        self._engine.call(self._engine.detach_client(client, code, message))

    def _record(self, session: str) -> SessionRecord:
        document = self._state.get(SESSIONS, session)
        if document is None:
            raise NotFound(
                "no_such_session",
                "there is no such session",
                fix="List them with: fedn session list.",
                where={"session": session},
            )
        return self._newest(read_session(document))

    def _newest(self, stored: SessionRecord) -> SessionRecord:
        current = self._engine.current
        return current.record if current is not None and current.record.id == stored.id else stored

    def _live_round(self, session: str, index: int) -> RoundRecord | None:
        """The round as it is now, where it is the one that runs."""
        current = self._engine.current
        run = current.rounds.get(index) if current is not None and current.record.id == session else None
        if run is None:
            return None
        return run.record.model_copy(update={"ledger": run.ledger})


def _new_identity() -> str:
    return f"s-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def _in_field(field: str, error: NotFound) -> InvalidInput:
    """What a plan names is not there: a fault of the plan."""
    return InvalidInput(error.code, error.message, fix=error.fix, where={"field": field, **error.where})


def session_view(record: SessionRecord) -> SessionView:
    own = f"/api/v1/sessions/{record.id}"
    return SessionView(
        id=record.id,
        name=record.name,
        kind=record.kind,
        state=record.state.value,
        plan=record.plan.model_dump(mode="json", by_alias=True),
        rounds_done=record.rounds_done,
        rounds=record.plan.rounds if record.kind is RoundKind.TRAIN else 1,
        error=record.error,
        ended_because=record.ended_because,
        created_at=record.created_at,
        started_at=record.created_at,
        ended_at=record.ended_at,
        model_id=record.model_id,
        links={"self": own, "rounds": f"{own}/rounds", "validations": f"{own}/validations"},
    )


def round_view(record: RoundRecord) -> RoundView:
    return RoundView(
        session=record.name.session,
        index=record.name.index,
        attempt=record.name.attempt,
        epoch=record.name.epoch,
        kind=record.kind,
        state=record.state,
        base_model_id=record.base_model_id,
        model_id=record.model_id,
        cohort=record.cohort,
        step_budgets=record.step_budgets,
        validators=record.validators,
        ledger=record.ledger,
        spent=record.spent,
        combiner_models=record.combiner_models,
        metrics=record.metrics,
        times_ms=record.times_ms,
        error=record.error,
        started_at=record.started_at,
        ended_at=record.ended_at,
    )
