import contextlib
from typing import Any

import numpy as np
import safetensors.numpy
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fedn.models.wire import DTYPES, decode, encode, read_spec
from fedn.protocol.errors import InvalidInput
from tests.support.models import Model, assert_same_model, models

# What the library's NumPy side has no dtype for is compared as bits.
_BITS = {DTYPES["BF16"]: np.dtype(np.uint16)}


def in_bits(model: Model) -> Model:
    return {name: array.view(_BITS.get(array.dtype, array.dtype)) for name, array in model.items()}


@given(models())
def test_decode_gives_what_was_encoded(model: Model) -> None:
    assert_same_model(decode(encode(model)), model)


@given(models())
def test_encoding_is_canonical(model: Model) -> None:
    buffer = encode(model)
    assert encode(decode(buffer)) == buffer
    assert encode({name: np.array(array) for name, array in model.items()}) == buffer


@given(models())
def test_the_safetensors_library_reads_what_we_write(model: Model) -> None:
    model = in_bits(model)
    theirs = safetensors.numpy.load(bytes(encode(model)))
    assert_same_model({name: theirs[name] for name in model}, model)
    assert theirs.keys() == model.keys()


@given(models(), st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_we_read_what_the_safetensors_library_writes(model: Model, metadata: dict[str, str] | None) -> None:
    model = in_bits(model)
    assume(model or metadata != {})  # for these the library writes a header that it cannot read itself
    buffer = safetensors.numpy.save(model, metadata)
    ours = decode(buffer)
    assert_same_model({name: ours[name] for name in model}, model)
    assert ours.keys() == model.keys()
    assert read_spec(buffer).metadata == (metadata or {})


@given(models(), st.data())
@example({"a": np.zeros(2, np.float32)}, None)
def test_damaged_bytes_are_read_safely_or_refused(model: Model, data: Any) -> None:
    buffer = encode(model)
    if data is not None:
        for _ in range(data.draw(st.integers(1, 4))):
            buffer[data.draw(st.integers(0, len(buffer) - 1))] = data.draw(st.integers(0, 255))
        buffer = buffer[: data.draw(st.integers(0, len(buffer)))] if data.draw(st.booleans()) else buffer
    with contextlib.suppress(InvalidInput):
        spec = read_spec(buffer)
        assert sum(tensor.stop - tensor.start for tensor in spec.tensors) <= len(buffer)
        decode(buffer)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_safely_or_refused(buffer: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        decode(buffer)
    with contextlib.suppress(InvalidInput):
        decode((len(buffer) + 1).to_bytes(8, "little") + b"{" + buffer)
