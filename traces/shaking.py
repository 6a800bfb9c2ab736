"""Input shaking: the same jobs, submitted a little earlier or later, so that luck can be told from what is not.

Which of two jobs comes first by a minute can decide who waits for hours. A schedule of one log is one draw of that
luck; means over several shaken copies say what a policy does with such a log (Tsafrir, Ouaknine & Feitelson, Reducing
performance evaluation sensitivity and variability by input shaking, MASCOTS 2007).

What a user submits in one session is shifted together: within a session jobs follow from each other (Zakay &
Feitelson, On identifying user session boundaries in parallel workload logs, JSSPP 2012).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import TraceError, UsageError

if TYPE_CHECKING:
    from shunter.scheduler.types import FloatArray, IntArray
    from shunter.traces.tables import Trace

SPAN_S = 3600.0
"""Largest shift unless said: smaller ones leave most schedules as they were."""

SESSION_S = 1200.0
"""A user who submits nothing for so long has begun another session (Zakay & Feitelson, 2012)."""


def shaken(trace: Trace, seed: int, *, span_s: float = SPAN_S, rows: tuple[int, int] | None = None) -> Trace:
    """A trace whose sessions are shifted by up to ``span_s`` seconds, each by its own amount, uniformly drawn.

    Deadlines move with their jobs. The jobs of ``rows`` change places among themselves only: none is shifted to before
    the first submission or behind the last one (it is reflected there), and all other rows stay as they are.

    Args:
        trace: The trace.
        seed: Of the shifts; the same seed gives the same copy.
        span_s: Largest shift, in seconds.
        rows: First row that is shaken, and the row after the last; by default all.

    Raises:
        UsageError: A span that is no finite number above 0.
        TraceError: Rows that the trace does not have.
    """
    import polars as pl

    if not (np.isfinite(span_s) and span_s > 0):
        raise UsageError(f"a shift of up to {span_s:g} s: expected a finite number above 0")
    first, last = rows or (0, len(trace.jobs))
    if not 0 <= first < last <= len(trace.jobs):
        raise TraceError(f"rows {first} to {last} do not lie inside {trace.name!r}, which has {len(trace.jobs)} jobs")
    part = trace.window(first, last - first).jobs
    submit_s = part.floats("submit_s")
    session = sessions(submit_s, part.codes("user")[0])
    shift_s = np.random.default_rng(seed).uniform(-span_s, span_s, session.max() + 1)[session]
    moved_s = _reflected(submit_s + shift_s, submit_s[0], submit_s[-1])
    frame = part.frame.with_columns(
        submit_s=pl.Series(moved_s), deadline_s=pl.col("deadline_s") + pl.Series(moved_s - submit_s)
    )
    whole = trace.jobs.frame
    frame = pl.concat([whole.head(first), frame.sort("submit_s", maintain_order=True), whole.slice(last)])
    return replace(trace, jobs=replace(trace.jobs, frame=frame))


def sessions(submit_s: FloatArray, user: IntArray) -> IntArray:
    """(J,) number of the session of each job, of jobs in submit order; one of no user is a session of its own.

    Args:
        submit_s: (J,) submissions.
        user: (J,) codes of users; negative where there is none.
    """
    order = np.lexsort((submit_s, user))
    user, submit_s = user[order], submit_s[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (user[1:] != user[:-1]) | (user[1:] < 0) | (np.diff(submit_s) > SESSION_S)
    session = np.empty(len(order), np.int64)
    session[order] = np.cumsum(begins) - 1
    return session


def _reflected(values: FloatArray, low: float, high: float) -> FloatArray:
    """Values thrown back at both bounds; those that would come out on the other side stay at the bound."""
    values = np.where(values < low, 2 * low - values, values)
    values = np.where(values > high, 2 * high - values, values)
    return np.clip(values, low, high)
