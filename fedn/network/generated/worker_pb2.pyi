from fedn.network.generated import client_pb2 as _client_pb2
from fedn.network.generated import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkerFrame(_message.Message):
    __slots__ = ("sender", "receiver", "sequence", "left", "data", "frames", "padding", "hello", "welcome", "ack", "want", "peer", "leave", "token", "bye", "detour")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    WANT_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    BYE_FIELD_NUMBER: _ClassVar[int]
    DETOUR_FIELD_NUMBER: _ClassVar[int]
    sender: int
    receiver: int
    sequence: int
    left: int
    data: bytes
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    padding: bytes
    hello: WorkerHello
    welcome: WorkerWelcome
    ack: WorkerAck
    want: WorkerWant
    peer: WorkerPeer
    leave: WorkerLeave
    token: _client_pb2.TokenRenewal
    bye: _client_pb2.Bye
    detour: WorkerDetour
    def __init__(self, sender: _Optional[int] = ..., receiver: _Optional[int] = ..., sequence: _Optional[int] = ..., left: _Optional[int] = ..., data: _Optional[bytes] = ..., frames: _Optional[_Iterable[bytes]] = ..., padding: _Optional[bytes] = ..., hello: _Optional[_Union[WorkerHello, _Mapping]] = ..., welcome: _Optional[_Union[WorkerWelcome, _Mapping]] = ..., ack: _Optional[_Union[WorkerAck, _Mapping]] = ..., want: _Optional[_Union[WorkerWant, _Mapping]] = ..., peer: _Optional[_Union[WorkerPeer, _Mapping]] = ..., leave: _Optional[_Union[WorkerLeave, _Mapping]] = ..., token: _Optional[_Union[_client_pb2.TokenRenewal, _Mapping]] = ..., bye: _Optional[_Union[_client_pb2.Bye, _Mapping]] = ..., detour: _Optional[_Union[WorkerDetour, _Mapping]] = ...) -> None: ...

class WorkerHello(_message.Message):
    __slots__ = ("ticket", "instance", "version", "expected", "known")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    ticket: str
    instance: str
    version: str
    expected: _containers.RepeatedCompositeFieldContainer[WorkerAck]
    known: _containers.RepeatedCompositeFieldContainer[WorkerPeer]
    def __init__(self, ticket: _Optional[str] = ..., instance: _Optional[str] = ..., version: _Optional[str] = ..., expected: _Optional[_Iterable[_Union[WorkerAck, _Mapping]]] = ..., known: _Optional[_Iterable[_Union[WorkerPeer, _Mapping]]] = ...) -> None: ...

class WorkerWelcome(_message.Message):
    __slots__ = ("combiner", "credit", "max_frame_bytes", "acks", "grace_s")
    COMBINER_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    combiner: str
    credit: int
    max_frame_bytes: int
    acks: _containers.RepeatedCompositeFieldContainer[WorkerAck]
    grace_s: float
    def __init__(self, combiner: _Optional[str] = ..., credit: _Optional[int] = ..., max_frame_bytes: _Optional[int] = ..., acks: _Optional[_Iterable[_Union[WorkerAck, _Mapping]]] = ..., grace_s: _Optional[float] = ...) -> None: ...

class WorkerAck(_message.Message):
    __slots__ = ("peer", "sequence", "credit", "held")
    PEER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    peer: int
    sequence: int
    credit: int
    held: int
    def __init__(self, peer: _Optional[int] = ..., sequence: _Optional[int] = ..., credit: _Optional[int] = ..., held: _Optional[int] = ...) -> None: ...

class WorkerWant(_message.Message):
    __slots__ = ("peer", "bytes")
    PEER_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    peer: int
    bytes: int
    def __init__(self, peer: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class WorkerPeer(_message.Message):
    __slots__ = ("rank", "instance", "state", "reason")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[WorkerPeer.State]
        STATE_PRESENT: _ClassVar[WorkerPeer.State]
        STATE_FINISHED: _ClassVar[WorkerPeer.State]
        STATE_FAILED: _ClassVar[WorkerPeer.State]
    STATE_UNSPECIFIED: WorkerPeer.State
    STATE_PRESENT: WorkerPeer.State
    STATE_FINISHED: WorkerPeer.State
    STATE_FAILED: WorkerPeer.State
    RANK_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    rank: int
    instance: str
    state: WorkerPeer.State
    reason: str
    def __init__(self, rank: _Optional[int] = ..., instance: _Optional[str] = ..., state: _Optional[_Union[WorkerPeer.State, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class WorkerDetour(_message.Message):
    __slots__ = ("call", "over", "problem")
    CALL_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    call: str
    over: bool
    problem: _common_pb2.Problem
    def __init__(self, call: _Optional[str] = ..., over: _Optional[bool] = ..., problem: _Optional[_Union[_common_pb2.Problem, _Mapping]] = ...) -> None: ...

class WorkerLeave(_message.Message):
    __slots__ = ("failed", "reason")
    FAILED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    failed: bool
    reason: str
    def __init__(self, failed: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...
