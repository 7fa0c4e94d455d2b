"""Between model bytes and what a learner sees."""

import ml_dtypes
import numpy as np
import pytest

from fedn.client.weights import spec_of, weights_from_bytes, weights_to_tensors
from fedn.models.wire import decode, encode
from fedn.protocol.errors import TaskFailed


def seen(tensors: dict[str, np.ndarray], *, writable: bool = True) -> object:
    buffer = encode(tensors)
    return weights_from_bytes(buffer, spec_of(buffer), writable=writable)


@pytest.mark.parametrize("names", [["0", "1"], ["00", "01"], ["arr_0", "arr_1"], ["1", "0"]])
def test_names_that_are_positions_make_a_list(names: list[str]) -> None:
    weights = seen({name: np.full(2, int(name[-1]), np.float32) for name in names})
    assert isinstance(weights, list)
    assert [array[0] for array in weights] == [0, 1]


@pytest.mark.parametrize("names", [["0", "2"], ["layer.weight", "0"], []])
def test_other_names_make_a_dict(names: list[str]) -> None:
    weights = seen({name: np.zeros(1) for name in names})
    assert isinstance(weights, dict)
    assert list(weights) == names


def test_weights_are_views_that_may_be_changed_only_where_promised() -> None:
    buffer = encode({"w": np.zeros(3, np.float32)})
    spec = spec_of(buffer)
    weights_from_bytes(buffer, spec, writable=True)["w"] += 1
    np.testing.assert_array_equal(decode(buffer)["w"], [1, 1, 1])
    with pytest.raises(ValueError, match="read-only"):
        weights_from_bytes(buffer, spec, writable=False)["w"] += 1


def test_lists_get_the_names_of_the_base_in_the_order_they_were_shown() -> None:
    base = spec_of(encode({"1": np.zeros(1, np.float32), "0": np.zeros(2, np.float32)}))
    made = weights_to_tensors([np.ones(2), np.full(1, 2)], base, what="train")
    assert list(made) == ["1", "0"]
    np.testing.assert_array_equal(made["0"], [1, 1])
    assert made["0"].dtype == np.float32


def test_floats_are_converted_to_the_bases_width() -> None:
    base = spec_of(
        encode({"a": np.zeros(2, ml_dtypes.bfloat16), "b": np.zeros(2, np.float32), "n": np.zeros((), "i8")})
    )
    made = weights_to_tensors({"a": np.ones(2), "b": np.ones(2, "f8"), "n": 3}, base, what="train")
    assert [made[name].dtype for name in ("a", "b", "n")] == [ml_dtypes.bfloat16, np.float32, np.int64]
    assert made["n"].shape == () and int(made["n"]) == 3


def test_every_difference_to_the_base_is_named() -> None:
    base = spec_of(encode({"a": np.zeros(2), "b": np.zeros(2), "n": np.zeros(1, "i4")}))
    with pytest.raises(TaskFailed, match="bad_weights") as caught:
        weights_to_tensors({"a": np.zeros(3), "c": np.zeros(1), "n": np.zeros(1)}, base, what="train")
    for text in ("'a' has shape (3,)", "'b' is missing", "'c' is not in the model", "'n' has dtype float64"):
        assert text in caught.value.message


@pytest.mark.parametrize("wrong", [None, 3, "text", np.zeros(3), {1: np.zeros(1)}, {"a": "text"}, [object()]])
def test_what_is_no_weights_is_refused(wrong: object) -> None:
    with pytest.raises(TaskFailed, match="bad_weights"):
        weights_to_tensors(wrong, None, what="get_weights")


def test_wrong_number_of_arrays_is_refused() -> None:
    with pytest.raises(TaskFailed, match="returned 1 arrays, the model has 2"):
        weights_to_tensors([np.zeros(1)], spec_of(encode({"0": np.zeros(1), "1": np.zeros(1)})), what="train")
