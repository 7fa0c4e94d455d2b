"""Forests: the trees of all clients together are the model."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from fedn.aggregation.gathering.base import Gathered, Gathering, Rows, Scope, Spill
from fedn.aggregation.values import PlainValues, UpdateValues
from fedn.models.codecs.base import PIECE, Check, Flat
from fedn.models.digest import Buffer
from fedn.models.forest import Tree, pack, read_forest, read_shape
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.plan.option_values import OptionValues, read_values
from fedn.protocol.errors import InvalidInput, UpdateRefused


class Forest(Gathering):
    """The union of the trees that clients grow: a random forest over everybody's data (Breiman 2001).

    Clients return new trees only; the model keeps the ones that it had. Where there is no room for all, clients' trees
    go in by their weights, and the oldest go out first. Each tree counts the same in a prediction.
    """

    name = "forest"
    needs = frozenset({Check.VALUES})
    weighs = True
    over_needs_base = True
    is_numeric = False
    scope: Scope = "global"

    class Options(OptionValues):
        max_trees: int | None = Field(default=None, ge=1)
        """Trees of the model at the most; null: as many as it has room for."""
        trees_per_round: int | None = Field(default=None, ge=1)
        """New trees a round at the most, from each client by its weight; null: all that are returned."""

    def __init__(self, **options: Any) -> None:
        self._given = read_values("rule", self.name, self.Options, options)

    def gather(self, base: ModelSpec, base_model: Buffer | Pieces, spill: Spill) -> "GatheredForests":
        return GatheredForests(self.over, base, base_model, spill)

    def over(self, rows: Rows) -> UpdateValues:
        assert rows.base_model is not None  # `over_needs_base` sees to it
        base = rows.base
        known = whole_tensors(PlainValues.whole(rows.base_model), base)
        shape = read_shape(known)
        old = deque(read_forest(known, shape))
        grown = [read_forest(whole_tensors(row, rows.spec), shape) for row in rows.updates]
        room = min(shape.max_trees, self._given.max_trees or shape.max_trees)
        new = shared_out(grown, rows.weights.tolist(), min(room, self._given.trees_per_round or room))
        while old and len(old) + len(new) > room:
            old.popleft()
        trees = _fitting(old, new, shape.max_nodes)
        return _Arrays({name: array.reshape(-1) for name, array in pack(trees, shape).items()})


class GatheredForests(Gathered):
    """Refuses what is no forest like the base before it is kept."""

    def __init__(self, over: Any, base: ModelSpec, base_model: Buffer | Pieces, spill: Spill) -> None:
        super().__init__(over, base, base_model, spill)
        self._shape = read_shape(whole_tensors(PlainValues.whole(base_model), base))

    def _keep(self, row: memoryview, weight: float) -> None:
        try:
            read_forest(whole_tensors(PlainValues(row, self._maker.spec), self._maker.spec), self._shape)
        except InvalidInput as error:
            raise UpdateRefused(error.code, error.message, fix=error.fix, where=error.where) from error
        super()._keep(row, weight)


class _Grown(NamedTuple):
    """A new tree, and whose it is."""

    client: int
    tree: Tree


def shared_out(grown: Sequence[Sequence[Tree]], weights: Sequence[float], room: int) -> list[_Grown]:
    """At most `room` of the clients' trees, from each by its weight (largest remainders), in turns.

    Who has fewer trees than its share leaves the rest to the others.
    """
    taken = [0] * len(grown)
    free = min(room, sum(map(len, grown)))
    while free:
        open_to = [at for at, trees in enumerate(grown) if taken[at] < len(trees)]
        total = sum(weights[at] for at in open_to)
        shares = {at: free * weights[at] / total for at in open_to}
        short = [at for at in open_to if shares[at] >= len(grown[at])]
        if short:
            for at in short:
                taken[at] = len(grown[at])
            free -= sum(taken[at] for at in short)
            continue
        taken = [int(shares.get(at, count)) for at, count in enumerate(taken)]
        left = free - sum(taken[at] for at in open_to)
        for at in sorted(open_to, key=lambda at: (taken[at] - shares[at], at))[:left]:
            taken[at] += 1
        free = 0
    order = [(number, at) for at, count in enumerate(taken) for number in range(count)]
    return [_Grown(at, grown[at][number]) for number, at in sorted(order)]


def _fitting(old: deque[Tree], new: list[_Grown], max_nodes: int) -> list[Tree]:
    """Those for whose nodes there is room: the oldest go first, then the last of who has the most."""
    total = sum(tree.size for tree in old) + sum(one.tree.size for one in new)
    while total > max_nodes and old:
        total -= old.popleft().size
    while total > max_nodes:
        counts = np.bincount([one.client for one in new])
        most = int(np.argmax(counts))
        at = max(position for position, one in enumerate(new) if one.client == most)
        total -= new.pop(at).tree.size
    return [*old, *(one.tree for one in new)]


def whole_tensors(values: UpdateValues, spec: ModelSpec) -> dict[str, np.ndarray[Any, Any]]:
    """All tensors of a model, as arrays of their own."""
    found = {}
    for tensor in spec.tensors:
        parts = [
            np.array(values.read(tensor.name, at, min(at + PIECE, tensor.size))) for at in range(0, tensor.size, PIECE)
        ]
        flat = np.concatenate(parts) if parts else np.empty(0, tensor.dtype)
        found[tensor.name] = flat.reshape(tensor.shape)
    return found


class _Arrays:
    """Values of arrays, in float64; see `UpdateValues`."""

    def __init__(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._arrays = arrays

    def read(self, tensor: str, start: int, stop: int) -> Flat:
        return self._arrays[tensor][start:stop].astype(np.float64)
