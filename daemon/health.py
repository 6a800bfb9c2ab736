"""The health of a node and of each of its GPUs: ``step(memory, event, now_s, rules) -> (memory, findings)``.

Pure: no clock, no I/O, nothing of the live state. A memory is a value that travels as JSON with the node's row, so a
daemon that starts goes on exactly. What follows from a finding (jobs that are stopped, nodes that are given up within
the blast radius) is decided in ``daemon.steps.evacuation``.

A node drains for one or more *grounds*: an operator's order, half of its GPUs, a GPU off the bus, NVML gone, jobs that
fail one after the other. It rests healthy without any; silence and failure come and go without touching them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from shunter.daemon.health_facts import (
    GPU_LEGAL,
    LEGAL,
    BadEnd,
    Drain,
    Event,
    Finding,
    GoodEnd,
    GpuMemory,
    GpuSeen,
    Ground,
    Health,
    Heartbeat,
    Lost,
    Memory,
    NvmlSeen,
    Registered,
    Resume,
    Silence,
)
from shunter.daemon.health_rules import LeaseRules
from shunter.daemon.xids import Blame, judge
from shunter.scheduler.failover import NodeHistory, after_failure, after_repair

MAX_FAILURES, MAX_BAD_ENDS, MAX_NOTES = 16, 32, 8
"""Remembered of one node, or GPU, at most."""
NOTE_AGAIN_S = 600.0
"""The same Xid of the same GPU is told again after so long, when nothing follows from it."""
HW_THERMAL_SLOWDOWN = 0x40
"""Of NVML's clocks event reasons: the GPU protects itself from heat (nvmlClocksEventReasonHwThermalSlowdown)."""


def step(memory: Memory, event: Event, now_s: float, rules: LeaseRules) -> tuple[Memory, list[Finding]]:
    """What is to be remembered after an event, and what was found.

    Args:
        memory: As the last step left it.
        event: What happened.
        now_s: Now.
        rules: Thresholds.
    """
    work = _Work(memory, now_s, rules)
    _HANDLERS[type(event)](work, event)
    return work.memory, work.findings


class _Work:
    """One step under way."""

    def __init__(self, memory: Memory, now_s: float, rules: LeaseRules) -> None:
        self.memory, self.now_s, self.rules = memory, now_s, rules
        self.findings: list[Finding] = []

    def put(self, **values: Any) -> None:
        self.memory = replace(self.memory, **values)

    def turn(self, state: Health, why: str = "") -> None:
        """Another state of the node."""
        before = self.memory.state
        self.put(why=why)
        if state is not before:
            assert state in LEGAL[before], f"node: {before} → {state}"
            self.put(state=state)
            self.findings.append(Finding(f"node-{state}", self.memory.reason))

    def rest(self) -> None:
        """To where it stays when it is heard and trusted."""
        self.turn(Health.DRAINING if self.memory.grounds else Health.HEALTHY)

    def probation(self, why: str) -> None:
        """Back, but not trusted yet."""
        history = after_repair(NodeHistory(self.memory.failed_s), self.now_s, self.rules.failover.flapping)
        until_s = max(self.now_s + self.rules.probation_s, history.held_until_s)
        if history.held_until_s > self.now_s:
            why += f"; it failed {len(history.failed_s)} times of late and is held out"
        self.put(trusted_s=until_s, failed_s=history.failed_s)
        self.turn(Health.RECOVERING, f"{why}; no new work for {until_s - self.now_s:.0f} s")

    def failed(self) -> None:
        """It counts as one more failure."""
        history = after_failure(NodeHistory(self.memory.failed_s), self.now_s, self.rules.failover.flapping)
        self.put(failed_s=history.failed_s[-MAX_FAILURES:])

    def add_ground(self, ground: Ground, sentence: str) -> None:
        """It drains, for one more reason."""
        if any(name == ground for name, _ in self.memory.grounds):
            return
        self.put(grounds=(*self.memory.grounds, (ground.value, sentence)))
        if ground is not Ground.OPERATOR:
            self.failed()
        if self.memory.state in (Health.HEALTHY, Health.RECOVERING):
            self.turn(Health.DRAINING)
        elif self.memory.state is Health.DRAINING and ground is not Ground.OPERATOR:
            self.findings.append(Finding("node-draining", self.memory.reason))

    def remove_grounds(self, *grounds: Ground, why: str) -> None:
        """Something it drained for is over; when nothing is left it is on probation."""
        left = tuple((name, sentence) for name, sentence in self.memory.grounds if name not in grounds)
        if left == self.memory.grounds:
            return
        self.put(grounds=left)
        if not left and self.memory.state is Health.DRAINING:
            self.probation(why)
        elif not left:
            self.put(trusted_s=max(self.memory.trusted_s, self.now_s + self.rules.probation_s))

    # --- GPUs --------------------------------------------------------------------------------------------------------

    def gpu(self, index: int) -> GpuMemory:
        return self.memory.gpus.get(index, GpuMemory())

    def put_gpu(self, index: int, **values: Any) -> GpuMemory:
        gpu = replace(self.gpu(index), **values)
        if gpu != self.memory.gpus.get(index):
            self.put(gpus={**self.memory.gpus, index: gpu})
        return gpu

    def turn_gpu(self, index: int, state: Health, why: str = "", **values: Any) -> None:
        """Another state of a GPU; the node drains when too many are out of service."""
        before = self.gpu(index).state
        self.put_gpu(index, why=why, **values)
        if state is not before:
            assert state in GPU_LEGAL[before], f"GPU {index}: {before} → {state}"
            self.put_gpu(index, state=state)
            self.findings.append(Finding(f"gpu-{state}", why, index))
            self._count_gpus()

    def _count_gpus(self) -> None:
        memory, gone = self.memory, len(self.memory.leaving_gpus)
        if memory.num_gpus and gone >= max(self.rules.failover.node_gpu_share * memory.num_gpus, 1.0):
            self.add_ground(Ground.GPUS, f"{gone} of its {memory.num_gpus} GPUs are out of service")
        else:
            self.remove_grounds(Ground.GPUS, why="enough of its GPUs are back")

    def fail_gpu(self, index: int, why: str, *, is_fault: bool = False) -> None:
        """Out of service, at once."""
        if self.gpu(index).state is not Health.FAILED:
            self.turn_gpu(index, Health.FAILED, f"GPU {index}: {why}", is_fault=is_fault)
        elif not is_fault:
            self.put_gpu(index, is_fault=False)  # from now on only a reset brings it back

    def recover_gpu(self, index: int, why: str) -> None:
        """It is back, on probation."""
        until_s = self.now_s + self.rules.failover.gpu_probation_s
        sentence = f"GPU {index}: {why}; no new work for {self.rules.failover.gpu_probation_s:.0f} s"
        self.turn_gpu(index, Health.RECOVERING, sentence, trusted_s=until_s, is_fault=False, hot=0, cool=0, silent=0)


# --- what each event does --------------------------------------------------------------------------------------------


def _heartbeat(work: _Work, _: Heartbeat) -> None:
    memory, now_s = work.memory, work.now_s
    if memory.state is Health.SUSPECT:
        if memory.trusted_s > now_s:
            work.turn(Health.RECOVERING, f"heard again; on probation for {memory.trusted_s - now_s:.0f} s more")
        else:
            work.rest()
    elif memory.state is Health.RECOVERING and now_s >= memory.trusted_s:
        work.rest()
    for index, gpu in sorted(work.memory.gpus.items()):
        if gpu.state is Health.RECOVERING and now_s >= gpu.trusted_s:
            work.turn_gpu(index, Health.HEALTHY)


def _silence(work: _Work, event: Silence) -> None:
    if work.memory.state not in (Health.SUSPECT, Health.FAILED):
        work.turn(Health.SUSPECT, f"silent for {event.silent_s:.1f} s")


def _lost(work: _Work, event: Lost) -> None:
    if work.memory.state is not Health.FAILED:
        assert event.silent_s >= work.rules.fence_s, f"given up after {event.silent_s:.1f} s, within its lease"
        work.failed()
        work.turn(Health.FAILED, f"silent for {event.silent_s:.1f} s")


def _registered(work: _Work, event: Registered) -> None:
    work.put(num_gpus=event.num_gpus)
    work.put(gpus={index: gpu for index, gpu in work.memory.gpus.items() if index < event.num_gpus})
    before = work.memory.why
    if work.memory.state is Health.FAILED:
        work.probation(f"came back after it had failed ({before})")
    else:
        _heartbeat(work, Heartbeat())
    if event.has_booted:
        for index, gpu in sorted(work.memory.gpus.items()):
            work.put_gpu(index, ecc=-1, retired=-1)
            if gpu.state in (Health.DRAINING, Health.FAILED):
                work.recover_gpu(index, "the machine was booted")
        work.remove_grounds(Ground.BUS, Ground.NVML, why="the machine was booted")


def _gpu_seen(work: _Work, seen: GpuSeen) -> None:
    index = seen.index
    if index >= work.memory.num_gpus:
        return
    for code in seen.xids:
        _xid(work, index, code)
    _fault(work, index, seen.fault)
    if seen.fault:
        return
    before = work.gpu(index)
    if seen.ecc is not None:
        if before.ecc >= 0 and seen.ecc > before.ecc:
            work.fail_gpu(index, f"{seen.ecc - before.ecc} uncorrected ECC errors more")
        work.put_gpu(index, ecc=seen.ecc)
    if seen.retired is not None:
        if before.retired >= 0 and seen.retired > before.retired:
            message = f"GPU {index}: {seen.retired} memory pages retired or rows remapped, {before.retired} before"
            work.findings.append(Finding("gpu-noted", message, index))
        work.put_gpu(index, retired=seen.retired)
    if seen.remapping_failed:
        work.fail_gpu(index, "a memory row could not be remapped")
    _temperature(work, seen)


def _fault(work: _Work, index: int, fault: str) -> None:
    """It does not answer, or does again."""
    gpu, enough = work.gpu(index), work.rules.failover.fault_samples
    if not fault:
        if gpu.silent:
            work.put_gpu(index, silent=0)
        if gpu.state is Health.SUSPECT and not gpu.hot:
            work.turn_gpu(index, Health.HEALTHY)
        elif gpu.state is Health.FAILED and gpu.is_fault:
            work.recover_gpu(index, "answers again")
        return
    if gpu.state is Health.FAILED:
        return
    silent = work.put_gpu(index, silent=gpu.silent + 1).silent
    if fault == "lost" or silent >= enough:
        work.fail_gpu(index, f"does not answer ({fault[:80]})", is_fault=True)
    elif gpu.state is Health.HEALTHY:
        work.turn_gpu(index, Health.SUSPECT, f"GPU {index}: does not answer ({fault[:80]})")


def _xid(work: _Work, index: int, code: int) -> None:
    rules = work.rules.failover
    sentence, blame = judge(code, rules.fatal_xids, rules.ignored_xids)
    if blame in (Blame.GPU, Blame.NODE):
        work.fail_gpu(index, sentence)
        if blame is Blame.NODE:
            work.add_ground(Ground.BUS, f"GPU {index}: {sentence}; the machine has to be booted")
        return
    gpu = work.gpu(index)
    if any(noted == code and work.now_s - at_s < NOTE_AGAIN_S for noted, at_s in gpu.noted):
        return
    others = tuple(note for note in gpu.noted if note[0] != code)[1 - MAX_NOTES :]
    work.put_gpu(index, noted=(*others, (code, work.now_s)))
    blamed = " (the application)" if blame is Blame.APPLICATION else ""
    work.findings.append(Finding("gpu-noted", f"GPU {index}: {sentence}{blamed}", index))


def _temperature(work: _Work, seen: GpuSeen) -> None:
    rules, index, gpu = work.rules.failover, seen.index, work.gpu(seen.index)
    degrees = -273.0 if seen.temperature_c is None else seen.temperature_c
    throttles = bool(seen.throttle & HW_THERMAL_SLOWDOWN)
    told = f"GPU {index}: " + ("slows down because of heat" if throttles else "too hot")
    told += f" ({degrees:.0f} °C)" if seen.temperature_c is not None else ""
    if gpu.state is Health.FAILED:
        return
    if gpu.state is Health.DRAINING:
        is_cool = degrees <= rules.thermal_limit_c - rules.thermal_hysteresis_c and not throttles
        cool = work.put_gpu(index, cool=gpu.cool + 1 if is_cool else 0).cool
        if cool >= rules.thermal_samples:
            work.recover_gpu(index, f"has cooled ({degrees:.0f} °C)")
        return
    if throttles or degrees >= rules.thermal_limit_c:
        hot = work.put_gpu(index, hot=gpu.hot + 1).hot
        if hot >= rules.thermal_samples:
            work.turn_gpu(index, Health.DRAINING, f"{told}, {hot} samples in a row", cool=0)
        elif gpu.state is Health.HEALTHY:
            work.turn_gpu(index, Health.SUSPECT, told)
    elif gpu.hot:
        work.put_gpu(index, hot=0)
        if gpu.state is Health.SUSPECT:
            work.turn_gpu(index, Health.HEALTHY)


def _nvml_seen(work: _Work, event: NvmlSeen) -> None:
    if not event.fault:
        work.put(silent=0)
        work.remove_grounds(Ground.NVML, why="NVML answers again")
    elif work.memory.num_gpus and work.memory.silent < work.rules.failover.fault_samples:
        work.put(silent=work.memory.silent + 1)
        if work.memory.silent >= work.rules.failover.fault_samples:
            work.add_ground(Ground.NVML, f"NVML does not answer ({event.fault[:80]})")


def _bad_end(work: _Work, event: BadEnd) -> None:
    rules = work.rules.failover
    if event.ran_s > rules.black_hole_start_s:
        return
    recent = [end for end in work.memory.bad_ends if end[0] > work.now_s - rules.black_hole_window_s]
    ends = (*recent, (work.now_s, event.owner, event.name))[-MAX_BAD_ENDS:]
    work.put(bad_ends=ends)
    kinds = {(owner, name) for _, owner, name in ends}
    if len(ends) >= rules.black_hole_jobs and len(kinds) >= rules.black_hole_kinds and kinds & event.elsewhere:
        sentence = (
            f"{len(ends)} jobs of {len(kinds)} kinds failed here within {rules.black_hole_start_s:.0f} s of their "
            "start, and such jobs ended well elsewhere"
        )
        work.put(bad_ends=())
        work.add_ground(Ground.BLACK_HOLE, sentence)


def _good_end(work: _Work, _: GoodEnd) -> None:
    if work.memory.bad_ends:
        work.put(bad_ends=())


def _drain(work: _Work, event: Drain) -> None:
    others = tuple(ground for ground in work.memory.grounds if ground[0] != Ground.OPERATOR)
    work.put(grounds=others, deadline_s=event.deadline_s)
    work.findings.append(Finding("node-drained", event.reason))
    work.add_ground(Ground.OPERATOR, event.reason)


def _resume(work: _Work, _: Resume) -> None:
    work.put(grounds=(), deadline_s=None, failed_s=(), bad_ends=(), trusted_s=0.0, silent=0)
    work.findings.append(Finding("node-resumed"))
    for index in sorted(work.memory.closed_gpus):  # all at once, so that none counts for the node on the way
        work.put_gpu(index, state=Health.HEALTHY, why="", is_fault=False, hot=0, cool=0, silent=0)
        work.findings.append(Finding("gpu-healthy", f"GPU {index}: an operator trusts it again", index))
    if work.memory.state in (Health.DRAINING, Health.RECOVERING):
        work.rest()


_HANDLERS = cast(
    "dict[type, Callable[[_Work, Event], None]]",
    {
        Heartbeat: _heartbeat,
        Silence: _silence,
        Lost: _lost,
        Registered: _registered,
        GpuSeen: _gpu_seen,
        NvmlSeen: _nvml_seen,
        BadEnd: _bad_end,
        GoodEnd: _good_end,
        Drain: _drain,
        Resume: _resume,
    },
)
