"""Sums of differences per base model over combiners equal flat FedBuff in float64, whatever arrives in which order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn.aggregation.base import get_rule
from fedn.aggregation.combine import FromBase, combine
from fedn.aggregation.optimizers.base import get_optimizer
from fedn.aggregation.optimizers.step import OptimizerStep
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, encode, read_spec
from fedn.scheduling.base import get_scheduler

SIZE = 5
STALENESS = [
    ({"name": "constant"}, lambda tau: 1.0),
    ({"name": "polynomial", "a": 0.5}, lambda tau: (1.0 + tau) ** -0.5),
    ({"name": "polynomial", "a": 2.0}, lambda tau: (1.0 + tau) ** -2.0),
    ({"name": "hinge", "a": 3.0, "b": 1.0}, lambda tau: 1.0 if tau <= 1.0 else 1.0 / (3.0 * (tau - 1.0) + 1.0)),
]

arrivals = st.lists(
    st.tuples(
        st.integers(0, 3),  # how old the model is that the client started from, as far as there are older ones
        st.integers(0, 2),  # combiner
        st.integers(1, 1000),  # examples
        st.integers(0, 2**32 - 1),  # the update's numbers
        st.sampled_from(["model", "delta"]),
        st.booleans(),  # whether a commit follows
    ),
    min_size=1,
    max_size=16,
)


def model(weights: np.ndarray, count: int = 0) -> bytes:
    return bytes(encode({"w": weights.astype(np.float32), "n": np.int64(count)}))


@pytest.mark.parametrize("rule", ["fedavg", "fedstride"])
@settings(max_examples=60)
@given(order=arrivals, staleness=st.sampled_from(STALENESS), rate=st.sampled_from([1.0, 0.25]))
def test_two_tiers_equal_flat_fedbuff(rule, order, staleness, rate):
    scheduler = get_scheduler("asynchronous", {"staleness": staleness[0], "learning_rate": rate})
    maker = get_rule(rule, {"stride_length": 2} if rule == "fedstride" else {})
    models = [model(np.linspace(-1.0, 1.0, SIZE))]
    flat = [np.linspace(-1.0, 1.0, SIZE)]
    spec = read_spec(models[0])
    sums = {}
    buffer: list[tuple[float, int, np.ndarray]] = []
    for old, combiner, examples, seed, form, commits in order:
        base = max(0, len(models) - 1 - old)
        delta = np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)
        update = model(decode(models[base])["w"] + delta if form == "model" else delta, examples)
        if (base, combiner) not in sums:
            sums[base, combiner] = maker.start(spec, "float64", models[base])
        sums[base, combiner].add(update, read_spec(update), float(examples), form=form)
        buffer.append((float(examples), base, delta.astype(np.float64)))
        if commits:
            current = len(models) - 1
            parts = [(b"".join(bytes(p) for p in total.difference(64)), total.weight) for total in sums.values()]
            shares = [scheduler.share(current - base) for base, _ in sums]
            made = combine(parts, spec, from_base=FromBase(Pieces.of(models[-1]), shares, form="delta"))
            models.append(bytes(made))
            weights = sum(weight for weight, _, _ in buffer)
            step = sum(weight * staleness[1](current - base) * delta for weight, base, delta in buffer) / weights
            flat.append(flat[-1] + rate * step)
            sums, buffer = {}, []
    for mine, reference in zip(models, flat, strict=True):
        np.testing.assert_allclose(decode(mine)["w"], reference, rtol=1e-5, atol=1e-5)


@given(
    deltas=st.lists(st.tuples(st.integers(1, 100), st.floats(-4, 4, width=32)), min_size=1, max_size=6),
    sum_dtype=st.sampled_from(["float64", "float32"]),
)
def test_a_difference_is_the_mean_minus_the_base_and_integers_are_the_mean_itself(deltas, sum_dtype):
    base = model(np.full(SIZE, 2.0), 1)
    total = get_rule("fedavg", {}).start(read_spec(base), sum_dtype, base)
    for weight, delta in deltas:
        update = model(np.full(SIZE, 2.0 + delta), 4)
        total.add(update, read_spec(update), float(weight))
    found = decode(b"".join(bytes(piece) for piece in total.difference(128)))
    mean = sum(weight * delta for weight, delta in deltas) / sum(weight for weight, _ in deltas)
    np.testing.assert_allclose(found["w"], mean, rtol=1e-5, atol=1e-5)
    assert found["n"] == 4.0


@given(parts=st.lists(st.tuples(st.integers(1, 50), st.floats(-2, 2), st.integers(0, 5)), min_size=1, max_size=5))
def test_a_server_optimizer_steps_towards_the_discounted_mean(parts):
    scheduler = get_scheduler("asynchronous", {})
    base = np.array([0.5, -0.25, 1.0])
    data = bytes(encode({"w": base.astype(np.float32)}))
    spec = read_spec(data)
    means = [(bytes(encode({"w": np.full(3, delta, np.float32)})), float(weight)) for weight, delta, _ in parts]
    step = OptimizerStep(get_optimizer("sgd", {"learning_rate": 0.5, "momentum": 0.9}), spec)
    shares = [scheduler.share(tau) for _, _, tau in parts]
    made = decode(bytes(combine(means, spec, from_base=FromBase(Pieces.of(data), shares, step, "delta"))))["w"]
    total = sum(weight for weight, _, _ in parts)
    mean = sum(weight * (1.0 + tau) ** -0.5 * np.float32(delta) for weight, delta, tau in parts) / total
    np.testing.assert_allclose(made, base + 0.5 * mean, rtol=1e-5, atol=1e-6)
