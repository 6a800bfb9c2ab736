"""Quantiles of a job's run time, predicted when it is submitted and calibrated by what ended since: compiled.

A model tells quantiles of log(run time) as differences from the typical run time of such jobs. The lowest and the
highest are shifted so that the interval between them holds the share of jobs that it should, whatever the model is
worth and however the load changes: by the quantile of what the newest ended jobs took beyond them, at a level that
rises while too few lie below and falls while too many do. Source: adaptive conformal inference, Gibbs & Candès, NeurIPS
2021. A job's own run time moves shifts and histories when it ends, never before. Run times count up to the request.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.durations import (
    TYPICAL,
    RunFacts,
    RunHistories,
    run_ended,
    run_started,
    run_submitted,
    write_run_features,
)
from shunter.scheduler.kernels.forest import Forest, no_forest, predict_row
from shunter.scheduler.kernels.logs import exp_of, log_of
from shunter.scheduler.types import FloatArray, Int, IntArray

LEAST_SEEN = 50
"""Ended jobs before the calibration begins."""


class Forecasts(NamedTuple):
    """A model at work on the jobs of one queue.

    Attributes:
        facts: Of the jobs.
        histories: What is known of their users.
        forest: Q ensembles, one a quantile; none: only histories are kept.
        levels: (Q,) shares of jobs that are to lie below each quantile, rising.
        shift: (Q,) calibration of each, in logarithms.
        lift: (Q,) by how much the level differs at which the calibration of each is read.
        beyond: (Q, W) what the newest ended jobs took beyond each quantile as it was told uncalibrated, in logarithms.
        ordered: (Q, W) the same, rising.
        seen: (1,) ended jobs of which a quantile had been told.
        rate: (1,) by how much an ended job moves a level at most.
        most_s: (J,) largest run time that is told: what is left of the request, or inf.
        at_level: (1,) which quantile decisions count with.
        raw: (J, Q) quantiles of log(run time) before the calibration; NaN: none has been told.
        x: (F,) room for features.
        told: (Q,) room for quantiles.
    """

    facts: RunFacts
    histories: RunHistories
    forest: Forest
    levels: FloatArray
    shift: FloatArray
    lift: FloatArray
    beyond: FloatArray
    ordered: FloatArray
    seen: IntArray
    rate: FloatArray
    most_s: FloatArray
    at_level: IntArray
    raw: FloatArray
    x: FloatArray
    told: FloatArray


@compiled
def sort_rising(values: FloatArray) -> None:
    """Put a few values in order, so that no quantile lies below a lower one."""
    for i in range(1, len(values)):
        value = values[i]
        place = i
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value


@compiled
def tell_quantiles(forecasts: Forecasts, row: Int) -> None:
    """Write the calibrated quantiles of a job's run time into ``told``: seconds, at least 1 and at most the request."""
    told = forecasts.told
    for q in range(len(told)):
        told[q] = min(max(forecasts.raw[row, q] + forecasts.shift[q], 0.0), 30.0)
    sort_rising(told)
    for q in range(len(told)):
        told[q] = min(exp_of(told[q]), forecasts.most_s[row])


@compiled
def forecast_run(forecasts: Forecasts, row: Int, now_s: float) -> float:
    """A job is submitted: tell its quantiles, and note it. Returns the one that decisions count with."""
    write_run_features(forecasts.facts, forecasts.histories, row, now_s, forecasts.x)
    raw = forecasts.raw[row]
    predict_row(forecasts.forest, forecasts.x, raw)
    for q in range(len(raw)):
        raw[q] += forecasts.x[TYPICAL]
    sort_rising(raw)
    tell_quantiles(forecasts, row)
    run_submitted(forecasts.facts, forecasts.histories, row, now_s)
    return forecasts.told[forecasts.at_level[0]]


@compiled
def put_newest(ordered: FloatArray, count: Int, oldest: float, newest: float) -> None:
    """Replace a value by another one in rising values; without ``oldest`` (NaN) one more is put in."""
    place = count
    if not np.isnan(oldest):
        place = np.searchsorted(ordered[:count], oldest)
    while place > 0 and ordered[place - 1] > newest:
        ordered[place] = ordered[place - 1]
        place -= 1
    while place + 1 < count and ordered[place + 1] < newest:
        ordered[place] = ordered[place + 1]
        place += 1
    ordered[place] = newest


@compiled
def calibrate(forecasts: Forecasts, row: Int, run_s: float) -> None:
    """Take a job that has ended into the calibration of the lowest and the highest quantile."""
    num, window = forecasts.beyond.shape
    if window == 0 or np.isnan(forecasts.raw[row, 0]):
        return
    log_run = log_of(max(min(run_s, forecasts.most_s[row]), 1.0))
    seen = forecasts.seen[0]
    count = min(seen + 1, window)
    for q in range(0, num, num - 1):
        level, ordered, place = forecasts.levels[q], forecasts.ordered[q], seen % window
        newest = log_run - forecasts.raw[row, q]
        below = 1.0 if newest <= forecasts.shift[q] else 0.0
        forecasts.lift[q] += forecasts.rate[0] * (level - below)
        put_newest(ordered, min(seen, window), forecasts.beyond[q, place] if seen >= window else np.nan, newest)
        forecasts.beyond[q, place] = newest
        if count >= LEAST_SEEN:
            rank = np.int64(np.ceil((level + forecasts.lift[q]) * (count + 1))) - 1
            forecasts.shift[q] = ordered[min(max(rank, 0), count - 1)]
    forecasts.seen[0] = seen + 1


@compiled
def forecast_ended(forecasts: Forecasts, row: Int, run_s: float, now_s: float) -> None:
    """A running job has ended: calibrate, and learn from it. Of those that end at once, in the order of their rows."""
    if len(forecasts.levels) > 0:
        calibrate(forecasts, row, run_s)
    run_ended(forecasts.facts, forecasts.histories, row, run_s, now_s)


@compiled
def copy_row(values: FloatArray, out: FloatArray) -> None:
    """Copy a few numbers; a slice assignment would allocate."""
    for i in range(len(values)):
        out[i] = values[i]


@compiled
def watch(
    forecasts: Forecasts,
    submit_s: FloatArray,
    start_s: FloatArray,
    run_s: FloatArray,
    by_start: IntArray,
    by_end: IntArray,
    until_s: float,
    features: FloatArray,
    quantiles: FloatArray,
) -> None:
    """Let all that happens in a recorded schedule up to a time happen, and tell of each job at its submission.

    At one instant jobs end first, then they are submitted, then they start, as in a replay.

    Args:
        forecasts: Before the first event; what is known of earlier jobs may stand in them.
        submit_s: (J,) submit times, never decreasing.
        start_s: (J,) start times.
        run_s: (J,) run times.
        by_start: (J,) rows in the order of their starts, ties by row.
        by_end: (J,) rows in the order of their ends; of jobs that end at once those that did not run last.
        until_s: No event after this time.
        features: (J, F) to write into; no rows: they are not asked for.
        quantiles: (J, Q) to write into, in seconds; no rows: nothing is predicted.
    """
    facts, histories = forecasts.facts, forecasts.histories
    num_jobs = len(submit_s)
    submitted, started, ended = np.int64(0), np.int64(0), np.int64(0)
    while submitted < num_jobs or started < num_jobs or ended < num_jobs:
        now_s = np.inf
        if submitted < num_jobs:
            now_s = submit_s[submitted]
        if started < num_jobs:
            now_s = min(now_s, start_s[by_start[started]])
        if ended < num_jobs:
            now_s = min(now_s, start_s[by_end[ended]] + run_s[by_end[ended]])
        if now_s > until_s:
            return
        while ended < num_jobs:
            row = by_end[ended]
            if start_s[row] + run_s[row] > now_s or np.isnan(histories.started_s[row]):
                break
            forecast_ended(forecasts, row, run_s[row], now_s)
            ended += 1
        while submitted < num_jobs and submit_s[submitted] <= now_s:
            if len(quantiles) > 0:
                forecast_run(forecasts, submitted, now_s)
                copy_row(forecasts.told, quantiles[submitted])
                if len(features) > 0:
                    copy_row(forecasts.x, features[submitted])
            else:
                if len(features) > 0:
                    write_run_features(facts, histories, submitted, now_s, features[submitted])
                run_submitted(facts, histories, submitted, now_s)
            submitted += 1
        while started < num_jobs and start_s[by_start[started]] <= now_s:
            run_started(facts, histories, by_start[started], now_s)
            started += 1


def no_forecasts() -> Forecasts:
    """Forecasts of nothing."""
    none = np.zeros(0)
    return Forecasts(
        facts=RunFacts(none, none, none, none, none, np.zeros((0, 0), np.int64)),
        histories=RunHistories(np.zeros((0, 0)), none, none),
        forest=no_forest(),
        levels=none,
        shift=none,
        lift=none,
        beyond=np.zeros((0, 0)),
        ordered=np.zeros((0, 0)),
        seen=np.zeros(1, np.int64),
        rate=np.zeros(1),
        most_s=none,
        at_level=np.zeros(1, np.int64),
        raw=np.zeros((0, 0)),
        x=none,
        told=none,
    )
