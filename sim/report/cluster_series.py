"""Fragmentation, power, waiting reasons and fairness of a run on a cluster, as curves and sums.

Pure functions; they draw and write nothing. Where the run does not tell enough (no placements, no power in the
specification, no reasons), they give None.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shunter.scheduler.energy import saved_w
from shunter.scheduler.fairness import finish_time_fairness
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.power import node_power
from shunter.sim.report.heatmap import overlaps
from shunter.sim.report.held import Held, HeldRun
from shunter.sim.report.series import started
from shunter.sim.result import Result
from shunter.sim.stored import batches, scan

REASONS = ("queue", "fragmentation", "quota", "gang", "failure")
"""What a job can wait for, in the order of the columns ``wait_…_s``."""

REASON_NAMES = ("Queue", "Fragmentation", "Quota", "Gang", "Failure")
REASON_MEANINGS = (
    "others go first, or too little is free",
    "enough is free, but not where one task fits",
    "its group's limit, or the power cap",
    "some of its tasks would fit, or all of them farther apart",
    "it would fit if all nodes were up",
)

# Over time --------------------------------------------------------------------------------------------------------


def free_means(result: Result, edges_s: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """(B,) exact means of free and fragmented GPUs in stretches of time; None where the timeline does not tell them."""
    names = ["time_s", "free_gpus", "fragmented_gpus"]
    if names[-1] not in scan(result.tables, "timeline").collect_schema().names():
        return None
    sums = np.zeros((2, len(edges_s) - 1))
    time_s, values = np.zeros(0), np.zeros((2, 0))
    for part in batches(result.tables, "timeline", names):
        steps = part.drop_nulls().to_numpy().T
        time_s = np.append(time_s[-1:], steps[0])
        values = np.concatenate([values[:, -1:], steps[1:]], axis=1)
        sums += [_integrals(time_s[:-1], time_s[1:], row[:-1], edges_s) for row in values]
    if not len(time_s):
        return None
    rest_s = np.maximum(time_s[-1:], edges_s[-1])
    sums += [_integrals(time_s[-1:], rest_s, row[-1:], edges_s) for row in values]
    free, fragmented = sums / np.diff(edges_s)
    return free, fragmented


def _integrals(begin_s: FloatArray, end_s: FloatArray, values: FloatArray, edges_s: FloatArray) -> FloatArray:
    """(B,) what intervals with values add to stretches of time."""
    one_row = np.zeros(len(values), np.int64)
    return overlaps(one_row, begin_s, end_s, values, 1, edges_s).reshape(-1)


def power_means(held: Held | HeldRun, edges_s: FloatArray) -> FloatArray | None:
    """(B,) mean power of the cluster in stretches of time, in W; None where the specification does not give it."""
    power = node_power(held.spec)
    if power is None:
        return None
    joules = power.at_rest_w.sum() * np.diff(edges_s)
    joules -= _integrals(held.down.from_s, held.down.until_s, saved_w(power, held.down), edges_s)
    for part in held.windows():
        added_w = power.added_w(part.node, part.cpus, part.gpus)
        joules += _integrals(part.start_s, part.end_s, added_w, edges_s)
    return np.asarray(joules / np.diff(edges_s))


# Waiting ----------------------------------------------------------------------------------------------------------


def has_reasons(result: Result) -> bool:
    """Whether the run tells what its jobs waited for."""
    return all(f"wait_{name}_s" in result.jobs.columns for name in REASONS)


def waiting_reasons(result: Result) -> FloatArray:
    """(5,) seconds that all jobs waited for each of ``REASONS``."""
    return np.asarray([float(result.jobs[f"wait_{name}_s"].fill_null(0).sum()) for name in REASONS])


def total_waiting_s(result: Result) -> float:
    """Seconds that all jobs waited, before the first start and again after being stopped."""
    columns = [c for c in ("wait_s", "requeued_s") if c in result.jobs.columns]
    return float(sum(float(result.jobs[c].fill_null(0).sum()) for c in columns))


def reasons_by(results: Sequence[Result], column: str, top: int = 12) -> list[tuple[str, list[FloatArray]]]:
    """Per ``group`` or ``user``, by its waiting over all runs: its name and each run's (5,) seconds.

    Those after the first ``top`` are summed under ``others``. Empty where the log names nobody or only one.
    """
    import polars as pl

    sums = [pl.col(f"wait_{name}_s").fill_null(0).sum() for name in REASONS]
    found: dict[str, list[FloatArray]] = {}
    for i, result in enumerate(results):
        for name, *seconds in result.jobs.group_by(column, maintain_order=True).agg(sums).iter_rows():
            known = "not named" if name is None else str(name)
            found.setdefault(known, [np.zeros(len(REASONS)) for _ in results])[i] += np.asarray(seconds)
    if len(found) < 2:
        return []
    ranked = sorted(found.items(), key=lambda item: (-sum(v.sum() for v in item[1]), item[0]))
    ranked = [(name, seconds) for name, seconds in ranked if sum(v.sum() for v in seconds) > 0]
    if len(ranked) <= top + 1:
        return ranked
    rest = [np.sum([seconds[i] for _, seconds in ranked[top:]], axis=0) for i in range(len(results))]
    return [*ranked[:top], (f"{len(ranked) - top} others", rest)]


# Fairness ---------------------------------------------------------------------------------------------------------


def fairness_rho(result: Result, resource: str) -> FloatArray | None:
    """(J,) finish-time fairness of the started jobs, as in the metric; None where the capacity is not known."""
    capacity = result.capacity(resource)
    frame = started(result)
    if capacity is None or not frame.height:
        return None
    submit_s, end_s, run_s = (frame[name].to_numpy() for name in ("submit_s", "end_s", "duration_s"))
    size = frame[resource].fill_null(0).to_numpy().astype(np.float64)
    return finish_time_fairness(submit_s, end_s, run_s, size, capacity)


def rho_grid(values: Sequence[FloatArray], points: int = 160) -> FloatArray:
    """(points,) values of ρ from the least to the largest, evenly spaced on a logarithmic axis; 1 is within."""
    known = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in values] or [np.ones(1)])
    low, high = min(0.5, float(known.min(initial=0.5))), max(2.0, float(known.max(initial=2.0)))
    return np.geomspace(low, high * 1.0001, points)


def share_at_most(values: FloatArray, grid: FloatArray) -> FloatArray:
    """Share of the known values that are at most ``grid``, shape of ``grid``; zeros for none."""
    known = np.sort(values[np.isfinite(values)])
    counts = np.searchsorted(known, grid * (1 + 1e-9), side="right")
    return np.asarray(counts / max(1, len(known)), dtype=np.float64)


def held_by_job(result: Result) -> tuple[FloatArray, FloatArray, IntArray]:
    """Per row of the job table: seconds held over all attempts, of them lost or overhead, and preemptions; all (J,)."""
    known = result.scan("attempts").collect_schema().names()
    wasted = [name for name in ("lost_s", "overhead_s") if name in known]
    held_s, wasted_s = np.zeros(result.jobs.height), np.zeros(result.jobs.height)
    preemptions = np.zeros(result.jobs.height, dtype=np.int64)
    for attempts in batches(result.tables, "attempts", ["job", "start_s", "end_s", "ended", *wasted]):
        job = attempts["job"].to_numpy()
        np.add.at(held_s, job, (attempts["end_s"] - attempts["start_s"]).to_numpy())
        for name in wasted:
            np.add.at(wasted_s, job, attempts[name].fill_null(0).to_numpy())
        np.add.at(preemptions, job[(attempts["ended"].cast(str) == "preempted").to_numpy()], 1)
    return held_s, wasted_s, preemptions
