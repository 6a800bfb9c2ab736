"""Starting a job on the nodes chosen for it, and giving back what it holds."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np
from numba.extending import overload
from numba.np.numpy_support import from_dtype

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.gpus import has_room, kind_on, pick_gpus, pick_shared, room_of_gpu
from shunter.scheduler.kernels.lists import running_insert, running_remove
from shunter.scheduler.kernels.placing import place
from shunter.scheduler.kernels.scored import best_scored, note_change, note_kind, scored_gpus
from shunter.scheduler.kernels.slots import change_units, forget_waiting, refresh_node, touch_spare
from shunter.scheduler.layout import (
    ALLOC,
    ALLOC_FREE,
    BACKFILLED,
    BESIDE,
    CHOSEN,
    CHOSEN_TASKS,
    COUNT,
    DONE_S,
    DRAWN,
    EXPECTED_S,
    FIRST,
    GPUS,
    GROUP,
    LISTED,
    MASK,
    MODEL,
    NEXT,
    NO_POINTS,
    NODE,
    NODE_CLASS,
    NUM_CLASSES,
    NUM_NODE_ROWS,
    NUM_OUT,
    NUM_STOPPING,
    OUT,
    OVERHEAD_S,
    PARTS,
    POWER_USED_W,
    POWER_W,
    RACK,
    RATE,
    RATED,
    RELEASED,
    SCORED,
    SHAPE,
    SHARE,
    SINCE_S,
    SIZE,
    START_S,
    STOPPING,
    SWITCH,
    TASKS,
    TIMED,
    USED,
    WORST_FIT,
    ZONE,
    State,
)
from shunter.scheduler.types import Int, IntArray


@compiled
def spare_row(st: State) -> Int:
    """The first row of ``node_i`` with what is spare of single GPUs."""
    return NUM_NODE_ROWS + st.counters[GPUS]


@compiled
def allowed_row(st: State) -> Int:
    """The first row of what may be taken of single GPUs: what is spare while a reservation is minded, else all."""
    return NUM_NODE_ROWS + st.counters[BESIDE] * st.counters[GPUS]


@compiled
def add_entry(st: State, row: Int, node: Int, tasks: Int, mask: Int, first: Int) -> None:
    """Note that a job holds ``tasks`` on a node, and take the units; ``first`` is −1 unless it is a MIG instance."""
    entry = st.counters[ALLOC_FREE]
    st.counters[ALLOC_FREE] = st.alloc[NEXT, entry]
    st.alloc[NODE, entry] = node
    st.alloc[COUNT, entry] = tasks
    st.alloc[MASK, entry] = mask
    st.alloc[FIRST, entry] = first
    st.alloc[NEXT, entry] = st.jobs_i[ALLOC, row]
    st.jobs_i[ALLOC, row] = entry
    change_units(st, st.node_free, NUM_NODE_ROWS, node, st.jobs_i[SHAPE, row], tasks, mask, first)
    if st.counters[BESIDE] > 0:
        change_units(st, st.spare, spare_row(st), node, st.jobs_i[SHAPE, row], tasks, mask, first)
    if st.counters[SCORED] > 0:
        note_change(st, node)
        note_kind(st, st.jobs_i[SHAPE, row], node, tasks)


@compiled
def hold(st: State, row: Int, node: Int, tasks: Int, strategy: Int) -> None:
    """Let a job hold ``tasks`` on a node, and choose the GPUs there."""
    s = st.jobs_i[SHAPE, row]
    if st.counters[BESIDE] > 0:
        touch_spare(st, node)
    if st.counters[GPUS] == 0:
        add_entry(st, row, node, tasks, 0, -1)
    elif st.shapes[SHARE, s] == 0:
        add_entry(st, row, node, tasks, pick_gpus(st, NUM_NODE_ROWS, allowed_row(st), node, s, tasks), -1)
    else:
        also = allowed_row(st)
        while tasks > 0:
            g, first = pick_shared(st, NUM_NODE_ROWS, also, node, s, strategy)
            here: Int = np.int64(1)
            if first < 0 and strategy != WORST_FIT:
                here = min(tasks, room_of_gpu(st, NUM_NODE_ROWS, also, s, node, g))
            add_entry(st, row, node, here, np.int64(1) << g, first)
            tasks -= here
    refresh_node(st, node)


@compiled
def rate_of(st: State, row: Int) -> float:
    """Speed of a placed job relative to the reference: its slowest node's, times that of the tier which it spans."""
    model = st.jobs_i[MODEL, row]
    slowest = np.inf
    tier = 0
    first = st.alloc[NODE, st.jobs_i[ALLOC, row]]
    entry = st.jobs_i[ALLOC, row]
    while entry >= 0:
        n = st.alloc[NODE, entry]
        slowest = min(slowest, st.rates[model, st.node_i[NODE_CLASS, n]])
        if n != first:
            if st.node_i[SWITCH, n] == st.node_i[SWITCH, first]:
                here = 1
            elif st.node_i[RACK, n] == st.node_i[RACK, first]:
                here = 2
            else:
                here = 3 if st.node_i[ZONE, n] == st.node_i[ZONE, first] else 4
            tier = max(tier, here)
        entry = st.alloc[NEXT, entry]
    return slowest * st.rates[model, st.counters[NUM_CLASSES] + tier]


@compiled
def count_use(st: State, row: Int, sign: Int) -> None:
    """Count what a job holds against its group's quota and the power cap, or no longer."""
    if st.jobs_i[GROUP, row] >= 0:
        st.groups[USED, st.jobs_i[GROUP, row]] += sign * st.jobs_i[SIZE, row]
    st.counters[POWER_USED_W] += sign * st.jobs_i[POWER_W, row]


@compiled
def set_running(st: State, row: Int, now_s: float, backfilled: Int) -> None:
    """Let a job that holds its nodes run: the rest of a start, whatever chose the nodes."""
    # Rows that no rule needs are not touched: each is a line of memory away from the others.
    st.jobs_f[START_S, row] = now_s
    if st.counters[TIMED] == 1:
        rate = rate_of(st, row) if st.counters[RATED] == 1 else 1.0
        begins_s = now_s + st.jobs_f[OVERHEAD_S, row]
        st.jobs_f[RATE, row] = rate
        st.jobs_f[SINCE_S, row] = begins_s
        st.jobs_f[DONE_S, row] = 0.0
        running_insert(st, row, begins_s + st.jobs_f[EXPECTED_S, row] / rate)
    else:
        running_insert(st, row, now_s + st.jobs_f[EXPECTED_S, row])
    out = st.counters[NUM_OUT]
    st.jobs_i[OUT, out] = row
    st.jobs_i[BACKFILLED, row] = backfilled
    st.counters[NUM_OUT] = out + 1
    if st.counters[LISTED] == 1:
        count_use(st, row, 1)
    forget_waiting(st, st.jobs_i[SHAPE, row])


@compiled
def hold_scored(st: State, row: Int, placement: Int, usable: IntArray) -> None:
    """Let a job hold nodes that are chosen task by task, by their points."""
    s = st.jobs_i[SHAPE, row]
    for _ in range(st.jobs_i[TASKS, row]):
        node = best_scored(st, s, placement, usable)
        left = usable[node] - 1
        if st.counters[BESIDE] > 0:
            touch_spare(st, node)
        mask, first = gpus_of_scored(st, s, node, placement)
        add_entry(st, row, node, 1, mask, first)
        refresh_node(st, node)
        usable[node] = min(left, st.slots[s, node])
        st.counters[DRAWN] += 1


@compiled
def gpus_of_scored(st: State, shape: Int, node: Int, placement: Int) -> tuple[Int, Int]:
    """Bits of the GPUs of one task, and the first slice of an instance: as the placement chooses, if it may have them.

    It looks at shares only: an instance, and a task whose GPU has too little memory or is reserved, go by ``gpus``.
    """
    minds = st.counters[PARTS] > 0 or st.counters[BESIDE] > 0
    also = allowed_row(st)
    if st.counters[PARTS] == 0 or kind_on(st, shape, node) < 0:
        mask = scored_gpus(st, shape, node, placement)
        if mask == 0 or not minds or has_room(st, NUM_NODE_ROWS, also, shape, node, mask):
            return mask, np.int64(-1)
        if st.shapes[SHARE, shape] == 0:
            return pick_gpus(st, NUM_NODE_ROWS, also, node, shape, 1), np.int64(-1)
    g, first = pick_shared(st, NUM_NODE_ROWS, also, node, shape, placement)
    return np.int64(1) << g, first


def hold_by_points(st: State, row: Int, placement: Int, usable: IntArray) -> None:
    """As ``hold_scored``; nothing, and nothing to compile, where the state's type says that nodes are not scored."""


# Numba compares the signatures, annotations included, of this function and of what it returns.
@overload(hold_by_points, jit_options={"_nrt": False})  # type: ignore[typeddict-unknown-key]
def _hold_by_points(st, row, placement, usable):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Chosen while the caller is compiled: by the type of ``points``, see ``layout.NO_POINTS``."""
    if st.types[st.fields.index("points")].dtype == from_dtype(NO_POINTS):
        return lambda st, row, placement, usable: None  # noqa: ARG005
    return lambda st, row, placement, usable: hold_scored(st, row, placement, usable)  # noqa: PLW0108


@compiled
def start_job(st: State, row: Int, now_s: float, strategy: Int, backfilled: Int, usable: IntArray) -> None:
    """Place a job that fits and run it; ``usable`` are the slots it may take. The caller takes it off the queue."""
    st.jobs_i[ALLOC, row] = -1
    if st.counters[SCORED] > 0:
        hold_by_points(st, row, strategy, usable)
    else:
        chosen = place(st, strategy, st.jobs_i[TASKS, row], usable)
        for i in range(chosen):
            hold(st, row, st.node_i[CHOSEN, i], st.node_i[CHOSEN_TASKS, i], strategy)
    set_running(st, row, now_s, backfilled)


@compiled
def release_job(st: State, row: Int) -> None:
    """Give back everything that a running job holds."""
    s = st.jobs_i[SHAPE, row]
    entry = st.jobs_i[ALLOC, row]
    while entry >= 0:
        node, mask, first = st.alloc[NODE, entry], st.alloc[MASK, entry], st.alloc[FIRST, entry]
        change_units(st, st.node_free, NUM_NODE_ROWS, node, s, -st.alloc[COUNT, entry], mask, first)
        if st.counters[SCORED] > 0:
            note_change(st, st.alloc[NODE, entry])
            note_kind(st, s, st.alloc[NODE, entry], -st.alloc[COUNT, entry])
        refresh_node(st, st.alloc[NODE, entry])
        following = st.alloc[NEXT, entry]
        st.alloc[NEXT, entry] = st.counters[ALLOC_FREE]
        st.counters[ALLOC_FREE] = entry
        entry = following
    st.jobs_i[ALLOC, row] = -1
    if st.counters[LISTED] == 1:
        count_use(st, row, -1)
    if st.counters[NUM_STOPPING] > 0 and st.jobs_i[STOPPING, row] == 1:
        st.jobs_i[STOPPING, row] = 0
        st.counters[NUM_STOPPING] -= 1
    running_remove(st, row)
    st.counters[RELEASED] = 1
