from shunter.daemon.pb import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ArrayRange(_message.Message):
    __slots__ = ("first", "last", "step", "max_running")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    step: int
    max_running: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., step: _Optional[int] = ..., max_running: _Optional[int] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("spec", "idempotency_key", "array")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    spec: _common_pb2.JobSpec
    idempotency_key: str
    array: ArrayRange
    def __init__(self, spec: _Optional[_Union[_common_pb2.JobSpec, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., array: _Optional[_Union[ArrayRange, _Mapping]] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("job", "count", "repeated_call")
    JOB_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    REPEATED_CALL_FIELD_NUMBER: _ClassVar[int]
    job: int
    count: int
    repeated_call: bool
    def __init__(self, job: _Optional[int] = ..., count: _Optional[int] = ..., repeated_call: _Optional[bool] = ...) -> None: ...

class SubmitBatchRequest(_message.Message):
    __slots__ = ("specs", "idempotency_key")
    SPECS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    specs: _containers.RepeatedCompositeFieldContainer[_common_pb2.JobSpec]
    idempotency_key: str
    def __init__(self, specs: _Optional[_Iterable[_Union[_common_pb2.JobSpec, _Mapping]]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class SubmitBatchResponse(_message.Message):
    __slots__ = ("first_job", "count", "repeated_call")
    FIRST_JOB_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    REPEATED_CALL_FIELD_NUMBER: _ClassVar[int]
    first_job: int
    count: int
    repeated_call: bool
    def __init__(self, first_job: _Optional[int] = ..., count: _Optional[int] = ..., repeated_call: _Optional[bool] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("jobs", "whole_array", "reason")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    WHOLE_ARRAY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedScalarFieldContainer[int]
    whole_array: bool
    reason: str
    def __init__(self, jobs: _Optional[_Iterable[int]] = ..., whole_array: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ("cancelled", "ended")
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    cancelled: _containers.RepeatedScalarFieldContainer[int]
    ended: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, cancelled: _Optional[_Iterable[int]] = ..., ended: _Optional[_Iterable[int]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: int
    def __init__(self, job: _Optional[int] = ...) -> None: ...

class JobFilter(_message.Message):
    __slots__ = ("states", "user", "queue", "group", "name", "array", "node")
    STATES_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedScalarFieldContainer[_common_pb2.JobState]
    user: str
    queue: str
    group: str
    name: str
    array: int
    node: str
    def __init__(self, states: _Optional[_Iterable[_Union[_common_pb2.JobState, str]]] = ..., user: _Optional[str] = ..., queue: _Optional[str] = ..., group: _Optional[str] = ..., name: _Optional[str] = ..., array: _Optional[int] = ..., node: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("filter", "page_size", "page_token")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    filter: JobFilter
    page_size: int
    page_token: str
    def __init__(self, filter: _Optional[_Union[JobFilter, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[_common_pb2.Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[_common_pb2.Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("after", "jobs", "user", "until_now")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    UNTIL_NOW_FIELD_NUMBER: _ClassVar[int]
    after: int
    jobs: _containers.RepeatedScalarFieldContainer[int]
    user: str
    until_now: bool
    def __init__(self, after: _Optional[int] = ..., jobs: _Optional[_Iterable[int]] = ..., user: _Optional[str] = ..., until_now: _Optional[bool] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("events", "up_to")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    UP_TO_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_common_pb2.Event]
    up_to: int
    def __init__(self, events: _Optional[_Iterable[_Union[_common_pb2.Event, _Mapping]]] = ..., up_to: _Optional[int] = ...) -> None: ...

class ReprioritiseRequest(_message.Message):
    __slots__ = ("jobs", "priority")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedScalarFieldContainer[int]
    priority: int
    def __init__(self, jobs: _Optional[_Iterable[int]] = ..., priority: _Optional[int] = ...) -> None: ...

class ReprioritiseResponse(_message.Message):
    __slots__ = ("changed",)
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    changed: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, changed: _Optional[_Iterable[int]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: int
    def __init__(self, job: _Optional[int] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("job", "state", "reason", "sentence", "place", "queue_length", "ahead", "policy", "guard", "heuristic_place", "contributions", "start", "reserved_unix_s")
    JOB_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    GUARD_FIELD_NUMBER: _ClassVar[int]
    HEURISTIC_PLACE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    RESERVED_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    job: int
    state: _common_pb2.JobState
    reason: str
    sentence: str
    place: int
    queue_length: int
    ahead: _containers.RepeatedScalarFieldContainer[int]
    policy: str
    guard: str
    heuristic_place: int
    contributions: _containers.RepeatedCompositeFieldContainer[Contribution]
    start: StartEstimate
    reserved_unix_s: float
    def __init__(self, job: _Optional[int] = ..., state: _Optional[_Union[_common_pb2.JobState, str]] = ..., reason: _Optional[str] = ..., sentence: _Optional[str] = ..., place: _Optional[int] = ..., queue_length: _Optional[int] = ..., ahead: _Optional[_Iterable[int]] = ..., policy: _Optional[str] = ..., guard: _Optional[str] = ..., heuristic_place: _Optional[int] = ..., contributions: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., start: _Optional[_Union[StartEstimate, _Mapping]] = ..., reserved_unix_s: _Optional[float] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("feature", "value", "mean", "change")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    feature: str
    value: float
    mean: float
    change: float
    def __init__(self, feature: _Optional[str] = ..., value: _Optional[float] = ..., mean: _Optional[float] = ..., change: _Optional[float] = ...) -> None: ...

class StartEstimate(_message.Message):
    __slots__ = ("low_unix_s", "median_unix_s", "high_unix_s", "told")
    LOW_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    HIGH_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    TOLD_FIELD_NUMBER: _ClassVar[int]
    low_unix_s: float
    median_unix_s: float
    high_unix_s: float
    told: str
    def __init__(self, low_unix_s: _Optional[float] = ..., median_unix_s: _Optional[float] = ..., high_unix_s: _Optional[float] = ..., told: _Optional[str] = ...) -> None: ...

class EstimateStartRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: int
    def __init__(self, job: _Optional[int] = ...) -> None: ...

class EstimateStartResponse(_message.Message):
    __slots__ = ("start",)
    START_FIELD_NUMBER: _ClassVar[int]
    start: StartEstimate
    def __init__(self, start: _Optional[_Union[StartEstimate, _Mapping]] = ...) -> None: ...

class ReadLogsRequest(_message.Message):
    __slots__ = ("job", "attempt", "task", "tail_bytes", "follow")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TAIL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    job: int
    attempt: int
    task: int
    tail_bytes: int
    follow: bool
    def __init__(self, job: _Optional[int] = ..., attempt: _Optional[int] = ..., task: _Optional[int] = ..., tail_bytes: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class LogChunk(_message.Message):
    __slots__ = ("node", "task", "offset", "data", "missing")
    NODE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    node: str
    task: int
    offset: int
    data: bytes
    missing: int
    def __init__(self, node: _Optional[str] = ..., task: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., missing: _Optional[int] = ...) -> None: ...
