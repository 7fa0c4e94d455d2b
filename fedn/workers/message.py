"""What one worker says to another: a type, a sender, a receiver, and parameters, which may be tensors.

The names are those of FedML's `Message`, so that its programs run. Not here: the bytes on the wire (message_wire).
"""

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from fedn.workers.errors import BadMessage

MessageType = int | str

_JSON_ID = "msg_id"
_JSON_ROUND = "msg_round"
_JSON_TIME = "msg_timestamp"
_JSON_OWN = (_JSON_ID, _JSON_ROUND, _JSON_TIME)


class Message:
    """One message. Type, sender and receiver live in its parameters, under the MSG_ARG_KEY_… names, and nowhere else.

    Args:
        type: an int or a str; 1 and "1" are two types.
        sender_id: rank of the sender, from 0.
        receiver_id: rank of the receiver, from 0.
        round_index: the round that the message belongs to, from 0; None where it belongs to none.
    """

    MSG_ARG_KEY_OPERATION: ClassVar[str] = "operation"
    MSG_ARG_KEY_TYPE: ClassVar[str] = "msg_type"
    MSG_ARG_KEY_SENDER: ClassVar[str] = "sender"
    MSG_ARG_KEY_RECEIVER: ClassVar[str] = "receiver"
    MSG_OPERATION_SEND: ClassVar[str] = "send"
    MSG_OPERATION_RECEIVE: ClassVar[str] = "receive"
    MSG_OPERATION_BROADCAST: ClassVar[str] = "broadcast"
    MSG_OPERATION_REDUCE: ClassVar[str] = "reduce"
    MSG_ARG_KEY_MODEL_PARAMS: ClassVar[str] = "model_params"
    MSG_ARG_KEY_MODEL_PARAMS_URL: ClassVar[str] = "model_params_url"
    MSG_ARG_KEY_MODEL_PARAMS_KEY: ClassVar[str] = "model_params_key"
    MSG_ARG_KEY_CLIENT_OS: ClassVar[str] = "client_os"
    MSG_CLIENT_OS_ANDROID: ClassVar[str] = "Android"
    MSG_CLIENT_OS_IOS: ClassVar[str] = "iOS"
    MSG_CLIENT_OS_MAC: ClassVar[str] = "Mac"
    MSG_CLIENT_OS_LINUX: ClassVar[str] = "Linux"

    def __init__(
        self,
        type: MessageType = 0,
        sender_id: int = 0,
        receiver_id: int = 0,
        *,
        round_index: int | None = None,
    ) -> None:
        self.message_id = secrets.token_hex(16)
        """Of this message alone."""
        self.timestamp_s = time.time()
        """When it was made, in seconds since 1970, by the sender's clock."""
        self.round_index = round_index
        self.msg_params: dict[str, Any] = {
            self.MSG_ARG_KEY_TYPE: type,
            self.MSG_ARG_KEY_SENDER: sender_id,
            self.MSG_ARG_KEY_RECEIVER: receiver_id,
        }

    @property
    def type(self) -> MessageType:
        return self.get_type()

    @property
    def sender_id(self) -> int:
        return self.get_sender_id()

    @property
    def receiver_id(self) -> int:
        return self.get_receiver_id()

    def init(self, msg_params: dict[str, Any]) -> None:
        """Takes these parameters, with type, sender and receiver among them, instead of its own."""
        self.msg_params = msg_params

    def init_from_json_string(self, json_string: str) -> None:
        """Becomes the message that `to_json` has written.

        Raises:
            BadMessage: (`bad_message`) it is no such text.
        """
        try:
            found = json.loads(json_string)
        except (ValueError, RecursionError) as error:
            raise BadMessage("bad_message", f"The text is not JSON: {str(error)[:200]}") from error
        if not isinstance(found, dict):
            raise BadMessage("bad_message", "The JSON text of a message is an object, and this is none")
        self.init_from_json_object(found)

    def init_from_json_object(self, json_object: Mapping[str, Any]) -> None:
        """Becomes the message of this flat object; id, round and time stay as they are where it has none.

        Raises:
            BadMessage: (`bad_message`) type, sender or receiver are missing, or a field is of another kind.
        """
        params = dict(json_object)
        message_id = params.pop(_JSON_ID, self.message_id)
        round_index = params.pop(_JSON_ROUND, None)
        timestamp_s = params.pop(_JSON_TIME, self.timestamp_s)
        check_head(params, message_id, round_index, timestamp_s)
        self.msg_params = params
        self.message_id, self.round_index, self.timestamp_s = message_id, round_index, float(timestamp_s)

    def get_sender_id(self) -> int:
        sender: int = self.msg_params[self.MSG_ARG_KEY_SENDER]
        return sender

    def get_receiver_id(self) -> int:
        receiver: int = self.msg_params[self.MSG_ARG_KEY_RECEIVER]
        return receiver

    def get_type(self) -> MessageType:
        kind: MessageType = self.msg_params[self.MSG_ARG_KEY_TYPE]
        return kind

    def add_params(self, key: str, value: Any) -> None:
        """Adds a parameter: JSON values, arrays, and lists and dictionaries of both."""
        self.msg_params[key] = value

    def add(self, key: str, value: Any) -> None:
        """The same as `add_params`."""
        self.add_params(key, value)

    def get_params(self) -> dict[str, Any]:
        """All parameters, with type, sender and receiver: the message's own dictionary, not a copy."""
        return self.msg_params

    def get_params_wout_model(self) -> dict[str, Any]:
        """A copy of the parameters without the model's."""
        return {key: value for key, value in self.msg_params.items() if key != self.MSG_ARG_KEY_MODEL_PARAMS}

    def get(self, key: str, default: Any = None) -> Any:
        """A parameter, or `default` where there is none of this name."""
        return self.msg_params.get(key, default)

    def to_string(self) -> dict[str, Any]:
        """FedML's name for `get_params`: a dictionary, in spite of the name."""
        return self.msg_params

    def to_json(self) -> str:
        """The message as one flat JSON object, for messages without tensors.

        Raises:
            BadMessage: (`not_json`) a parameter is no JSON (a tensor is none), or has a name that the form reserves.
        """
        taken = [key for key in _JSON_OWN if key in self.msg_params]
        if taken:
            raise BadMessage("not_json", f"The JSON form keeps the name {taken[0]!r} to itself", fix="Use another key.")
        own = {_JSON_ID: self.message_id, _JSON_ROUND: self.round_index, _JSON_TIME: self.timestamp_s}
        faults: dict[str, Exception] = {}
        for key, value in self.msg_params.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                faults[key] = error
        if faults:
            key, fault = next(iter(faults.items()))
            raise BadMessage(
                "not_json",
                f"The parameter {key!r} cannot be JSON: {fault}",
                fix="Send the message: on the wire, tensors are binary. For JSON, give lists (array.tolist()).",
                where={"type": self.msg_params.get(self.MSG_ARG_KEY_TYPE), "parameter": key},
            )
        return json.dumps({**self.msg_params, **own}, ensure_ascii=False, allow_nan=False)

    def get_content(self) -> str:
        """Type and parameters, to be read by people."""
        return f"{self.get_type()}: {self.msg_params}"

    def __repr__(self) -> str:
        keys = [key for key in self.msg_params if key not in HEAD_KEYS]
        return (
            f"Message(type={self.get_type()!r}, sender_id={self.sender_id}, receiver_id={self.receiver_id}, "
            f"round_index={self.round_index}, keys={keys})"
        )


HEAD_KEYS = (Message.MSG_ARG_KEY_TYPE, Message.MSG_ARG_KEY_SENDER, Message.MSG_ARG_KEY_RECEIVER)
"""The parameters that every message has."""

MAX_RANK = 2**31 - 1


def check_head(params: Mapping[str, Any], message_id: object, round_index: object, timestamp_s: object) -> None:
    """Refuses what no message can have as type, sender, receiver, id, round or time.

    Raises:
        BadMessage: (`bad_message`)
    """
    kind, sender, receiver = (params.get(key) for key in HEAD_KEYS)
    if isinstance(kind, bool) or not isinstance(kind, int | str):
        _refuse(f"its type is {kind!r}, and types are int or str")
    if isinstance(kind, int) and not -(2**63) <= kind < 2**63:
        _refuse("its type is an int beyond 64 bits")
    for name, rank in (("sender", sender), ("receiver", receiver)):
        if type(rank) is not int or not 0 <= rank <= MAX_RANK:
            _refuse(f"its {name} is {rank!r}, and ranks are ints from 0")
    if not isinstance(message_id, str) or not 0 < len(message_id) <= 64:
        _refuse("its id is not a text of 1 to 64 characters")
    if round_index is not None and (type(round_index) is not int or not 0 <= round_index < 2**63):
        _refuse(f"its round is {str(round_index)[:40]}, and rounds are ints from 0")
    if isinstance(timestamp_s, bool) or not isinstance(timestamp_s, int | float) or not 0 <= timestamp_s < 2**53:
        _refuse("its time is not a number of seconds since 1970")


def _refuse(fault: str) -> None:
    raise BadMessage("bad_message", f"This is no message: {fault}")
