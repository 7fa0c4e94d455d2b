"""The registry, and the helper of plain arrays."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.models.files import write_tensors
from fedn.models.helpers.numpy import NumpyHelper
from fedn.models.helpers.registry import get_helper
from fedn.protocol.errors import InvalidInput

HELPER = NumpyHelper()


def test_a_helper_is_found_by_its_name() -> None:
    assert isinstance(get_helper("numpy"), NumpyHelper)


def test_an_unknown_helper_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidInput, match="keras, numpy, pytorch, sklearn") as caught:
        get_helper("jax")
    assert caught.value.code == "unknown_option"


def test_no_framework_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, fedn.models.helpers.registry as registry; registry.get_helper('numpy'); "
        "print(sorted({'torch', 'keras', 'tensorflow', 'sklearn', 'scipy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_a_framework_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fedn.models.helpers.sklearn", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(InvalidInput, match="Install the framework") as caught:
        get_helper("sklearn")
    assert caught.value.code == "broken_option"


def test_arrays_of_a_list_are_named_by_position_in_sorting_order() -> None:
    tensors = HELPER.get_weights([np.array(index) for index in range(11)])
    assert list(tensors) == sorted(tensors) == [f"{index:02d}" for index in range(11)]
    assert list(HELPER.get_weights((np.zeros(1),))) == ["0"]
    assert HELPER.get_weights([]) == {}


@pytest.mark.parametrize("model", [[np.zeros(2), np.ones((1, 2), np.float16)], {"b": np.zeros(2), "a": np.array(1)}])
def test_weights_go_back_into_the_model_as_copies(model: Any) -> None:
    tensors = {name: array + 1 for name, array in HELPER.get_weights(model).items()}
    HELPER.set_weights(model, dict(reversed(tensors.items())))
    again = HELPER.get_weights(model)
    assert list(again) == list(tensors)
    tensors[next(iter(tensors))][...] = 9
    for name, array in again.items():
        assert np.all(array == HELPER.get_weights(model)[name])
        assert 9 not in array


def test_an_empty_model_takes_what_comes() -> None:
    arrays: list[Any] = []
    HELPER.set_weights(arrays, {"0": np.zeros(1), "1": np.ones(2)})
    assert [array.tolist() for array in arrays] == [[0], [1, 1]]


def test_weights_that_do_not_fit_are_refused_with_every_difference_and_change_nothing() -> None:
    model = {"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(2)}
    with pytest.raises(InvalidInput) as caught:
        HELPER.set_weights(model, {"a": np.ones(3), "b": np.ones(2, np.float32), "d": np.ones(1)})
    assert caught.value.code == "weights_do_not_fit"
    for reason in ("'a' has shape", "'b' has dtype", "'c' is missing", "no tensor 'd'"):
        assert reason in caught.value.message
    assert not any(array.any() for array in model.values())


@pytest.mark.parametrize("model", [3, "text", [np.array(["a"])], {1: np.zeros(1)}])
def test_what_is_no_model_of_arrays_is_refused(model: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        HELPER.get_weights(model)
    assert caught.value.code == "model_not_supported"


def test_a_tuple_cannot_be_set() -> None:
    with pytest.raises(InvalidInput, match="list or a dict"):
        HELPER.set_weights((np.zeros(1),), {"0": np.ones(1)})  # type: ignore[arg-type]


def test_files_are_read(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m.npz", {"a": np.ones(1)})
    assert HELPER.read_file(tmp_path / "m.npz") == {"a": np.ones(1)}
