"""Metric names, units and formulas: one table for reports, columns, plots and exported series.

``summarise`` takes plain arrays, so the simulator and the daemon are scored by the same code. A metric that cannot be
computed from what is known is absent from the result, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shunter.scheduler.fairness import finish_time_fairness, jain_index, served_shares
from shunter.scheduler.types import FloatArray, IntArray

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
    "fragmentation": Metric("GPUs", True, "time average of the free GPUs that typical jobs cannot use (FGD)"),
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
class Money:
    """What the schedule cost; None where the cluster specification does not say enough.

    Attributes:
        energy_kwh: Energy of the cluster.
        carbon_kg: Carbon dioxide equivalent of that energy.
        cost_total: Price of the nodes while up.
    """

    energy_kwh: float | None = None
    carbon_kg: float | None = None
    cost_total: float | None = None


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
        held_s: (J,) seconds for which the job held its nodes, over all attempts; None: from start to end.
        wasted_s: (J,) of them, seconds that were lost or spent on restarts; None: none.
        exclusive_s: (J,) run time with nobody else on the cluster; None: ``run_s``.
        user_idx: (J,) user of each job, −1 unknown; None: unknown.
        down_s: Resource name → amount × seconds that was out of service.
        money: Energy, carbon and cost.
        preemptions: Attempts that were stopped for other jobs; None where there is no preemption.
        restarts: Attempts after the first; None where there are none.
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
    held_s: FloatArray | None = None
    wasted_s: FloatArray | None = None
    exclusive_s: FloatArray | None = None
    user_idx: IntArray | None = None
    down_s: dict[str, float] = field(default_factory=dict)
    money: Money = field(default_factory=Money)
    preemptions: int | None = None
    restarts: int | None = None


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
        found |= _fairness(outcome)
    due = ~np.isnan(outcome.deadline_s)
    if due.any():
        found["slo_attainment"] = float((outcome.end_s[due] <= outcome.deadline_s[due]).mean())
    counts = {"preemptions": outcome.preemptions, "restarts": outcome.restarts}
    found |= {name: value for name, value in counts.items() if value is not None}
    found["jobs_completed"] = len(outcome.submit_s) - outcome.failed
    found |= _costs(outcome, int(found["jobs_completed"]))
    found["jobs_failed"] = outcome.failed
    found["jobs_rejected"] = outcome.rejected
    found["backfilled_jobs"] = outcome.backfilled
    return in_table_order(found)


def in_table_order(found: dict[str, float]) -> dict[str, float]:
    """The metrics in the order of ``METRICS``."""
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
    held_s = outcome.end_s - outcome.start_s if outcome.held_s is None else outcome.held_s
    shares = {}
    for resource, amounts in outcome.used.items():
        available = outcome.available.get(resource, 0.0) * makespan_s - outcome.down_s.get(resource, 0.0)
        if available > 0:
            name = resource.removesuffix("s")
            found[f"{name}_utilisation"] = float((amounts * held_s).sum() / available)
            wasted_s = np.zeros_like(held_s) if outcome.wasted_s is None else outcome.wasted_s
            shares[name] = float((amounts * (held_s - wasted_s)).sum() / available)
    main = "gpu" if "gpu" in shares else "cpu" if "cpu" in shares else None
    if main is not None:
        found["utilisation"] = found["allocation_ratio"] = found[f"{main}_utilisation"]
        if outcome.wasted_s is not None:
            found["goodput"] = shares[main]
    if outcome.wasted_s is not None and "gpu" in shares:
        found["lost_gpu_s"] = float((outcome.used["gpus"] * outcome.wasted_s).sum())
    return found


def _fairness(outcome: Outcome) -> dict[str, float]:
    """Jain's index over users, and finish-time fairness, in the resource that size means."""
    resource = "gpus" if outcome.available.get("gpus", 0.0) > 0 else "cpus"
    total, amounts = outcome.available.get(resource, 0.0), outcome.used.get(resource)
    if total <= 0 or amounts is None:
        return {}
    found = {}
    exclusive_s = outcome.run_s if outcome.exclusive_s is None else outcome.exclusive_s
    jct_s = outcome.end_s - outcome.submit_s
    if outcome.user_idx is not None:
        shares = served_shares(outcome.user_idx, exclusive_s * amounts, jct_s * amounts)
        if len(shares) > 1:
            found["jain_fairness"] = jain_index(shares)
    rho = finish_time_fairness(outcome.submit_s, outcome.end_s, exclusive_s, amounts, total)
    if not np.isnan(rho).all():
        found |= {"avg_ftf_rho": float(np.nanmean(rho)), "p95_ftf_rho": float(np.nanpercentile(rho, 95))}
    return found


def _costs(outcome: Outcome, completed: int) -> dict[str, float]:
    money = outcome.money
    known = {"energy_kwh": money.energy_kwh, "carbon_kg": money.carbon_kg, "cost_total": money.cost_total}
    found = {name: value for name, value in known.items() if value is not None}
    if money.cost_total is not None and completed:
        found["cost_per_job"] = money.cost_total / completed
        held_s = outcome.end_s - outcome.start_s if outcome.held_s is None else outcome.held_s
        useful_s = held_s - (0.0 if outcome.wasted_s is None else outcome.wasted_s)
        useful_gpu_h = float((outcome.used.get("gpus", np.zeros(1)) * useful_s).sum()) / 3600.0
        if useful_gpu_h > 0:
            found["cost_per_useful_gpu_hour"] = money.cost_total / useful_gpu_h
    return found
