"""What ``--failures`` and its companions ask for: rates, recorded attempts, logs of outages, plans of maintenance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from shunter.scheduler.failover import Flapping
    from shunter.sim.attempts import JobFailures
    from shunter.sim.failures import Outages
    from shunter.traces.tables import ClusterSpec, Trace

DRAWN, RECORDED = "drawn", "recorded"
DAY_S = 86400.0
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Failing:
    """What fails, and how nodes that keep failing are treated.

    Attributes:
        sources: ``drawn``, ``recorded`` or files; they are joined.
        flap_limit: Failures within the window after which a node is held out; 0: it never is.
        flap_window_s: The window.
        probation_s: How long it is held out.
    """

    sources: tuple[str, ...] = ()
    flap_limit: int = 0
    flap_window_s: float = 24 * 3600.0
    probation_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.flap_limit < 0:
            raise UsageError(f"flap limit {self.flap_limit} is negative; 0 holds no node out")
        self.flapping()

    def flapping(self) -> Flapping | None:
        """The rule for nodes that keep failing; None without one."""
        if self.flap_limit == 0:
            return None
        from shunter.scheduler.failover import Flapping

        return Flapping(self.flap_limit, self.flap_window_s, self.probation_s)

    def resolve(
        self, trace: Trace, cluster: ClusterSpec, seed: int, *, quiet: bool = False
    ) -> tuple[Outages | None, JobFailures | None]:
        """Outages of nodes, and failures of jobs; None of either that was not asked for. Says what was found.

        Raises:
            ShunterError: A file that cannot be read, or names nodes or jobs that there are not.
        """
        from shunter.cli.console import note
        from shunter.sim.failures import merged
        from shunter.sim.flapping import with_probation

        tell = (lambda _: None) if quiet else note
        parts: list[Outages] = []
        faults: list[JobFailures] = []
        for source in dict.fromkeys(self.sources):
            path = Path(trace.source if source == RECORDED else source)
            if source == DRAWN:
                parts.append(_drawn(trace, cluster, seed, tell))
            elif source == RECORDED or _lists_attempts(path):
                faults.append(_recorded(path, trace, tell, asked=source == RECORDED))
            else:
                parts.append(_from_file(path, trace, cluster, tell))
        if len(faults) > 1:
            raise UsageError("--failures: attempts of jobs can be taken from one log only")
        outages = parts[0] if len(parts) == 1 else merged(*parts) if parts else None
        rule = self.flapping()
        if outages is not None and rule is not None:
            outages = with_probation(outages, rule)
        return outages, faults[0] if faults else None


def _drawn(trace: Trace, cluster: ClusterSpec, seed: int, tell: Tell) -> Outages:
    from shunter.sim.failures import draw_outages, horizon_s

    outages = draw_outages(cluster, until_s=horizon_s(trace, cluster), seed=seed)
    if not len(outages):
        tell(f"cluster {cluster.name!r} states no failure rates (mtbf_h): nothing will fail")
    return outages


def _from_file(path: Path, trace: Trace, cluster: ClusterSpec, tell: Tell) -> Outages:
    """A plan of maintenance in YAML, or else a log of outages."""
    from shunter.sim.failure_logs import read_outages
    from shunter.sim.failures import horizon_s
    from shunter.sim.maintenance import read_maintenance

    if path.suffix.lower() in (".yaml", ".yml"):
        return read_maintenance(path, cluster, until_s=horizon_s(trace, cluster))
    outages = read_outages(path, cluster)
    for text in outages.notes:
        tell(f"{path.name}: {text}")
    last_s = float(outages.time_s[-1]) if len(outages) else 0.0
    trace_s = float(trace.jobs.floats("submit_s").max(initial=0.0))
    if last_s < trace_s:
        tell(f"{path.name} ends on day {last_s / DAY_S:.1f} of {trace_s / DAY_S:.1f}: nothing happens later")
    return outages


def _lists_attempts(path: Path) -> bool:
    """Whether a file is a JSON list, as a log of attempts is, and not a table."""
    from shunter.traces.compression import read_bytes

    return path.suffix.lower() not in (".yaml", ".yml") and read_bytes(path).lstrip()[:1] == b"["


def _recorded(path: Path, trace: Trace, tell: Tell, *, asked: bool) -> JobFailures:
    """The failed attempts of a job log, for the jobs of the trace."""
    from shunter.sim.attempts import attempt_failures, job_failures

    if asked and trace.format != "philly-attempts":
        raise UsageError(
            f"--failures recorded: {trace.name} (format {trace.format or 'none'}) does not list the attempts of its "
            "jobs, as Philly's job log does; give the log of attempts itself, or drawn"
        )
    log = attempt_failures(path)
    ids = trace.jobs.frame["job_id"].to_list()
    known = len(set(ids) & set(log.job_id))
    if not known:
        raise UsageError(f"{path}: none of its {len(log.job_id):,} jobs is one of the {len(ids):,} of {trace.name}")
    faults = job_failures(log, ids)
    tell(f"{path.name}: {len(faults):,} attempts fail, of {int((faults.attempt == 1).sum()):,} of {len(ids):,} jobs")
    return faults
