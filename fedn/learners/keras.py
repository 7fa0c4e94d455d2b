"""Learners for compiled Keras 3 models, on any of its back ends.

model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
learner = KerasLearner(model, (x_train, y_train), (x_test, y_test))
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from fedn.client.learner import Learner, Metrics, TaskContext
from fedn.client.proximal import Proximal
from fedn.client.scaffold import Scaffold
from fedn.learners.arrays import ArraySource, arrays_of
from fedn.learners.steps import rate_parameter, watched, whole_parameter
from fedn.models.helpers.keras import variables_by_name
from fedn.protocol.errors import InvalidInput


class KerasLearner(Learner):
    """A compiled model and arrays. Its own loss, optimizer and metrics are used.

    Each task begins with the optimizer's variables as they were made: what momentum remembers of another model would be
    wrong. FedProx's penalty is a regularizer of the trainable weights, so it is in the loss that is reported. The
    correction of SCAFFOLD follows each step, which comes to the same with plain SGD: it is not in that loss.

    Args:
        model: built and compiled.
        train_data: to train on.
        test_data: to validate on; None: this site does not validate.
        epochs, batch_size: where the plan does not say them; no epochs where steps are asked for.

    Raises:
        InvalidInput: (`model_not_supported`) the model is not compiled.
    """

    helper = "keras"

    def __init__(
        self,
        model: keras.Model,
        train_data: ArraySource,
        test_data: ArraySource | None = None,
        *,
        epochs: int = 1,
        batch_size: int = 32,
    ) -> None:
        if not model.compiled:
            raise InvalidInput(
                "model_not_supported",
                "the Keras model is not compiled, so it has no loss and no optimizer",
                fix="Call model.compile(optimizer, loss, metrics=[…]) before.",
            )
        self.model = model
        self._train_data = train_data
        self._test_data = test_data
        self._epochs = epochs
        self._batch_size = batch_size
        model.optimizer.build(model.trainable_variables)
        self._fresh = [np.array(keras.ops.convert_to_numpy(value)) for value in model.optimizer.variables]
        self._penalties: list[_Penalty] = []

    @property
    def validates(self) -> bool:
        return self._test_data is not None

    def train(self, weights: Any, context: TaskContext) -> tuple[Any, Metrics, Mapping[str, Any]]:
        x, y = arrays_of(self._train_data, context)
        batch_size = whole_parameter(context, "batch_size", self._batch_size)
        keras.utils.set_random_seed(context.seed)  # of dropout and the like
        self.set_weights(weights)
        self._prepare(context)
        batches = context.batches(len(x), batch_size, whole_parameter(context, "epochs", self._epochs))
        correction = _Correction(self.model, context)
        logs: dict[str, Any] = {}
        for batch in watched(context, batches, batches, lambda: _named(logs)):
            with correction.of_step():
                logs.update(self.model.train_on_batch(x[batch], y[batch], return_dict=True))
        return self.get_weights(), _named(logs), {**batches.metadata(), **correction.metadata()}

    def evaluate(self, weights: Any, context: TaskContext) -> tuple[Metrics, int]:
        """The compiled loss and metrics over the site's test data."""
        assert self._test_data is not None  # else nobody asks
        x, y = arrays_of(self._test_data, context)
        self.set_weights(weights)
        for penalty in self._penalties:
            penalty.set(0.0)
        found = self.model.evaluate(x, y, batch_size=1000, verbose=0, return_dict=True)
        return {name: float(value) for name, value in found.items()}, len(x)

    def _prepare(self, context: TaskContext) -> None:
        """The optimizer with its first state and the plan's learning rate; the penalty of FedProx; metrics at zero."""
        optimizer, mu = self.model.optimizer, Proximal.of(context, ()).mu
        for variable, value in zip(optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        if (rate := rate_parameter(context)) is not None:
            optimizer.learning_rate = rate
        if mu and not self._penalties:
            self._penalties = [_Penalty(variable) for variable in self.model.trainable_variables]
            self.model.make_train_function(force=True)  # the one that was traced knows nothing of them
        for penalty in self._penalties:
            penalty.set(mu)
        self.model.reset_metrics()


class _Penalty:
    """FedProx's μ/2·‖w − w₀‖² of one variable, as its regularizer, beside the one that it has.

    μ and w₀ are variables too: they change from task to task, and the traced training step stays right.
    """

    def __init__(self, variable: Any) -> None:
        self._variable = variable
        self._own = variable.regularizer
        self._mu = keras.Variable(0.0, trainable=False, dtype=variable.dtype, name="proximal_mu")
        self._start = keras.Variable(variable, trainable=False, dtype=variable.dtype, name="proximal_start")
        variable.regularizer = self

    def set(self, mu: float) -> None:
        """With the variable's value now as w₀."""
        self._mu.assign(mu)
        self._start.assign(self._variable)

    def __call__(self, value: Any) -> Any:
        penalty = 0.5 * self._mu * keras.ops.sum(keras.ops.square(value - self._start))
        return penalty if self._own is None else penalty + self._own(value)


class _Correction:
    """SCAFFOLD's part of each step of plain SGD: w ← w − η·(c − cᵢ), behind w ← w − η·gradient.

    Args:
        model: with the weights that the task brought.
    """

    def __init__(self, model: keras.Model, context: TaskContext) -> None:
        self._optimizer = model.optimizer
        self._named = variables_by_name(model)
        self._scaffold = Scaffold.of(context, _arrays(self._named) if context.extra else {})
        self._corrections: list[tuple[Any, Any]] = []
        self._rates: list[float] = []
        if self._scaffold.active:
            _check_steps(model)
            trained = {id(variable) for variable in model.trainable_variables}
            given = zip(self._named.values(), self._scaffold.gradients(), strict=True)
            self._corrections = [
                (variable, keras.ops.cast(one, variable.dtype)) for variable, one in given if id(variable) in trained
            ]

    @contextmanager
    def of_step(self) -> Iterator[None]:
        """Around a step; its learning rate is the one before it, since the step counts."""
        if not self._scaffold.active:
            yield
            return
        rate = float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))
        yield
        self._rates.append(rate)
        for variable, correction in self._corrections:
            variable.assign_sub(rate * correction)

    def metadata(self) -> Mapping[str, Any]:
        """The change of the site's own variate; empty where the plan's rule is another."""
        if not self._scaffold.active:
            return {}
        num_steps = len(self._rates)
        rate = sum(self._rates) / max(1, num_steps)
        return {"extra": self._scaffold.finish(_arrays(self._named), num_steps=num_steps, learning_rate=rate)}


def _check_steps(model: keras.Model) -> None:
    """Raises InvalidInput (`optimizer_not_supported`) where steps say nothing of the mean gradient."""
    optimizer = model.optimizer
    bounded = any(variable.constraint is not None for variable in model.trainable_variables)
    clips = any(getattr(optimizer, name) is not None for name in ("clipnorm", "clipvalue", "global_clipnorm"))
    gathers = optimizer.gradient_accumulation_steps is not None or optimizer.use_ema
    if type(optimizer) is not keras.optimizers.SGD or optimizer.momentum or clips or gathers or bounded:
        raise InvalidInput(
            "optimizer_not_supported",
            "SCAFFOLD works out the mean gradient from how far the weights went: this optimizer does not go along it",
            fix="Compile with keras.optimizers.SGD without momentum, clipping, accumulation and averages, and weights "
            "without constraints; or choose another rule.",
        )


def _arrays(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in variables.items()}


def _named(logs: Mapping[str, Any]) -> dict[str, float]:
    """Means over the steps since the metrics were reset, as Keras keeps them."""
    return {f"train_{name}": float(value) for name, value in logs.items()}
