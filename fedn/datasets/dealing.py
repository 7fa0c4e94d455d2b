"""How examples are dealt out to sites, by their labels or not. Pure arithmetic: what a site is told is elsewhere.

Every function returns sorted int64 positions among the examples; deals are disjoint, and together all of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Positions = np.ndarray[Any, np.dtype[np.int64]]

SMALLEST = 10
"""Examples that each site gets at least, where there are enough."""


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


def deal_classes(labels: Array, count: int, classes: int, draw: np.random.Generator) -> list[Positions]:
    """Each of `count` sites gets examples of `classes` labels only, as in McMahan et al. 2017 (there, two digits).

    The labels go round in random order, so that each is at as many sites as any other, up to one; a label's examples
    are dealt out evenly among its sites (to some of them, where it has fewer). There must be at most count · classes
    labels, and at least `classes`.
    """
    names = draw.permutation(np.unique(labels))
    order = draw.permutation(count)
    having: dict[int, list[int]] = {place: [] for place in range(len(names))}
    for turn in range(count * classes):
        having[turn % len(names)].append(int(order[turn // classes]))
    sites: list[list[Positions]] = [[] for _ in range(count)]
    for place, name in enumerate(names):
        positions = draw.permutation(np.flatnonzero(labels == name))
        for number, site in enumerate(having[place]):
            sites[site].append(positions[number :: len(having[place])])
    return [np.sort(np.concatenate(site)) for site in sites]


def draw_classes(labels: Array, size: int, classes: int, draw: np.random.Generator) -> Positions:
    """About `size` examples of one site that has `classes` labels (or all, if there are fewer), evenly of each."""
    names = np.unique(labels)
    chosen = draw.permutation(names)[:classes]
    parts = deal_evenly(size, len(chosen), draw)
    found = [
        draw.permutation(np.flatnonzero(labels == name))[: max(1, len(part))]
        for name, part in zip(chosen, parts, strict=True)
    ]
    return np.sort(np.concatenate(found))


def split_arrays(arrays: Sequence[Array], pieces: Sequence[Positions]) -> list[tuple[Array, ...]]:
    """The same positions of each array (all of one length), a tuple a site: `split_arrays((x, y), pieces)`."""
    return [tuple(array[piece] for array in arrays) for piece in pieces]


def deal_files(folder: Path, pattern: str, count: int, seed: int) -> list[list[Path]]:
    """The files of a folder that fit the pattern (`*.png`), dealt out evenly in random order; each site's sorted."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    return [[files[at] for at in piece] for piece in deal_evenly(len(files), count, np.random.default_rng(seed))]
