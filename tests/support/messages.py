"""Messages for tests: any that hypothesis can think of, and how two of them are the same."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedn.models.wire import DTYPES
from fedn.workers import Message

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)


def array_values() -> st.SearchStrategy[np.ndarray[Any, Any]]:
    dtypes = st.sampled_from([dtype for name, dtype in DTYPES.items() if name != "BF16"])
    return dtypes.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)))


VALUES = st.recursive(
    PLAIN | array_values(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    message = Message(
        draw(st.integers(-(2**63), 2**63 - 1) | TEXTS),
        draw(st.integers(0, 2**31 - 1)),
        draw(st.integers(0, 2**31 - 1)),
        round_index=draw(st.none() | st.integers(0, 2**63 - 1)),
    )
    head = {"msg_type", "sender", "receiver"}
    for key, value in draw(st.dictionaries(TEXTS.filter(lambda key: key not in head), VALUES, max_size=4)).items():
        message.add_params(key, value)
    # Its own would be of chance and of the clock, and its bytes of another length in each run of the same example.
    message.message_id = draw(st.text("0123456789abcdef", min_size=32, max_size=32))
    message.timestamp_s = draw(st.floats(0, 2**33))
    return message


def assert_same_value(found: Any, expected: Any) -> None:
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same_value(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same_value(one, other)
    else:
        assert type(found) is type(expected) and found == expected


def assert_same_message(found: Message, expected: Message) -> None:
    assert_same_value(found.get_params(), expected.get_params())
    assert (found.message_id, found.round_index) == (expected.message_id, expected.round_index)
    assert found.timestamp_s == expected.timestamp_s
