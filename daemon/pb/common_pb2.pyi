from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_PENDING: _ClassVar[JobState]
    JOB_STATE_STARTING: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_STOPPING: _ClassVar[JobState]
    JOB_STATE_COMPLETED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
    JOB_STATE_TIMED_OUT: _ClassVar[JobState]
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_PENDING: JobState
JOB_STATE_STARTING: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_STOPPING: JobState
JOB_STATE_COMPLETED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
JOB_STATE_TIMED_OUT: JobState

class Resources(_message.Message):
    __slots__ = ("cpus", "memory_gib", "gpus")
    CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_GIB_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    cpus: float
    memory_gib: float
    gpus: float
    def __init__(self, cpus: _Optional[float] = ..., memory_gib: _Optional[float] = ..., gpus: _Optional[float] = ...) -> None: ...

class Dependency(_message.Message):
    __slots__ = ("job", "condition")
    class Condition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CONDITION_UNSPECIFIED: _ClassVar[Dependency.Condition]
        CONDITION_AFTER_OK: _ClassVar[Dependency.Condition]
        CONDITION_AFTER_ANY: _ClassVar[Dependency.Condition]
    CONDITION_UNSPECIFIED: Dependency.Condition
    CONDITION_AFTER_OK: Dependency.Condition
    CONDITION_AFTER_ANY: Dependency.Condition
    JOB_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    job: int
    condition: Dependency.Condition
    def __init__(self, job: _Optional[int] = ..., condition: _Optional[_Union[Dependency.Condition, str]] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("name", "command", "environment", "working_directory", "group", "queue", "priority", "tasks", "per_task", "gpu_type", "time_limit_s", "grace_s", "checkpoint_interval_s", "max_retries", "retry_backoff_s", "dependencies", "begin_unix_s", "deadline_unix_s", "preemptible", "no_requeue", "stop_signal", "run_as", "model_class")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    PER_TASK_FIELD_NUMBER: _ClassVar[int]
    GPU_TYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_LIMIT_S_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    MAX_RETRIES_FIELD_NUMBER: _ClassVar[int]
    RETRY_BACKOFF_S_FIELD_NUMBER: _ClassVar[int]
    DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    BEGIN_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    PREEMPTIBLE_FIELD_NUMBER: _ClassVar[int]
    NO_REQUEUE_FIELD_NUMBER: _ClassVar[int]
    STOP_SIGNAL_FIELD_NUMBER: _ClassVar[int]
    RUN_AS_FIELD_NUMBER: _ClassVar[int]
    MODEL_CLASS_FIELD_NUMBER: _ClassVar[int]
    name: str
    command: _containers.RepeatedScalarFieldContainer[str]
    environment: _containers.ScalarMap[str, str]
    working_directory: str
    group: str
    queue: str
    priority: int
    tasks: int
    per_task: Resources
    gpu_type: str
    time_limit_s: float
    grace_s: float
    checkpoint_interval_s: float
    max_retries: int
    retry_backoff_s: float
    dependencies: _containers.RepeatedCompositeFieldContainer[Dependency]
    begin_unix_s: float
    deadline_unix_s: float
    preemptible: bool
    no_requeue: bool
    stop_signal: str
    run_as: str
    model_class: str
    def __init__(self, name: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., environment: _Optional[_Mapping[str, str]] = ..., working_directory: _Optional[str] = ..., group: _Optional[str] = ..., queue: _Optional[str] = ..., priority: _Optional[int] = ..., tasks: _Optional[int] = ..., per_task: _Optional[_Union[Resources, _Mapping]] = ..., gpu_type: _Optional[str] = ..., time_limit_s: _Optional[float] = ..., grace_s: _Optional[float] = ..., checkpoint_interval_s: _Optional[float] = ..., max_retries: _Optional[int] = ..., retry_backoff_s: _Optional[float] = ..., dependencies: _Optional[_Iterable[_Union[Dependency, _Mapping]]] = ..., begin_unix_s: _Optional[float] = ..., deadline_unix_s: _Optional[float] = ..., preemptible: _Optional[bool] = ..., no_requeue: _Optional[bool] = ..., stop_signal: _Optional[str] = ..., run_as: _Optional[str] = ..., model_class: _Optional[str] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("node", "tasks", "gpus", "first_slice")
    NODE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SLICE_FIELD_NUMBER: _ClassVar[int]
    node: str
    tasks: int
    gpus: _containers.RepeatedScalarFieldContainer[int]
    first_slice: int
    def __init__(self, node: _Optional[str] = ..., tasks: _Optional[int] = ..., gpus: _Optional[_Iterable[int]] = ..., first_slice: _Optional[int] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("number", "placement", "assigned_unix_s", "start_unix_s", "end_unix_s", "exit_code", "cause", "message")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    START_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    END_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    number: int
    placement: _containers.RepeatedCompositeFieldContainer[Placement]
    assigned_unix_s: float
    start_unix_s: float
    end_unix_s: float
    exit_code: int
    cause: str
    message: str
    def __init__(self, number: _Optional[int] = ..., placement: _Optional[_Iterable[_Union[Placement, _Mapping]]] = ..., assigned_unix_s: _Optional[float] = ..., start_unix_s: _Optional[float] = ..., end_unix_s: _Optional[float] = ..., exit_code: _Optional[int] = ..., cause: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "user", "state", "reason", "spec", "submit_unix_s", "start_unix_s", "end_unix_s", "exit_code", "attempts", "array", "array_index", "version")
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    START_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    END_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    ARRAY_INDEX_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    id: int
    user: str
    state: JobState
    reason: str
    spec: JobSpec
    submit_unix_s: float
    start_unix_s: float
    end_unix_s: float
    exit_code: int
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    array: int
    array_index: int
    version: int
    def __init__(self, id: _Optional[int] = ..., user: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., reason: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., submit_unix_s: _Optional[float] = ..., start_unix_s: _Optional[float] = ..., end_unix_s: _Optional[float] = ..., exit_code: _Optional[int] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., array: _Optional[int] = ..., array_index: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("number", "at_unix_s", "kind", "job", "last_job", "attempt", "node", "cause", "message", "state")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    LAST_JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    number: int
    at_unix_s: float
    kind: str
    job: int
    last_job: int
    attempt: int
    node: str
    cause: int
    message: str
    state: JobState
    def __init__(self, number: _Optional[int] = ..., at_unix_s: _Optional[float] = ..., kind: _Optional[str] = ..., job: _Optional[int] = ..., last_job: _Optional[int] = ..., attempt: _Optional[int] = ..., node: _Optional[str] = ..., cause: _Optional[int] = ..., message: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ...) -> None: ...
