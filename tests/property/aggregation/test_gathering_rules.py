"""Rules over all updates, against their definitions, whatever combiners the updates are forwarded by."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn.aggregation.base import get_rule
from fedn.aggregation.combine import combine
from fedn.models.codecs.encode import encode as encode_update
from fedn.models.codecs.payload import Payload, unpack
from fedn.models.wire import decode, encode, read_spec
from fedn.plan.chains import make_chain
from fedn.protocol.errors import InvalidInput, UpdateRefused
from fedn.protocol.tasks import CodecChoice
from tests.support.models import Array, Model
from tests.support.references import (
    MemorySpill,
    Sent,
    assert_near,
    flat,
    forwarded,
    gathered,
    models_of,
    random_model,
    random_sent,
)
from tests.support.sums import whole_result

SPREADS = st.lists(st.integers(0, 3), min_size=1, max_size=9)
SEEDS = st.integers(0, 2**32)


def rule_of(name: str, **options: Any) -> Any:
    return get_rule(name, {"scope": "global", **options})


def rounded(value: Array, base: Array) -> Array:
    if base.dtype.kind == "b":
        return np.asarray(value >= 0.5)
    return np.asarray(np.rint(value)) if base.dtype.kind in "iu" else value


def value_by_value(base: Model, sent: list[Sent], combine_values: Any) -> dict[str, Array]:
    models = models_of(base, sent)
    return {
        key: rounded(np.asarray(combine_values(np.stack([model[key] for model in models]))), base[key]) for key in base
    }


def by_weights(base: Model, sent: list[Sent], weights: Array) -> dict[str, Array]:
    return value_by_value(base, sent, lambda values: np.tensordot(weights, values, axes=1))


def vectors(base: Model, sent: list[Sent]) -> list[Array]:
    floats = [key for key in base if base[key].dtype.kind == "f"]
    return [flat({key: model[key] for key in floats}) for model in models_of(base, sent)]


@settings(deadline=None)
@given(SEEDS, SPREADS)
def test_median(seed, places):
    rng = np.random.default_rng(seed)
    base = random_model(rng)
    sent = random_sent(rng, base, len(places))
    made = forwarded(rule_of("median"), base, sent, places)
    assert_near(made, value_by_value(base, sent, lambda values: np.median(values, axis=0)), base)


@settings(deadline=None)
@given(SEEDS, SPREADS, st.sampled_from([0.1, 0.25, 1 / 3, 0.49]))
def test_trimmed_mean(seed, places, trim):
    rng = np.random.default_rng(seed)
    base = random_model(rng)
    sent = random_sent(rng, base, len(places))
    cut = sum(1 for k in range(1, len(places)) if k <= trim * len(places) + 1e-9)

    def mean(values: Array) -> Array:
        return np.asarray(np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0))

    made = forwarded(rule_of("trimmed_mean", trim=trim), base, sent, places)
    assert_near(made, value_by_value(base, sent, mean), base)


@settings(deadline=None)
@given(SEEDS, st.lists(st.integers(0, 3), min_size=8, max_size=11), st.integers(0, 2), st.integers(1, 4))
def test_krum(seed, places, byzantine, select):
    rng = np.random.default_rng(seed)
    base = random_model(rng)
    sent = random_sent(rng, base, len(places))
    points = vectors(base, sent)
    scores = []
    for i, point in enumerate(points):
        others = sorted(float(((point - other) ** 2).sum()) for j, other in enumerate(points) if j != i)
        scores.append(sum(others[: len(points) - byzantine - 2]))
    best = np.argsort(scores)[:select]
    weights = np.zeros(len(points))
    weights[best] = 1 / select
    made = forwarded(rule_of("krum", byzantine=byzantine, select=select), base, sent, places)
    assert_near(made, by_weights(base, sent, weights), base)


@settings(deadline=None)
@given(SEEDS, SPREADS)
def test_no_point_near_the_geometric_median_has_a_smaller_sum_of_distances(seed, places):
    rng = np.random.default_rng(seed)
    base = random_model(rng)
    sent = random_sent(rng, base, len(places))
    points, weights = vectors(base, sent), np.array([one.weight for one in sent])

    def cost(at: Array) -> float:
        return float(sum(w * np.linalg.norm(at - point) for w, point in zip(weights, points, strict=True)))

    made = flat(forwarded(rule_of("geometric_median"), base, sent, places))
    least = cost(made)
    for _ in range(20):
        step = rng.standard_normal(len(made))
        for size in (1e-1, 1e-2, 1e-3):
            assert cost(made + size * step / np.linalg.norm(step)) >= least * (1 - 1e-7)
    assert all(cost(point) >= least * (1 - 1e-6) for point in points)


RULES = [
    ("median", {}),
    ("trimmed_mean", {"trim": 0.25}),
    ("krum", {"byzantine": 2, "select": 2}),
    ("geometric_median", {}),
]


@pytest.mark.parametrize(("name", "options"), RULES)
def test_neither_the_order_nor_the_combiners_show_in_a_single_bit(name, options):
    rng = np.random.default_rng(3)
    base = random_model(rng)
    sent = random_sent(rng, base, 8)
    once = forwarded(rule_of(name, **options), base, sent, [0] * 8)
    for _ in range(5):
        order = rng.permutation(8)
        again = forwarded(rule_of(name, **options), base, [sent[i] for i in order], list(rng.integers(0, 3, 8)))
        assert all(once[key].tobytes() == again[key].tobytes() for key in once)


@pytest.mark.parametrize("far", [1e3, 1e20, 3e38])
@pytest.mark.parametrize(("name", "options"), RULES)
def test_a_few_hostile_updates_do_not_lead_the_model_away(name, options, far):
    rng = np.random.default_rng(5)
    base = {"w": np.zeros(50, np.float32), "d": np.zeros(3)}
    honest = [
        Sent({"w": rng.normal(1, 0.01, 50).astype(np.float32), "d": rng.normal(1, 0.01, 3)}, 10.0) for _ in range(6)
    ]
    hostile = [
        Sent({"w": np.full(50, far, np.float32), "d": np.full(3, 1e250 if far > 1e30 else -far)}, 10.0)
        for _ in range(2)
    ]
    made = forwarded(rule_of(name, **options), base, honest + hostile, [0, 1, 0, 1, 0, 1, 0, 1])
    for array in made.values():
        np.testing.assert_allclose(array, 1.0, atol=0.05)


@pytest.mark.parametrize(("name", "options"), RULES)
def test_of_scope_combiner_the_rule_is_inside_and_the_weighted_mean_above(name, options):
    rng = np.random.default_rng(7)
    base = random_model(rng)
    sent = random_sent(rng, base, 16)
    rule = get_rule(name, {"scope": "combiner", **options})
    groups = [sent[:9], sent[9:]]
    weights = [sum(one.weight for one in group) for group in groups]
    models = []
    for group, weight in zip(groups, weights, strict=True):
        aggregate = gathered(rule, base, group)
        assert (aggregate.count, aggregate.weight) == (len(group), weight)
        models.append((whole_result(aggregate), weight))
    made = {key: np.array(value) for key, value in decode(combine(models, read_spec(encode(base)))).items()}
    inside = [forwarded(rule_of(name, **options), base, group, [0] * len(group)) for group in groups]
    expected = {key: np.average([one[key] for one in inside], axis=0, weights=weights) for key in ("w", "b")}
    for key, value in expected.items():
        np.testing.assert_allclose(made[key], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("names", [["delta", "int8"], ["float16"], ["delta", "bfloat16", "zstd"]])
def test_an_update_that_went_through_codecs_is_kept_as_what_it_decodes_to(names):
    rng = np.random.default_rng(1)
    base = random_model(rng)
    data = encode(base)
    values = {key: array.reshape(-1) for key, array in random_model(rng).items()}
    encoding = make_chain([CodecChoice(name=name) for name in names]).of(read_spec(data), "blake3:" + "0" * 64)
    form = "delta" if encoding.chain.difference is not None else "model"
    payload = Payload(encoding, unpack(encoding, bytes(encode_update(encoding, values))))
    rule = rule_of("median")
    encoded, decoded = (rule.gather(read_spec(data), data, MemorySpill()) for _ in range(2))
    encoded.add_encoded(payload, 2.0, form=form)
    whole = payload.decode()
    decoded.add(whole, read_spec(whole), 2.0, form=form)
    (one,), (other,) = encoded.rows(), decoded.rows()
    for left, right in zip(decode(one).values(), decode(other).values(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


def test_bad_updates_are_refused_and_nothing_is_kept_of_them():
    base = {"w": np.zeros(3, np.float32), "n": np.zeros(2, np.int64)}
    data = encode(base)
    aggregate = rule_of("median").gather(read_spec(data), data, MemorySpill())
    for wrong, form in [
        ({"w": np.zeros(4, np.float32), "n": np.zeros(2, np.int64)}, "model"),
        ({"w": np.full(3, 1e300), "n": np.zeros(2, np.int64)}, "model"),  # not finite in float32
        ({"w": np.zeros(3, np.float32), "n": np.zeros(2, np.int32)}, "delta"),
    ]:
        update = encode(wrong)
        with pytest.raises(UpdateRefused):
            aggregate.add(update, read_spec(update), 1.0, form=form)
    good = encode(base)
    with pytest.raises(InvalidInput):
        aggregate.add(good, read_spec(good), float("nan"))
    assert (aggregate.count, aggregate.weight, aggregate.rows()) == (0, 0.0, [])
    with pytest.raises(InvalidInput, match="no updates"):
        list(aggregate.result(64))


def test_krum_says_how_many_updates_it_needs():
    base = {"w": np.zeros(3, np.float32)}
    with pytest.raises(InvalidInput, match="needs 7 updates") as caught:
        forwarded(rule_of("krum", byzantine=2), base, [Sent(base, 1.0)] * 6, [0] * 6)
    assert caught.value.code == "too_few_updates"


def test_there_is_no_silent_scope():
    for name, options in RULES:
        with pytest.raises(InvalidInput, match="scope"):
            get_rule(name, options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("median", {"scope": "reducer"}),
        ("trimmed_mean", {"scope": "global", "trim": 0.5}),
        ("krum", {"scope": "global"}),
        ("krum", {"scope": "global", "byzantine": -1}),
        ("geometric_median", {"scope": "global", "smoothing": 0.0}),
    ],
)
def test_options_that_cannot_be_used_are_refused(name, options):
    with pytest.raises(InvalidInput):
        get_rule(name, options)


def test_matrices_stay_small_however_many_rows_there_are(monkeypatch):
    monkeypatch.setattr("fedn.aggregation.gathering.base.MATRIX_ELEMENTS", 8)
    rng = np.random.default_rng(2)
    base = random_model(rng)
    sent = random_sent(rng, base, 5)
    for name, options in RULES:
        if name == "krum":
            options = {"byzantine": 1}
        small = forwarded(rule_of(name, **options), base, sent, [0] * 5)
        monkeypatch.undo()
        whole = forwarded(rule_of(name, **options), base, sent, [0] * 5)
        monkeypatch.setattr("fedn.aggregation.gathering.base.MATRIX_ELEMENTS", 8)
        assert_near(small, {key: np.asarray(value) for key, value in whole.items()}, base, 1e-7)
