"""Optimizers at combiners, over rounds in which clients move and combiners stay away, against plain float64."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn.aggregation.combine import combine
from fedn.aggregation.fedavg import FedAvg
from fedn.aggregation.optimizers.at_combiner import stepped
from fedn.aggregation.optimizers.base import get_optimizer
from fedn.aggregation.optimizers.state import ServerState
from fedn.aggregation.optimizers.step import OptimizerStep
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, encode, read_spec
from tests.support.sums import whole_result

SIZE = 4
OPTIONS: dict[str, dict[str, Any]] = {
    "sgd": {"learning_rate": 0.7, "momentum": 0.6},
    "adagrad": {"learning_rate": 0.2, "tau": 0.1},
    "adam": {"learning_rate": 0.2, "beta_1": 0.8, "beta_2": 0.9, "tau": 0.1},
    "yogi": {"learning_rate": 0.2, "beta_1": 0.8, "beta_2": 0.9, "tau": 0.1},
}


def reference_step(name: str, x: Any, change: Any, state: dict[str, Any]) -> Any:
    """One step in float64 as the papers write it; `state` is changed."""
    o = OPTIONS[name]
    if name == "sgd":
        state["v"] = o["momentum"] * state.get("v", 0.0) + change
        return x + o["learning_rate"] * state["v"]
    beta = o.get("beta_1", 0.0)
    m = state["m"] = beta * state.get("m", 0.0) + (1 - beta) * change
    v = state.get("v", o["tau"] ** 2)
    square = change**2
    if name == "adagrad":
        v = v + square
    elif name == "adam":
        v = o["beta_2"] * v + (1 - o["beta_2"]) * square
    else:
        v = v - (1 - o["beta_2"]) * square * np.sign(v - square)
    state["v"] = v
    return x + o["learning_rate"] * m / (np.sqrt(v) + o["tau"])


PLACES = st.lists(st.integers(0, 2), min_size=1, max_size=6)


@pytest.mark.parametrize("name", sorted(OPTIONS))
@settings(max_examples=25, deadline=None)
@given(st.lists(PLACES, min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_each_combiner_steps_by_itself_and_the_reducer_takes_their_mean(
    name: str, rounds: list[list[int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    model = bytes(encode({"w": rng.normal(size=SIZE), "n": np.array([3, 7]), "bn.running_mean": np.zeros(2)}))
    x = decode(model)["w"].copy()
    states: dict[int, ServerState] = {}
    expected: dict[int, dict[str, Any]] = {}
    for places in rounds:
        base, base_spec = Pieces.of(model), read_spec(model)
        updates = [rng.normal(size=SIZE) for _ in places]
        weights = rng.integers(1, 50, len(places)).astype(float)
        models: list[tuple[bytes, float]] = []
        ends, sums = [], []
        for place in sorted(set(places)):
            total = FedAvg().start(base_spec)
            mine = [at for at, where in enumerate(places) if where == place]
            for at in mine:
                tensors = {"w": updates[at], "n": np.array([5, 8]), "bn.running_mean": np.full(2, 4.0)}
                data = bytes(encode(tensors))
                total.add(data, read_spec(data), weights[at])
            step = OptimizerStep(get_optimizer(name, OPTIONS[name]), base_spec, "float64", states.get(place))
            mean = Pieces.of(bytes(whole_result(total)))
            models.append((b"".join(map(bytes, stepped(mean, base_spec, base, step))), total.weight))
            after = step.state()
            assert after is not None
            states[place] = ServerState.read(bytes(after.data))  # as it comes back from a store
            own = np.average([updates[at] for at in mine], axis=0, weights=weights[mine])
            ends.append(reference_step(name, x, own - x, expected.setdefault(place, {})))
            sums.append(weights[mine].sum())
        x = np.average(ends, axis=0, weights=sums)
        model = bytes(combine(models, base_spec))
        found = decode(model)
        np.testing.assert_allclose(found["w"], x, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(found["n"], [5, 8])  # integers are no optimizer's business
        np.testing.assert_array_equal(found["bn.running_mean"], [4.0, 4.0])
    assert {place: state.steps for place, state in states.items()} == {
        place: sum(place in places for places in rounds) for place in expected
    }
