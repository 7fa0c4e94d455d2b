from fedn.network.generated import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LedgerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEDGER_STATE_UNSPECIFIED: _ClassVar[LedgerState]
    LEDGER_STATE_NOT_SELECTED: _ClassVar[LedgerState]
    LEDGER_STATE_SELECTED: _ClassVar[LedgerState]
    LEDGER_STATE_TRAINING: _ClassVar[LedgerState]
    LEDGER_STATE_UPLOADING: _ClassVar[LedgerState]
    LEDGER_STATE_UPDATED: _ClassVar[LedgerState]
    LEDGER_STATE_LATE: _ClassVar[LedgerState]
    LEDGER_STATE_REFUSED: _ClassVar[LedgerState]
    LEDGER_STATE_FAILED: _ClassVar[LedgerState]
    LEDGER_STATE_DISCONNECTED: _ClassVar[LedgerState]
LEDGER_STATE_UNSPECIFIED: LedgerState
LEDGER_STATE_NOT_SELECTED: LedgerState
LEDGER_STATE_SELECTED: LedgerState
LEDGER_STATE_TRAINING: LedgerState
LEDGER_STATE_UPLOADING: LedgerState
LEDGER_STATE_UPDATED: LedgerState
LEDGER_STATE_LATE: LedgerState
LEDGER_STATE_REFUSED: LedgerState
LEDGER_STATE_FAILED: LedgerState
LEDGER_STATE_DISCONNECTED: LedgerState

class ReducerFrame(_message.Message):
    __slots__ = ("offset", "data", "frames", "padding", "hello", "start", "watch", "close", "extend", "cancel", "commit_ack", "object", "missing", "fetch", "ping", "token", "detach", "hand_up", "hand_up_ack", "forget_session")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    COMMIT_ACK_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DETACH_FIELD_NUMBER: _ClassVar[int]
    HAND_UP_FIELD_NUMBER: _ClassVar[int]
    HAND_UP_ACK_FIELD_NUMBER: _ClassVar[int]
    FORGET_SESSION_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    padding: bytes
    hello: LinkHello
    start: StartRound
    watch: WatchRound
    close: CloseRound
    extend: ExtendRound
    cancel: CancelRound
    commit_ack: CommitAck
    object: _common_pb2.ObjectBegin
    missing: _common_pb2.ObjectMissing
    fetch: _common_pb2.ObjectFetch
    ping: _common_pb2.Ping
    token: LinkTokenRenewal
    detach: DetachClient
    hand_up: HandUp
    hand_up_ack: HandUpAck
    forget_session: ForgetSession
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., frames: _Optional[_Iterable[bytes]] = ..., padding: _Optional[bytes] = ..., hello: _Optional[_Union[LinkHello, _Mapping]] = ..., start: _Optional[_Union[StartRound, _Mapping]] = ..., watch: _Optional[_Union[WatchRound, _Mapping]] = ..., close: _Optional[_Union[CloseRound, _Mapping]] = ..., extend: _Optional[_Union[ExtendRound, _Mapping]] = ..., cancel: _Optional[_Union[CancelRound, _Mapping]] = ..., commit_ack: _Optional[_Union[CommitAck, _Mapping]] = ..., object: _Optional[_Union[_common_pb2.ObjectBegin, _Mapping]] = ..., missing: _Optional[_Union[_common_pb2.ObjectMissing, _Mapping]] = ..., fetch: _Optional[_Union[_common_pb2.ObjectFetch, _Mapping]] = ..., ping: _Optional[_Union[_common_pb2.Ping, _Mapping]] = ..., token: _Optional[_Union[LinkTokenRenewal, _Mapping]] = ..., detach: _Optional[_Union[DetachClient, _Mapping]] = ..., hand_up: _Optional[_Union[HandUp, _Mapping]] = ..., hand_up_ack: _Optional[_Union[HandUpAck, _Mapping]] = ..., forget_session: _Optional[_Union[ForgetSession, _Mapping]] = ...) -> None: ...

class LinkFrame(_message.Message):
    __slots__ = ("offset", "data", "frames", "padding", "welcome", "attached", "client", "status", "refused", "event", "object", "missing", "pong", "problem")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    padding: bytes
    welcome: LinkWelcome
    attached: AttachedClients
    client: ClientChanged
    status: RoundStatus
    refused: RoundRefused
    event: RoundEvent
    object: _common_pb2.ObjectBegin
    missing: _common_pb2.ObjectMissing
    pong: _common_pb2.Pong
    problem: _common_pb2.Problem
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., frames: _Optional[_Iterable[bytes]] = ..., padding: _Optional[bytes] = ..., welcome: _Optional[_Union[LinkWelcome, _Mapping]] = ..., attached: _Optional[_Union[AttachedClients, _Mapping]] = ..., client: _Optional[_Union[ClientChanged, _Mapping]] = ..., status: _Optional[_Union[RoundStatus, _Mapping]] = ..., refused: _Optional[_Union[RoundRefused, _Mapping]] = ..., event: _Optional[_Union[RoundEvent, _Mapping]] = ..., object: _Optional[_Union[_common_pb2.ObjectBegin, _Mapping]] = ..., missing: _Optional[_Union[_common_pb2.ObjectMissing, _Mapping]] = ..., pong: _Optional[_Union[_common_pb2.Pong, _Mapping]] = ..., problem: _Optional[_Union[_common_pb2.Problem, _Mapping]] = ...) -> None: ...

class LinkHello(_message.Message):
    __slots__ = ("federation", "epoch", "bundles")
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    federation: str
    epoch: int
    bundles: bool
    def __init__(self, federation: _Optional[str] = ..., epoch: _Optional[int] = ..., bundles: _Optional[bool] = ...) -> None: ...

class LinkWelcome(_message.Message):
    __slots__ = ("combiner", "instance", "max_clients", "rounds", "bundles", "updates_kept")
    COMBINER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    MAX_CLIENTS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    UPDATES_KEPT_FIELD_NUMBER: _ClassVar[int]
    combiner: str
    instance: str
    max_clients: int
    rounds: _containers.RepeatedCompositeFieldContainer[_common_pb2.RoundName]
    bundles: bool
    updates_kept: int
    def __init__(self, combiner: _Optional[str] = ..., instance: _Optional[str] = ..., max_clients: _Optional[int] = ..., rounds: _Optional[_Iterable[_Union[_common_pb2.RoundName, _Mapping]]] = ..., bundles: _Optional[bool] = ..., updates_kept: _Optional[int] = ...) -> None: ...

class AttachedClient(_message.Message):
    __slots__ = ("client", "kinds", "attributes", "since_unix_s")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    SINCE_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    client: str
    kinds: _containers.RepeatedScalarFieldContainer[_common_pb2.TaskKind]
    attributes: _containers.ScalarMap[str, str]
    since_unix_s: float
    def __init__(self, client: _Optional[str] = ..., kinds: _Optional[_Iterable[_Union[_common_pb2.TaskKind, str]]] = ..., attributes: _Optional[_Mapping[str, str]] = ..., since_unix_s: _Optional[float] = ...) -> None: ...

class AttachedClients(_message.Message):
    __slots__ = ("clients",)
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    clients: _containers.RepeatedCompositeFieldContainer[AttachedClient]
    def __init__(self, clients: _Optional[_Iterable[_Union[AttachedClient, _Mapping]]] = ...) -> None: ...

class ClientChanged(_message.Message):
    __slots__ = ("client", "attached", "reason")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    client: AttachedClient
    attached: bool
    reason: str
    def __init__(self, client: _Optional[_Union[AttachedClient, _Mapping]] = ..., attached: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class StartRound(_message.Message):
    __slots__ = ("round", "tasks", "deadline_s", "upload_grace_s", "disconnect_grace_s", "rule", "rule_options_json", "sum_dtype", "deterministic", "scaling_factor", "scaling_options_json", "required_metadata", "buffered", "members", "combiner_optimizer", "combiner_optimizer_options_json", "optimizer_state_id")
    class RequiredMetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_GRACE_S_FIELD_NUMBER: _ClassVar[int]
    DISCONNECT_GRACE_S_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    RULE_OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    SUM_DTYPE_FIELD_NUMBER: _ClassVar[int]
    DETERMINISTIC_FIELD_NUMBER: _ClassVar[int]
    SCALING_FACTOR_FIELD_NUMBER: _ClassVar[int]
    SCALING_OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_METADATA_FIELD_NUMBER: _ClassVar[int]
    BUFFERED_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    COMBINER_OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    COMBINER_OPTIMIZER_OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_STATE_ID_FIELD_NUMBER: _ClassVar[int]
    round: _common_pb2.RoundName
    tasks: _containers.RepeatedCompositeFieldContainer[_common_pb2.Task]
    deadline_s: float
    upload_grace_s: float
    disconnect_grace_s: float
    rule: str
    rule_options_json: str
    sum_dtype: str
    deterministic: bool
    scaling_factor: str
    scaling_options_json: str
    required_metadata: _containers.ScalarMap[str, str]
    buffered: bool
    members: Members
    combiner_optimizer: str
    combiner_optimizer_options_json: str
    optimizer_state_id: str
    def __init__(self, round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ..., tasks: _Optional[_Iterable[_Union[_common_pb2.Task, _Mapping]]] = ..., deadline_s: _Optional[float] = ..., upload_grace_s: _Optional[float] = ..., disconnect_grace_s: _Optional[float] = ..., rule: _Optional[str] = ..., rule_options_json: _Optional[str] = ..., sum_dtype: _Optional[str] = ..., deterministic: _Optional[bool] = ..., scaling_factor: _Optional[str] = ..., scaling_options_json: _Optional[str] = ..., required_metadata: _Optional[_Mapping[str, str]] = ..., buffered: _Optional[bool] = ..., members: _Optional[_Union[Members, _Mapping]] = ..., combiner_optimizer: _Optional[str] = ..., combiner_optimizer_options_json: _Optional[str] = ..., optimizer_state_id: _Optional[str] = ...) -> None: ...

class Members(_message.Message):
    __slots__ = ("clients",)
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    clients: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, clients: _Optional[_Iterable[str]] = ...) -> None: ...

class HandUp(_message.Message):
    __slots__ = ("round", "number", "members")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    round: _common_pb2.RoundName
    number: int
    members: Members
    def __init__(self, round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ..., number: _Optional[int] = ..., members: _Optional[_Union[Members, _Mapping]] = ...) -> None: ...

class HandUpAck(_message.Message):
    __slots__ = ("round", "number")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    round: _common_pb2.RoundName
    number: int
    def __init__(self, round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ..., number: _Optional[int] = ...) -> None: ...

class HandedUp(_message.Message):
    __slots__ = ("number", "result")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    number: int
    result: RoundDone
    def __init__(self, number: _Optional[int] = ..., result: _Optional[_Union[RoundDone, _Mapping]] = ...) -> None: ...

class RoundStatus(_message.Message):
    __slots__ = ("round", "needed_objects", "last_event", "done")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NEEDED_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    round: _common_pb2.RoundName
    needed_objects: _containers.RepeatedScalarFieldContainer[str]
    last_event: int
    done: bool
    def __init__(self, round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ..., needed_objects: _Optional[_Iterable[str]] = ..., last_event: _Optional[int] = ..., done: _Optional[bool] = ...) -> None: ...

class RoundRefused(_message.Message):
    __slots__ = ("round", "problem")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    round: _common_pb2.RoundName
    problem: _common_pb2.Problem
    def __init__(self, round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ..., problem: _Optional[_Union[_common_pb2.Problem, _Mapping]] = ...) -> None: ...

class WatchRound(_message.Message):
    __slots__ = ("round", "from_event")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    FROM_EVENT_FIELD_NUMBER: _ClassVar[int]
    round: _common_pb2.RoundName
    from_event: int
    def __init__(self, round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ..., from_event: _Optional[int] = ...) -> None: ...

class CloseRound(_message.Message):
    __slots__ = ("round", "reason")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    round: _common_pb2.RoundName
    reason: str
    def __init__(self, round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class ExtendRound(_message.Message):
    __slots__ = ("round", "deadline_s")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    round: _common_pb2.RoundName
    deadline_s: float
    def __init__(self, round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ..., deadline_s: _Optional[float] = ...) -> None: ...

class CancelRound(_message.Message):
    __slots__ = ("round", "reason")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    round: _common_pb2.RoundName
    reason: str
    def __init__(self, round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class CommitAck(_message.Message):
    __slots__ = ("round",)
    ROUND_FIELD_NUMBER: _ClassVar[int]
    round: _common_pb2.RoundName
    def __init__(self, round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ...) -> None: ...

class ForgetSession(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class DetachClient(_message.Message):
    __slots__ = ("client", "problem")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    client: str
    problem: _common_pb2.Problem
    def __init__(self, client: _Optional[str] = ..., problem: _Optional[_Union[_common_pb2.Problem, _Mapping]] = ...) -> None: ...

class LinkTokenRenewal(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class RoundEvent(_message.Message):
    __slots__ = ("round", "number", "time_unix_s", "ledger", "done", "handed_up")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    HANDED_UP_FIELD_NUMBER: _ClassVar[int]
    round: _common_pb2.RoundName
    number: int
    time_unix_s: float
    ledger: LedgerChange
    done: RoundDone
    handed_up: HandedUp
    def __init__(self, round: _Optional[_Union[_common_pb2.RoundName, _Mapping]] = ..., number: _Optional[int] = ..., time_unix_s: _Optional[float] = ..., ledger: _Optional[_Union[LedgerChange, _Mapping]] = ..., done: _Optional[_Union[RoundDone, _Mapping]] = ..., handed_up: _Optional[_Union[HandedUp, _Mapping]] = ...) -> None: ...

class LedgerChange(_message.Message):
    __slots__ = ("client", "task_id", "state", "problem", "metadata", "object_id", "size_bytes", "down_bytes", "up_bytes", "busy_ms", "sent_unix_s")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DOWN_BYTES_FIELD_NUMBER: _ClassVar[int]
    UP_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUSY_MS_FIELD_NUMBER: _ClassVar[int]
    SENT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    client: str
    task_id: str
    state: LedgerState
    problem: _common_pb2.Problem
    metadata: _common_pb2.UpdateMetadata
    object_id: str
    size_bytes: int
    down_bytes: int
    up_bytes: int
    busy_ms: float
    sent_unix_s: float
    def __init__(self, client: _Optional[str] = ..., task_id: _Optional[str] = ..., state: _Optional[_Union[LedgerState, str]] = ..., problem: _Optional[_Union[_common_pb2.Problem, _Mapping]] = ..., metadata: _Optional[_Union[_common_pb2.UpdateMetadata, _Mapping]] = ..., object_id: _Optional[str] = ..., size_bytes: _Optional[int] = ..., down_bytes: _Optional[int] = ..., up_bytes: _Optional[int] = ..., busy_ms: _Optional[float] = ..., sent_unix_s: _Optional[float] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("client", "update_id", "num_examples", "weight", "base_index")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    BASE_INDEX_FIELD_NUMBER: _ClassVar[int]
    client: str
    update_id: str
    num_examples: int
    weight: float
    base_index: int
    def __init__(self, client: _Optional[str] = ..., update_id: _Optional[str] = ..., num_examples: _Optional[int] = ..., weight: _Optional[float] = ..., base_index: _Optional[int] = ...) -> None: ...

class RoundDone(_message.Message):
    __slots__ = ("reason", "model_id", "size_bytes", "weight", "contributions", "fold_ms", "memory_bytes")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    FOLD_MS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    reason: str
    model_id: str
    size_bytes: int
    weight: float
    contributions: _containers.RepeatedCompositeFieldContainer[Contribution]
    fold_ms: float
    memory_bytes: int
    def __init__(self, reason: _Optional[str] = ..., model_id: _Optional[str] = ..., size_bytes: _Optional[int] = ..., weight: _Optional[float] = ..., contributions: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., fold_ms: _Optional[float] = ..., memory_bytes: _Optional[int] = ...) -> None: ...
