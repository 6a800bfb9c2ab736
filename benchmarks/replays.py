"""Replays through the SimPy engine and the compiled loop: real logs, one million jobs, cost against trace length."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Prepared, Record, Spread, Subject, Target, Timing, interleave
from benchmarks.workloads import REPOSITORY, Setup, gangs_on_nodes, gangs_on_pool, single_gpus
from benchmarks.workloads import million as million_jobs
from benchmarks.yardstick import PoolJobs, heap_fcfs

if TYPE_CHECKING:
    from shunter.scheduler.types import IntArray
    from shunter.sim.engine import Simulation
    from shunter.sim.rollout import Rollout
    from shunter.sim.workload import Workload
    from shunter.traces.tables import Trace

MILLION = 1_000_000
LENGTHS = (10_000, 100_000, MILLION)
GIB = 1024.0**3


@dataclass(frozen=True, slots=True)
class Case:
    """One way of replaying a trace; ``jobs_per_s`` is the target, 0 without one."""

    policy: str
    backfill: str = "none"
    jobs_per_s: float = 0.0
    compiled: bool = False

    @property
    def label(self) -> str:
        """Such as ``fcfs+easy``."""
        label = self.policy if self.backfill == "none" else f"{self.policy}+{self.backfill}"
        return f"{label}, compiled loop" if self.compiled else label


FCFS, SJF = Case("fcfs"), Case("sjf")
EASY, CONSERVATIVE = Case("fcfs", "easy"), Case("fcfs", "conservative")
ALL_CASES = (FCFS, SJF, EASY, CONSERVATIVE)


def simulation(workload: Workload, case: Case) -> Simulation:
    """A replay that is ready to run."""
    from shunter.scheduler.decide import Settings
    from shunter.scheduler.policies.registry import choose_ordering
    from shunter.sim.engine import Options, Simulation

    return Simulation(workload, Options(Settings(ordering=choose_ordering(case.policy), backfill=case.backfill)))


def subject(workload: Workload, case: Case) -> Subject:
    """A replay to be timed: the state is set up outside the clock, as for ``wall_s`` of ``simulate``."""

    def set_up() -> Prepared:
        prepared = simulation(workload, case)
        if not case.compiled:
            return prepared.run
        from shunter.sim.rollout import run_compiled

        return lambda: run_compiled(prepared)

    return set_up


def yardstick(jobs: PoolJobs) -> Subject:
    """The reference loop to be timed."""
    return lambda: lambda: heap_fcfs(jobs)


def replays(benchmark: str, trace: Trace, cases: Sequence[Case], setup: Setup) -> Iterator[Record]:
    """Time the cases on a trace, with the reference loop in every round; one record a case."""
    from shunter.sim.workload import prepare

    workload = prepare(trace, trace.cluster)
    jobs = PoolJobs.of(workload)
    subjects = {"yardstick": yardstick(jobs), **{case.label: subject(workload, case) for case in cases}}
    timings = interleave(subjects, repeat=setup.repeat)
    for case in cases:
        targets = (Target("jobs_per_s", at_least=case.jobs_per_s),) if case.jobs_per_s else ()
        yield Record(
            benchmark,
            f"{trace.name} {case.label}",
            timing=timings[case.label],
            jobs=workload.num_jobs,
            yardstick=timings["yardstick"],
            targets=targets,
            facts=facts(trace, case),
        )


def facts(trace: Trace, case: Case) -> dict[str, Any]:
    """What a replay was of."""
    return {
        "trace": trace.name,
        "cluster": trace.cluster.name,
        "nodes": trace.cluster.num_nodes,
        "policy": case.policy,
        "backfill": case.backfill,
    }


def log_replays(benchmark: str, log: str, cases: Sequence[Case], setup: Setup) -> Iterator[Record]:
    """As ``replays``, on a public log; one skipped record when it is absent."""
    if reason := setup.missing(log):
        yield Record(benchmark, log, skipped=reason)
        return
    yield from replays(benchmark, setup.load(log), cases, setup)


# --- the benchmarks ---------------------------------------------------------------------------------------------------


def reference_loop(setup: Setup) -> Iterator[Record]:
    """One-GPU jobs on 64, 256 and 1,024 GPUs: the reference loop, and the engine doing the same."""
    from shunter.scheduler import layout as at
    from shunter.sim.workload import prepare

    for gpus in (64, 256, 1024):
        trace = single_gpus(setup.jobs(MILLION), gpus, setup.seed)
        workload = prepare(trace, trace.cluster)
        jobs = PoolJobs.of(workload)
        timings = interleave({"heapq": yardstick(jobs), "engine": subject(workload, FCFS)}, repeat=setup.repeat)
        replay = simulation(workload, FCFS)
        replay.run()
        same = np.array_equal(heap_fcfs(jobs), replay.state.jobs_f[at.START_S])
        known = {"trace": trace.name, "cluster": trace.cluster.name, "same_start_times": same}
        num_jobs = workload.num_jobs
        yield Record("yardstick", f"heapq {gpus} GPUs", timing=timings["heapq"], jobs=num_jobs, facts=known)
        yield Record(
            "yardstick",
            f"engine {gpus} GPUs",
            timing=timings["engine"],
            jobs=num_jobs,
            yardstick=timings["heapq"],
            facts=known,
        )


def ricc(setup: Setup) -> Iterator[Record]:
    """RICC, 448,000 jobs, without backfilling."""
    yield from log_replays("ricc", "ricc", (Case("fcfs", jobs_per_s=120_000), SJF), setup)


def sdsc(setup: Setup) -> Iterator[Record]:
    """SDSC-SP2, where the queue is long: backfilling is most of the work."""
    cases = (
        FCFS,
        Case("fcfs", "easy", jobs_per_s=40_000),
        Case("fcfs", "conservative", jobs_per_s=15_000),
    )
    yield from log_replays("sdsc", "sdsc-sp2", cases, setup)


def logs(setup: Setup) -> Iterator[Record]:
    """The other logs under FCFS, SJF, EASY and conservative backfilling."""
    for log in ("ctc-sp2", "kth-sp2", "curie", "philly"):
        yield from log_replays("logs", log, ALL_CASES, setup)
    yield from log_replays("logs", "ricc", (EASY,), setup)
    if setup.full:
        yield from log_replays("logs", "ricc", (CONSERVATIVE,), setup)
    else:
        yield Record("logs", "ricc fcfs+conservative", skipped="takes minutes: only with --full")


def million(setup: Setup) -> Iterator[Record]:
    """One million jobs on 1,000 nodes of 8 GPUs under EASY: time and memory, each run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.million", str(setup.jobs(MILLION)), str(setup.seed)]
    runs = []
    for _ in range(min(setup.repeat, 3)):
        done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    peak_gib = max(run["peak_bytes"] for run in runs) / GIB
    yield Record(
        "million",
        "1000 nodes × 8 GPUs fcfs+easy",
        timing=Timing.of([(run["wall_s"], run["cpu_s"]) for run in runs]),
        jobs=runs[0]["jobs"],
        yardstick=Timing.of([(run["yardstick_wall_s"], run["yardstick_cpu_s"]) for run in runs]),
        targets=(Target("wall_s", at_most=10.0), Target("peak_gib", at_most=2.0)),
        figures={
            "peak_gib": peak_gib,
            "replay_s": Spread.of([run["replay_s"] for run in runs]).median,
            "draw_s": Spread.of([run["draw_s"] for run in runs]).median,
            "max_queue_length": runs[0]["max_queue_length"],
            "gpu_utilisation": runs[0]["gpu_utilisation"],
        },
        facts={"policy": "fcfs", "backfill": "easy", "trace": runs[0]["trace"], "passes": runs[0]["passes"]},
    )


WINDOW = 1024


def compiled(setup: Setup) -> Iterator[Record]:
    """The compiled loop: whole logs, windows of 1,024 jobs in one call, and a million jobs on nodes with EASY."""
    from shunter.sim.rollout import warm_up_loop
    from shunter.sim.workload import prepare

    warm_up_loop()
    cases = (replace(FCFS, compiled=True), replace(EASY, compiled=True), Case("wfp3", "easy", compiled=True))
    yield from log_replays("compiled", "sdsc-sp2", cases, setup)
    if not (reason := setup.missing("sdsc-sp2")):
        yield from windows(setup.load("sdsc-sp2"), setup)
    else:
        yield Record("compiled", f"windows of {WINDOW} jobs", skipped=reason)
    trace = million_jobs(setup.jobs(MILLION), setup.seed)
    workload = prepare(trace, trace.cluster)
    timings = interleave({"run": subject(workload, replace(EASY, compiled=True))}, repeat=min(setup.repeat, 3))
    yield Record(
        "compiled",
        "1000 nodes × 8 GPUs fcfs+easy, compiled loop",
        timing=timings["run"],
        jobs=workload.num_jobs,
        targets=(Target("wall_s", at_most=10.0),),
        facts=facts(trace, EASY),
    )


def all_windows(rollout: Rollout, first: IntArray) -> Subject:
    """Windows to be timed, in one call."""
    return lambda: lambda: rollout.starts(None, first, first + WINDOW)


def windows(trace: Trace, setup: Setup) -> Iterator[Record]:
    """All full windows of a log in one call, each from an empty cluster."""
    from shunter.sim.rollout import Rollout
    from shunter.sim.workload import prepare

    workload = prepare(trace, trace.cluster)
    first = np.arange(0, workload.num_jobs - WINDOW + 1, WINDOW)
    if not len(first):
        yield Record("compiled", f"windows of {WINDOW} jobs", skipped=f"{trace.name} has {workload.num_jobs} jobs")
        return
    for backfill, at_least in (("none", 1e6), ("easy", 3e5)):
        rollout = Rollout(workload, backfill)
        rollout.starts(None, first[:1], first[:1] + WINDOW)  # compiled or loaded before the clock runs
        timings = interleave(
            {"run": lambda r=rollout: lambda: r.starts(None, first, first + WINDOW)}, repeat=setup.repeat
        )
        yield Record(
            "compiled",
            f"{len(first)} windows of {WINDOW} jobs of {trace.name}, {backfill}",
            timing=timings["run"],
            jobs=len(first) * WINDOW,
            targets=(Target("jobs_per_s", at_least=at_least),),
            facts=facts(trace, Case("fcfs", backfill)),
        )


def scaling(setup: Setup) -> Iterator[Record]:
    """Cost per job at 10,000, 100,000 and 1,000,000 jobs of equal load, on a pool and on nodes."""
    from shunter.sim.workload import prepare

    lengths = sorted({setup.jobs(length) for length in LENGTHS})
    for place, draw in (("pool", gangs_on_pool), ("nodes", gangs_on_nodes)):
        for case in (FCFS, EASY):
            workloads = {}
            for length in lengths:
                trace = draw(length, setup.seed)
                workloads[length] = prepare(trace, trace.cluster)
            subjects = {str(length): subject(workload, case) for length, workload in workloads.items()}
            timings = interleave(subjects, repeat=setup.repeat)
            cost_us = {length: timings[str(length)].cpu_s.median / length * 1e6 for length in lengths}
            for length in lengths:
                yield Record(
                    "scaling",
                    f"{place} {case.label} {length}",
                    timing=timings[str(length)],
                    jobs=length,
                    figures={"cpu_us_per_job": cost_us[length]},
                    facts=facts(workloads[length].trace, case),
                )
            yield Record(
                "scaling",
                f"{place} {case.label} flatness",
                figures={"flatness": max(cost_us.values()) / min(cost_us.values())},
                targets=(Target("flatness", at_most=1.5),),
            )
