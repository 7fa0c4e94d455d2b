"""A round over time: its parts, and what each client did when. Pure: numbers for an SVG that a template draws."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedn.protocol.rest import RoundView, round_statistics
from fedn.protocol.rounds import LedgerEntry, LedgerState
from fedn.reducer.watching.marks import Marks

NAME_WIDTH, CHART_WIDTH, ROW_HEIGHT = 150, 700, 24
"""Of the drawing, in units of its view box."""
MAX_ROWS = 60
PARTS = ("waiting", "dispatch", "training", "collecting", "aggregation", "commit")
"""Of a round, in the order in which they happen; the names of `times_ms`, and `dispatch`: training begins with it."""
_STEPS = (1, 2, 5)
_LEAST_S = 1e-3


@dataclass(frozen=True)
class Bar:
    part: str
    x: float
    width: float
    seconds: float


@dataclass(frozen=True)
class Row:
    entry: LedgerEntry
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Tick:
    x: float
    seconds: float


@dataclass(frozen=True)
class Timeline:
    total_s: float
    parts: tuple[Bar, ...]
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    left_out: int
    """Clients that have no row."""

    @property
    def height(self) -> int:
        return ROW_HEIGHT * (len(self.rows) + 1) + 34


def parts_of(view: RoundView) -> dict[str, float]:
    """Seconds of each part of a round, in order, as far as they were measured; `other` is what is left of the whole."""
    times = {name: view.times_ms[name] / 1e3 for name in PARTS if view.times_ms.get(name, 0) > 0}
    dispatch_ms = round_statistics(view).dispatch_ms
    if dispatch_ms is not None and "training" in times:
        dispatch = min(dispatch_ms / 1e3, times["training"])
        times = times | {"dispatch": dispatch, "training": times["training"] - dispatch}
    found = {name: times[name] for name in PARTS if times.get(name, 0) > 0}
    other = view.times_ms.get("total", 0) / 1e3 - sum(found.values())
    return found | ({"other": other} if other > _LEAST_S else {})


def bars(parts: Mapping[str, float], width: float, longest_s: float) -> tuple[Bar, ...]:
    """The parts one behind the other, drawn so that `longest_s` seconds are as long as `width`."""
    x, found = 0.0, []
    for part, seconds in parts.items():
        long = width * seconds / longest_s if longest_s > 0 else 0.0
        found.append(Bar(part, round(x, 2), round(long, 2), seconds))
        x += long
    return tuple(found)


def timeline(view: RoundView, marks: Marks | None, now: float) -> Timeline | None:
    """A round's timeline; None for one without clients.

    Args:
        marks: of the same attempt; None: then what clients said of their work has to do.
        now: Unix time in seconds; where a running round ends.
    """
    entries = [entry for entry in view.ledger if entry.state is not LedgerState.NOT_SELECTED]
    if not entries:
        return None
    if marks is not None and marks.attempt != view.attempt:
        marks = None
    begin = view.started_at
    end = max(view.ended_at or now, begin + _LEAST_S)
    # Rounds are committed while the next one runs, and clocks may step: nothing leaves the chart.
    scale = CHART_WIDTH / (end - begin)

    def bar(part: str, start: float, stop: float) -> Bar:
        start, stop = min(max(start, begin), end), min(max(stop, begin), end)
        return Bar(part, round((start - begin) * scale, 2), round(max(0.0, stop - start) * scale, 2), stop - start)

    rows = [Row(entry, tuple(_bars_of(entry, marks, end, bar))) for entry in entries[:MAX_ROWS]]
    return Timeline(
        total_s=end - begin,
        parts=bars(parts_of(view), CHART_WIDTH, end - begin),
        rows=tuple(rows),
        ticks=tuple(Tick(round(at * scale, 2), at) for at in _ticks(end - begin)),
        left_out=len(entries) - len(rows),
    )


def _clients(marks: Marks | None) -> Mapping[str, Sequence[tuple[str, float]]]:
    return marks.clients if marks is not None else {}


def _bars_of(
    entry: LedgerEntry, marks: Marks | None, end: float, bar: Callable[[str, float, float], Bar]
) -> Iterator[Bar]:
    """What the client did, one behind the other, up to its final state."""
    changes = list(_clients(marks).get(entry.client, ()))
    if marks is not None and changes:
        changes.insert(0, (LedgerState.SELECTED.value, marks.dispatched_at))
        ends = [at for _, at in changes[1:]] + [end]
        for (state, since), until in zip(changes, ends, strict=True):
            if not LedgerState(state).final:
                yield bar(state, since, until)
    elif entry.metadata is not None and entry.updated_at:
        yield bar("training", entry.updated_at - entry.metadata.task_ms / 1e3, entry.updated_at)
    elif marks is not None and not entry.state.final:
        yield bar(entry.state.value, marks.dispatched_at, end)


def _ticks(total_s: float) -> list[float]:
    """Round times, four to ten of them, from 0 on."""
    rough = total_s / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * digit for digit in _STEPS if power * digit >= rough), power * 10)
    return [round(step * number, 9) for number in range(int(total_s / step) + 1)]
