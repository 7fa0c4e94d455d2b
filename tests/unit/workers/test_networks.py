"""The small networks: their gradients are those of finite differences."""

import numpy as np
import pytest

from fedn.protocol.errors import InvalidInput
from fedn.workers.algorithms.networks import Dense, Network, Relu, cross_entropy, gradient_of_cross_entropy, log_softmax
from fedn.workers.algorithms.tensors import descend, weighted_sum

NETWORK = Network([Dense(5, 7), Relu(), Dense(7, 3)])


def test_gradients_by_weights_and_inputs_are_those_of_finite_differences() -> None:
    draw = np.random.default_rng(1)
    weights = {name: draw.standard_normal(array.shape) for name, array in NETWORK.init(0).items()}
    inputs, labels = draw.standard_normal((6, 5)), draw.integers(0, 3, 6)
    trace = NETWORK.trace(weights, inputs)
    gradients, by_inputs = NETWORK.backward(weights, trace, cross_entropy(trace[-1], labels)[1])

    def loss() -> float:
        return cross_entropy(NETWORK.forward(weights, inputs), labels)[0]

    for found, values in [*((gradients[name], weights[name]) for name in weights), (by_inputs, inputs)]:
        for place in np.ndindex(values.shape):
            kept, step = values[place], 1e-6
            values[place] = kept + step
            above = loss()
            values[place] = kept - step
            below = loss()
            values[place] = kept
            assert found[place] == pytest.approx((above - below) / (2 * step), abs=1e-7)
    assert gradient_of_cross_entropy(NETWORK, weights, inputs, labels)[0] == pytest.approx(loss())


def test_large_logits_do_not_overflow() -> None:
    assert np.allclose(log_softmax(np.array([[1000.0, 0.0]])), [[0, -1000]])


def test_equal_seeds_give_equal_weights_of_float32() -> None:
    first, again, other = NETWORK.init(3), NETWORK.init(3), NETWORK.init(4)
    assert list(first) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert all(array.dtype == np.float32 and np.array_equal(array, again[name]) for name, array in first.items())
    assert not np.array_equal(first["0.weight"], other["0.weight"])


def test_sums_keep_the_dtype_and_change_nothing_they_are_given() -> None:
    model = {"w": np.ones(3, np.float32)}
    total = weighted_sum([(0.5, model), (2.0, {"w": np.full(3, 2.0)})])
    assert total["w"].dtype == np.float32 and np.array_equal(total["w"], [4.5] * 3)
    assert np.array_equal(descend(model, {"w": np.ones(3)}, 0.25)["w"], [0.75] * 3)
    assert np.array_equal(model["w"], np.ones(3))


@pytest.mark.parametrize("other", [{"v": np.ones(3)}, {"w": np.ones((3, 1))}, {"w": np.ones(1)}])
def test_models_that_differ_are_not_added(other: dict[str, np.ndarray]) -> None:
    with pytest.raises(InvalidInput) as caught:
        weighted_sum([(1.0, {"w": np.ones(3)}), (1.0, other)])
    assert caught.value.code == "models_differ"


def test_a_sum_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="none"):
        weighted_sum([])
