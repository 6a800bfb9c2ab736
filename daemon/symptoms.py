"""From telemetry to events of the health machine: only what may mean something, so that a sample in which nothing is
wrong costs microseconds.
"""

from __future__ import annotations

from shunter.daemon.health import HW_THERMAL_SLOWDOWN
from shunter.daemon.health_facts import Event, GpuMemory, GpuSeen, Health, Memory, NvmlSeen
from shunter.daemon.health_rules import FailoverRules
from shunter.daemon.pb.nodes_pb2 import GpuSample, NodeSample

UNKNOWN = GpuMemory()


def symptoms(said: NodeSample, whole: NodeSample, memory: Memory, rules: FailoverRules) -> list[Event]:
    """Events of one sample.

    Args:
        said: As the agent sent it: what happened once (Xids) counts only here.
        whole: The same with what it left out because it was as before.
        memory: Of the node.
        rules: Thresholds.
    """
    events: list[Event] = []
    if not memory.num_gpus:
        return events
    fault = said.nvml or ("" if said.gpus else whole.nvml)
    if fault or memory.silent:
        events.append(NvmlSeen(fault))
    known = memory.gpus
    matter, limit_c = list[int](), rules.thermal_limit_c
    for gpu in said.gpus:  # written out: this runs for every GPU of every sample
        before = known.get(gpu.index, UNKNOWN)
        if (
            gpu.temperature_c >= limit_c
            or gpu.ecc_uncorrected != before.ecc
            or gpu.retired_pages + gpu.remapped_rows != before.retired
            or gpu.throttle_reasons & HW_THERMAL_SLOWDOWN
            or gpu.remapping_failed
            or gpu.fault
            or gpu.xids
        ) and _matters(gpu, before, limit_c):
            matter.append(gpu.index)
    watched = [i for i, gpu in known.items() if gpu.hot or gpu.silent or gpu.state is not Health.HEALTHY]
    if matter or watched:
        fresh = {gpu.index for gpu in said.gpus}
        levels = {gpu.index: gpu for gpu in whole.gpus}
        chosen = sorted(levels.keys() & {*matter, *watched})
        events += [_seen(levels[index], is_fresh=index in fresh) for index in chosen]
    return events


def _matters(gpu: GpuSample, before: GpuMemory, limit_c: float) -> bool:
    """Whether it is more than a counter that reads 0 because the agent did not tell it."""
    return bool(
        (gpu.ecc_uncorrected != before.ecc and gpu.HasField("ecc_uncorrected"))
        or _retired(gpu) not in (None, before.retired)
        or gpu.temperature_c >= limit_c
        or gpu.throttle_reasons & HW_THERMAL_SLOWDOWN
        or gpu.remapping_failed
        or gpu.fault
        or gpu.xids
    )


def _retired(gpu: GpuSample) -> int | None:
    """Memory pages retired, or rows remapped: a GPU has the one or the other."""
    pages, rows = gpu.HasField("retired_pages"), gpu.HasField("remapped_rows")
    return gpu.retired_pages + gpu.remapped_rows if pages or rows else None


def _seen(gpu: GpuSample, *, is_fresh: bool) -> GpuSeen:
    """A GPU's whole sample as an event; where the agent said nothing new, what had happened does not happen again."""
    return GpuSeen(
        index=gpu.index,
        xids=tuple(gpu.xids) if is_fresh else (),
        ecc=gpu.ecc_uncorrected if gpu.HasField("ecc_uncorrected") else None,
        retired=_retired(gpu),
        remapping_failed=gpu.remapping_failed,
        temperature_c=gpu.temperature_c if gpu.HasField("temperature_c") else None,
        throttle=gpu.throttle_reasons,
        fault=gpu.fault,
    )
