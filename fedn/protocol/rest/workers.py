"""Worker groups: who they are, and where a worker attaches."""

from typing import Literal

from pydantic import Field

from fedn.protocol.rest.base import Page
from fedn.protocol.tasks import Frozen

MAX_REASON = 1024
"""Characters of why a worker failed."""
MAX_REPORTED_WORKERS = 500
"""In one heartbeat of a combiner: with the longest reasons, less than the reducer takes as one body."""


class WorkerGroupRequest(Frozen):
    """POST worker-groups."""

    name: str
    size: int = Field(ge=1)
    """Workers; their ranks are 0 to size - 1."""
    clients: tuple[str, ...] = Field(default=(), max_length=1000)
    """Whose tokens open it: names of clients, with `*` for any characters; empty: every client of the federation."""


class Relayed(Frozen):
    """What combiners relayed for one worker, or for all of a group."""

    sent_messages: int = Field(default=0, ge=0)
    """That the group's home took in, as the next one."""
    sent_bytes: int = Field(default=0, ge=0)
    received_messages: int = Field(default=0, ge=0)
    """That their receivers have acknowledged, as the next one."""
    received_bytes: int = Field(default=0, ge=0)
    repeated_bytes: int = Field(default=0, ge=0)
    """That came or went again, after a stream or a home had broken; in none of the others."""
    spooled_bytes: int = Field(default=0, ge=0)
    """In the home's spool now, not acknowledged by their receivers."""


class WorkerTraffic(Relayed):
    """One worker, as its home knows it."""

    state: Literal["attached", "away", "finished", "failed"] = "away"
    """`away`: it has no stream, or has never come."""
    reason: str = Field(default="", max_length=MAX_REASON)
    """For `failed`."""
    heard_at: float = Field(default=0.0, ge=0)
    """Its last message, Unix time in seconds; 0: none has come."""


class WorkerReport(WorkerTraffic):
    rank: int = Field(ge=0)


class WorkerGroupReport(Frozen):
    """What a combiner says, with its heartbeat, of a group that is at home there."""

    group: str = Field(max_length=64)
    run: str = Field(max_length=64)
    """Counts of another run begin again at 0."""
    workers: tuple[WorkerReport, ...] = Field(max_length=MAX_REPORTED_WORKERS)
    """Those of which something changed."""


class WorkerMember(Frozen):
    rank: int
    client: str
    traffic: WorkerTraffic = WorkerTraffic()
    """Since the group was made, or the reducer started."""


class WorkerGroupView(Frozen):
    name: str
    size: int
    clients: tuple[str, ...] = ()
    members: tuple[WorkerMember, ...] = ()
    """The ranks that are given, ascending."""
    home: str = ""
    """The combiner where its workers meet; empty: none has come yet."""
    created_at: float
    attached: int = 0
    """Workers that have a stream now."""
    traffic: Relayed = Relayed()
    """Of all its workers: the sum of theirs."""


class WorkerJoin(Frozen):
    """POST worker-groups/<name>/members, by a client: a place for the worker that it is."""

    rank: int | None = Field(default=None, ge=0)
    """None: the one that the client has already, or the next free one."""
    combiner: str = ""
    """Where it would attach; empty: at the group's home."""
    avoid: tuple[str, ...] = Field(default=(), max_length=1000)
    """Combiners that were just tried in vain."""


class WorkerAssignment(Frozen):
    """A worker's place, or why it must ask again, and when."""

    status: Literal["assigned", "retry"]
    reason: str = ""
    """For `retry`, in words."""
    code: str = ""
    """For `retry`: no_combiner or home_away."""
    retry_after_s: float = 0.0
    group: str
    rank: int = 0
    size: int = 0
    home: str = ""
    combiner: str = ""
    """Where to attach, at the next two; another one than the home hands the stream on to that."""
    host: str = ""
    port: int = 0
    ca: str = ""
    """PEM; the combiner's certificate is verified against it."""
    ticket: str = ""
    """For the worker's Hello."""
    token: str = ""
    """For the combiner and the reducer."""
    expires_at: float = 0.0


class RelayTokenRequest(Frozen):
    """POST worker-groups/<name>/relay-tokens, by the combiner that the ticket's worker is attached to."""

    ticket: str


class RelayTokenReply(Frozen):
    token: str
    """Opens the RPC Relay of the group's home, and nothing else."""
    expires_at: float


class DetourRequest(Frozen):
    """POST worker-groups/<name>/detours, by the combiner that the ticket's worker is attached to."""

    ticket: str
    call: str = Field(min_length=16, max_length=64)
    """Names the stream when the reducer comes for it: nobody else can know it."""
    reason: str = Field(max_length=1000)
    """Why that combiner does not reach the home."""


WorkerGroupPage = Page[WorkerGroupView]
