"""From a finished replay to its result: the job table, the tables of attempts, and the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.energy import Intensity, Placements, carbon_kg, cost, energy_kwh
from shunter.scheduler.metrics import Money, Outcome, in_table_order, summarise
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.derived import events, timeline, timeline_of_attempts, with_fragmentation
from shunter.sim.engine import Simulation
from shunter.sim.failures import CAUSES, Spans, spans_of
from shunter.sim.fragmentation import fragmentation_series, time_average
from shunter.sim.lifecycle import Lifecycle
from shunter.sim.power import downtimes, intensities, node_power, node_prices
from shunter.sim.result import Result
from shunter.sim.workload import Workload

if TYPE_CHECKING:
    import polars as pl

WAITS = ("queue", "fragmentation", "quota", "gang", "failure")
"""What jobs wait for, in the order of the core's WAIT_ numbers."""

STATES = ("completed", "failed", "killed", "rejected")


def make_result(
    simulation: Simulation,
    manifest: dict[str, Any],
    window: tuple[int, int] | None,
    seed: int,
    wall_s: float,
    carbon: Mapping[str, Intensity] | None = None,
) -> Result:
    """The result of a replay that is complete."""
    workload = simulation.workload
    settings = simulation.options.settings
    start_s, end_s = _times(simulation)
    jobs = _job_table(simulation, start_s, end_s)
    counters = simulation.state.counters
    manifest = manifest | {
        "passes": simulation.num_passes,
        "passes_cut_short": int(counters[at.CUT_SHORT]),
        "passes_put_off": simulation.passes_put_off,
        "expected_ends_extended": int(counters[at.EXTENDED]),
    }
    tables = _tables(simulation, float(np.nanmax(end_s, initial=0.0)))
    steps = timeline_of_attempts(jobs, tables["attempts"]) if "attempts" in tables else timeline(jobs)
    metrics = summarise(_outcome(simulation, start_s, end_s, tables, carbon))
    series = fragmentation_series(workload, tables)
    if series is not None:
        steps = with_fragmentation(steps, *series)
        last_s = float(series[0][-1])
        metrics = in_table_order(metrics | {"fragmentation": time_average(*series, float(series[0][0]), last_s)})
    return Result(
        trace=workload.trace.name,
        cluster=workload.cluster.name,
        policy=settings.ordering.label,
        backfill=settings.backfill,
        placement=settings.placement,
        window=window,
        seed=seed,
        jobs=jobs,
        timeline=steps,
        events=events(jobs, tables.get("attempts"), tables.get("outages")),
        metrics=metrics,
        manifest=manifest,
        wall_s=wall_s,
        num_events=simulation.num_events,
        tables=tables,
    )


def _times(simulation: Simulation) -> tuple[FloatArray, FloatArray]:
    """(J,) first starts and ends; NaN where there is none."""
    if simulation.lifecycle is not None:
        return simulation.lifecycle.first_start_s, simulation.lifecycle.end_s
    start_s = simulation.state.jobs_f[at.START_S]
    return start_s, start_s + simulation.workload.run_s


def _tables(simulation: Simulation, end_s: float) -> dict[str, pl.DataFrame]:
    """``attempts``, ``placements`` and ``outages``, those that there are."""
    import polars as pl

    if simulation.lifecycle is None:
        return {}
    attempts, placements = simulation.lifecycle.tables()
    tables = {"attempts": attempts}
    if simulation.options.placements:
        tables["placements"] = placements
    if simulation.outages is not None:
        spans = _spans(simulation, end_s)
        names = np.asarray(CAUSES)[spans.cause]
        tables["outages"] = pl.DataFrame(
            {
                "node": spans.node,
                "gpu": spans.gpu,
                "from_s": spans.from_s,
                "until_s": spans.until_s,
                "kind": pl.Series(np.where(spans.is_down, names, "notice"), dtype=pl.Enum([*CAUSES, "notice"])),
            }
        )
    return tables


def _spans(simulation: Simulation, end_s: float) -> Spans:
    """The outages as intervals, as far as the replay went."""
    assert simulation.outages is not None
    spans = spans_of(simulation.outages, until_s=end_s)
    return spans.take(spans.from_s < end_s)


def _amounts(workload: Workload) -> dict[str, FloatArray]:
    """CPUs and GPUs of each whole gang, shape (J,)."""
    jobs = workload.trace.jobs
    tasks = jobs.ints("tasks")
    return {"cpus": tasks * jobs.floats("cpus"), "gpus": tasks * jobs.floats("gpus")}


def _outcome(
    simulation: Simulation,
    start_s: FloatArray,
    end_s: FloatArray,
    tables: Mapping[str, pl.DataFrame],
    carbon: Mapping[str, Intensity] | None,
) -> Outcome:
    workload, lifecycle = simulation.workload, simulation.lifecycle
    ran = ~np.isnan(start_s) & ~workload.rejected
    amounts = _amounts(workload)
    available = {name: workload.cluster.total(name) or 0.0 for name in ("cpus", "gpus")}
    held_s = end_s - start_s
    if workload.elastic is not None and lifecycle is not None:
        part = _mean_part(lifecycle)
        amounts = {name: amount * part for name, amount in amounts.items()}
    failed = workload.killed & ran
    run_s = workload.run_s
    lost_s = overhead_s = np.zeros(workload.num_jobs)
    preemptions = restarts = None
    down_s: dict[str, float] = {}
    if lifecycle is not None:
        log = lifecycle.log
        job = log.ints("job")
        held_s = _sums(job, log.floats("end_s") - log.floats("start_s"), workload.num_jobs)
        overhead_s = _sums(job, log.floats("overhead_s"), workload.num_jobs)
        failed = failed | lifecycle.gave_up
        lost_s = lifecycle.lost_s
        run_s = held_s if (held_s[ran] != run_s[ran]).any() else run_s
        if simulation.options.preemption.rules or simulation.rounds is not None:
            preemptions = simulation.num_preemptions
        if preemptions is not None or simulation.outages is not None:
            restarts = int((lifecycle.count[ran] - 1).sum())
        down_s = _down(simulation, end_s)
    return Outcome(
        submit_s=workload.columns.submit_s[ran],
        start_s=start_s[ran],
        end_s=end_s[ran],
        run_s=run_s[ran],
        used={name: amount[ran] for name, amount in amounts.items()},
        available=available,
        deadline_s=workload.trace.jobs.floats("deadline_s")[ran],
        failed=int(failed.sum()),
        rejected=int(workload.rejected.sum()),
        backfilled=int(simulation.backfilled.sum()),
        held_s=held_s[ran],
        wasted_s=(lost_s + overhead_s)[ran],
        exclusive_s=workload.run_s[ran],
        user_idx=workload.columns.user_idx[ran],
        down_s=down_s,
        money=_money(simulation, end_s, tables, carbon),
        preemptions=preemptions,
        restarts=restarts,
    )


def _mean_part(lifecycle: Lifecycle) -> FloatArray:
    """(J,) what each job held on average over its attempts, over what it asked for."""
    log, asked = lifecycle.log, lifecycle.workload.demand.tasks
    job, length_s = log.ints("job"), log.floats("end_s") - log.floats("start_s")
    held = _sums(job, length_s * log.floats("tasks"), len(asked))
    least = _sums(job, length_s, len(asked)) * asked
    return np.divide(held, least, out=np.ones(len(asked)), where=least > 0)


def _sums(idx: IntArray, weights: FloatArray, size: int) -> FloatArray:
    """(size,) sums of the weights of equal indices."""
    return np.bincount(idx, weights, size).astype(np.float64)


def _down(simulation: Simulation, end_s: FloatArray) -> dict[str, float]:
    """CPU- and GPU-seconds that were not available, between the first submission and the last end."""
    if simulation.outages is None or not np.isfinite(end_s).any():
        return {}
    first_s, last_s = float(simulation.workload.columns.submit_s[0]), float(np.nanmax(end_s))
    spans = _spans(simulation, last_s)
    spans = spans.take(spans.is_down)
    length_s = np.maximum(np.minimum(spans.until_s, last_s) - np.maximum(spans.from_s, first_s), 0.0)
    units = simulation.workload.capacity.units
    whole = spans.gpu < 0
    return {
        "cpus": float((length_s * whole * units[0, spans.node]).sum()) / 1000.0,
        "gpus": float((length_s * np.where(whole, units[2, spans.node], 1000)).sum()) / 1000.0,
    }


def _money(
    simulation: Simulation,
    end_s: FloatArray,
    tables: Mapping[str, pl.DataFrame],
    carbon: Mapping[str, Intensity] | None,
) -> Money:
    """Energy, carbon and cost, as far as the specification says what they depend on."""
    spec = simulation.workload.cluster
    if not np.isfinite(end_s).any():
        return Money()
    first_s, last_s = float(simulation.workload.columns.submit_s[0]), float(np.nanmax(end_s))
    spans = None if simulation.outages is None else _spans(simulation, last_s)
    down = downtimes(spans if spans is not None else Spans.joined([]))
    power, prices, regions = node_power(spec), node_prices(spec), intensities(spec, carbon)
    held = placements_of(tables) if "placements" in tables else None
    energy = kilograms = total = None
    if power is not None and held is not None:
        energy = energy_kwh(power, held, down, first_s, last_s)[0]
        if regions is not None:
            region_idx = spec.node_table().region_idx
            kilograms, _ = carbon_kg(power, held, down, first_s, last_s, region_idx=region_idx, intensities=regions)
    if prices is not None:
        total = cost(*prices, down, first_s, last_s).total
    return Money(energy, kilograms, total)


def placements_of(tables: Mapping[str, pl.DataFrame]) -> Placements:
    """What was held where and when, from the tables ``placements`` and ``attempts``."""
    both = tables["placements"].join(
        tables["attempts"].select("job", "attempt", "start_s", "end_s"), on=["job", "attempt"], maintain_order="left"
    )
    columns = {name: both[name].to_numpy() for name in ("job", "node", "start_s", "end_s", "cpus", "gpus")}
    return Placements(*columns.values())


def _job_table(simulation: Simulation, start_s: FloatArray, end_s: FloatArray) -> pl.DataFrame:
    import polars as pl

    workload, lifecycle = simulation.workload, simulation.lifecycle
    frame = workload.trace.jobs.frame
    submit_s = workload.columns.submit_s
    gave_up = np.zeros(workload.num_jobs, dtype=np.bool_) if lifecycle is None else lifecycle.gave_up
    state = np.where(workload.rejected, 3, np.where(gave_up, 1, np.where(workload.killed, 2, 0))).astype(np.uint32)
    names = pl.Enum(STATES)
    cluster = f"needs more than the cluster {workload.cluster.name!r} has"
    if workload.capacity.quotas is not None:
        cluster = f"needs more than its group may have of the cluster {workload.cluster.name!r}"
    state_is = pl.col("state")
    reason = (
        pl.when(pl.Series(workload.over_cap))
        .then(pl.lit("draws more than the power cap allows"))
        .when(state_is == "rejected")
        .then(pl.lit(cluster))
        .when(state_is == "killed")
        .then(pl.lit("ran into its limit"))
        .when(state_is == "failed")
        .then(pl.lit(f"failed more than {simulation.options.max_retries} times"))
        .alias("reason")
    )
    amounts = _amounts(workload)
    table = pl.DataFrame(
        {
            "job_id": frame["job_id"],
            "submit_s": submit_s,
            "start_s": start_s,
            "end_s": end_s,
            "wait_s": start_s - submit_s,
            "attempts": np.where(workload.rejected, 0, 1) if lifecycle is None else lifecycle.count,
            "state": pl.Series(np.asarray(names.categories)[state], dtype=names),
            "backfilled": simulation.backfilled,
            "duration_s": workload.run_s,
            "requested_s": frame["requested_s"],
            "tasks": frame["tasks"],
            "cpus": amounts["cpus"],
            "gpus": amounts["gpus"],
            "user": frame["user"],
            "group": frame["group"],
        }
    )
    table = table.with_columns(reason, pl.col("start_s", "end_s", "wait_s").fill_nan(None))
    table = table.select(*table.columns[:7], "reason", *table.columns[7:-1])
    extra: dict[str, Any] = {}
    if lifecycle is not None:
        extra |= {"requeued_s": lifecycle.requeued_s, "lost_s": lifecycle.lost_s}
    if simulation.waits_s is not None:
        waited_s = start_s - submit_s + (0.0 if lifecycle is None else lifecycle.requeued_s)
        reasons_s = simulation.waits_s.copy()
        turn_s = np.where(np.isnan(waited_s), 0.0, waited_s) - reasons_s.sum(axis=0)
        reasons_s[at.WAIT_QUEUE] = np.maximum(turn_s, 0.0)
        extra |= {f"wait_{name}_s": reasons_s[i] for i, name in enumerate(WAITS)}
    return table.with_columns(**extra)
