import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn.models.helpers.keras import _stable_names
from fedn.models.helpers.registry import get_helper
from fedn.models.wire import DTYPES, decode, encode
from fedn.protocol.errors import InvalidInput
from tests.support.models import assert_same_model

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras itself
]

HELPER = get_helper("keras")


def sequential(width: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )


def functional(width: int) -> keras.Model:
    inputs = keras.Input((4,))
    left, right = keras.layers.Dense(width)(inputs), keras.layers.Dense(width, use_bias=False)(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="head_7")(keras.layers.Add()([left, right])))


class Subclassed(keras.Model):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = [keras.layers.Dense(width) for _ in range(2)]
        self.inner = keras.Sequential([keras.layers.Dense(width), keras.layers.Dense(2)])
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, inputs: Any) -> Any:
        for block in self.blocks:
            inputs = block(inputs)
        return self.inner(inputs) * self.scale


def subclassed(width: int) -> keras.Model:
    model = Subclassed(width)
    model(np.zeros((1, 4), np.float32))
    return model


def half(width: int) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(width, dtype="bfloat16")])


def nested(width: int) -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, sequential(width)(sequential(4)(keras.layers.Dense(4)(inputs)[:, :4])[:, :1] + inputs))


MAKERS: list[Any] = [sequential, functional, nested, subclassed, half]


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=3, deadline=None)
@given(width=st.integers(1, 4))
def test_weights_go_from_one_model_to_another_built_later_in_the_process(make: Any, width: int) -> None:
    source, target = make(width), make(width)
    tensors = decode(encode(HELPER.get_weights(source)))
    assert len(tensors) == len(source.weights)
    HELPER.set_weights(target, tensors)
    assert_same_model(HELPER.get_weights(target), tensors)
    inputs = np.random.default_rng(width).random((3, 4), np.float32)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(source(inputs)).astype(np.float32),
        keras.ops.convert_to_numpy(target(inputs)).astype(np.float32),
    )


def test_names_are_those_of_layers_without_the_running_numbers_of_the_process() -> None:
    sequential(1)
    assert list(HELPER.get_weights(sequential(1))) == [
        "dense/kernel",
        "dense/bias",
        "batch_normalization/gamma",
        "batch_normalization/beta",
        "batch_normalization/moving_mean",
        "batch_normalization/moving_variance",
        "dense_1/kernel",
        "dense_1/bias",
    ]


def test_names_are_unique_and_depend_on_words_and_order_only() -> None:
    assert _stable_names(["m_3/dense_7/k", "m_3/dense_9/k", "m_3/dense_7/b", "m_3/dense_9/k", "k"]) == [
        "m/dense/k",
        "m/dense_1/k",
        "m/dense/b",
        "m/dense_1/k_1",
        "k",
    ]
    assert _stable_names(["a/k", "a_1/k", "a_1_2/k", "a_1/k"]) == ["a/k", "a_1/k", "a_1_1/k", "a_1/k_1"]


def test_seed_generators_and_metrics_are_no_weights() -> None:
    model = sequential(2)
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.zeros((8, 4)), np.zeros((8, 2)), verbose=0)
    assert len(model.variables) > len(model.weights)
    assert not [name for name in HELPER.get_weights(model) if "seed" in name or "mean_absolute" in name]


def test_bfloat16_variables_keep_their_dtype() -> None:
    assert {array.dtype for array in HELPER.get_weights(half(2)).values()} == {DTYPES["BF16"]}


def test_weights_are_copies() -> None:
    model = sequential(2)
    tensors = HELPER.get_weights(model)
    HELPER.set_weights(model, {name: array + 1 for name, array in tensors.items()})
    assert not np.array_equal(HELPER.get_weights(model)["dense/bias"], tensors["dense/bias"])


def test_weights_that_do_not_fit_are_refused_with_every_difference() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(InvalidInput) as caught:
        HELPER.set_weights(model, {"dense/kernel": np.zeros((3, 1)), "other": np.zeros(1)})
    assert caught.value.code == "weights_do_not_fit"
    for reason in ("/bias' is missing", "has shape (3, 1)", "has dtype float64", "no tensor 'other'"):
        assert reason in caught.value.message


def test_models_without_weights_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no weights yet"):
        HELPER.get_weights(Subclassed(1))
    with pytest.raises(InvalidInput, match="not a keras"):
        HELPER.get_weights([np.zeros(1)])


def test_a_keras_archive_is_read_and_one_with_code_is_refused(tmp_path: Path) -> None:
    for make in (sequential, functional, nested):
        model = make(2)
        model.save(tmp_path / "model.keras")
        assert_same_model(HELPER.read_file(tmp_path / "model.keras"), HELPER.get_weights(model))
    code = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda inputs: inputs), keras.layers.Dense(1)])
    code.save(tmp_path / "code.keras")
    with pytest.raises(InvalidInput) as caught:
        HELPER.read_file(tmp_path / "code.keras")
    assert caught.value.code == "bad_model_file"
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(InvalidInput, match="HDF5"):
        HELPER.read_file(tmp_path / "model.weights.h5")
