"""When everybody who waits will start: rolls of the present under drawn run times and arrivals, one look at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.inference import waiting
from benchmarks.measure import Record, Target, Timing
from benchmarks.workloads import Setup

if TYPE_CHECKING:
    from shunter.scheduler.decide import Settings

LENGTHS = {100: 0.2, 1_000: 1.0}
"""Waiting jobs → seconds that telling when they start may take."""

RECENT, ENDED = 1_000, 5_000
NOW_S = 20 * 86400.0


def starts(setup: Setup) -> Iterator[Record]:
    """Start times with intervals for queues of 100 and 1,000 jobs on a full pool under EASY, with jobs to come.

    First come, first served, which has targets, and in the order of the model that ships.
    """
    from shunter.agents.bundle import load_bundle, shipped
    from shunter.predictors.starts import FEW, SAMPLES
    from shunter.scheduler.decide import Settings

    orders = {"": Settings(backfill="easy")}
    orders[", learned order"] = Settings(load_bundle(shipped("learned")).ordering(), "easy")
    for name, settings in orders.items():
        for wanted, at_most in LENGTHS.items():
            jobs = setup.jobs(wanted)
            timing, running = _timed(jobs, settings, setup)
            yield Record(
                "starts",
                f"{wanted} waiting jobs{name}",
                timing=timing,
                jobs=jobs,
                targets=(Target("wall_s", at_most=at_most),) if not name else (),
                facts={"rolls": FEW if name else SAMPLES, "running": running, "recent": RECENT, "ended": ENDED},
            )


def _timed(jobs: int, settings: Settings, setup: Setup) -> tuple[Timing, int]:
    """How long telling everybody takes, and how many jobs run."""
    from shunter.predictors.run_times import RunJobs, RunTimes
    from shunter.predictors.starts import SHIFTS, estimate_starts
    from shunter.scheduler.start_times import Recent
    from shunter.sim.forward import Forward

    state, learned = waiting(jobs, setup.seed)
    snapshot = state.snapshot(NOW_S)
    snapshot = replace(snapshot, histories=learned.source.known_of(snapshot.rows))
    draw = np.random.default_rng(setup.seed)
    again = draw.integers(0, len(state.columns), RECENT)
    submit_s = np.sort(draw.uniform(NOW_S - SHIFTS[1] * 86400.0, NOW_S, RECENT))
    columns = state.columns.take(again, frozen=False)
    columns.submit_s[:] = submit_s
    histories = learned.source.known_of(again)
    recent = Recent(columns, state.demand.tasks[again], state.demand.shape_idx[again], histories)
    everybody = RunJobs(state.columns.user_idx, state.columns.requested_s, state.columns.processors)
    ended = draw.integers(0, len(state.columns), ENDED)
    run_s = everybody.request_s[ended] * draw.uniform(0.0, 1.0, ENDED)
    pairs = []
    for _ in range(3 * setup.repeat + 1):
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        known = RunTimes(everybody.take(ended), run_s)
        forward = Forward(snapshot, settings, recent=recent, passed=True)
        asked = everybody.take(np.concatenate([snapshot.rows, again]))
        estimate_starts(forward, asked, known, NOW_S, np.random.default_rng(0), recent_s=submit_s)
        pairs.append((time.perf_counter() - wall_s, time.process_time() - cpu_s))
    return Timing.of(pairs[1:]), snapshot.num_running  # the first one compiles
