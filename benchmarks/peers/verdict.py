"""Reads rows of one run of several systems, and says for each cell whether it keeps its ratios. Pure."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.counts import format_count
from benchmarks.results import Row, markdown
from benchmarks.targets import FLOOR_FACTOR, TARGETS, best_peer, passes, required_ratio


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One cell of ours, of one number of combiners, with or without TLS, against the peers of the same run."""

    params: int
    clients: int
    combiners: int
    tls: bool
    peers_s: dict[str, float]
    """Median seconds a round of each peer that finished the cell."""
    ours_s: float | None
    of_floor: float | None
    combiner_mb: float | None

    @property
    def best(self) -> str | None:
        """The fastest peer."""
        return best_peer(self.peers_s)

    @property
    def ratio(self) -> float | None:
        """Our time over the fastest peer's."""
        return self.ours_s / self.peers_s[self.best] if self.ours_s is not None and self.best else None

    @property
    def required(self) -> float | None:
        """The most that the ratio may be: what the table says of us and this very peer."""
        cell = self.params, self.clients
        return required_ratio(cell, self.best, tls=self.tls, combiners=self.combiners) if self.best else None

    @property
    def limit_mb(self) -> float | None:
        target = TARGETS.get((self.params, self.clients))
        return target.combiner_mb if target else None

    @property
    def passed(self) -> bool | None:
        """Whether all that can be judged is kept; None where nothing can. A cell that failed has not passed."""
        if self.ours_s is None:
            return False
        has_target = (self.params, self.clients) in TARGETS
        judged = [
            passes(self.ratio, self.required),
            passes(self.of_floor, FLOOR_FACTOR if has_target else None),
            passes(self.combiner_mb, self.limit_mb),
        ]
        known = [one for one in judged if one is not None]
        return all(known) if known else None


def verdicts(rows: Iterable[Row]) -> list[Verdict]:
    """A verdict for each cell of ours, in the order of its size; several runs of a cell count by their median."""
    ours: dict[tuple[int, int, int, bool], list[Row]] = {}
    peers: dict[tuple[int, int], dict[str, list[float]]] = {}
    for row in rows:
        if row.get("bench") != "rounds":
            continue
        if row["system"] == "fedn":
            ours.setdefault((row["params"], row["clients"], row["combiners"], row["tls"]), []).append(row)
        elif "round_s" in row:
            times = peers.setdefault((row["params"], row["clients"]), {})
            times.setdefault(row["system"].partition("-")[0], []).append(row["round_s"])
    made = []
    for (params, clients, combiners, tls), mine in sorted(ours.items(), key=lambda item: (item[0][:3], not item[0][3])):
        of_peers = peers.get((params, clients), {})
        made.append(
            Verdict(
                params=params,
                clients=clients,
                combiners=combiners,
                tls=tls,
                peers_s={name: statistics.median(times) for name, times in sorted(of_peers.items())},
                ours_s=_median(mine, "round_s"),
                of_floor=_median(mine, "of_floor"),
                combiner_mb=_median(mine, "server_rss_mb"),
            )
        )
    return made


def table(found: Sequence[Verdict]) -> str:
    """The verdicts as Markdown."""
    names = sorted({name for one in found for name in one.peers_s})
    columns = [
        *("params", "clients", "combiners", "TLS"),
        *(f"{name} s" for name in names),
        *("fedn s", "of best", "required", "kept", "× floor", f"≤ {FLOOR_FACTOR:g}"),
        *("combiner MB", "limit MB", "pass"),
    ]
    lines = [
        [
            *(format_count(one.params), one.clients, one.combiners, one.tls),
            *(one.peers_s.get(name) for name in names),
            *(one.ours_s, one.ratio, one.required, passes(one.ratio, one.required)),
            *(one.of_floor, passes(one.of_floor, FLOOR_FACTOR)),
            *(one.combiner_mb, one.limit_mb, one.passed),
        ]
        for one in found
    ]
    return markdown(columns, lines)


def _median(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if key in row]
    return statistics.median(values) if values else None
