"""Federated Recency is the weighted mean of each client's latest model, whatever came and went before."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.aggregation.combine import combine, mean_layout
from fedn.aggregation.fedrec import FedRec, RunningMean
from fedn.aggregation.lineage import Row
from fedn.aggregation.rows import RowMaker
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, encode, read_spec
from fedn.protocol.errors import InvalidInput
from tests.support.models import Array, Model
from tests.support.references import cut, random_model
from tests.support.sums import whole_result

CLIENTS = ("a", "b", "c", "d")
FLOATS = st.floats(0.01, 1e6, allow_nan=False)
EVENTS = st.lists(
    st.tuples(st.sampled_from(CLIENTS), st.one_of(st.none(), st.tuples(st.integers(0, 2**31), FLOATS))),
    min_size=1,
    max_size=40,
)
"""(client, (seed of its model, its weight)); None: it leaves."""


class Federation:
    """A running mean, and what must come of it by definition."""

    def __init__(self, base: Model) -> None:
        data = encode(base)
        self.base, self.maker = base, RowMaker(read_spec(data), data)
        self.mean: RunningMean = FedRec().start_lineage(self.maker.spec)
        self.latest: dict[str, tuple[Model, Row]] = {}

    def sends(self, client: str, model: Model, weight: float, form: str = "model") -> None:
        update = encode(model)
        row = Row(cut(bytes(self.maker.plain(update, read_spec(update), form))), weight)
        self.mean.replace([self.latest[client][1]] if client in self.latest else [], [row])
        self.latest[client] = model, row

    def leaves(self, client: str) -> None:
        if client in self.latest:
            self.mean.replace([self.latest.pop(client)[1]], [])

    def expected(self) -> dict[str, Array]:
        weights = [row.weight for _, row in self.latest.values()]
        return {
            name: np.average(
                [model[name].astype(np.float64) for model, _ in self.latest.values()], axis=0, weights=weights
            )
            for name in self.base
        }

    def check(self) -> None:
        assert self.mean.weight == pytest.approx(sum(row.weight for _, row in self.latest.values()), rel=1e-9)
        if not self.latest:
            with pytest.raises(InvalidInput, match="no updates"):
                list(self.mean.result(64))
            return
        got = decode(b"".join(bytes(piece) for piece in self.mean.result(64)))
        scale = max(
            float(np.abs(array).max(initial=0)) for model, _ in self.latest.values() for array in model.values()
        )
        for name, expected in self.expected().items():
            # float32 rounds once, at the end; the sums themselves are exact to 2⁻³⁸ of the scale where nothing drifted.
            np.testing.assert_allclose(got[name], expected, rtol=1e-7, atol=2**-38 * scale, err_msg=name)


@given(EVENTS)
def test_any_arrivals_repetitions_and_departures_give_the_mean_of_the_latest_models(events: list[Any]) -> None:
    base = random_model(np.random.default_rng(0))
    federation = Federation(base)
    for client, update in events:
        if update is None:
            federation.leaves(client)
        else:
            seed, weight = update
            federation.sends(client, random_model(np.random.default_rng(seed)), weight)
        if not federation.mean.drifted:
            federation.check()
    # What drifted is made anew; then it must be right.
    fresh = FedRec().start_lineage(federation.maker.spec)
    for _, row in federation.latest.values():
        fresh.replace([], [row])
    federation.mean = fresh
    assert not fresh.drifted
    federation.check()


@given(st.permutations(range(6)), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_two_tiers_equal_one_for_any_order_and_spread(order: list[int], places: list[int]) -> None:
    rng = np.random.default_rng(7)
    base = random_model(rng)
    sent = [(f"client-{at % 3}", random_model(rng), float(rng.integers(1, 100))) for at in range(6)]
    tiers = [Federation(base) for _ in range(3)]
    latest: dict[str, tuple[Model, float]] = {}
    for at in order:
        client, model, weight = sent[at]
        for place, tier in enumerate(tiers):
            if place != places[at]:
                tier.leaves(client)  # it moved
        tiers[places[at]].sends(client, model, weight)
        latest[client] = model, weight
    spec = read_spec(encode(base))
    parts = [(whole_result(tier.mean), tier.mean.weight) for tier in tiers if tier.latest]
    got = decode(combine(parts, spec))
    weights = [weight for _, weight in latest.values()]
    for name, array in base.items():
        mean = np.average([model[name].astype(np.float64) for model, _ in latest.values()], axis=0, weights=weights)
        if array.dtype.kind == "f":
            np.testing.assert_allclose(got[name], mean, rtol=1e-6, atol=1e-6)
        elif array.dtype.kind == "i":
            assert (np.abs(got[name] - mean) <= 0.5 + 1e-9).all()


def test_a_client_that_sent_huge_values_once_leaves_no_trace_unseen() -> None:
    base = {"w": np.zeros(3, np.float32)}
    federation = Federation(base)
    federation.sends("a", {"w": np.full(3, 0.25, np.float32)}, 3.0)
    federation.sends("b", {"w": np.full(3, 3e38, np.float32)}, 1e9)
    assert not federation.mean.drifted
    federation.sends("b", {"w": np.full(3, 0.75, np.float32)}, 1.0)
    # The plain sum is off by far: it says so, instead of handing that out.
    assert federation.mean.drifted


def test_a_client_that_claimed_a_huge_weight_once_leaves_no_trace_unseen() -> None:
    federation = Federation({"w": np.zeros(2, np.float32)})
    federation.sends("a", {"w": np.ones(2, np.float32)}, 1.0)
    federation.sends("b", {"w": np.zeros(2, np.float32)}, 1e18)
    federation.leaves("b")
    assert federation.mean.drifted


def test_ten_thousand_arrivals_are_told_to_drift_before_it_shows() -> None:
    rng = np.random.default_rng(3)
    federation = Federation({"w": np.zeros(4, np.float32)})
    fresh_at = 0
    for number in range(20_000):
        model = {"w": rng.standard_normal(4).astype(np.float32)}
        federation.sends(CLIENTS[number % 4], model, float(rng.integers(1, 50)))
        if federation.mean.drifted:
            fresh_at = fresh_at or number
            break
    assert 2_000 < fresh_at < 20_000  # the cost of making it anew is spread over thousands of arrivals
    federation.check()


@given(st.integers(0, 2**31))
def test_a_delta_counts_as_the_model_that_it_stands_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base, model = random_model(rng), random_model(rng)
    federation = Federation(base)
    delta = {name: model[name] - base[name] if model[name].dtype.kind == "f" else model[name] for name in base}
    federation.sends("a", delta, 2.0, form="delta")
    got = decode(whole_result(federation.mean))
    for name, array in model.items():
        np.testing.assert_allclose(got[name], array.astype(np.float64), rtol=1e-6, atol=1e-6)


def test_rows_are_like_combiner_models() -> None:
    base = random_model(np.random.default_rng(1))
    data = encode(base)
    federation = Federation(base)
    federation.sends("a", base, 2.0)
    assert read_spec(whole_result(federation.mean)) == mean_layout(read_spec(data)).spec
    assert Pieces.of(whole_result(federation.mean)).copy(0, 8) == mean_layout(read_spec(data)).header[:8]
