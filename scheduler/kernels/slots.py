"""How many tasks of each shape fit on each node, kept up to date while jobs start and end.

Invariant: ``slots[s, n]`` equals ``room_on`` the node's free units for every active shape. Where GPUs are told apart,
the row WHOLE_ROW of ``node_free`` counts only GPUs that nobody uses, and shared GPUs are counted one by one; see
``gpus`` for them.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled, inlined
from shunter.scheduler.kernels.gpus import change_part, room_of_gpus
from shunter.scheduler.layout import (
    ACTIVE,
    ACTIVE_POS,
    ANY_SLOTS,
    FREE_SLOTS,
    GPUS,
    KEEP_ACTIVE_SHAPES,
    NODE_CLASS,
    NUM_ACTIVE,
    NUM_GPUS,
    NUM_NODE_ROWS,
    NUM_SHAPE_ROWS,
    OPEN,
    PARTS,
    RESTRICTED,
    SHARE,
    SPARE_AT,
    SPARE_NUMBER,
    WAITING,
    WHOLE_ROW,
    State,
)
from shunter.scheduler.types import Int, IntArray


@inlined
def slots_on(free: IntArray, need: IntArray, shape: Int, node: Int) -> Int:
    """Tasks of ``shape`` that fit into column ``node`` of ``free`` (R, N)."""
    best = np.int64(ANY_SLOTS)
    for r in range(need.shape[0]):
        if free[r, node] < need[r, shape]:
            best = np.int64(0)
    for r in range(need.shape[0] if best > 0 else 0):
        if need[r, shape] > 0:
            here = free[r, node] // need[r, shape]
            best = min(best, here)
    return best


@compiled
def restricted_room(st: State, free: IntArray, gpu_row: Int, shape: Int, node: Int) -> Int:
    """As ``room_on``, where nodes are of several classes or closed, or GPUs are told apart."""
    if st.node_i[OPEN, node] == 0 or st.shapes[NUM_SHAPE_ROWS + st.node_i[NODE_CLASS, node], shape] == 0:
        return np.int64(0)
    best = slots_on(free, st.need, shape, node)
    share = st.shapes[SHARE, shape]
    if best > 0 and share > 0:
        shared = np.int64(0)
        for g in range(st.node_i[NUM_GPUS, node]):
            shared += st.node_i[gpu_row + g, node] // share
        best = min(best, shared)
    return best


@compiled
def divided_room(st: State, free: IntArray, gpu_row: Int, shape: Int, node: Int) -> Int:
    """As ``room_on``, where also the memory or the slices of GPUs are counted.

    A function of its own, so that the compiler goes on copying ``restricted_room`` into its callers: to hand over a
    ``State`` costs more than all that it does.
    """
    best = restricted_room(st, free, gpu_row, shape, node)
    if best > 0 and st.shapes[SHARE, shape] > 0:
        best = min(best, room_of_gpus(st, gpu_row, gpu_row, shape, node))
    return best


@inlined
def room_on(st: State, free: IntArray, gpu_row: Int, shape: Int, node: Int) -> Int:
    """Tasks of ``shape`` that may run on ``node`` with what ``free`` (R, N) and the GPU rows from ``gpu_row`` have."""
    restricted = st.counters[RESTRICTED]
    if restricted == 0:
        room = slots_on(free, st.need, shape, node)
    elif restricted == 1:
        room = restricted_room(st, free, gpu_row, shape, node)
    else:
        room = divided_room(st, free, gpu_row, shape, node)
    return room


@compiled
def activate_shape(st: State, s: Int) -> None:
    """Begin to keep the free slots of shape ``s`` up to date; nothing to do when it is active."""
    if st.shapes[ACTIVE_POS, s] >= 0:
        return
    total = np.int64(0)
    for n in range(st.node_free.shape[1]):
        st.slots[s, n] = room_on(st, st.node_free, NUM_NODE_ROWS, s, n)
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
def refresh_node(st: State, node: Int) -> None:
    """Count the slots of active shapes on one node again."""
    for a in range(st.counters[NUM_ACTIVE]):
        s = st.shapes[ACTIVE, a]
        now = room_on(st, st.node_free, NUM_NODE_ROWS, s, node)
        st.shapes[FREE_SLOTS, s] += now - st.slots[s, node]
        st.slots[s, node] = now


@compiled
def change_units(
    st: State, free: IntArray, gpu_row: Int, node: Int, shape: Int, tasks: Int, mask: Int, first: Int
) -> None:
    """Take (``tasks`` > 0) or give back (< 0) tasks of ``shape`` on one node, on the GPUs of ``mask``.

    ``first`` is the first memory slice of a MIG instance, else −1.
    """
    for r in range(st.need.shape[0]):
        free[r, node] -= tasks * st.need[r, shape]
    if mask == 0:
        return
    share = st.shapes[SHARE, shape]
    for g in range(st.counters[GPUS]):
        if (mask >> g) & 1 == 0:
            continue
        before = st.node_i[gpu_row + g, node]
        if share == 0:
            st.node_i[gpu_row + g, node] = 0 if tasks > 0 else 1000
        else:
            after = before - tasks * share
            st.node_i[gpu_row + g, node] = after
            if before == 1000 and after < 1000:
                free[st.counters[WHOLE_ROW], node] -= 1000
            elif before < 1000 and after == 1000:
                free[st.counters[WHOLE_ROW], node] += 1000
            if st.counters[PARTS] > 0:
                change_part(st, gpu_row + st.counters[PARTS] + g, node, shape, tasks, first)


@inlined
def touch_spare(st: State, node: Int) -> None:
    """Let a column of ``spare`` be what is free now, if nothing has been written there since ``spare`` was begun."""
    if st.node_i[SPARE_AT, node] < st.counters[SPARE_NUMBER]:
        st.node_i[SPARE_AT, node] = st.counters[SPARE_NUMBER]
        for r in range(st.node_free.shape[0]):
            st.spare[r, node] = st.node_free[r, node]
        gpus, parts = st.counters[GPUS], st.counters[PARTS]
        for g in range(NUM_NODE_ROWS, NUM_NODE_ROWS + gpus):
            st.node_i[gpus + g, node] = st.node_i[g, node]
            if parts > 0:
                st.node_i[parts + gpus + g, node] = st.node_i[parts + g, node]
