"""scikit-learn forests through the helper: the same predictions, at sites that have other labels than others."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_regression
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)

from fedn.models.helpers.registry import get_helper
from fedn.models.helpers.sklearn_forest import FederatedForest
from fedn.models.wire import decode, encode
from fedn.protocol.errors import InvalidInput

IMAGES, DIGITS = load_digits(return_X_y=True)
HELPER: Any = get_helper("sklearn_forest")


def new(estimator: Any, **changes: Any) -> FederatedForest:
    given = {"num_features": 64, "classes": range(10), "max_trees": 20, "max_nodes": 4000}
    return FederatedForest(estimator, **{**given, **changes})


@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier])
def test_classifiers_predict_as_scikit_learn_does(kind: Any) -> None:
    forest = new(kind(max_depth=6))
    forest.grow(IMAGES[:600], DIGITS[:600], num_trees=7, seed=3)
    other = new(kind())
    HELPER.set_weights(other, decode(encode(HELPER.get_weights(forest))))
    own = kind(7, max_depth=6, random_state=np.random.RandomState(3)).fit(IMAGES[:600], DIGITS[:600])
    np.testing.assert_allclose(other.predict_proba(IMAGES), own.predict_proba(IMAGES), atol=1e-6)
    np.testing.assert_array_equal(other.predict(IMAGES), own.predict(IMAGES))
    weights = HELPER.get_weights(other)
    assert all(np.array_equal(weights[name], array) for name, array in HELPER.get_weights(forest).items())


@pytest.mark.parametrize("kind", [RandomForestRegressor, ExtraTreesRegressor])
def test_regressors_predict_as_scikit_learn_does(kind: Any) -> None:
    examples, targets = make_regression(300, 8, random_state=0)
    forest = new(kind(max_depth=5), num_features=8, classes=None)
    np.testing.assert_array_equal(forest.predict(examples), np.zeros(300))
    forest.grow(examples, targets, num_trees=5, seed=1)
    own = kind(5, max_depth=5, random_state=np.random.RandomState(1)).fit(examples, targets)
    np.testing.assert_allclose(forest.predict(examples), own.predict(examples), rtol=1e-5)


def test_sites_with_other_labels_make_one_forest() -> None:
    forests = []
    for labels in ((0, 1, 2), (2, 7), (9,)):
        mine = np.isin(DIGITS, labels)
        forest = new(RandomForestClassifier(max_depth=6))
        forest.grow(IMAGES[mine], DIGITS[mine], num_trees=4, seed=1)
        shares = forest.predict_proba(IMAGES)
        assert shares[:, labels].sum() == pytest.approx(len(IMAGES)), "its other classes have no share"
        forests.append(forest)
    union = new(RandomForestClassifier())
    union.trees = [tree for forest in forests for tree in forest.trees]
    expected = np.mean([forest.predict_proba(IMAGES) for forest in forests], axis=0)
    np.testing.assert_allclose(union.predict_proba(IMAGES), expected, atol=1e-6)


def test_missing_features_go_the_way_that_was_learned() -> None:
    examples = np.where(np.random.default_rng(0).random(IMAGES.shape) < 0.2, np.nan, IMAGES)
    forest = new(RandomForestClassifier(max_depth=6))
    forest.grow(examples, DIGITS, num_trees=5, seed=0)
    own = RandomForestClassifier(5, max_depth=6, random_state=np.random.RandomState(0)).fit(examples, DIGITS)
    other = new(RandomForestClassifier())
    HELPER.set_weights(other, HELPER.get_weights(forest))
    np.testing.assert_allclose(other.predict_proba(examples), own.predict_proba(examples), atol=1e-6)


def test_an_empty_forest_knows_nothing() -> None:
    np.testing.assert_allclose(new(RandomForestClassifier()).predict_proba(IMAGES[:3]), np.full((3, 10), 0.1))


def test_what_cannot_be_is_refused_with_its_reason() -> None:
    with pytest.raises(InvalidInput, match="none of the forests"):
        new(GradientBoostingClassifier())
    with pytest.raises(InvalidInput, match="a regressor none"):
        new(RandomForestRegressor())
    with pytest.raises(InvalidInput, match="no number"):
        new(RandomForestClassifier(), classes=["cat", "dog"])
    with pytest.raises(InvalidInput, match="labels 8, 9"):
        new(RandomForestClassifier(), classes=range(8)).grow(IMAGES, DIGITS, num_trees=1, seed=0)
    with pytest.raises(InvalidInput, match="several targets"):
        new(RandomForestClassifier()).grow(IMAGES, np.stack([DIGITS, DIGITS], axis=1), num_trees=1, seed=0)
    with pytest.raises(InvalidInput, match="room for 20 trees and 50 nodes"):
        new(RandomForestClassifier(), max_nodes=50).grow(IMAGES, DIGITS, num_trees=4, seed=0)
    with pytest.raises(InvalidInput, match="no FederatedForest"):
        HELPER.get_weights(RandomForestClassifier())


def test_a_hostile_model_is_refused_and_the_forest_stays_as_it_was() -> None:
    forest = new(RandomForestClassifier(max_depth=3))
    forest.grow(IMAGES, DIGITS, num_trees=2, seed=0)
    before = forest.predict_proba(IMAGES)
    weights = HELPER.get_weights(forest)
    weights["left"][0] = 10**9
    with pytest.raises(InvalidInput, match="no later node"):
        HELPER.set_weights(forest, weights)
    with pytest.raises(InvalidInput, match="is missing"):
        HELPER.set_weights(forest, {})
    np.testing.assert_array_equal(forest.predict_proba(IMAGES), before)
