"""Every estimator of the helper's table: weights go to a fresh estimator, which then does what the fitted one does."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PassiveAggressiveClassifier,
    PassiveAggressiveRegressor,
    Perceptron,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier

from fedn.models.helpers.sklearn import _STATES, SklearnHelper
from fedn.models.wire import decode, encode
from fedn.protocol.errors import InvalidInput
from tests.support.models import assert_same_model

HELPER = SklearnHelper()

# scikit-learn tells of few iterations, and that PassiveAggressive* will go; neither is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore")

REGRESSORS: list[Callable[[], Any]] = [
    LinearRegression,
    lambda: LinearRegression(fit_intercept=False),
    Ridge,
    Lasso,
    ElasticNet,
    LinearSVR,
    SGDRegressor,
    PassiveAggressiveRegressor,
    lambda: MLPRegressor(hidden_layer_sizes=(4, 3), max_iter=5),
    lambda: MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, early_stopping=True),
]
CLASSIFIERS: list[Callable[[], Any]] = [
    lambda: LogisticRegression(max_iter=20),
    SGDClassifier,
    lambda: SGDClassifier(loss="log_loss"),
    Perceptron,
    PassiveAggressiveClassifier,
    LinearSVC,
    lambda: MLPClassifier((5,), max_iter=5),
    lambda: MLPClassifier((5,), max_iter=5, early_stopping=True),
    GaussianNB,
    MultinomialNB,
    BernoulliNB,
    ComplementNB,
]
OTHERS: list[Callable[[], Any]] = [
    lambda: KMeans(3, n_init=1),
    lambda: MiniBatchKMeans(3, n_init=1),
    StandardScaler,
    lambda: StandardScaler(with_mean=False),
    lambda: StandardScaler(with_mean=False, with_std=False),
    MinMaxScaler,
    MaxAbsScaler,
    lambda: PCA(2),
    lambda: PCA(2, whiten=True),
]


def unfitted(make: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def trains_on(model: Any) -> bool:
    """Whether it has a `partial_fit`, which scikit-learn forbids with early stopping."""
    return hasattr(model, "partial_fit") and not getattr(model, "early_stopping", False)


def data(seed: int, num_classes: int, dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """(examples, labels, targets): 60 non-negative examples of 4 features, every class among the labels."""
    rng = np.random.default_rng(seed)
    examples = rng.integers(0, 6, (60, 4)).astype(dtype) + rng.random((60, 4)).astype(dtype)
    labels = np.arange(60) % num_classes
    return examples, labels, examples @ rng.random(4) + 1


def fitted(make: Callable[[], Any], seed: int, num_classes: int, dtype: Any = np.float64) -> tuple[Any, Any]:
    examples, labels, targets = data(seed, num_classes, dtype)
    model = make()
    if "random_state" in model.get_params():
        model.set_params(random_state=seed % 1000)
    return model.fit(examples, targets if make in REGRESSORS else labels), examples


def outputs(model: Any, examples: Any) -> dict[str, Any]:
    return {
        method: getattr(model, method)(examples)
        for method in ("predict", "predict_proba", "decision_function", "transform")
        if hasattr(model, method)
    }


def test_every_class_of_the_table_is_tested() -> None:
    assert {type(make()).__name__ for make in (*REGRESSORS, *CLASSIFIERS, *OTHERS)} == set(_STATES)


@pytest.mark.parametrize("make", [*REGRESSORS, *CLASSIFIERS, *OTHERS], ids=lambda make: repr(unfitted(make)))
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31), num_classes=st.integers(2, 4), dtype=st.sampled_from([np.float64, np.float32]))
def test_weights_make_a_fresh_estimator_do_the_same(make: Any, seed: int, num_classes: int, dtype: Any) -> None:
    model, examples = fitted(make, seed, num_classes, dtype)
    tensors = decode(encode(HELPER.get_weights(model)))
    fresh = clone(model)
    HELPER.set_weights(fresh, tensors)
    assert_same_model(HELPER.get_weights(fresh), tensors)
    expected = outputs(model, examples)
    assert expected
    HELPER.set_weights(model, tensors)
    # PCA keeps its components column by column; row by row, the last bits of products differ.
    tolerance = 1e-4 if isinstance(model, PCA) else 0.0
    for again in (fresh, model):
        for method, output in outputs(again, examples).items():
            np.testing.assert_allclose(output, expected[method], rtol=0, atol=tolerance, err_msg=method)


@pytest.mark.parametrize(
    "make",
    [make for make in (*REGRESSORS, *CLASSIFIERS, *OTHERS) if trains_on(unfitted(make))],
    ids=lambda make: repr(unfitted(make)),
)
def test_training_goes_on_from_set_weights(make: Any) -> None:
    model, examples = fitted(make, 1, 3)
    _, labels, targets = data(1, 3)
    fresh = clone(model)
    HELPER.set_weights(fresh, HELPER.get_weights(model))
    before = HELPER.get_weights(fresh)
    fresh.partial_fit(examples, targets if make in REGRESSORS else labels)
    after = HELPER.get_weights(fresh)
    assert list(after) == list(before)
    assert all(np.isfinite(array).all() for array in after.values())
    assert {name: array.shape for name, array in after.items()} == {name: array.shape for name, array in before.items()}


def test_weights_are_copies() -> None:
    model, examples = fitted(LinearRegression, 1, 2)
    tensors = HELPER.get_weights(model)
    expected = model.predict(examples)
    tensors["coef_"] += 1
    HELPER.set_weights(model, HELPER.get_weights(model))
    np.testing.assert_array_equal(model.predict(examples), expected)


def test_an_estimator_that_was_not_fitted_has_no_weights() -> None:
    with pytest.raises(InvalidInput, match="not fitted"):
        HELPER.get_weights(LinearRegression())


def test_classes_of_text_are_refused_with_the_reason() -> None:
    examples, labels, _ = data(1, 2)
    with pytest.raises(InvalidInput, match="Encode the classes as integers"):
        HELPER.get_weights(GaussianNB().fit(examples, np.array(["no", "yes"])[labels]))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (RandomForestClassifier(), "trees are not tensors"),
        (DecisionTreeClassifier(), "trees are not tensors"),
        (GradientBoostingClassifier(), "ensemble of weak learners"),
        (KNeighborsClassifier(), "training data"),
        (SVC(), "support vectors"),
        (CategoricalNB(), "not in the helper's table"),
        (make_pipeline(StandardScaler(), Ridge()), "chain of estimators"),
        (SGDRegressor(average=True), "second set"),
        (object(), "not a scikit-learn estimator"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_others_are_refused_by_class_with_the_reason(model: Any, reason: str) -> None:
    for call in (lambda: HELPER.get_weights(model), lambda: HELPER.set_weights(model, {})):
        with pytest.raises(InvalidInput, match=reason) as caught:
            call()
        assert caught.value.code == "model_not_supported"
        assert caught.value.where == {"class": type(model).__name__}


def test_several_labels_an_example_are_refused() -> None:
    examples, labels, _ = data(1, 2)
    model = MLPClassifier((3,), max_iter=2).fit(examples, np.stack([labels, 1 - labels], axis=1))
    with pytest.raises(InvalidInput, match="several labels"):
        HELPER.get_weights(model)


def test_weights_that_do_not_fit_are_refused_with_every_difference() -> None:
    model, _ = fitted(LinearRegression, 1, 2)
    with pytest.raises(InvalidInput) as caught:
        HELPER.set_weights(model, {"coef_": np.zeros(9), "other": np.zeros(1)})
    for reason in ("'intercept_' is missing", "'coef_' has shape", "no tensor 'other'"):
        assert reason in caught.value.message
    with pytest.raises(InvalidInput, match=r"'coefs_.0' is missing"):
        HELPER.set_weights(MLPRegressor(), {"n_features_in_": np.array(2)})
    with pytest.raises(InvalidInput, match=r"no tensor 'coefs_.3'"):
        HELPER.set_weights(MLPRegressor(), {"coefs_.0": np.zeros(1), "coefs_.3": np.zeros(1)})
