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
* A learned score changes with time as well, but its ties end in (submit time, row) whatever the sorts before, so the
  sort by it can be postponed too: ``Learned.key`` then stands in for the rank.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import allocating, compiled
from shunter.scheduler.kernels.features import (
    Facts,
    Histories,
    Scene,
    Scratch,
    note_context,
    note_ended,
    note_started,
    note_submitted,
    write_row,
)
from shunter.scheduler.kernels.network import Network, score_row
from shunter.scheduler.types import FloatArray, Int, IntArray
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

STATIC, WFP3, UNICEP, LEARNED = 0, 1, 2, 3
"""Kinds of score: a rank computed beforehand, one of the two that change with the waiting time, or a network's."""


class Jobs(NamedTuple):
    """The rows of a window, each of shape (J,); times in whole seconds."""

    submit: IntArray
    run: IntArray
    requested: IntArray
    procs: IntArray
    nodes: IntArray  # whole nodes the job takes
    rank: IntArray  # dense rank of a static score, ties equal; strict without backfilling
    kind: int  # STATIC, WFP3, UNICEP or LEARNED
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


class Learned(NamedTuple):
    """What a network's score needs. Where there is none, None stands for it, and nothing of it is compiled.

    Attributes:
        facts: Of the rows of the window.
        histories: Of all users; empty at the start of a window.
        scratch: Room for at least J jobs.
        network: Scores a row of features.
        x: (F,) room for these.
        key: (J,) scores of the last decision, by row.
        running: (J,) the running rows, by requested end; as many as run.
        limit_s: (J,) these ends.
    """

    facts: Facts
    histories: Histories
    scratch: Scratch
    network: Network
    x: FloatArray
    key: FloatArray
    running: IntArray
    limit_s: FloatArray


@allocating
def simulate_windows(jobs: Jobs, backfill: bool, learned: Learned, first: IntArray, length: Int) -> IntArray:
    """Start times (W, ``length``) in the windows of rows that begin at ``first`` (W,), each as ``simulate`` does it.

    ``jobs`` and the facts have a row for every job of the log, the other arrays of ``learned`` room for a window.
    """
    starts = np.empty((len(first), length), np.int64)
    for window in range(len(first)):
        low, high = first[window], first[window] + length
        rows = Jobs(
            jobs.submit[low:high],
            jobs.run[low:high],
            jobs.requested[low:high],
            jobs.procs[low:high],
            jobs.nodes[low:high],
            jobs.rank[low:high],
            jobs.kind,
            jobs.num_nodes,
            jobs.procs_per_node,
        )
        facts = Facts(
            learned.facts.submit_s[low:high],
            learned.facts.request_s[low:high],
            learned.facts.log_request[low:high],
            learned.facts.processors[low:high],
            learned.facts.log_size[low:high],
            learned.facts.user[low:high],
            learned.facts.alike[low:high],
            learned.facts.total,
        )
        for row in range(length):
            learned.histories.users[:, facts.user[row]] = 0.0
            learned.histories.alike[:, facts.alike[row]] = 0.0
        of_window = Learned(
            facts,
            learned.histories,
            learned.scratch,
            learned.network,
            learned.x,
            learned.key,
            learned.running,
            learned.limit_s,
        )
        starts[window] = simulate(rows, backfill, of_window)[0]
    return starts


@allocating
def simulate(jobs: Jobs, backfill: bool, learned: Learned | None) -> tuple[IntArray, IntArray]:
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
    start_all(jobs, state, backfill, learned)
    return state.start, state.order


@compiled
def start_all(jobs: Jobs, state: State, backfill: bool, learned: Learned | None) -> None:
    """Start every job of the window."""
    heap = jobs.kind == STATIC and not backfill
    at, count = state.at, len(jobs.submit)
    at[FREE] = jobs.num_nodes
    at[NOW] = jobs.submit[0]
    join(jobs, state, heap, learned)
    while at[QUEUED] > 0:
        head = take_best(jobs, state, heap, learned)
        if jobs.nodes[head] > at[FREE]:
            if backfill:
                wait_backfilling(jobs, state, head, learned)
            else:
                while jobs.nodes[head] > at[FREE]:
                    advance(jobs, state, heap, learned)
        if not heap:
            drop(state, head)
        begin(jobs, state, head, learned)
        while at[QUEUED] == 0 and at[NEXT] < count:
            advance(jobs, state, heap, learned)


@compiled
def join(jobs: Jobs, state: State, heap: bool, learned: Learned | None) -> None:
    """The next row joins the queue: at its end, or into the heap of ranks."""
    at, queue = state.at, state.queue
    row = at[NEXT]
    if learned is not None:
        note_submitted(learned.facts, learned.histories, row)
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


@compiled
def take_best(jobs: Jobs, state: State, heap: bool, learned: Learned | None) -> Int:
    """The row that the policy chooses. It leaves the heap, but stays in a list until it starts."""
    at, queue = state.at, state.queue
    if heap:
        return pop_least(jobs, state)
    if learned is not None:
        score_queue(jobs, state, learned)
    elif jobs.kind != STATIC:
        sort_by_score(jobs, state)
        return queue[0]
    best = queue[0]
    for i in range(1, at[QUEUED]):
        if comes_before(jobs, learned, queue[i], best):
            best = queue[i]
    at[BY_SCORE] = 1
    return best


@compiled
def score_queue(jobs: Jobs, state: State, learned: Learned) -> None:
    """Write the scores of the queue into ``key``; a lone job needs none."""
    at, key = state.at, learned.key
    if at[QUEUED] == 1:
        key[state.queue[0]] = 0.0
        return
    num_running = at[TAIL] - at[HEAD]
    scene = Scene(state.queue[: at[QUEUED]], learned.running[:num_running], learned.limit_s[:num_running])
    now_s = float(at[NOW])
    note_context(learned.facts, learned.scratch, scene, now_s)
    for row in scene.queue:
        fits = jobs.nodes[row] <= at[FREE]
        write_row(learned.facts, learned.histories, learned.scratch, num_running, now_s, row, fits, learned.x)
        score = score_row(learned.network, learned.x)
        key[row] = 0.0 if np.isnan(score) else score


@compiled
def comes_before(jobs: Jobs, learned: Learned | None, row: Int, other: Int) -> bool:
    """Whether the score puts ``row`` before ``other``; equal ranks put neither."""
    if learned is None:
        return jobs.rank[row] < jobs.rank[other]
    if learned.key[row] != learned.key[other]:
        return learned.key[row] < learned.key[other]
    if jobs.submit[row] != jobs.submit[other]:
        return jobs.submit[row] < jobs.submit[other]
    return bool(row < other)


@compiled
def pop_least(jobs: Jobs, state: State) -> Int:
    """Remove the row of least rank from the heap."""
    at, queue = state.at, state.queue
    least = queue[0]
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


@allocating
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


@compiled
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


@compiled
def drop(state: State, row: Int) -> None:
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


@compiled
def begin(jobs: Jobs, state: State, row: Int, learned: Learned | None) -> None:
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
    if learned is not None:
        note_started(learned.facts, learned.histories, row, float(at[NOW]))
        place, limit_s = at[TAIL] - at[HEAD] - 1, float(state.limit[row])
        while place > 0 and learned.limit_s[place - 1] > limit_s:
            learned.limit_s[place] = learned.limit_s[place - 1]
            learned.running[place] = learned.running[place - 1]
            place -= 1
        learned.limit_s[place], learned.running[place] = limit_s, row


@compiled
def release(jobs: Jobs, state: State, learned: Learned | None) -> None:
    """The first running row gives back its nodes now."""
    at = state.at
    row = state.running[at[HEAD]]
    at[FREE] += jobs.nodes[row]
    at[HEAD] += 1
    if learned is not None:
        note_ended(learned.facts, learned.histories, row, float(jobs.run[row]), float(at[NOW]))
        place = 0
        while learned.running[place] != row:
            place += 1
        for i in range(place, at[TAIL] - at[HEAD]):
            learned.limit_s[i] = learned.limit_s[i + 1]
            learned.running[i] = learned.running[i + 1]


@compiled
def advance(jobs: Jobs, state: State, heap: bool, learned: Learned | None) -> bool:
    """Go to the next arrival (one job joins: True) or completion (one is released: False); arrivals first."""
    at = state.at
    sort_running(state)
    end = state.end[state.running[at[HEAD]]] if at[HEAD] < at[TAIL] else NEVER
    if at[NEXT] < len(jobs.submit) and jobs.submit[at[NEXT]] <= end:
        at[NOW] = max(at[NOW], jobs.submit[at[NEXT]])
        join(jobs, state, heap, learned)
        return True
    at[NOW] = max(at[NOW], end)
    release(jobs, state, learned)
    return False


@allocating
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


@compiled
def wait_backfilling(jobs: Jobs, state: State, head: Int, learned: Learned | None) -> None:
    """Advance until ``head`` fits, starting others that end by their request before the reservation.

    The reservation is made once. A scan after an arrival looks at the newcomer alone: the others failed before, and
    neither the time nor the free nodes have changed in their favour.
    """
    at = state.at
    shadow = reserve(jobs, state, head)
    joined = False
    while jobs.nodes[head] > at[FREE]:
        newcomer = state.queue[at[QUEUED] - 1] if joined else -1
        sort_by_submit(jobs, state, learned)
        scan(jobs, state, shadow, newcomer, learned)
        joined = advance(jobs, state, False, learned)


@allocating
def reserve(jobs: Jobs, state: State, head: Int) -> Int:
    """When ``head`` could start if running jobs ended at their requests. Leaves the running list sorted by them.

    Processors are added up in floating point, node by node's worth, because the original compares those.
    """
    at = state.at
    running = state.running[at[HEAD] : at[TAIL]]
    sort_by_key(running, state.limit[running])
    at[SORTED] = at[HEAD]
    free = at[FREE] * jobs.procs_per_node
    shadow = at[NOW]
    for row in running:
        free += jobs.nodes[row] * jobs.procs_per_node
        shadow = state.limit[row]
        if free >= jobs.procs[head]:
            break
    return shadow


@allocating
def sort_by_submit(jobs: Jobs, state: State, learned: Learned | None) -> None:
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
            while k > 0 and jobs.submit[queue[k - 1]] == jobs.submit[row]:
                if not comes_before(jobs, learned, row, queue[k - 1]):
                    break
                queue[k] = queue[k - 1]
                k -= 1
            queue[k] = row
        at[BY_SCORE] = 0


@compiled
def scan(jobs: Jobs, state: State, shadow: Int, newcomer: Int, learned: Learned | None) -> None:
    """Start every queued job that fits and would end, by its request, strictly before ``shadow``.

    ``newcomer`` is the only row to look at, or −1 for all.
    """
    at, queue = state.at, state.queue
    if newcomer >= 0:
        if jobs.nodes[newcomer] <= at[FREE] and at[NOW] + jobs.requested[newcomer] < shadow:
            drop(state, newcomer)
            begin(jobs, state, newcomer, learned)
        return
    kept = 0
    for i in range(at[QUEUED]):
        row = queue[i]
        if jobs.nodes[row] <= at[FREE] and at[NOW] + jobs.requested[row] < shadow:
            begin(jobs, state, row, learned)
        else:
            queue[kept] = row
            kept += 1
    at[QUEUED] = kept
    at[BY_SUBMIT] = kept
