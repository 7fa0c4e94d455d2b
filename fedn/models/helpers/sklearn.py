"""scikit-learn estimators whose fitted state is arrays: which attributes they are, and what follows from them.

A tensor's name is the attribute's (`coef_`; for lists of arrays `coefs_.0`, `coefs_.1`, …). Numbers are 0-d tensors. An
estimator that was never fitted takes weights too: what prediction and `partial_fit` need beyond them is set up here.

Whether a mean makes sense is the estimator's: it does for linear models and networks that start from one model, and for
counts; the mean of PCA's components, of clusters, or of minima only where the clients began from the same ones.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

from fedn.models.files import read_tensors
from fedn.models.helpers.base import check_fit, not_supported
from fedn.models.wire import DTYPES, Tensors
from fedn.protocol.errors import InvalidInput


@dataclass(frozen=True)
class _State:
    """The fitted state of an estimator."""

    arrays: tuple[str, ...]
    """Attributes that every fitted estimator of the class has; arrays or numbers."""
    optional: tuple[str, ...] = ()
    """Attributes that may be None, by the estimator's parameters."""
    lists: tuple[str, ...] = ()
    """Attributes that are lists of arrays."""
    complete: Callable[[Any], None] | None = None
    """Sets what follows from the attributes, after they were set."""

    def names(self) -> Iterator[str]:
        yield from (*self.arrays, *self.optional, "n_features_in_")


def _complete_sgd(estimator: Any) -> None:
    if not hasattr(estimator, "n_iter_"):
        estimator.n_iter_ = 0


def _complete_network(estimator: Any) -> None:
    estimator.n_layers_ = len(estimator.coefs_) + 1
    estimator.n_outputs_ = estimator.coefs_[-1].shape[1]
    if hasattr(estimator, "classes_"):
        estimator._label_binarizer = LabelBinarizer().fit(estimator.classes_)
        estimator.out_activation_ = "logistic" if estimator.n_outputs_ == 1 else "softmax"
    else:
        estimator.out_activation_ = "exp" if getattr(estimator, "loss", "") == "poisson" else "identity"
    if not hasattr(estimator, "t_"):
        # As a fit leaves it before its first epoch, so that `partial_fit` and `warm_start` go on from the weights.
        estimator.n_iter_ = estimator.t_ = estimator._no_improvement_count = 0
        estimator.loss_curve_ = []
        estimator.best_loss_ = None if estimator.early_stopping else math.inf
        estimator.validation_scores_ = [] if estimator.early_stopping else None
        estimator.best_validation_score_ = -math.inf if estimator.early_stopping else None


def _complete_counts(estimator: Any) -> None:
    """Log-probabilities follow from the counts: the mean of logarithms would not be that of the data."""
    if type(estimator).__name__ == "ComplementNB":
        estimator.feature_all_ = estimator.feature_count_.sum(axis=0)
    estimator._update_feature_log_prob(estimator._check_alpha())
    estimator._update_class_log_prior(class_prior=estimator.class_prior)


def _complete_clusters(estimator: Any) -> None:
    estimator._n_threads = _openmp_effective_n_threads()
    estimator._n_features_out = len(estimator.cluster_centers_)
    if type(estimator).__name__ == "MiniBatchKMeans" and not hasattr(estimator, "_n_since_last_reassign"):
        estimator._n_since_last_reassign = 0
        estimator._batch_size = estimator.batch_size
        estimator._random_state = np.random.RandomState(estimator.random_state)


def _complete_components(estimator: Any) -> None:
    estimator.n_components_ = len(estimator.components_)


_LINEAR = _State(("coef_", "intercept_"))
_LINEAR_CLASSIFIER = _State(("coef_", "intercept_", "classes_"))
_SGD = _State(("coef_", "intercept_", "t_"), complete=_complete_sgd)
_SGD_CLASSIFIER = _State(("coef_", "intercept_", "classes_", "t_"), complete=_complete_sgd)
_COUNTS = _State(("feature_count_", "class_count_", "classes_"), complete=_complete_counts)

_STATES: dict[str, _State] = {
    **dict.fromkeys(("LinearRegression", "Ridge", "Lasso", "ElasticNet", "LinearSVR"), _LINEAR),
    **dict.fromkeys(("LogisticRegression", "LinearSVC"), _LINEAR_CLASSIFIER),
    **dict.fromkeys(("SGDRegressor", "PassiveAggressiveRegressor"), _SGD),
    **dict.fromkeys(("SGDClassifier", "Perceptron", "PassiveAggressiveClassifier"), _SGD_CLASSIFIER),
    "MLPRegressor": _State((), lists=("coefs_", "intercepts_"), complete=_complete_network),
    "MLPClassifier": _State(("classes_",), lists=("coefs_", "intercepts_"), complete=_complete_network),
    "GaussianNB": _State(("theta_", "var_", "class_count_", "class_prior_", "epsilon_", "classes_")),
    **dict.fromkeys(("MultinomialNB", "BernoulliNB", "ComplementNB"), _COUNTS),
    "KMeans": _State(("cluster_centers_",), complete=_complete_clusters),
    "MiniBatchKMeans": _State(("cluster_centers_", "_counts"), complete=_complete_clusters),
    "StandardScaler": _State(("n_samples_seen_",), optional=("mean_", "var_", "scale_")),
    "MinMaxScaler": _State(("min_", "scale_", "data_min_", "data_max_", "data_range_", "n_samples_seen_")),
    "MaxAbsScaler": _State(("scale_", "max_abs_", "n_samples_seen_")),
    "PCA": _State(
        (
            "components_",
            "mean_",
            "explained_variance_",
            "explained_variance_ratio_",
            "singular_values_",
            "noise_variance_",
            "n_samples_",
        ),
        complete=_complete_components,
    ),
}

_REASONS = {
    "Tree": "trees are not tensors, and have no mean",
    "Forest": "trees are not tensors, and have no mean",
    "Boost": "an ensemble of weak learners is not tensors, and has no mean",
    "Bagging": "an ensemble of weak learners is not tensors, and has no mean",
    "Neighbors": "it keeps the training data itself, which must not leave the site",
    "GaussianProcess": "it keeps the training data itself, which must not leave the site",
    "SVC": "its support vectors are training data, and each client has others",
    "SVR": "its support vectors are training data, and each client has others",
    "Pipeline": "it is a chain of estimators",
}


class SklearnHelper:
    """Linear models, networks, naive Bayes, k-means, scalers and PCA, by the attributes that a fit leaves."""

    name = "sklearn"

    def get_weights(self, model: BaseEstimator) -> Tensors:
        """Copies of the fitted attributes; InvalidInput (`model_not_supported`) where it was not fitted."""
        state = _state_of(model)
        if not _is_fitted(model, state):
            raise not_supported(model, "it is not fitted yet", "Fit it on a few examples, or set weights.")
        tensors = {
            name: np.array(getattr(model, name)) for name in state.names() if getattr(model, name, None) is not None
        }
        for name in state.lists:
            tensors |= {f"{name}.{index}": np.array(array) for index, array in enumerate(getattr(model, name))}
        for name, array in tensors.items():
            if array.dtype not in DTYPES.values():
                if name == "classes_":
                    raise not_supported(
                        model,
                        "its classes are not numbers, which tensors cannot hold",
                        "Encode the classes as integers.",
                    )
                raise not_supported(model, f"its {name} is no array of numbers")
        return tensors

    def set_weights(self, model: BaseEstimator, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Makes the estimator a fitted one with these attributes.

        Of an estimator that was fitted, shapes and dtypes must stay as they are.
        """
        state = _state_of(model)
        if _is_fitted(model, state):
            expected = {name: (array.shape, array.dtype) for name, array in self.get_weights(model).items()}
            check_fit(tensors, expected, model=type(model).__name__)
        else:
            _check_names(model, state, tensors)
        for name in state.names():
            array = tensors.get(name)
            setattr(model, name, None if array is None else np.array(array)[()])  # 0-d becomes a NumPy number
        for name in state.lists:
            parts = (tensors[f"{name}.{index}"] for index in range(_list_length(name, tensors)))
            setattr(model, name, [np.array(part) for part in parts])
        if state.complete is not None:
            state.complete(model)

    def read_file(self, path: Path) -> Tensors:
        """The tensors of a safetensors or npz file. What joblib writes is a pickle, and refused."""
        return read_tensors(path)


def _state_of(model: object) -> _State:
    name = type(model).__name__
    if not isinstance(model, BaseEstimator):
        raise not_supported(model, "it is not a scikit-learn estimator")
    state = _STATES.get(name)
    if state is None or not type(model).__module__.startswith("sklearn."):
        reason = next((reason for part, reason in _REASONS.items() if part in name), "it is not in the helper's table")
        raise not_supported(model, reason, f"Choose one of: {', '.join(sorted(_STATES))}.")
    if getattr(model, "average", False):
        raise not_supported(model, "average=True keeps a second set of coefficients", "Set average=False.")
    if name == "MLPClassifier" and getattr(getattr(model, "_label_binarizer", None), "y_type_", "").startswith(
        "multil"
    ):
        raise not_supported(model, "it was fitted with several labels an example", "Use one label an example.")
    return state


def _is_fitted(model: object, state: _State) -> bool:
    return all(hasattr(model, name) for name in (*state.arrays, *state.lists))


def _check_names(model: object, state: _State, tensors: Mapping[str, Any]) -> None:
    known = set(state.names())
    faults = [f"tensor {name!r} is missing" for name in sorted(known - set(state.optional)) if name not in tensors]
    parts = {f"{name}.{index}" for name in state.lists for index in range(_list_length(name, tensors))}
    faults += [f"tensor {f'{name}.0'!r} is missing" for name in state.lists if f"{name}.0" not in tensors]
    faults += [f"the model has no tensor {name!r}" for name in tensors if name not in known | parts]
    if faults:
        raise InvalidInput(
            "weights_do_not_fit",
            f"The weights do not fit the model {type(model).__name__}: {'; '.join(faults)}",
            fix="Start from a seed model that was made from the same estimator.",
        )


def _list_length(name: str, tensors: Mapping[str, Any]) -> int:
    """How many of name.0, name.1, … there are without a gap."""
    return next(index for index in range(len(tensors) + 1) if f"{name}.{index}" not in tensors)
