"""What the replaying verbs share: what was asked for, opening traces, running, progress, saving."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from shunter.cli.failing import Failing
from shunter.cli.hold import Hold
from shunter.cli.node_load import NodeLoad
from shunter.scheduler.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shunter.scheduler.energy import Intensity
    from shunter.sim.engine import Options, Simulation
    from shunter.sim.result import Result
    from shunter.traces.tables import ClusterSpec, Trace


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of GPU clusters: preemption, failures, locality; see ``simulate``'s options of the same names."""

    preempt: tuple[str, ...] = ()
    min_run_s: float = 0.0
    grace_s: float = 0.0
    checkpoint_s: float | None = None
    restart_s: float = 0.0
    failing: Failing = field(default_factory=Failing)
    max_retries: int = 6
    retry_wait_s: float = 0.0
    failover: str = "requeue"
    blast_radius: float = 1.0
    locality_s: float = 0.0
    strict_classes: bool = False
    interference: bool = False
    node_load: NodeLoad = field(default_factory=NodeLoad)
    hold: Hold = field(default_factory=Hold)
    carbon: Path | None = None
    details: bool | None = None

    def resolve(
        self,
        trace: Trace,
        cluster: ClusterSpec,
        seed: int,
        *,
        window: tuple[int, int] | None = None,
        default_request_s: float | None = None,
        quiet: bool = False,
    ) -> dict[str, Any]:
        """Arguments of ``simulate``.

        Raises:
            ShunterError: A rule that is out of range, a log of outages or a carbon series that cannot be read.
        """
        from shunter.scheduler.preemption import Preemption
        from shunter.sim.workload import Defaults

        outages, faults = self.failing.resolve(trace, cluster, seed, quiet=quiet)
        return {
            "preemption": Preemption(self.preempt, self.min_run_s, self.grace_s),
            "defaults": Defaults(self.checkpoint_s, self.restart_s),
            "outages": outages,
            "faults": faults,
            "max_retries": self.max_retries,
            "retry_wait_s": self.retry_wait_s,
            "failover": self.failover,
            "blast_radius": self.blast_radius,
            "locality_s": self.locality_s,
            "strict_classes": self.strict_classes,
            "interference": self.interference,
            "other_work": self.node_load.resolve(cluster, quiet=quiet),
            "holding": self.hold.resolve(trace, cluster, window, default_request_s=default_request_s, quiet=quiet),
            "carbon": self.intensities(trace, cluster),
            "details": self.details,
        }

    def intensities(self, trace: Trace, cluster: ClusterSpec) -> dict[str, Intensity] | None:
        """The carbon series asked for, by region; None without one."""
        if self.carbon is None:
            return None
        from shunter.traces.carbon import read_carbon

        series = read_carbon(self.carbon, trace.start_unix_s)
        return {group.region: series for group in cluster.groups}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, apart from the trace and the cluster."""

    policies: list[str]
    backfills: list[str]
    placement: str
    window: tuple[int, int] | None
    ties: str
    depth: int
    interval_s: float
    clairvoyant: bool
    seed: int
    out: Path | None
    resume: bool
    quiet: bool
    rules: Rules = field(default_factory=Rules)
    engine: str = "auto"
    estimates: str = "request"
    default_request_s: float | None = None
    load_step_s: float = 60.0

    def check(self) -> None:
        """Refuse unknown names and an unusable output folder before anything long begins."""
        from shunter.cli.policies import find_estimates
        from shunter.sim.estimates import check_default_request, refuse_conservative, which_estimates
        from shunter.sim.load import check_step
        from shunter.traces.tables import pool

        estimates = find_estimates(self.estimates)
        if which_estimates(estimates, self.clairvoyant) == "actual":
            estimates = "actual"
        check_default_request(self.default_request_s)
        check_step(self.load_step_s)
        self.rules.node_load.check()
        self.rules.hold.check()
        for policy in self.policies:
            for backfill in self.backfills:
                refuse_conservative(estimates, backfill)
                self.options(policy, backfill, pool(1))
        if self.out is not None:
            check_writable(self.out)

    def options(self, policy: str, backfill: str, cluster: ClusterSpec) -> Options:
        """How one of the runs is made.

        Raises:
            UsageError: An unknown name, or rules that do not go together.
        """
        from shunter.cli.policies import find_policy
        from shunter.scheduler.preemption import Preemption
        from shunter.sim.replay import options_for

        rules = self.rules
        return options_for(
            cluster,
            policy=find_policy(policy),
            backfill=backfill,
            placement=self.placement,
            depth=self.depth,
            locality_s=rules.locality_s,
            strict_classes=rules.strict_classes,
            ties=self.ties,
            interval_s=self.interval_s,
            preemption=Preemption(rules.preempt, rules.min_run_s, rules.grace_s),
            max_retries=rules.max_retries,
            retry_wait_s=rules.retry_wait_s,
            failover=rules.failover,
            blast_radius=rules.blast_radius,
            details=rules.details,
            interference=rules.interference,
            seed=self.seed,
        )

    def checkpoint(self, policy: str, backfill: str) -> Path | None:
        """Where the state of a run that is stopped or killed is kept; None without a folder for results."""
        return self.out / f".{self._name(policy, backfill)}.checkpoint" if self.out else None

    def kept_folder(self, policy: str, backfill: str) -> Path | None:
        """Where a run is kept until all are complete; None without a folder for results."""
        return self.out / f".{self._name(policy, backfill)}.done" if self.out else None

    def _name(self, policy: str, backfill: str) -> str:
        """The name of one of the runs in the folder for results."""
        from shunter.sim.run_folder import distinct_names, run_label

        return distinct_names([run_label(*run) for run in self.runs])[self.runs.index((policy, backfill))]

    def kept_run(
        self, policy: str, backfill: str, trace: Trace, cluster: ClusterSpec, resolved: dict[str, Any]
    ) -> Result | None:
        """With ``--resume``, the run that is complete already, if it is the very same one."""
        import json

        from shunter.cli.policies import find_estimates
        from shunter.sim.replay import run_manifest
        from shunter.sim.result import Result

        folder = self.kept_folder(policy, backfill)
        if not (self.resume and folder is not None and folder.is_dir()):
            return None
        kept = Result.load(folder)
        wanted = run_manifest(
            trace,
            cluster,
            self.options(policy, backfill, cluster),
            window=self.window,
            clairvoyant=self.clairvoyant,
            estimates=find_estimates(self.estimates),
            default_request_s=self.default_request_s,
            defaults=resolved["defaults"],
            outages=resolved["outages"],
            faults=resolved["faults"],
            other_work=resolved["other_work"],
            holding=resolved["holding"],
            seed=self.seed,
        )
        wanted = json.loads(json.dumps(wanted))
        return kept if all(kept.manifest.get(key) == value for key, value in wanted.items()) else None

    @property
    def runs(self) -> list[tuple[str, str]]:
        """(policy, backfill) pairs, each once, in the order asked for."""
        return list(dict.fromkeys((p, b) for p in self.policies for b in self.backfills))


def check_writable(folder: Path) -> None:
    """Make sure before a long run that its results can be written.

    Raises:
        OutputError: The folder cannot be made, or nothing can be written in it.
    """
    from shunter.sim.run_folder import refuse_foreign

    refuse_foreign(folder)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Make sure that files can be written in a folder, which is made where there is none.

    Raises:
        OutputError: The folder cannot be made, or nothing can be written in it.
    """
    import os
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".shunter-", dir=folder)
        os.close(handle)
        Path(name).unlink()
    except OSError as error:
        raise OutputError(f"{folder}: cannot write results there: {error.strerror or error}") from None


def open_trace(
    name: str,
    *,
    trace_format: str | None = None,
    mapping: Path | None = None,
    skip_bad: bool = False,
    cluster: str | None = None,
    quiet: bool = False,
) -> tuple[Trace, ClusterSpec]:
    """Read a trace or demo trace, and the cluster to run it on; say what was left out of the trace."""
    from shunter.cli.console import note

    spec = None
    if cluster is not None:
        from shunter.traces.clusters import load_cluster

        spec = load_cluster(cluster)
    if name.startswith("demo:"):
        from shunter.traces.demo import demo_trace

        loaded = demo_trace(name.removeprefix("demo:"))
    else:
        from shunter.traces.read import read

        loaded = read(Path(name), format=trace_format, skip_bad=skip_bad, mapping=mapping)
    if not quiet and loaded.cleaning.rows_dropped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in loaded.cleaning.dropped.items() if count)
        note(
            f"{loaded.name}: {loaded.cleaning.rows_dropped:,} of {loaded.cleaning.rows_read:,} rows left out: {reasons}"
        )
    return loaded, spec or loaded.cluster


def run_all(trace: Trace, cluster: ClusterSpec, request: Request) -> list[Result]:
    """Replay under every policy asked for; Ctrl-C saves a checkpoint when there is a folder for it."""
    from shunter.cli.console import note, stop_on_signals
    from shunter.cli.policies import find_estimates, find_policy, guard_said
    from shunter.sim.replay import Interrupted, simulate
    from shunter.sim.run_folder import run_label

    prepare_kernels(quiet=request.quiet)
    results: list[Result] = []
    resolved = request.rules.resolve(
        trace,
        cluster,
        request.seed,
        window=request.window,
        default_request_s=request.default_request_s,
        quiet=request.quiet,
    )
    with stop_on_signals() as stop:
        for policy, backfill in request.runs:
            done = request.kept_run(policy, backfill, trace, cluster, resolved)
            if done is not None:
                results.append(done)
                continue
            checkpoint = request.checkpoint(policy, backfill)
            label = run_label(policy, backfill)
            try:
                with progress_bar(label, request.quiet) as progress:
                    result = simulate(
                        trace,
                        policy=find_policy(policy),
                        backfill=backfill,
                        placement=request.placement,
                        cluster=cluster,
                        window=request.window,
                        ties=request.ties,
                        depth=request.depth,
                        interval_s=request.interval_s,
                        clairvoyant=request.clairvoyant,
                        estimates=find_estimates(request.estimates),
                        default_request_s=request.default_request_s,
                        seed=request.seed,
                        **resolved,
                        engine=request.engine,
                        out=request.kept_folder(policy, backfill),
                        load_step_s=request.load_step_s,
                        progress=progress,
                        should_stop=stop,
                        checkpoint=checkpoint,
                        resume=bool(request.resume and checkpoint and checkpoint.exists()),
                    )
            except Interrupted as interrupted:
                jobs = f"{interrupted.simulation.num_done:,} of {interrupted.simulation.workload.num_jobs:,} jobs"
                how = "; the same command with --resume takes it up" if checkpoint else ""
                note(f"interrupted after {jobs} of {label}{how}")
                raise typer.Exit(130) from None
            results.append(result)
            said = guard_said(result.label, result.manifest.get("guard", {}))
            if said and not request.quiet:
                note(said)
    return results


def prepare_kernels(*, quiet: bool) -> None:
    """Load the compiled decision code; on the first run after installation say that it compiles."""
    from shunter.cli.console import note
    from shunter.scheduler.compiled import is_cached, warm_up

    if not is_cached() and not quiet:
        note("compiling the decision kernels, once after installation (up to a minute) …")
    warm_up()


@contextmanager
def progress_bar(label: str, quiet: bool) -> Iterator[Callable[[Simulation], None] | None]:
    """A progress line on standard error with jobs, simulated time and rate; nothing when it is no terminal."""
    import sys

    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("jobs · {task.fields[simulated]} simulated · {task.fields[rate]} jobs/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None, simulated="0 d", rate="–")

        def update(simulation: Simulation) -> None:
            spent_s = bar.tasks[0].elapsed or 0.0
            first_s = float(simulation.workload.columns.submit_s[0])
            bar.update(
                task,
                total=simulation.workload.num_jobs,
                completed=simulation.num_done,
                simulated=f"{(simulation.clock.now - first_s) / 86400:,.0f} d",
                rate=f"{simulation.num_done / spent_s:,.0f}" if spent_s > 0 else "–",
            )

        yield update


def save_all(results: Sequence[Result], out: Path, *, figures: bool, quiet: bool, load_step_s: float = 60.0) -> None:
    """Write results and report, whole or not at all: one run into ``out`` itself, several into one folder each."""
    from shunter.cli.console import note
    from shunter.sim import result
    from shunter.sim.report.html import write_report

    def finish(folder: Path) -> None:
        write_report(results, folder / "report.html")
        if figures:
            from shunter.sim.report.figures import write_figures

            write_figures(results, folder / "figures")

    result.save_all(results, out, finish, load_step_s=load_step_s)
    if not quiet:
        note(f"wrote {out / 'report.html'}")
