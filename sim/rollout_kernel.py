"""The compiled replay loop: the engine's events and the core's passes without leaving compiled code.

The event rules are those of ``sim.engine`` with one pass an instant: all ends of an instant, then all arrivals, then
the pass. What decides is the same kernels, so the two start every job at the same time.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.estimates import Estimates, correct, learn_run, note_start, predict
from shunter.scheduler.kernels.fairshare import Usage, change_usage, score_by_usage
from shunter.scheduler.kernels.features import (
    Facts,
    Histories,
    learn_past,
    note_ended,
    note_started,
    note_submitted,
)
from shunter.scheduler.kernels.learned import Learned, anything_fits, order_queue
from shunter.scheduler.kernels.passes import absorb, run_pass
from shunter.scheduler.kernels.sorting import Sorting, sort_queue
from shunter.scheduler.layout import NUM_OUT, OUT, QUEUE, QUEUE_HI, QUEUE_LO, START_S, TASKS, State
from shunter.scheduler.types import FloatArray, Int, IntArray

STATIC = 0
WFP3 = 1
UNICEP = 2
NETWORK = 3
FAIRSHARE = 4
MULTIFACTOR = 5

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
        estimates: What run times are predicted from; without rows where they are not.
        usage: What users have had (FAIRSHARE, MULTIFACTOR); without rows where nothing reads it.
    """

    submit_s: FloatArray
    run_s: FloatArray
    factor: FloatArray
    request_s: FloatArray
    estimates: Estimates
    usage: Usage


class Loop(NamedTuple):
    """What changes while the loop runs.

    Attributes:
        at: (NUM_LOOP_ROWS,) where it stands.
        now_s: (1,) the last instant.
        end_s: (J,) heap of the running jobs' ends.
        end_row: (J,) their rows.
        finished: (J,) rows that ended at this instant.
        key: (J,) scores of the waiting jobs.
        bits: (J,) the memory of ``key`` as whole numbers.
        sorting: Room to sort them in.
    """

    at: IntArray
    now_s: FloatArray
    end_s: FloatArray
    end_row: IntArray
    finished: IntArray
    key: FloatArray
    bits: IntArray
    sorting: Sorting


class Times(Protocol):
    """Of ``Jobs``, what events are made of."""

    @property
    def submit_s(self) -> FloatArray:
        """Submit times."""

    @property
    def run_s(self) -> FloatArray:
        """Actual run times."""


class Ends(Protocol):
    """Of ``Loop``, where events stand."""

    @property
    def at(self) -> IntArray:
        """Where it stands."""

    @property
    def end_s(self) -> FloatArray:
        """Heap of the running jobs' ends."""

    @property
    def end_row(self) -> IntArray:
        """Their rows."""

    @property
    def finished(self) -> IntArray:
        """Rows that ended at this instant."""


class Watched(Protocol):
    """Of ``Learned``, what ends are noted in."""

    @property
    def facts(self) -> Facts:
        """Of the jobs."""

    @property
    def histories(self) -> Histories:
        """Of their users."""


@compiled
def push_end(loop: Ends, end_s: float, row: Int) -> None:
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
def pop_end(loop: Ends) -> Int:
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
def published_score(jobs: Jobs, row: Int, kind: Int, wait_s: float) -> float:
    """``wfp3`` or ``unicep`` of a job, as in ``scheduler.scores``."""
    if kind == UNICEP:
        return -(wait_s + 1e-15) / jobs.factor[row] if jobs.factor[row] != 0.0 else -np.inf
    if jobs.request_s[row] != 0.0:
        return -((wait_s / jobs.request_s[row]) ** 3.0) * jobs.factor[row]
    return -np.inf if wait_s > 0.0 else np.nan


@compiled
def order_waiting(st: State, jobs: Jobs, loop: Loop, learned: Learned | None, kind: Int, now_s: float) -> None:
    """Put the queue in the order of its scores at this time, lower first, ties by row; see ``scheduler.scores``."""
    if learned is not None:
        order_queue(st, learned, now_s)
        return
    first, last = st.counters[QUEUE_LO], st.counters[QUEUE_HI]
    if kind in (FAIRSHARE, MULTIFACTOR):
        queue = st.jobs_i[QUEUE, first:last]
        score_by_usage(jobs.usage, jobs.submit_s, queue, kind == MULTIFACTOR, now_s, loop.key)
        sort_queue(loop.key[: last - first], queue, loop.sorting, loop.bits, True)
        return
    for position in range(first, last):
        row = st.jobs_i[QUEUE, position]
        score = published_score(jobs, row, kind, now_s - jobs.submit_s[row])
        loop.key[position - first] = 0.0 if np.isnan(score) else score
    sort_queue(loop.key[: last - first], st.jobs_i[QUEUE, first:last], loop.sorting, loop.bits, True)


@compiled
def take_ends(jobs: Times, loop: Ends, learned: Watched | None, by_row: bool, now_s: float) -> Int:
    """Write the jobs that end now into ``finished``; where sums are kept of them, in the order of their rows."""
    count = np.int64(0)
    while loop.at[PENDING] > 0 and loop.end_s[0] <= now_s:
        row = pop_end(loop)
        place = count
        while by_row and place > 0 and loop.finished[place - 1] > row:
            loop.finished[place] = loop.finished[place - 1]
            place -= 1
        loop.finished[place] = row
        count += 1
    if learned is not None:
        for i in range(count):
            note_ended(learned.facts, learned.histories, loop.finished[i], jobs.run_s[loop.finished[i]], now_s)
    return count


@compiled
def time_of_next(jobs: Times, loop: Ends) -> float:
    """When the next job ends or arrives; inf when none does."""
    now_s = np.inf
    if loop.at[NEXT] < loop.at[LAST]:
        now_s = jobs.submit_s[loop.at[NEXT]]
    if loop.at[PENDING] > 0:
        now_s = min(now_s, loop.end_s[0])
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
    estimates, usage = jobs.estimates, jobs.usage
    predicts, uses = len(estimates.user) > 0, kind in (FAIRSHARE, MULTIFACTOR)
    while at[NEXT] < at[LAST] or at[PENDING] > 0:
        if at[EVENTS] >= until:
            return False
        now_s = time_of_next(jobs, loop)
        ended = take_ends(jobs, loop, learned, uses or predicts or learned is not None, now_s)
        first = at[NEXT]
        while at[NEXT] < at[LAST] and jobs.submit_s[at[NEXT]] <= now_s:
            if learned is not None and st.jobs_i[TASKS, at[NEXT]] > 0:
                note_submitted(learned.facts, learned.histories, at[NEXT])
            at[NEXT] += 1
        for i in range(ended if uses else 0):
            change_usage(usage, loop.finished[i], -1.0, now_s)
        if predicts:
            for i in range(ended):
                learn_run(estimates, loop.finished[i], jobs.run_s[loop.finished[i]], now_s)
            predict(st.jobs_f, estimates, first, at[NEXT], now_s)
        at[EVENTS] += ended + (1 if at[NEXT] > first else 0)
        at[ENDED] += ended
        loop.now_s[0] = now_s
        absorb(st, now_s, loop.finished, ended, first, at[NEXT], mode)
        if predicts:
            correct(st, estimates, now_s)
        if kind != STATIC and st.counters[QUEUE_HI] - st.counters[QUEUE_LO] > 1 and anything_fits(st):
            order_waiting(st, jobs, loop, learned, kind, now_s)
        run_pass(st, now_s, mode, strategy, depth)
        at[PASSES] += 1
        for i in range(st.counters[NUM_OUT]):
            row = st.jobs_i[OUT, i]
            push_end(loop, now_s + jobs.run_s[row], row)
            if predicts:
                note_start(estimates, row, now_s)
            if uses:
                change_usage(usage, row, 1.0, now_s)
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
    past: IntArray,
    past_end_s: FloatArray,
) -> None:
    """Replay windows of jobs one after the other, each on an empty cluster and without predictions.

    Histories begin with what the jobs before a window teach, ``past`` in the order of their ends ``past_end_s`` (J,).
    When the last job of a window has ended the state is as it was before the first one began.
    """
    for window in range(len(first)):
        loop.at[NEXT] = first[window]
        loop.at[LAST] = last[window]
        if learned is not None:
            learn_past(
                learned.facts,
                learned.histories,
                past,
                jobs.run_s,
                past_end_s,
                first[window],
                jobs.submit_s[first[window]],
            )
        for row in range(first[window], last[window]):
            st.jobs_f[START_S, row] = np.nan
        roll(st, jobs, loop, learned, kind, mode, strategy, depth, np.int64(1) << 60)
