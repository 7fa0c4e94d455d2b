"""Server optimizers against the formulas of their papers in plain float64, over several rounds and two tiers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn.aggregation.combine import FromBase, combine
from fedn.aggregation.fedavg import FedAvg
from fedn.aggregation.optimizers.base import get_optimizer
from fedn.aggregation.optimizers.state import ServerState
from fedn.aggregation.optimizers.step import OptimizerStep
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, encode, read_spec
from fedn.protocol.errors import InvalidInput
from tests.support.models import Array, Model
from tests.support.sums import whole_result

Reference = Callable[[Array, Array, dict[str, Any]], Array]


def sgd(weights: Array, change: Array, memory: dict[str, Any], eta: float = 0.5, beta: float = 0.8) -> Array:
    memory["v"] = beta * memory.get("v", 0.0) + change
    return weights + eta * memory["v"]


def adaptive(square: Callable[[Array, Array], Array], beta_1: float) -> Reference:
    eta, tau = 0.05, 0.01

    def step(weights: Array, change: Array, memory: dict[str, Any]) -> Array:
        memory["m"] = beta_1 * memory.get("m", 0.0) + (1 - beta_1) * change
        memory["v"] = square(memory.get("v", np.full_like(change, tau**2)), change**2)
        return np.asarray(weights + eta * memory["m"] / (np.sqrt(memory["v"]) + tau))

    return step


ADAPTIVE = {"learning_rate": 0.05, "tau": 0.01}
CASES: list[tuple[str, dict[str, Any], Reference]] = [
    ("sgd", {"learning_rate": 0.5, "momentum": 0.8}, sgd),
    ("sgd", {"momentum": 0.0, "learning_rate": 0.3}, lambda w, change, memory: w + 0.3 * change),
    ("adagrad", ADAPTIVE, adaptive(lambda v, d2: v + d2, 0.0)),
    ("adagrad", {**ADAPTIVE, "beta_1": 0.7}, adaptive(lambda v, d2: v + d2, 0.7)),
    ("adam", {**ADAPTIVE, "beta_2": 0.9}, adaptive(lambda v, d2: 0.9 * v + 0.1 * d2, 0.9)),
    ("yogi", {**ADAPTIVE, "beta_2": 0.9}, adaptive(lambda v, d2: v - 0.1 * d2 * np.sign(v - d2), 0.9)),
]


def one_round(
    base: Model, updates: list[Model], weights: list[float], step: OptimizerStep, sum_dtype: str = "float64"
) -> Model:
    """Each update is a combiner's only one."""
    models = []
    for update, weight in zip(updates, weights, strict=True):
        data = encode(update)
        total = FedAvg().start(read_spec(data), sum_dtype)
        total.add(data, read_spec(data), weight)
        models.append((whole_result(total), weight))
    # Cut so that elements lie across pieces.
    whole = memoryview(encode(base))
    pieces = Pieces([whole[at : at + 37] for at in range(0, len(whole), 37)])
    made = combine(models, read_spec(encode(base)), sum_dtype=sum_dtype, from_base=FromBase(pieces, step=step))
    return {name: np.array(array) for name, array in decode(made).items()}


@settings(deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 2**32), st.sampled_from(["float64", "float32"]))
def test_rounds_follow_the_paper_over_two_tiers(case, seed, sum_dtype):
    name, options, reference = case
    optimizer = get_optimizer(name, options)
    rng = np.random.default_rng(seed)
    base: Model = {
        "w": rng.standard_normal((7, 5)),
        "b": rng.standard_normal(3).astype(np.float32),
        "bn.running_var": np.ones(4, np.float32),
        "steps": np.array(10, np.int64),
        "empty": np.zeros((0, 2), np.float32),
    }
    expected = {key: array.astype(np.float64) for key, array in base.items()}
    memories: dict[str, dict[str, Any]] = {key: {} for key in base}
    state: ServerState | None = None
    for number in range(4):
        updates: list[Model] = [
            {
                key: np.asarray(array + rng.standard_normal(array.shape) * 0.3).astype(array.dtype)
                if array.dtype.kind == "f"
                else array + 3 * number
                for key, array in base.items()
            }
            for _ in range(3)
        ]
        weights = [float(weight) for weight in rng.integers(1, 100, 3)]
        spec = read_spec(encode(base))
        step = OptimizerStep(optimizer, spec, sum_dtype, state)
        mean = {
            key: np.average([update[key].astype(np.float64) for update in updates], axis=0, weights=weights)
            for key in base
        }
        for key in ("w", "b", "empty"):
            expected[key] = reference(expected[key], mean[key] - expected[key], memories[key])
        base = one_round(base, updates, weights, step, sum_dtype)
        state = step.state()
        assert (state is None) == (options.get("momentum") == 0.0)
        # The state is as good when it comes from a store.
        state = state and ServerState.read(bytes(state.data))
        assert state is None or state.steps == number + 1
        tolerance = 1e-9 if sum_dtype == "float64" else 1e-4
        np.testing.assert_allclose(base["w"], expected["w"], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(base["b"], expected["b"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(base["bn.running_var"], mean["bn.running_var"], rtol=1e-6)
        assert base["steps"] == np.rint(mean["steps"]) and base["steps"].dtype == np.int64
        # What is rounded to float32 between the rounds is in the model, not in the reference.
        expected["b"] = base["b"].astype(np.float64)


def test_without_momentum_and_with_rate_1_it_is_fedavg():
    base = {"w": np.zeros(3, np.float32)}
    updates = [{"w": np.full(3, value, np.float32)} for value in (1, 4)]
    step = OptimizerStep(get_optimizer("sgd", {"momentum": 0.0}), read_spec(encode(base)))
    np.testing.assert_allclose(one_round(base, updates, [3.0, 1.0], step)["w"], 1.75)


def test_a_state_of_another_optimizer_or_model_does_not_count():
    adam = get_optimizer("adam", {})
    spec = read_spec(encode({"w": np.zeros(3, np.float32)}))
    first = OptimizerStep(adam, spec)
    first.apply("w", 0, np.zeros(3), np.ones(3))
    state = first.state()
    assert state is not None
    # Yogi's slots have the same names and shapes.
    for other in (
        OptimizerStep(get_optimizer("yogi", {}), spec, state=state),
        OptimizerStep(adam, read_spec(encode({"w": np.zeros(4, np.float32)})), state=state),
        OptimizerStep(adam, spec, "float32", state),
    ):
        fresh = other.state()
        assert fresh is not None and fresh.steps == 1
    again = OptimizerStep(adam, spec, state=state).state()
    assert again is not None and again.steps == 2


def test_a_step_out_of_bounds_is_refused():
    step = OptimizerStep(get_optimizer("sgd", {"learning_rate": 1e300}), read_spec(encode({"w": np.zeros(2)})))
    with pytest.raises(InvalidInput, match="learning_rate") as caught:
        one_round({"w": np.zeros(2)}, [{"w": np.full(2, 1e10)}], [1.0], step)
    assert caught.value.code == "optimizer_diverged"


@pytest.mark.parametrize(
    ("name", "options"),
    [("adam", {"momentum": 0.9}), ("adam", {"beta_2": 1.0}), ("sgd", {"learning_rate": 0}), ("yogi", {"tau": 0.0})],
)
def test_options_that_cannot_be_used_are_refused_by_name(name, options):
    with pytest.raises(InvalidInput, match=next(iter(options))):
        get_optimizer(name, options)
