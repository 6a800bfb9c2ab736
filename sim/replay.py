"""``simulate``: replay a trace under one policy and return a ``Result``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter import __version__
from shunter.scheduler.compiled import warm_up
from shunter.scheduler.decide import Settings
from shunter.scheduler.durations import RunModel
from shunter.scheduler.energy import Intensity
from shunter.scheduler.features import SCHEMA
from shunter.scheduler.layout import DOT_PRODUCT
from shunter.scheduler.policies.registry import ChosenOrdering
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.state import PLACEMENTS
from shunter.sim.attempts import JobFailures
from shunter.sim.checkpoint import load_checkpoint, save_checkpoint
from shunter.sim.engine import Options, Simulation
from shunter.sim.estimates import which_estimates
from shunter.sim.failures import WHOLE_NODE, Outages
from shunter.sim.faults import with_own_work
from shunter.sim.holding import Holding
from shunter.sim.load import LOAD_STEP_S, check_step
from shunter.sim.other_work import OtherWork
from shunter.sim.outcome import make_result
from shunter.sim.portfolio import choose_policy
from shunter.sim.result import Result
from shunter.sim.rollout import choose_engine, run_compiled
from shunter.sim.run_folder import refuse_foreign, rows_folder, told_as_output_error
from shunter.sim.saving import claim_memory
from shunter.sim.stored import FolderSink, StoredTables, refuse_shed
from shunter.sim.workload import Defaults, prepare, with_past
from shunter.traces.periods import jobs_hash

if TYPE_CHECKING:
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
    policy: str | ChosenOrdering = "fcfs",
    backfill: str = "none",
    placement: str = "first-fit",
    cluster: ClusterSpec | None = None,
    window: tuple[int, int] | None = None,
    ties: str = "instant",
    depth: int = 0,
    interval_s: float = 0.0,
    clairvoyant: bool = False,
    estimates: str | RunModel = "request",
    default_request_s: float | None = None,
    preemption: Preemption | None = None,
    defaults: Defaults | None = None,
    outages: Outages | None = None,
    faults: JobFailures | None = None,
    max_retries: int = 6,
    retry_wait_s: float = 0.0,
    failover: str = "requeue",
    blast_radius: float = 1.0,
    locality_s: float = 0.0,
    strict_classes: bool = False,
    carbon: Mapping[str, Intensity] | None = None,
    details: bool | None = None,
    seed: int = 0,
    interference: bool = False,
    other_work: OtherWork | None = None,
    holding: Holding | None = None,
    engine: str = "auto",
    out: Path | None = None,
    load_step_s: float = LOAD_STEP_S,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: Path | None = None,
    autosave_s: float = 60.0,
    resume: bool = False,
) -> Result:
    """Replay a trace.

    Args:
        trace: The workload.
        policy: Ordering, ``NAME`` or ``NAME:key=value,…``, or one that has been chosen, such as a model's.
        backfill: ``none``, ``easy``, ``easy-noextra``, ``easy-sjbf`` or ``conservative``.
        placement: A name of ``scheduler.state.PLACEMENTS``.
        cluster: What to run on; the trace's own by default.
        window: ``(start, count)`` rows of the trace, run on an empty cluster. Predicted run times and models know what
            the jobs before it taught.
        ties: ``instant`` for one pass an instant, ``per-event`` for one an event.
        depth: Waiting jobs behind the head that a pass looks at; 0 means all.
        interval_s: Shortest time between passes; 0 makes one at every instant.
        clairvoyant: As ``estimates="actual"``.
        estimates: What reservations count with: ``request``, ``tsafrir``, ``actual`` run times or
            a model; see ``prepare``.
        default_request_s: Request of jobs without one, in place of their actual run time.
        preemption: When running jobs are stopped for waiting ones; by default never.
        defaults: Checkpoint interval and restart overhead of jobs that do not say.
        outages: Failures, drains and repairs of nodes and GPUs; see ``sim.failures``.
        faults: Attempts that fail by a fault of the job's own, and the work of those jobs; see ``sim.attempts``.
        max_retries: Failures after which a job is not tried again.
        retry_wait_s: Wait after a job's first failure before it is tried again; doubles with each, up to six minutes.
        failover: ``requeue`` or ``move``: where jobs go that lose their nodes; see ``sim.outages``.
        blast_radius: Share of the running jobs that may be on their way from draining nodes at once.
        locality_s: Longest time that a gang waits to be placed nearer together than it could be now.
        strict_classes: Jobs of a higher priority come first in the queue, whatever the policy says.
        carbon: Carbon intensity by region, in place of the specification's constants.
        details: Note the nodes of every attempt and why jobs wait; by default on a cluster of several nodes.
        seed: Of the random placement; kept in the manifest.
        interference: Jobs that share a GPU slow each other down, by the packaged table.
        other_work: How busy the nodes are with work that is not the scheduler's, and what is predicted of it.
        holding: Capacity that is held for jobs to come; rows are those of what is replayed.
        engine: ``simpy``, ``compiled``, or ``auto``: the compiled loop wherever it can do the replay; see
            ``sim.rollout``. The schedules are the same.
        out: Run folder to write. Rows of attempts and placements then go to files while the replay runs, so that memory
            does not grow with them, and the tables of the result lie in the folder.
        load_step_s: Seconds between two points of the load series in that folder.
        progress: Called with the simulation now and then.
        should_stop: Asked now and then whether to stop.
        checkpoint: File to save an interrupted replay to, and now and then one that goes on, in case it is killed.
        autosave_s: Seconds between two such savings.
        resume: Take up the replay saved in ``checkpoint``.

    Raises:
        UsageError: An unknown name.
        TraceError: No jobs, or a window outside the trace.
        Interrupted: ``should_stop`` said so.
        OutputError: ``out`` or ``checkpoint`` cannot be written, or ``out`` holds something that no run wrote.
    """
    spec = cluster or trace.cluster
    if faults is not None:
        trace = with_own_work(trace, faults)
    options = options_for(
        spec,
        policy=policy,
        backfill=backfill,
        placement=placement,
        depth=depth,
        locality_s=locality_s,
        strict_classes=strict_classes,
        ties=ties,
        interval_s=interval_s,
        preemption=preemption,
        max_retries=max_retries,
        retry_wait_s=retry_wait_s,
        failover=failover,
        blast_radius=blast_radius,
        details=details,
        seed=seed,
        interference=interference,
    )
    check_step(load_step_s)
    warm_up()
    ordering = options.settings.ordering.ordering
    workload = prepare(
        trace if window is None else trace.window(*window),
        spec,
        clairvoyant=clairvoyant,
        estimates=estimates,
        default_request_s=default_request_s,
        defaults=defaults,
        tell_gpus_apart=PLACEMENTS[placement] >= DOT_PRODUCT
        or (outages is not None and bool((outages.gpu != WHOLE_NODE).any())),
        can_close=outages is not None,
        elastic=ordering.is_elastic,
    )
    if window is not None:
        workload = with_past(workload, trace, window[0], ordering=ordering, default_request_s=default_request_s)
    simulation = Simulation(
        workload,
        options,
        outages,
        faults if faults is None or window is None else faults.window(*window),
        other_work,
        holding,
    )
    manifest = run_manifest(
        trace,
        spec,
        options,
        window=window,
        clairvoyant=clairvoyant,
        estimates=estimates,
        default_request_s=default_request_s,
        defaults=defaults,
        outages=outages,
        faults=faults,
        other_work=other_work,
        holding=holding,
        seed=seed,
    )
    taken_up = resume and checkpoint is not None
    spent_s = load_checkpoint(checkpoint, simulation, manifest) if taken_up and checkpoint is not None else 0.0
    chosen = choose_engine(simulation, engine)
    watch = _Watch(simulation, manifest, progress, should_stop, checkpoint, autosave_s, spent_s, chosen)
    if out is None:
        refuse_shed(simulation.lifecycle, checkpoint)
        watch.run()
        return make_result(simulation, manifest, window, seed, watch.spent_s, carbon)
    refuse_foreign(out.resolve())
    sink = FolderSink.take_up(rows_folder(out), manifest, simulation.lifecycle if taken_up else None)
    watch.sink = sink
    if simulation.is_dynamic:
        claim_memory(simulation)
    try:
        watch.run()
        with told_as_output_error(out):
            result = make_result(simulation, manifest, window, seed, watch.spent_s, carbon, sink)
        result.save(out, load_step_s=load_step_s)
    except BaseException:
        if checkpoint is None or not checkpoint.exists():  # which would need the rows
            sink.remove()
        raise
    sink.remove()
    return replace(result, tables=StoredTables(out.absolute(), tuple(result.tables)))


@dataclass(slots=True)
class _Watch:
    """What is done now and then while a replay runs.

    Attributes:
        simulation: The replay.
        manifest: What is run, for checkpoints.
        progress: Called with the simulation.
        should_stop: Says whether to stop.
        checkpoint: File for savings.
        autosave_s: Seconds between two savings.
        spent_s: Seconds that the replay has taken, those before a resumption included.
        engine: ``simpy`` or ``compiled``.
        sink: Takes rows out of memory.
    """

    simulation: Simulation
    manifest: dict[str, Any]
    progress: Progress | None
    should_stop: Callable[[], bool] | None
    checkpoint: Path | None
    autosave_s: float
    spent_s: float
    engine: str = "simpy"
    sink: FolderSink | None = None

    def run(self) -> None:
        """Run to the end.

        Raises:
            Interrupted: The replay was stopped.
            OutputError: Rows or a checkpoint cannot be written.
        """
        before_s, begin_s = self.spent_s, time.perf_counter()
        saved_s = begin_s

        def ask() -> bool:
            nonlocal saved_s
            if self.progress is not None:
                self.progress(self.simulation)
            if self.sink is not None and self.simulation.lifecycle is not None:
                self.sink.shed(self.simulation.lifecycle)
            now_s = time.perf_counter()
            if self.checkpoint is not None and now_s - saved_s > self.autosave_s:
                save_checkpoint(self.checkpoint, self.simulation, self.manifest, before_s + now_s - begin_s)
                saved_s = time.perf_counter()
            return self.should_stop is not None and self.should_stop()

        begin_s = time.perf_counter()
        asked = None if self._asks_nothing else ask
        complete = run_compiled(self.simulation, asked) if self.engine == "compiled" else self.simulation.run(ask)
        self.spent_s = before_s + time.perf_counter() - begin_s
        if not complete:
            if self.checkpoint is not None:
                save_checkpoint(self.checkpoint, self.simulation, self.manifest, self.spent_s)
            raise Interrupted(self.simulation, self.checkpoint)
        self.simulation.close()

    @property
    def _asks_nothing(self) -> bool:
        """Whether nobody looks at the simulation before its end; there are no rows of attempts in compiled replays."""
        return self.progress is None and self.checkpoint is None and self.should_stop is None


def options_for(
    cluster: ClusterSpec,
    *,
    policy: str | ChosenOrdering = "fcfs",
    backfill: str = "none",
    placement: str = "first-fit",
    depth: int = 0,
    locality_s: float = 0.0,
    strict_classes: bool = False,
    ties: str = "instant",
    interval_s: float = 0.0,
    preemption: Preemption | None = None,
    max_retries: int = 6,
    retry_wait_s: float = 0.0,
    failover: str = "requeue",
    blast_radius: float = 1.0,
    details: bool | None = None,
    seed: int = 0,
    interference: bool = False,
) -> Options:
    """The options of a replay on ``cluster``; see ``simulate`` for the arguments.

    Raises:
        UsageError: An unknown name, a number out of range, or rules that do not go together.
    """
    detailed = (cluster.num_nodes > 1 if details is None else details) and ties == "instant"
    chosen = choose_policy(policy) if isinstance(policy, str) else policy
    return Options(
        settings=Settings(chosen, backfill, placement, depth, locality_s, strict_classes),
        ties=ties,
        interval_s=interval_s,
        preemption=preemption or Preemption(),
        max_retries=max_retries,
        retry_wait_s=retry_wait_s,
        failover=failover,
        blast_radius=blast_radius,
        explain_waits=detailed,
        placements=detailed,
        seed=seed,
        interference=interference,
    )


def run_manifest(
    trace: Trace,
    cluster: ClusterSpec,
    options: Options,
    *,
    window: tuple[int, int] | None = None,
    clairvoyant: bool = False,
    estimates: str | RunModel = "request",
    default_request_s: float | None = None,
    defaults: Defaults | None = None,
    outages: Outages | None = None,
    faults: JobFailures | None = None,
    other_work: OtherWork | None = None,
    holding: Holding | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What was run: enough to run it again, and nothing that differs between equal runs."""
    from dataclasses import asdict
    from importlib.metadata import version

    settings = options.settings
    if faults is not None:
        trace = with_own_work(trace, faults)
    manifest = {
        "shunter": __version__,
        "versions": {name: version(name) for name in ("numba", "numpy", "polars", "simpy")},
        "trace": {
            "name": trace.name,
            "format": trace.format,
            "sha256": trace.sha256,
            "jobs": len(trace.jobs),
            "jobs_sha256": jobs_hash(trace),
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
        "estimates": which_estimates(estimates, clairvoyant),
        "default_request_s": default_request_s,
        "preemption": asdict(options.preemption),
        "defaults": asdict(defaults or Defaults()),
        "max_retries": options.max_retries,
        "retry_wait_s": options.retry_wait_s,
        "failover": options.failover,
        "blast_radius": options.blast_radius,
        "locality_s": settings.locality_s,
        "strict_classes": settings.strict_classes,
        "outages": None if outages is None else _outages_hash(outages),
        "faults": None if faults is None else _faults_hash(faults),
        "other_work": None if other_work is None else _loads_hash(other_work),
        "holding": None if holding is None else _holding_hash(holding),
        "details": options.placements,
        "interference": options.interference,
        "window": list(window) if window else None,
        "seed": seed,
    }
    if isinstance(estimates, RunModel):
        manifest["estimates_model"] = {"sha256": estimates.sha256, "level": estimates.expected}
    if settings.ordering.scorer is None:
        return manifest
    chosen = settings.ordering
    model = {"name": chosen.model, "sha256": chosen.model_sha256, "features": SCHEMA.as_json()}
    return manifest | {"model": model, "guard_fallback": chosen.fallback}


def _outages_hash(outages: Outages) -> dict[str, Any]:
    """How many there are, and a checksum."""
    digest = hashlib.sha256()
    for column in (outages.time_s, outages.node, outages.gpu, outages.kind):
        digest.update(np.ascontiguousarray(column).tobytes())
    return {"events": len(outages), "sha256": digest.hexdigest()}


def _faults_hash(faults: JobFailures) -> dict[str, Any]:
    """How many attempts fail, and a checksum."""
    digest = hashlib.sha256()
    for column in (faults.job_row, faults.after_s, faults.work_s):
        digest.update(np.ascontiguousarray(column).tobytes())
    return {"attempts": len(faults), "sha256": digest.hexdigest()}


def _loads_hash(work: OtherWork) -> dict[str, Any]:
    """The grid, who predicts, and a checksum."""
    digest = hashlib.sha256()
    for table in (work.load, work.predicted):
        digest.update(np.ascontiguousarray(table, dtype=np.float64).tobytes())
    grid = {"first_s": work.first_s, "step_s": work.step_s, "steps": len(work.load)}
    return grid | {"told_by": work.told_by, "sha256": digest.hexdigest()}


def _holding_hash(holding: Holding) -> dict[str, Any]:
    """For how many jobs, who predicts, and a checksum."""
    digest = hashlib.sha256(np.ascontiguousarray(holding.favoured).tobytes())
    digest.update(np.ascontiguousarray(holding.told, dtype=np.float64).tobytes())
    facts = {"jobs": int(holding.favoured.sum()), "step_s": holding.step_s, "told_by": holding.told_by}
    return facts | {"sha256": digest.hexdigest()}
