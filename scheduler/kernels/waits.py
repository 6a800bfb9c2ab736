"""What each waiting job waits for, second by second.

Most wait for their turn. Only those that lack something else are listed, and what they lack is charged to them at each
pass; the rest of a job's waiting was for its turn.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from shunter.scheduler.jit import compiled
from shunter.scheduler.layout import (
    ACTIVE,
    FREE_SLOTS,
    LACKING,
    LISTED,
    NUM_ACTIVE,
    NUM_LACKING,
    OPEN,
    QUEUE,
    QUEUE_HI,
    QUEUE_LO,
    SHAPE,
    TASKS,
    WAIT_FAILURE,
    WAIT_FRAGMENTATION,
    WAIT_GANG,
    WAIT_QUEUE,
    WAITING,
    WHY,
    State,
)
from shunter.scheduler.types import FloatArray, Int, IntArray


@compiled
def total_free(st: State, totals: IntArray) -> None:
    """Free units of each resource over the open nodes, and over the closed ones, into ``totals`` (3, R)."""
    for r in range(st.node_free.shape[0]):
        for row in range(3):
            totals[row, r] = 0
        for n in range(st.node_free.shape[1]):
            totals[1 - st.node_i[OPEN, n], r] += st.node_free[r, n]


@compiled
def fits_in_total(st: State, s: Int, tasks: Int, totals: IntArray, closed: bool) -> bool:
    """Whether tasks of a shape, and all that is asked for ahead of them, fit into what is free in all."""
    for r in range(st.need.shape[0]):
        room = totals[0, r] + (totals[1, r] if closed else 0)
        if st.need[r, s] > 0 and totals[2, r] + tasks * st.need[r, s] > room:
            return False
    return True


@compiled
def reason_of(st: State, row: Int, totals: IntArray) -> Int:
    """What a waiting job waits for after a pass, all those ahead of it served; see the WAIT_ numbers."""
    s = st.jobs_i[SHAPE, row]
    tasks = st.jobs_i[TASKS, row]
    slots = st.shapes[FREE_SLOTS, s]
    if tasks <= slots:
        return WAIT_QUEUE
    if fits_in_total(st, s, tasks, totals, False):
        return WAIT_FRAGMENTATION
    if fits_in_total(st, s, tasks, totals, True):
        return WAIT_FAILURE
    return WAIT_GANG if tasks > 1 and slots > 0 and fits_in_total(st, s, 1, totals, False) else WAIT_QUEUE


@compiled
def may_lack(st: State, s: Int, totals: IntArray) -> bool:
    """Whether a job of a shape may wait for anything but its turn: a task fits beside what is asked for ahead of it."""
    return st.shapes[WAITING, s] > 0 and fits_in_total(st, s, 1, totals, True)


@compiled
def set_reason(st: State, row: Int, why: Int) -> None:
    """Note that a waiting job waits for something other than its turn."""
    if st.jobs_i[WHY, row] == WAIT_QUEUE:
        st.jobs_i[LACKING, st.counters[NUM_LACKING]] = row
        st.counters[NUM_LACKING] += 1
    st.jobs_i[WHY, row] = why


@compiled
def forget_reasons(st: State) -> None:
    """Let all wait for their turn until a pass finds what they lack."""
    for i in range(st.counters[NUM_LACKING]):
        st.jobs_i[WHY, st.jobs_i[LACKING, i]] = WAIT_QUEUE
    st.counters[NUM_LACKING] = 0


@compiled
def attribute_waits(st: State, elapsed_s: float, waits_s: FloatArray) -> None:
    """Add the seconds since the last pass to what each job lacked then; ``waits_s`` is (NUM_WAITS, J)."""
    for i in range(st.counters[NUM_LACKING]):
        row = st.jobs_i[LACKING, i]
        waits_s[st.jobs_i[WHY, row], row] += elapsed_s


@compiled
def note_reasons(st: State, totals: IntArray) -> None:
    """After a pass: list the waiting jobs that lack something from now on; ``totals`` (3, R) is scratch.

    Row 2 of ``totals`` sums what the jobs ahead ask for: a job behind them waits for its turn, not for what they lack.
    It only grows, so the walk along the queue ends where it leaves no task of any shape that waits.
    """
    if st.counters[LISTED] == 0:  # else the pass has done so, and listed those that it held back
        forget_reasons(st)
    if st.counters[QUEUE_LO] == st.counters[QUEUE_HI]:
        return
    total_free(st, totals)
    a = 0
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        while a < st.counters[NUM_ACTIVE] and not may_lack(st, st.shapes[ACTIVE, a], totals):
            a += 1
        if a == st.counters[NUM_ACTIVE]:
            return
        row = st.jobs_i[QUEUE, position]
        if st.jobs_i[WHY, row] != WAIT_QUEUE:
            continue
        why = reason_of(st, row, totals)
        if why != WAIT_QUEUE:
            set_reason(st, row, why)
        s = st.jobs_i[SHAPE, row]
        for r in range(st.need.shape[0]):
            totals[2, r] += st.jobs_i[TASKS, row] * st.need[r, s]
