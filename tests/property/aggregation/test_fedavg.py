"""The algebra of FedAvg: two tiers equal one, and nobody sees the order."""

import itertools
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedn.aggregation.accumulator import Accumulator
from fedn.aggregation.combine import combine
from fedn.aggregation.fedavg import FedAvg
from fedn.models.wire import DTYPES, ModelSpec, decode, encode, read_spec
from tests.support.models import Model, names, random_array, shapes
from tests.support.sums import whole_result

Update = tuple[Model, float]

WIDE = [DTYPES[code] for code in ("F32", "F64")]
# Integers whose sums stay exact in float64: larger ones can round to a neighbour.
COUNTERS = [DTYPES[code] for code in ("I8", "I16", "I32", "U8", "U16", "U32", "BOOL")]
HALVES = [DTYPES[code] for code in ("F16", "BF16")]
weights = st.one_of(st.just(1.0), st.integers(1, 10**6).map(float), st.floats(1e-3, 1e6))


@st.composite
def updates(draw: Any, dtypes: list[Any], min_size: int = 1) -> list[Update]:
    """Updates of one model by several clients, with wildly different weights."""
    entries = draw(st.dictionaries(names, st.tuples(st.sampled_from(dtypes), shapes), min_size=1, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [
        ({name: random_array(rng, dtype, shape) for name, (dtype, shape) in entries.items()}, weight)
        for weight in draw(st.lists(weights, min_size=min_size, max_size=8))
    ]


def base_of(clients: list[Update]) -> ModelSpec:
    return read_spec(encode(clients[0][0]))


def fold(clients: list[Update], base: ModelSpec, sum_dtype: str = "float64") -> Accumulator:
    total = FedAvg().start(base, sum_dtype)
    for model, weight in clients:
        buffer = encode(model)
        total.add(buffer, read_spec(buffer), weight)
    return total


def flat_mean(clients: list[Update]) -> Model:
    """The definition, in float64."""
    total = sum(weight for _, weight in clients)
    return {
        name: np.asarray(sum(model[name].astype(np.float64) * weight for model, weight in clients)) / total
        for name in clients[0][0]
    }


def two_tiers(clients: list[Update], places: list[int], sum_dtype: str = "float64") -> Model:
    """The global model where client i is at combiner places[i]; a combiner without clients has nothing to say."""
    base = base_of(clients)
    combiners = [
        fold([client for client, place in zip(clients, places, strict=True) if place == combiner], base, sum_dtype)
        for combiner in range(5)
    ]
    models = [(whole_result(total) if total.count else b"", total.weight) for total in combiners]
    return decode(combine(models, base, sum_dtype=sum_dtype))


@given(updates(WIDE), st.data())
def test_two_tiers_equal_flat_fedavg(clients: list[Update], data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, 4), min_size=len(clients), max_size=len(clients)))
    expected = flat_mean(clients)
    for name, array in two_tiers(clients, places).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-6, atol=1e-6)
    for name, array in two_tiers(clients, places, "float32").items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-5)


@given(updates(HALVES), st.data())
def test_half_types_are_rounded_once(clients: list[Update], data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, 4), min_size=len(clients), max_size=len(clients)))
    expected = flat_mean(clients)
    for name, array in two_tiers(clients, places).items():
        dtype = clients[0][0][name].dtype
        assert array.dtype == dtype
        unit = 2.0**-11 if dtype == DTYPES["F16"] else 2.0**-8
        error = np.abs(array.astype(np.float64) - expected[name])
        assert np.all(error <= unit * np.abs(expected[name]) * 1.001 + 1e-6)


@given(updates(COUNTERS), st.data())
def test_integers_and_bools_do_not_see_the_tiers(clients: list[Update], data: st.DataObject) -> None:
    # Whole weights, so that every sum is exact and only a tie could fall differently.
    clients = [(model, float(round(weight) + 1)) for model, weight in clients]
    places = data.draw(st.lists(st.integers(0, 4), min_size=len(clients), max_size=len(clients)))
    expected = flat_mean(clients)
    for name, array in two_tiers(clients, places).items():
        mean = expected[name]
        rounded = mean >= 0.5 if array.dtype.kind == "b" else np.rint(mean)
        tie = np.abs(np.abs(mean - np.floor(mean)) - 0.5) < 1e-6 * np.maximum(1, np.abs(mean))
        assert array.dtype == clients[0][0][name].dtype
        assert np.all((array.astype(np.float64) == rounded) | tie)


@given(updates([*WIDE, *HALVES, *COUNTERS], min_size=2), st.randoms(use_true_random=False))
def test_the_order_of_arrival_is_invisible_beyond_the_last_bit(clients: list[Update], random: Any) -> None:
    base = base_of(clients)
    once = decode(whole_result(fold(clients, base)))
    shuffled = list(clients)
    random.shuffle(shuffled)
    again = decode(whole_result(fold(shuffled, base)))
    for name, array in once.items():
        if array.dtype == np.float32:
            ulps = np.abs(array - again[name]) / np.spacing(np.maximum(np.abs(array), np.float32(1e-6)))
            assert np.all(ulps <= 1)
        else:
            scale = max(np.abs(model[name].astype(np.float64)).max(initial=0.0) for model, _ in clients)
            np.testing.assert_allclose(array, again[name], rtol=1e-13, atol=1e-13 * scale)


@given(updates([*WIDE, *COUNTERS]), st.integers(0, 8))
def test_merging_equals_adding_and_a_fresh_aggregate_is_neutral(clients: list[Update], cut: int) -> None:
    base = base_of(clients)
    whole = fold(clients, base)
    left, right, empty = fold(clients[:cut], base), fold(clients[cut:], base), fold([], base)
    left.merge(right)
    left.merge(empty)
    empty.merge(left)
    for merged in (left, empty):
        np.testing.assert_allclose(merged.weight, whole.weight, rtol=1e-12)
        assert merged.count == whole.count
        for name, array in decode(whole_result(merged)).items():
            scale = max(np.abs(model[name].astype(np.float64)).max(initial=0.0) for model, _ in clients)
            np.testing.assert_allclose(array, decode(whole_result(whole))[name], rtol=1e-6, atol=1e-9 * scale)


@given(updates([*WIDE, *HALVES, *COUNTERS]), st.integers(1, 20), st.sampled_from(["float64", "float32"]))
def test_the_mean_of_equal_models_is_that_model(clients: list[Update], copies: int, sum_dtype: str) -> None:
    model, weight = clients[0]
    base = base_of(clients)
    total = fold([(model, round(weight) + 1.0)] * copies, base, sum_dtype)
    result = decode(combine([(whole_result(total), total.weight)], base, sum_dtype=sum_dtype))
    for name, array in result.items():
        if array.dtype.kind in "iub":
            np.testing.assert_array_equal(array, model[name])
        else:
            np.testing.assert_allclose(array.astype(float), model[name].astype(float), rtol=1e-5)


def test_every_way_to_spread_four_clients_over_three_combiners_gives_one_model() -> None:
    rng = np.random.default_rng(7)
    clients = [({"w": random_array(rng, DTYPES["F32"], (50,))}, weight) for weight in (1.0, 1000.0, 3.0, 0.5)]
    expected = flat_mean(clients)["w"]
    for places in itertools.product(range(3), repeat=4):
        np.testing.assert_allclose(two_tiers(clients, list(places))["w"], expected, rtol=1e-6, atol=1e-6)
