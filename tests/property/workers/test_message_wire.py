import contextlib

from hypothesis import given
from hypothesis import strategies as st

from fedn.protocol.errors import FednError
from fedn.workers import Message, decode_message, encode_message
from tests.support.messages import assert_same_message, messages


@given(messages())
def test_a_message_comes_back_from_its_bytes_as_it_was(message: Message) -> None:
    assert_same_message(decode_message(encode_message(message)), message)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_an_error_of_ours(content: bytes) -> None:
    for hostile in (content, b"FEDNMSG1" + content, b"FEDNMSG1\x34\x00\x00\x00" + content):
        with contextlib.suppress(FednError):
            decode_message(hostile)


@given(messages(), st.data())
def test_damaged_bytes_are_refused_or_read_as_another_message(message: Message, data: st.DataObject) -> None:
    content = encode_message(message)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FednError):
        again = decode_message(content)
        assert_same_message(decode_message(encode_message(again)), again)


@given(messages(), st.data())
def test_cut_or_lengthened_bytes_are_refused(message: Message, data: st.DataObject) -> None:
    content = encode_message(message)
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    for wrong in (cut, content + data.draw(st.binary(min_size=1, max_size=9))):
        refused = False
        try:
            decode_message(wrong)
        except FednError:
            refused = True
        assert refused
