"""Which running jobs to stop so that a waiting one fits."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import allocating, compiled
from shunter.scheduler.kernels.easy import copy_free, give_spare, recount, take_spare
from shunter.scheduler.layout import (
    GROUP,
    GUARANTEED,
    LIST,
    LISTED_USED,
    NUM_GROUPS,
    NUM_RUNNING,
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
        turns out not to need is kept, best rank first.
    """
    s = st.jobs_i[SHAPE, row]
    tasks = st.jobs_i[TASKS, row]
    total = copy_free(st, s)
    for i in range(st.counters[NUM_RUNNING]):
        if st.jobs_i[STOPPING, st.jobs_i[RUN, i]] == 1:
            give_spare(st, st.jobs_i[RUN, i])
            total += recount(st, st.jobs_i[RUN, i], s)
    if total >= tasks:
        return 0
    for group in range(st.counters[NUM_GROUPS]):
        st.groups[LISTED_USED, group] = st.groups[USED, group]
    candidates = worst_first(st, ranks, head_rank, now_s, min_run_s)
    chosen = 0
    for i in range(candidates):
        other = st.jobs_i[LIST, i]
        group = st.jobs_i[GROUP, other]
        is_kept = reclaim and group >= 0 and group != st.jobs_i[GROUP, row]
        if is_kept:
            if st.groups[LISTED_USED, group] - st.jobs_i[SIZE, other] < st.groups[GUARANTEED, group]:
                continue
            st.groups[LISTED_USED, group] -= st.jobs_i[SIZE, other]
        give_spare(st, other)
        change = recount(st, other, s)
        if change == 0:  # its nodes are of no use to this job
            take_spare(st, other)
            if is_kept:
                st.groups[LISTED_USED, group] += st.jobs_i[SIZE, other]
            continue
        total += change
        st.jobs_i[LIST, chosen] = other
        chosen += 1
        if total >= tasks:
            break
    if total < tasks:
        return 0
    for i in range(chosen - 1, -1, -1):
        other = st.jobs_i[LIST, i]
        take_spare(st, other)
        change = recount(st, other, s)
        if total + change >= tasks:
            total += change
            st.jobs_i[LIST, i] = -1
        else:
            give_spare(st, other)
            recount(st, other, s)
    count = 0
    for i in range(chosen):
        if st.jobs_i[LIST, i] >= 0:
            st.jobs_i[LIST, count] = st.jobs_i[LIST, i]
            count += 1
    return count
