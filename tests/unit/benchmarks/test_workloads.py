"""The workloads of the benchmarks: what they compute is what they say."""

import numpy as np
import pytest

from benchmarks.housing_mlp.network import WIDTHS, gradient, loss, make_data, make_weights, num_params, train_epoch
from benchmarks.noop.workload import TENSORS, make_model, max_error, shift_of


def test_a_model_has_so_many_parameters_in_tensors_that_differ() -> None:
    model = make_model(20_000)
    assert sum(array.size for array in model) == 20_000
    assert len({array.tobytes() for array in model}) == TENSORS


@pytest.mark.parametrize("params", [0, 999, 1500])
def test_a_size_that_does_not_divide_is_refused(params: int) -> None:
    with pytest.raises(ValueError, match="multiple of 1000"):
        make_model(params)


def test_the_error_of_flat_averaging_is_that_of_float32() -> None:
    clients, rounds = 3, 4
    model = make_model(1_000)
    for _ in range(rounds):
        updates = [[array + shift_of(index) for array in model] for index in range(clients)]
        model = [np.mean(arrays, axis=0, dtype=np.float64).astype(np.float32) for arrays in zip(*updates, strict=True)]
    assert max_error(model, clients, rounds) < 1e-5


def test_a_lost_update_shows_in_the_error() -> None:
    model = [array + shift_of(0) for array in make_model(1_000)]
    assert max_error(model, clients=2, rounds=1) == pytest.approx(0.005, rel=1e-3)


def test_the_housing_networks_have_the_sizes_of_the_literature() -> None:
    assert {size: num_params(width) for size, width in WIDTHS.items()} == {
        "100k": 105_921,
        "1M": 1_011_001,
        "10M": 10_275_201,
    }
    weights = make_weights(4, seed=1)
    assert len(weights) == 204
    assert sum(array.size for array in weights) == num_params(4)


def test_the_gradient_is_that_of_the_loss() -> None:
    # In float64, where differences of the loss are exact enough to compare with.
    weights = [array.astype(np.float64) for array in make_weights(3, seed=2)]
    features, prices = (array.astype(np.float64) for array in make_data(8, seed=3))
    slopes = gradient(weights, features, prices)  # type: ignore[arg-type]
    rng = np.random.default_rng(4)
    for layer in (0, 1, 100, 101, 202, 203):
        place = tuple(int(rng.integers(size)) for size in weights[layer].shape)
        step, losses = 1e-6, []
        for sign in (1, -1):
            weights[layer][place] += sign * step
            losses.append(loss(weights, features, prices))  # type: ignore[arg-type]
            weights[layer][place] -= sign * step
        assert slopes[layer][place] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-3, abs=1e-7)


def test_training_lowers_the_loss_and_a_learning_rate_of_zero_changes_nothing() -> None:
    weights = make_weights(8, seed=5)
    features, prices = make_data(64, seed=6)
    before = loss(weights, features, prices)
    kept = [array.copy() for array in weights]
    assert train_epoch(weights, features, prices, batch=16, learning_rate=0.0) == 4
    assert all(np.array_equal(array, copy) for array, copy in zip(weights, kept, strict=True))
    for _ in range(5):
        train_epoch(weights, features, prices, batch=64, learning_rate=1e-4)
    assert loss(weights, features, prices) < before
