from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from fedn.aggregation.accumulator import Accumulator
from fedn.aggregation.base import get_rule
from fedn.aggregation.combine import combine
from fedn.aggregation.fedavg import FedAvg
from fedn.aggregation.numerics import PIECE
from fedn.aggregation.scaling.base import get_scaling_factor
from fedn.models.wire import ModelSpec, decode, encode, read_spec
from fedn.protocol.errors import InvalidInput, UpdateRefused
from fedn.protocol.tasks import RoundName, UpdateMetadata
from tests.support.sums import whole_result


def spec_of(**tensors: Any) -> ModelSpec:
    return read_spec(encode(tensors))


def add(total: Accumulator, weight: float, *, form: str = "model", **tensors: Any) -> None:
    buffer = encode(tensors)
    total.add(buffer, read_spec(buffer), weight, form=form)


def mean_of(*updates: tuple[float, Any], sum_dtype: str = "float64") -> Any:
    """The global model's only tensor, for one combiner with these (weight, array) updates."""
    base = spec_of(a=updates[0][1])
    total = Accumulator(base, sum_dtype)
    for weight, array in updates:
        add(total, weight, a=array)
    return decode(combine([(whole_result(total), total.weight)], base))["a"]


def test_fedavg_is_the_mean_weighted_by_examples() -> None:
    rule = get_rule("fedavg", {})
    total = rule.start(spec_of(a=np.zeros(2, np.float32)))
    for num_examples, values in [(1, [1.0, 2.0]), (3, [5.0, -2.0])]:
        name = RoundName(session="s", index=0, attempt=0, epoch=0)
        metadata = UpdateMetadata(task_id="t", client="c", round=name, num_examples=num_examples)
        update = encode({"a": np.float32(values)})
        total.add(update, read_spec(update), get_scaling_factor("NumTrainingExamples", {}).weight_of(metadata))
    assert (total.weight, total.count) == (4.0, 2)
    assert decode(whole_result(total))["a"].tolist() == [4.0, -1.0]
    assert rule.decomposable


def test_unknown_rules_and_options_are_refused() -> None:
    with pytest.raises(InvalidInput, match="fedavg"):
        get_rule("fedavgg", {})
    with pytest.raises(InvalidInput, match="no option trim") as caught:
        FedAvg(trim=0.1)
    assert caught.value.code == "unknown_option"


def test_the_result_leaves_the_sum_as_it_is() -> None:
    total = Accumulator(spec_of(a=np.zeros(3)))
    add(total, 2.0, a=np.ones(3))
    assert whole_result(total) == whole_result(total)
    add(total, 2.0, a=np.zeros(3))
    assert decode(whole_result(total))["a"].tolist() == [0.5] * 3


def test_no_updates_have_no_mean() -> None:
    with pytest.raises(InvalidInput) as caught:
        whole_result(Accumulator(spec_of(a=np.zeros(3))))
    assert caught.value.code == "no_updates"


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    total = Accumulator(spec_of(a=np.zeros(1)))
    with pytest.raises(InvalidInput) as caught:
        add(total, weight, a=np.ones(1))
    assert caught.value.code == "bad_weight"
    assert (total.weight, total.count) == (0.0, 0)


def test_an_update_that_does_not_fit_changes_nothing() -> None:
    total = Accumulator(spec_of(a=np.zeros(2), b=np.zeros(2)))
    add(total, 1.0, a=np.ones(2), b=np.ones(2))
    before = whole_result(total)
    for wrong in ({"a": np.ones(2)}, {"a": np.ones(2), "b": np.ones(3)}, {"a": np.ones(2), "b": np.ones(2, np.int64)}):
        with pytest.raises(UpdateRefused):
            add(total, 1.0, **wrong)
    spec = read_spec(before)
    with pytest.raises(ValueError, match="bytes and its spec"):
        total.add(before[:-1], spec, 1.0)
    assert whole_result(total) == before


def test_updates_of_other_layouts_are_matched_by_name() -> None:
    model = {"a": np.float32([1, 2]), "b": np.float16([3]), "c": np.float32([4, 5, 6]), "n": np.array(7)}
    base = read_spec(encode(model))
    total = Accumulator(base)
    backwards = dict(reversed(model.items()))
    for buffer in (encode(model), encode(backwards), safetensors.numpy.save(model), encode(model, {"by": "hand"})):
        total.add(buffer, read_spec(buffer), 1.0)
    assert combine([(whole_result(total), 1.0)], base) == encode(model)


def test_bytes_at_odd_addresses_are_summed() -> None:
    header = b'{"a":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}'
    buffer = len(header).to_bytes(8, "little") + header + np.float64([1.5, -2]).tobytes()
    assert (len(header) + 8) % 8
    total = Accumulator(read_spec(buffer))
    total.add(buffer, read_spec(buffer), 1.0)
    assert decode(whole_result(total))["a"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("sum_dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
def test_vectors_of_any_length_are_summed_to_the_last_element(size: int, sum_dtype: str) -> None:
    values = np.arange(size, dtype=np.float32)
    assert mean_of((1.0, values), (3.0, 5 * values), sum_dtype=sum_dtype).tolist() == (4 * values).tolist()


@pytest.mark.parametrize(
    ("dtype", "mean"),
    [
        (np.float16, np.float32),
        (ml_dtypes.bfloat16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int32, np.float64),
        (np.uint8, np.float64),
        (np.bool_, np.float64),
    ],
)
@pytest.mark.parametrize("sum_dtype", ["float64", "float32"])
def test_the_combiner_model_keeps_what_a_second_mean_needs(dtype: Any, mean: Any, sum_dtype: str) -> None:
    total = Accumulator(spec_of(a=np.zeros(1, dtype)), sum_dtype)
    add(total, 1.0, a=np.zeros(1, dtype))
    add(total, 3.0, a=np.ones(1, dtype))
    result = decode(whole_result(total))["a"]
    assert result.dtype == mean
    assert result[0] == 0.75


def test_integers_are_rounded_half_to_even_and_stay_in_range() -> None:
    assert mean_of((1, np.array([0, 1, 2, -1])), (1, np.array([1, 2, 3, -2]))).tolist() == [0, 2, 2, -2]
    assert mean_of((1, np.array([255], np.uint8)), (1, np.array([254], np.uint8))).tolist() == [254]
    largest = np.array([np.iinfo(np.int64).max])
    assert mean_of((1, largest), (1, largest)).tolist() == [2**63 - 1024]  # the largest float64 below 2**63
    smallest = np.array([np.iinfo(np.int64).min])
    assert mean_of((1, smallest), (1, smallest)).tolist() == smallest.tolist()
    assert mean_of((7, np.array([2**40 + 1])), (11, np.array([2**40 + 1])), sum_dtype="float32").tolist() == [2**40 + 1]


def test_a_bool_is_true_where_half_of_the_weight_is() -> None:
    updates = (
        (1, np.array([True, True, False])),
        (1, np.array([True, False, False])),
        (2, np.array([False, False, True])),
    )
    assert mean_of(*updates).tolist() == [True, False, True]


def test_deltas_and_models_mix() -> None:
    base = {"a": np.float32([10, 20]), "n": np.array([5]), "h": np.float16([1])}
    buffer = encode(base)
    total = Accumulator(read_spec(buffer), base_model=buffer)
    add(total, 1.0, a=np.float32([14, 20]), n=np.array([9]), h=np.float16([1]))
    add(total, 3.0, form="delta", a=np.float32([0, 4]), n=np.array([13]), h=np.float16([2]))
    other = Accumulator(read_spec(buffer), base_model=buffer)
    add(other, 4.0, form="delta", a=np.float32([8, 0]), n=np.array([6]), h=np.float16([0]))
    total.merge(other)
    result = decode(whole_result(total))
    assert result["a"].tolist() == [14.5, 21.5]
    assert result["n"].tolist() == [9.0]  # integers of a delta are values: (9 + 3·13 + 4·6) / 8
    assert result["h"].tolist() == [1.75]


def test_a_delta_without_its_base_is_refused() -> None:
    buffer = encode({"a": np.zeros(1)})
    total, with_base = Accumulator(read_spec(buffer)), Accumulator(read_spec(buffer), base_model=buffer)
    with pytest.raises(InvalidInput, match="need the bytes") as caught:
        add(total, 1.0, form="delta", a=np.zeros(1))
    assert caught.value.code == "base_is_missing"
    add(with_base, 1.0, form="delta", a=np.zeros(1))
    with pytest.raises(InvalidInput, match="need the bytes"):
        total.merge(with_base)
    with pytest.raises(InvalidInput, match="model or delta"):
        add(total, 1.0, form="gradient", a=np.zeros(1))


def test_aggregates_of_different_bases_do_not_merge() -> None:
    total = Accumulator(spec_of(a=np.zeros(1, np.float32)))
    for other in (
        Accumulator(spec_of(a=np.zeros(2, np.float32))),
        Accumulator(spec_of(a=np.zeros(1, np.float32)), "float32"),
    ):
        with pytest.raises(InvalidInput) as caught:
            total.merge(other)
        assert caught.value.code == "aggregates_do_not_fit"
    with pytest.raises(InvalidInput) as caught:
        Accumulator(spec_of(), "float16")
    assert caught.value.code == "bad_sum_dtype"


def test_a_mean_that_is_not_finite_is_never_handed_out() -> None:
    large = np.float32([3e38])
    assert mean_of((1000, large), (1, large)) == large
    with pytest.raises(InvalidInput) as caught:
        mean_of((1000, large), sum_dtype="float32")
    assert caught.value.code == "sum_overflow"
    buffer = encode({"a": large})
    total = Accumulator(read_spec(buffer), base_model=buffer)
    add(total, 1.0, form="delta", a=large)
    with pytest.raises(InvalidInput, match="float32") as caught:
        whole_result(total)
    assert caught.value.code == "sum_overflow"


def test_plain_mean_counts_each_combiner_model_the_same() -> None:
    base = spec_of(a=np.zeros(1, np.float32))
    models = [(encode({"a": np.float32([1])}), 1.0), (encode({"a": np.float32([3])}), 9.0), (b"", 0.0)]
    assert decode(combine(models, base, "plain"))["a"] == 2.0
    assert decode(combine(models, base))["a"] == np.float32(2.8)


def test_combiner_models_that_are_no_means_are_refused() -> None:
    base = spec_of(a=np.zeros(1, np.int64))
    with pytest.raises(InvalidInput, match="float64") as caught:
        combine([(encode({"a": np.zeros(1, np.int64)}), 1.0)], base)
    assert caught.value.code == "combiner_model_does_not_fit"
    with pytest.raises(InvalidInput, match="weight -1"):
        combine([(b"", -1.0)], base)
    with pytest.raises(InvalidInput, match="no updates"):
        combine([(b"", 0.0)], base)


def test_models_without_tensors_have_a_mean() -> None:
    total = Accumulator(spec_of())
    add(total, 1.0)
    assert combine([(whole_result(total), 1.0)], spec_of()) == encode({})
