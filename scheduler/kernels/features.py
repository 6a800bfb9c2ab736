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
    QUEUE_HI,
    QUEUE_LO,
    RUN,
    RUN_END_S,
    SHAPE,
    TASKS,
    State,
)
from shunter.scheduler.types import FloatArray, Int, IntArray

NUM_FEATURES = 25

LOG_SPAN = 15.0
"""Logarithms of seconds are divided by this: e^15 s are 38 days."""

RATIO_SPAN = 4.0
"""Logarithms of run time over request are divided by this."""

BOUND_S = 10.0
"""Run times below this count as this in the bounded slowdown."""

NEWEST = 0.25
"""Least weight of the newest job in the running means of a history."""

DAY_S = 86_400.0
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
NUM_HISTORY_ROWS = 8

# Context (NUM_CONTEXT,): what is the same for all waiting jobs
CONTEXT_FREE = 0  # free units
CONTEXT_LENGTH = 1  # features 18 to 21
CONTEXT_QUEUED = 2
CONTEXT_LEFT = 3
CONTEXT_OLDEST = 4
CONTEXT_INSTANT = 5  # counts the instants, without end
NUM_CONTEXT = 6

# What is the same for all waiting jobs of a user (NUM_OF_USER, U)
OF_USER_INSTANT = 0  # instant for which the other rows hold
OF_USER_WAITING = 1  # features 14, 22 and 23
OF_USER_DAY = 2
OF_USER_WEEK = 3
NUM_OF_USER = 4


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
        log_left: (J,) log(1 + expected seconds until the running jobs end) / LOG_SPAN.
        free: (J,) units free from each of these ends on.
        context: (NUM_CONTEXT,) what is the same for all waiting jobs.
        of_user: (NUM_OF_USER, U) what is the same for those of a user, worked out when the first one is looked at.
    """

    log_left: FloatArray
    free: FloatArray
    context: FloatArray
    of_user: FloatArray


def scratch_for(num_jobs: int, num_users: int) -> Scratch:
    """Room for so many running jobs, and histories of so many users."""
    return Scratch(np.zeros(num_jobs), np.zeros(num_jobs), np.zeros(NUM_CONTEXT), np.zeros((NUM_OF_USER, num_users)))


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
    log_ratio = np.log(max(run_s, 1.0) / facts.request_s[row])
    learn(histories.users, facts.user[row], log_ratio)
    learn(histories.alike, facts.alike[row], log_ratio)


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
        left_s = max(scene.end_s[i] - now_s, 0.0)
        scratch.log_left[i] = np.log(1.0 + left_s) / LOG_SPAN
        left += left_s * wide
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
    scratch.context[CONTEXT_INSTANT] += 1.0
    scratch.context[CONTEXT_FREE] = free
    scratch.context[CONTEXT_LENGTH] = np.log1p(float(len(scene.queue))) / 8.0
    scratch.context[CONTEXT_QUEUED] = np.log1p(area / (total * 3600.0)) / 5.0
    scratch.context[CONTEXT_LEFT] = np.log1p(left / total) / LOG_SPAN
    scratch.context[CONTEXT_OLDEST] = np.log1p(oldest_s) / LOG_SPAN


@compiled
def log_until(scratch: Scratch, count: Int, free: float, wanted: float) -> float:
    """Log of the seconds until so many units are expected to be free, wherever they are; 1 when they never are."""
    if free >= wanted:
        return 0.0
    low, high = np.int64(0), count
    while low < high:
        middle = (low + high) // 2
        if scratch.free[middle] >= wanted:
            high = middle
        else:
            low = middle + 1
    return scratch.log_left[low] if low < count else 1.0


@compiled
def note_user(histories: Histories, scratch: Scratch, user: Int, total: float, now_s: float) -> None:
    """Work out what is the same for all waiting jobs of a user, unless this instant's values are there."""
    of_user, users, instant = scratch.of_user, histories.users, scratch.context[CONTEXT_INSTANT]
    if of_user[OF_USER_INSTANT, user] == instant:
        return
    of_user[OF_USER_INSTANT, user] = instant
    of_user[OF_USER_WAITING, user] = np.log(1.0 + users[HISTORY_WAITING, user]) / 8.0
    day, week = used(users, user, now_s, 0), used(users, user, now_s, 1)
    of_user[OF_USER_DAY, user] = np.log(1.0 + day / (total * 0.01 * HALF_LIVES_S[0])) / 5.0
    of_user[OF_USER_WEEK, user] = np.log(1.0 + week / (total * 0.01 * HALF_LIVES_S[1])) / 5.0


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
    users, alike_all, context = histories.users, histories.alike, scratch.context
    total, free = facts.total[0], context[CONTEXT_FREE]
    user, alike = facts.user[row], facts.alike[row]
    note_user(histories, scratch, user, total, now_s)
    wanted, request_s = facts.processors[row], facts.request_s[row]
    wait_s = max(now_s - facts.submit_s[row], 0.0)
    of_user = users[HISTORY_COUNT, user] / (users[HISTORY_COUNT, user] + 2.0)
    of_alike = alike_all[HISTORY_COUNT, alike] / (alike_all[HISTORY_COUNT, alike] + 1.0)
    mean_user, mean_alike = users[HISTORY_MEAN, user], alike_all[HISTORY_MEAN, alike]
    if of_alike == 0.0:
        mean_alike = mean_user
    log_run = of_alike * mean_alike + (1.0 - of_alike) * of_user * mean_user + facts.log_request[row] * LOG_SPAN
    run_s = np.exp(min(log_run, LOG_SPAN))
    x[0] = facts.log_request[row]
    x[1] = facts.log_size[row]
    x[2] = wanted / total
    x[3] = np.log(1.0 + wait_s) / LOG_SPAN
    x[4] = np.log(1.0 + wait_s / request_s) / 5.0
    x[5] = x[0] * x[1]
    x[6] = 1.0 if fits else 0.0
    x[7] = (free - wanted) / total
    x[8] = mean_user / RATIO_SPAN
    x[9] = of_user
    x[10] = np.sqrt(users[HISTORY_VARIANCE, user]) / 2.0
    x[11] = mean_alike / RATIO_SPAN
    x[12] = of_alike
    x[13] = users[HISTORY_RUNNING, user] / total
    x[14] = scratch.of_user[OF_USER_WAITING, user]
    x[15] = log_until(scratch, num_running, free, wanted)
    x[16] = log_run / LOG_SPAN
    x[17] = free / total
    x[18] = context[CONTEXT_LENGTH]
    x[19] = context[CONTEXT_QUEUED]
    x[20] = context[CONTEXT_LEFT]
    x[21] = context[CONTEXT_OLDEST]
    x[22] = scratch.of_user[OF_USER_DAY, user]
    x[23] = scratch.of_user[OF_USER_WEEK, user]
    x[24] = np.log(max((wait_s + run_s) / max(run_s, BOUND_S), 1.0)) / 10.0


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
