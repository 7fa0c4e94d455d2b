import json
import pickle
import struct
from typing import Any

import numpy as np
import pytest

from fedn.protocol.errors import LimitExceeded
from fedn.workers import BadMessage, Message, decode_message, encode_message


def raw(head: object, tensors: bytes = b"") -> bytes:
    text = (head if isinstance(head, str) else json.dumps(head)).encode()
    text += b" " * (-(12 + len(text)) % 64)
    return b"FEDNMSG1" + struct.pack("<I", len(text)) + text + tensors


def head(**changed: Any) -> dict[str, Any]:
    params = {"msg_type": 1, "sender": 0, "receiver": 1}
    return {"id": "a", "round": None, "time": 1.5, "params": params, "tensors": [], **changed}


def test_the_names_of_fedml() -> None:
    message = Message(3, 1, 2)
    message.add_params("information", 5)
    message.add(Message.MSG_ARG_KEY_MODEL_PARAMS, [1.0])
    assert (message.get_type(), message.get_sender_id(), message.get_receiver_id()) == (3, 1, 2)
    assert (message.type, message.sender_id, message.receiver_id) == (3, 1, 2)
    assert message.get("information") == 5
    assert message.get("nothing") is None and message.get("nothing", 7) == 7
    assert message.get_params() is message.to_string() is message.msg_params
    assert "model_params" not in message.get_params_wout_model() and message.get("model_params") == [1.0]
    assert message.get_content() == f"3: {message.msg_params}"
    default = Message()
    assert (default.get_type(), default.get_sender_id(), default.get_receiver_id()) == (0, 0, 0)


def test_init_changes_what_the_getters_say() -> None:
    message = Message()
    message.init({"msg_type": "stats", "sender": 4, "receiver": 2})
    assert (message.get_type(), message.get_sender_id(), message.get_receiver_id()) == ("stats", 4, 2)


def test_json_comes_back_and_tensors_are_no_json() -> None:
    message = Message("stats", 1, 2, round_index=4)
    message.add_params("loss", [0.5, None, {"é": True}])
    again = Message()
    again.init_from_json_string(message.to_json())
    assert again.get_params() == message.get_params()
    assert (again.message_id, again.round_index) == (message.message_id, 4)
    assert json.loads(message.to_json())["msg_type"] == "stats"

    message.add_params("weights", np.zeros(3))
    with pytest.raises(BadMessage, match="weights"):
        message.to_json()


def test_json_of_fedml_has_no_id_and_is_read_all_the_same() -> None:
    message = Message()
    message.init_from_json_object({"msg_type": 2, "sender": 1, "receiver": 0, "num_samples": 10})
    assert message.get("num_samples") == 10 and message.message_id and message.round_index is None


@pytest.mark.parametrize("text", ["[]", "{", "{}", '{"msg_type": 1.5, "sender": 0, "receiver": 0}'])
def test_bad_json_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        Message().init_from_json_string(text)


def test_int_and_text_types_stay_apart_on_the_wire() -> None:
    for kind in (1, "1"):
        found = decode_message(encode_message(Message(kind))).get_type()
        assert found == kind and type(found) is type(kind)


def test_tensors_are_binary_and_the_reader_may_change_them() -> None:
    weights = {"w": np.arange(1000, dtype=np.float32), "b": [np.float64(0.5), np.ones((2, 0))]}
    message = Message(1)
    message.add_params("model_params", weights)
    content = encode_message(message)
    assert len(content) < 4000 + 1000
    weights["w"][:] = 0  # type: ignore[index]
    found = decode_message(content).get("model_params")
    np.testing.assert_array_equal(found["w"], np.arange(1000))
    found["w"] += 1
    assert found["b"][0] == 0.5 and found["b"][1].shape == (2, 0)


class Tensor:
    """What PyTorch's tensors offer to NumPy."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return np.full(2, 3.0, np.float32)


class BrokenTensor:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        raise RuntimeError("it needs its gradient")


def test_tensors_of_frameworks_become_arrays() -> None:
    message = Message(1)
    message.add_params("t", Tensor())
    np.testing.assert_array_equal(decode_message(encode_message(message)).get("t"), [3, 3])


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "is a object"),
        (float("nan"), "JSON cannot say"),
        (2**64, "beyond 64 bits"),
        ({1: 2}, "key 1"),
        (b"bytes", "is a bytes"),
        (1j, "is a complex"),
        (np.array(["text"]), "dtype"),
        (np.array([object()]), "dtype"),
        ("\ud800", "surrogate"),
        (BrokenTensor(), "needs its gradient"),
    ],
)
def test_what_cannot_be_sent_is_named(value: object, why: str) -> None:
    message = Message(1)
    message.add_params("outer", {"inner": [value]})
    with pytest.raises(BadMessage, match=why):
        encode_message(message)


def test_a_structure_without_end_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    message = Message(1)
    message.add_params("loop", loop)
    with pytest.raises(BadMessage, match="deeper"):
        encode_message(message)


def test_too_large_a_message_is_refused_by_both_sides() -> None:
    message = Message(1)
    message.add_params("w", np.zeros(1000))
    with pytest.raises(LimitExceeded):
        encode_message(message, max_bytes=5000)
    content = encode_message(message)
    with pytest.raises(LimitExceeded):
        decode_message(content, max_bytes=5000)


def test_the_head_of_the_tests_is_a_good_one() -> None:
    assert decode_message(raw(head())).get_type() == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"FEDNMSG1",
        b"FEDNMSG1\xff\xff\xff\xff",
        raw("{"),
        raw("[" * 100_000),
        raw("[]"),
        raw('{"id":"a","id":"a"}'),
        raw({**head(), "more": 1}),
        raw(head(id="")),
        raw(head(round=-1)),
        raw(head(round=True)),
        raw(head(time="now")),
        raw(json.dumps(head()).replace("1.5", "1e999")),
        raw(json.dumps(head()).replace("1.5", "NaN")),
        raw(head(params=[])),
        raw(head(params={"msg_type": 1, "sender": -1, "receiver": 0})),
        raw(head(params={"msg_type": True, "sender": 1, "receiver": 0})),
        raw(head(params={"msg_type": 1, "sender": 1, "receiver": 0, "x": 2**70})),
        raw(head(params={"msg_type": 1, "sender": 1, "receiver": 0, "x": "\ud800"})),
        raw(head(tensors={})),
        raw(head(tensors=[["x"]])),
        raw(head(), b"more"),
        raw(head(tensors=[["msg_type"]]), b"\x02\0\0\0\0\0\0\0{}"),
        pickle.dumps({"msg_type": 1}),
    ],
)
def test_hostile_bytes_are_refused(content: bytes) -> None:
    with pytest.raises((BadMessage, LimitExceeded)):
        decode_message(content)


def test_paths_that_lead_nowhere_are_refused() -> None:
    message = Message(1)
    message.add_params("w", np.zeros(1))
    good = bytes(encode_message(message))
    assert decode_message(good).get("w").shape == (1,)
    for wrong in (b'[["v"]]', b"[[-1]]", b"[[{}]]", b'["w" ]', b"[ [] ]"):
        bad = good.replace(b'[["w"]]', wrong.ljust(7))
        assert bad != good
        with pytest.raises(BadMessage):
            decode_message(bad)
