"""How much of a replay SimPy itself takes: making events, the event heap, and stepping from one to the next.

The same events at the same times are run through a bare ``EventClock`` whose callbacks decide nothing, in the same
rounds as the replay. A profile of one replay is the cross-check: it slows Python functions down and compiled code
not at all, so it puts SimPy's share too high.
"""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Prepared, Record, Subject, interleave
from benchmarks.replays import EASY, FCFS, Case, facts, simulation, subject
from benchmarks.workloads import Setup, gangs_on_nodes

if TYPE_CHECKING:
    from shunter.sim.workload import Workload
    from shunter.traces.tables import Trace

SIMPY_FILES = ("simpy/core.py", "simpy/events.py", "sim/clock.py")
HEAP_FUNCTIONS = ("heappush", "heappop")


@dataclass(frozen=True, slots=True)
class Schedule:
    """When things happen in a finished replay: instants of arrival, and starts with their ends in order of start."""

    arrivals_s: list[float]
    starts_s: list[float]
    ends_s: list[float]

    @classmethod
    def of(cls, workload: Workload, case: Case) -> Schedule:
        """Replay once and keep the times. Pass events, which only reservations and intervals need, are not kept."""
        from shunter.scheduler import layout as at

        replay = simulation(workload, case)
        replay.run()
        start_s = replay.state.jobs_f[at.START_S]
        order = np.argsort(start_s, kind="stable")[: int((~workload.rejected).sum())]
        return cls(
            arrivals_s=np.unique(workload.columns.submit_s).tolist(),
            starts_s=start_s[order].tolist(),
            ends_s=(start_s + workload.run_s)[order].tolist(),
        )

    @property
    def num_events(self) -> int:
        """Events that pass through the clock."""
        return len(self.arrivals_s) + len(self.ends_s)


def bare_run(schedule: Schedule) -> int:
    """Send the schedule's events through a bare clock, each put there when the replay would; returns their number."""
    from shunter.sim.clock import EventClock

    clock = EventClock()
    arrivals_s, starts_s, ends_s = schedule.arrivals_s, schedule.starts_s, schedule.ends_s
    num_jobs = len(starts_s)
    coming = iter(arrivals_s)

    def arrive(_event: Any) -> None:
        following = next(coming, None)
        if following is not None:
            clock.at(following, 3, on_arrival, None)  # Order.ARRIVAL; 0 below is Order.END

    def end(_event: Any) -> None:
        pass

    on_arrival: list[Callable[[Any], None]] = [arrive]
    on_end: list[Callable[[Any], None]] = [end]
    clock.at(next(coming), 3, on_arrival, None)
    queue, step, put = clock._queue, clock.step, clock.at
    job = count = 0
    while queue:
        step()
        count += 1
        if queue and queue[0][0] <= clock._now:
            continue
        now_s = clock._now
        while job < num_jobs and starts_s[job] <= now_s:
            put(ends_s[job], 0, on_end, job)
            job += 1
    return count


def bare(schedule: Schedule) -> Subject:
    """The bare clock to be timed."""

    def set_up() -> Prepared:
        return lambda: bare_run(schedule)

    return set_up


def profiled_share(workload: Workload, case: Case) -> float:
    """Share of a profiled replay that lies in SimPy, the clock and the heap functions."""
    replay = simulation(workload, case)
    profile = cProfile.Profile()
    profile.runcall(replay.run)
    stats: Any = pstats.Stats(profile)
    inside = sum(
        entry[2]
        for (file, _, function), entry in stats.stats.items()
        if file.replace("\\", "/").endswith(SIMPY_FILES) or any(name in function for name in HEAP_FUNCTIONS)
    )
    return float(inside / stats.total_tt)


def simpy_share(setup: Setup) -> Iterator[Record]:
    """SimPy's share of RICC FCFS, SDSC-SP2 EASY, and EASY on generated jobs on nodes."""
    for log, case in (("ricc", FCFS), ("sdsc-sp2", EASY)):
        if reason := setup.missing(log):
            yield Record("simpy-share", log, skipped=reason)
        else:
            yield share_of(setup.load(log), case, setup)
    yield share_of(gangs_on_nodes(setup.jobs(100_000), setup.seed), EASY, setup)


def share_of(trace: Trace, case: Case, setup: Setup) -> Record:
    """Time the replay and the bare clock in turns, and profile the replay once."""
    from shunter.sim.workload import prepare

    workload = prepare(trace, trace.cluster)
    schedule = Schedule.of(workload, case)
    timings = interleave({"replay": subject(workload, case), "bare": bare(schedule)}, repeat=setup.repeat)
    replay, alone = timings["replay"], timings["bare"]
    return Record(
        "simpy-share",
        f"{trace.name} {case.label}",
        timing=replay,
        jobs=workload.num_jobs,
        figures={
            "events": schedule.num_events,
            "bare_cpu_s": alone.cpu_s.median,
            "bare_us_per_event": alone.cpu_s.median / schedule.num_events * 1e6,
            "simpy_share": alone.cpu_s.median / max(replay.cpu_s.median, 1e-9),
            "simpy_share_by_profile": profiled_share(workload, case),
        },
        facts=facts(trace, case),
    )
