"""Which examples a site has: a piece of a data set that all sites cut alike, without talking to one another.

Pure arithmetic on labels and seeds. Either the site is told that it is number `index` of `count` (`Partition`, in its
data directory's partition.json), and the pieces together are the whole; or it knows only its own name (`Draw`), and
draws as if the data set were the population: pieces of two sites may then overlap.

Labels are dealt out evenly (IID), by Dirichlet draws, or so that a site has only some of them: see
`fedn.datasets.dealing`.
"""

import hashlib
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NoReturn

import numpy as np

from fedn.datasets.dealing import (
    Array,
    Positions,
    deal_by_label,
    deal_classes,
    deal_evenly,
    draw_by_label,
    draw_classes,
)
from fedn.protocol.errors import InvalidInput

PARTITION_FILE = "partition.json"
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
    """Piece number `index` (from 0) of `count`; pieces of one seed, dealt in one way, are disjoint and together all."""

    index: int = 0
    count: int = 1
    seed: int = 0
    alpha: float | None = DEFAULT_ALPHA
    """Of the Dirichlet draws: the smaller, the more uneven. None: IID."""
    classes: int | None = None
    """Labels that a site has; then alpha does not matter. None: as alpha says."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in {"alpha", "classes"} and (not isinstance(value, int) or isinstance(value, bool)):
                _refuse(f"{item.name} must be a whole number, not {value!r}")
        if not 1 <= self.count <= _MAX_COUNT:
            _refuse(f"count must be from 1 to {_MAX_COUNT}, not {self.count}")
        if not 0 <= self.index < self.count:
            _refuse(f"index {self.index} is not one of 0..{self.count - 1}")
        if self.seed < 0:
            _refuse(f"seed must be 0 or more, not {self.seed}")
        check_alpha(self.alpha)
        check_classes(self.classes)

    def training(self, labels: Array) -> Positions:
        """Positions among `labels` (n,) of this piece, sorted. InvalidInput (`bad_partition`) where n < count."""
        if len(labels) < self.count:
            _refuse(f"{len(labels)} examples are too few for {self.count} sites")
        draw = np.random.default_rng([self.seed, _TRAINING])
        if self.classes is not None:
            known = len(np.unique(labels))
            if not known <= self.count * self.classes or self.classes > known:
                _refuse(
                    f"{self.count} sites with {self.classes} labels each cannot have all of {known} labels between them"
                )
            return deal_classes(labels, self.count, self.classes, draw)[self.index]
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
    """As of `Partition`, like `classes`."""
    classes: int | None = None

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        check_classes(self.classes)

    def training(self, labels: Array) -> Positions:
        """As `Partition.training`."""
        if len(labels) == 0:
            _refuse("there are no examples")
        size, draw = max(1, round(len(labels) * SHARE)), self._stream(_TRAINING)
        if self.classes is not None:
            return draw_classes(labels, size, self.classes, draw)
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


def read_piece(data_path: Path | None, client: str, *, alpha: object = DEFAULT_ALPHA, classes: object = None) -> Piece:
    """What `partition.json` in the site's data directory says; without one, what follows from its name.

    Args:
        data_path: the site's data directory; None where it has none.
        client: the site's name.
        alpha: a number or `iid`, as the session's plan says; partition.json may say otherwise for its site.
        classes: labels that a site has, or None, as the plan says; partition.json may say otherwise.

    Raises:
        InvalidInput: (`bad_partition`).
    """
    file = None if data_path is None else data_path / PARTITION_FILE
    if file is None or not file.exists():
        return Draw(client, alpha=as_alpha(alpha), classes=as_classes(classes))
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
        _refuse(f"{file} must have index and count, may have seed, alpha and classes, and nothing else")
    how = {"alpha": as_alpha(content.get("alpha", alpha)), "classes": as_classes(content.get("classes", classes))}
    return Partition(**(content | how))


def as_alpha(value: object) -> float | None:
    """A number, or None for `iid`. InvalidInput (`bad_partition`) for anything else."""
    if value == IID:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(f"alpha must be a number or {IID!r}, not {value!r}")
    check_alpha(value)
    return float(value)


def as_classes(value: object) -> int | None:
    """A count of labels, or None. InvalidInput (`bad_partition`) for anything else."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        _refuse(f"classes must be a whole number, not {value!r}")
    check_classes(value)
    return value


def check_classes(classes: int | None) -> None:
    """InvalidInput (`bad_partition`) where no site can have so many labels."""
    if classes is not None and not 1 <= classes <= _MAX_COUNT:
        _refuse(f"classes must be from 1 to {_MAX_COUNT}, not {classes}")


def check_alpha(alpha: float | None) -> None:
    """InvalidInput (`bad_partition`) where Dirichlet draws cannot be made with it."""
    if alpha is not None and not (math.isfinite(alpha) and _MIN_ALPHA <= alpha <= _MAX_ALPHA):
        _refuse(f"alpha must be from {_MIN_ALPHA:g} to {_MAX_ALPHA:g}, or {IID!r}; it is {alpha}")


_FIX = f'Write {PARTITION_FILE} as {{"index": 0, "count": 5, "seed": 0, "alpha": 0.5}}, or remove it.'


def _refuse(fault: str) -> NoReturn:
    raise InvalidInput("bad_partition", f"a site's piece of the data cannot be told: {fault}", fix=_FIX)
