"""scikit-learn estimators as learners: they learn, keep to steps, and repeat."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier

from fedn import TaskContext
from fedn.client.execution import kinds_of
from fedn.learners.sklearn import SklearnLearner
from fedn.protocol.errors import InvalidInput

X, Y = load_digits(return_X_y=True)
X = X / 16
TRAIN, TEST = (X[:1200], Y[:1200]), (X[1200:], Y[1200:])


def context(**fields: object) -> TaskContext:
    return TaskContext(**({"session": "s", "round": 0, "client": "me", "kind": "train", "seed": 5} | fields))


def copied(weights: Any) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in weights.items()}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (SGDClassifier(loss="log_loss"), {"epochs": 3}),
        (MLPClassifier((32,), solver="sgd", random_state=0), {"epochs": 10, "batch_size": 16, "learning_rate": 0.3}),
        (LogisticRegression(), {"epochs": 20}),
    ],
)
def test_a_classifier_goes_on_from_the_weights_that_it_gets(model: Any, parameters: dict[str, object]) -> None:
    learner = SklearnLearner(model, TRAIN, TEST, classes=range(10))
    start = copied(learner.get_weights())
    before, examples = learner.evaluate(start, context(kind="validate"))
    task = context(parameters=parameters)
    weights, metrics, metadata = learner.train(copied(start), task)
    after, _ = learner.evaluate(copied(weights), context(kind="validate"))
    assert (metadata["num_examples"], examples) == (1200, len(Y) - 1200)
    assert after["accuracy"] > 0.75 > 2 * before["accuracy"] and after["loss"] < before["loss"]
    assert metrics["train_accuracy"] > 0.8
    # The same task again gives the same bits, from another object too.
    again, _, _ = learner.train(copied(start), task)
    for name, array in weights.items():
        np.testing.assert_array_equal(again[name], array)


def test_steps_are_batches_where_the_estimator_takes_them_and_iterations_where_not() -> None:
    in_batches = SklearnLearner(SGDClassifier(loss="log_loss"), TRAIN, classes=range(10), batch_size=100)
    _, _, metadata = in_batches.train(in_batches.get_weights(), context())
    assert metadata["num_steps"] == 12 and metadata["ms_per_epoch"] == pytest.approx(12 * metadata["ms_per_step"])
    _, _, metadata = in_batches.train(in_batches.get_weights(), context(step_budget=5))
    assert metadata["num_steps"] == 5
    whole = SklearnLearner(LogisticRegression(), TRAIN, classes=range(10))
    _, _, metadata = whole.train(whole.get_weights(), context(step_budget=4))
    assert metadata["num_steps"] == 4 and metadata["ms_per_epoch"] == metadata["ms_per_step"] > 0


def test_the_first_model_has_nothing_of_the_sites_examples() -> None:
    one = SklearnLearner(SGDClassifier(random_state=0), TRAIN, classes=range(10))
    other = SklearnLearner(SGDClassifier(random_state=0), (X[:5], Y[:5]), classes=range(10))
    for name, array in one.get_weights().items():
        np.testing.assert_array_equal(other.get_weights()[name], array)


def test_a_regressor_learns() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(500, 3))
    y = x @ np.array([1.0, -2.0, 0.5])
    learner = SklearnLearner(SGDRegressor(), lambda task: (x, y), lambda task: (x, y), num_features=3)
    weights, _, _ = learner.train(learner.get_weights(), context(parameters={"epochs": 20}))
    assert learner.evaluate(weights, context())[0]["mse"] < 0.01


def test_a_site_without_test_data_does_not_validate() -> None:
    assert "validate" not in kinds_of(SklearnLearner(SGDRegressor(), (X, Y)))
    assert "validate" in kinds_of(SklearnLearner(SGDRegressor(), (X, Y), (X, Y)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SklearnLearner(LinearRegression(), TRAIN), "neither partial_fit nor warm_start"),
        (lambda: SklearnLearner(SGDClassifier(), TRAIN), "which classes there are"),
        (lambda: SklearnLearner(SGDRegressor(), lambda task: TRAIN), "how many features"),
    ],
)
def test_what_cannot_be_federated_is_refused_when_it_is_made(make: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        make()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"proximal_mu": 0.1}, "no place for FedProx"), ({"learning_rate": 0.1}, "no learning rate")],
)
def test_what_the_estimator_cannot_honour_is_refused(parameters: dict[str, float], said: str) -> None:
    learner = SklearnLearner(LogisticRegression(), TRAIN, classes=range(10))
    with pytest.raises(InvalidInput, match=said):
        learner.train(learner.get_weights(), context(parameters=parameters))


def test_an_estimator_that_learns_only_what_it_sees_refuses_a_site_without_a_class() -> None:
    some = Y[:1200] != 7
    learner = SklearnLearner(LogisticRegression(), (X[:1200][some], Y[:1200][some]), classes=range(10))
    with pytest.raises(InvalidInput, match="no example of 7"):
        learner.train(learner.get_weights(), context())


@pytest.mark.parametrize("data", [(X, Y[:5]), X, (X,), (np.float64(1), Y)])
def test_examples_that_do_not_fit_together_are_refused(data: Any) -> None:
    learner = SklearnLearner(SGDClassifier(), lambda task: data, classes=range(10), num_features=64)
    with pytest.raises(InvalidInput) as caught:
        learner.train(learner.get_weights(), context())
    assert caught.value.code == "bad_examples"
