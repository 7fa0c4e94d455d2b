"""Server-sent events: parsing, however the bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.api.events import Message, parse_messages

STREAM = (
    b': hello\n\nid: 1\nevent: a\ndata: {"x":1}\n\nid: 2\r\nevent: b\r\ndata: one\r\ndata: two\r\n\r\n'
    b"data:bare\n\nid: 3\n\n"
)
MESSAGES = [Message("1", "a", '{"x":1}'), Message("2", "b", "one\ntwo"), Message("", "", "bare")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_messages_do_not_depend_on_how_the_stream_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:stop] for start, stop in pairwise(edges)]
    assert list(parse_messages(chunks)) == MESSAGES


def test_a_message_that_was_cut_off_is_not_told() -> None:
    assert list(parse_messages([b"id: 1\ndata: half"])) == []


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        list(parse_messages(b"x" * (1 << 20) for _ in range(6)))
