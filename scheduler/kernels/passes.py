"""What the shells call: take in what happened at an instant, and make its scheduling pass."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.conservative import pass_conservative, profile_change, profile_trim
from shunter.scheduler.kernels.easy import pass_easy, start_heads
from shunter.scheduler.kernels.lists import queue_insert
from shunter.scheduler.kernels.slots import activate_shape
from shunter.scheduler.kernels.starting import release_job
from shunter.scheduler.layout import (
    CONSERVATIVE,
    END_S,
    NO_BACKFILL,
    NUM_OUT,
    RELEASED,
    RESERVED_S,
    SHAPE,
    TASKS,
    WAITING,
    State,
)
from shunter.scheduler.types import FloatArray, Int, IntArray


@compiled
def absorb(
    st: State, now_s: float, finished: IntArray, num_finished: Int, arrived_lo: Int, arrived_hi: Int, mode: Int
) -> None:
    """Take in what happened at an instant: the finished jobs, then the arrivals of rows arrived_lo..arrived_hi."""
    for i in range(num_finished):
        row = finished[i]
        if mode == CONSERVATIVE:
            profile_trim(st, now_s)
            profile_change(st, row, 1, now_s, st.jobs_f[END_S, row])
        release_job(st, row)
    for row in range(arrived_lo, arrived_hi):
        if st.jobs_i[TASKS, row] <= 0:  # rejected on submission: never enters the queue
            continue
        s = st.jobs_i[SHAPE, row]
        st.shapes[WAITING, s] += 1
        activate_shape(st, s)
        st.jobs_f[RESERVED_S, row] = np.nan
        queue_insert(st, row)


@compiled
def run_pass(st: State, now_s: float, mode: Int, strategy: Int, depth: Int) -> float:
    """One scheduling pass in place; started jobs stand in OUT[:NUM_OUT]. Returns when the next pass is due, or inf."""
    st.counters[NUM_OUT] = 0
    next_s = np.inf
    if mode == NO_BACKFILL:
        start_heads(st, now_s, strategy)
    elif mode == CONSERVATIVE:
        next_s = pass_conservative(st, now_s, strategy, depth)
    else:
        pass_easy(st, mode, now_s, strategy, depth)
    st.counters[RELEASED] = 0
    return next_s


@compiled
def advance(
    now_s: float,
    finished: IntArray,
    num_finished: Int,
    arrived_lo: Int,
    arrived_hi: Int,
    mode: Int,
    strategy: Int,
    depth: Int,
    jobs_i: IntArray,
    jobs_f: FloatArray,
    counters: IntArray,
    node_free: IntArray,
    need: IntArray,
    slots: IntArray,
    shapes: IntArray,
    alloc: IntArray,
    node_i: IntArray,
    spare: IntArray,
    profile_s: FloatArray,
    profile_free: IntArray,
) -> float:
    """``absorb`` and ``run_pass`` in one call, for orderings whose score does not change while a job waits.

    Takes the arrays of a ``State`` one by one: handing over the tuple itself costs Python three times as much.
    """
    st = State(jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i, spare, profile_s, profile_free)
    absorb(st, now_s, finished, num_finished, arrived_lo, arrived_hi, mode)
    return run_pass(st, now_s, mode, strategy, depth)
