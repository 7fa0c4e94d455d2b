"""Enrolment and tokens; combiners, clients, and where clients attach."""

from typing import Literal

from pydantic import Field

from fedn.protocol.rest.base import Page
from fedn.protocol.rest.workers import MAX_REPORTED_WORKERS, WorkerGroupReport
from fedn.protocol.tasks import Frozen, TaskKind

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
    worker_groups: tuple[WorkerGroupReport, ...] = Field(default=(), max_length=MAX_REPORTED_WORKERS)
    """Groups at home here of which something changed since the last heartbeat that was answered."""


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


CombinerPage = Page[CombinerView]
ClientPage = Page[ClientView]
