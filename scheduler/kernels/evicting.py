"""Which running jobs to stop so that a waiting one fits."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import allocating, compiled
from shunter.scheduler.kernels.easy import begin_spare, change_spare
from shunter.scheduler.layout import (
    ALLOC,
    FUTURE_SLOTS,
    GROUP,
    GUARANTEED,
    LIST,
    LISTED_USED,
    NEXT,
    NODE,
    NODE_CLASS,
    NUM_GROUPS,
    NUM_RUNNING,
    NUM_SHAPE_ROWS,
    OPEN,
    PICK,
    PICK_S,
    PREEMPTIBLE,
    RUN,
    SHAPE,
    SIZE,
    START_S,
    STOPPING,
    TASKS,
    USED,
    State,
)
from shunter.scheduler.types import FloatArray, Int


@allocating
def worst_first(st: State, ranks: FloatArray, head_rank: float, now_s: float, min_run_s: float) -> Int:
    """Rows of the running jobs that may be stopped, worst rank first, latest start first, into LIST; their number."""
    count = 0
    for i in range(st.counters[NUM_RUNNING]):
        row = st.jobs_i[RUN, i]
        may = st.jobs_i[PREEMPTIBLE, row] == 1 and st.jobs_i[STOPPING, row] == 0
        start_s = st.jobs_f[START_S, row]
        if may and ranks[i] > head_rank and start_s < now_s and now_s >= start_s + min_run_s:
            st.jobs_i[PICK, count] = row
            st.jobs_f[PICK_S, count] = -ranks[i]
            count += 1
    latest = np.argsort(-st.jobs_f[START_S][st.jobs_i[PICK, :count]], kind="mergesort")
    worst = np.argsort(st.jobs_f[PICK_S, :count][latest], kind="mergesort")
    rows = st.jobs_i[PICK, :count].copy()
    for i in range(count):
        st.jobs_i[LIST, i] = rows[latest[worst[i]]]
    return count


@compiled
def lies_where(st: State, row: Int, s: Int) -> bool:
    """Whether a running job holds part of a node that takes new work and that a shape may use."""
    entry = st.jobs_i[ALLOC, row]
    while entry >= 0:
        n = st.alloc[NODE, entry]
        if st.node_i[OPEN, n] == 1 and st.shapes[NUM_SHAPE_ROWS + st.node_i[NODE_CLASS, n], s] > 0:
            return True
        entry = st.alloc[NEXT, entry]
    return False


@compiled
def leaves_guarantee(st: State, row: Int, group: Int, reclaim: bool) -> bool:
    """Whether the group of a running job, if it is not ``group``, still holds its guarantee without it."""
    own = st.jobs_i[GROUP, row]
    if not reclaim or own < 0 or own == group:
        return True
    return st.groups[LISTED_USED, own] - st.jobs_i[SIZE, row] >= st.groups[GUARANTEED, own]


@compiled
def give_up(st: State, row: Int, s: Int) -> Int:
    """Count with a running job as stopped; returns how many more tasks of a shape fit then."""
    if st.jobs_i[GROUP, row] >= 0:
        st.groups[LISTED_USED, st.jobs_i[GROUP, row]] -= st.jobs_i[SIZE, row]
    return change_spare(st, row, -1, s)


@compiled
def keep(st: State, row: Int, s: Int) -> Int:
    """Count with a running job as running again; returns by how much the number of tasks that fit changes."""
    if st.jobs_i[GROUP, row] >= 0:
        st.groups[LISTED_USED, st.jobs_i[GROUP, row]] += st.jobs_i[SIZE, row]
    return change_spare(st, row, 1, s)


@compiled
def count_free(st: State, s: Int) -> Int:
    """Tasks of a shape that fit once all that are stopping have stopped; groups then hold what LISTED_USED says."""
    for group in range(st.counters[NUM_GROUPS]):
        st.groups[LISTED_USED, group] = st.groups[USED, group]
    total = begin_spare(st, s)
    for i in range(st.counters[NUM_RUNNING]):
        if st.jobs_i[STOPPING, st.jobs_i[RUN, i]] == 1:
            total += give_up(st, st.jobs_i[RUN, i], s)
    return total


@compiled
def give_up_in_order(st: State, row: Int, candidates: Int, total: Int, reclaim: bool) -> Int:
    """Give up the jobs in LIST one after the other until ``row`` fits; returns their number, 0 when it never does.

    A job that alone frees nothing for ``row`` is given up, too: the others on its GPU or node may free the rest.
    """
    s = st.jobs_i[SHAPE, row]
    chosen = 0
    for i in range(candidates):
        other = st.jobs_i[LIST, i]
        if not (lies_where(st, other, s) and leaves_guarantee(st, other, st.jobs_i[GROUP, row], reclaim)):
            continue
        total += give_up(st, other, s)
        st.jobs_i[LIST, chosen] = other
        chosen += 1
        if total >= st.jobs_i[TASKS, row]:
            return chosen
    return 0


@allocating
def give_up_by_node(st: State, row: Int, candidates: Int, total: Int, reclaim: bool) -> Int:
    """As ``give_up_in_order``, node by node: what frees nothing on its node is kept before the next node is tried.

    So a group gives what it may give where it helps: were jobs given up everywhere, each could be the last that its
    group can spare, and none of them enough.
    """
    s = st.jobs_i[SHAPE, row]
    num_nodes = st.node_free.shape[1]
    first = np.zeros(num_nodes + 1, dtype=np.int64)
    for i in range(candidates):
        entry = st.jobs_i[ALLOC, st.jobs_i[LIST, i]]
        while entry >= 0:
            first[st.alloc[NODE, entry] + 1] += 1
            entry = st.alloc[NEXT, entry]
    first = np.cumsum(first)
    on_node = np.zeros(first[num_nodes], dtype=np.int64)  # places in LIST, by node, worst first
    filled = np.zeros(num_nodes, dtype=np.int64)
    order = np.zeros(num_nodes, dtype=np.int64)  # nodes in the order of their worst job
    num_ordered = 0
    for i in range(candidates):
        entry = st.jobs_i[ALLOC, st.jobs_i[LIST, i]]
        while entry >= 0:
            n = st.alloc[NODE, entry]
            if filled[n] == 0:
                order[num_ordered] = n
                num_ordered += 1
            on_node[first[n] + filled[n]] = i
            filled[n] += 1
            entry = st.alloc[NEXT, entry]
    is_given = np.zeros(candidates, dtype=np.bool_)
    given = np.zeros(candidates, dtype=np.int64)
    for k in range(num_ordered):
        count = 0
        for j in range(first[order[k]], first[order[k] + 1]):
            other = st.jobs_i[LIST, on_node[j]]
            enough = total >= st.jobs_i[TASKS, row]
            if enough or is_given[on_node[j]] or not leaves_guarantee(st, other, st.jobs_i[GROUP, row], reclaim):
                continue
            change = give_up(st, other, s)
            total += change
            is_given[on_node[j]] = True
            given[count] = on_node[j]
            count = 0 if change > 0 else count + 1
        for j in range(count):
            keep(st, st.jobs_i[LIST, given[j]], s)
            is_given[given[j]] = False
    if total < st.jobs_i[TASKS, row]:
        return 0
    chosen = 0
    for i in range(candidates):
        if is_given[i]:
            st.jobs_i[LIST, chosen] = st.jobs_i[LIST, i]
            chosen += 1
    return chosen


@compiled
def choose_victims(
    st: State, row: Int, head_rank: float, ranks: FloatArray, now_s: float, min_run_s: float, reclaim: bool
) -> Int:
    """Running jobs to stop so that ``row`` fits, into LIST; none when nothing helps or enough are stopping already.

    Args:
        st: The state.
        row: A waiting job that does not fit.
        head_rank: Only running jobs with a larger rank may be stopped.
        ranks: (K,) ranks of the running jobs, in the order of RUN.
        now_s: Decision time.
        min_run_s: Jobs that have run for a shorter time are left alone, and those that started just now.
        reclaim: Push no other group below its guarantee.

    Returns:
        Number of jobs to stop. First the worst ranks are given up one by one until the job fits; then each that it
        turns out not to need is kept, best rank first, so that none of the rest is superfluous. When to stop all that
        may be stopped makes the job fit, it is found; where guarantees forbid to stop all of them, which ones to choose
        is a knapsack problem, and only two ways are tried: by rank, and node by node.
    """
    s = st.jobs_i[SHAPE, row]
    tasks = st.jobs_i[TASKS, row]
    total = count_free(st, s)
    if total >= tasks:
        return 0
    candidates = worst_first(st, ranks, head_rank, now_s, min_run_s)
    chosen = give_up_in_order(st, row, candidates, total, reclaim)
    if chosen == 0 and reclaim and candidates > 0:
        total = count_free(st, s)
        chosen = give_up_by_node(st, row, worst_first(st, ranks, head_rank, now_s, min_run_s), total, reclaim)
    total = 0
    for n in range(st.node_free.shape[1]):
        total += st.node_i[FUTURE_SLOTS, n]
    count = 0
    for i in range(chosen - 1, -1, -1):
        other = st.jobs_i[LIST, i]
        change = keep(st, other, s)
        if total + change >= tasks:
            total += change
            st.jobs_i[LIST, i] = -1
        else:
            give_up(st, other, s)
    for i in range(chosen):
        if st.jobs_i[LIST, i] >= 0:
            st.jobs_i[LIST, count] = st.jobs_i[LIST, i]
            count += 1
    return count
