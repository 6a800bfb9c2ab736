"""From a finished replay to its result: the job table, the tables of attempts, and the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.energy import (
    J_PER_KWH,
    Downtimes,
    Intensity,
    Placements,
    added_g,
    added_j,
    at_rest_g,
    at_rest_j,
    cost,
    kilograms,
)
from shunter.scheduler.metrics import Money, Outcome, in_table_order, summarise
from shunter.scheduler.types import FloatArray
from shunter.sim.derived import Events, Timeline, outage_events, with_fragmentation
from shunter.sim.engine import Simulation
from shunter.sim.failures import CAUSE_DRAIN, CAUSES, Outages, Spans, spans_of
from shunter.sim.lifecycle import Lifecycle
from shunter.sim.power import downtimes, intensities, node_power, node_prices
from shunter.sim.result import Result
from shunter.sim.stored import MemorySink, Sink
from shunter.sim.windows import windows_of_attempts, windows_of_jobs
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
    sink: Sink | None = None,
) -> Result:
    """The result of a replay that is complete.

    Args:
        simulation: The replay.
        manifest: What was run.
        window: Rows of the trace.
        seed: Of the run.
        wall_s: Seconds that it took.
        carbon: Carbon intensity by region.
        sink: Where the rows of the tables go, and those of attempts and placements have gone; memory by default.

    Raises:
        OSError: A table cannot be written.
    """
    workload = simulation.workload
    settings = simulation.options.settings
    start_s, end_s = times_of(simulation)
    jobs = _job_table(simulation, start_s, end_s)
    counters = simulation.state.counters
    manifest = manifest | {
        "engine": simulation.engine,
        "passes": simulation.num_passes,
        "passes_cut_short": int(counters[at.CUT_SHORT]),
        "passes_put_off": simulation.passes_put_off,
        "expected_ends_extended": int(counters[at.EXTENDED]),
    }
    if simulation.learned is not None:
        manifest["guard"] = dict(simulation.learned.counts)
    if simulation.portfolio is not None:
        manifest["portfolio"] = simulation.portfolio.counts()
    spans = None if simulation.outages is None else _spans(simulation.outages, _last_s(jobs))
    tables, sums = _tables(simulation, jobs, spans, sink or MemorySink(), carbon)
    metrics = summarise(_outcome(simulation, start_s, end_s, spans, sums.money))
    if sums.fragmentation is not None:
        metrics = in_table_order(metrics | {"fragmentation": sums.fragmentation})
    return Result(
        trace=workload.trace.name,
        cluster=workload.cluster.name,
        policy=settings.ordering.label,
        backfill=settings.backfill,
        placement=settings.placement,
        window=window,
        seed=seed,
        jobs=jobs,
        tables=tables,
        metrics=metrics,
        manifest=manifest,
        wall_s=wall_s,
        num_events=simulation.num_events,
    )


def times_of(simulation: Simulation) -> tuple[FloatArray, FloatArray]:
    """(J,) first starts and ends; NaN where there is none."""
    if simulation.lifecycle is not None:
        return simulation.lifecycle.first_start_s, simulation.lifecycle.end_s
    start_s = simulation.state.jobs_f[at.START_S]
    return start_s, start_s + simulation.workload.run_s


@dataclass(slots=True)
class Sums:
    """What is added up over all placements.

    Attributes:
        fragmentation: Mean of the fragmented GPUs; None where it is not known.
        money: Energy, carbon and cost.
    """

    fragmentation: float | None = None
    money: Money = field(default_factory=Money)


def _tables(
    simulation: Simulation,
    jobs: pl.DataFrame,
    spans: Spans | None,
    sink: Sink,
    carbon: Mapping[str, Intensity] | None,
) -> tuple[Mapping[str, pl.DataFrame], Sums]:
    """The tables but that of the jobs, written window by window, and what is summed up on the way."""
    lifecycle, options = simulation.lifecycle, simulation.options
    down = downtimes(Spans.joined([]) if spans is None else spans)
    outages = None if spans is None else _outage_table(spans)
    fragmentation = None
    bill = Bill(simulation, _last_s(jobs), down, carbon) if jobs["end_s"].count() else None
    if lifecycle is None:
        windows = windows_of_jobs(jobs)
    else:
        for name, noted, table_of in lifecycle.logs():
            sink.add(name, table_of())
            noted.drop(len(noted))
        happened = None if outages is None else outage_events(outages)
        windows = windows_of_attempts(jobs, sink.finish(), happened)
        if options.placements and lifecycle.held.shed:
            from shunter.sim.fragmentation import Fragmentation

            fragmentation = Fragmentation.of(simulation.workload, down)
    steps, log = Timeline(jobs, simulation.workload.elastic is not None), Events(jobs)
    for window in windows:
        rows = steps.after(window)
        if fragmentation is not None and window.taken is not None and window.given_back is not None:
            rows = with_fragmentation(rows, *fragmentation.after(window.taken, window.given_back, window.last_s))
        if bill is not None and window.given_back is not None:
            bill.add(window.given_back)
        sink.add("timeline", rows)
        sink.add("events", log.of(window))
    if outages is not None:
        sink.add("outages", outages)
    if not options.placements:
        sink.leave_out("placements")
    mean = None if fragmentation is None else fragmentation.mean
    return sink.finish(), Sums(mean, Money() if bill is None else bill.money())


def _last_s(jobs: pl.DataFrame) -> float:
    """The last end of a job; 0 where none ran."""
    last = jobs["end_s"].max()
    return float(last) if isinstance(last, float) else 0.0


def _outage_table(spans: Spans) -> pl.DataFrame:
    """The table ``outages``."""
    import polars as pl

    is_notice = ~spans.is_down & (spans.cause == CAUSE_DRAIN)
    names = np.where(is_notice, "notice", np.asarray(CAUSES)[spans.cause])
    return pl.DataFrame(
        {
            "node": spans.node,
            "gpu": spans.gpu,
            "from_s": spans.from_s,
            "until_s": spans.until_s,
            "kind": pl.Series(names, dtype=pl.Enum([*CAUSES, "notice"])),
        }
    )


class Bill:
    """Energy, carbon and cost, as far as the specification says what they depend on.

    Args:
        simulation: The replay.
        last_s: The last end.
        down: What was out of service until then.
        carbon: Carbon intensity by region, in place of the specification's constants.
    """

    def __init__(
        self, simulation: Simulation, last_s: float, down: Downtimes, carbon: Mapping[str, Intensity] | None
    ) -> None:
        spec = simulation.workload.cluster
        self._spec = spec
        self._span = float(simulation.workload.columns.submit_s[0]), last_s
        self._down = down
        has_placements = simulation.options.placements and simulation.lifecycle is not None
        self._power = node_power(spec) if has_placements else None
        self._intensities = intensities(spec, carbon)
        if self._power is not None:
            self._joules = at_rest_j(self._power, self._down, *self._span)
            if self._intensities is not None:
                self._grams = at_rest_g(self._power, self._down, *self._span, intensities=self._intensities)

    def add(self, given_back: pl.DataFrame) -> None:
        """Placements that have ended."""
        if self._power is None:
            return
        columns = ("job", "node", "start_s", "end_s", "cpus", "gpus")
        placements = Placements(*(given_back[name].to_numpy() for name in columns))
        self._joules = self._joules + added_j(self._power, placements, *self._span)
        if self._intensities is not None:
            self._grams = self._grams + added_g(self._power, placements, *self._span, intensities=self._intensities)

    def money(self) -> Money:
        """The sums, with all placements added."""
        prices = node_prices(self._spec)
        total = None if prices is None else cost(*prices, self._down, *self._span).total
        if self._power is None:
            return Money(None, None, total)
        energy = float(self._joules.sum()) / J_PER_KWH
        if self._intensities is None:
            return Money(energy, None, total)
        return Money(energy, kilograms(self._grams, self._spec.node_table().region_idx)[0], total)


def _spans(outages: Outages, last_s: float) -> Spans:
    """The outages as intervals, as far as the replay went."""
    spans = spans_of(outages, until_s=last_s)
    return spans.take(spans.from_s < last_s)


def _amounts(workload: Workload) -> dict[str, FloatArray]:
    """CPUs and GPUs of each whole gang, shape (J,)."""
    jobs = workload.trace.jobs
    tasks = jobs.ints("tasks")
    return {"cpus": tasks * jobs.floats("cpus"), "gpus": tasks * workload.task_gpus}


def _outcome(
    simulation: Simulation,
    start_s: FloatArray,
    end_s: FloatArray,
    spans: Spans | None,
    money: Money,
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
        held_s, overhead_s = lifecycle.held_s, lifecycle.overhead_s
        failed = failed | lifecycle.gave_up
        lost_s = lifecycle.lost_s
        run_s = held_s if (held_s[ran] != run_s[ran]).any() else run_s
        if simulation.options.preemption.rules or simulation.rounds is not None:
            preemptions = simulation.num_preemptions
        if preemptions is not None or simulation.outages is not None or lifecycle.faults is not None:
            restarts = int((lifecycle.count[ran] - 1).sum())
        down_s = _down(simulation.workload, spans, end_s)
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
        money=money,
        preemptions=preemptions,
        restarts=restarts,
    )


def _mean_part(lifecycle: Lifecycle) -> FloatArray:
    """(J,) what each job held on average over its attempts, over what it asked for."""
    least = lifecycle.held_s * lifecycle.workload.demand.tasks
    return np.divide(lifecycle.task_s, least, out=np.ones(len(least)), where=least > 0)


def _down(workload: Workload, spans: Spans | None, end_s: FloatArray) -> dict[str, float]:
    """CPU- and GPU-seconds that were not available, between the first submission and the last end."""
    if spans is None or not np.isfinite(end_s).any():
        return {}
    first_s, last_s = float(workload.columns.submit_s[0]), float(np.nanmax(end_s))
    spans = spans.take(spans.is_down)
    length_s = np.maximum(np.minimum(spans.until_s, last_s) - np.maximum(spans.from_s, first_s), 0.0)
    units = workload.capacity.units
    whole = spans.gpu < 0
    return {
        "cpus": float((length_s * whole * units[0, spans.node]).sum()) / 1000.0,
        "gpus": float((length_s * np.where(whole, units[2, spans.node], 1000)).sum()) / 1000.0,
    }


def _job_table(simulation: Simulation, start_s: FloatArray, end_s: FloatArray) -> pl.DataFrame:
    import polars as pl

    workload, lifecycle = simulation.workload, simulation.lifecycle
    frame = workload.trace.jobs.frame
    submit_s = workload.columns.submit_s
    gave_up = np.zeros(workload.num_jobs, dtype=np.bool_) if lifecycle is None else lifecycle.gave_up
    state = np.where(workload.rejected, 3, np.where(gave_up, 1, np.where(workload.killed, 2, 0))).astype(np.uint32)
    cluster = f"needs more than the cluster {workload.cluster.name!r} has"
    if workload.capacity.quotas is not None and simulation.held is None:
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
            "state": pl.Series(STATES, dtype=pl.Enum(STATES)).gather(state),
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
