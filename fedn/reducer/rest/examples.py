"""Examples of every payload, for the OpenAPI document: one small federation at one moment, told consistently."""

from functools import cache
from typing import Any

from pydantic import BaseModel

from fedn.protocol import rest
from fedn.protocol.errors import (
    Conflict,
    FednError,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from fedn.protocol.rounds import CombinerModel, Contribution, LedgerEntry, LedgerState, Reason, RoundState
from fedn.protocol.rounds import RoundKind as Kind
from fedn.protocol.tasks import RoundName, TaskKind, UpdateMetadata
from fedn.protocol.trail import EntryKind, TrailEntry, ValidationRecord

_SEED = "blake3:" + "5e" * 32
_MODEL = "blake3:" + "3a" * 32
_UPDATE = "blake3:" + "c1" * 32
_PACKAGE = "blake3:" + "77" * 32
_SEED_HASH = "sha256:" + "11" * 32
_HASH = "sha256:" + "22" * 32
_KEY = "sha256:" + "0b" * 32
_SESSION = "s-20260102-030405-abc123"
_TIME = 1767323045.0
_PEM = "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"
_PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\n…\n-----END PUBLIC KEY-----\n"
_TOKEN = "eyJ…"  # noqa: S105 - shows the shape only
_SESSION_LINKS = {name: f"/api/v1/sessions/{_SESSION}{path}" for name, path in (("self", ""), ("rounds", "/rounds"))}
_MODEL_LINKS = {"self": f"/api/v1/models/{_MODEL}", "download": f"/api/v1/models/{_MODEL}/download"}

_PATH = {
    "name": "hospital-1",
    "client": "hospital-1",
    "session": _SESSION,
    "index": 0,
    "model_id": _MODEL,
    "package_id": _PACKAGE,
    "code": "no_such_session",
}

_PROBLEMS: dict[int, FednError] = {
    403: Forbidden("role_not_allowed", "the role viewer may not do this", fix="Use a token of role admin."),
    404: NotFound("no_such_session", "there is no such session", fix="List them with: fedn session list."),
    409: Conflict("session_running", "a session is running already", fix="Wait for its end, or stop it."),
    413: LimitExceeded("upload_too_large", "the body is larger than what is taken here", fix="Send less."),
    401: Unauthenticated("token_missing", "this call needs a token", fix="Send `Authorization: Bearer TOKEN`."),
    422: InvalidInput("bad_argument", "limit is 'ten'", fix="Give a whole number from 1 to 1000."),
    503: Unavailable("store_away", "the state store does not answer", fix="Try again."),
}
_OTHER = {
    400: "bad_request",
    405: "method_not_allowed",
    408: "request_broken_off",
    415: "unsupported_media_type",
    429: "too_many_tries",
    500: "internal_error",
}


def problem_example(status: int) -> dict[str, Any]:
    """An error answer of that status."""
    error = _PROBLEMS.get(status)
    if error is None:
        error = FednError(_OTHER[status], "what happened, in one sentence", fix="What to do about it.")
    return {**error.as_problem(), "status": status}


def path_example(name: str) -> Any:
    """A value of a path's parameter."""
    return _PATH[name]


def example_of(model: type[BaseModel]) -> Any:
    """The example of a payload as JSON; KeyError where there is none."""
    examples = _examples()
    if model not in examples and issubclass(model, rest.Page):
        item = model.model_fields["items"].annotation.__args__[0]  # type: ignore[union-attr]
        return {"items": [rest.as_json(examples[item])], "total": 1, "offset": 0, "limit": 100}
    return rest.as_json(examples[model])


def _round() -> rest.RoundView:
    metadata = UpdateMetadata(
        task_id=f"{_SESSION}/0/train/hospital-1",
        client="hospital-1",
        round=RoundName(session=_SESSION, index=0, attempt=0, epoch=1),
        base_model_id=_SEED,
        num_examples=1200,
        num_steps=38,
        ms_per_step=4.2,
        ms_per_epoch=159.6,
        task_ms=181.0,
        train_ms=160.0,
        validate_ms=9.0,
        cpu_ms=176.0,
        memory_bytes=93_000_000,
        metrics={"loss": 0.31, "accuracy": 0.91},
    )
    updated = LedgerEntry(
        client="hospital-1",
        combiner="combiner-1",
        task_id=metadata.task_id,
        state=LedgerState.UPDATED,
        update_id=_UPDATE,
        size_bytes=33752,
        metadata=metadata,
        down_bytes=33752,
        up_bytes=33752,
        busy_ms=214.0,
        sent_at=_TIME + 0.002,
        updated_at=_TIME + 1,
    )
    late = LedgerEntry(
        client="hospital-2",
        combiner="combiner-1",
        task_id=f"{_SESSION}/0/train/hospital-2",
        state=LedgerState.LATE,
        reason=Reason(code="update_late", message="the round closed before the result was in"),
        updated_at=_TIME + 2,
    )
    return rest.RoundView(
        session=_SESSION,
        index=0,
        attempt=0,
        epoch=1,
        kind=Kind.TRAIN,
        state=RoundState.COMMITTED,
        base_model_id=_SEED,
        model_id=_MODEL,
        cohort=("hospital-1", "hospital-2"),
        ledger=(updated, late),
        combiner_models=(_combiner_model(),),
        metrics={"loss": 0.31, "accuracy": 0.91},
        times_ms={"waiting": 0.4, "training": 183.0, "aggregation": 2.0, "commit": 6.5, "total": 195.0},
        started_at=_TIME,
        ended_at=_TIME + 2,
    )


def _combiner_model() -> CombinerModel:
    part = Contribution(client="hospital-1", update_id=_UPDATE, num_examples=1200, weight=1200.0)
    return CombinerModel(combiner="combiner-1", model_id=_MODEL, size_bytes=33752, weight=1200.0, contributions=(part,))


@cache
def _examples() -> dict[type[BaseModel], BaseModel]:
    view = rest.SessionView(
        id=_SESSION,
        name="first try",
        state="finished",
        plan={"rounds": 1, "parameters": {"epochs": 2}},
        rounds_done=1,
        rounds=1,
        created_at=_TIME,
        started_at=_TIME,
        ended_at=_TIME + 3,
        model_id=_MODEL,
        links=_SESSION_LINKS,
    )
    model = rest.ModelView(
        model_id=_MODEL,
        index=1,
        entry_hash=_HASH,
        kind=EntryKind.ROUND,
        session=_SESSION,
        round=0,
        parent=_SEED,
        time=_TIME + 2,
        metrics={"loss": 0.31, "accuracy": 0.91},
        contributions=1,
        head=True,
        size_bytes=33752,
        validation={"accuracy": 0.93},
        num_validations=2,
        tensors=(rest.TensorView(name="layer.weight", dtype="float32", shape=(64, 128)),),
        links=_MODEL_LINKS,
    )
    entry = TrailEntry(
        federation="fedn-network",
        index=1,
        kind=EntryKind.ROUND,
        session=_SESSION,
        round=0,
        epoch=1,
        model_id=_MODEL,
        parent=_SEED,
        combiner_models=(_combiner_model(),),
        metrics={"loss": 0.31, "accuracy": 0.91},
        time=_TIME + 2,
        previous=_SEED_HASH,
        hash=_HASH,
        key_id=_KEY,
        signature="c2lnbmF0dXJl",
    )
    combiner = rest.CombinerView(
        name="combiner-1",
        host="combiner-1.example.org",
        port=12080,
        instance="5d41402abc4b2a76",
        max_clients=1000,
        attached_clients=2,
        rounds=1,
        rss_bytes=180_000_000,
        alive=True,
        linked=True,
        last_heartbeat=_TIME,
        registered_at=_TIME - 600,
    )
    group = rest.WorkerGroupView(
        name="ring",
        size=2,
        clients=("hospital-*",),
        members=(
            rest.WorkerMember(
                rank=0,
                client="hospital-1",
                traffic=rest.WorkerTraffic(
                    state="attached",
                    heard_at=_TIME - 1,
                    sent_messages=12,
                    sent_bytes=96_000,
                    received_messages=11,
                    received_bytes=88_000,
                ),
            ),
        ),
        home="combiner-1",
        created_at=_TIME - 100,
        attached=1,
        traffic=rest.Relayed(sent_messages=12, sent_bytes=96_000, received_messages=11, received_bytes=88_000),
    )
    event = rest.EventView(number=41, kind="round_committed", time=_TIME + 2, fields={"session": _SESSION, "round": 0})
    token = rest.TokenReply(token=_TOKEN, expires_at=_TIME + 3600, role="admin", name="admin", token_key=_PUBLIC_KEY)
    made: list[BaseModel] = [
        view,
        model,
        entry,
        combiner,
        event,
        token,
        _round(),
        rest.EnrolRequest(name="hospital-1", role="client", csr="-----BEGIN CERTIFICATE REQUEST-----\n…\n"),
        rest.EnrolReply(
            name="hospital-1",
            role="client",
            federation="fedn-network",
            certificate=_PEM,
            ca=_PEM,
            token=_TOKEN,
            expires_at=_TIME + 3600,
            token_key=_PUBLIC_KEY,
        ),
        rest.TokenRequest(grant="admin_secret", role="viewer"),
        rest.JoinRequest(url="https://reducer.example.org:8090"),
        rest.JoinReply(join="fedn1.…", url="https://reducer.example.org:8090", ca_fingerprint=_KEY),
        rest.CombinerRegistration(
            name="combiner-1", host="combiner-1.example.org", port=12080, max_clients=1000, instance="5d41402abc4b2a76"
        ),
        rest.CombinerHeartbeat(
            instance="5d41402abc4b2a76",
            attached_clients=2,
            rounds=1,
            rss_bytes=180_000_000,
            worker_groups=(
                rest.WorkerGroupReport(
                    group="ring",
                    run="8c7dd922ad47494f",
                    workers=(rest.WorkerReport(rank=0, state="attached", sent_messages=12, sent_bytes=96_000),),
                ),
            ),
        ),
        rest.RegistrationReply(federation="fedn-network", epoch=1),
        rest.AssignmentRequest(preferred="combiner-1"),
        rest.Assignment(
            status="assigned",
            combiner="combiner-1",
            host="combiner-1.example.org",
            port=12080,
            ca=_PEM,
            token=_TOKEN,
            expires_at=_TIME + 3600,
            package_id=_PACKAGE,
            helper="numpy",
            trail_head=_HASH,
            trail_length=2,
        ),
        group,
        rest.WorkerGroupRequest(name="ring", size=2, clients=("hospital-*",)),
        rest.WorkerJoin(rank=0),
        rest.WorkerAssignment(
            status="assigned",
            group="ring",
            rank=0,
            size=2,
            home="combiner-1",
            combiner="combiner-1",
            host="combiner-1.example.org",
            port=12080,
            ca=_PEM,
            ticket=_TOKEN,
            token=_TOKEN,
            expires_at=_TIME + 3600,
        ),
        rest.RelayTokenRequest(ticket=_TOKEN),
        rest.RelayTokenReply(token=_TOKEN, expires_at=_TIME + 600),
        rest.DetourRequest(ticket=_TOKEN, call="c2VjcmV0LW9mLW9uZS1jYWxs", reason="no answer within 4 s"),
        rest.ClientView(
            name="hospital-1",
            key_id=_KEY,
            enrolled_at=_TIME - 500,
            last_seen=_TIME,
            attached=True,
            combiner="combiner-1",
            since=_TIME - 400,
            kinds=(TaskKind.TRAIN, TaskKind.VALIDATE),
            attributes={"site": "Uppsala"},
        ),
        rest.SessionStart(name="first try", plan={"rounds": 10, "parameters": {"epochs": 2}}),
        rest.account(_SESSION, [_round()]),
        rest.session_statistics(view, [_round()]),
        rest.round_statistics(_round()),
        rest.PredictionView(session=_SESSION, client="hospital-1", object_id=_UPDATE, size_bytes=4096),
        ValidationRecord(
            federation="fedn-network",
            entry_hash=_HASH,
            model_id=_MODEL,
            session=_SESSION,
            client="hospital-1",
            metrics={"accuracy": 0.93},
            num_examples=300,
            time=_TIME + 2,
        ),
        rest.TrailKey(federation="fedn-network", key_id=_KEY, public_key=_PUBLIC_KEY),
        rest.TrailVerification(federation="fedn-network", length=2, head=_HASH, key_id=_KEY),
        rest.PackageView(package_id=_PACKAGE, name="digits", size_bytes=4711, uploaded_at=_TIME - 300, active=True),
        rest.PackageActivation(package_id=_PACKAGE),
        rest.GcRequest(older_than_s=86400.0, dry_run=True),
        rest.GcReply(removed=(_UPDATE,), num_removed=1, removed_bytes=33752, kept=3, dry_run=True),
        rest.StatusView(
            federation="fedn-network",
            version="0.1.0",
            state="idle",
            epoch=1,
            started_at=_TIME - 700,
            combiners=1,
            combiners_alive=1,
            clients=2,
            clients_attached=2,
            trail_length=2,
            trail_head=_HASH,
            model_id=_MODEL,
            package_id=_PACKAGE,
            stores={"models": rest.StoreStatus(state="ok"), "state": rest.StoreStatus(state="ok")},
        ),
        rest.EventList(events=(event,), last=41),
    ]
    return {type(one): one for one in made}
