"""Passes that look at the queue through lists: several lanes, quotas, a power cap, gangs that wait for locality.

A lane is a queue of its own: where groups own nodes, each group's jobs wait for each other only. In a lane, jobs that
fit into their group's guarantee come first, in policy order, then those that would borrow. A job over its group's
limit, or over the power cap, blocks only later jobs of its group.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import allocating, compiled
from shunter.scheduler.kernels.easy import backfill_one, reserve_head
from shunter.scheduler.kernels.placing import nearest_tier
from shunter.scheduler.kernels.starting import start_job
from shunter.scheduler.layout import (
    ACTIVE,
    ALLOC,
    ANY_SLOTS,
    BEST_TIER,
    BOUND_S,
    CUT_SHORT,
    EASY_SJBF,
    ENTERED_S,
    EXPECTED_S,
    EXTRA,
    FREE_SLOTS,
    GROUP,
    GUARANTEED,
    HEAD,
    LANE,
    LIMIT,
    LIST,
    LISTED_USED,
    LOCALITY_MS,
    NO_BACKFILL,
    NUM_ACTIVE,
    NUM_GROUPS,
    NUM_LANES,
    NUM_OUT,
    NUM_RUNNING,
    OVER,
    PICK,
    PICK_S,
    POWER_CAP_W,
    POWER_USED_W,
    POWER_W,
    QUEUE,
    QUEUE_HI,
    QUEUE_LO,
    RUN,
    RUN_END_S,
    SHAPE,
    SIZE,
    SPARE_BOUND,
    TASKS,
    USED,
    WAIT_GANG,
    WAIT_QUEUE,
    WAIT_QUOTA,
    WHY,
    State,
)
from shunter.scheduler.types import Int


@compiled
def group_shadow(st: State, group: Int, row: Int, now_s: float) -> float:
    """When a group's own running jobs will have given back enough for one over the limit; EXTRA: what is left then."""
    room = st.groups[LIMIT, group] - st.groups[USED, group]
    for i in range(st.counters[NUM_RUNNING]):
        other = st.jobs_i[RUN, i]
        if st.jobs_i[GROUP, other] != group:
            continue
        room += st.jobs_i[SIZE, other]
        if room >= st.jobs_i[SIZE, row]:
            st.groups[EXTRA, group] = room - st.jobs_i[SIZE, row]
            return max(st.jobs_f[RUN_END_S, i], now_s)
    st.groups[EXTRA, group] = 0
    return np.inf


@compiled
def within_limit(st: State, row: Int, now_s: float, mode: Int) -> bool:
    """Whether a job may be listed beside what its group holds and has listed; a later one must not delay the first."""
    group = st.jobs_i[GROUP, row]
    size = st.jobs_i[SIZE, row]
    if st.groups[LISTED_USED, group] + size > st.groups[LIMIT, group]:
        if st.groups[OVER, group] < 2:
            st.groups[OVER, group] = 2
            st.profile_s[group] = group_shadow(st, group, row, now_s)
        return False
    if st.groups[OVER, group] < 2:
        return True
    if mode == NO_BACKFILL:
        return False
    if now_s + st.jobs_f[BOUND_S, row] <= st.profile_s[group]:
        return True
    if size <= st.groups[EXTRA, group]:
        st.groups[EXTRA, group] -= size
        return True
    return False


@compiled
def list_lane(st: State, lane: Int, now_s: float, mode: Int) -> Int:
    """Write the lane's jobs that may start into row LIST, in the order in which the pass tries them."""
    count = 0
    if st.counters[NUM_GROUPS] == 0:
        for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
            row = st.jobs_i[QUEUE, position]
            if st.jobs_i[LANE, row] == lane:
                st.jobs_i[LIST, count] = row
                count += 1
        return count
    for group in range(st.counters[NUM_GROUPS]):
        st.groups[LISTED_USED, group] = st.groups[USED, group]
        st.groups[OVER, group] = 0
    num_rest = 0
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        row = st.jobs_i[QUEUE, position]
        if st.jobs_i[LANE, row] != lane:
            continue
        group = st.jobs_i[GROUP, row]
        mine = group >= 0 and st.groups[OVER, group] == 0
        if mine and st.groups[LISTED_USED, group] + st.jobs_i[SIZE, row] <= st.groups[GUARANTEED, group]:
            st.groups[LISTED_USED, group] += st.jobs_i[SIZE, row]
            st.jobs_i[LIST, count] = row
            count += 1
            continue
        if group >= 0:
            st.groups[OVER, group] = 1
        st.jobs_i[PICK, num_rest] = row
        num_rest += 1
    for i in range(num_rest):
        row = st.jobs_i[PICK, i]
        group = st.jobs_i[GROUP, row]
        if group >= 0:
            if not within_limit(st, row, now_s, mode):
                st.jobs_i[WHY, row] = WAIT_QUOTA
                continue
            st.groups[LISTED_USED, group] += st.jobs_i[SIZE, row]
        st.jobs_i[LIST, count] = row
        count += 1
    return count


@compiled
def held_back(st: State, row: Int, now_s: float) -> float:
    """Until when a job that fits is held back: inf by a quota or the power cap, else for locality; −inf: it is not."""
    group = st.jobs_i[GROUP, row]
    cap = st.counters[POWER_CAP_W]
    over_power = cap >= 0 and st.counters[POWER_USED_W] + st.jobs_i[POWER_W, row] > cap
    if over_power or (group >= 0 and st.groups[USED, group] + st.jobs_i[SIZE, row] > st.groups[LIMIT, group]):
        st.jobs_i[WHY, row] = WAIT_QUOTA
        return np.inf
    until_s = st.jobs_f[ENTERED_S, row] + st.counters[LOCALITY_MS] / 1000.0
    if now_s < until_s:
        s = st.jobs_i[SHAPE, row]
        if st.jobs_i[TASKS, row] <= st.shapes[FREE_SLOTS, s]:
            tier = nearest_tier(st, st.jobs_i[TASKS, row], st.slots[s])
            if tier > st.jobs_i[BEST_TIER, row]:
                st.jobs_i[WHY, row] = WAIT_GANG
                return until_s
    return -np.inf


@allocating
def sort_candidates(st: State, first: Int, count: Int) -> None:
    """Put LIST[first:count] in the order of expected run times."""
    rows = st.jobs_i[LIST, first:count].copy()
    for i in range(len(rows)):
        st.jobs_f[PICK_S, first + i] = st.jobs_f[EXPECTED_S, rows[i]]
    order = np.argsort(st.jobs_f[PICK_S, first:count], kind="mergesort")
    for i in range(len(rows)):
        st.jobs_i[LIST, first + i] = rows[order[i]]


@compiled
def pass_lane(st: State, lane: Int, now_s: float, mode: Int, strategy: Int, depth: Int) -> float:
    """The pass of one lane: heads first, then under EASY what does not delay the first that does not fit.

    Returns when a job that waits for locality gives up waiting; inf when there is none.
    """
    count = list_lane(st, lane, now_s, mode)
    next_s = np.inf
    st.groups[HEAD, lane] = -1
    i = 0
    overtakes = 0
    while i < count:
        row = st.jobs_i[LIST, i]
        until_s = held_back(st, row, now_s)
        if until_s > -np.inf:
            next_s = min(next_s, until_s)
            overtakes = 1
        elif st.jobs_i[TASKS, row] > st.shapes[FREE_SLOTS, st.jobs_i[SHAPE, row]]:
            break
        else:
            start_job(st, row, now_s, strategy, overtakes, st.slots[st.jobs_i[SHAPE, row]])
        i += 1
    if i >= count:
        return next_s
    head = st.jobs_i[LIST, i]
    st.groups[HEAD, lane] = head
    if mode == NO_BACKFILL or i + 1 >= count:
        return next_s
    if depth > 0 and count - i - 1 > depth:
        count = i + 1 + depth
        st.counters[CUT_SHORT] += 1
    if mode == EASY_SJBF:
        sort_candidates(st, i + 1, count)
    shadow_s = np.nan
    for k in range(i + 1, count):
        row = st.jobs_i[LIST, k]
        if st.jobs_i[TASKS, row] > st.shapes[FREE_SLOTS, st.jobs_i[SHAPE, row]]:
            continue
        until_s = held_back(st, row, now_s)
        if until_s > -np.inf:
            next_s = min(next_s, until_s)
            continue
        if np.isnan(shadow_s):
            shadow_s = reserve_head(st, head, now_s, strategy)
            for a in range(st.counters[NUM_ACTIVE]):
                st.shapes[SPARE_BOUND, st.shapes[ACTIVE, a]] = ANY_SLOTS
        backfill_one(st, row, now_s, shadow_s, mode, strategy)
    return next_s


@compiled
def pass_lanes(st: State, now_s: float, mode: Int, strategy: Int, depth: Int) -> float:
    """The pass of every lane. Returns when the next one is due by itself; inf when it is not."""
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        st.jobs_i[WHY, st.jobs_i[QUEUE, position]] = WAIT_QUEUE
    next_s = np.inf
    for lane in range(st.counters[NUM_LANES]):
        next_s = min(next_s, pass_lane(st, lane, now_s, mode, strategy, depth))
    if st.counters[NUM_OUT] > 0:
        kept = st.counters[QUEUE_LO]
        for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
            row = st.jobs_i[QUEUE, position]
            if st.jobs_i[ALLOC, row] < 0:
                st.jobs_i[QUEUE, kept] = row
                kept += 1
        st.counters[QUEUE_HI] = kept
    return next_s
