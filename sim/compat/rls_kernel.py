"""The compiled loop of the RLScheduler protocol. Imports Numba, so it is itself imported only where a run begins.

Owns the event rules; loading, scores and metrics are in ``rlscheduler``. Jobs are rows 0…J−1 of a window in the order
in which they join the queue.

The original keeps two Python lists and sorts them again and again, each time with a stable sort by another key. Which
of several equal jobs comes first therefore depends on the sorts made before. This loop gives the same orders without
sorting everything each time:

* Running list: sorted by actual end, except that entering a backfilled wait sorts it by requested end first. The front
  is consumed, starts are appended, so a sorted prefix and binary insertion of the rest do.
* Queue without backfilling: only ever sorted by score, so ties stand in joining order and a heap of strict ranks does.
* Queue with backfilling: sorted by score at each decision, and by submit time while the head waits. Sorting by score
  is postponed (``BY_SCORE``): the head is the first least rank, and when the queue is next sorted by submit time the
  postponed sort shows only inside groups of equal submit times. A score that changes with time is sorted for real,
  because two postponed sorts with different keys do not collapse into one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from shunter.scheduler.types import IntArray
from shunter.sim.compat.sorting import sort_by_key

NEVER = np.iinfo(np.int64).max

# Where the scalars of the state stand in ``State.at``.
NOW = 0  # the time, s
NEXT = 1  # next row to arrive
QUEUED = 2  # rows in the queue
FREE = 3  # free nodes
HEAD = 4  # first running row: ``running[HEAD:TAIL]``
TAIL = 5
SORTED = 6  # ``running[HEAD:SORTED]`` is sorted by actual end
STARTED = 7  # rows started so far
BY_SUBMIT = 8  # ``queue[:BY_SUBMIT]`` is sorted by submit time
BY_SCORE = 9  # 1: the queue is to be sorted by rank before anything else looks at its order
NUM_SCALARS = 10

STATIC, WFP3, UNICEP = 0, 1, 2
"""Kinds of score: a rank computed beforehand, or one of the two that change with the waiting time."""


class Jobs(NamedTuple):
    """The rows of a window, each of shape (J,); times in whole seconds."""

    submit: IntArray
    run: IntArray
    requested: IntArray
    procs: IntArray
    nodes: IntArray  # whole nodes the job takes
    rank: IntArray  # dense rank of a static score, ties equal; strict without backfilling
    kind: int  # STATIC, WFP3 or UNICEP
    num_nodes: int
    procs_per_node: float


class State(NamedTuple):
    """What changes during a run, each of shape (J,) but ``at``."""

    at: IntArray  # (NUM_SCALARS,)
    queue: IntArray
    running: IntArray
    start: IntArray
    end: IntArray  # actual
    limit: IntArray  # start + requested
    order: IntArray  # rows in the order in which they started


@njit(cache=True)
def simulate(jobs: Jobs, backfill: bool) -> tuple[IntArray, IntArray]:
    """Start times (J,) on the window's clock and rows in the order of their starts (J,); see the module's text.

    Every job must fit the empty machine: the caller checks that, a job that does not would wait for ever.
    """
    count = len(jobs.submit)
    state = State(
        np.zeros(NUM_SCALARS, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
    )
    heap = jobs.kind == STATIC and not backfill
    at = state.at
    at[FREE] = jobs.num_nodes
    at[NOW] = jobs.submit[0]
    join(jobs, state, heap)
    while True:
        head = take_best(jobs, state, heap)
        if jobs.nodes[head] > at[FREE]:
            if backfill:
                wait_backfilling(jobs, state, head)
            else:
                while jobs.nodes[head] > at[FREE]:
                    advance(jobs, state, heap)
        if not heap:
            drop(state, head)
        begin(jobs, state, head)
        while at[QUEUED] == 0 and at[NEXT] < count:
            advance(jobs, state, heap)
        if at[QUEUED] == 0:
            return state.start, state.order


@njit(cache=True)
def join(jobs: Jobs, state: State, heap: bool) -> None:
    """The next row joins the queue: at its end, or into the heap of ranks."""
    at, queue = state.at, state.queue
    row = at[NEXT]
    at[NEXT] += 1
    child = at[QUEUED]
    at[QUEUED] += 1
    queue[child] = row
    while heap and child > 0:
        parent = (child - 1) // 2
        if jobs.rank[queue[parent]] < jobs.rank[row]:
            break
        queue[child] = queue[parent]
        queue[parent] = row
        child = parent


@njit(cache=True)
def take_best(jobs: Jobs, state: State, heap: bool) -> int:
    """The row that the policy chooses. It leaves the heap, but stays in a list until it starts."""
    at, queue = state.at, state.queue
    if heap:
        return pop_least(jobs, state)
    if jobs.kind != STATIC:
        sort_by_score(jobs, state)
    best: int = queue[0]
    if jobs.kind != STATIC:
        return best
    for i in range(1, at[QUEUED]):
        if jobs.rank[queue[i]] < jobs.rank[best]:
            best = queue[i]
    at[BY_SCORE] = 1
    return best


@njit(cache=True)
def pop_least(jobs: Jobs, state: State) -> int:
    """Remove the row of least rank from the heap."""
    at, queue = state.at, state.queue
    least: int = queue[0]
    at[QUEUED] -= 1
    size = at[QUEUED]
    row = queue[size]
    parent = 0
    while 2 * parent + 1 < size:
        child = 2 * parent + 1
        if child + 1 < size and jobs.rank[queue[child + 1]] < jobs.rank[queue[child]]:
            child += 1
        if jobs.rank[row] < jobs.rank[queue[child]]:
            break
        queue[parent] = queue[child]
        parent = child
    queue[parent] = row
    return least


@njit(cache=True)
def sort_by_score(jobs: Jobs, state: State) -> None:
    """Sort the queue by a score that depends on the waiting time (see ``shunter.scheduler.scores``), stably."""
    at, queue = state.at, state.queue
    size = at[QUEUED]
    key = np.empty(size, np.float64)
    for i in range(size):
        row = queue[i]
        wait, requested, procs = float(at[NOW] - jobs.submit[row]), float(jobs.requested[row]), float(jobs.procs[row])
        key[i] = wait_score(jobs.kind, wait, requested, procs)
    sort_by_key(queue[:size], key)
    at[BY_SUBMIT] = 0


@njit(cache=True)
def wait_score(kind: int, wait: float, requested: float, procs: float) -> float:
    """``wfp3`` or ``unicep`` of one job, as in ``shunter.scheduler.scores`` (NaN counts as 0)."""
    score = np.nan
    if kind == WFP3:
        if requested != 0.0:
            score = -((wait / requested) ** 3.0) * procs
        elif wait > 0.0 and procs > 0.0:
            score = -np.inf
    else:
        divisor = np.log2(procs + 1e-15) * requested if procs >= 0.0 else np.nan
        score = -(wait + 1e-15) / divisor if divisor != 0.0 else -np.inf
    return 0.0 if np.isnan(score) else score


@njit(cache=True)
def drop(state: State, row: int) -> None:
    """Remove ``row`` from the queue's list, keeping the order of the others."""
    at, queue = state.at, state.queue
    place = 0
    while queue[place] != row:
        place += 1
    for i in range(place, at[QUEUED] - 1):
        queue[i] = queue[i + 1]
    at[QUEUED] -= 1
    if place < at[BY_SUBMIT]:
        at[BY_SUBMIT] -= 1


@njit(cache=True)
def begin(jobs: Jobs, state: State, row: int) -> None:
    """Start ``row`` now; it is at the end of the running list until that is next sorted."""
    at = state.at
    state.start[row] = at[NOW]
    state.end[row] = at[NOW] + jobs.run[row]
    state.limit[row] = at[NOW] + jobs.requested[row]
    state.running[at[TAIL]] = row
    at[TAIL] += 1
    at[FREE] -= jobs.nodes[row]
    state.order[at[STARTED]] = row
    at[STARTED] += 1


@njit(cache=True)
def advance(jobs: Jobs, state: State, heap: bool) -> bool:
    """Go to the next arrival (one job joins: True) or completion (one is released: False); arrivals first."""
    at = state.at
    sort_running(state)
    release = state.end[state.running[at[HEAD]]] if at[HEAD] < at[TAIL] else NEVER
    if at[NEXT] < len(jobs.submit) and jobs.submit[at[NEXT]] <= release:
        at[NOW] = max(at[NOW], jobs.submit[at[NEXT]])
        join(jobs, state, heap)
        return True
    at[NOW] = max(at[NOW], release)
    at[FREE] += jobs.nodes[state.running[at[HEAD]]]
    at[HEAD] += 1
    return False


@njit(cache=True)
def sort_running(state: State) -> None:
    """Sort the running list by actual end, stably: one merge sort, or insertions behind a sorted prefix."""
    at, running, end = state.at, state.running, state.end
    head, tail = at[HEAD], at[TAIL]
    if at[SORTED] <= head and tail - head > 16:
        sort_by_key(running[head:tail], end[running[head:tail]])
    else:
        for i in range(max(at[SORTED], head + 1), tail):
            row = running[i]
            low, high = head, i
            while low < high:
                middle = (low + high) // 2
                if end[running[middle]] <= end[row]:
                    low = middle + 1
                else:
                    high = middle
            for k in range(i, low, -1):
                running[k] = running[k - 1]
            running[low] = row
    at[SORTED] = tail


@njit(cache=True)
def wait_backfilling(jobs: Jobs, state: State, head: int) -> None:
    """Advance until ``head`` fits, starting others that end by their request before the reservation.

    The reservation is made once. A scan after an arrival looks at the newcomer alone: the others failed before, and
    neither the time nor the free nodes have changed in their favour.
    """
    at = state.at
    shadow = reserve(jobs, state, head)
    joined = False
    while jobs.nodes[head] > at[FREE]:
        newcomer = state.queue[at[QUEUED] - 1] if joined else -1
        sort_by_submit(jobs, state)
        scan(jobs, state, shadow, newcomer)
        joined = advance(jobs, state, False)


@njit(cache=True)
def reserve(jobs: Jobs, state: State, head: int) -> int:
    """When ``head`` could start if running jobs ended at their requests. Leaves the running list sorted by them.

    Processors are added up in floating point, node by node's worth, because the original compares those.
    """
    at = state.at
    running = state.running[at[HEAD] : at[TAIL]]
    sort_by_key(running, state.limit[running])
    at[SORTED] = at[HEAD]
    free = at[FREE] * jobs.procs_per_node
    shadow: int = at[NOW]
    for row in running:
        free += jobs.nodes[row] * jobs.procs_per_node
        shadow = state.limit[row]
        if free >= jobs.procs[head]:
            break
    return shadow


@njit(cache=True)
def sort_by_submit(jobs: Jobs, state: State) -> None:
    """Sort the queue by submit time, stably, after the postponed sort by score if there is one."""
    at, queue = state.at, state.queue
    size = at[QUEUED]
    if at[BY_SUBMIT] == 0 and size > 16:
        sort_by_key(queue[:size], jobs.submit[queue[:size]])
    else:
        for i in range(max(at[BY_SUBMIT], 1), size):
            row = queue[i]
            k = i
            while k > 0 and jobs.submit[queue[k - 1]] > jobs.submit[row]:
                queue[k] = queue[k - 1]
                k -= 1
            queue[k] = row
    at[BY_SUBMIT] = size
    if at[BY_SCORE] == 1:
        for i in range(1, size):
            row = queue[i]
            k = i
            while k > 0 and jobs.submit[queue[k - 1]] == jobs.submit[row] and jobs.rank[queue[k - 1]] > jobs.rank[row]:
                queue[k] = queue[k - 1]
                k -= 1
            queue[k] = row
        at[BY_SCORE] = 0


@njit(cache=True)
def scan(jobs: Jobs, state: State, shadow: int, newcomer: int) -> None:
    """Start every queued job that fits and would end, by its request, strictly before ``shadow``.

    ``newcomer`` is the only row to look at, or −1 for all.
    """
    at, queue = state.at, state.queue
    if newcomer >= 0:
        if jobs.nodes[newcomer] <= at[FREE] and at[NOW] + jobs.requested[newcomer] < shadow:
            drop(state, newcomer)
            begin(jobs, state, newcomer)
        return
    kept = 0
    for i in range(at[QUEUED]):
        row = queue[i]
        if jobs.nodes[row] <= at[FREE] and at[NOW] + jobs.requested[row] < shadow:
            begin(jobs, state, row)
        else:
            queue[kept] = row
            kept += 1
    at[QUEUED] = kept
    at[BY_SUBMIT] = kept
