from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeHealth(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_HEALTH_UNSPECIFIED: _ClassVar[NodeHealth]
    NODE_HEALTH_HEALTHY: _ClassVar[NodeHealth]
    NODE_HEALTH_SUSPECT: _ClassVar[NodeHealth]
    NODE_HEALTH_DRAINING: _ClassVar[NodeHealth]
    NODE_HEALTH_FAILED: _ClassVar[NodeHealth]
    NODE_HEALTH_RECOVERING: _ClassVar[NodeHealth]
NODE_HEALTH_UNSPECIFIED: NodeHealth
NODE_HEALTH_HEALTHY: NodeHealth
NODE_HEALTH_SUSPECT: NodeHealth
NODE_HEALTH_DRAINING: NodeHealth
NODE_HEALTH_FAILED: NodeHealth
NODE_HEALTH_RECOVERING: NodeHealth

class GpuDescription(_message.Message):
    __slots__ = ("index", "uuid", "name", "memory_gib", "instances")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    UUID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_GIB_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    index: int
    uuid: str
    name: str
    memory_gib: float
    instances: _containers.RepeatedCompositeFieldContainer[MigInstance]
    def __init__(self, index: _Optional[int] = ..., uuid: _Optional[str] = ..., name: _Optional[str] = ..., memory_gib: _Optional[float] = ..., instances: _Optional[_Iterable[_Union[MigInstance, _Mapping]]] = ...) -> None: ...

class MigInstance(_message.Message):
    __slots__ = ("uuid", "profile", "first_slice")
    UUID_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SLICE_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    profile: str
    first_slice: int
    def __init__(self, uuid: _Optional[str] = ..., profile: _Optional[str] = ..., first_slice: _Optional[int] = ...) -> None: ...

class NodeDescription(_message.Message):
    __slots__ = ("cpus", "memory_gib", "gpus", "gpu_type", "rack", "zone", "agent_version", "driver_version", "boot_id")
    CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_GIB_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    GPU_TYPE_FIELD_NUMBER: _ClassVar[int]
    RACK_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    DRIVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    cpus: float
    memory_gib: float
    gpus: _containers.RepeatedCompositeFieldContainer[GpuDescription]
    gpu_type: str
    rack: str
    zone: str
    agent_version: str
    driver_version: str
    boot_id: str
    def __init__(self, cpus: _Optional[float] = ..., memory_gib: _Optional[float] = ..., gpus: _Optional[_Iterable[_Union[GpuDescription, _Mapping]]] = ..., gpu_type: _Optional[str] = ..., rack: _Optional[str] = ..., zone: _Optional[str] = ..., agent_version: _Optional[str] = ..., driver_version: _Optional[str] = ..., boot_id: _Optional[str] = ...) -> None: ...

class HeldAttempt(_message.Message):
    __slots__ = ("job", "attempt", "phase")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    job: int
    attempt: int
    phase: str
    def __init__(self, job: _Optional[int] = ..., attempt: _Optional[int] = ..., phase: _Optional[str] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("node", "description", "held", "instance", "state_id")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STATE_ID_FIELD_NUMBER: _ClassVar[int]
    node: str
    description: NodeDescription
    held: _containers.RepeatedCompositeFieldContainer[HeldAttempt]
    instance: str
    state_id: str
    def __init__(self, node: _Optional[str] = ..., description: _Optional[_Union[NodeDescription, _Mapping]] = ..., held: _Optional[_Iterable[_Union[HeldAttempt, _Mapping]]] = ..., instance: _Optional[str] = ..., state_id: _Optional[str] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("registration", "fencing_token", "heartbeat_s", "lease_s", "telemetry_s")
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_S_FIELD_NUMBER: _ClassVar[int]
    registration: int
    fencing_token: int
    heartbeat_s: float
    lease_s: float
    telemetry_s: float
    def __init__(self, registration: _Optional[int] = ..., fencing_token: _Optional[int] = ..., heartbeat_s: _Optional[float] = ..., lease_s: _Optional[float] = ..., telemetry_s: _Optional[float] = ...) -> None: ...

class GpuSample(_message.Message):
    __slots__ = ("index", "utilisation", "memory_used_gib", "temperature_c", "power_w", "sm_clock_mhz", "throttle_reasons", "ecc_corrected", "ecc_uncorrected", "retired_pages", "remapped_rows", "remapping_failed", "nvlink_errors", "pcie_replays", "xids", "processes", "instances", "fault")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    UTILISATION_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_GIB_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    POWER_W_FIELD_NUMBER: _ClassVar[int]
    SM_CLOCK_MHZ_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_REASONS_FIELD_NUMBER: _ClassVar[int]
    ECC_CORRECTED_FIELD_NUMBER: _ClassVar[int]
    ECC_UNCORRECTED_FIELD_NUMBER: _ClassVar[int]
    RETIRED_PAGES_FIELD_NUMBER: _ClassVar[int]
    REMAPPED_ROWS_FIELD_NUMBER: _ClassVar[int]
    REMAPPING_FAILED_FIELD_NUMBER: _ClassVar[int]
    NVLINK_ERRORS_FIELD_NUMBER: _ClassVar[int]
    PCIE_REPLAYS_FIELD_NUMBER: _ClassVar[int]
    XIDS_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    index: int
    utilisation: float
    memory_used_gib: float
    temperature_c: float
    power_w: float
    sm_clock_mhz: float
    throttle_reasons: int
    ecc_corrected: int
    ecc_uncorrected: int
    retired_pages: int
    remapped_rows: int
    remapping_failed: bool
    nvlink_errors: int
    pcie_replays: int
    xids: _containers.RepeatedScalarFieldContainer[int]
    processes: _containers.RepeatedCompositeFieldContainer[GpuProcess]
    instances: _containers.RepeatedCompositeFieldContainer[MigSample]
    fault: str
    def __init__(self, index: _Optional[int] = ..., utilisation: _Optional[float] = ..., memory_used_gib: _Optional[float] = ..., temperature_c: _Optional[float] = ..., power_w: _Optional[float] = ..., sm_clock_mhz: _Optional[float] = ..., throttle_reasons: _Optional[int] = ..., ecc_corrected: _Optional[int] = ..., ecc_uncorrected: _Optional[int] = ..., retired_pages: _Optional[int] = ..., remapped_rows: _Optional[int] = ..., remapping_failed: _Optional[bool] = ..., nvlink_errors: _Optional[int] = ..., pcie_replays: _Optional[int] = ..., xids: _Optional[_Iterable[int]] = ..., processes: _Optional[_Iterable[_Union[GpuProcess, _Mapping]]] = ..., instances: _Optional[_Iterable[_Union[MigSample, _Mapping]]] = ..., fault: _Optional[str] = ...) -> None: ...

class GpuProcess(_message.Message):
    __slots__ = ("pid", "memory_gib")
    PID_FIELD_NUMBER: _ClassVar[int]
    MEMORY_GIB_FIELD_NUMBER: _ClassVar[int]
    pid: int
    memory_gib: float
    def __init__(self, pid: _Optional[int] = ..., memory_gib: _Optional[float] = ...) -> None: ...

class MigSample(_message.Message):
    __slots__ = ("uuid", "memory_used_gib")
    UUID_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_GIB_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    memory_used_gib: float
    def __init__(self, uuid: _Optional[str] = ..., memory_used_gib: _Optional[float] = ...) -> None: ...

class NodeSample(_message.Message):
    __slots__ = ("at_unix_s", "cpu_utilisation", "memory_used_gib", "disk_free_gib", "network_rx_bytes_per_s", "network_tx_bytes_per_s", "gpus", "nvml", "is_change")
    AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    CPU_UTILISATION_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_GIB_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_GIB_FIELD_NUMBER: _ClassVar[int]
    NETWORK_RX_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    NETWORK_TX_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    NVML_FIELD_NUMBER: _ClassVar[int]
    IS_CHANGE_FIELD_NUMBER: _ClassVar[int]
    at_unix_s: float
    cpu_utilisation: float
    memory_used_gib: float
    disk_free_gib: float
    network_rx_bytes_per_s: float
    network_tx_bytes_per_s: float
    gpus: _containers.RepeatedCompositeFieldContainer[GpuSample]
    nvml: str
    is_change: bool
    def __init__(self, at_unix_s: _Optional[float] = ..., cpu_utilisation: _Optional[float] = ..., memory_used_gib: _Optional[float] = ..., disk_free_gib: _Optional[float] = ..., network_rx_bytes_per_s: _Optional[float] = ..., network_tx_bytes_per_s: _Optional[float] = ..., gpus: _Optional[_Iterable[_Union[GpuSample, _Mapping]]] = ..., nvml: _Optional[str] = ..., is_change: _Optional[bool] = ...) -> None: ...

class TelemetryBatch(_message.Message):
    __slots__ = ("node", "registration", "samples")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    node: str
    registration: int
    samples: _containers.RepeatedCompositeFieldContainer[NodeSample]
    def __init__(self, node: _Optional[str] = ..., registration: _Optional[int] = ..., samples: _Optional[_Iterable[_Union[NodeSample, _Mapping]]] = ...) -> None: ...

class TelemetryResponse(_message.Message):
    __slots__ = ("samples",)
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    samples: int
    def __init__(self, samples: _Optional[int] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "description", "health", "reason", "is_drained", "drain_deadline_unix_s", "last_heartbeat_unix_s", "jobs", "cpus_used", "memory_used_gib", "gpus_used", "failed_gpus", "telemetry")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IS_DRAINED_FIELD_NUMBER: _ClassVar[int]
    DRAIN_DEADLINE_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    LAST_HEARTBEAT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    CPUS_USED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_GIB_FIELD_NUMBER: _ClassVar[int]
    GPUS_USED_FIELD_NUMBER: _ClassVar[int]
    FAILED_GPUS_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: NodeDescription
    health: NodeHealth
    reason: str
    is_drained: bool
    drain_deadline_unix_s: float
    last_heartbeat_unix_s: float
    jobs: _containers.RepeatedScalarFieldContainer[int]
    cpus_used: float
    memory_used_gib: float
    gpus_used: float
    failed_gpus: _containers.RepeatedScalarFieldContainer[int]
    telemetry: NodeSample
    def __init__(self, name: _Optional[str] = ..., description: _Optional[_Union[NodeDescription, _Mapping]] = ..., health: _Optional[_Union[NodeHealth, str]] = ..., reason: _Optional[str] = ..., is_drained: _Optional[bool] = ..., drain_deadline_unix_s: _Optional[float] = ..., last_heartbeat_unix_s: _Optional[float] = ..., jobs: _Optional[_Iterable[int]] = ..., cpus_used: _Optional[float] = ..., memory_used_gib: _Optional[float] = ..., gpus_used: _Optional[float] = ..., failed_gpus: _Optional[_Iterable[int]] = ..., telemetry: _Optional[_Union[NodeSample, _Mapping]] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes", "next_page_token")
    NODES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    next_page_token: str
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetNodeRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("node", "reason", "deadline_unix_s")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    node: str
    reason: str
    deadline_unix_s: float
    def __init__(self, node: _Optional[str] = ..., reason: _Optional[str] = ..., deadline_unix_s: _Optional[float] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, jobs: _Optional[_Iterable[int]] = ...) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
