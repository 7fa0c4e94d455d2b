"""Payloads of the reducer's REST API, version 1 (`/api/v1`): what is sent and what is answered, as pydantic models.

Only shapes live here. Errors are problem+json, built from `fedn.protocol.errors`; events also come as server-sent
events whose `id` is the event's number, whose `event` is its kind and whose `data` is an EventView. Times are Unix
seconds, sizes bytes. JSON has no NaN: a metric that is not finite is written as "NaN", "Infinity" or "-Infinity",
which pydantic reads back.
"""

import math
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from fedn.protocol.rounds import CombinerModel, LedgerEntry, Reason, RoundKind, RoundState
from fedn.protocol.tasks import Frozen, Metrics, TaskKind
from fedn.protocol.trail import EntryKind, TrailEntry, ValidationRecord

API_PREFIX = "/api/v1"
MAX_PAGE = 1000
"""Items of one page at the most; `limit` may ask for fewer."""

T = TypeVar("T")


def as_json(value: Any) -> Any:
    """The JSON value of a payload (or of lists and mappings of payloads), safe for strict JSON writers."""
    if isinstance(value, BaseModel):
        return as_json(value.model_dump(mode="json", by_alias=True))
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


class Page(Frozen, Generic[T]):
    """A part of a list: `items` are those from `offset` on, `limit` at the most, of `total`."""

    items: tuple[T, ...]
    total: int
    offset: int = 0
    limit: int


class ProblemView(BaseModel):
    """An error answer (RFC 9457), content type application/problem+json."""

    type: str
    title: str
    status: int
    code: str
    """Explained in docs/reference/errors.md."""
    fix: str = ""
    where: dict[str, str] = Field(default_factory=dict)
    retryable: bool = False
    problems: tuple["ProblemView", ...] = ()
    """The single faults of `invalid_settings`."""


# Enrolment and tokens


class EnrolRequest(Frozen):
    """POST enrol, with the enrolment secret as bearer. The site's private key stays at the site."""

    name: str
    role: Literal["client", "combiner"]
    csr: str
    """PEM of a certificate signing request; only its public key is used."""
    hosts: tuple[str, ...] = ()
    """Names and IPs for the certificate of a combiner; must be empty for a client."""


class EnrolReply(Frozen):
    name: str
    role: str
    federation: str
    certificate: str
    """PEM."""
    ca: str
    """PEM of the federation's CA."""
    token: str
    expires_at: float
    token_key: str
    """PEM of the public key that verifies tokens."""


class TokenRequest(Frozen):
    """POST token. `assertion`: a site proves its key; `admin_secret`: the admin secret comes as bearer."""

    grant: Literal["assertion", "admin_secret"]
    assertion: str = ""
    """`fedn.network.tokens.make_assertion` with the federation's name as audience."""
    role: Literal["admin", "viewer"] = "admin"
    """Of an `admin_secret` grant; an assertion's role is the one that was enrolled."""


class TokenReply(Frozen):
    token: str
    expires_at: float
    role: str
    name: str
    token_key: str


class JoinRequest(Frozen):
    """POST join-strings."""

    url: str = ""
    """Address of the reducer as the new site sees it; empty: the reducer's `public_url`."""


class JoinReply(Frozen):
    join: str
    url: str
    ca_fingerprint: str


# Combiners, clients, assignment


class CombinerRegistration(Frozen):
    """POST combiners. `name` must be the token's subject."""

    name: str
    host: str = Field(min_length=1, max_length=255)
    """Where clients and the reducer reach its gRPC server."""
    port: int = Field(ge=1, le=65535)
    max_clients: int = Field(ge=1)
    instance: str = Field(min_length=1, max_length=64)
    """New with every start of the combiner's process."""


class CombinerHeartbeat(Frozen):
    """POST combiners/<name>/heartbeat. 404 `no_such_combiner`: register again."""

    instance: str
    attached_clients: int = Field(default=0, ge=0)
    rounds: int = Field(default=0, ge=0)
    """Rounds that it holds, running or done."""
    rss_bytes: int = Field(default=0, ge=0)
    cpu_s: float = Field(default=0.0, ge=0)
    """Processor time of the process since its start."""


class RegistrationReply(Frozen):
    """Answer to a registration and to a heartbeat."""

    status: Literal["added"] = "added"
    federation: str
    epoch: int
    """Writer epoch of the reducer: a combiner obeys no link of a lower one."""


class CombinerView(Frozen):
    name: str
    host: str
    port: int
    instance: str
    max_clients: int
    attached_clients: int
    rounds: int = 0
    rss_bytes: int = 0
    alive: bool
    linked: bool = False
    """Whether the reducer's gRPC link to it is open."""
    last_heartbeat: float
    registered_at: float


class AssignmentRequest(Frozen):
    """POST assignments, by a client."""

    preferred: str = ""
    """The only combiner to be assigned to, unless `avoid` names it; empty: any."""
    avoid: tuple[str, ...] = Field(default=(), max_length=1000)
    """Combiners that were just tried in vain; one of them is assigned only where no other is."""


class Assignment(Frozen):
    """Where a client shall attach, or why it must ask again, and when."""

    status: Literal["assigned", "retry"]
    reason: str = ""
    """For `retry`, in words."""
    code: str = ""
    """For `retry`: no_combiner, combiners_full, preferred_unknown, preferred_dead or preferred_full."""
    retry_after_s: float = 0.0
    combiner: str = ""
    host: str = ""
    port: int = 0
    ca: str = ""
    """PEM; the combiner's certificate is verified against it."""
    token: str = ""
    """For the combiner and the reducer."""
    expires_at: float = 0.0
    package_id: str = ""
    """Digest of the active compute package; empty: the client brings its own Learner."""
    helper: str = ""
    trail_head: str = ""
    """Hash of the trail's last entry; GENESIS for an empty trail."""
    trail_length: int = 0


class ClientView(Frozen):
    name: str
    key_id: str
    enrolled_at: float
    last_seen: float
    """Its last call to the reducer."""
    attached: bool = False
    combiner: str = ""
    since: float = 0.0
    kinds: tuple[TaskKind, ...] = ()
    attributes: dict[str, str] = Field(default_factory=dict)


# Sessions and rounds


class SessionStart(Frozen):
    """POST sessions."""

    name: str | None = None
    kind: Literal["train", "validate", "predict"] = "train"
    """`validate` and `predict`: a session of one such round, about the plan's model or the head."""
    plan: dict[str, Any] = Field(default_factory=dict)
    """A `fedn.plan.session.SessionPlan`; missing fields have its defaults."""


class SessionView(Frozen):
    id: str
    name: str
    kind: RoundKind = RoundKind.TRAIN
    state: Literal["running", "finished", "failed", "stopped"]
    plan: dict[str, Any]
    rounds_done: int
    rounds: int
    """Rounds asked for."""
    error: Reason | None = None
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    model_id: str = ""
    """Its latest global model."""
    links: dict[str, str] = Field(default_factory=dict)


class RoundView(Frozen):
    session: str
    index: int
    attempt: int
    epoch: int
    kind: RoundKind
    state: RoundState
    base_model_id: str = ""
    model_id: str = ""
    cohort: tuple[str, ...] = ()
    ledger: tuple[LedgerEntry, ...] = ()
    combiner_models: tuple[CombinerModel, ...] = ()
    metrics: Metrics = Field(default_factory=dict)
    times_ms: dict[str, float] = Field(default_factory=dict)
    """waiting, dispatch, training, aggregation, commit, total: as far as measured."""
    error: Reason | None = None
    started_at: float
    ended_at: float | None = None


class PredictionView(Frozen):
    """What one client predicted, in a session of kind `predict`."""

    session: str
    client: str
    object_id: str
    """Digest of the tensors (safetensors) that it predicted."""
    size_bytes: int
    metrics: Metrics = Field(default_factory=dict)


# Models and the trail


class TensorView(Frozen):
    name: str
    dtype: str
    shape: tuple[int, ...]


class ModelView(Frozen):
    """A global model, as the trail tells it; one that came back by rollback has an entry for each time."""

    model_id: str
    index: int
    """Of its trail entry."""
    entry_hash: str
    kind: EntryKind
    session: str = ""
    round: int | None = None
    parent: str = ""
    time: float
    metrics: Metrics = Field(default_factory=dict)
    """Training metrics."""
    contributions: int = 0
    """Clients whose updates are in it."""
    head: bool = False
    size_bytes: int | None = None
    """None where the store no longer has its bytes, and in lists."""
    validation: Metrics = Field(default_factory=dict)
    """Mean over the clients' validations by examples; empty in lists."""
    num_validations: int = 0
    tensors: tuple[TensorView, ...] = ()
    """Empty in lists."""
    links: dict[str, str] = Field(default_factory=dict)


class TrailKey(Frozen):
    """GET trail/key: whose signatures the trail bears."""

    federation: str
    key_id: str
    public_key: str
    """PEM of the Ed25519 key."""


class TrailVerification(Frozen):
    """GET trail/verify; a broken trail is an error answer (`trail_broken`, `trail_cut`)."""

    federation: str
    length: int
    head: str
    key_id: str


# Packages, store, status, events


class PackageView(Frozen):
    package_id: str
    name: str
    size_bytes: int
    uploaded_at: float
    active: bool = False
    """Whether new sessions use it where their plan names none."""
    format: str = "safetensors"
    helper: str = ""
    learner: str = ""
    entry_points: tuple[str, ...] = ()


class PackageActivation(Frozen):
    """PUT packages/active."""

    package_id: str | None
    """None: no package; clients bring their own Learner."""


class GcRequest(Frozen):
    """POST store/gc: removes objects of the model store that nothing names."""

    older_than_s: float = Field(default=86400.0, ge=0)
    dry_run: bool = False


class GcReply(Frozen):
    removed: tuple[str, ...]
    """Digests; of what would be removed, for a dry run. The first 10,000."""
    num_removed: int
    removed_bytes: int
    kept: int
    retained: int = 0
    """Unreferenced, but under the store's retention."""
    dry_run: bool


class StoreStatus(Frozen):
    state: Literal["ok", "unavailable"]
    message: str = ""


class StatusView(Frozen):
    """GET status."""

    federation: str
    version: str
    state: Literal["idle", "running"]
    session: str = ""
    """Id of the running session."""
    epoch: int
    started_at: float
    combiners: int
    combiners_alive: int
    clients: int
    """Enrolled."""
    clients_attached: int
    trail_length: int
    trail_head: str
    model_id: str = ""
    """The head's model."""
    package_id: str = ""
    stores: dict[str, StoreStatus] = Field(default_factory=dict)
    """`models` and `state`."""


class EventView(Frozen):
    number: int
    """Grows; `after` of GET events and Last-Event-ID go on behind it."""
    kind: str
    time: float
    fields: dict[str, Any] = Field(default_factory=dict)


TrailPage = Page[TrailEntry]
ModelPage = Page[ModelView]
SessionPage = Page[SessionView]
RoundPage = Page[RoundView]
CombinerPage = Page[CombinerView]
ClientPage = Page[ClientView]
PackagePage = Page[PackageView]
PredictionPage = Page[PredictionView]
ValidationPage = Page[ValidationRecord]


class EventList(Frozen):
    """GET events as JSON: those with a number greater than `after`, in order."""

    events: tuple[EventView, ...]
    last: int
    """Number to go on from."""
