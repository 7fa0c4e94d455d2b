import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.aggregation.checks import FiniteCheck
from fedn.models.wire import encode, read_spec
from fedn.protocol.errors import UpdateRefused
from tests.support.models import Model, models


@given(models(), st.data())
def test_chunks_of_any_size_find_what_numpy_finds(model: Model, data: st.DataObject) -> None:
    floats = [name for name, array in model.items() if array.dtype.kind not in "iub" and array.size]
    poisoned = data.draw(st.sets(st.sampled_from(floats))) if floats else set()
    for name in poisoned:
        position = data.draw(st.integers(0, model[name].size - 1))
        model[name].reshape(-1)[position] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    buffer = encode(model)
    spec = read_spec(buffer)
    check = FiniteCheck(spec)
    offset = 0
    while offset < len(buffer):
        size = data.draw(st.integers(1, 40))
        again = data.draw(st.integers(0, min(offset, 8)))  # a resumed upload may send bytes twice
        check.feed(offset - again, memoryview(buffer)[offset - again : offset + size])
        offset += size
    if not poisoned:
        check.finish()
        return
    first = next(tensor.name for tensor in spec.stored_order if tensor.name in poisoned)
    with pytest.raises(UpdateRefused) as caught:
        check.finish()
    assert caught.value.where == {"tensor": first}
