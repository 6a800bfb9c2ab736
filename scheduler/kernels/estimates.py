"""Run times predicted from what a user's last jobs took, and corrected when a job proves them wrong.

Without a model the prediction is the mean run time of the two jobs of the same user that ended last, never more than
the request, and the request for a user of whom fewer than two have ended. It is made when a job is submitted and not
renewed while the job waits. A running job that passes its prediction gets more time in growing steps, up to its
request.
Source: Tsafrir, Etsion & Feitelson, IEEE TPDS 18(6), 2007. With a model (``forecasts``) it is one of the model's
quantiles; all else is the same.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.durations import run_started
from shunter.scheduler.kernels.forecasts import Forecasts, forecast_ended, forecast_run, no_forecasts
from shunter.scheduler.kernels.lists import running_insert, running_remove
from shunter.scheduler.layout import (
    BOUND_S,
    DONE_S,
    END_S,
    EXPECTED_S,
    NUM_RUNNING,
    OVERHEAD_S,
    RATE,
    RUN,
    RUN_END_S,
    SCORE,
    SINCE_S,
    SLOWEST,
    START_S,
    STOPPING,
    TIMED,
    State,
)
from shunter.scheduler.types import FloatArray, Int, IntArray

MINUTE_S = 60.0
HOUR_S = 3600.0

STEPS_S = (
    1 * MINUTE_S, 5 * MINUTE_S, 15 * MINUTE_S, 30 * MINUTE_S, 1 * HOUR_S, 2 * HOUR_S, 5 * HOUR_S, 10 * HOUR_S,
    20 * HOUR_S, 50 * HOUR_S, 100 * HOUR_S,
)  # fmt: skip
"""What the first, second, … correction of a job adds; later ones add the last."""


class Estimates(NamedTuple):
    """What predictions are made from. Without rows nothing is predicted.

    Attributes:
        user: (J,) column of the user's history; 0 for unknown users, who have none.
        request_s: (J,) what is left of the request: the most that is predicted; inf where a model knows of none.
        expected_s: (J,) the predictions; a copy of row EXPECTED_S of the state, for orderings.
        corrections: (J,) how often the present prediction has been corrected.
        run_s: (2, U) run times of the two jobs that ended last, the last one second; NaN: there is none.
        ended_s: (2, U) when they ended; of jobs that end at once the larger row is the later.
        row: (2, U) their rows.
        scores: (1,) 1 where the prediction is also the job's score.
        forecasts: The model at work; without quantiles the user's last two jobs are counted with.
    """

    user: IntArray
    request_s: FloatArray
    expected_s: FloatArray
    corrections: IntArray
    run_s: FloatArray
    ended_s: FloatArray
    row: IntArray
    scores: IntArray
    forecasts: Forecasts


@compiled
def learn_run(estimates: Estimates, row: Int, run_s: float, now_s: float) -> None:
    """A job has ended now, after ``run_s`` seconds; a model is told of those that end at once in the order of rows."""
    if len(estimates.forecasts.levels) > 0:
        forecast_ended(estimates.forecasts, row, run_s, now_s)
        return
    user = estimates.user[row]
    if user == 0:
        return
    newest = not (estimates.ended_s[1, user] == now_s and estimates.row[1, user] > row)
    if newest:
        estimates.run_s[0, user] = estimates.run_s[1, user]
        estimates.ended_s[0, user] = estimates.ended_s[1, user]
        estimates.row[0, user] = estimates.row[1, user]
    elif estimates.ended_s[0, user] == now_s and estimates.row[0, user] > row:
        return
    place = 1 if newest else 0
    estimates.run_s[place, user] = run_s
    estimates.ended_s[place, user] = now_s
    estimates.row[place, user] = row


@compiled
def note_start(estimates: Estimates, row: Int, now_s: float) -> None:
    """A job starts."""
    if len(estimates.forecasts.levels) > 0:
        run_started(estimates.forecasts.facts, estimates.forecasts.histories, row, now_s)


@compiled
def expect(estimates: Estimates, row: Int, now_s: float) -> float:
    """The prediction of a job that is submitted now."""
    if len(estimates.forecasts.levels) > 0:
        return min(forecast_run(estimates.forecasts, row, now_s), estimates.request_s[row])
    user = estimates.user[row]
    mean_s = (estimates.run_s[0, user] + estimates.run_s[1, user]) / 2.0
    return np.fmin(mean_s, estimates.request_s[row])  # without history the mean is NaN


@compiled
def predict(jobs_f: FloatArray, estimates: Estimates, first: Int, last: Int, now_s: float) -> None:
    """Jobs of rows ``first``..``last`` are submitted now."""
    for row in range(first, last):
        expected_s = expect(estimates, row, now_s)
        estimates.expected_s[row] = expected_s
        jobs_f[EXPECTED_S, row] = expected_s
        jobs_f[BOUND_S, row] = jobs_f[OVERHEAD_S, row] + expected_s / jobs_f[SLOWEST, row]
        if estimates.scores[0] == 1:
            jobs_f[SCORE, row] = expected_s


@compiled
def correct(st: State, estimates: Estimates, now_s: float) -> None:
    """Give the running jobs that have passed their predictions more time, after the ends of this instant."""
    place = 0
    while place < st.counters[NUM_RUNNING] and st.jobs_f[RUN_END_S, place] <= now_s:
        row = st.jobs_i[RUN, place]
        end_s = corrected_end(st, estimates, row, now_s)
        if end_s > st.jobs_f[END_S, row]:
            running_remove(st, row)
            running_insert(st, row, end_s)
        else:
            place += 1


@compiled
def corrected_end(st: State, estimates: Estimates, row: Int, now_s: float) -> float:
    """When a running job is now expected to end: after ``now_s``, or at its request."""
    end_s = st.jobs_f[END_S, row]
    expected_s, most_s = st.jobs_f[EXPECTED_S, row], estimates.request_s[row]
    if st.jobs_i[STOPPING, row] == 1:
        return end_s
    while end_s <= now_s and expected_s < most_s:
        step_s = STEPS_S[min(estimates.corrections[row], len(STEPS_S) - 1)]
        estimates.corrections[row] += 1
        expected_s = min(expected_s + step_s, most_s)
        if st.counters[TIMED] == 1:
            end_s = st.jobs_f[SINCE_S, row] + (expected_s - st.jobs_f[DONE_S, row]) / st.jobs_f[RATE, row]
        else:
            end_s = st.jobs_f[START_S, row] + expected_s
    st.jobs_f[EXPECTED_S, row] = expected_s
    estimates.expected_s[row] = expected_s
    return end_s


def no_estimates() -> Estimates:
    """Estimates of nothing."""
    none, numbers = np.zeros(0), np.zeros(0, np.int64)
    return Estimates(
        numbers,
        none,
        none,
        numbers,
        np.zeros((2, 0)),
        np.zeros((2, 0)),
        np.zeros((2, 0), np.int64),
        np.zeros(1, np.int64),
        no_forecasts(),
    )
