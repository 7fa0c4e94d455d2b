"""A forest of decision trees as tensors: what they mean, and that they can be nothing else.

A forest lies in a pool of fixed size, so that all forests of a federation are models of one shape: trees one behind
the other, each as its nodes in an order in which children come after their parents; what is not used is zero. T is the
number of trees that there is room for, N that of nodes, V that of classes, or 1 for regression.

    tree_sizes    int32 (T,)      nodes of each tree; behind the last tree, 0
    left, right   int32 (N,)      children, counted from the tree's first node; both -1 in a leaf
    feature       int32 (N,)      that is compared; -2 in a leaf
    threshold     float64 (N,)    an example goes left where its feature is not above it
    missing_left  bool (N,)       whether it goes left where the feature is missing
    value         float32 (N, V)  mean target, or share of each class, of the node's examples
    impurity      float32 (N,)    of these examples
    samples       int32 (N,)      their number
    weight        float32 (N,)    their weight
    num_features  int64 ()
    classes       int64 or float64 (V,)   labels, ascending; missing for regression

Whoever reads one trusts nothing: scikit-learn's own code follows such indices without looking.

Not here: scikit-learn (fedn.models.helpers.sklearn_forest), and how forests become one (the rule `forest`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from fedn.models.wire import DType, Tensors
from fedn.protocol.errors import InvalidInput

Array = np.ndarray[Any, Any]

LEAF, NO_FEATURE = -1, -2
MAX_DEPTH = 1024
"""Deeper trees are refused: they are no use, and slow to walk."""
_NODES: dict[str, DType] = {
    "left": np.dtype(np.int32),
    "right": np.dtype(np.int32),
    "feature": np.dtype(np.int32),
    "threshold": np.dtype(np.float64),
    "missing_left": np.dtype(np.bool_),
    "value": np.dtype(np.float32),
    "impurity": np.dtype(np.float32),
    "samples": np.dtype(np.int32),
    "weight": np.dtype(np.float32),
}
"""Tensors with an element, or a row, for each node."""
_SHARES_SUM = 1e-3
"""By how much the classes' shares of a node may miss 1."""


@dataclass(frozen=True)
class ForestShape:
    """What all forests of a federation have in common."""

    max_trees: int
    max_nodes: int
    num_features: int
    classes: tuple[float, ...] | None
    """Labels, ascending; None for regression."""

    @property
    def num_values(self) -> int:
        return 1 if self.classes is None else len(self.classes)


@dataclass(frozen=True, eq=False)
class Tree:
    """One tree, by the names of its nodes' tensors; nobody changes the arrays."""

    nodes: Mapping[str, Array]

    @property
    def size(self) -> int:
        """Number of nodes."""
        return len(self.nodes["left"])


def pack(trees: Sequence[Tree], shape: ForestShape) -> Tensors:
    """The tensors of a forest.

    Raises:
        InvalidInput: (`forest_too_large`) there is no room for so many trees or nodes.
    """
    total = sum(tree.size for tree in trees)
    if len(trees) > shape.max_trees or total > shape.max_nodes:
        raise InvalidInput(
            "forest_too_large",
            f"a forest of {len(trees)} trees with {total} nodes does not fit into a model with room for "
            f"{shape.max_trees} trees and {shape.max_nodes} nodes",
            fix="Grow fewer trees, or smaller ones (max_depth, max_leaf_nodes); or seed a model with more room.",
        )
    tensors: Tensors = {"tree_sizes": np.zeros(shape.max_trees, np.int32)}
    tensors["tree_sizes"][: len(trees)] = [tree.size for tree in trees]
    for name, dtype in _NODES.items():
        width = (shape.num_values,) if name == "value" else ()
        array = tensors[name] = np.zeros((shape.max_nodes, *width), dtype)
        if trees:
            array[:total] = np.concatenate([tree.nodes[name] for tree in trees])
    tensors["num_features"] = np.array(shape.num_features, np.int64)
    if shape.classes is not None:
        whole = all(float(label).is_integer() for label in shape.classes)
        tensors["classes"] = np.array(shape.classes, np.int64 if whole else np.float64)
    return tensors


def read_shape(tensors: Mapping[str, Array]) -> ForestShape:
    """What the tensors say of all forests that are like them. InvalidInput (`bad_forest`)."""
    known = {"tree_sizes", "num_features", *_NODES}
    if faults := sorted(known - tensors.keys()) + sorted(tensors.keys() - known - {"classes"}):
        _refuse(f"its tensors are not those of a forest; compare {', '.join(faults[:20])}")
    value, classes = tensors["value"], tensors.get("classes")
    sizes = {name: array.shape for name, array in tensors.items() if name in _NODES and name != "value"}
    if value.ndim != 2 or set(sizes.values()) != {value.shape[:1]} or tensors["tree_sizes"].ndim != 1:
        _refuse("its tensors have other shapes than those of a forest")
    if (
        tensors["num_features"].shape != ()
        or (num_features := int(_whole(tensors["num_features"], "num_features"))) < 1
    ):
        _refuse("its num_features is no number of features")
    labels = None
    if classes is not None:
        if classes.ndim != 1 or not np.isfinite(classes).all() or (np.diff(classes) <= 0).any():
            _refuse("its classes are not numbers in ascending order")
        labels = tuple(classes.tolist())
    shape = ForestShape(len(tensors["tree_sizes"]), len(value), num_features, labels)
    if value.shape[1] != shape.num_values or not shape.num_values:
        _refuse(f"its nodes have {value.shape[1]} values, and there are {shape.num_values} classes or targets")
    return shape


def read_forest(tensors: Mapping[str, Array], like: ForestShape | None = None) -> list[Tree]:
    """The trees of a forest, each really a tree: of finite numbers, over features that there are.

    Args:
        tensors: by name; of any dtypes whose values those of a forest can hold.
        like: what other forests it must be like; None: any.

    Raises:
        InvalidInput: (`bad_forest`) they are no such thing; it says what is wrong.
    """
    shape = read_shape(tensors)
    if like is not None and shape != like:
        _refuse("it has other features, classes, or room than the federation's forest")
    sizes = _whole(tensors["tree_sizes"], "tree_sizes")
    count = int((sizes > 0).sum())
    used = int(sizes.sum())
    if (sizes < 0).any() or (sizes[count:] != 0).any() or used > shape.max_nodes:
        _refuse("its tree_sizes are not those of trees that follow each other in the room there is")
    nodes = {name: _as(tensors[name], dtype, name) for name, dtype in _NODES.items()}
    for name, array in nodes.items():
        if array[used:].any():
            _refuse(f"{name} has values behind the last tree", tensor=name)
    nodes = {name: array[:used] for name, array in nodes.items()}
    starts = np.concatenate([[0], np.cumsum(sizes[:count])]).astype(np.int64)
    _check_links(nodes, np.repeat(starts[:-1], sizes[:count]), np.repeat(sizes[:count], sizes[:count]), starts)
    _check_numbers(nodes, shape)
    return [
        Tree({name: array[start:stop] for name, array in nodes.items()})
        for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]


def depths(tree: Tree) -> Array:
    """(n,) depth of each node; the root's is 0."""
    found = np.zeros(tree.size, np.int64)
    level, depth = np.zeros(1, np.int64), 0
    while len(level):
        found[level] = depth
        inner = level[tree.nodes["left"][level] != LEAF]
        level = np.concatenate([tree.nodes["left"][inner], tree.nodes["right"][inner]])
        depth += 1
    return found


def _check_links(nodes: Mapping[str, Array], firsts: Array, sizes: Array, starts: Array) -> None:
    """Each tree hangs together: every node but the first is the child of one node, which comes before it.

    Args:
        firsts, sizes: (n,) of each node's tree: where it begins, and how many nodes it has.
        starts: where each tree begins, and where the last one ends.
    """
    left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
    own = np.arange(len(left)) - firsts
    leaf = left == LEAF
    if (leaf != (right == LEAF)).any():
        _refuse("a node has one child")
    for name, child in (("left", left), ("right", right)):
        wrong = ~leaf & ((child <= own) | (child >= sizes))
        if wrong.any():
            _refuse(f"{name} of node {int(np.argmax(wrong))} is no later node of its tree", tensor=name)
    children = np.concatenate([(left + firsts)[~leaf], (right + firsts)[~leaf]])
    parents = np.bincount(children, minlength=len(left))
    parents[starts[:-1]] += 1
    if (parents != 1).any():
        _refuse(f"node {int(np.argmax(parents != 1))} is not the child of exactly one node", tensor="left")
    level, depth = starts[:-1], 0
    while len(level):
        if depth > MAX_DEPTH:
            _refuse(f"a tree is deeper than {MAX_DEPTH}")
        inner = level[~leaf[level]]
        level, depth = np.concatenate([(left + firsts)[inner], (right + firsts)[inner]]), depth + 1


def _check_numbers(nodes: Mapping[str, Array], shape: ForestShape) -> None:
    leaf = nodes["left"] == LEAF
    feature, value = nodes["feature"], nodes["value"]
    if (feature[leaf] != NO_FEATURE).any():
        _refuse("a leaf compares a feature", tensor="feature")
    if ((feature[~leaf] < 0) | (feature[~leaf] >= shape.num_features)).any():
        _refuse(f"a node compares a feature that is none of the {shape.num_features}", tensor="feature")
    for name in ("threshold", "value", "impurity", "weight"):
        if not np.isfinite(nodes[name]).all():
            _refuse(f"{name} has values that are infinite or not a number", tensor=name)
    if (nodes["samples"] < 1).any() or (nodes["weight"] < 0).any():
        _refuse("a node stands for no examples", tensor="samples")
    if shape.classes is not None and (
        (value < 0).any() or (np.abs(value.sum(axis=1, dtype=np.float64) - 1) > _SHARES_SUM).any()
    ):
        _refuse("the classes' shares of a node are no shares", tensor="value")


def _as(array: Array, dtype: DType, name: str) -> Array:
    """The same values in this dtype."""
    if array.dtype == dtype:
        return array
    if dtype.kind == "i":
        return _whole(array, name)
    if dtype.kind == "b":
        if not np.isin(array, (0, 1)).all():
            _refuse(f"{name} has values that are neither true nor false", tensor=name)
        return array.astype(np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype)


def _whole(array: Array, name: str) -> Array:
    if array.dtype.kind not in "if" or not np.isfinite(array).all():
        _refuse(f"{name} has values that are no whole numbers", tensor=name)
    limits = np.iinfo(np.int32)
    if (array < limits.min).any() or (array > limits.max).any() or (array != np.trunc(array)).any():
        _refuse(f"{name} has values that are no whole numbers of 32 bits", tensor=name)
    return array.astype(np.int32)


def _refuse(fault: str, **where: object) -> NoReturn:
    raise InvalidInput(
        "bad_forest",
        f"The model is no forest: {fault}",
        fix="Let the helper sklearn_forest make the model, and start from a seed that it made.",
        where=where,
    )
