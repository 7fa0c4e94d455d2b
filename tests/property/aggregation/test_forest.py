"""Forests: hostile node arrays are refused, and the union is the same however clients are spread over combiners."""

import contextlib
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn.aggregation.base import get_rule
from fedn.aggregation.gathering.base import Rows
from fedn.aggregation.gathering.forest import shared_out, whole_tensors
from fedn.models.forest import ForestShape, Tree, depths, pack, read_forest
from fedn.models.pieces import Pieces
from fedn.models.wire import encode, read_spec
from fedn.protocol.errors import InvalidInput, UpdateRefused
from tests.support.references import MemorySpill

SHAPE = ForestShape(max_trees=6, max_nodes=40, num_features=3, classes=(0.0, 1.0, 5.0))
SEEDS = st.integers(0, 2**32)


def grown(rng: np.random.Generator, leaves: int) -> Tree:
    """A tree of random splits, with as many leaves."""
    left, right = [-1], [-1]
    for _ in range(leaves - 1):
        at = int(rng.choice([node for node, child in enumerate(left) if child < 0]))
        left[at], right[at] = len(left), len(left) + 1
        left += [-1, -1]
        right += [-1, -1]
    leaf, size = np.array(left) < 0, len(left)
    shares = rng.random((size, SHAPE.num_values)).astype(np.float32)
    return Tree(
        {
            "left": np.array(left, np.int32),
            "right": np.array(right, np.int32),
            "feature": np.where(leaf, -2, rng.integers(0, 3, size)).astype(np.int32),
            "threshold": np.where(leaf, -2.0, rng.normal(size=size)),
            "missing_left": rng.random(size) < 0.5,
            "value": shares / shares.sum(axis=1, keepdims=True),
            "impurity": rng.random(size).astype(np.float32),
            "samples": rng.integers(1, 99, size).astype(np.int32),
            "weight": rng.random(size).astype(np.float32),
        }
    )


def forest(rng: np.random.Generator, most: int = 3) -> list[Tree]:
    return [grown(rng, int(rng.integers(1, 5))) for _ in range(int(rng.integers(0, most + 1)))]


def same(one: Tree, other: Tree) -> bool:
    return all(np.array_equal(one.nodes[name], other.nodes[name]) for name in one.nodes)


def walk(tree: Tree) -> list[int]:
    """Every node that can be reached; endless, or out of the arrays, where it is no tree."""
    reached, ahead = [], [0]
    while ahead:
        node = ahead.pop()
        reached.append(node)
        assert 0 <= node < tree.size and len(reached) <= tree.size
        if tree.nodes["left"][node] != -1:
            assert 0 <= tree.nodes["feature"][node] < SHAPE.num_features
            assert np.isfinite(tree.nodes["threshold"][node])
            ahead += [int(tree.nodes["left"][node]), int(tree.nodes["right"][node])]
    return reached


@given(SEEDS)
def test_a_forest_is_read_as_it_was_packed(seed: int) -> None:
    trees = forest(np.random.default_rng(seed))
    tensors = pack(trees, SHAPE)
    # Rows of updates have their whole numbers in float64.
    wide = {name: array.astype(np.float64) if array.dtype.kind in "ib" else array for name, array in tensors.items()}
    for found in (read_forest(tensors, SHAPE), read_forest(wide, SHAPE)):
        assert len(found) == len(trees) and all(map(same, found, trees))


WRONG = [-(2**31), -3, -2, -1, 0, 1, 2, 3, 7, 39, 40, 2**31 - 1]


@settings(max_examples=400)
@given(SEEDS, st.lists(st.tuples(st.integers(0, 99), st.integers(0, 999), st.sampled_from(WRONG)), min_size=1))
def test_whatever_is_accepted_is_a_tree(seed: int, changes: list[tuple[int, int, int]]) -> None:
    tensors = pack(forest(np.random.default_rng(seed)), SHAPE)
    for which, place, value in changes:
        flat = tensors[sorted(tensors)[which % len(tensors)]].reshape(-1)
        flat[place % len(flat)] = value
    found: list[Tree] = []
    with contextlib.suppress(InvalidInput):
        found = read_forest(tensors, SHAPE)
    for tree in found:
        assert sorted(walk(tree)) == list(range(tree.size))
        assert depths(tree).max() < tree.size


def broken(name: str, place: Any, value: Any) -> dict[str, Any]:
    trees = (grown(np.random.default_rng(seed), 3) for seed in itertools.count())
    first = next(tree for tree in trees if tree.nodes["left"].tolist() == [1, -1, 3, -1, -1])
    tensors = pack([first, grown(np.random.default_rng(2), 2)], SHAPE)
    tensors[name][place] = value
    return tensors


@pytest.mark.parametrize(
    ("name", "place", "value", "why"),
    [
        ("left", 0, 0, "no later node"),  # a cycle of one
        ("left", 1, 4, "has one child"),
        ("right", 0, 5, "no later node"),  # into the next tree
        ("right", 0, 1, "exactly one node"),  # two ways to a node
        ("feature", 0, 3, "none of the 3"),
        ("feature", 0, -1, "none of the 3"),
        ("threshold", 0, np.nan, "infinite or not a number"),
        ("impurity", 0, np.inf, "infinite or not a number"),
        ("value", 0, [0.5, 0.6, 0.7], "no shares"),
        ("value", 0, [-1.0, 1.0, 1.0], "no shares"),
        ("samples", 0, 0, "no examples"),
        ("tree_sizes", 0, 0, "tree_sizes"),
        ("tree_sizes", 1, 38, "tree_sizes"),
        ("tree_sizes", 1, -1, "tree_sizes"),
        ("tree_sizes", 2, 2**31 - 1, "tree_sizes"),
        ("impurity", 39, 1.0, "behind the last tree"),
        ("num_features", (), 4, "other features"),
        ("classes", 0, -1, "other features"),
        ("classes", 0, 9, "ascending"),
    ],
)
def test_what_is_wrong_is_said(name: str, place: Any, value: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read_forest(broken(name, place, value), SHAPE)


def test_wrong_shapes_and_names_are_no_forest() -> None:
    good = pack([], SHAPE)
    for name in good:
        if name != "classes":
            with pytest.raises(InvalidInput, match="bad_forest"):
                read_forest({key: array for key, array in good.items() if key != name})
        with pytest.raises(InvalidInput, match="bad_forest"):
            read_forest({**good, name: np.zeros((2, 2, 2))})
    with pytest.raises(InvalidInput, match="bad_forest"):
        read_forest({**good, "more": np.zeros(1)})


def test_a_tree_as_deep_as_a_well_is_no_tree() -> None:
    size = 4001
    node = np.arange(size)
    inner = (node % 2 == 0) & (node < size - 1)
    leaf = grown(np.random.default_rng(0), 1).nodes
    chain = {name: np.resize(array, (size, *array.shape[1:])) for name, array in leaf.items()}
    chain |= {"left": np.where(inner, node + 1, -1), "right": np.where(inner, node + 2, -1)}
    chain["feature"] = np.where(inner, 0, -2)
    shape = ForestShape(1, size, 3, SHAPE.classes)
    tensors = pack([Tree(chain)], shape)
    with pytest.raises(InvalidInput, match="deeper than"):
        read_forest(tensors, shape)


def together(base: list[Tree], updates: list[list[Tree]], weights: list[float], **options: Any) -> list[Tree]:
    """The union as the reducer makes it of forwarded updates, in the order that they are given in."""
    model = bytes(encode(pack(base, SHAPE)))
    spec = read_spec(model)
    rule: Any = get_rule("forest", options)
    rows = rule.gather(spec, model, MemorySpill())
    for trees, weight in zip(updates, weights, strict=True):
        update = bytes(encode(pack(trees, SHAPE)))
        rows.add(update, read_spec(update), weight)
    over = rule.over(Rows([Pieces.of(row) for row in rows.rows()], weights, spec, model))
    return read_forest(whole_tensors(over, spec), SHAPE)


@settings(max_examples=50)
@given(SEEDS, st.integers(1, 5))
def test_the_union_does_not_depend_on_the_order_of_updates(seed: int, clients: int) -> None:
    rng = np.random.default_rng(seed)
    base, updates = forest(rng), [forest(rng) for _ in range(clients)]
    weights = rng.integers(1, 100, clients).astype(float).tolist()
    made = together(base, updates, weights)
    assert len(made) <= SHAPE.max_trees and sum(tree.size for tree in made) <= SHAPE.max_nodes
    order = rng.permutation(clients)
    again = together(base, [updates[at] for at in order], [weights[at] for at in order])
    assert len(made) == len(again) and all(map(same, made, again))
    if len(base) + sum(map(len, updates)) <= SHAPE.max_trees:
        everybody = [*base, *(tree for trees in updates for tree in trees)]
        if sum(tree.size for tree in everybody) <= SHAPE.max_nodes:
            assert len(made) == len(everybody)
            assert all(any(same(tree, one) for one in made) for tree in everybody)


def test_the_oldest_trees_go_first() -> None:
    rng = np.random.default_rng(5)
    base = [grown(rng, 2) for _ in range(5)]
    new = [grown(rng, 2) for _ in range(3)]
    made = together(base, [new], [1.0])
    assert [same(one, other) for one, other in zip(made, [*base[2:], *new], strict=True)] == [True] * 6
    assert len(together(base, [new], [1.0], trees_per_round=1)) == 6
    assert len(together(base, [new], [1.0], max_trees=4)) == 4
    large = [grown(rng, 8) for _ in range(2)]  # 15 nodes each, of 40
    assert [tree.size for tree in together([grown(rng, 4), *base[:1]], [large], [1.0])] == [7, 3, 15, 15]
    assert [tree.size for tree in together([grown(rng, 6), *base[:1]], [large], [1.0])] == [3, 15, 15]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50)), min_size=1, max_size=8), st.integers(1, 40))
def test_trees_are_shared_out_by_weight(clients: list[tuple[int, int]], room: int) -> None:
    trees = [[Tree({})] * count for count, _ in clients]
    weights = [float(weight) for _, weight in clients]
    taken = np.bincount([one.client for one in shared_out(trees, weights, room)], minlength=len(clients))
    available = np.array([count for count, _ in clients])
    assert taken.sum() == min(room, available.sum()) and (taken <= available).all()
    # Among those that have more to give, nobody has a whole tree less than its weight is worth against another.
    open_to = [at for at in range(len(clients)) if taken[at] < available[at]]
    for one in open_to:
        for other in range(len(clients)):
            assert taken[other] - 1 < (taken[one] + 1) * weights[other] / weights[one] + 1e-9


def test_an_update_that_is_no_forest_is_refused_before_it_is_kept() -> None:
    model = bytes(encode(pack([], SHAPE)))
    rule: Any = get_rule("forest", {})
    rows = rule.gather(read_spec(model), model, MemorySpill())
    hostile = bytes(encode(broken("left", 0, 0)))
    with pytest.raises(UpdateRefused, match="no later node"):
        rows.add(hostile, read_spec(hostile), 1.0)
    assert rows.count == 0
    other = bytes(encode({"w": np.zeros(3)}))
    with pytest.raises(InvalidInput, match="no forest"):
        rule.gather(read_spec(other), other, MemorySpill())
