"""Messages as bytes, strictly: JSON for what is JSON, safetensors for tensors; never pickle.

The bytes are: the magic `FEDNMSG1`; the length of the head, 4 bytes little endian; the head, a JSON object padded with
spaces so that what follows starts at a multiple of 64; where there are tensors, a safetensors buffer with the tensors
"0", "1", … The head says where each of them belongs: its `tensors` are paths into `params`, at whose ends stands null.
docs/reference/worker-messages.md has it for people who write a worker in another language.
"""

import json
import math
from typing import Any, NoReturn

import numpy as np

from fedn.models.digest import Buffer
from fedn.models.wire import encode_into, read_spec, view
from fedn.protocol.errors import InvalidInput, LimitExceeded
from fedn.workers.errors import BadMessage
from fedn.workers.message import Message, check_head

MAGIC = b"FEDNMSG1"
MAX_MESSAGE_BYTES = 2**30
"""Default limit of a message, in bytes, with all its tensors."""
MAX_HEAD_BYTES = 16 * 2**20
"""Limit of what is JSON in a message."""
MAX_DEPTH = 32
"""Of lists and dictionaries within each other."""

_LENGTH_BYTES = 4
_HEAD_START = len(MAGIC) + _LENGTH_BYTES
_HEAD_KEYS = {"id", "round", "time", "params", "tensors"}
_ALIGNMENT = 64

Path = list[str | int]


def encode_message(message: Message, *, max_bytes: int = MAX_MESSAGE_BYTES) -> bytearray:
    """The bytes of a message: a copy, so that the caller may go on to change its arrays.

    Tuples become lists, NumPy's numbers become Python's, and whatever offers `__array__` (a PyTorch tensor on the CPU)
    becomes an array.

    Raises:
        BadMessage: (`bad_message`) its head is none; (`not_sendable`) a parameter can be neither JSON nor a tensor.
        LimitExceeded: (`message_too_large`)
    """
    params = message.get_params()
    check_head(params, message.message_id, message.round_index, message.timestamp_s)
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    paths: list[Path] = []
    plain = _plain(params, [], tensors, paths)
    head = _json(
        {
            "id": message.message_id,
            "round": message.round_index,
            "time": float(message.timestamp_s),
            "params": plain,
            "tensors": paths,
        }
    )
    # The tensors' buffer starts aligned, so that its arrays can be used in place.
    head += b" " * (-(_HEAD_START + len(head)) % _ALIGNMENT)
    _limit(len(head), MAX_HEAD_BYTES, "what is JSON in it", "Send large numbers as arrays.")
    start = _HEAD_START + len(head)
    content = bytearray()

    def allocate(size_bytes: int) -> memoryview:
        nonlocal content
        _limit(start + size_bytes, max_bytes, "the message", "Send it in parts, or raise max_message_bytes.")
        content = bytearray(start + size_bytes)
        return memoryview(content)[start:]

    try:
        if tensors:
            encode_into(tensors, allocate).release()
        else:
            allocate(0)
    except InvalidInput as error:
        raise BadMessage("not_sendable", error.message, fix=error.fix, where=_name(message)) from error
    content[:start] = MAGIC + len(head).to_bytes(_LENGTH_BYTES, "little") + head
    return content


def decode_message(content: Buffer, *, max_bytes: int = MAX_MESSAGE_BYTES) -> Message:
    """The message of these bytes. Its arrays are views of them: writable where `content` is.

    Raises:
        BadMessage: (`bad_message`) not the bytes of one message.
        LimitExceeded: (`message_too_large`)
    """
    _limit(len(content), max_bytes, "the message", "Raise max_message_bytes if it is meant.")
    data = memoryview(content)
    if data[: len(MAGIC)] != MAGIC:
        _refuse("it does not begin as one")
    length = int.from_bytes(data[len(MAGIC) : _HEAD_START], "little")
    _limit(length, MAX_HEAD_BYTES, "what is JSON in it", "")
    start = _HEAD_START + length
    if len(data) < max(start, _HEAD_START) or start % _ALIGNMENT:
        _refuse("its head has a wrong length")
    head = _read_head(bytes(data[_HEAD_START:start]))
    params, paths = head["params"], head["tensors"]
    if not isinstance(params, dict):
        _refuse("its parameters are not an object")
    check_head(params, head["id"], head["round"], head["time"])
    _put_tensors(params, paths, data[start:])
    message = Message()
    message.init(params)
    message.message_id, message.round_index, message.timestamp_s = head["id"], head["round"], float(head["time"])
    return message


def _read_head(text: bytes) -> dict[str, Any]:
    try:
        head = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise BadMessage("bad_message", f"This is no message: its head is not JSON ({str(error)[:200]})") from error
    if not isinstance(head, dict) or head.keys() != _HEAD_KEYS:
        _refuse("its head does not have exactly id, round, time, params and tensors")
    if not isinstance(head["tensors"], list):
        _refuse("its tensors are no list")
    _check_values(head, 0)
    return head


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("an object of its head has a key twice")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _no_number(text)
    return value


def _no_number(text: str) -> NoReturn:
    _refuse(f"its head has the number {text[:40]}")


def _check_values(value: object, depth: int) -> None:
    """Refuses what `_plain` would not have written: too deep, integers beyond 64 bits, half surrogate pairs."""
    if depth > MAX_DEPTH + 1:
        _refuse(f"its parameters lie deeper than {MAX_DEPTH} levels")
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        _refuse("a text of it has half a surrogate pair")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        _refuse("an integer of it is beyond 64 bits")
    if isinstance(value, dict):
        for key in value:
            _check_values(key, depth)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_values(item, depth + 1)


def _put_tensors(params: dict[str, Any], paths: list[object], data: memoryview) -> None:
    if not paths:
        if len(data):
            _refuse("bytes follow its end")
        return
    try:
        spec = read_spec(data)
    except InvalidInput as error:
        raise BadMessage("bad_message", f"The tensors of a message cannot be read: {error.message}") from error
    if spec.names != tuple(str(index) for index in range(len(paths))) or spec.metadata:
        _refuse("its tensors are not those that its head names")
    for path, tensor in zip(paths, spec.tensors, strict=True):
        if not isinstance(path, list) or not path:
            _refuse("the path of a tensor is not a list")
        parent = _walk(params, path[:-1])
        _check_step(parent, path[-1])
        if parent[path[-1]] is not None:
            _refuse("a tensor's place is taken")
        parent[path[-1]] = view(data, tensor)


def _walk(value: Any, path: list[Any]) -> Any:
    for step in path:
        _check_step(value, step)
        value = value[step]
    return value


def _check_step(value: object, step: object) -> None:
    in_object = isinstance(value, dict) and isinstance(step, str) and step in value
    in_list = isinstance(value, list) and type(step) is int and 0 <= step < len(value)
    if not in_object and not in_list:
        _refuse("the path of a tensor leads nowhere")


def _plain(value: Any, path: Path, tensors: dict[str, np.ndarray[Any, Any]], paths: list[Path]) -> Any:
    """`value` as JSON has it, with null for its tensors, which are put into `tensors`."""
    if len(path) > MAX_DEPTH:
        _cannot_send(path, f"lies deeper than {MAX_DEPTH} levels", "Send a flatter structure.")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic) and not isinstance(value, np.number | np.bool_):
        _cannot_send(path, f"is a {type(value).__name__}", "Send it as a text or as numbers.")
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            _cannot_send(path, "is an integer beyond 64 bits", "Send it as a text.")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            _cannot_send(path, f"is {value}, which JSON cannot say", "Send it as an array: numpy.asarray(value).")
        return float(value)
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                _cannot_send(path, f"has the key {key!r}", "Keys must be texts.")
        return {key: _plain(item, [*path, key], tensors, paths) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, [*path, index], tensors, paths) for index, item in enumerate(value)]
    if hasattr(value, "__array__"):
        tensors[str(len(paths))] = _as_array(value, path)
        paths.append(path)
        return None
    _cannot_send(
        path, f"is a {type(value).__name__}", "Send numbers, texts, arrays, or lists and dictionaries of them."
    )


def _as_array(value: Any, path: Path) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        _cannot_send(path, f"cannot become an array: {error}", "A PyTorch tensor: tensor.detach().cpu().")


def _json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise BadMessage("not_sendable", "A text of the message has half a surrogate pair", fix="Repair it.") from error


def _limit(size_bytes: int, max_bytes: int, what: str, fix: str) -> None:
    if size_bytes > max_bytes:
        raise LimitExceeded(
            "message_too_large", f"{size_bytes} bytes are more than {what} may have: {max_bytes}", fix=fix
        )


def _name(message: Message) -> dict[str, object]:
    return {"type": message.get_type(), "receiver": message.get_receiver_id()}


def _cannot_send(path: Path, fault: str, fix: str) -> NoReturn:
    place = ".".join(map(str, path)) or "the parameters"
    raise BadMessage("not_sendable", f"{place} {fault}", fix=fix, where={"parameter": place})


def _refuse(fault: str) -> NoReturn:
    raise BadMessage("bad_message", f"This is no message: {fault}")
