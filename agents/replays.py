"""Replays for judging policies: only the start times, and the metrics of the windows that count.

The whole path of ``simulate`` without its tables: a thousand jobs take milliseconds, and a comparison needs thousands
of such replays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.agents.protocols import Stretch
from shunter.scheduler.metrics import Outcome, summarise
from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.scheduler.durations import RunModel
    from shunter.scheduler.policies import ChosenOrdering
    from shunter.sim.compat.rlscheduler import RlsJobs
    from shunter.traces.tables import ClusterSpec, Trace

METRICS = (
    "avg_bounded_slowdown",
    "p95_bounded_slowdown",
    "avg_wait_s",
    "p95_wait_s",
    "avg_jct_s",
    "utilisation",
    "jain_fairness",
)
"""What is measured of every window; names of ``scheduler.metrics``."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When jobs ran; rows are jobs in submit order, all arrays (J,).

    Attributes:
        submit_s: Submissions.
        start_s: First starts; NaN for a job that never ran.
        end_s: Ends.
        run_s: Seconds of execution.
        processors: Units of the scarce resource that a job holds.
        user_idx: Its user, −1 unknown.
        total: Units of the whole cluster.
        warm: Whether jobs before and after a window were replayed with it.
        held_throughout: Whether jobs hold their processors from start to end. Where they are stopped in between, all
            that is not execution counts as waiting, and utilisation is not known.
    """

    submit_s: FloatArray
    start_s: FloatArray
    end_s: FloatArray
    run_s: FloatArray
    processors: FloatArray
    user_idx: IntArray
    total: float
    warm: bool = True
    held_throughout: bool = True

    def window(self, first: int, last: int) -> dict[str, float]:
        """``METRICS`` of the jobs in rows [first, last), and ``jobs``, how many of them ran.

        A metric that they do not give is absent. ``utilisation`` counts whatever runs, whoever's it is, from the
        window's first submission to the submission after its last: in a warm queue that is the span in which its jobs
        arrive. Of a window from an empty cluster it is that of ``summarise``, up to the last end.
        """
        ran = np.zeros(len(self.submit_s), dtype=np.bool_)
        ran[first:last] = ~np.isnan(self.start_s[first:last])
        start_s = self.start_s if self.held_throughout else self.end_s - self.run_s
        found = summarise(
            Outcome(
                submit_s=self.submit_s[ran],
                start_s=start_s[ran],
                end_s=self.end_s[ran],
                run_s=self.run_s[ran],
                used={"cpus": self.processors[ran]},
                available={"cpus": self.total},
                deadline_s=np.full(int(ran.sum()), np.nan),
                failed=0,
                rejected=0,
                backfilled=0,
                user_idx=self.user_idx[ran],
            )
        )
        if not self.held_throughout:
            found.pop("utilisation", None)
        elif self.warm:
            found.pop("utilisation", None)
            span_s = float(self.submit_s[first]), float(self.submit_s[min(last, len(self.submit_s) - 1)])
            if span_s[1] > span_s[0]:
                found["utilisation"] = self.held(*span_s) / (self.total * (span_s[1] - span_s[0]))
        return {name: found[name] for name in METRICS if name in found} | {"jobs": float(ran.sum())}

    def held(self, from_s: float, to_s: float) -> float:
        """Processor-seconds that jobs held between two times."""
        part_s = np.minimum(self.end_s, to_s) - np.maximum(self.start_s, from_s)
        return float((self.processors * np.maximum(np.nan_to_num(part_s), 0.0)).sum())


def replay(
    trace: Trace,
    cluster: ClusterSpec,
    first: int,
    last: int,
    *,
    policy: str | ChosenOrdering,
    backfill: str,
    preempts: bool = False,
    estimates: str | RunModel = "request",
    default_request_s: float | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Schedule | None:
    """Replay rows [first, last) of a trace from an empty cluster, with what the rows before them taught.

    Args:
        trace: The trace.
        cluster: What to run on.
        first: First row.
        last: Row after the last.
        policy: As for ``simulate``.
        backfill: As for ``simulate``.
        preempts: Running jobs that the ordering ranks behind are stopped for waiting ones.
        estimates: As for ``simulate``.
        default_request_s: As for ``simulate``.
        should_stop: Asked a few times a second.

    Returns:
        The schedule; None when ``should_stop`` said so.
    """
    from shunter.scheduler.compiled import warm_up
    from shunter.scheduler.preemption import Preemption
    from shunter.sim.engine import Simulation
    from shunter.sim.outcome import times_of
    from shunter.sim.replay import options_for
    from shunter.sim.rollout import choose_engine, run_compiled
    from shunter.sim.workload import prepare, with_past

    rules = Preemption(("policy",)) if preempts else None
    options = options_for(cluster, policy=policy, backfill=backfill, preemption=rules, details=False)
    warm_up()
    workload = prepare(
        trace.window(first, last - first), cluster, estimates=estimates, default_request_s=default_request_s
    )
    ordering = options.settings.ordering.ordering
    workload = with_past(workload, trace, first, ordering=ordering, default_request_s=default_request_s)
    simulation = Simulation(workload, options)
    compiled = choose_engine(simulation, "auto") == "compiled"
    complete = run_compiled(simulation, should_stop) if compiled else simulation.run(should_stop)
    simulation.close()
    if not complete:
        return None
    start_s, end_s = times_of(simulation)
    start_s = np.where(workload.rejected, np.nan, start_s)
    columns = workload.columns
    return Schedule(
        submit_s=columns.submit_s,
        start_s=start_s,
        end_s=np.where(workload.rejected, np.nan, end_s),
        run_s=workload.run_s,
        processors=columns.processors,
        user_idx=columns.user_idx,
        total=workload.capacity.processors,
        held_throughout=not preempts,
    )


def schedule_of(jobs: RlsJobs, start_s: IntArray, max_procs: int) -> Schedule:
    """A window of protocol rlscheduler as a schedule, from the (J,) start times of its jobs."""
    run_s = jobs.run_s.astype(np.float64)
    return Schedule(
        submit_s=jobs.submit_s.astype(np.float64),
        start_s=start_s.astype(np.float64),
        end_s=start_s + run_s,
        run_s=run_s,
        processors=jobs.procs.astype(np.float64),
        user_idx=np.where(jobs.user < 0, -1, jobs.user),
        total=float(max_procs),
        warm=False,
    )


def windows_of(schedule: Schedule, stretch: Stretch) -> list[dict[str, float]]:
    """The metrics of every window of a stretch that was replayed from its first row on."""
    return [schedule.window(first - stretch.first, last - stretch.first) for first, last in stretch.windows]
