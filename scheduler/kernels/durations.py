"""What is known of a job's run time when it is submitted: the columns of ``scheduler.durations``, written in one call.

Histories are kept of keys (a user, a group, jobs alike, …), each a row of one array; they change when a job is
submitted, starts or ends, and at no other time. The same functions serve training, replays and a live queue.
Nothing here reads the run time of a job that has not ended.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.logs import exp_of, log_of
from shunter.scheduler.types import FloatArray, Int, IntArray

HOUR_S = 3600.0
DAY_S = 86_400.0

FAST, SLOW = 0.3, 0.05
"""Least weight of the newest job in the two running means of a history; shares of jobs go by the second."""

SHORT_S = 60.0
"""A job that runs for less has most likely failed at once, whatever it asked for."""

AT_LIMIT = 0.97
"""A job that ran for this part of its request or more was most likely stopped there."""

RING = 8
"""Newest run times of which the least, the middle and the largest are told."""

# Keys: whose history a column tells. The first ones are told in full. "Who" is the user, or the group where the log
# has no user; a key of nobody is 0.
KEY_WHO, KEY_ALIKE, KEY_WHO_REQUEST, KEY_WHO_SIZE = 0, 1, 2, 3
KEY_ALL, KEY_GROUP, KEY_QUEUE, KEY_REQUEST, KEY_GROUP_SIZE = 4, 5, 6, 7, 8
NUM_FULL, NUM_KEYS = 4, 9

# History (·, NUM_HISTORY_COLUMNS): a row a key. Run times are log(seconds), at least of 1 s.
COUNT = 0  # jobs that have ended
LAST = 1  # run time of the one that ended last
BEFORE = 2  # and of the one before it
MEAN_FAST = 3
MEAN_SLOW = 4
RATIO_COUNT = 5  # of the ended jobs, those with a request
LAST_RATIO = 6  # log(run / request) of the last of these
MEAN_RATIO = 7
SHORT = 8  # share of jobs shorter than SHORT_S
LIMIT = 9  # share, of those with a request, that ran up to it
ENDED_AT_S = 10
RUNNING = 11  # jobs that run
STARTS_S = 12  # sum of their starts
STARTED_AT_S = 13  # last start
SUBMITTED = 14  # jobs submitted, each counting half after an hour
SUBMITTED_AT_S = 15  # last submission
WAITING = 16  # jobs that wait
NEWEST = 17  # RING run times
NUM_HISTORY_COLUMNS = NEWEST + RING

TYPICAL = 0
"""Column of the typical run time of such jobs, from which models tell the difference."""

NUM_BASE = 11
NUM_OF_FULL = 18
NUM_OF_PLAIN = 9
NUM_FEATURES = NUM_BASE + NUM_FULL * NUM_OF_FULL + (NUM_KEYS - NUM_FULL) * NUM_OF_PLAIN

UNKNOWN_RUN = 7.0
"""Logarithm of the run time of jobs of which nothing at all is known: a third of an hour."""

BELOW_REQUEST = 1.0
"""How far below its request's logarithm the typical run time lies while no job has ended."""


class RunFacts(NamedTuple):
    """What does not change about jobs.

    Attributes:
        request_s: (J,) requested time, at least 1; NaN where there is none.
        cpus: (J,) of the whole gang.
        gpus: (J,) of the whole gang.
        clock_s: (J,) Unix time of the submission; NaN where the log has no date.
        has_user: (J,) 1 where the user is known.
        keys: (J, NUM_KEYS) rows of the histories; 0 is nobody's.
    """

    request_s: FloatArray
    cpus: FloatArray
    gpus: FloatArray
    clock_s: FloatArray
    has_user: FloatArray
    keys: IntArray


class RunHistories(NamedTuple):
    """What jobs so far have taught.

    Attributes:
        of: (·, NUM_HISTORY_COLUMNS) a row a key.
        started_s: (J,) start of the jobs that run; NaN of others.
        room: (RING,) to sort in.
    """

    of: FloatArray
    started_s: FloatArray
    room: FloatArray


@compiled
def recent(history: FloatArray, now_s: float) -> float:
    """Submissions of a key, each counting half after an hour."""
    if history[SUBMITTED] == 0.0:
        return 0.0
    halves = max((history[SUBMITTED_AT_S] - now_s) / HOUR_S, -900.0)
    return history[SUBMITTED] * exp_of(halves * 0.6931471805599453)


@compiled
def run_submitted(facts: RunFacts, histories: RunHistories, row: Int, now_s: float) -> None:
    """A job is submitted, after its own features have been written."""
    for k in range(NUM_KEYS):
        key = facts.keys[row, k]
        if key > 0:
            history = histories.of[key]
            history[SUBMITTED] = recent(history, now_s) + 1.0
            history[SUBMITTED_AT_S] = now_s
            history[WAITING] += 1.0


@compiled
def run_started(facts: RunFacts, histories: RunHistories, row: Int, now_s: float) -> None:
    """A job that waited runs."""
    histories.started_s[row] = now_s
    for k in range(NUM_KEYS):
        key = facts.keys[row, k]
        if key > 0:
            history = histories.of[key]
            history[WAITING] -= 1.0
            history[RUNNING] += 1.0
            history[STARTS_S] += now_s
            history[STARTED_AT_S] = now_s


@compiled
def leave(history: FloatArray, started_s: float) -> None:
    """A job of a key runs no longer."""
    history[RUNNING] -= 1.0
    history[STARTS_S] = history[STARTS_S] - started_s if history[RUNNING] > 0.0 else 0.0


@compiled
def run_stopped(facts: RunFacts, histories: RunHistories, row: Int) -> None:
    """A running job was stopped and waits again: nothing is learned of its run time."""
    for k in range(NUM_KEYS):
        key = facts.keys[row, k]
        if key > 0:
            leave(histories.of[key], histories.started_s[row])
            histories.of[key, WAITING] += 1.0
    histories.started_s[row] = np.nan


@compiled
def learn_of(history: FloatArray, log_run: float, request_s: float, run_s: float, now_s: float) -> None:
    """Take the run time of a job that has ended into the history of one of its keys."""
    count = history[COUNT]
    history[NEWEST + np.int64(count) % RING] = log_run
    history[BEFORE], history[LAST] = history[LAST], log_run
    count += 1.0
    history[COUNT] = count
    history[MEAN_FAST] += max(1.0 / count, FAST) * (log_run - history[MEAN_FAST])
    slow = max(1.0 / count, SLOW)
    history[MEAN_SLOW] += slow * (log_run - history[MEAN_SLOW])
    history[SHORT] += slow * ((1.0 if run_s < SHORT_S else 0.0) - history[SHORT])
    history[ENDED_AT_S] = now_s
    if not np.isnan(request_s):
        history[RATIO_COUNT] += 1.0
        ratio = log_run - log_of(request_s)
        history[LAST_RATIO] = ratio
        history[MEAN_RATIO] += max(1.0 / history[RATIO_COUNT], FAST) * (ratio - history[MEAN_RATIO])
        at_limit = 1.0 if run_s >= AT_LIMIT * request_s else 0.0
        history[LIMIT] += max(1.0 / history[RATIO_COUNT], SLOW) * (at_limit - history[LIMIT])


@compiled
def run_ended(facts: RunFacts, histories: RunHistories, row: Int, run_s: float, now_s: float) -> None:
    """A running job has ended after ``run_s`` seconds; of those that end at once, in the order of their rows."""
    log_run = log_of(max(run_s, 1.0))
    for k in range(NUM_KEYS):
        key = facts.keys[row, k]
        if key > 0:
            leave(histories.of[key], histories.started_s[row])
            learn_of(histories.of[key], log_run, facts.request_s[row], run_s, now_s)
    histories.started_s[row] = np.nan


@compiled
def log_since(history: FloatArray, column: Int, now_s: float) -> float:
    """log(1 + seconds since a time of a history)."""
    return log_of(1.0 + max(now_s - history[column], 0.0))


@compiled
def num_newest(history: FloatArray) -> int:
    """How many of the newest run times a history has."""
    return int(min(history[COUNT], float(RING)))


@compiled
def sort_newest(history: FloatArray, room: FloatArray) -> int:
    """Sort the newest run times of a history into ``room``; returns how many there are."""
    count = num_newest(history)
    for i in range(count):
        value = history[NEWEST + i]
        place = i
        while place > 0 and room[place - 1] > value:
            room[place] = room[place - 1]
            place -= 1
        room[place] = value
    return count


@compiled
def middle(history: FloatArray, room: FloatArray) -> float:
    """The median of the newest run times of a history; ``room`` is left sorted."""
    count = sort_newest(history, room)
    return 0.5 * (room[(count - 1) // 2] + room[count // 2])


@compiled
def typical_run(facts: RunFacts, histories: RunHistories, row: Int) -> float:
    """The middle of the newest run times of the narrowest key of which a job has ended."""
    for k in (
        KEY_ALIKE, KEY_WHO_REQUEST, KEY_WHO_SIZE, KEY_WHO, KEY_GROUP_SIZE, KEY_REQUEST, KEY_GROUP, KEY_QUEUE, KEY_ALL
    ):  # fmt: skip
        history = histories.of[facts.keys[row, k]]
        if history[COUNT] > 0.0:
            return middle(history, histories.room)
    request_s = facts.request_s[row]
    return UNKNOWN_RUN if np.isnan(request_s) else max(log_of(request_s) - BELOW_REQUEST, 0.0)


@compiled
def write_plain(history: FloatArray, room: FloatArray, typical: float, x: FloatArray, at: Int) -> None:
    """Write what is told of every key from column ``at`` on; run times as differences from the typical one."""
    x[at] = log_of(1.0 + history[COUNT])
    for i in range(1, NUM_OF_PLAIN):
        x[at + i] = np.nan
    if history[COUNT] > 0.0:
        x[at + 1] = history[MEAN_FAST] - typical
        x[at + 2] = history[MEAN_SLOW] - typical
        x[at + 4] = middle(history, room) - typical
        x[at + 3] = room[0] - typical
        x[at + 5] = room[num_newest(history) - 1] - typical
        x[at + 6] = history[SHORT]
    if history[RATIO_COUNT] > 0.0:
        x[at + 7] = history[MEAN_RATIO]
        x[at + 8] = history[LIMIT]


@compiled
def write_full(history: FloatArray, now_s: float, typical: float, x: FloatArray, at: Int) -> None:
    """Write what is told of the first keys beyond that."""
    for i in range(NUM_OF_FULL - NUM_OF_PLAIN):
        x[at + i] = np.nan
    if history[COUNT] > 0.0:
        x[at] = history[LAST] - typical
        x[at + 1] = history[BEFORE] - typical if history[COUNT] > 1.0 else np.nan
        x[at + 2] = log_since(history, ENDED_AT_S, now_s)
    if history[RATIO_COUNT] > 0.0:
        x[at + 3] = history[LAST_RATIO]
    x[at + 4] = log_of(1.0 + history[RUNNING])
    if history[RUNNING] > 0.0:
        x[at + 5] = log_of(1.0 + max(now_s - history[STARTS_S] / history[RUNNING], 0.0)) - typical
        x[at + 6] = log_since(history, STARTED_AT_S, now_s)
    x[at + 7] = log_of(1.0 + recent(history, now_s))
    if history[SUBMITTED] > 0.0:
        x[at + 8] = log_since(history, SUBMITTED_AT_S, now_s)


@compiled
def write_run_features(facts: RunFacts, histories: RunHistories, row: Int, now_s: float, x: FloatArray) -> None:
    """Write the features of a job that is submitted now into ``x`` (NUM_FEATURES,), before ``run_submitted``.

    Values are rounded to single precision, in which models are stored: a threshold then parts the same jobs everywhere.
    """
    request_s, gpus, cpus = facts.request_s[row], facts.gpus[row], facts.cpus[row]
    size = gpus if gpus > 0.0 else cpus
    who = histories.of[facts.keys[row, KEY_WHO]]
    typical = typical_run(facts, histories, row)
    x[TYPICAL] = typical
    x[1] = log_of(request_s)
    x[2] = log_of(request_s) - typical
    x[3] = log_of(1.0 + cpus)
    x[4] = log_of(1.0 + gpus)
    x[5] = log_of(request_s) + log_of(max(size, 1e-3))
    x[6] = facts.clock_s[row] / HOUR_S % 24.0
    x[7] = facts.clock_s[row] / DAY_S % 7.0
    x[8] = facts.has_user[row]
    x[9] = log_of(1.0 + who[WAITING])
    x[10] = log_of(1.0 + histories.of[facts.keys[row, KEY_ALL], RUNNING])
    at = NUM_BASE
    for k in range(NUM_KEYS):
        history = histories.of[facts.keys[row, k]]
        write_plain(history, histories.room, typical, x, at)
        at += NUM_OF_PLAIN
        if k < NUM_FULL:
            write_full(history, now_s, typical, x, at)
            at += NUM_OF_FULL - NUM_OF_PLAIN
    for i in range(NUM_FEATURES):
        x[i] = np.float64(np.float32(x[i]))
