"""Worker groups: who they are, and where a worker attaches."""

from typing import Literal

from pydantic import Field

from fedn.protocol.rest.base import Page
from fedn.protocol.tasks import Frozen


class WorkerGroupRequest(Frozen):
    """POST worker-groups."""

    name: str
    size: int = Field(ge=1)
    """Workers; their ranks are 0 to size - 1."""
    clients: tuple[str, ...] = Field(default=(), max_length=1000)
    """Whose tokens open it: names of clients, with `*` for any characters; empty: every client of the federation."""


class WorkerMember(Frozen):
    rank: int
    client: str


class WorkerGroupView(Frozen):
    name: str
    size: int
    clients: tuple[str, ...] = ()
    members: tuple[WorkerMember, ...] = ()
    """The ranks that are given, ascending."""
    home: str = ""
    """The combiner where its workers meet; empty: none has come yet."""
    created_at: float


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
