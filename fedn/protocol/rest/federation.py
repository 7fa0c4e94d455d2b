"""What the federation does, and its events."""

from typing import Any, Literal

from pydantic import Field

from fedn.protocol.tasks import Frozen


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


class EventList(Frozen):
    """GET events as JSON: those with a number greater than `after`, in order."""

    events: tuple[EventView, ...]
    last: int
    """Number to go on from."""
