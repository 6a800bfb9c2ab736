"""What a learned ordering is told of every waiting job: the columns of ``scheduler.features``, written in one call.

The same function serves training, replays and a live queue, so that a policy sees in use what it saw in training.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.layout import (
    FREE_SLOTS,
    NUM_RUNNING,
    QUEUE,
    RUN,
    RUN_END_S,
    SHAPE,
    TASKS,
    State,
)
from shunter.scheduler.types import FloatArray, Int, IntArray

NUM_FEATURES = 22

LOG_SPAN = 15.0
"""Logarithms of seconds are divided by this: e^15 s are 38 days."""

RATIO_SPAN = 4.0
"""Logarithms of run time over request are divided by this."""

NEWEST = 0.25
"""Least weight of the newest job in the running means of a history."""

# History (NUM_HISTORY_ROWS, ·): what the finished jobs of a user, or of equal requests by one user, have taught
HISTORY_COUNT = 0
HISTORY_MEAN = 1  # of log(run / request)
HISTORY_VARIANCE = 2
HISTORY_RUNNING = 3  # processors of the running jobs
HISTORY_WAITING = 4  # jobs that wait
NUM_HISTORY_ROWS = 5


class Facts(NamedTuple):
    """What does not change about jobs, each of shape (J,).

    Attributes:
        submit_s: Submit time.
        reference_s: The request, at least 1; where users give none, a constant.
        has_request: 1.0 where it is the request.
        log_reference: log(1 + reference) / LOG_SPAN.
        processors: Units of the scarce resource over the gang.
        log_size: log(1 + processors) over that of the whole cluster.
        user: Row of the user's history; 0 for unknown users.
        alike: Row of the history of jobs with the same user, request and processors.
        total: (1,) units of the whole cluster.
    """

    submit_s: FloatArray
    reference_s: FloatArray
    has_request: FloatArray
    log_reference: FloatArray
    processors: FloatArray
    log_size: FloatArray
    user: IntArray
    alike: IntArray
    total: FloatArray


class Histories(NamedTuple):
    """What finished jobs have taught; both (NUM_HISTORY_ROWS, ·)."""

    users: FloatArray
    alike: FloatArray


class Scratch(NamedTuple):
    """Room for the running jobs' expected ends, each (J,)."""

    left_s: FloatArray
    free: FloatArray


@compiled
def learn(history: FloatArray, column: Int, log_ratio: float) -> None:
    """Take a finished job into the running mean and variance of one column (West, CACM 22(9), 1979)."""
    count = history[HISTORY_COUNT, column] + 1.0
    rate = max(1.0 / count, NEWEST)
    difference = log_ratio - history[HISTORY_MEAN, column]
    history[HISTORY_MEAN, column] += rate * difference
    history[HISTORY_VARIANCE, column] = (1.0 - rate) * (
        history[HISTORY_VARIANCE, column] + rate * difference * difference
    )
    history[HISTORY_COUNT, column] = count


@compiled
def note_submitted(facts: Facts, histories: Histories, row: Int) -> None:
    """A job begins to wait."""
    histories.users[HISTORY_WAITING, facts.user[row]] += 1.0


@compiled
def note_started(facts: Facts, histories: Histories, row: Int) -> None:
    """A job starts."""
    histories.users[HISTORY_WAITING, facts.user[row]] -= 1.0
    histories.users[HISTORY_RUNNING, facts.user[row]] += facts.processors[row]


@compiled
def note_ended(facts: Facts, histories: Histories, row: Int, run_s: float) -> None:
    """A job has ended after ``run_s`` seconds."""
    histories.users[HISTORY_RUNNING, facts.user[row]] -= facts.processors[row]
    log_ratio = np.log(max(run_s, 1.0) / facts.reference_s[row])
    learn(histories.users, facts.user[row], log_ratio)
    learn(histories.alike, facts.alike[row], log_ratio)


@compiled
def note_running(st: State, facts: Facts, scratch: Scratch, now_s: float) -> tuple[float, float]:
    """Write when the running jobs leave how much free; returns what is free now and the processor-seconds to come."""
    count = st.counters[NUM_RUNNING]
    free = facts.total[0]
    for i in range(count):
        free -= facts.processors[st.jobs_i[RUN, i]]
    left = 0.0
    sum_free = free
    for i in range(count):
        row = st.jobs_i[RUN, i]
        sum_free += facts.processors[row]
        scratch.free[i] = sum_free
        scratch.left_s[i] = max(st.jobs_f[RUN_END_S, i] - now_s, 0.0)
        left += scratch.left_s[i] * facts.processors[row]
    return free, left


@compiled
def time_until(scratch: Scratch, count: Int, free: float, wanted: float) -> float:
    """Seconds until so many units are expected to be free, wherever they are; a long time when they never are."""
    if free >= wanted:
        return 0.0
    low, high = np.int64(0), count
    while low < high:
        middle = (low + high) // 2
        if scratch.free[middle] >= wanted:
            high = middle
        else:
            low = middle + 1
    return scratch.left_s[low] if low < count else np.exp(LOG_SPAN)


@compiled
def write_features(
    st: State,
    facts: Facts,
    histories: Histories,
    scratch: Scratch,
    now_s: float,
    first: Int,
    last: Int,
    out: FloatArray,
) -> None:
    """Write the features of the jobs at queue positions first..last into rows 0..last − first of ``out`` (·, F)."""
    total = facts.total[0]
    free, left = note_running(st, facts, scratch, now_s)
    area = 0.0
    oldest_s = 0.0
    for position in range(first, last):
        row = st.jobs_i[QUEUE, position]
        area += facts.reference_s[row] * facts.processors[row]
        oldest_s = max(oldest_s, now_s - facts.submit_s[row])
    free_share = free / total
    queue_length = np.log1p(float(last - first)) / 8.0
    queue_hours = np.log1p(area / (total * 3600.0)) / 5.0
    left_s = np.log1p(left / total) / LOG_SPAN
    oldest = np.log1p(oldest_s) / LOG_SPAN
    for position in range(first, last):
        row = st.jobs_i[QUEUE, position]
        x = out[position - first]
        wait_s = max(now_s - facts.submit_s[row], 0.0)
        wanted = facts.processors[row]
        user, alike = facts.user[row], facts.alike[row]
        of_user, of_alike = histories.users[HISTORY_COUNT, user], histories.alike[HISTORY_COUNT, alike]
        x[0] = facts.log_reference[row]
        x[1] = facts.log_size[row]
        x[2] = wanted / total
        x[3] = np.log1p(wait_s) / LOG_SPAN
        x[4] = np.log1p(wait_s / facts.reference_s[row]) / 5.0
        x[5] = x[0] * x[1]
        x[6] = 1.0 if st.jobs_i[TASKS, row] <= st.shapes[FREE_SLOTS, st.jobs_i[SHAPE, row]] else 0.0
        x[7] = (free - wanted) / total
        x[8] = histories.users[HISTORY_MEAN, user] / RATIO_SPAN
        x[9] = of_user / (of_user + 2.0)
        x[10] = np.sqrt(histories.users[HISTORY_VARIANCE, user]) / 2.0
        x[11] = histories.alike[HISTORY_MEAN, alike] / RATIO_SPAN if of_alike > 0 else x[8]
        x[12] = of_alike / (of_alike + 1.0)
        x[13] = histories.users[HISTORY_RUNNING, user] / total
        x[14] = np.log1p(histories.users[HISTORY_WAITING, user]) / 8.0
        x[15] = np.log1p(time_until(scratch, st.counters[NUM_RUNNING], free, wanted)) / LOG_SPAN
        x[16] = x[0] + x[11] * RATIO_SPAN * x[12] / LOG_SPAN
        x[17] = free_share
        x[18] = queue_length
        x[19] = queue_hours
        x[20] = left_s
        x[21] = oldest
