"""Metric names, units and formulas: one table for reports, columns, plots and exported series.

``summarise`` takes plain arrays, so the simulator and the daemon are scored by the same code. A metric that cannot be
computed from what is known is absent from the result, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shunter.scheduler.types import FloatArray

SLOWDOWN_BOUND_S = 10.0
"""τ of the bounded slowdown. Feitelson et al., Theory and practice in parallel job scheduling, JSSPP 1997."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's unit (``s``, ``ratio``, ``1``, …), whether less is better (None: neither), and its meaning."""

    unit: str
    less_is_better: bool | None
    meaning: str


METRICS: dict[str, Metric] = {
    "avg_wait_s": Metric("s", True, "mean time from submission to first start"),
    "p50_wait_s": Metric("s", True, "median wait"),
    "p95_wait_s": Metric("s", True, "95th percentile of the wait"),
    "p99_wait_s": Metric("s", True, "99th percentile of the wait"),
    "max_wait_s": Metric("s", True, "longest wait"),
    "avg_jct_s": Metric("s", True, "mean time from submission to end"),
    "p50_jct_s": Metric("s", True, "median completion time"),
    "p95_jct_s": Metric("s", True, "95th percentile of the completion time"),
    "p99_jct_s": Metric("s", True, "99th percentile of the completion time"),
    "avg_slowdown": Metric("ratio", True, "mean completion time over run time"),
    "avg_bounded_slowdown": Metric("ratio", True, "mean of max(1, completion time / max(run time, 10 s))"),
    "p95_bounded_slowdown": Metric("ratio", True, "95th percentile of the bounded slowdown"),
    "makespan_s": Metric("s", True, "first submission to last end"),
    "utilisation": Metric("ratio", False, "GPU-seconds (CPU-seconds without GPUs) allocated over available"),
    "gpu_utilisation": Metric("ratio", False, "GPU-seconds allocated over available"),
    "cpu_utilisation": Metric("ratio", False, "CPU-seconds allocated over available"),
    "goodput": Metric("ratio", False, "utilisation that counts only work that was not lost"),
    "throughput_jobs_per_h": Metric("1/h", False, "jobs completed per hour of the makespan"),
    "avg_queue_length": Metric("jobs", True, "time average of the waiting jobs over the makespan"),
    "max_queue_length": Metric("jobs", True, "most jobs that waited after a pass"),
    "fragmentation": Metric("GPUs", True, "free GPUs that no waiting job can use"),
    "allocation_ratio": Metric("ratio", False, "GPU-seconds held over available, busy or not"),
    "preemptions": Metric("1", True, "running jobs stopped for others"),
    "restarts": Metric("1", True, "attempts after the first"),
    "lost_gpu_s": Metric("GPU·s", True, "work done again because it was lost"),
    "jain_fairness": Metric("ratio", False, "Jain's index over users"),
    "avg_ftf_rho": Metric("ratio", True, "mean finish-time fairness"),
    "p95_ftf_rho": Metric("ratio", True, "95th percentile of the finish-time fairness"),
    "slo_attainment": Metric("ratio", False, "share of jobs with a deadline that ended by it"),
    "energy_kwh": Metric("kWh", True, "energy used"),
    "carbon_kg": Metric("kg", True, "carbon emitted"),
    "cost_total": Metric("money", True, "price of the nodes over the makespan"),
    "cost_per_job": Metric("money", True, "cost over completed jobs"),
    "cost_per_useful_gpu_hour": Metric("money", True, "cost over GPU-hours of work that was not lost"),
    "jobs_completed": Metric("jobs", False, "jobs that ran to their end"),
    "jobs_failed": Metric("jobs", True, "jobs killed at their limit or failed for good"),
    "jobs_rejected": Metric("jobs", True, "jobs that could never run"),
    "backfilled_jobs": Metric("jobs", None, "jobs that started while one ahead of them waited"),
}
"""Every metric, in the order in which tables list them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to the jobs that started, one row each, and to the others in numbers.

    Attributes:
        submit_s: (J,) submission.
        start_s: (J,) first start.
        end_s: (J,) end.
        run_s: (J,) seconds of execution.
        used: Resource name (``cpus``, ``gpus``) → (J,) amount held while running.
        available: Resource name → amount in the cluster.
        deadline_s: (J,) deadline; NaN where there is none.
        failed: Jobs among these that were killed or failed.
        rejected: Jobs that never entered the queue.
        backfilled: Jobs among these that overtook a waiting one.
    """

    submit_s: FloatArray
    start_s: FloatArray
    end_s: FloatArray
    run_s: FloatArray
    used: dict[str, FloatArray]
    available: dict[str, float]
    deadline_s: FloatArray
    failed: int
    rejected: int
    backfilled: int


def bounded_slowdown(wait_s: FloatArray, run_s: FloatArray, bound_s: float = SLOWDOWN_BOUND_S) -> FloatArray:
    """``max(1, (wait + run) / max(run, bound))`` for each job, shape (J,)."""
    return np.maximum(1.0, (wait_s + run_s) / np.maximum(run_s, bound_s))


def queue_lengths(submit_s: FloatArray, start_s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Times at which the queue changes and its length from then on; a job that starts at once never counts."""
    waited = start_s > submit_s
    times = np.concatenate([submit_s[waited], start_s[waited]])
    steps = np.concatenate([np.ones(waited.sum()), -np.ones(waited.sum())])
    order = np.argsort(times, kind="stable")
    times, lengths = times[order], np.cumsum(steps[order])
    last_of_instant = np.append(times[1:] != times[:-1], True) if len(times) else np.zeros(0, dtype=bool)
    return times[last_of_instant], lengths[last_of_instant]


def summarise(outcome: Outcome) -> dict[str, float]:
    """Every metric of ``METRICS`` that the outcome can give, in the table's order."""
    found: dict[str, float] = {}
    if len(outcome.submit_s):
        found |= _times(outcome)
        found |= _usage(outcome, found["makespan_s"])
    due = ~np.isnan(outcome.deadline_s)
    if due.any():
        found["slo_attainment"] = float((outcome.end_s[due] <= outcome.deadline_s[due]).mean())
    found["jobs_completed"] = len(outcome.submit_s) - outcome.failed
    found["jobs_failed"] = outcome.failed
    found["jobs_rejected"] = outcome.rejected
    found["backfilled_jobs"] = outcome.backfilled
    return {name: found[name] for name in METRICS if name in found}


def _times(outcome: Outcome) -> dict[str, float]:
    wait_s = outcome.start_s - outcome.submit_s
    jct_s = outcome.end_s - outcome.submit_s
    slowdown = bounded_slowdown(wait_s, outcome.run_s)
    makespan_s = float(outcome.end_s.max() - outcome.submit_s.min())
    found = {
        "avg_wait_s": wait_s.mean(),
        "max_wait_s": wait_s.max(),
        "avg_jct_s": jct_s.mean(),
        "avg_bounded_slowdown": slowdown.mean(),
        "p95_bounded_slowdown": np.percentile(slowdown, 95),
        "makespan_s": makespan_s,
        "max_queue_length": queue_lengths(outcome.submit_s, outcome.start_s)[1].max(initial=0.0),
    }
    for quantile in (50, 95, 99):
        found[f"p{quantile}_wait_s"] = np.percentile(wait_s, quantile)
        found[f"p{quantile}_jct_s"] = np.percentile(jct_s, quantile)
    if (outcome.run_s > 0).all():
        found["avg_slowdown"] = (jct_s / outcome.run_s).mean()
    if makespan_s > 0:
        found["avg_queue_length"] = wait_s.sum() / makespan_s
        found["throughput_jobs_per_h"] = (len(wait_s) - outcome.failed) / makespan_s * 3600.0
    return {name: float(value) for name, value in found.items()}


def _usage(outcome: Outcome, makespan_s: float) -> dict[str, float]:
    found = {}
    held_s = outcome.end_s - outcome.start_s
    for resource, amounts in outcome.used.items():
        available = outcome.available.get(resource, 0.0) * makespan_s
        if available > 0:
            found[f"{resource.removesuffix('s')}_utilisation"] = float((amounts * held_s).sum() / available)
    main = found.get("gpu_utilisation", found.get("cpu_utilisation"))
    if main is not None:
        found["utilisation"] = found["allocation_ratio"] = main
    return found
