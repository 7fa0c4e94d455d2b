"""Which examples a site has: a piece of a data set that all sites cut alike, without talking to one another.

Pure arithmetic on labels and seeds. Either the site is told that it is number `index` of `count` (`Partition`, in its
data directory's partition.json), and the pieces together are the whole; or it knows only its own name (`Draw`), and
draws as if the data set were the population: pieces of two sites may then overlap.

Labels are dealt out evenly (IID) or by Dirichlet draws: see `deal_by_label` and `draw_by_label`.
"""

import hashlib
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from fedn.protocol.errors import InvalidInput

Array = np.ndarray[Any, Any]
Positions = np.ndarray[Any, np.dtype[np.int64]]

PARTITION_FILE = "partition.json"
SMALLEST = 10
"""Examples that each site gets at least, where there are enough."""
SHARE = 0.1
"""Of the data set, that a site draws which knows only its name."""
DEFAULT_ALPHA = 0.5
IID = "iid"
"""In place of a number for alpha: labels are spread evenly."""

_MIN_ALPHA, _MAX_ALPHA = 1e-3, 1e6
"""Beyond these, Dirichlet draws in float64 come out as one label a site, or as even as IID."""
_MAX_COUNT = 1_000_000
_MAX_FILE_BYTES = 1 << 16
_TRAINING, _HELD_OUT, _OWN = 2, 3, 4
"""Streams of random numbers, so that one split does not follow from the other."""


@dataclass(frozen=True)
class Partition:
    """Piece number `index` (from 0) of `count`; the pieces of one seed and alpha are disjoint, and together all."""

    index: int = 0
    count: int = 1
    seed: int = 0
    alpha: float | None = DEFAULT_ALPHA
    """Of the Dirichlet draws: the smaller, the more uneven. None: IID."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != "alpha" and (not isinstance(value, int) or isinstance(value, bool)):
                _refuse(f"{item.name} must be a whole number, not {value!r}")
        if not 1 <= self.count <= _MAX_COUNT:
            _refuse(f"count must be from 1 to {_MAX_COUNT}, not {self.count}")
        if not 0 <= self.index < self.count:
            _refuse(f"index {self.index} is not one of 0..{self.count - 1}")
        if self.seed < 0:
            _refuse(f"seed must be 0 or more, not {self.seed}")
        check_alpha(self.alpha)

    def training(self, labels: Array) -> Positions:
        """Positions among `labels` (n,) of this piece, sorted. InvalidInput (`bad_partition`) where n < count."""
        if len(labels) < self.count:
            _refuse(f"{len(labels)} examples are too few for {self.count} sites")
        draw = np.random.default_rng([self.seed, _TRAINING])
        if self.alpha is None:
            return deal_evenly(len(labels), self.count, draw)[self.index]
        return deal_by_label(labels, self.count, self.alpha, draw)[self.index]

    def held_out(self, total: int) -> Positions:
        """This piece's share of `total` examples that nobody trains on: IID, so that means over sites say what is."""
        if total < self.count:
            _refuse(f"{total} examples to validate on are too few for {self.count} sites")
        return deal_evenly(total, self.count, np.random.default_rng([self.seed, _HELD_OUT]))[self.index]

    def own_draw(self) -> np.random.Generator:
        """Random numbers of this site alone, for those who make their data up."""
        return np.random.default_rng([self.seed, _OWN, self.index])


@dataclass(frozen=True)
class Draw:
    """A tenth of the data set that follows from the site's name."""

    client: str
    seed: int = 0
    alpha: float | None = DEFAULT_ALPHA
    """As of `Partition`."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    def training(self, labels: Array) -> Positions:
        """As `Partition.training`."""
        if len(labels) == 0:
            _refuse("there are no examples")
        size, draw = max(1, round(len(labels) * SHARE)), self._stream(_TRAINING)
        if self.alpha is None:
            return np.sort(draw.permutation(len(labels))[:size])
        return draw_by_label(labels, size, self.alpha, draw)

    def held_out(self, total: int) -> Positions:
        """As `Partition.held_out`."""
        if total == 0:
            _refuse("there are no examples to validate on")
        return np.sort(self._stream(_HELD_OUT).permutation(total)[: max(1, round(total * SHARE))])

    def own_draw(self) -> np.random.Generator:
        """As `Partition.own_draw`."""
        return self._stream(_OWN)

    def _stream(self, stream: int) -> np.random.Generator:
        name = np.frombuffer(hashlib.sha256(self.client.encode()).digest(), ">u4")
        return np.random.default_rng([self.seed, stream, *map(int, name)])


Piece = Partition | Draw


def read_piece(data_path: Path | None, client: str, *, alpha: object = DEFAULT_ALPHA) -> Piece:
    """What `partition.json` in the site's data directory says; without one, what follows from its name.

    Args:
        data_path: the site's data directory; None where it has none.
        client: the site's name.
        alpha: a number or `iid`, as the session's plan says; partition.json may say otherwise for its site.

    Raises:
        InvalidInput: (`bad_partition`).
    """
    file = None if data_path is None else data_path / PARTITION_FILE
    if file is None or not file.exists():
        return Draw(client, alpha=as_alpha(alpha))
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_FILE_BYTES + 1)
        content = json.loads(text[:_MAX_FILE_BYTES]) if len(text) <= _MAX_FILE_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(
            "bad_partition", f"the file cannot be read as JSON: {error}", fix=_FIX, where={"file": file}
        ) from error
    known = {item.name for item in fields(Partition)}
    if not isinstance(content, dict) or not {"index", "count"} <= content.keys() <= known:
        _refuse(f"{file} must have index and count, may have seed and alpha, and nothing else")
    return Partition(**(content | {"alpha": as_alpha(content.get("alpha", alpha))}))


def as_alpha(value: object) -> float | None:
    """A number, or None for `iid`. InvalidInput (`bad_partition`) for anything else."""
    if value == IID:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(f"alpha must be a number or {IID!r}, not {value!r}")
    check_alpha(value)
    return float(value)


def check_alpha(alpha: float | None) -> None:
    """InvalidInput (`bad_partition`) where Dirichlet draws cannot be made with it."""
    if alpha is not None and not (math.isfinite(alpha) and _MIN_ALPHA <= alpha <= _MAX_ALPHA):
        _refuse(f"alpha must be from {_MIN_ALPHA:g} to {_MAX_ALPHA:g}, or {IID!r}; it is {alpha}")


def deal_evenly(total: int, count: int, draw: np.random.Generator) -> list[Positions]:
    """0..total-1 in random order, dealt out like cards: sizes differ by one at the most; each piece sorted."""
    order = draw.permutation(total)
    return [np.sort(order[index::count]) for index in range(count)]


def deal_by_label(labels: Array, count: int, alpha: float, draw: np.random.Generator) -> list[Positions]:
    """Deals the examples of each label out by shares of a symmetric Dirichlet distribution over the sites.

    As Yurochkin et al. 2019 (Bayesian nonparametric federated learning) did. Who gets fewer than SMALLEST examples
    (or half of an equal share, or one, if that is less) is filled up with random ones of whoever has most.

    Returns:
        Sorted positions of each of the `count` sites; together each position once.
    """
    sites: list[list[Positions]] = [[] for _ in range(count)]
    for label in np.unique(labels):
        positions = draw.permutation(np.flatnonzero(labels == label))
        shares = draw.dirichlet([alpha] * count)
        cuts = np.round(np.cumsum(shares)[:-1] * len(positions)).astype(int)
        for site, piece in zip(sites, np.split(positions, cuts), strict=True):
            site.append(piece)
    pieces = [np.concatenate(site) for site in sites]
    smallest = min(max(1, min(SMALLEST, len(labels) // (2 * count))), len(labels) // count)
    for poor in range(count):
        while (missing := smallest - len(pieces[poor])) > 0:
            rich = max(range(count), key=lambda site: len(pieces[site]))
            given = min(missing, len(pieces[rich]) - smallest)
            mixed = draw.permutation(pieces[rich])
            pieces[poor], pieces[rich] = np.concatenate([pieces[poor], mixed[:given]]), mixed[given:]
    return [np.sort(piece) for piece in pieces]


def draw_by_label(labels: Array, size: int, alpha: float, draw: np.random.Generator) -> Positions:
    """About `size` examples of one site, whose share of each label is a symmetric Dirichlet draw (Hsu et al. 2019).

    None twice; fewer than `size` where a label has not so many examples as the site would have of it.
    """
    names, counts = np.unique(labels, return_counts=True)
    wanted = draw.multinomial(size, draw.dirichlet([alpha] * len(names)))
    chosen = [
        draw.permutation(np.flatnonzero(labels == name))[: min(want, has)]
        for name, want, has in zip(names, wanted, counts, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


_FIX = f'Write {PARTITION_FILE} as {{"index": 0, "count": 5, "seed": 0, "alpha": 0.5}}, or remove it.'


def _refuse(fault: str) -> NoReturn:
    raise InvalidInput("bad_partition", f"a site's piece of the data cannot be told: {fault}", fix=_FIX)
