"""How many tasks of each shape fit on each node, kept up to date while jobs start and end.

Invariant: ``slots[s, n]`` equals ``min_r node_free[r, n] // need[r, s]`` for every active shape.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled, inlined
from shunter.scheduler.layout import (
    ACTIVE,
    ACTIVE_POS,
    ANY_SLOTS,
    FREE_SLOTS,
    KEEP_ACTIVE_SHAPES,
    NUM_ACTIVE,
    WAITING,
    State,
)
from shunter.scheduler.types import Int, IntArray


@inlined
def slots_on(free: IntArray, need: IntArray, shape: Int, node: Int) -> Int:
    """Tasks of ``shape`` that fit into column ``node`` of ``free`` (R, N)."""
    best = np.int64(ANY_SLOTS)
    for r in range(need.shape[0]):
        if need[r, shape] > 0:
            here = free[r, node] // need[r, shape]
            best = min(best, here)
    return best


@compiled
def activate_shape(st: State, s: Int) -> None:
    """Begin to keep the free slots of shape ``s`` up to date; nothing to do when it is active."""
    if st.shapes[ACTIVE_POS, s] >= 0:
        return
    total = np.int64(0)
    for n in range(st.node_free.shape[1]):
        st.slots[s, n] = slots_on(st.node_free, st.need, s, n)
        total += st.slots[s, n]
    st.shapes[FREE_SLOTS, s] = total
    st.shapes[ACTIVE_POS, s] = st.counters[NUM_ACTIVE]
    st.shapes[ACTIVE, st.counters[NUM_ACTIVE]] = s
    st.counters[NUM_ACTIVE] += 1


@compiled
def forget_waiting(st: State, s: Int) -> None:
    """One job of shape ``s`` left the queue; with many active shapes the last one to leave deactivates the shape."""
    st.shapes[WAITING, s] -= 1
    if st.shapes[WAITING, s] == 0 and st.counters[NUM_ACTIVE] > KEEP_ACTIVE_SHAPES:
        position = st.shapes[ACTIVE_POS, s]
        st.counters[NUM_ACTIVE] -= 1
        last = st.shapes[ACTIVE, st.counters[NUM_ACTIVE]]
        st.shapes[ACTIVE, position] = last
        st.shapes[ACTIVE_POS, last] = position
        st.shapes[ACTIVE_POS, s] = -1


@compiled
def change_node(st: State, node: Int, shape: Int, tasks: Int) -> None:
    """Take (``tasks`` > 0) or give back (< 0) tasks of ``shape`` on one node and refresh the slots of active shapes."""
    for r in range(st.need.shape[0]):
        st.node_free[r, node] -= tasks * st.need[r, shape]
    for a in range(st.counters[NUM_ACTIVE]):
        s = st.shapes[ACTIVE, a]
        now = slots_on(st.node_free, st.need, s, node)
        st.shapes[FREE_SLOTS, s] += now - st.slots[s, node]
        st.slots[s, node] = now
