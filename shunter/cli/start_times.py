"""The estimator of start times, put together: rolls of ``sim``, draws of ``predictors``, answers of ``scheduler``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.start_times import Past, StartTimes, Told, fault_of

if TYPE_CHECKING:
    from shunter.predictors.start_calibration import Calibration
    from shunter.scheduler.decide import Settings
    from shunter.scheduler.snapshot import Snapshot


def tell_starts(snapshot: Snapshot, past: Past, settings: Settings, seed: int) -> StartTimes:
    """When the waiting jobs of a snapshot start; ``scheduler.start_times.TellStarts``.

    Intervals are those of the rolls; ``CalibratedStarts`` moves them by what became of earlier ones.

    Args:
        snapshot: The present, after its pass.
        past: What is known of other jobs.
        settings: How decisions are made.
        seed: Of what is drawn.
    """
    from shunter.predictors.run_times import RunJobs, RunTimes
    from shunter.predictors.starts import estimate_starts
    from shunter.sim.forward import Forward

    count = max(snapshot.num_waiting, 0)
    fault = fault_of(snapshot, past)
    if fault:
        return StartTimes.nothing(count, Told.BAD_INPUT, fault)
    try:
        forward = Forward(snapshot, settings, ledger=past.ledger, recent=past.recent, passed=True)
    except UsageError as error:
        return StartTimes.nothing(count, Told.UNSUPPORTED, str(error))
    if not count:
        return StartTimes.nothing(0, Told.ESTIMATED, "")
    recent = snapshot.columns.take(np.zeros(0, np.int64)) if past.recent is None else past.recent.columns
    columns = (snapshot.columns, recent)
    jobs = RunJobs(
        *(np.concatenate([getattr(c, name) for c in columns]) for name in ("user_idx", "requested_s", "processors"))
    )
    known = RunTimes(RunJobs(past.user_idx, past.requested_s, past.processors), past.run_s)
    draw = np.random.default_rng(seed)
    found = estimate_starts(forward, jobs, known, snapshot.now_s, draw, recent_s=recent.submit_s)
    rests_on = Told.ESTIMATED if forward.remade else Told.ORDER_KEPT
    rests_on = rests_on if len(past.run_s) else Told.BY_REQUEST
    starts = np.isfinite(found.high_s)
    low_s, median_s, high_s = (np.where(starts, each, np.nan) for each in (found.low_s, found.median_s, found.high_s))
    return StartTimes(low_s, median_s, high_s, tuple(rests_on if each else Told.NEVER for each in starts))


class CalibratedStarts:
    """``tell_starts`` with intervals moved by what became of earlier ones: a ``TellStarts`` with a memory.

    Jobs are known by the snapshot's own row numbers, which have to stay the same from one question to the next.
    """

    def __init__(self) -> None:
        from shunter.predictors.start_calibration import Calibration

        self._calibration: Calibration = Calibration()
        self._last_s = -np.inf

    def started(self, row: int, start_s: float) -> None:
        """A job has started: what was told of it is answered."""
        self._calibration.started(row, start_s)

    def __call__(self, snapshot: Snapshot, past: Past, settings: Settings, seed: int) -> StartTimes:
        """As ``tell_starts``; a question about an earlier present than the last one gets intervals as they are."""
        from shunter.predictors.starts import Estimates

        raw = tell_starts(snapshot, past, settings, seed)
        times = np.isfinite(raw.median_s)
        if not times.any() or snapshot.now_s < self._last_s:
            return raw
        self._last_s = snapshot.now_s
        rows = snapshot.rows[snapshot.num_running :][times].astype(np.float64)
        estimates = Estimates(raw.low_s[times], raw.median_s[times], raw.high_s[times])
        moved = self._calibration.adjusted(estimates, rows, snapshot.now_s)
        low_s, high_s = raw.low_s.copy(), raw.high_s.copy()
        low_s[times], high_s[times] = moved.low_s, moved.high_s
        return replace(raw, low_s=low_s, high_s=high_s)
