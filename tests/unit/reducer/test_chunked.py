import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import ClientDisconnected

from fedn.reducer.chunked import ChunkedBody


def encode(chunks: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


@given(st.lists(st.binary(min_size=1, max_size=50)), st.integers(1, 60))
def test_the_body_comes_through_however_it_is_cut_and_read(chunks: list[bytes], piece: int) -> None:
    source = io.BytesIO(encode(chunks) + b"GET / HTTP/1.1")
    body = ChunkedBody(source)
    found = b"".join(iter(lambda: body.read(piece), b""))
    assert found == b"".join(chunks)
    assert body.ended
    assert source.read() == b"GET / HTTP/1.1"


def test_extensions_and_trailers_are_passed_over() -> None:
    body = ChunkedBody(io.BytesIO(b"3;name=value\r\nabc\r\n0\r\nX-Check: 1\r\n\r\n"))
    assert body.readall() == b"abc"


def test_no_more_is_read_than_was_asked_for() -> None:
    source = io.BytesIO(b"fffffffffff\r\n" + b"x" * 100)
    body = ChunkedBody(source)
    assert body.read(10) == b"x" * 10
    assert source.tell() == len(b"fffffffffff\r\n") + 10
    assert not body.ended


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-1\r\n",
        b"+3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"3\r\nab",
        b"3\r\nabcd\r\n",
        b"ffffffffffffffffffff\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n" + b"a: b\r\n" * 200,
    ],
)
def test_what_is_no_chunked_body_is_refused(text: bytes) -> None:
    with pytest.raises(ClientDisconnected):
        ChunkedBody(io.BytesIO(text)).readall()
