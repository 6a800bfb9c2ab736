"""The compiled replay loop: the engine's events and the core's passes without leaving compiled code.

The event rules are those of ``sim.engine`` with one pass an instant: all ends of an instant, then all arrivals, then
the pass. What decides is the same kernels, so the two start every job at the same time.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import allocating, compiled
from shunter.scheduler.kernels.features import (
    Facts,
    Histories,
    Scratch,
    note_ended,
    note_started,
    note_submitted,
    write_features,
)
from shunter.scheduler.kernels.network import Network, score_row
from shunter.scheduler.kernels.passes import absorb, run_pass
from shunter.scheduler.layout import (
    FREE_SLOTS,
    NUM_OUT,
    OUT,
    QUEUE,
    QUEUE_HI,
    QUEUE_LO,
    SHAPE,
    START_S,
    TASKS,
    State,
)
from shunter.scheduler.types import FloatArray, Int, IntArray

STATIC = 0
WFP3 = 1
UNICEP = 2
NETWORK = 3

# Loop.at: where the loop stands
NEXT = 0  # next job to arrive
LAST = 1  # jobs from here on do not arrive
PENDING = 2  # ends in the heap
EVENTS = 3  # arrivals of an instant count as one, each end as one
PASSES = 4
ENDED = 5  # jobs
NUM_LOOP_ROWS = 6


class Jobs(NamedTuple):
    """What the loop must know of the jobs; (J,) each.

    Attributes:
        submit_s: Submit times, never decreasing.
        run_s: Actual run times.
        factor: By kind of score: processors (WFP3), or the divisor log2(processors) · request (UNICEP).
        request_s: Requested times (WFP3).
    """

    submit_s: FloatArray
    run_s: FloatArray
    factor: FloatArray
    request_s: FloatArray


class Loop(NamedTuple):
    """What changes while the loop runs.

    Attributes:
        at: (NUM_LOOP_ROWS,) where it stands.
        now_s: (1,) the last instant.
        end_s: (J,) heap of the running jobs' ends.
        end_row: (J,) their rows.
        finished: (J,) rows that ended at this instant.
        key: (J,) scores of the waiting jobs.
        features: (J, F) their features, where a network scores them.
    """

    at: IntArray
    now_s: FloatArray
    end_s: FloatArray
    end_row: IntArray
    finished: IntArray
    key: FloatArray
    features: FloatArray


class Learned(NamedTuple):
    """What a network's score needs. Where there is none, None stands for it, and nothing of it is compiled."""

    facts: Facts
    histories: Histories
    scratch: Scratch
    network: Network


class Watched(NamedTuple):
    """What histories need, whoever scores the jobs."""

    facts: Facts
    histories: Histories
    scratch: Scratch


@compiled
def push_end(loop: Loop, end_s: float, row: Int) -> None:
    """A job will end."""
    place = loop.at[PENDING]
    loop.at[PENDING] += 1
    while place > 0:
        parent = (place - 1) >> 1
        if loop.end_s[parent] <= end_s:
            break
        loop.end_s[place] = loop.end_s[parent]
        loop.end_row[place] = loop.end_row[parent]
        place = parent
    loop.end_s[place] = end_s
    loop.end_row[place] = row


@compiled
def pop_end(loop: Loop) -> Int:
    """The row of the job that ends first."""
    first = loop.end_row[0]
    loop.at[PENDING] -= 1
    size = loop.at[PENDING]
    end_s, row = loop.end_s[size], loop.end_row[size]
    place = np.int64(0)
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and loop.end_s[child + 1] < loop.end_s[child]:
            child += 1
        if loop.end_s[child] >= end_s:
            break
        loop.end_s[place] = loop.end_s[child]
        loop.end_row[place] = loop.end_row[child]
        place = child
    loop.end_s[place] = end_s
    loop.end_row[place] = row
    return first


@compiled
def anything_fits(st: State) -> bool:
    """Whether any waiting job fits now; if none does, their order makes no difference."""
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        row = st.jobs_i[QUEUE, position]
        if st.jobs_i[TASKS, row] <= st.shapes[FREE_SLOTS, st.jobs_i[SHAPE, row]]:
            return True
    return False


@compiled
def published_score(jobs: Jobs, row: Int, kind: Int, wait_s: float) -> float:
    """``wfp3`` or ``unicep`` of a job, as in ``scheduler.scores``."""
    if kind == UNICEP:
        return -(wait_s + 1e-15) / jobs.factor[row] if jobs.factor[row] != 0.0 else -np.inf
    if jobs.request_s[row] != 0.0:
        return -((wait_s / jobs.request_s[row]) ** 3.0) * jobs.factor[row]
    return -np.inf if wait_s > 0.0 else np.nan


@compiled
def score_waiting(st: State, jobs: Jobs, loop: Loop, learned: Learned | None, kind: Int, now_s: float) -> None:
    """Write the scores of the waiting jobs into ``key``, in the order of the queue; see ``scheduler.scores``."""
    first, last = st.counters[QUEUE_LO], st.counters[QUEUE_HI]
    if learned is not None:
        write_features(st, learned.facts, learned.histories, learned.scratch, now_s, loop.features)
    for position in range(first, last):
        row = st.jobs_i[QUEUE, position]
        if learned is not None:
            score = score_row(learned.network, loop.features[position - first])
        else:
            score = published_score(jobs, row, kind, now_s - jobs.submit_s[row])
        loop.key[position - first] = 0.0 if np.isnan(score) else score


@allocating
def sort_waiting(st: State, loop: Loop) -> None:
    """Put the queue in the order of ``key``, ties by row."""
    first, last = st.counters[QUEUE_LO], st.counters[QUEUE_HI]
    rows = st.jobs_i[QUEUE, first:last].copy()
    by_row = np.argsort(rows, kind="mergesort")
    by_score = np.argsort(loop.key[: last - first][by_row], kind="mergesort")
    for i in range(last - first):
        st.jobs_i[QUEUE, first + i] = rows[by_row[by_score[i]]]


@compiled
def take_ends(jobs: Jobs, loop: Loop, learned: Learned | Watched | None, now_s: float) -> Int:
    """Write the jobs that end now into ``finished``; with histories, in the order of their rows."""
    count = np.int64(0)
    while loop.at[PENDING] > 0 and loop.end_s[0] <= now_s:
        row = pop_end(loop)
        place = count
        while learned is not None and place > 0 and loop.finished[place - 1] > row:
            loop.finished[place] = loop.finished[place - 1]
            place -= 1
        loop.finished[place] = row
        count += 1
    if learned is not None:
        for i in range(count):
            note_ended(learned.facts, learned.histories, loop.finished[i], jobs.run_s[loop.finished[i]], now_s)
    return count


@compiled
def time_of_next(jobs: Jobs, loop: Loop) -> float:
    """When the next job ends or arrives; inf when none does."""
    now_s = np.inf
    if loop.at[NEXT] < loop.at[LAST]:
        now_s = jobs.submit_s[loop.at[NEXT]]
    if loop.at[PENDING] > 0:
        now_s = min(now_s, loop.end_s[0])
    return now_s


@compiled
def next_instant(st: State, jobs: Jobs, loop: Loop, learned: Learned | Watched | None, mode: Int) -> float:
    """Take in everything that happens at the next instant, and return its time; the pass is still to be made."""
    at = loop.at
    now_s = time_of_next(jobs, loop)
    ended = take_ends(jobs, loop, learned, now_s)
    first = at[NEXT]
    while at[NEXT] < at[LAST] and jobs.submit_s[at[NEXT]] <= now_s:
        if learned is not None and st.jobs_i[TASKS, at[NEXT]] > 0:
            note_submitted(learned.facts, learned.histories, at[NEXT])
        at[NEXT] += 1
    at[EVENTS] += ended + (1 if at[NEXT] > first else 0)
    at[ENDED] += ended
    loop.now_s[0] = now_s
    absorb(st, now_s, loop.finished, ended, first, at[NEXT], mode)
    return now_s


@compiled
def roll(
    st: State,
    jobs: Jobs,
    loop: Loop,
    learned: Learned | None,
    kind: Int,
    mode: Int,
    strategy: Int,
    depth: Int,
    budget: Int,
) -> bool:
    """Replay until about ``budget`` events have been handled; returns whether all jobs have ended."""
    at = loop.at
    until = at[EVENTS] + budget
    while at[NEXT] < at[LAST] or at[PENDING] > 0:
        if at[EVENTS] >= until:
            return False
        now_s = next_instant(st, jobs, loop, learned, mode)
        if kind != STATIC and st.counters[QUEUE_HI] - st.counters[QUEUE_LO] > 1 and anything_fits(st):
            score_waiting(st, jobs, loop, learned, kind, now_s)
            sort_waiting(st, loop)
        run_pass(st, now_s, mode, strategy, depth)
        at[PASSES] += 1
        for i in range(st.counters[NUM_OUT]):
            row = st.jobs_i[OUT, i]
            push_end(loop, now_s + jobs.run_s[row], row)
            if learned is not None:
                note_started(learned.facts, learned.histories, row, now_s)
    return True


@compiled
def roll_windows(
    st: State,
    jobs: Jobs,
    loop: Loop,
    learned: Learned | None,
    kind: Int,
    mode: Int,
    strategy: Int,
    depth: Int,
    first: IntArray,
    last: IntArray,
) -> None:
    """Replay windows of jobs one after the other, each on an empty cluster and without history.

    When the last job of a window has ended the state is as it was before the first one began.
    """
    for window in range(len(first)):
        loop.at[NEXT] = first[window]
        loop.at[LAST] = last[window]
        if learned is not None:
            learned.histories.users[:] = 0.0
            learned.histories.alike[:] = 0.0
        for row in range(first[window], last[window]):
            st.jobs_f[START_S, row] = np.nan
        roll(st, jobs, loop, learned, kind, mode, strategy, depth, np.int64(1) << 60)
