"""Fragmentation, power, waiting reasons and fairness of a run on a cluster, as curves and sums.

Pure functions; they draw and write nothing. Where the run does not tell enough (no placements, no power in the
specification, no reasons), they give None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.energy import saved_w
from shunter.scheduler.fairness import finish_time_fairness
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.power import node_power
from shunter.sim.report.heatmap import overlaps
from shunter.sim.report.held import Held, HeldRun, HeldWindow, node_amounts
from shunter.sim.report.series import started
from shunter.sim.result import Result
from shunter.sim.stored import batches

if TYPE_CHECKING:
    from shunter.scheduler.kernels.fragmentation import Typical

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

MOST_TASK_SHAPES = 64
"""Kinds of task that stand for the workload in the fragmentation, the most common ones."""

MILLI = 1000.0
UNLIMITED = 1 << 50


# Over time --------------------------------------------------------------------------------------------------------


def typical_tasks(result: Result) -> Typical | None:
    """The run's most common task shapes, weighted by their tasks; None where no job asks for GPUs."""
    import polars as pl

    from shunter.scheduler.kernels.fragmentation import make_typical

    tasks = pl.col("tasks").fill_null(1).clip(1)
    per_task = (pl.col("cpus", "gpus").fill_null(0) / tasks * MILLI).round().cast(pl.Int64)
    shapes = result.jobs.select(per_task, tasks.alias("tasks")).group_by("cpus", "gpus").agg(pl.col("tasks").sum())
    shapes = shapes.sort("tasks", "cpus", "gpus", descending=[True, False, False]).head(MOST_TASK_SHAPES)
    if not (shapes["gpus"] > 0).any():
        return None
    gpu, weight = shapes["gpus"].to_numpy(), shapes["tasks"].to_numpy().astype(np.float64)
    return make_typical(
        cpu=shapes["cpus"].to_numpy(),
        share=np.minimum(gpu, int(MILLI)),
        gpus=-(-gpu // int(MILLI)),
        weight=weight / weight.sum(),
        allowed=np.ones((len(gpu), 1), dtype=np.bool_),
    )


@dataclass(frozen=True, slots=True)
class FreeGpus:
    """GPUs that nobody holds in a stretch of time, as steps: values hold from ``time_s`` on, until the next.

    Attributes:
        time_s: (T,) rising instants; the first is the last one of the stretch before.
        free: (T,) free GPUs of the nodes that are up.
        fragmented: (T,) of them, those that the usual tasks cannot use on average, as FGD defines it.
    """

    time_s: FloatArray
    free: FloatArray
    fragmented: FloatArray


def free_gpus(result: Result, held: Held | HeldRun, from_s: float) -> Iterator[FreeGpus]:
    """Free and fragmented GPUs of a run from ``from_s`` on; nothing for a cluster or a workload without GPUs.

    Source: Weng et al., USENIX ATC 2023, §3. Restrictions of tasks to GPU models are not counted: results do not keep
    them.
    """
    from shunter.sim.report.fragmented import FreeNow

    typical = typical_tasks(result)
    gpus = node_amounts(held.spec, "gpus").astype(np.int64)
    if typical is None or not gpus.any():
        return
    cpus = node_amounts(held.spec, "cpus")
    now = FreeNow(typical, np.where(cpus > 0, np.round(cpus * MILLI), UNLIMITED).astype(np.int64), gpus)
    reached_s = -np.inf
    for window in held.windows():
        times, events = free_events(window)
        free, fragmented = now.after(**events)
        times = np.maximum(np.append(reached_s, times), from_s)
        reached_s = times[-1]
        last = np.append(times[1:] != times[:-1], True)
        yield FreeGpus(times[last], free[last], fragmented[last])


def free_events(window: HeldWindow) -> tuple[FloatArray, dict[str, IntArray]]:
    """(E,) times of a window's events in order, and what they change, as ``FreeNow.after`` takes it."""
    back, taken, outages = window.given_back, window.taken, window.outages
    away = {name: outages[name].to_numpy() for name in ("time_s", "node", "gpu", "step")}
    # At one instant releases come before what takes the same room, and returns before failures.
    times = np.concatenate([back.end_s, taken.start_s, away["time_s"]])
    kind = np.concatenate([np.zeros(len(back.node)), np.full(len(taken.node), 2), np.where(away["step"] < 0, 1, 3)])
    order = np.lexsort((kind, times))

    def milli(returned: FloatArray, held: FloatArray) -> IntArray:
        both = [np.round(returned * MILLI), -np.round(held * MILLI), np.zeros(len(away["step"]))]
        return np.asarray(np.concatenate(both)[order], dtype=np.int64)

    placed = np.zeros(len(back.node) + len(taken.node), np.int64)
    return times[order], {
        "node": np.concatenate([back.node, taken.node, away["node"]])[order],
        "gpu": np.concatenate([back.gpu, taken.gpu, away["gpu"]])[order],
        "cpu_step": milli(back.cpus, taken.cpus),
        "gpu_step": milli(back.gpus, taken.gpus),
        "down_step": np.concatenate([placed, away["step"]])[order],
    }


def free_means(result: Result, held: Held | HeldRun, edges_s: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """(B,) exact means of free and fragmented GPUs in stretches of time; None where ``free_gpus`` gives nothing."""
    sums = np.zeros((2, len(edges_s) - 1))
    steps = None
    for steps in free_gpus(result, held, float(edges_s[0])):
        ends_s = np.append(steps.time_s[1:], steps.time_s[-1])
        sums += [_integrals(steps.time_s, ends_s, values, edges_s) for values in (steps.free, steps.fragmented)]
    if steps is None:
        return None
    rest = steps.time_s[-1:], np.maximum(steps.time_s[-1:], edges_s[-1])
    sums += [_integrals(*rest, values[-1:], edges_s) for values in (steps.free, steps.fragmented)]
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
    for window in held.windows():
        part = window.given_back
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
