from fedn.network.generated import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClientFrame(_message.Message):
    __slots__ = ("offset", "data", "frames", "padding", "hello", "task_accepted", "task_progress", "task_failed", "ready", "upload_end", "fetch", "ping", "token", "leave")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    TASK_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    TASK_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    TASK_FAILED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_END_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    padding: bytes
    hello: Hello
    task_accepted: TaskAccepted
    task_progress: TaskProgress
    task_failed: TaskFailed
    ready: Ready
    upload_end: UploadEnd
    fetch: _common_pb2.ObjectFetch
    ping: _common_pb2.Ping
    token: TokenRenewal
    leave: Leave
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., frames: _Optional[_Iterable[bytes]] = ..., padding: _Optional[bytes] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., task_accepted: _Optional[_Union[TaskAccepted, _Mapping]] = ..., task_progress: _Optional[_Union[TaskProgress, _Mapping]] = ..., task_failed: _Optional[_Union[TaskFailed, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., upload_end: _Optional[_Union[UploadEnd, _Mapping]] = ..., fetch: _Optional[_Union[_common_pb2.ObjectFetch, _Mapping]] = ..., ping: _Optional[_Union[_common_pb2.Ping, _Mapping]] = ..., token: _Optional[_Union[TokenRenewal, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ...) -> None: ...

class CombinerFrame(_message.Message):
    __slots__ = ("offset", "data", "frames", "padding", "welcome", "task", "object", "missing", "grant", "ack", "refused", "cancelled", "pong", "bye")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    BYE_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    padding: bytes
    welcome: Welcome
    task: _common_pb2.Task
    object: _common_pb2.ObjectBegin
    missing: _common_pb2.ObjectMissing
    grant: Grant
    ack: Ack
    refused: Refused
    cancelled: TaskCancelled
    pong: _common_pb2.Pong
    bye: Bye
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., frames: _Optional[_Iterable[bytes]] = ..., padding: _Optional[bytes] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., task: _Optional[_Union[_common_pb2.Task, _Mapping]] = ..., object: _Optional[_Union[_common_pb2.ObjectBegin, _Mapping]] = ..., missing: _Optional[_Union[_common_pb2.ObjectMissing, _Mapping]] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., cancelled: _Optional[_Union[TaskCancelled, _Mapping]] = ..., pong: _Optional[_Union[_common_pb2.Pong, _Mapping]] = ..., bye: _Optional[_Union[Bye, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("client", "instance", "version", "kinds", "held_objects", "partial", "spooled_tasks", "attributes", "bundles", "codecs")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    HELD_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    SPOOLED_TASKS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    CODECS_FIELD_NUMBER: _ClassVar[int]
    client: str
    instance: str
    version: str
    kinds: _containers.RepeatedScalarFieldContainer[_common_pb2.TaskKind]
    held_objects: _containers.RepeatedScalarFieldContainer[str]
    partial: _containers.RepeatedCompositeFieldContainer[_common_pb2.ObjectFetch]
    spooled_tasks: _containers.RepeatedScalarFieldContainer[str]
    attributes: _containers.ScalarMap[str, str]
    bundles: bool
    codecs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, client: _Optional[str] = ..., instance: _Optional[str] = ..., version: _Optional[str] = ..., kinds: _Optional[_Iterable[_Union[_common_pb2.TaskKind, str]]] = ..., held_objects: _Optional[_Iterable[str]] = ..., partial: _Optional[_Iterable[_Union[_common_pb2.ObjectFetch, _Mapping]]] = ..., spooled_tasks: _Optional[_Iterable[str]] = ..., attributes: _Optional[_Mapping[str, str]] = ..., bundles: _Optional[bool] = ..., codecs: _Optional[_Iterable[str]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("combiner", "instance", "chunk_bytes", "progress_s", "bundles")
    COMBINER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_S_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    combiner: str
    instance: str
    chunk_bytes: int
    progress_s: float
    bundles: bool
    def __init__(self, combiner: _Optional[str] = ..., instance: _Optional[str] = ..., chunk_bytes: _Optional[int] = ..., progress_s: _Optional[float] = ..., bundles: _Optional[bool] = ...) -> None: ...

class TaskAccepted(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class TaskProgress(_message.Message):
    __slots__ = ("task_id", "fraction", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    fraction: float
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, task_id: _Optional[str] = ..., fraction: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class TaskFailed(_message.Message):
    __slots__ = ("task_id", "round", "problem")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    round: _common_pb2.RoundName
    problem: _common_pb2.Problem
    def __init__(self, task_id: _Optional[str] = ..., round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ..., problem: _Optional[_Union[_common_pb2.Problem, _Mapping]] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("metadata", "object_id", "size_bytes", "follows")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FOLLOWS_FIELD_NUMBER: _ClassVar[int]
    metadata: _common_pb2.UpdateMetadata
    object_id: str
    size_bytes: int
    follows: bool
    def __init__(self, metadata: _Optional[_Union[_common_pb2.UpdateMetadata, _Mapping]] = ..., object_id: _Optional[str] = ..., size_bytes: _Optional[int] = ..., follows: _Optional[bool] = ...) -> None: ...

class UploadEnd(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("task_id", "offset")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    offset: int
    def __init__(self, task_id: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("task_id", "problem")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    problem: _common_pb2.Problem
    def __init__(self, task_id: _Optional[str] = ..., problem: _Optional[_Union[_common_pb2.Problem, _Mapping]] = ...) -> None: ...

class TaskCancelled(_message.Message):
    __slots__ = ("task_id", "reason")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    reason: str
    def __init__(self, task_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class TokenRenewal(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Bye(_message.Message):
    __slots__ = ("problem", "retry_after_s")
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    problem: _common_pb2.Problem
    retry_after_s: float
    def __init__(self, problem: _Optional[_Union[_common_pb2.Problem, _Mapping]] = ..., retry_after_s: _Optional[float] = ...) -> None: ...
