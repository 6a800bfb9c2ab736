"""Samples made smaller: only what has changed by more than it matters since it was last told.

A value is compared with the one that was last *told*, so that many small steps in one direction are told in the end.
What a change cannot say (a value that is no longer there, a fault that has gone, another set of processes) makes the
sample a whole one.
"""

from __future__ import annotations

from typing import Any

from shunter.daemon.pb import nodes_pb2

WHOLE_EVERY = 12
_pb: Any = nodes_pb2
DEAD_BANDS = {
    "cpu_utilisation": 0.02,
    "memory_used_gib": 1 / 16,
    "disk_free_gib": 0.25,
    "utilisation": 0.02,
    "temperature_c": 1.5,
    "power_w": 5.0,
    "sm_clock_mhz": 30.0,
}
"""A change up to this much is not told, in the field's unit. Counters, fault flags and reasons have none."""
RELATIVE = {"network_rx_bytes_per_s": (0.05, 4096.0), "network_tx_bytes_per_s": (0.05, 4096.0)}
"""(ratio, least amount)"""
REPEATED = ("gpus", "xids", "processes", "instances")
ALWAYS = ("at_unix_s", "index", "is_change")


class Compressor:
    """Turns samples into what is sent of them, one after the other."""

    def __init__(self) -> None:
        self._told: Any = None
        self._count = 0

    def reset(self) -> None:
        """The next sample is told whole."""
        self._told = None

    def compress(self, sample: Any) -> Any:
        """The sample as it is sent: whole, or its changes."""
        self._count += 1
        change = None if self._told is None or self._count >= WHOLE_EVERY else self._change(sample)
        if change is None:
            self._told = _pb.NodeSample()
            self._told.CopyFrom(sample)
            for gpu in self._told.gpus:
                del gpu.xids[:]
            self._count = 0
            return sample
        return change

    def _change(self, sample: Any) -> Any | None:
        told = self._told
        if sample.nvml != told.nvml or len(sample.gpus) != len(told.gpus):
            return None
        change = _pb.NodeSample(at_unix_s=sample.at_unix_s, is_change=True)
        if not _scalars(sample, told, change):
            return None
        for gpu, before in zip(sample.gpus, told.gpus, strict=True):
            part = _pb.GpuSample(index=gpu.index)
            if gpu.index != before.index or gpu.fault != before.fault or not _lists(gpu, before, part):
                return None
            if not _scalars(gpu, before, part):
                return None
            part.xids.extend(gpu.xids)
            if part.ByteSize() > _pb.GpuSample(index=gpu.index).ByteSize():
                change.gpus.append(part)
        return change


def _scalars(now: Any, told: Any, change: Any) -> bool:
    """Put fields that have changed into ``change`` and ``told``; False: one is gone, which a change cannot say."""
    for field in now.DESCRIPTOR.fields:
        name = field.name
        if name in REPEATED or name in ALWAYS or not field.has_presence:
            continue
        if not now.HasField(name):
            if told.HasField(name):
                return False
            continue
        value = getattr(now, name)
        if not told.HasField(name) or _differs(name, value, getattr(told, name)):
            setattr(change, name, value)
            setattr(told, name, value)
    return True


def _differs(name: str, value: float, before: float) -> bool:
    if name in RELATIVE:
        ratio, least = RELATIVE[name]
        return abs(value - before) > max(ratio * before, least)
    return abs(value - before) > DEAD_BANDS.get(name, 0.0)


def _lists(gpu: Any, before: Any, part: Any) -> bool:
    """Processes and instances: all of them again when one has changed its memory; False when there are others."""
    for name, key in (("processes", "pid"), ("instances", "uuid")):
        now, told = getattr(gpu, name), getattr(before, name)
        if [getattr(one, key) for one in now] != [getattr(one, key) for one in told]:
            return False
        field = "memory_gib" if name == "processes" else "memory_used_gib"
        band = DEAD_BANDS["memory_used_gib"]
        if any(abs(getattr(a, field) - getattr(b, field)) > band for a, b in zip(now, told, strict=True)):
            getattr(part, name).MergeFrom(now)
            del told[:]
            told.MergeFrom(now)
    return True
