"""How numbers, times, sizes and names are written for people."""

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def instant(unix_s: float | None) -> str:
    """A time for machines, ISO 8601 in UTC; empty for none."""
    return "" if not unix_s else dt.datetime.fromtimestamp(unix_s, dt.UTC).isoformat(timespec="milliseconds")


def moment(unix_s: float | None) -> str:
    """A time for people, UTC; empty for none."""
    return "" if not unix_s else f"{dt.datetime.fromtimestamp(unix_s, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def size(num_bytes: float | None) -> str:
    if num_bytes is None:
        return ""
    value, unit = float(num_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """12 ms, 3.4 s, 2 min 5 s, 3 h 20 min, 4 d 2 h."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for big, small, length, part in (("min", "s", 60, 1), ("h", "min", 3600, 60), ("d", "h", 86400, 3600)):
        if whole < length * (60 if big == "min" else 24) or big == "d":
            rest = whole % length // part
            return f"{whole // length} {big}" + (f" {rest} {small}" if rest else "")
    raise AssertionError("days are the last unit")


def number(value: Any, digits: int = 4) -> str:
    """A metric: as many digits as tell something."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "" if value is None else str(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return f"{value:.{digits}g}".replace("-", "−") if value else "0"


def count(value: int, one: str, many: str = "") -> str:
    """`1 client`, `3 clients`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}".replace(",", " ")


def words(name: str) -> str:
    """`not_selected` as people say it."""
    return name.replace("_", " ")


def short(digest: str) -> str:
    """The start of a digest, long enough to tell models apart."""
    algorithm, _, value = digest.rpartition(":")
    return value[:12] if algorithm else digest[:12]


def sentence(text: str) -> str:
    """With a capital at its start and a full stop at its end."""
    text = text.strip()
    if not text:
        return ""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ":")) else ".")


FILTERS: dict[str, Callable[..., str]] = {
    "instant": instant,
    "moment": moment,
    "size": size,
    "duration": duration,
    "num": number,
    "counted": count,
    "words": words,
    "short": short,
    "sentence": sentence,
}
