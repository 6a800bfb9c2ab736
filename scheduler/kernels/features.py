"""What a learned ordering is told of every waiting job: the columns of ``scheduler.features``, written in one call.

The same function serves training, replays and a live queue, so that a policy sees in use what it saw in training.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import arithmetic, compiled
from shunter.scheduler.kernels.logs import exp_of, log_of
from shunter.scheduler.layout import (
    FREE_SLOTS,
    NUM_RUNNING,
    QUEUE,
    QUEUE_HI,
    QUEUE_LO,
    RUN,
    RUN_END_S,
    SHAPE,
    TASKS,
    State,
)
from shunter.scheduler.types import FloatArray, Int, IntArray

NUM_FEATURES = 34

LOG_SPAN = 15.0
"""Logarithms of seconds are divided by this: e^15 s are 38 days."""

RATIO_SPAN = 4.0
"""Logarithms of run time over request are divided by this."""

BOUND_S = 10.0
"""Run times below this count as this in the bounded slowdown."""

NEWEST = 0.25
"""Least weight of the newest job in the running means of a history."""

COUNT_SPAN = 12.0
"""Logarithms of processors, where not compared with those of the cluster, are divided by this."""

SHORT_S = 60.0
"""A job that runs for less has most likely failed at once, whatever it asked for."""

NEWEST_SHORT = 0.1
"""Least weight of the newest job in the running share of short ones."""

DAY_S = 86_400.0
LONG_S = 5 * DAY_S
"""The unit of ages."""

MOST_AGE = 4.0

HALF_LIVES_S = (DAY_S, 7 * DAY_S)
"""After how long the use of the cluster counts half, in the two sums kept of it."""

# History (NUM_HISTORY_ROWS, ·): what the jobs of a user, or equal requests by one user, have taught
HISTORY_COUNT = 0  # finished jobs
HISTORY_MEAN = 1  # of log(run / request)
HISTORY_VARIANCE = 2
HISTORY_RUNNING = 3  # processors of the running jobs
HISTORY_WAITING = 4  # jobs that wait
HISTORY_USED_AT_S = 5  # time up to which the two sums below hold
HISTORY_USED_DAY = 6  # decayed processor-seconds, by the first of HALF_LIVES_S
HISTORY_USED_WEEK = 7  # by the second
HISTORY_SHORT = 8  # running share of the finished jobs that ran for less than SHORT_S
HISTORY_LAST = 9  # log(run / request) of the job that finished last
HISTORY_LAST_RUN = 10  # log(1 + run) of it
HISTORY_ENDED_AT_S = 11  # and when it did
NUM_HISTORY_ROWS = 12

# Context (NUM_CONTEXT,): what is the same for all waiting jobs
CONTEXT_FREE = 0  # free units
CONTEXT_LENGTH = 1  # features 18 to 21
CONTEXT_QUEUED = 2
CONTEXT_LEFT = 3
CONTEXT_OLDEST = 4
CONTEXT_DRAIN_S = 5  # seconds in which the whole cluster could do what runs and waits, by the requests
NUM_CONTEXT = 6


class Facts(NamedTuple):
    """What does not change about jobs, each of shape (J,).

    Attributes:
        submit_s: Submit time.
        request_s: Requested time, at least 1.
        log_request: log(1 + request) / LOG_SPAN.
        processors: Units of the scarce resource over the gang.
        log_size: log(1 + processors) over that of the whole cluster.
        user: Row of the user's history; 0 for unknown users.
        alike: Row of the history of jobs with the same user, request and processors.
        total: (1,) units of the whole cluster.
    """

    submit_s: FloatArray
    request_s: FloatArray
    log_request: FloatArray
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
    """Room for what is worked out once an instant.

    Attributes:
        left_s: (J,) expected seconds until the running jobs end.
        free: (J,) units free from each of these ends on.
        context: (NUM_CONTEXT,) what is the same for all waiting jobs.
    """

    left_s: FloatArray
    free: FloatArray
    context: FloatArray


class Scene(NamedTuple):
    """Who waits and who runs.

    Attributes:
        queue: (Q,) rows of the waiting jobs.
        running: (K,) rows of the running jobs, by expected end.
        end_s: (K,) these ends.
    """

    queue: IntArray
    running: IntArray
    end_s: FloatArray


@compiled
def scene_of(st: State) -> Scene:
    """The scene of a state; views, no copies."""
    count = st.counters[NUM_RUNNING]
    queue = st.jobs_i[QUEUE, st.counters[QUEUE_LO] : st.counters[QUEUE_HI]]
    return Scene(queue, st.jobs_i[RUN, :count], st.jobs_f[RUN_END_S, :count])


@compiled
def fits_now(st: State, row: Int) -> bool:
    """Whether a job could start now."""
    return st.jobs_i[TASKS, row] <= st.shapes[FREE_SLOTS, st.jobs_i[SHAPE, row]]


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
def remember(history: FloatArray, column: Int, log_ratio: float, run_s: float, now_s: float) -> None:
    """Note, after ``learn``, whether a finished job was short, and that it is the last one."""
    rate = max(1.0 / history[HISTORY_COUNT, column], NEWEST_SHORT)
    short = 1.0 if run_s < SHORT_S else 0.0
    history[HISTORY_SHORT, column] += rate * (short - history[HISTORY_SHORT, column])
    history[HISTORY_LAST, column] = log_ratio
    history[HISTORY_LAST_RUN, column] = np.log1p(max(run_s, 0.0))
    history[HISTORY_ENDED_AT_S, column] = now_s


@compiled
def learn_job(facts: Facts, histories: Histories, row: Int, run_s: float, now_s: float) -> None:
    """What a finished job teaches of its user, and of jobs equal to it."""
    log_ratio = np.log(max(run_s, 1.0) / facts.request_s[row])
    learn(histories.users, facts.user[row], log_ratio)
    learn(histories.alike, facts.alike[row], log_ratio)
    remember(histories.users, facts.user[row], log_ratio, run_s, now_s)
    remember(histories.alike, facts.alike[row], log_ratio, run_s, now_s)


@compiled
def used(history: FloatArray, column: Int, now_s: float, which: Int) -> float:
    """Decayed processor-seconds of a column at ``now_s``; what runs has gone on since the sums were last noted."""
    half_s = HALF_LIVES_S[0] if which == 0 else HALF_LIVES_S[1]
    kept = np.exp2((history[HISTORY_USED_AT_S, column] - now_s) / half_s)
    running = history[HISTORY_RUNNING, column] * half_s / np.log(2.0)
    return history[HISTORY_USED_DAY + which, column] * kept + running * (1.0 - kept)


@compiled
def change_running(history: FloatArray, column: Int, processors: float, now_s: float) -> None:
    """A user's running processors change now."""
    day, week = used(history, column, now_s, 0), used(history, column, now_s, 1)
    history[HISTORY_USED_DAY, column], history[HISTORY_USED_WEEK, column] = day, week
    history[HISTORY_USED_AT_S, column] = now_s
    history[HISTORY_RUNNING, column] += processors


@compiled
def note_submitted(facts: Facts, histories: Histories, row: Int) -> None:
    """A job begins to wait."""
    histories.users[HISTORY_WAITING, facts.user[row]] += 1.0


@compiled
def note_started(facts: Facts, histories: Histories, row: Int, now_s: float) -> None:
    """A job starts."""
    histories.users[HISTORY_WAITING, facts.user[row]] -= 1.0
    change_running(histories.users, facts.user[row], facts.processors[row], now_s)


@compiled
def note_ended(facts: Facts, histories: Histories, row: Int, run_s: float, now_s: float) -> None:
    """A job has ended after ``run_s`` seconds."""
    change_running(histories.users, facts.user[row], -facts.processors[row], now_s)
    learn_job(facts, histories, row, run_s, now_s)


@compiled
def note_past(facts: Facts, histories: Histories, row: Int, run_s: float, end_s: float) -> None:
    """A job ended, after ``run_s`` seconds, before anything was watched; to be called in the order of the ends."""
    learn_job(facts, histories, row, run_s, end_s)
    users, user = histories.users, facts.user[row]
    day, week = used(users, user, end_s, 0), used(users, user, end_s, 1)
    work_s = facts.processors[row] * run_s
    users[HISTORY_USED_DAY, user], users[HISTORY_USED_WEEK, user] = day + work_s, week + work_s
    users[HISTORY_USED_AT_S, user] = end_s


@compiled
def learn_past(
    facts: Facts, histories: Histories, rows: IntArray, run_s: FloatArray, end_s: FloatArray, below: Int, until_s: float
) -> None:
    """Let histories be what the jobs ``rows`` (·,) taught, in the order of their ends: those that stand below a row and
    had ended by a time.
    """
    histories.users[:] = 0.0
    histories.alike[:] = 0.0
    for i in range(len(rows)):
        row = rows[i]
        if end_s[row] > until_s:
            break
        if row < below:
            note_past(facts, histories, row, run_s[row], end_s[row])


@compiled
def note_running(facts: Facts, scratch: Scratch, scene: Scene, now_s: float) -> tuple[float, float]:
    """Write when the running jobs leave how much free; returns what is free now and the processor-seconds to come."""
    count = len(scene.running)
    free = facts.total[0]
    for i in range(count):
        free -= facts.processors[scene.running[i]]
    left = 0.0
    sum_free = free
    for i in range(count):
        wide = facts.processors[scene.running[i]]
        sum_free += wide
        scratch.free[i] = sum_free
        scratch.left_s[i] = max(scene.end_s[i] - now_s, 0.0)
        left += scratch.left_s[i] * wide
    return free, left


@compiled
def note_context(facts: Facts, scratch: Scratch, scene: Scene, now_s: float) -> None:
    """Work out what is the same for all waiting jobs at this instant."""
    total = facts.total[0]
    free, left = note_running(facts, scratch, scene, now_s)
    area = 0.0
    oldest_s = 0.0
    for i in range(len(scene.queue)):
        row = scene.queue[i]
        area += facts.request_s[row] * facts.processors[row]
        oldest_s = max(oldest_s, now_s - facts.submit_s[row])
    scratch.context[CONTEXT_FREE] = free
    scratch.context[CONTEXT_LENGTH] = np.log1p(float(len(scene.queue))) / 8.0
    scratch.context[CONTEXT_QUEUED] = np.log1p(area / (total * 3600.0)) / 5.0
    scratch.context[CONTEXT_LEFT] = np.log1p(left / total) / LOG_SPAN
    scratch.context[CONTEXT_OLDEST] = np.log1p(oldest_s) / LOG_SPAN
    scratch.context[CONTEXT_DRAIN_S] = (area + left) / total


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
def user_terms(
    facts: Facts, histories: Histories, user: Int, now_s: float
) -> tuple[float, float, float, float, float, float, float, float, float, float, float, float]:
    """What the features of all jobs of a user share: mean and certainty of log(run / request), features 8, 10, 13, 14,
    22, 23, 27, 29, 31 and 32.
    """
    users, total = histories.users, facts.total[0]
    mean = users[HISTORY_MEAN, user]
    known = users[HISTORY_COUNT, user] / (users[HISTORY_COUNT, user] + 2.0)
    day, week = used(users, user, now_s, 0), used(users, user, now_s, 1)
    return (
        mean,
        known,
        mean / RATIO_SPAN,
        np.sqrt(users[HISTORY_VARIANCE, user]) / 2.0,
        users[HISTORY_RUNNING, user] / total,
        log_of(1.0 + users[HISTORY_WAITING, user]) / 8.0,
        log_of(1.0 + max(day, 0.0) / (total * 0.01 * HALF_LIVES_S[0])) / 5.0,
        log_of(1.0 + max(week, 0.0) / (total * 0.01 * HALF_LIVES_S[1])) / 5.0,
        users[HISTORY_SHORT, user],
        users[HISTORY_LAST, user] / RATIO_SPAN,
        users[HISTORY_LAST_RUN, user] / LOG_SPAN,
        1.0 if known == 0.0 else log_of(1.0 + max(now_s - users[HISTORY_ENDED_AT_S, user], 0.0)) / LOG_SPAN,
    )


@compiled
def alike_terms(
    histories: Histories, alike: Int, mean_user: float, short_user: float, last_user: float
) -> tuple[float, float, float, float]:
    """Of equal jobs: mean and certainty of log(run / request), features 28 and 30; the user's where there were none."""
    known = histories.alike[HISTORY_COUNT, alike] / (histories.alike[HISTORY_COUNT, alike] + 1.0)
    if known == 0.0:
        return mean_user, known, short_user, last_user
    return (
        histories.alike[HISTORY_MEAN, alike],
        known,
        histories.alike[HISTORY_SHORT, alike],
        histories.alike[HISTORY_LAST, alike] / RATIO_SPAN,
    )


@arithmetic
def log_expected(log_request: float, of_user: float, mean_user: float, of_alike: float, mean_alike: float) -> float:
    """Logarithm of the run time that the histories lead to expect."""
    return of_alike * mean_alike + (1.0 - of_alike) * of_user * mean_user + log_request * LOG_SPAN


@arithmetic
def log_wait(wait_s: float) -> float:
    """Feature 3."""
    return log_of(1.0 + wait_s) / LOG_SPAN


@arithmetic
def log_relative_wait(wait_s: float, request_s: float) -> float:
    """Feature 4."""
    return log_of(1.0 + wait_s / request_s) / 5.0


@arithmetic
def log_slowdown(wait_s: float, log_run: float) -> float:
    """Feature 24."""
    run_s = exp_of(max(min(log_run, LOG_SPAN), -LOG_SPAN) + (log_run - log_run))
    return log_of(max((wait_s + run_s) / max(run_s, BOUND_S), 1.0) + (wait_s - wait_s)) / 10.0


@arithmetic
def age(wait_s: float) -> float:
    """Feature 25."""
    return min(wait_s / LONG_S, MOST_AGE)


@arithmetic
def relative_age(wait_s: float, drain_s: float) -> float:
    """Feature 26."""
    return min(wait_s / (5.0 * (drain_s + 3600.0)), MOST_AGE)


@arithmetic
def log_processors(log_size: float, log_total: float) -> float:
    """Feature 33, from feature 1 and log(1 + processors of the cluster)."""
    return log_size * (log_total / COUNT_SPAN)


@compiled
def log_until(scratch: Scratch, count: Int, free: float, wanted: float) -> float:
    """Feature 15."""
    return log_of(1.0 + time_until(scratch, count, free, wanted)) / LOG_SPAN


@compiled
def write_row(
    facts: Facts,
    histories: Histories,
    scratch: Scratch,
    num_running: Int,
    now_s: float,
    row: Int,
    fits: bool,
    x: FloatArray,
) -> None:
    """Write the features of a waiting job into ``x`` (F,), after ``note_context``."""
    context = scratch.context
    total, free = facts.total[0], context[CONTEXT_FREE]
    wanted = facts.processors[row]
    wait_s = max(now_s - facts.submit_s[row], 0.0)
    mean_user, of_user, x8, x10, x13, x14, x22, x23, x27, x29, x31, x32 = user_terms(
        facts, histories, facts.user[row], now_s
    )
    mean_alike, of_alike, x28, x30 = alike_terms(histories, facts.alike[row], mean_user, x27, x29)
    log_run = log_expected(facts.log_request[row], of_user, mean_user, of_alike, mean_alike)
    x[0] = facts.log_request[row]
    x[1] = facts.log_size[row]
    x[2] = wanted / total
    x[3] = log_wait(wait_s)
    x[4] = log_relative_wait(wait_s, facts.request_s[row])
    x[5] = x[0] * x[1]
    x[6] = 1.0 if fits else 0.0
    x[7] = (free - wanted) / total
    x[8] = x8
    x[9] = of_user
    x[10] = x10
    x[11] = mean_alike / RATIO_SPAN
    x[12] = of_alike
    x[13] = x13
    x[14] = x14
    x[15] = log_until(scratch, num_running, free, wanted)
    x[16] = log_run / LOG_SPAN
    x[17] = free / total
    x[18] = context[CONTEXT_LENGTH]
    x[19] = context[CONTEXT_QUEUED]
    x[20] = context[CONTEXT_LEFT]
    x[21] = context[CONTEXT_OLDEST]
    x[22] = x22
    x[23] = x23
    x[24] = log_slowdown(wait_s, log_run)
    x[25] = age(wait_s)
    x[26] = relative_age(wait_s, context[CONTEXT_DRAIN_S])
    x[27] = x27
    x[28] = x28
    x[29] = x29
    x[30] = x30
    x[31] = x31
    x[32] = x32
    x[33] = log_processors(x[1], log_of(1.0 + total))


@compiled
def write_features(
    st: State, facts: Facts, histories: Histories, scratch: Scratch, now_s: float, out: FloatArray
) -> None:
    """Write the features of the waiting jobs of a state, in the order of its queue, into rows of ``out`` (·, F)."""
    scene = scene_of(st)
    note_context(facts, scratch, scene, now_s)
    for i in range(len(scene.queue)):
        row = scene.queue[i]
        write_row(facts, histories, scratch, len(scene.running), now_s, row, fits_now(st, row), out[i])
