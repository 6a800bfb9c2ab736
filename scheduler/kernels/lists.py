"""The queue, in policy order, and the running jobs, by expected end.

Invariants: a job is in the queue or in ``RUN``, never in both; ``RUN_END_S`` never decreases along the list.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled, move_block
from shunter.scheduler.layout import (
    END_S,
    NUM_RUNNING,
    QUEUE,
    QUEUE_HI,
    QUEUE_LO,
    RUN,
    RUN_END_S,
    SCORE,
    State,
)
from shunter.scheduler.types import AnyArray, Int


@compiled
def shift_right(values: AnyArray, first: Int, count: Int) -> None:
    """Move values[first:count] up by one."""
    move_block(values, first + 1, first, count - first)


@compiled
def shift_left(values: AnyArray, first: Int, count: Int) -> None:
    """Move values[first + 1:count] down by one."""
    move_block(values, first, first + 1, count - first - 1)


@compiled
def queue_insert(st: State, row: Int) -> None:
    """Insert a job behind all waiting jobs whose (score, row) is not larger."""
    queue = st.jobs_i[QUEUE]
    score = st.jobs_f[SCORE]
    lo = st.counters[QUEUE_LO]
    hi = st.counters[QUEUE_HI]
    if hi == len(queue):  # the list reached the end of its array: move it to the front
        move_block(queue, 0, lo, hi - lo)
        hi -= lo
        lo = 0
    left = lo
    right = hi
    last = queue[hi - 1] if hi > lo else -1
    if hi == lo or score[last] < score[row] or (score[last] == score[row] and last < row):
        left = hi
    else:
        while left < right:
            middle = (left + right) // 2
            other = queue[middle]
            if score[other] < score[row] or (score[other] == score[row] and other < row):
                left = middle + 1
            else:
                right = middle
    if left - lo < hi - left and lo > 0:
        move_block(queue, lo - 1, lo, left - lo)
        lo -= 1
        left -= 1
    else:
        move_block(queue, left + 1, left, hi - left)
        hi += 1
    queue[left] = row
    st.counters[QUEUE_LO] = lo
    st.counters[QUEUE_HI] = hi


@compiled
def queue_remove(st: State, position: Int) -> bool:
    """Remove one position of the queue by moving its shorter side. Returns True when the front part moved right."""
    queue = st.jobs_i[QUEUE]
    lo = st.counters[QUEUE_LO]
    hi = st.counters[QUEUE_HI]
    if position - lo <= hi - position:
        move_block(queue, lo + 1, lo, position - lo)
        st.counters[QUEUE_LO] = lo + 1
        return True
    move_block(queue, position, position + 1, hi - 1 - position)
    st.counters[QUEUE_HI] = hi - 1
    return False


@compiled
def running_insert(st: State, row: Int, end_s: float) -> None:
    """Insert a job into the running list, behind all with the same expected end."""
    ends = st.jobs_f[RUN_END_S]
    rows = st.jobs_i[RUN]
    count = st.counters[NUM_RUNNING]
    left = np.searchsorted(ends[:count], end_s, side="right")
    shift_right(ends, left, count)
    shift_right(rows, left, count)
    ends[left] = end_s
    rows[left] = row
    st.jobs_f[END_S, row] = end_s
    st.counters[NUM_RUNNING] = count + 1


@compiled
def running_remove(st: State, row: Int) -> None:
    """Take a job out of the running list."""
    ends = st.jobs_f[RUN_END_S]
    rows = st.jobs_i[RUN]
    count = st.counters[NUM_RUNNING]
    i = np.searchsorted(ends[:count], st.jobs_f[END_S, row], side="left")
    while rows[i] != row:
        i += 1
    shift_left(ends, i, count)
    shift_left(rows, i, count)
    st.counters[NUM_RUNNING] = count - 1
