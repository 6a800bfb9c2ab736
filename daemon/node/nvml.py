"""What NVML says of the GPUs, as messages. Every call may hang or fail: see ``gpu_watch`` for who calls these.

Sources: the NVML API reference of NVIDIA; nvidia-ml-py, which loads ``libnvidia-ml.so.1`` when it is initialised.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pynvml

from shunter.daemon.pb import nodes_pb2

GIB = 2.0**30
UNKNOWN = 0xFFFFFFFFFFFFFFFF
MAX_LINKS = 18
_pb: Any = nodes_pb2
GONE = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED)
FAULTS = {pynvml.NVML_ERROR_GPU_IS_LOST: "lost", pynvml.NVML_ERROR_RESET_REQUIRED: "reset-required"}
UNSUPPORTED = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
)
NONE = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no-library",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "no-driver",
    pynvml.NVML_ERROR_NO_PERMISSION: "no-permission",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "version-mismatch",
}


class NvmlAbsentError(Exception):
    """Nothing can be asked of any GPU; the message is a word that says why."""


class GpuFaultError(Exception):
    """A GPU no longer answers; the message is a word that says how."""


@dataclass(frozen=True, slots=True)
class Xid:
    """An error that the driver has reported of a GPU; the number is explained in NVIDIA's list of Xids."""

    gpu: int
    number: int


def start() -> str:
    """Load the library; returns the driver's version.

    Raises:
        NvmlAbsentError: It cannot be used.
    """
    try:
        pynvml.nvmlInit()
        return _text(pynvml.nvmlSystemGetDriverVersion()) if _has("nvmlSystemGetDriverVersion") else ""
    except pynvml.NVMLError as error:
        raise NvmlAbsentError(NONE.get(error.value, _word(error))) from error


def stop() -> None:
    """Let go of the library, so that it can be started anew."""
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()


def count() -> int:
    """GPUs that there are.

    Raises:
        NvmlAbsentError: Nobody knows.
    """
    try:
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError as error:
        raise NvmlAbsentError(NONE.get(error.value, _word(error))) from error


def describe(index: int) -> Any:
    """A GPU as it does not change while the machine runs.

    Raises:
        GpuFaultError: It does not answer.
    """
    with _asked():
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        description = _pb.GpuDescription(index=index, uuid=_text(pynvml.nvmlDeviceGetUUID(handle)))
        _put(description, "name", lambda: _text(pynvml.nvmlDeviceGetName(handle)))
        _put(description, "memory_gib", lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIB)
        for instance in _instances(handle):
            one = description.instances.add(uuid=_text(pynvml.nvmlDeviceGetUUID(instance)))
            _put(one, "profile", partial(_profile, instance))
            one.first_slice = _first_slice(handle, instance)  # without it nobody could say which one is meant
        return description


def sample(index: int) -> Any:
    """A GPU as it is now; what it does not support is absent.

    Raises:
        GpuFaultError: It does not answer.
    """
    with _asked():
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        found = _pb.GpuSample(index=index)
        errors = [_put(found, name, partial(read, handle)) for name, read in _READERS.items()]
        grave = next((error for error in errors if error is not None and error.value not in UNSUPPORTED), None)
        if grave is not None and len(found.ListFields()) <= 1:  # nothing but the index: it does not answer at all
            raise grave
        _add_processes(found, handle)
        for instance in _instances(handle):
            one = found.instances.add(uuid=_text(pynvml.nvmlDeviceGetUUID(instance)))
            _put(one, "memory_used_gib", partial(_READERS["memory_used_gib"], instance))
        return found


def watch_xids(gpus: int) -> Callable[[int], Xid | None] | None:
    """A function that waits so many milliseconds for the next Xid of any GPU; None where no GPU tells of them.

    Raises:
        GpuFaultError: NVML fails.
    """
    with _asked():
        events = pynvml.nvmlEventSetCreate()
        index_of: dict[str, int] = {}
        for index in range(gpus):
            with contextlib.suppress(pynvml.NVMLError):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
                index_of[_text(pynvml.nvmlDeviceGetUUID(handle))] = index
        if not index_of:
            return None

    def wait(milliseconds: int) -> Xid | None:
        with _asked():
            try:
                event = pynvml.nvmlEventSetWait(events, milliseconds)
            except pynvml.NVMLError as error:
                if error.value == pynvml.NVML_ERROR_TIMEOUT:
                    return None
                raise
            uuid = _text(pynvml.nvmlDeviceGetUUID(event.device))
            return Xid(index_of.get(uuid, 0), int(event.eventData))

    return wait


# --- single values ---------------------------------------------------------------------------------------------------


def _throttle_reasons(handle: Any) -> int:
    with contextlib.suppress(pynvml.NVMLError):
        return int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    return int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))  # the older name, for older drivers


def _ecc(kind: int) -> Callable[[Any], int]:
    return lambda handle: int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, pynvml.NVML_VOLATILE_ECC))


def _retired_pages(handle: Any) -> int:
    causes = (
        pynvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
        pynvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    )
    return sum(len(pynvml.nvmlDeviceGetRetiredPages(handle, cause)) for cause in causes)


def _remapped_rows(handle: Any) -> int:
    correctable, uncorrectable, _, _ = pynvml.nvmlDeviceGetRemappedRows(handle)
    return int(correctable + uncorrectable)


def _nvlink_errors(handle: Any) -> int | None:
    """Errors of all links and kinds together; None without links."""
    kinds = (
        pynvml.NVML_NVLINK_ERROR_DL_REPLAY,
        pynvml.NVML_NVLINK_ERROR_DL_RECOVERY,
        pynvml.NVML_NVLINK_ERROR_DL_CRC_FLIT,
        pynvml.NVML_NVLINK_ERROR_DL_CRC_DATA,
    )
    total, links = 0, 0
    for link in range(MAX_LINKS):
        try:
            for kind in kinds:
                total += int(pynvml.nvmlDeviceGetNvLinkErrorCounter(handle, link, kind))
        except pynvml.NVMLError as error:
            if error.value in GONE:
                raise
            if error.value in (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND):
                break
            continue  # this link is not there, or not in use
        links += 1
    return total if links else None


_READERS: dict[str, Callable[[Any], Any]] = {
    "utilisation": lambda handle: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0,
    "memory_used_gib": lambda handle: pynvml.nvmlDeviceGetMemoryInfo(handle).used / GIB,
    "temperature_c": lambda handle: float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
    "power_w": lambda handle: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000.0,
    "sm_clock_mhz": lambda handle: float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
    "throttle_reasons": _throttle_reasons,
    "ecc_corrected": _ecc(pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
    "ecc_uncorrected": _ecc(pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
    "retired_pages": _retired_pages,
    "remapped_rows": _remapped_rows,
    "remapping_failed": lambda handle: bool(pynvml.nvmlDeviceGetRemappedRows(handle)[3]),
    "nvlink_errors": _nvlink_errors,
    "pcie_replays": lambda handle: int(pynvml.nvmlDeviceGetPcieReplayCounter(handle)),
}


def _add_processes(found: Any, handle: Any) -> None:
    try:
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError as error:
        if error.value in GONE:
            raise
        return
    for process in processes:
        one = found.processes.add(pid=process.pid)
        used = process.usedGpuMemory
        if used is not None and used != UNKNOWN:
            one.memory_gib = used / GIB


def _instances(handle: Any) -> Iterator[Any]:
    """MIG instances; none where MIG is off or unknown."""
    try:
        if pynvml.nvmlDeviceGetMigMode(handle)[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return
        most = int(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    except pynvml.NVMLError as error:
        if error.value in GONE:
            raise
        return
    for index in range(most):
        try:
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except pynvml.NVMLError as error:
            if error.value in GONE:
                raise
            # NOT_FOUND: the places of instances that have been removed are left free


def _profile(instance: Any) -> str:
    """``3g.20gb`` from a name such as ``NVIDIA A100-SXM4-40GB MIG 3g.20gb``."""
    return _text(pynvml.nvmlDeviceGetName(instance)).rpartition("MIG ")[2]


def _first_slice(handle: Any, instance: Any) -> int:
    number = pynvml.nvmlDeviceGetGpuInstanceId(instance)
    return int(pynvml.nvmlGpuInstanceGetInfo(pynvml.nvmlDeviceGetGpuInstanceById(handle, number)).placement.start)


def _put(message: Any, name: str, read: Callable[[], Any]) -> Any:
    """Set a field, or return the error if it cannot be read; a GPU that is gone is not a value that is missing."""
    try:
        value = read()
    except pynvml.NVMLError as error:
        if error.value in GONE:
            raise
        return error
    if value is not None:
        setattr(message, name, value)
    return None


@contextlib.contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except pynvml.NVMLError as error:
        raise GpuFaultError(FAULTS.get(error.value, _word(error))) from error


def _word(error: Any) -> str:
    return f"nvml-error-{error.value}"


def _has(name: str) -> bool:
    try:
        pynvml._nvmlGetFunctionPointer(name)
    except pynvml.NVMLError:
        return False
    return True


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
