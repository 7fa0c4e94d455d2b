import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.models.files import read_tensors, to_npz
from fedn.models.helpers.numpy import NumpyHelper
from fedn.models.wire import DTYPES
from fedn.protocol.errors import InvalidInput, LimitExceeded
from tests.support.models import Model, assert_same_model, models


@given(models())
def test_npz_gives_back_what_was_written(model: Model) -> None:
    model = {
        name.replace("\0", "0").replace("\\", "/"): array
        for name, array in model.items()
        if array.dtype != DTYPES["BF16"] and not name.endswith("data.pkl")
    }
    assert_same_model(read_tensors(bytes(to_npz(model))), model)


@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")  # NumPy takes a damaged header for an old one
@given(models(), st.data())
def test_damaged_npz_files_are_read_safely_or_refused(model: Model, data: st.DataObject) -> None:
    content = bytearray(to_npz({f"t{index}": np.array(array) for index, array in enumerate(in_npz(model))}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidInput, LimitExceeded):
        read_tensors(bytes(content), max_bytes=2**20)


def in_npz(model: Model) -> list[np.ndarray]:
    return [array for array in model.values() if array.dtype != DTYPES["BF16"]]


@given(models())
def test_the_numpy_helper_gives_back_what_it_was_given(model: Model) -> None:
    helper = NumpyHelper()
    target: Model = {}
    helper.set_weights(target, model)
    assert_same_model(helper.get_weights(target), model)
    arrays = list(model.values())
    helper.set_weights(arrays, helper.get_weights(arrays))
    assert_same_model(dict(enumerate(arrays)), dict(enumerate(model.values())))  # type: ignore[arg-type]
