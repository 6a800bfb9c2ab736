from shunter.daemon.pb import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentMessage(_message.Message):
    __slots__ = ("hello", "heartbeat", "report", "log")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    report: Report
    log: LogReply
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ..., log: _Optional[_Union[LogReply, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("node", "registration")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    node: str
    registration: int
    def __init__(self, node: _Optional[str] = ..., registration: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("job", "attempt", "phase", "end", "exit_code", "signal", "at_unix_s", "message", "cpu_s", "max_memory_gib")
    class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PHASE_UNSPECIFIED: _ClassVar[Report.Phase]
        PHASE_READY: _ClassVar[Report.Phase]
        PHASE_STARTED: _ClassVar[Report.Phase]
        PHASE_ENDED: _ClassVar[Report.Phase]
    PHASE_UNSPECIFIED: Report.Phase
    PHASE_READY: Report.Phase
    PHASE_STARTED: Report.Phase
    PHASE_ENDED: Report.Phase
    class End(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        END_UNSPECIFIED: _ClassVar[Report.End]
        END_EXITED: _ClassVar[Report.End]
        END_NOT_STARTED: _ClassVar[Report.End]
        END_STOPPED: _ClassVar[Report.End]
        END_TIME_LIMIT: _ClassVar[Report.End]
        END_FENCED: _ClassVar[Report.End]
        END_LOST: _ClassVar[Report.End]
    END_UNSPECIFIED: Report.End
    END_EXITED: Report.End
    END_NOT_STARTED: Report.End
    END_STOPPED: Report.End
    END_TIME_LIMIT: Report.End
    END_FENCED: Report.End
    END_LOST: Report.End
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    MAX_MEMORY_GIB_FIELD_NUMBER: _ClassVar[int]
    job: int
    attempt: int
    phase: Report.Phase
    end: Report.End
    exit_code: int
    signal: int
    at_unix_s: float
    message: str
    cpu_s: float
    max_memory_gib: float
    def __init__(self, job: _Optional[int] = ..., attempt: _Optional[int] = ..., phase: _Optional[_Union[Report.Phase, str]] = ..., end: _Optional[_Union[Report.End, str]] = ..., exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., at_unix_s: _Optional[float] = ..., message: _Optional[str] = ..., cpu_s: _Optional[float] = ..., max_memory_gib: _Optional[float] = ...) -> None: ...

class DaemonMessage(_message.Message):
    __slots__ = ("grant", "assignment", "go", "stop", "forget", "receipt", "log")
    GRANT_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    GO_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    grant: Grant
    assignment: Assignment
    go: Go
    stop: Stop
    forget: Forget
    receipt: Receipt
    log: LogRequest
    def __init__(self, grant: _Optional[_Union[Grant, _Mapping]] = ..., assignment: _Optional[_Union[Assignment, _Mapping]] = ..., go: _Optional[_Union[Go, _Mapping]] = ..., stop: _Optional[_Union[Stop, _Mapping]] = ..., forget: _Optional[_Union[Forget, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., log: _Optional[_Union[LogRequest, _Mapping]] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("sequence", "lease_s", "fencing_token")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    lease_s: float
    fencing_token: int
    def __init__(self, sequence: _Optional[int] = ..., lease_s: _Optional[float] = ..., fencing_token: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("job", "attempt", "fencing_token", "user", "spec", "placement", "gang", "first_rank", "wait_for_go", "time_limit_s", "grace_s", "array_index")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    GANG_FIELD_NUMBER: _ClassVar[int]
    FIRST_RANK_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_GO_FIELD_NUMBER: _ClassVar[int]
    TIME_LIMIT_S_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    ARRAY_INDEX_FIELD_NUMBER: _ClassVar[int]
    job: int
    attempt: int
    fencing_token: int
    user: str
    spec: _common_pb2.JobSpec
    placement: _common_pb2.Placement
    gang: _containers.RepeatedCompositeFieldContainer[_common_pb2.Placement]
    first_rank: int
    wait_for_go: bool
    time_limit_s: float
    grace_s: float
    array_index: int
    def __init__(self, job: _Optional[int] = ..., attempt: _Optional[int] = ..., fencing_token: _Optional[int] = ..., user: _Optional[str] = ..., spec: _Optional[_Union[_common_pb2.JobSpec, _Mapping]] = ..., placement: _Optional[_Union[_common_pb2.Placement, _Mapping]] = ..., gang: _Optional[_Iterable[_Union[_common_pb2.Placement, _Mapping]]] = ..., first_rank: _Optional[int] = ..., wait_for_go: _Optional[bool] = ..., time_limit_s: _Optional[float] = ..., grace_s: _Optional[float] = ..., array_index: _Optional[int] = ...) -> None: ...

class Go(_message.Message):
    __slots__ = ("job", "attempt", "fencing_token")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    job: int
    attempt: int
    fencing_token: int
    def __init__(self, job: _Optional[int] = ..., attempt: _Optional[int] = ..., fencing_token: _Optional[int] = ...) -> None: ...

class Stop(_message.Message):
    __slots__ = ("job", "attempt", "fencing_token", "grace_s", "reason")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job: int
    attempt: int
    fencing_token: int
    grace_s: float
    reason: str
    def __init__(self, job: _Optional[int] = ..., attempt: _Optional[int] = ..., fencing_token: _Optional[int] = ..., grace_s: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class Forget(_message.Message):
    __slots__ = ("job", "attempt")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    job: int
    attempt: int
    def __init__(self, job: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("job", "attempt", "phase")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    job: int
    attempt: int
    phase: Report.Phase
    def __init__(self, job: _Optional[int] = ..., attempt: _Optional[int] = ..., phase: _Optional[_Union[Report.Phase, str]] = ...) -> None: ...

class LogRequest(_message.Message):
    __slots__ = ("request", "job", "attempt", "task", "tail_bytes", "follow", "cancel")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TAIL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    request: int
    job: int
    attempt: int
    task: int
    tail_bytes: int
    follow: bool
    cancel: bool
    def __init__(self, request: _Optional[int] = ..., job: _Optional[int] = ..., attempt: _Optional[int] = ..., task: _Optional[int] = ..., tail_bytes: _Optional[int] = ..., follow: _Optional[bool] = ..., cancel: _Optional[bool] = ...) -> None: ...

class LogReply(_message.Message):
    __slots__ = ("request", "task", "offset", "data", "missing", "is_last", "error")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    IS_LAST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request: int
    task: int
    offset: int
    data: bytes
    missing: int
    is_last: bool
    error: str
    def __init__(self, request: _Optional[int] = ..., task: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., missing: _Optional[int] = ..., is_last: _Optional[bool] = ..., error: _Optional[str] = ...) -> None: ...
