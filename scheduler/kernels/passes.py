"""What the shells call: take in what happened at an instant, and make its scheduling pass."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.conservative import pass_conservative, profile_change, profile_trim
from shunter.scheduler.kernels.easy import pass_easy, start_heads
from shunter.scheduler.kernels.lanes import pass_lanes
from shunter.scheduler.kernels.lists import queue_insert
from shunter.scheduler.kernels.scored import note_change
from shunter.scheduler.kernels.slots import activate_shape, refresh_node
from shunter.scheduler.kernels.starting import release_job
from shunter.scheduler.layout import (
    CONSERVATIVE,
    END_S,
    ENTERED_S,
    NO_BACKFILL,
    NUM_NODE_ROWS,
    NUM_OUT,
    OPEN,
    PART,
    PARTS,
    RELEASED,
    RESERVED_S,
    SHAPE,
    TASKS,
    WAIT_QUEUE,
    WAITING,
    WHOLE_ROW,
    WHY,
    State,
)
from shunter.scheduler.types import FloatArray, Int, IntArray


@compiled
def enqueue(st: State, row: Int, now_s: float) -> None:
    """Let a job wait."""
    s = st.jobs_i[SHAPE, row]
    st.shapes[WAITING, s] += 1
    activate_shape(st, s)
    st.jobs_f[RESERVED_S, row] = np.nan
    st.jobs_f[ENTERED_S, row] = now_s
    st.jobs_i[WHY, row] = WAIT_QUEUE
    queue_insert(st, row)


@compiled
def set_open(st: State, node: Int, is_open: Int) -> None:
    """Let a node take new work, or none."""
    st.node_i[OPEN, node] = is_open
    refresh_node(st, node)


@compiled
def set_gpu(st: State, node: Int, gpu: Int, works: bool) -> None:
    """Take a GPU that nobody uses out of service, or put it back."""
    sign = 1 if works else -1
    st.node_i[NUM_NODE_ROWS + gpu, node] = 1000 if works else 0
    if st.counters[PARTS] > 0:
        st.node_i[NUM_NODE_ROWS + st.counters[PARTS] + gpu, node] = st.node_i[PART, node] if works else 0
    for r in range(st.counters[WHOLE_ROW], st.node_free.shape[0]):  # whole GPUs, and all that shares them
        st.node_free[r, node] += sign * 1000
    note_change(st, node)
    refresh_node(st, node)


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
        enqueue(st, row, now_s)


# Three passes instead of one that asks which: Numba would compile the code of all into every caller of any.


@compiled
def run_pass(st: State, now_s: float, mode: Int, strategy: Int, depth: Int) -> float:
    """A pass without backfilling or with EASY; started jobs stand in OUT[:NUM_OUT]. No pass is due by itself: inf."""
    st.counters[NUM_OUT] = 0
    if mode == NO_BACKFILL:
        start_heads(st, now_s, strategy)
    else:
        pass_easy(st, mode, now_s, strategy, depth)
    st.counters[RELEASED] = 0
    return np.inf


@compiled
def run_conservative(st: State, now_s: float, _mode: Int, strategy: Int, depth: Int) -> float:
    """As ``run_pass``, with conservative backfilling; returns when the next promise is due, or inf."""
    st.counters[NUM_OUT] = 0
    next_s = pass_conservative(st, now_s, strategy, depth)
    st.counters[RELEASED] = 0
    return next_s


@compiled
def run_lanes(st: State, now_s: float, mode: Int, strategy: Int, depth: Int) -> float:
    """As ``run_pass``, where the queue is looked at through lists; returns when waiting for locality ends, or inf."""
    st.counters[NUM_OUT] = 0
    next_s = pass_lanes(st, now_s, mode, strategy, depth)
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
    groups: IntArray,
    rates: FloatArray,
    points: FloatArray,
    typical: IntArray,
) -> float:
    """``absorb`` and ``run_pass`` in one call, the most frequent way.

    Takes the arrays of a ``State`` one by one: handing over the tuple itself costs Python three times as much.
    """
    st = State(
        jobs_i,
        jobs_f,
        counters,
        node_free,
        need,
        slots,
        shapes,
        alloc,
        node_i,
        spare,
        profile_s,
        profile_free,
        groups,
        rates,
        points,
        typical,
    )
    absorb(st, now_s, finished, num_finished, arrived_lo, arrived_hi, mode)
    return run_pass(st, now_s, mode, strategy, depth)


@compiled
def advance_conservative(
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
    groups: IntArray,
    rates: FloatArray,
    points: FloatArray,
    typical: IntArray,
) -> float:
    """As ``advance``, with ``run_conservative``; compiled only when it is used."""
    st = State(
        jobs_i,
        jobs_f,
        counters,
        node_free,
        need,
        slots,
        shapes,
        alloc,
        node_i,
        spare,
        profile_s,
        profile_free,
        groups,
        rates,
        points,
        typical,
    )
    absorb(st, now_s, finished, num_finished, arrived_lo, arrived_hi, mode)
    return run_conservative(st, now_s, mode, strategy, depth)
