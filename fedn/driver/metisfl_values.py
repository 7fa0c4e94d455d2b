"""What the keys of a MetisFL file are gathered in, and how their values are read. Each reader raises ValueError."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Draft:
    """The values of a file, under names of ours; None where it does not say. Mutable: keys fill it in."""

    learners: int = 0
    rule: str | None = None
    scaling_factor: str | None = None
    stride_length: int | None = None
    participation: float | None = None
    scheduler: str | None = None
    semi_sync_lambda: float | None = None
    semi_sync_recompute: bool | None = None
    store: str | None = None
    store_host: str | None = None
    store_port: int | None = None
    eviction: str | None = None
    lineage_length: int | None = None
    rounds: int | None = None
    stop_after_s: float | None = None
    metric: str | None = None
    cutoff: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    fedprox: bool = False
    proximal_mu: float | None = None
    port: int | None = None
    devices: list[list[int]] = field(default_factory=list)


def put(name: str, read: Callable[[Any], Any]) -> Callable[[Draft, Any], None]:
    """Puts what `read` makes of a value into that field of the draft."""

    def take(draft: Draft, value: Any) -> None:
        setattr(draft, name, read(value))

    return take


def choice(names: Mapping[str, str]) -> Callable[[Any], str]:
    """One of their names, to ours."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"{value!r} is not one of {', '.join(names)}")
        return names[value]

    return read


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"a text is needed, not {value!r}")
    return value


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"true or false is needed, not {value!r}")
    return value


def whole(value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"a whole number of at least {least} is needed, not {value!r}")
    return value


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"a number is needed, not {value!r}")
    return float(value)


def minutes(value: Any) -> float:
    """As seconds."""
    found = number(value)
    if found <= 0:
        raise ValueError("it must be above 0")
    return found * 60
