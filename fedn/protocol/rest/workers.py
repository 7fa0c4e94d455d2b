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


WorkerGroupPage = Page[WorkerGroupView]
