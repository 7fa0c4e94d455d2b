"""Learners for scikit-learn estimators that can go on from given weights.

learner = SklearnLearner(SGDClassifier(loss="log_loss"), (x, y), (x_test, y_test), classes=range(10))
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import log_loss
from sklearn.utils.validation import check_is_fitted

from fedn.client.batches import Steps
from fedn.client.learner import Learner, Metrics, TaskContext
from fedn.client.proximal import PARAMETER as PROXIMAL
from fedn.client.proximal import Proximal
from fedn.learners.arrays import ArraySource, arrays_of
from fedn.learners.steps import rate_parameter, repeated, watched, whole_parameter
from fedn.protocol.errors import InvalidInput

_RATES = ("eta0", "learning_rate_init")
"""What estimators call their learning rate."""


class SklearnLearner(Learner):
    """An estimator with `partial_fit`, which makes a step of each batch; or one with `warm_start`, whose `fit` makes
    an iteration over all examples a step, so that an epoch is a step.

    Validation gives `accuracy` and, where the classifier knows chances, `loss` (their log loss); of a regressor, `mse`.

    Args:
        model: fitted, or not: then on blank examples, so that nothing of a site is in the first model.
        train_data, test_data: arrays; without test data this site does not validate.
        classes: of a classifier, all of them, also those that this site does not have.
        num_features: of an example; needed only where the model was not fitted, and the arrays come from a function.
        epochs, batch_size: where the plan does not say them; no epochs where steps are asked for.

    Raises:
        InvalidInput: (`model_not_supported`) the estimator cannot go on from weights; (`bad_examples`) `classes` or
            `num_features` is needed.
    """

    helper = "sklearn"

    def __init__(
        self,
        model: BaseEstimator,
        train_data: ArraySource,
        test_data: ArraySource | None = None,
        *,
        classes: Sequence[int] | None = None,
        num_features: int | None = None,
        epochs: int = 1,
        batch_size: int = 32,
    ) -> None:
        self._in_batches = hasattr(model, "partial_fit")
        if not self._in_batches and "warm_start" not in model.get_params():
            raise InvalidInput(
                "model_not_supported",
                f"{type(model).__name__} has neither partial_fit nor warm_start: it always begins anew",
                fix="Choose an estimator such as SGDClassifier, LogisticRegression or MLPClassifier.",
            )
        self.model = model if self._in_batches else model.set_params(warm_start=True)
        self._train_data = train_data
        self._test_data = test_data
        self._classes = None if classes is None else np.asarray(list(classes))
        self._epochs = epochs
        self._batch_size = batch_size
        if not _is_fitted(model):
            self._fit_blank(_features(num_features, train_data))

    @property
    def validates(self) -> bool:
        return self._test_data is not None

    def train(self, weights: Any, context: TaskContext) -> tuple[Any, Metrics, Mapping[str, Any]]:
        x, y = arrays_of(self._train_data, context)
        self._refuse_penalty(context)
        self.model = self._fresh(context)
        self.set_weights(weights)
        train = self._train_in_batches if self._in_batches else self._train_whole
        metadata = train(x, y, context)
        return self.get_weights(), {f"train_{name}": value for name, value in self._measure(x, y).items()}, metadata

    def evaluate(self, weights: Any, context: TaskContext) -> tuple[Metrics, int]:
        assert self._test_data is not None  # else nobody asks
        x, y = arrays_of(self._test_data, context)
        self.set_weights(weights)
        return self._measure(x, y), len(x)

    def _train_in_batches(self, x: np.ndarray, y: np.ndarray, context: TaskContext) -> dict[str, Any]:
        batch_size = min(whole_parameter(context, "batch_size", self._batch_size), len(x))
        if "batch_size" in self.model.get_params():  # a network would cut each batch again
            self.model.set_params(batch_size=batch_size)
        batches = context.batches(len(x), batch_size, whole_parameter(context, "epochs", self._epochs))
        for batch in watched(context, batches, batches):
            self.model.partial_fit(x[batch], y[batch])
        return batches.metadata()

    def _train_whole(self, x: np.ndarray, y: np.ndarray, context: TaskContext) -> dict[str, Any]:
        missing = set(getattr(self.model, "classes_", ())) - set(y) if is_classifier(self.model) else set()
        if missing:
            raise InvalidInput(
                "bad_examples",
                f"the site has no example of {', '.join(map(str, sorted(missing)))}, and {type(self.model).__name__} "
                "learns only the classes that it sees",
                fix="Choose an estimator with partial_fit, such as SGDClassifier(loss='log_loss').",
                where={"client": context.client},
            )
        epochs = whole_parameter(context, "epochs", self._epochs)
        steps = Steps(len(x), 1, epochs, step_budget=context.step_budget)
        self.model.set_params(max_iter=1)
        for _ in watched(context, steps, steps.over(repeated([None]))):
            _fit_quietly(self.model, x, y)
        return steps.metadata()

    def _measure(self, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        if not is_classifier(self.model):
            return {"mse": float(np.mean((self.model.predict(x) - y) ** 2))}
        found = {"accuracy": float(np.mean(self.model.predict(x) == y))}
        if hasattr(self.model, "predict_proba"):
            chances = self.model.predict_proba(x)
            found["loss"] = float(log_loss(y, chances, labels=self.model.classes_))
        return found

    def _refuse_penalty(self, context: TaskContext) -> None:
        if Proximal.of(context, ()).mu:
            raise InvalidInput(
                "bad_parameter",
                f"scikit-learn's estimators have no place for FedProx's penalty ({PROXIMAL})",
                fix=f"Leave {PROXIMAL} out of the plan's parameters, or use PyTorch or Keras.",
                where={"field": f"parameters.{PROXIMAL}"},
            )

    def _fresh(self, context: TaskContext) -> BaseEstimator:
        """An estimator that remembers nothing, with the task's seed and the plan's learning rate."""
        known = self.model.get_params()
        changes: dict[str, float] = {}
        if "random_state" in known:
            changes["random_state"] = context.seed
        rate = rate_parameter(context)
        name = next((name for name in _RATES if name in known), None)
        if rate is not None and name is None:
            raise InvalidInput(
                "bad_parameter",
                f"{type(self.model).__name__} has no learning rate",
                fix="Leave learning_rate out of the plan's parameters.",
                where={"field": "parameters.learning_rate"},
            )
        if rate is not None:
            changes[str(name)] = rate
        return clone(self.model).set_params(**changes)

    def _fit_blank(self, num_features: int) -> None:
        """Makes the arrays of the model, as the estimator does for examples that are all zeros."""
        if is_classifier(self.model) and self._classes is None:
            raise InvalidInput(
                "bad_examples",
                "nobody says which classes there are, and one site may not have all of them",
                fix="Give classes=range(10), or whatever they are.",
            )
        y = np.zeros(2) if self._classes is None else self._classes
        x = np.zeros((len(y), num_features))
        if self._in_batches:
            more = {} if self._classes is None else {"classes": self._classes}
            self.model.partial_fit(x, y, **more)
        else:
            self.model.set_params(max_iter=1)
            _fit_quietly(self.model, x, y)


def _fit_quietly(model: Any, x: np.ndarray, y: np.ndarray) -> None:
    """One iteration: that it has not converged is the idea."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)


def _is_fitted(model: BaseEstimator) -> bool:
    try:
        check_is_fitted(model)
    except NotFittedError:
        return False
    return True


def _features(given: int | None, source: ArraySource) -> int:
    if given is not None:
        return given
    if callable(source):
        raise InvalidInput(
            "bad_examples",
            "nobody says how many features an example has, which the first model needs",
            fix="Give num_features=…, or a model that was fitted.",
        )
    return int(np.shape(source[0])[1])
