"""scikit-learn forests that are grown by many sites: their trees as tensors, in a pool of fixed size.

Not here: the tensors' meaning and their check (fedn.models.forest), and how forests become one (the rule `forest`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.tree._tree import NODE_DTYPE
from sklearn.tree._tree import Tree as GrownTree

from fedn.models.files import read_tensors
from fedn.models.forest import Array, ForestShape, Tree, depths, pack, read_forest
from fedn.models.helpers.base import check_fit, not_supported
from fedn.models.wire import Tensors
from fedn.protocol.errors import InvalidInput

_LARGEST = np.finfo(np.float64).max
_CLASSIFIERS = (RandomForestClassifier, ExtraTreesClassifier)
_REGRESSORS = (RandomForestRegressor, ExtraTreesRegressor)
_FIELDS = {
    "left": "left_child",
    "right": "right_child",
    "feature": "feature",
    "threshold": "threshold",
    "missing_left": "missing_go_to_left",
    "impurity": "impurity",
    "samples": "n_node_samples",
    "weight": "weighted_n_node_samples",
}
"""Names of a node's tensors, to scikit-learn's."""


class FederatedForest:
    """A forest with room for trees of other sites.

    Args:
        estimator: RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier or ExtraTreesRegressor: how trees
            are grown. Its n_estimators does not matter.
        num_features: of an example.
        classes: all labels of the federation, also those that a site has not; numbers. None for regression.
        max_trees, max_nodes: room of the model, the same at every site.

    Raises:
        InvalidInput: (`model_not_supported`) the estimator is none of these, or has not what its kind needs.
    """

    def __init__(
        self,
        estimator: Any,
        *,
        num_features: int,
        classes: Sequence[float] | None = None,
        max_trees: int = 100,
        max_nodes: int = 20_000,
    ) -> None:
        if not isinstance(estimator, (*_CLASSIFIERS, *_REGRESSORS)):
            raise not_supported(estimator, "it is none of the forests", "Give a random forest, or extra trees.")
        if isinstance(estimator, _CLASSIFIERS) != (classes is not None):
            raise not_supported(estimator, "a classifier has classes, and a regressor none", "Give it those.")
        labels = None if classes is None else tuple(sorted({_number(label) for label in classes}))
        self.shape = ForestShape(max_trees, max_nodes, num_features, labels)
        self._template = estimator
        self._trees: list[Tree] = []
        self._estimator: Any = None
        """With the trees, once it is asked for."""

    @property
    def trees(self) -> Sequence[Tree]:
        return self._trees

    @trees.setter
    def trees(self, trees: Sequence[Tree]) -> None:
        self._trees, self._estimator = list(trees), None

    def grow(self, examples: Array, targets: Array, *, num_trees: int, seed: int) -> None:
        """Grows new trees on a site's data; they take the place of all others, which the rule `forest` keeps.

        Args:
            examples: (n, num_features), n at least 1.
            targets: (n,) labels among the classes, or numbers.

        Raises:
            InvalidInput: (`bad_targets`) a label is none of the classes, or there are several targets an example.
                (`forest_too_large`) there is no room for the trees.
        """
        targets = np.asarray(targets)
        if targets.ndim != 1:
            raise _bad_targets("there are several targets an example", "Give one target an example.")
        if self.shape.classes is not None and (unknown := set(targets.tolist()) - set(self.shape.classes)):
            listed = ", ".join(map(str, sorted(unknown)[:20]))
            raise _bad_targets(f"the labels {listed} are none of the classes", "Name all labels as classes.")
        estimator = clone(self._template).set_params(
            n_estimators=num_trees, random_state=np.random.RandomState(seed), warm_start=False
        )
        estimator.fit(np.asarray(examples, np.float32), targets)
        grown = [self._from_sklearn(one.tree_, estimator) for one in estimator.estimators_]
        pack(grown, self.shape)  # says whether there is room
        self.trees = grown

    def predict_proba(self, examples: Array) -> Array:
        """(n, V) shares of the classes, the mean over the trees; all alike where there are none. Classifiers only."""
        if not self._trees:
            return np.full((len(examples), self.shape.num_values), 1 / self.shape.num_values)
        found: Array = self._fitted().predict_proba(np.asarray(examples, np.float32))
        return found

    def predict(self, examples: Array) -> Array:
        """(n,) labels, or numbers; the first label, or 0, where there are no trees."""
        if self.shape.classes is not None:
            best: Array = np.array(self.shape.classes)[self.predict_proba(examples).argmax(axis=1)]
            return best
        if not self._trees:
            return np.zeros(len(examples))
        found: Array = self._fitted().predict(np.asarray(examples, np.float32))
        return found

    def _from_sklearn(self, tree: GrownTree, estimator: Any) -> Tree:
        state = tree.__getstate__()
        nodes = {name: np.array(state["nodes"][field]) for name, field in _FIELDS.items()}
        # A split of missing from all other values has an infinite threshold; a model has finite numbers, and examples
        # are float32.
        nodes["threshold"] = np.clip(nodes["threshold"], -_LARGEST, _LARGEST)
        value = state["values"][:, 0, :]
        if self.shape.classes is not None:
            # A site may never have seen some of the classes.
            places = np.searchsorted(self.shape.classes, estimator.classes_)
            aligned = np.zeros((len(value), self.shape.num_values))
            aligned[:, places] = value
            value = aligned
        return Tree({**nodes, "value": value})

    def _fitted(self) -> Any:
        if self._estimator is None:
            self._estimator = self._to_sklearn()
        return self._estimator

    def _to_sklearn(self) -> Any:
        forest = clone(self._template).set_params(n_estimators=len(self._trees))
        forest.n_features_in_, forest.n_outputs_ = self.shape.num_features, 1
        if self.shape.classes is not None:
            forest.classes_, forest.n_classes_ = np.array(self.shape.classes), self.shape.num_values
        forest.estimators_ = [self._tree_estimator(tree, forest) for tree in self._trees]
        return forest

    def _tree_estimator(self, tree: Tree, forest: Any) -> Any:
        one = forest.estimator.__class__()
        one.n_features_in_, one.n_outputs_ = self.shape.num_features, 1
        if self.shape.classes is not None:
            # As in scikit-learn's own forests, trees know their classes by number.
            one.classes_, one.n_classes_ = np.arange(self.shape.num_values), self.shape.num_values
        classes = np.array([self.shape.num_values if self.shape.classes is not None else 1], np.intp)
        one.tree_ = GrownTree(self.shape.num_features, classes, 1)
        nodes = np.zeros(tree.size, NODE_DTYPE)
        for name, field in _FIELDS.items():
            nodes[field] = tree.nodes[name]
        values = np.ascontiguousarray(tree.nodes["value"][:, np.newaxis, :], np.float64)
        depth = int(depths(tree).max())
        one.tree_.__setstate__({"max_depth": depth, "node_count": tree.size, "nodes": nodes, "values": values})
        return one


class SklearnForestHelper:
    """Forests of scikit-learn (`FederatedForest`), whose trees the rule `forest` gathers from all sites."""

    name = "sklearn_forest"

    def get_weights(self, model: Any) -> Tensors:
        return pack(_forest(model).trees, model.shape)

    def set_weights(self, model: Any, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """As `Helper.set_weights`; and InvalidInput (`bad_forest`) where the tensors are no trees."""
        forest = _forest(model)
        expected = {name: (array.shape, array.dtype) for name, array in pack([], forest.shape).items()}
        check_fit(tensors, expected, model="FederatedForest")
        copies = {name: np.array(array) for name, array in tensors.items()}
        forest.trees = read_forest(copies, forest.shape)

    def read_file(self, path: Path) -> Tensors:
        """The tensors of a safetensors or npz file. What joblib writes is a pickle, and refused."""
        return read_tensors(path)


def _forest(model: Any) -> FederatedForest:
    if not isinstance(model, FederatedForest):
        raise not_supported(model, "it is no FederatedForest", "Put the estimator into a FederatedForest.")
    return model


def _number(label: Any) -> float:
    """The label as a plain number. InvalidInput (`bad_targets`)."""
    try:
        return float(label)
    except (TypeError, ValueError) as error:
        raise _bad_targets(f"the class {label!r} is no number", "Number the labels.") from error


def _bad_targets(what: str, fix: str) -> InvalidInput:
    return InvalidInput("bad_targets", f"The forest cannot be grown: {what}", fix=fix)
