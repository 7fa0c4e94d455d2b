"""Rules that add up, against their definitions: the same however the clients are spread over combiners."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn.aggregation.base import get_rule
from fedn.models.codecs.encode import encode as encode_update
from fedn.models.codecs.payload import Payload
from fedn.models.wire import decode, encode, read_spec
from fedn.plan.chains import make_chain
from fedn.protocol.errors import InvalidInput, UpdateRefused
from fedn.protocol.tasks import CodecChoice
from tests.support.models import Array
from tests.support.references import Sent, assert_near, by_parts, random_model, random_sent, two_tiers
from tests.support.sums import whole_result

SPREADS = st.lists(st.integers(0, 3), min_size=1, max_size=7)
SEEDS = st.integers(0, 2**32)


def weighted(vectors: list[Array], weights: list[float]) -> Array:
    return np.asarray(np.average(vectors, axis=0, weights=weights))


@settings(deadline=None)
@given(SEEDS, SPREADS, st.sampled_from([0.0, 0.9]))
def test_fednova(seed, places, rho):
    rng = np.random.default_rng(seed)
    base = random_model(rng)
    sent = random_sent(rng, base, len(places))

    def norm(steps: int) -> float:
        """‖a‖₁ with aᵢ = (1 − ρ^(τ−i)) / (1 − ρ), as in section 4 of the paper: entry by entry."""
        return sum((1 - rho ** (steps - i)) / (1 - rho) for i in range(steps))

    def floats(x: Array, updates: list[Array]) -> Array:
        p = np.array([one.weight for one in sent]) / sum(one.weight for one in sent)
        a = np.array([norm(one.steps) for one in sent])
        directions = [(x - y) / a_k for y, a_k in zip(updates, a, strict=True)]
        return np.asarray(x - (p @ a) * sum(p_k * d_k for p_k, d_k in zip(p, directions, strict=True)))

    made = two_tiers(get_rule("fednova", {"momentum": rho}), base, sent, places)
    assert_near(made, by_parts(base, sent, floats), base, 3e-6)


@settings(deadline=None)
@given(SEEDS, SPREADS, st.floats(1e-3, 1e3))
def test_norm_clipping(seed, places, bound):
    rng = np.random.default_rng(seed)
    base = random_model(rng)
    sent = random_sent(rng, base, len(places))

    def floats(x: Array, updates: list[Array]) -> Array:
        clipped = [x + (y - x) * min(1.0, bound / np.linalg.norm(y - x)) for y in updates]
        return weighted(clipped, [one.weight for one in sent])

    made = two_tiers(get_rule("norm_clipping", {"max_norm": bound}), base, sent, places)
    assert_near(made, by_parts(base, sent, floats), base)


@settings(deadline=None)
@given(SEEDS, SPREADS, st.integers(1, 8), st.sampled_from(["float64", "float32"]))
def test_fedstride_equals_fedavg(seed, places, stride_length, sum_dtype):
    rng = np.random.default_rng(seed)
    base = random_model(rng)
    sent = random_sent(rng, base, len(places))
    made = two_tiers(get_rule("fedstride", {"stride_length": stride_length}), base, sent, places, sum_dtype)
    flat = two_tiers(get_rule("fedavg", {}), base, sent, places)
    floating = {key: array for key, array in base.items() if array.dtype.kind == "f"}
    assert_near({k: made[k] for k in floating}, flat, floating, 1e-9 if sum_dtype == "float64" else 1e-5)
    expected = by_parts(base, sent, lambda x, updates: weighted(list(updates), [one.weight for one in sent]))
    assert_near(made, expected, base, 1e-6 if sum_dtype == "float64" else 1e-5)


def test_fedstride_in_float32_rounds_less_than_one_long_sum():
    base = {"w": np.zeros(1, np.float32)}
    sent = [Sent({"w": np.full(1, 0.1, np.float32)}, 1.0) for _ in range(10_000)]
    error = {
        name: abs(float(two_tiers(get_rule(name, options), base, sent, [0] * 10_000, "float32")["w"][0]) - 0.1)
        for name, options in {"fedavg": {}, "fedstride": {"stride_length": 100}}.items()
    }
    assert error["fedstride"] < error["fedavg"] / 10


@pytest.mark.parametrize(
    "names", [["delta", "float16"], ["delta", {"name": "topk", "options": {"fraction": 0.3}}, "int8"], ["int8"]]
)
@pytest.mark.parametrize(
    ("rule", "options"), [("norm_clipping", {"max_norm": 0.5}), ("fednova", {}), ("fedstride", {"stride_length": 2})]
)
def test_an_update_that_went_through_codecs_counts_as_what_it_decodes_to(rule, options, names):
    rng = np.random.default_rng(1)
    base = random_model(rng)
    data, change = encode(base), {key: array * 0 for key, array in base.items()}
    change["w"] = rng.standard_normal((6, 3)).astype(np.float32)
    spec = read_spec(data)
    chain = make_chain([CodecChoice(name=n) if isinstance(n, str) else CodecChoice(**n) for n in names])
    encoding = chain.of(spec, "blake3:" + "0" * 64)
    form = "delta" if chain.difference is not None else "model"
    payload = Payload(
        encoding, bytes(encode_update(encoding, {key: array.reshape(-1) for key, array in change.items()}))
    )
    made = get_rule(rule, options)
    encoded, decoded = (made.start(spec, "float64", data) for _ in range(2))
    encoded.add_encoded(payload, 2.0, form=form, share=0.25)
    whole = payload.decode()
    decoded.add(whole, read_spec(whole), 2.0, form=form, share=0.25)
    once, again = decode(whole_result(encoded)), decode(whole_result(decoded))
    for key in once:
        np.testing.assert_allclose(once[key], again[key], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("rule", "options"), [("norm_clipping", {"max_norm": 1.0}), ("fednova", {})])
def test_an_update_that_does_not_fit_changes_nothing(rule, options):
    base = {"w": np.zeros(3, np.float32)}
    data = encode(base)
    total = get_rule(rule, options).start(read_spec(data), "float64", data)
    wrong = encode({"w": np.ones(4, np.float32)})
    with pytest.raises(UpdateRefused):
        total.add(wrong, read_spec(wrong), 1.0, share=0.5)
    assert (total.weight, total.count) == (0.0, 0)
    good = encode({"w": np.full(3, 0.5, np.float32)})
    total.add(good, read_spec(good), 1.0, share=1.0)
    np.testing.assert_allclose(decode(whole_result(total))["w"], 0.5)


@pytest.mark.parametrize(
    ("rule", "options", "named"),
    [
        ("norm_clipping", {}, "max_norm"),
        ("norm_clipping", {"max_norm": -1}, "max_norm"),
        ("fednova", {"momentum": 1.0}, "momentum"),
        ("fednova", {"gmf": 0.5}, "gmf"),
        ("fedstride", {"stride_length": 0}, "stride_length"),
        ("fedstride", {}, "stride_length"),
    ],
)
def test_options_that_cannot_be_used_are_refused_by_name(rule, options, named):
    with pytest.raises(InvalidInput, match=named):
        get_rule(rule, options)
