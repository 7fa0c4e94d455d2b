from typing import Any

import numpy as np
import pytest

from fedn.aggregation.checks import FiniteCheck, check_header, check_metadata
from fedn.models.wire import DTYPES, encode, read_spec
from fedn.protocol.errors import UpdateRefused
from fedn.protocol.tasks import RoundName, UpdateMetadata


def metadata(num_examples: int) -> UpdateMetadata:
    name = RoundName(session="s", index=0, attempt=0, epoch=1)
    return UpdateMetadata(task_id="t", client="anna", round=name, num_examples=num_examples)


def spec_of(**tensors: Any) -> Any:
    return read_spec(encode(tensors))


def test_update_without_examples_is_refused_and_names_the_client() -> None:
    check_metadata(metadata(1))
    with pytest.raises(UpdateRefused) as caught:
        check_metadata(metadata(0))
    assert caught.value.code == "update_without_examples"
    assert caught.value.where["client"] == "anna"


def test_update_of_other_names_shapes_and_dtypes_is_refused_with_every_reason() -> None:
    base = spec_of(a=np.zeros(3, np.float32), b=np.zeros(1), c=np.zeros(1))
    check_header(spec_of(c=np.zeros(1), b=np.zeros(1), a=np.ones(3, np.float32)), base)
    with pytest.raises(UpdateRefused) as caught:
        check_header(spec_of(a=np.zeros((3, 1), np.float32), b=np.zeros(1, np.float16), d=np.zeros(1)), base)
    assert caught.value.code == "update_does_not_fit"
    for reason in ("'c' is missing", "'a' has shape", "'b' has dtype", "'d' is not in"):
        assert reason in caught.value.message


def test_a_long_list_of_reasons_is_cut() -> None:
    base = spec_of(**{f"t{index}": np.zeros(1) for index in range(25)})
    with pytest.raises(UpdateRefused, match="and 5 more"):
        check_header(spec_of(), base)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("code", ["F16", "BF16", "F32", "F64"])
def test_a_value_that_is_not_finite_is_found_in_every_float_dtype(code: str, value: float) -> None:
    clean = np.full(5, 1.0).astype(DTYPES[code])
    bad = clean.copy()
    bad[4] = value
    buffer = encode({"ints": np.arange(3), "clean": clean, "bad": bad, "after": clean})
    check = FiniteCheck(read_spec(buffer))
    check.feed(0, buffer)
    with pytest.raises(UpdateRefused, match="'bad'") as caught:
        check.finish()
    assert caught.value.code == "update_not_finite"


def test_the_largest_finite_values_and_integers_of_all_bits_pass() -> None:
    limits = {code: np.array([np.finfo(DTYPES[code]).max]).astype(DTYPES[code]) for code in ("F16", "F32", "F64")}
    buffer = encode({**limits, "i": np.array([-1]), "u": np.array([2**64 - 1], np.uint64), "b": np.array([True])})
    check = FiniteCheck(read_spec(buffer))
    check.feed(0, buffer)
    check.finish()


def test_a_bool_of_another_byte_is_refused() -> None:
    buffer = encode({"a": np.zeros(1), "flags": np.array([True, False])})
    buffer[-1] = 2
    check = FiniteCheck(read_spec(buffer))
    check.feed(0, buffer)
    with pytest.raises(UpdateRefused, match="'flags'") as caught:
        check.finish()
    assert caught.value.code == "update_not_boolean"


def test_bytes_that_never_came_are_told() -> None:
    buffer = encode({"a": np.zeros(4)})
    check = FiniteCheck(read_spec(buffer))
    check.feed(0, memoryview(buffer)[:-1])
    with pytest.raises(UpdateRefused) as caught:
        check.finish()
    assert caught.value.code == "update_incomplete"


def test_a_gap_between_chunks_is_a_fault_of_the_caller() -> None:
    buffer = encode({"a": np.zeros(4)})
    check = FiniteCheck(read_spec(buffer))
    with pytest.raises(ValueError, match="were not fed"):
        check.feed(len(buffer) - 1, b"0")


def test_a_model_without_tensors_passes() -> None:
    FiniteCheck(spec_of()).finish()
