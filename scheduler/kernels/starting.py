"""Starting a job on the nodes chosen for it, and giving back what it holds."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.lists import running_insert, running_remove
from shunter.scheduler.kernels.placing import place
from shunter.scheduler.kernels.slots import change_node, forget_waiting
from shunter.scheduler.layout import (
    ALLOC,
    ALLOC_FREE,
    BACKFILLED,
    CHOSEN,
    CHOSEN_TASKS,
    COUNT,
    EXPECTED_S,
    NEXT,
    NODE,
    NUM_OUT,
    OUT,
    RELEASED,
    SHAPE,
    START_S,
    TASKS,
    State,
)
from shunter.scheduler.types import Int, IntArray


@compiled
def start_job(st: State, row: Int, now_s: float, strategy: Int, backfilled: Int, usable: IntArray) -> None:
    """Place a job that fits and run it; ``usable`` are the slots it may take. The caller takes it off the queue."""
    s = st.jobs_i[SHAPE, row]
    chosen = place(st, strategy, st.jobs_i[TASKS, row], usable)
    first = np.int64(-1)
    for i in range(chosen):
        entry = st.counters[ALLOC_FREE]
        st.counters[ALLOC_FREE] = st.alloc[NEXT, entry]
        st.alloc[NODE, entry] = st.node_i[CHOSEN, i]
        st.alloc[COUNT, entry] = st.node_i[CHOSEN_TASKS, i]
        st.alloc[NEXT, entry] = first
        first = entry
        change_node(st, st.node_i[CHOSEN, i], s, st.node_i[CHOSEN_TASKS, i])
    st.jobs_i[ALLOC, row] = first
    st.jobs_f[START_S, row] = now_s
    running_insert(st, row, now_s + st.jobs_f[EXPECTED_S, row])
    out = st.counters[NUM_OUT]
    st.jobs_i[OUT, out] = row
    st.jobs_i[BACKFILLED, row] = backfilled
    st.counters[NUM_OUT] = out + 1
    forget_waiting(st, s)


@compiled
def release_job(st: State, row: Int) -> None:
    """Give back everything that a running job holds."""
    s = st.jobs_i[SHAPE, row]
    entry = st.jobs_i[ALLOC, row]
    while entry >= 0:
        change_node(st, st.alloc[NODE, entry], s, -st.alloc[COUNT, entry])
        following = st.alloc[NEXT, entry]
        st.alloc[NEXT, entry] = st.counters[ALLOC_FREE]
        st.counters[ALLOC_FREE] = entry
        entry = following
    st.jobs_i[ALLOC, row] = -1
    running_remove(st, row)
    st.counters[RELEASED] = 1
