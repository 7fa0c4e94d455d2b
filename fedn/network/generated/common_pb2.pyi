from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_KIND_UNSPECIFIED: _ClassVar[TaskKind]
    TASK_KIND_INIT: _ClassVar[TaskKind]
    TASK_KIND_TRAIN: _ClassVar[TaskKind]
    TASK_KIND_VALIDATE: _ClassVar[TaskKind]
    TASK_KIND_PREDICT: _ClassVar[TaskKind]

class ObjectKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OBJECT_KIND_UNSPECIFIED: _ClassVar[ObjectKind]
    OBJECT_KIND_MODEL: _ClassVar[ObjectKind]
    OBJECT_KIND_PACKAGE: _ClassVar[ObjectKind]
TASK_KIND_UNSPECIFIED: TaskKind
TASK_KIND_INIT: TaskKind
TASK_KIND_TRAIN: TaskKind
TASK_KIND_VALIDATE: TaskKind
TASK_KIND_PREDICT: TaskKind
OBJECT_KIND_UNSPECIFIED: ObjectKind
OBJECT_KIND_MODEL: ObjectKind
OBJECT_KIND_PACKAGE: ObjectKind

class RoundName(_message.Message):
    __slots__ = ("session", "index", "attempt", "epoch")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session: str
    index: int
    attempt: int
    epoch: int
    def __init__(self, session: _Optional[str] = ..., index: _Optional[int] = ..., attempt: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class Codec(_message.Message):
    __slots__ = ("name", "options_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    options_json: str
    def __init__(self, name: _Optional[str] = ..., options_json: _Optional[str] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("task_id", "client", "kind", "round", "model_id", "validate_incoming", "step_budget", "parameters_json", "package_id", "helper", "deadline_s", "upload_credit_bytes", "update_chain", "model_chain", "encoded_model_id", "encryption_json", "input_id", "extras", "required_metadata", "counted")
    class RequiredMetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_INCOMING_FIELD_NUMBER: _ClassVar[int]
    STEP_BUDGET_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_ID_FIELD_NUMBER: _ClassVar[int]
    HELPER_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_CHAIN_FIELD_NUMBER: _ClassVar[int]
    MODEL_CHAIN_FIELD_NUMBER: _ClassVar[int]
    ENCODED_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTION_JSON_FIELD_NUMBER: _ClassVar[int]
    INPUT_ID_FIELD_NUMBER: _ClassVar[int]
    EXTRAS_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_METADATA_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    client: str
    kind: TaskKind
    round: RoundName
    model_id: str
    validate_incoming: bool
    step_budget: int
    parameters_json: str
    package_id: str
    helper: str
    deadline_s: float
    upload_credit_bytes: int
    update_chain: _containers.RepeatedCompositeFieldContainer[Codec]
    model_chain: _containers.RepeatedCompositeFieldContainer[Codec]
    encoded_model_id: str
    encryption_json: str
    input_id: str
    extras: _containers.RepeatedCompositeFieldContainer[Section]
    required_metadata: _containers.ScalarMap[str, str]
    counted: int
    def __init__(self, task_id: _Optional[str] = ..., client: _Optional[str] = ..., kind: _Optional[_Union[TaskKind, str]] = ..., round: _Optional[_Union[RoundName, _Mapping]] = ..., model_id: _Optional[str] = ..., validate_incoming: _Optional[bool] = ..., step_budget: _Optional[int] = ..., parameters_json: _Optional[str] = ..., package_id: _Optional[str] = ..., helper: _Optional[str] = ..., deadline_s: _Optional[float] = ..., upload_credit_bytes: _Optional[int] = ..., update_chain: _Optional[_Iterable[_Union[Codec, _Mapping]]] = ..., model_chain: _Optional[_Iterable[_Union[Codec, _Mapping]]] = ..., encoded_model_id: _Optional[str] = ..., encryption_json: _Optional[str] = ..., input_id: _Optional[str] = ..., extras: _Optional[_Iterable[_Union[Section, _Mapping]]] = ..., required_metadata: _Optional[_Mapping[str, str]] = ..., counted: _Optional[int] = ...) -> None: ...

class Section(_message.Message):
    __slots__ = ("name", "size_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    size_bytes: int
    def __init__(self, name: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class ObjectBegin(_message.Message):
    __slots__ = ("object_id", "kind", "size_bytes", "offset")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    object_id: str
    kind: ObjectKind
    size_bytes: int
    offset: int
    def __init__(self, object_id: _Optional[str] = ..., kind: _Optional[_Union[ObjectKind, str]] = ..., size_bytes: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class ObjectFetch(_message.Message):
    __slots__ = ("object_id", "offset", "kind")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    object_id: str
    offset: int
    kind: ObjectKind
    def __init__(self, object_id: _Optional[str] = ..., offset: _Optional[int] = ..., kind: _Optional[_Union[ObjectKind, str]] = ...) -> None: ...

class ObjectMissing(_message.Message):
    __slots__ = ("object_id",)
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    object_id: str
    def __init__(self, object_id: _Optional[str] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("code", "message", "fix", "retryable")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIX_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    fix: str
    retryable: bool
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., fix: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class UpdateMetadata(_message.Message):
    __slots__ = ("task_id", "client", "round", "base_model_id", "form", "num_examples", "num_steps", "ms_per_step", "ms_per_epoch", "task_ms", "metrics", "validation", "num_validation_examples", "update_chain", "decoded_bytes", "model_chain", "model_bytes", "key_id", "train_ms", "validate_ms", "cpu_ms", "memory_bytes", "extras")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class ValidationEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    NUM_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    MS_PER_STEP_FIELD_NUMBER: _ClassVar[int]
    MS_PER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TASK_MS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    NUM_VALIDATION_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_CHAIN_FIELD_NUMBER: _ClassVar[int]
    DECODED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODEL_CHAIN_FIELD_NUMBER: _ClassVar[int]
    MODEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    TRAIN_MS_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_MS_FIELD_NUMBER: _ClassVar[int]
    CPU_MS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXTRAS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    client: str
    round: RoundName
    base_model_id: str
    form: str
    num_examples: int
    num_steps: int
    ms_per_step: float
    ms_per_epoch: float
    task_ms: float
    metrics: _containers.ScalarMap[str, float]
    validation: _containers.ScalarMap[str, float]
    num_validation_examples: int
    update_chain: _containers.RepeatedCompositeFieldContainer[Codec]
    decoded_bytes: int
    model_chain: _containers.RepeatedCompositeFieldContainer[Codec]
    model_bytes: int
    key_id: str
    train_ms: float
    validate_ms: float
    cpu_ms: float
    memory_bytes: int
    extras: _containers.RepeatedCompositeFieldContainer[Section]
    def __init__(self, task_id: _Optional[str] = ..., client: _Optional[str] = ..., round: _Optional[_Union[RoundName, _Mapping]] = ..., base_model_id: _Optional[str] = ..., form: _Optional[str] = ..., num_examples: _Optional[int] = ..., num_steps: _Optional[int] = ..., ms_per_step: _Optional[float] = ..., ms_per_epoch: _Optional[float] = ..., task_ms: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., validation: _Optional[_Mapping[str, float]] = ..., num_validation_examples: _Optional[int] = ..., update_chain: _Optional[_Iterable[_Union[Codec, _Mapping]]] = ..., decoded_bytes: _Optional[int] = ..., model_chain: _Optional[_Iterable[_Union[Codec, _Mapping]]] = ..., model_bytes: _Optional[int] = ..., key_id: _Optional[str] = ..., train_ms: _Optional[float] = ..., validate_ms: _Optional[float] = ..., cpu_ms: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., extras: _Optional[_Iterable[_Union[Section, _Mapping]]] = ...) -> None: ...
