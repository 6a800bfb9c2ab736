"""Passes that look at the queue through lists: several lanes, quotas, a power cap, gangs that wait for locality.

A lane is a queue of its own: where groups own nodes, each group's jobs wait for each other only. In a lane, jobs that
fit into their group's guarantee come first, in policy order, then those that would borrow: in policy order, too, or by
the groups' weights. Where priority classes come first, this holds inside each class.

A job over its group's limit blocks only later jobs of its group. Against the limit counts what the group holds, what
this pass starts, and what the head of the lane asks for; not what is tried in vain. Under backfilling a later job of
the group may pass it if it ends before enough will have been given back, or takes only what is left then.

The first job of a lane that does not fit, or lacks watts under the power cap, is the lane's head. Under backfilling its
reservation holds nodes and watts: later jobs of its lane end by then or take only what it leaves. The cap is common to
all lanes, so lanes are served in the order of their first jobs, and heads of lanes served before are not delayed.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import allocating, compiled, inlined
from shunter.scheduler.kernels.easy import backfill_one, reserve_head
from shunter.scheduler.kernels.placing import nearest_tier
from shunter.scheduler.kernels.starting import start_job
from shunter.scheduler.kernels.waits import forget_reasons, set_reason
from shunter.scheduler.layout import (
    ACTIVE,
    ALLOC,
    ANY_SLOTS,
    BEST_TIER,
    BOUND_S,
    BY_LANE,
    CLASS,
    CUT_SHORT,
    EASY_SJBF,
    ENTERED_S,
    EXPECTED_S,
    EXTRA,
    EXTRA_W,
    FREE_SLOTS,
    GROUP,
    GUARANTEED,
    HEAD,
    LANE,
    LANE_END,
    LANE_ORDER,
    LIMIT,
    LIST,
    LISTED_USED,
    LOCALITY_MS,
    NO_BACKFILL,
    NUM_ACTIVE,
    NUM_CLAIMS,
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
    PROMISED,
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
    WAIT_QUOTA,
    WEIGHT,
    WEIGHTED,
    State,
)
from shunter.scheduler.types import Int

# --- in which order jobs are tried -----------------------------------------------------------------------------------


@compiled
def sort_by_lane(st: State) -> Int:
    """Write the waiting jobs lane by lane into row BY_LANE; returns how many lanes have any. Cost: O(queue + lanes)."""
    for lane in range(st.counters[NUM_LANES]):
        st.groups[LANE_END, lane] = 0
        st.groups[HEAD, lane] = -1
    found = 0
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        lane = st.jobs_i[LANE, st.jobs_i[QUEUE, position]]
        if st.groups[LANE_END, lane] == 0:
            st.groups[LANE_ORDER, found] = lane
            found += 1
        st.groups[LANE_END, lane] += 1
    begin = np.int64(0)
    for lane in range(st.counters[NUM_LANES]):
        count = st.groups[LANE_END, lane]
        st.groups[LANE_END, lane] = begin
        begin += count
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        row = st.jobs_i[QUEUE, position]
        lane = st.jobs_i[LANE, row]
        st.jobs_i[BY_LANE, st.groups[LANE_END, lane]] = row
        st.groups[LANE_END, lane] += 1
    return found


@allocating
def sort_by_weight(st: State, count: Int, listed: Int) -> None:
    """Put PICK[:count] in the order in which the group that has borrowed least, over its weight, has the next turn.

    What a group has borrowed counts its jobs ahead in the list, so it never falls along the group's jobs, and one sort
    gives the order of taking turns. Jobs without a quota are one group of weight 1 without a guarantee; those of higher
    classes stand in LIST[:listed] already.
    """
    others = np.int64(0)
    for i in range(st.counters[NUM_RUNNING]):
        if st.jobs_i[GROUP, st.jobs_i[RUN, i]] < 0:
            others += st.jobs_i[SIZE, st.jobs_i[RUN, i]]
    for i in range(listed):
        if st.jobs_i[GROUP, st.jobs_i[LIST, i]] < 0:
            others += st.jobs_i[SIZE, st.jobs_i[LIST, i]]
    for i in range(count):
        row = st.jobs_i[PICK, i]
        group = st.jobs_i[GROUP, row]
        if group < 0:
            st.jobs_f[PICK_S, i] = others / 1000.0
            others += st.jobs_i[SIZE, row]
        else:
            borrowed = max(st.groups[LISTED_USED, group] - st.groups[GUARANTEED, group], 0)
            st.jobs_f[PICK_S, i] = borrowed / st.groups[WEIGHT, group]
            st.groups[LISTED_USED, group] += st.jobs_i[SIZE, row]
    order = np.argsort(st.jobs_f[PICK_S, :count], kind="mergesort")
    rows = st.jobs_i[PICK, :count].copy()
    for i in range(count):
        st.jobs_i[PICK, i] = rows[order[i]]


@compiled
def list_class(st: State, first: Int, last: Int, count: Int) -> Int:
    """Write the jobs BY_LANE[first:last], all of one class, behind LIST[:count]; returns the list's length then."""
    listed = count
    num_rest = 0
    for i in range(first, last):
        row = st.jobs_i[BY_LANE, i]
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
    if st.counters[WEIGHTED] == 1:
        sort_by_weight(st, num_rest, listed)
    for i in range(num_rest):
        st.jobs_i[LIST, count + i] = st.jobs_i[PICK, i]
    return count + num_rest


@compiled
def list_lane(st: State, first: Int, last: Int) -> Int:
    """Write the jobs BY_LANE[first:last] into row LIST, in the order in which the pass tries them."""
    if st.counters[NUM_GROUPS] == 0:
        for i in range(first, last):
            st.jobs_i[LIST, i - first] = st.jobs_i[BY_LANE, i]
        return last - first
    count: Int = np.int64(0)
    begin: Int = first
    while begin < last:
        end = begin + 1
        while end < last and st.jobs_i[CLASS, st.jobs_i[BY_LANE, end]] == st.jobs_i[CLASS, st.jobs_i[BY_LANE, begin]]:
            end += 1
        count = list_class(st, begin, end, count)
        begin = end
    return count


@allocating
def sort_candidates(st: State, first: Int, count: Int) -> None:
    """Put LIST[first:count] in the order of expected run times."""
    rows = st.jobs_i[LIST, first:count].copy()
    for i in range(len(rows)):
        st.jobs_f[PICK_S, first + i] = st.jobs_f[EXPECTED_S, rows[i]]
    order = np.argsort(st.jobs_f[PICK_S, first:count], kind="mergesort")
    for i in range(len(rows)):
        st.jobs_i[LIST, first + i] = rows[order[i]]


# --- limits of groups ------------------------------------------------------------------------------------------------


@compiled
def group_shadow(st: State, group: Int, row: Int, now_s: float) -> float:
    """When a group's own running jobs will have given back enough for one over the limit; EXTRA: what is left then."""
    room = st.groups[LIMIT, group] - st.groups[USED, group] - st.groups[PROMISED, group] - st.jobs_i[SIZE, row]
    shadow_s = np.inf
    for i in range(st.counters[NUM_RUNNING]):
        end_s = max(st.jobs_f[RUN_END_S, i], now_s)
        if end_s > shadow_s:
            break
        other = st.jobs_i[RUN, i]
        if st.jobs_i[GROUP, other] == group:
            room += st.jobs_i[SIZE, other]
            if room >= 0:
                shadow_s = end_s
    st.groups[EXTRA, group] = max(room, 0)
    return shadow_s


@compiled
def within_limit(st: State, row: Int, now_s: float, mode: Int) -> bool:
    """Whether its group's limit lets a job start now; it may not delay the group's first job that is over the limit."""
    group = st.jobs_i[GROUP, row]
    if group < 0:
        return True
    size = st.jobs_i[SIZE, row]
    if st.groups[USED, group] + st.groups[PROMISED, group] + size > st.groups[LIMIT, group]:
        if st.groups[OVER, group] < 2:
            st.groups[OVER, group] = 2
            st.profile_s[group] = group_shadow(st, group, row, now_s)
    elif st.groups[OVER, group] < 2 or (
        mode != NO_BACKFILL
        and (now_s + st.jobs_f[BOUND_S, row] <= st.profile_s[group] or size <= st.groups[EXTRA, group])
    ):
        return True
    set_reason(st, row, WAIT_QUOTA)
    return False


# --- the power cap ---------------------------------------------------------------------------------------------------


@compiled
def within_power(st: State, row: Int, now_s: float) -> bool:
    """Whether the power cap lets a job start now; it may not delay the heads for which watts are set aside."""
    cap = st.counters[POWER_CAP_W]
    if cap < 0:
        return True
    power_w = st.jobs_i[POWER_W, row]
    if st.counters[POWER_USED_W] + power_w > cap:
        set_reason(st, row, WAIT_QUOTA)
        return False
    end_s = now_s + st.jobs_f[BOUND_S, row]
    for claim in range(st.counters[NUM_CLAIMS]):
        if end_s > st.profile_s[st.groups.shape[1] + claim] and power_w > st.groups[EXTRA_W, claim]:
            return False
    return True


@compiled
def reserve(st: State, head: Int, now_s: float, strategy: Int) -> float:
    """Shadow time of a lane's head, as ``reserve_head``, with a claim to its watts where there is a cap."""
    for a in range(st.counters[NUM_ACTIVE]):
        st.shapes[SPARE_BOUND, st.shapes[ACTIVE, a]] = ANY_SLOTS
    cap = st.counters[POWER_CAP_W]
    if cap < 0:
        return reserve_head(st, head, now_s, strategy, now_s)
    room_w = cap - st.counters[POWER_USED_W] - st.jobs_i[POWER_W, head]
    least_s = now_s
    for i in range(st.counters[NUM_RUNNING]):
        if room_w >= 0:
            break
        room_w += st.jobs_i[POWER_W, st.jobs_i[RUN, i]]
        least_s = max(st.jobs_f[RUN_END_S, i], now_s)
    shadow_s = reserve_head(st, head, now_s, strategy, least_s)
    room_w = cap - st.counters[POWER_USED_W] - st.jobs_i[POWER_W, head]
    for i in range(st.counters[NUM_RUNNING]):
        if max(st.jobs_f[RUN_END_S, i], now_s) <= shadow_s:
            room_w += st.jobs_i[POWER_W, st.jobs_i[RUN, i]]
    claim = st.counters[NUM_CLAIMS]
    st.profile_s[st.groups.shape[1] + claim] = shadow_s
    st.groups[EXTRA_W, claim] = room_w
    st.counters[NUM_CLAIMS] = claim + 1
    return shadow_s


@compiled
def count_start(st: State, row: Int, now_s: float) -> None:
    """Take what a job just started holds beyond the time of those that wait from what they leave."""
    end_s = now_s + st.jobs_f[BOUND_S, row]
    group = st.jobs_i[GROUP, row]
    if group >= 0 and st.groups[OVER, group] == 2 and end_s > st.profile_s[group]:
        st.groups[EXTRA, group] -= st.jobs_i[SIZE, row]
    for claim in range(st.counters[NUM_CLAIMS]):
        if end_s > st.profile_s[st.groups.shape[1] + claim]:
            st.groups[EXTRA_W, claim] -= st.jobs_i[POWER_W, row]


# --- the passes ------------------------------------------------------------------------------------------------------


@compiled
def patience(st: State, row: Int, now_s: float) -> float:
    """Until when a job that fits waits to be placed nearer together; −inf: it does not."""
    until_s = st.jobs_f[ENTERED_S, row] + st.counters[LOCALITY_MS] / 1000.0
    if now_s < until_s:
        tier = nearest_tier(st, st.jobs_i[TASKS, row], st.slots[st.jobs_i[SHAPE, row]])
        if tier > st.jobs_i[BEST_TIER, row]:
            set_reason(st, row, WAIT_GANG)
            return until_s
    return -np.inf


@compiled
def pass_lane(st: State, lane: Int, first: Int, last: Int, now_s: float, mode: Int, strategy: Int, depth: Int) -> float:
    """The pass of the jobs BY_LANE[first:last]: heads first, then under EASY what does not delay the first that waits.

    Returns when a job that waits for locality gives up waiting; inf when there is none.
    """
    count = list_lane(st, first, last)
    next_s = np.inf
    i = 0
    overtakes = 0
    while i < count:
        row = st.jobs_i[LIST, i]
        if within_limit(st, row, now_s, mode):
            fits = st.jobs_i[TASKS, row] <= st.shapes[FREE_SLOTS, st.jobs_i[SHAPE, row]]
            if not (fits and within_power(st, row, now_s)):
                break
            until_s = patience(st, row, now_s)
            if until_s > -np.inf:
                next_s = min(next_s, until_s)
                overtakes = 1
            else:
                start_job(st, row, now_s, strategy, overtakes, st.slots[st.jobs_i[SHAPE, row]])
                count_start(st, row, now_s)
        i += 1
    if i >= count:
        return next_s
    head = st.jobs_i[LIST, i]
    st.groups[HEAD, lane] = head
    if st.jobs_i[GROUP, head] >= 0:
        st.groups[PROMISED, st.jobs_i[GROUP, head]] = st.jobs_i[SIZE, head]
    shadow_s = np.nan
    if st.counters[POWER_CAP_W] >= 0 and st.counters[NUM_LANES] > 1:  # lanes served later have to know
        shadow_s = reserve(st, head, now_s, strategy)
    if mode == NO_BACKFILL or i + 1 >= count:
        return next_s
    if depth > 0 and count - i - 1 > depth:
        count = i + 1 + depth
        st.counters[CUT_SHORT] += 1
    if mode == EASY_SJBF:
        for k in range(i + 1, count):  # the first job over a limit is the first in policy order
            within_limit(st, st.jobs_i[LIST, k], now_s, mode)
        sort_candidates(st, i + 1, count)
    for k in range(i + 1, count):
        row = st.jobs_i[LIST, k]
        if not within_limit(st, row, now_s, mode):
            continue
        if st.jobs_i[TASKS, row] > st.shapes[FREE_SLOTS, st.jobs_i[SHAPE, row]]:
            continue
        until_s = patience(st, row, now_s)
        if until_s > -np.inf:
            next_s = min(next_s, until_s)
            continue
        if np.isnan(shadow_s):
            shadow_s = reserve(st, head, now_s, strategy)
        if within_power(st, row, now_s) and backfill_one(st, row, now_s, shadow_s, mode, strategy):
            count_start(st, row, now_s)
    return next_s


@inlined
def pass_lanes(st: State, now_s: float, mode: Int, strategy: Int, depth: Int) -> float:
    """The pass of every lane. Returns when the next one is due by itself; inf when it is not."""
    forget_reasons(st)
    for group in range(st.counters[NUM_GROUPS]):
        st.groups[LISTED_USED, group] = st.groups[USED, group]
        st.groups[OVER, group] = 0
        st.groups[PROMISED, group] = 0
    st.counters[NUM_CLAIMS] = 0
    next_s = np.inf
    found = sort_by_lane(st)
    by_first_job = st.counters[POWER_CAP_W] >= 0
    for k in range(found if by_first_job else st.counters[NUM_LANES]):
        lane = st.groups[LANE_ORDER, k] if by_first_job else k
        first = st.groups[LANE_END, lane - 1] if lane > 0 else np.int64(0)
        last = st.groups[LANE_END, lane]
        if first < last:
            next_s = min(next_s, pass_lane(st, lane, first, last, now_s, mode, strategy, depth))
    if st.counters[NUM_OUT] > 0:
        kept = st.counters[QUEUE_LO]
        for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
            row = st.jobs_i[QUEUE, position]
            if st.jobs_i[ALLOC, row] < 0:
                st.jobs_i[QUEUE, kept] = row
                kept += 1
        st.counters[QUEUE_HI] = kept
    return next_s
