"""Global models, the trail, and what clients found of the models."""

from pydantic import Field

from fedn.protocol.rest.base import Page
from fedn.protocol.tasks import Frozen, Metrics
from fedn.protocol.trail import EntryKind, TrailEntry, ValidationRecord


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
    """Of an encrypted model: those that it stands for. Empty in lists."""
    encrypted_with: str = ""
    """Id of the data owners' key; empty where it is not encrypted, and in lists."""
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


TrailPage = Page[TrailEntry]
ModelPage = Page[ModelView]
ValidationPage = Page[ValidationRecord]
