"""``simulate``: replay a trace under one policy and return a ``Result``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter import __version__
from shunter.scheduler import layout as at
from shunter.scheduler.compiled import warm_up
from shunter.scheduler.decide import Settings
from shunter.scheduler.metrics import Outcome, summarise
from shunter.scheduler.policies.registry import choose_ordering
from shunter.sim.checkpoint import load_checkpoint, save_checkpoint
from shunter.sim.derived import events, timeline
from shunter.sim.engine import Options, Simulation, timed_run
from shunter.sim.result import Result
from shunter.sim.workload import Workload, prepare

if TYPE_CHECKING:
    import polars as pl

    from shunter.traces.tables import ClusterSpec, Trace

Progress = Callable[[Simulation], None]


class Interrupted(Exception):  # noqa: N818 - not an error: the replay can be taken up again
    """A replay was stopped before its end; ``checkpoint`` is the file to resume from, if one was written."""

    def __init__(self, simulation: Simulation, checkpoint: Path | None) -> None:
        super().__init__("interrupted")
        self.simulation = simulation
        self.checkpoint = checkpoint


def simulate(
    trace: Trace,
    *,
    policy: str = "fcfs",
    backfill: str = "none",
    placement: str = "first-fit",
    cluster: ClusterSpec | None = None,
    window: tuple[int, int] | None = None,
    ties: str = "instant",
    depth: int = 0,
    interval_s: float = 0.0,
    clairvoyant: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: Path | None = None,
    autosave_s: float = 60.0,
    resume: bool = False,
) -> Result:
    """Replay a trace.

    Args:
        trace: The workload.
        policy: Ordering, ``NAME`` or ``NAME:key=value,…``.
        backfill: ``none``, ``easy``, ``easy-noextra``, ``easy-sjbf`` or ``conservative``.
        placement: ``first-fit``, ``best-fit``, ``worst-fit`` or ``packed``.
        cluster: What to run on; the trace's own by default.
        window: ``(start, count)`` rows of the trace, run on an empty cluster.
        ties: ``instant`` for one pass an instant, ``per-event`` for one an event.
        depth: Waiting jobs behind the head that a pass looks at; 0 means all.
        interval_s: Shortest time between passes; 0 makes one at every instant.
        clairvoyant: Reservations count with actual run times.
        seed: Kept in the manifest; the replay itself draws nothing.
        progress: Called with the simulation now and then.
        should_stop: Asked now and then whether to stop.
        checkpoint: File to save an interrupted replay to, and now and then one that goes on, in case it is killed.
        autosave_s: Seconds between two such savings.
        resume: Take up the replay saved in ``checkpoint``.

    Raises:
        UsageError: An unknown name.
        TraceError: No jobs, or a window outside the trace.
        Interrupted: ``should_stop`` said so.
    """
    settings = Settings(choose_ordering(policy), backfill, placement, depth)
    options = Options(settings=settings, ties=ties, interval_s=interval_s)
    spec = cluster or trace.cluster
    workload = prepare(trace if window is None else trace.window(*window), spec, clairvoyant=clairvoyant)
    warm_up()
    simulation = Simulation(workload, options)
    manifest = run_manifest(trace, spec, options, window=window, clairvoyant=clairvoyant, seed=seed)
    spent_s = 0.0
    if resume and checkpoint is not None:
        spent_s = load_checkpoint(checkpoint, simulation, manifest)
    begin_s = saved_s = time.perf_counter()

    def ask() -> bool:
        nonlocal saved_s
        if progress is not None:
            progress(simulation)
        now_s = time.perf_counter()
        if checkpoint is not None and now_s - saved_s > autosave_s:
            save_checkpoint(checkpoint, simulation, manifest, spent_s + now_s - begin_s)
            saved_s = time.perf_counter()
        return should_stop is not None and should_stop()

    complete, wall_s = timed_run(simulation, ask)
    if not complete:
        if checkpoint is not None:
            save_checkpoint(checkpoint, simulation, manifest, spent_s + wall_s)
        raise Interrupted(simulation, checkpoint)
    simulation.close()
    return _result(simulation, manifest, window, seed, spent_s + wall_s)


def run_manifest(
    trace: Trace,
    cluster: ClusterSpec,
    options: Options,
    *,
    window: tuple[int, int] | None = None,
    clairvoyant: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """What was run: enough to run it again, and nothing that differs between equal runs."""
    from dataclasses import asdict
    from importlib.metadata import version

    settings = options.settings
    return {
        "shunter": __version__,
        "versions": {name: version(name) for name in ("numba", "numpy", "polars", "simpy")},
        "trace": {
            "name": trace.name,
            "format": trace.format,
            "sha256": trace.sha256,
            "jobs": len(trace.jobs),
            "jobs_sha256": _jobs_hash(trace),
            "start_unix_s": trace.start_unix_s,
            "rows_read": trace.cleaning.rows_read,
            "dropped": dict(trace.cleaning.dropped),
            "adjusted": dict(trace.cleaning.adjusted),
        },
        "cluster": asdict(cluster),
        "policy": settings.ordering.ordering.name,
        "policy_parameters": dict(settings.ordering.parameters),
        "backfill": settings.backfill,
        "backfill_depth": settings.depth,
        "placement": settings.placement,
        "interval_s": options.interval_s,
        "ties": options.ties,
        "clairvoyant": clairvoyant,
        "window": list(window) if window else None,
        "seed": seed,
    }


def _jobs_hash(trace: Trace) -> str:
    """SHA-256 of what a replay depends on: generated traces and windows have no file to be told apart by."""
    digest = hashlib.sha256()
    for column in ("submit_s", "duration_s", "requested_s", "tasks", "cpus", "memory_gib", "gpus", "priority"):
        digest.update(np.ascontiguousarray(trace.jobs.floats(column)).tobytes())
    for column in ("job_id", "user", "queue"):
        digest.update("\0".join(map(str, trace.jobs.frame[column].to_list())).encode())
    return digest.hexdigest()


def _result(
    simulation: Simulation,
    manifest: dict[str, Any],
    window: tuple[int, int] | None,
    seed: int,
    wall_s: float,
) -> Result:
    workload = simulation.workload
    settings = simulation.options.settings
    start_s = simulation.state.jobs_f[at.START_S]
    end_s = start_s + workload.run_s
    jobs = _job_table(simulation, start_s, end_s)
    counters = simulation.state.counters
    manifest = manifest | {
        "passes": simulation.num_passes,
        "passes_cut_short": int(counters[at.CUT_SHORT]),
        "passes_put_off": simulation.passes_put_off,
        "expected_ends_extended": int(counters[at.EXTENDED]),
    }
    return Result(
        trace=workload.trace.name,
        cluster=workload.cluster.name,
        policy=settings.ordering.label,
        backfill=settings.backfill,
        placement=settings.placement,
        window=window,
        seed=seed,
        jobs=jobs,
        timeline=timeline(jobs),
        events=events(jobs),
        metrics=summarise(_outcome(simulation, start_s, end_s)),
        manifest=manifest,
        wall_s=wall_s,
        num_events=simulation.num_events,
    )


def _amounts(workload: Workload) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """CPUs and GPUs of each whole gang, shape (J,)."""
    jobs = workload.trace.jobs
    tasks = jobs.ints("tasks")
    return {"cpus": tasks * jobs.floats("cpus"), "gpus": tasks * jobs.floats("gpus")}


def _outcome(simulation: Simulation, start_s: Any, end_s: Any) -> Outcome:
    workload = simulation.workload
    ran = ~workload.rejected
    available = {name: workload.cluster.total(name) or 0.0 for name in ("cpus", "gpus")}
    return Outcome(
        submit_s=workload.columns.submit_s[ran],
        start_s=start_s[ran],
        end_s=end_s[ran],
        run_s=workload.run_s[ran],
        used={name: amounts[ran] for name, amounts in _amounts(workload).items()},
        available=available,
        deadline_s=workload.trace.jobs.floats("deadline_s")[ran],
        failed=int(workload.killed[ran].sum()),
        rejected=int(workload.rejected.sum()),
        backfilled=int(simulation.backfilled.sum()),
    )


def _job_table(simulation: Simulation, start_s: Any, end_s: Any) -> pl.DataFrame:
    import polars as pl

    workload = simulation.workload
    frame = workload.trace.jobs.frame
    submit_s = workload.columns.submit_s
    state = np.where(workload.rejected, 3, np.where(workload.killed, 2, 0)).astype(np.uint32)
    names = pl.Enum(["completed", "failed", "killed", "rejected"])
    cluster = f"needs more than the cluster {workload.cluster.name!r} has"
    state_is = pl.col("state")
    reason = (
        pl.when(state_is == "rejected")
        .then(pl.lit(cluster))
        .when(state_is == "killed")
        .then(pl.lit("ran into its limit"))
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
            "attempts": np.where(workload.rejected, 0, 1),
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
    return table.select(*table.columns[:7], "reason", *table.columns[7:-1])
