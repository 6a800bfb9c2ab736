"""Replays that are stopped to ask when waiting jobs will start."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shunter.predictors.run_quantiles import RunQuantiles
from shunter.predictors.run_times import RunJobs, RunTimes
from shunter.predictors.start_calibration import Calibration
from shunter.predictors.starts import DAY_S, SHIFTS, Estimates, estimate_starts
from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.errors import UsageError
from shunter.scheduler.start_times import Recent
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.engine import Options, Simulation
from shunter.sim.forward import Forward
from shunter.sim.portfolio import choose_policy
from shunter.sim.workload import Workload, prepare
from shunter.traces.read import read
from shunter.traces.submissions import recorded

if TYPE_CHECKING:
    from shunter.scheduler.policies.registry import ChosenOrdering

SWF = Path(__file__).resolve().parents[2] / ".." / "shared" / "traces" / "swf"
LOGS = [SWF / f"{name}.swf.gz" for name in ("SDSC-SP2-1998-4.2-cln", "CTC-SP2-1996-3.1-cln", "KTH-SP2-1996-2.1-cln")]

ENDED = 5_000
"""Ended jobs that run times are drawn from."""

RECENT = 4_000
"""Recent jobs that may come again, at most."""

QUICK_JOBS = 5_000

RUN_TIMES = ("jobs", "model")
"""Where run times are drawn from: ended jobs that are alike, or the quantiles of the predictor that ships."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is tried."""

    logs: tuple[str, ...]
    policy: str
    backfill: str
    every_s: float
    share: float = 1.0
    run_times: str = "jobs"


@dataclass(frozen=True, slots=True)
class Trial:
    """What was told of a log's waiting jobs, and what came of it; (E,) each, times of the replay.

    Attributes:
        name: Of the log.
        made_s: When each estimate was made.
        told: Medians and calibrated bounds.
        raw: The same before calibration.
        by_request_s: By requests alone.
        start_s: The truth.
        spent_s: (L,) seconds that each look took.
        queue: (L,) waiting jobs at each.
    """

    name: str
    made_s: FloatArray
    told: Estimates
    raw: Estimates
    by_request_s: FloatArray
    start_s: FloatArray
    spent_s: FloatArray
    queue: IntArray


def investigate(asked: Asked, *, quick: bool, progress: Callable[[str], None]) -> list[Trial]:
    """Try estimates on each log.

    Raises:
        UsageError: Something that was asked for cannot be.
        TraceError: A log cannot be read.
    """
    if not asked.every_s > 0:
        raise UsageError(f"--every {asked.every_s / 3600.0:g} is not a number of hours above 0")
    if not 0 < asked.share <= 1:
        raise UsageError(f"--share {asked.share:g} is not above 0 and at most 1")
    trials = []
    for log in asked.logs:
        trace = read(Path(log), skip_bad=True)
        count = int(asked.share * len(trace.jobs))
        trace = trace.window(0, min(QUICK_JOBS, count) if quick else count)
        progress(f"{trace.name}: {len(trace.jobs):,} jobs under {asked.policy}")
        settings = Settings(ordering_of(asked.policy), asked.backfill)
        workload = prepare(trace, trace.cluster)
        told = quantiles_of(workload, settings) if asked.run_times == "model" else None
        trials.append(trial(trace.name, workload, settings, asked.every_s, told))
    return trials


@dataclass(frozen=True, slots=True)
class Quantiles:
    """What a model said of each job's run time when it was submitted.

    Attributes:
        known: Draws by them.
        seconds: (J, L) the quantiles.
    """

    known: RunQuantiles
    seconds: FloatArray


def quantiles_of(workload: Workload, settings: Settings) -> Quantiles:
    """Of the predictor that ships, which at each submission knows the jobs that had ended by then in this replay."""
    from shunter.predictors.duration_bundle import load_durations, shipped_durations

    model = load_durations(shipped_durations()).model
    simulation = Simulation(workload, Options(settings))
    simulation.run()
    start_s = np.where(workload.rejected, workload.columns.submit_s, simulation.state.jobs_f[at.START_S])
    return Quantiles(RunQuantiles(np.asarray(model.levels)), recorded(workload.trace, start_s).quantiles(model))


def ordering_of(name: str) -> ChosenOrdering:
    """An ordering by its name; ``learned`` is the shipped one."""
    if name != "learned":
        return choose_policy(name)
    from shunter.agents.bundle import load_bundle, shipped

    return load_bundle(shipped(name)).ordering()


class Teller:
    """Tells, at an instant of a replay, when its waiting jobs will start."""

    def __init__(self, simulation: Simulation, told: Quantiles | None = None) -> None:
        self.simulation = simulation
        self.workload: Workload = simulation.workload
        columns = self.workload.columns
        seconds = None if told is None else told.seconds
        self.jobs = RunJobs(columns.user_idx, columns.requested_s, columns.processors, seconds)
        self.by_model = None if told is None else told.known
        self.rng = np.random.default_rng(0)
        self.calibration = Calibration()
        self._told_until_s = -np.inf

    def tell(self, now_s: float) -> tuple[IntArray, Estimates, Estimates, FloatArray]:
        """Rows of the waiting jobs, what is told, the same before calibration, and what requests say."""
        simulation, columns = self.simulation, self.workload.columns
        snapshot = simulation.snapshot(now_s)
        rows = self._recent(now_s)
        known_of = simulation.learned.source.known_of if simulation.learned is not None else lambda _: None
        demand = self.workload.demand
        recent = Recent(columns.take(rows), demand.tasks[rows], demand.shape_idx[rows], known_of(rows))
        settings, ledger = simulation.options.settings, simulation.ledger
        forward = Forward(snapshot, settings, ledger=ledger, recent=recent, passed=True)
        everybody = np.concatenate([snapshot.rows, rows])
        known = self._known(now_s)
        raw = estimate_starts(
            forward,
            self.jobs.take(everybody),
            self.by_model or known,
            now_s,
            self.rng,
            recent_s=columns.submit_s[rows],
        )
        waiting = snapshot.rows[snapshot.num_running :]
        told = self.calibration.adjusted(raw, waiting.astype(np.float64), now_s)
        request_s = columns.requested_s[snapshot.rows].copy()
        elapsed_s = forward.elapsed_s
        running = request_s[: len(elapsed_s)]
        running[:] = np.where(running > elapsed_s, running, elapsed_s + at.OVERRUN_GRACE_S)
        present = Forward(snapshot, settings, ledger=ledger, passed=True, remake=False)
        return waiting, told, raw, present.starts(request_s)

    def _recent(self, now_s: float) -> IntArray:
        """Rows of the jobs that were submitted of late."""
        submit_s = self.workload.columns.submit_s
        first, last = np.searchsorted(submit_s, [now_s - SHIFTS[1] * DAY_S, now_s], "right")
        rows = np.arange(first, last)
        entered: IntArray = rows[~self.workload.rejected[rows]]
        return entered[-RECENT:]

    def _known(self, now_s: float) -> RunTimes:
        """What the jobs tell that have ended, and the answers to earlier estimates."""
        start_s = self.simulation.state.jobs_f[at.START_S]
        for row in np.flatnonzero((start_s > self._told_until_s) & (start_s <= now_s)):
            self.calibration.started(int(row), float(start_s[row]))
        self._told_until_s = now_s
        end_s = start_s + self.workload.run_s
        ended = np.flatnonzero(end_s <= now_s)
        ended = ended[np.argsort(end_s[ended], kind="stable")][-ENDED:]
        return RunTimes(self.jobs.take(ended), self.workload.run_s[ended])


def trial(name: str, workload: Workload, settings: Settings, every_s: float, told_of: Quantiles | None = None) -> Trial:
    """Replay a log, and ask every so many seconds."""
    simulation = Simulation(workload, Options(settings))
    teller = Teller(simulation, told_of)
    look_s, told, spent, queue = every_s, [], [], []

    def is_time() -> bool:
        return bool(simulation.clock._now >= look_s)

    while not simulation.run(is_time, every=1):
        now_s = simulation.clock._now
        look_s = now_s + every_s
        if len(simulation.state.queue):
            begin_s = time.perf_counter()
            told.append((now_s, *teller.tell(now_s)))
            spent.append(time.perf_counter() - begin_s)
            queue.append(len(simulation.state.queue))
    if not told:
        raise UsageError(f"{name}: nobody waited whenever it was looked at; look more often with --every")
    rows = np.concatenate([rows for _, rows, *_ in told])
    return Trial(
        name=name,
        made_s=np.concatenate([np.full(len(rows), now_s) for now_s, rows, *_ in told]),
        told=_joined([each for _, _, each, *_ in told]),
        raw=_joined([each for _, _, _, each, _ in told]),
        by_request_s=np.concatenate([each for *_, each in told]),
        start_s=simulation.state.jobs_f[at.START_S, rows],
        spent_s=np.asarray(spent),
        queue=np.asarray(queue),
    )


def _joined(parts: Sequence[Estimates]) -> Estimates:
    return Estimates(*(np.concatenate([getattr(e, f) for e in parts]) for f in ("low_s", "median_s", "high_s")))
