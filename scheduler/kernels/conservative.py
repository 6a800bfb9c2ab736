"""The pass of conservative backfilling.

The profile is a step function of free capacity: column k of ``profile_free`` (R, P) holds from profile_s[k] on, the
last one for ever. It counts running jobs until their expected ends and every waiting job at its reservation. On a
cluster of several nodes it counts totals over the nodes.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled, inlined, move_block
from shunter.scheduler.kernels.easy import remove_started
from shunter.scheduler.kernels.lists import running_insert, running_remove, shift_left, shift_right
from shunter.scheduler.kernels.starting import start_job
from shunter.scheduler.layout import (
    BOUND_S,
    CUT_SHORT,
    END_S,
    EXTENDED,
    FREE_SLOTS,
    GPUS,
    KIND,
    KIND_HELD_S,
    KIND_LB_S,
    KIND_PASS,
    KIND_SEEN,
    NUM_FREED,
    NUM_RUNNING,
    OPEN,
    OVERRUN_GRACE_S,
    PASS_NUMBER,
    PICK,
    PICK_S,
    PROFILE_LEN,
    QUEUE,
    QUEUE_HI,
    QUEUE_LO,
    RELEASED,
    RESERVED_S,
    RUN,
    RUN_END_S,
    SHAPE,
    START_S,
    TASKS,
    WHOLE_ROW,
    State,
)
from shunter.scheduler.types import Int


@compiled
def profile_split(st: State, time_s: float) -> Int:
    """Index of the step that begins at ``time_s``, which is made if need be; ``time_s`` is not before the first."""
    count = st.counters[PROFILE_LEN]
    k = np.searchsorted(st.profile_s[:count], time_s, side="left")
    if k < count and st.profile_s[k] == time_s:
        return k
    shift_right(st.profile_s, k, count)
    for r in range(st.profile_free.shape[0]):
        shift_right(st.profile_free[r], k, count)
    st.profile_s[k] = time_s
    for r in range(st.profile_free.shape[0]):
        st.profile_free[r, k] = st.profile_free[r, k - 1]
    st.counters[PROFILE_LEN] = count + 1
    return k


@compiled
def profile_merge(st: State, k: Int) -> None:
    """Drop step ``k`` when it equals the one before it."""
    count = st.counters[PROFILE_LEN]
    if k <= 0 or k >= count:
        return
    for r in range(st.profile_free.shape[0]):
        if st.profile_free[r, k] != st.profile_free[r, k - 1]:
            return
    shift_left(st.profile_s, k, count)
    for r in range(st.profile_free.shape[0]):
        shift_left(st.profile_free[r], k, count)
    st.counters[PROFILE_LEN] = count - 1


@compiled
def profile_change(st: State, row: Int, sign: Int, from_s: float, until_s: float) -> None:
    """Add ``sign`` times the job's total demand to the free capacity of [from_s, until_s)."""
    if until_s <= from_s:
        return
    first = profile_split(st, from_s)
    last = profile_split(st, until_s)
    s = st.jobs_i[SHAPE, row]
    for r in range(st.need.shape[0]):
        amount = sign * st.jobs_i[TASKS, row] * st.need[r, s]
        for k in range(first, last):
            st.profile_free[r, k] += amount
    profile_merge(st, last)
    profile_merge(st, first)


@compiled
def profile_trim(st: State, now_s: float) -> None:
    """Let the profile begin at ``now_s``."""
    count = st.counters[PROFILE_LEN]
    k = np.searchsorted(st.profile_s[:count], now_s, side="right") - 1
    if k > 0:
        move_block(st.profile_s, 0, k, count - k)
        for r in range(st.profile_free.shape[0]):
            move_block(st.profile_free[r], 0, k, count - k)
        st.counters[PROFILE_LEN] = count - k
    st.profile_s[0] = now_s


@compiled
def profile_fits(st: State, row: Int, k: Int) -> bool:
    """Whether the job's total demand is free in step ``k``."""
    s = st.jobs_i[SHAPE, row]
    for r in range(st.need.shape[0]):  # noqa: SIM110 - Numba compiles no generator expressions
        if st.jobs_i[TASKS, row] * st.need[r, s] > st.profile_free[r, k]:
            return False
    return True


@compiled
def earliest_start(st: State, row: Int, from_k: Int) -> float:
    """Earliest begin of a step from ``from_k`` on with room for the job's expected run time.

    There always is one: the last step is the empty cluster.
    """
    count = st.counters[PROFILE_LEN]
    length_s = st.jobs_f[BOUND_S, row]
    k = from_k
    while k < count:
        if not profile_fits(st, row, k):
            k += 1
            continue
        start_s = st.profile_s[k]
        j = k + 1
        while j < count and st.profile_s[j] < start_s + length_s and profile_fits(st, row, j):
            j += 1
        if j == count or st.profile_s[j] >= start_s + length_s:
            return start_s
        k = j + 1
    return np.inf


@compiled
def kind_bound(st: State, row: Int) -> float:
    """A time before which this job cannot start, from what was found for another job of its kind.

    If job A could not be moved to before t, then neither can job B of the same kind whose reservation is later, or
    that has none yet: room for B there would have been room for A. Room that opened since, from time f on, helps only
    starts after f less the job's length.
    """
    kind = st.jobs_i[KIND, row]
    if (
        kind < 0
        or st.jobs_i[KIND_PASS, kind] != st.counters[PASS_NUMBER]
        or st.jobs_f[RESERVED_S, row] < st.jobs_f[KIND_HELD_S, kind]
    ):
        return -np.inf
    bound_s = st.jobs_f[KIND_LB_S, kind]
    for i in range(st.jobs_i[KIND_SEEN, kind], st.counters[NUM_FREED]):
        bound_s = min(bound_s, st.jobs_f[PICK_S, i] - st.jobs_f[BOUND_S, row])
    return bound_s


@compiled
def note_bound(st: State, row: Int, held_s: float) -> None:
    """Remember for the job's kind that nothing before its present reservation was to be had."""
    kind = st.jobs_i[KIND, row]
    if kind < 0:
        return
    st.jobs_i[KIND_PASS, kind] = st.counters[PASS_NUMBER]
    st.jobs_i[KIND_SEEN, kind] = st.counters[NUM_FREED]
    st.jobs_f[KIND_LB_S, kind] = st.jobs_f[RESERVED_S, row]
    st.jobs_f[KIND_HELD_S, kind] = held_s


@compiled
def note_freed(st: State, from_s: float) -> None:
    """Remember that capacity was freed from a time on, so that bounds found before no longer hold behind it.

    When the list of such times is full, the bounds are forgotten instead.
    """
    if st.counters[NUM_FREED] == st.jobs_f.shape[1]:
        st.counters[PASS_NUMBER] += 1
        st.counters[NUM_FREED] = 0
        return
    st.jobs_f[PICK_S, st.counters[NUM_FREED]] = from_s
    st.counters[NUM_FREED] += 1


@compiled
def reserve(st: State, row: Int, from_s: float) -> None:
    """Give a waiting job the earliest reservation from ``from_s`` on that delays nobody's."""
    st.jobs_f[RESERVED_S, row] = np.nan
    from_k: Int = 0
    bound_s = max(from_s, kind_bound(st, row))
    if bound_s > st.profile_s[0]:
        from_k = np.searchsorted(st.profile_s[: st.counters[PROFILE_LEN]], bound_s, side="left")
    start_s = earliest_start(st, row, from_k)
    st.jobs_f[RESERVED_S, row] = start_s
    profile_change(st, row, -1, start_s, start_s + st.jobs_f[BOUND_S, row])


@compiled
def earlier_start(st: State, row: Int, lower_s: float, place_s: float) -> float:
    """Earliest start from ``lower_s`` on, and before ``place_s``, that delays nobody; inf without one.

    ``place_s`` begins a place that the job can have but that the profile shows as taken: its own reservation, or one
    that a job of the same kind has just left. The steps that it covers are not looked at.
    """
    count = st.counters[PROFILE_LEN]
    length_s = st.jobs_f[BOUND_S, row]
    k = np.searchsorted(st.profile_s[:count], lower_s, side="left")
    while k < count and st.profile_s[k] < place_s:
        if not profile_fits(st, row, k):
            k += 1
            continue
        start_s = st.profile_s[k]
        until_s = min(start_s + length_s, place_s)
        j = k + 1
        while j < count and st.profile_s[j] < until_s and profile_fits(st, row, j):
            j += 1
        if j == count or st.profile_s[j] >= until_s:
            return start_s
        k = j + 1
    return np.inf


@compiled
def vacate(st: State, row: Int, from_s: float) -> None:
    """Free the place of this job's kind that begins at ``from_s``."""
    until_s = from_s + st.jobs_f[BOUND_S, row]
    profile_change(st, row, 1, from_s, until_s)
    note_freed(st, from_s)


@compiled
def compress(st: State, now_s: float) -> None:
    """Move every reservation, in queue order, to the earliest time that delays nobody (never later than it was).

    When a job moves, jobs of the same kind behind it often move up one place each. So the place that a job leaves is
    first kept open (``left_s``, of the kind of job ``left``) without touching the profile: a job of that kind takes it
    as it is, and only before another kind is looked at is it given back to the profile.
    """
    st.counters[PASS_NUMBER] += 1
    st.counters[NUM_FREED] = 0
    left = np.int64(-1)
    left_s = np.inf
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        row = st.jobs_i[QUEUE, position]
        held_s = st.jobs_f[RESERVED_S, row]
        if not held_s > now_s:  # due, or new and without a reservation (NaN)
            continue
        length_s = st.jobs_f[BOUND_S, row]
        same_kind = left >= 0 and st.jobs_i[KIND, left] == st.jobs_i[KIND, row] >= 0
        bound_s = kind_bound(st, row)
        if left >= 0 and not same_kind:
            bound_s = min(bound_s, left_s - length_s)
        if bound_s >= held_s:
            continue
        if left >= 0 and not same_kind:
            vacate(st, left, left_s)
            left = np.int64(-1)
        place_s = min(held_s, left_s) if left >= 0 else held_s
        start_s = earlier_start(st, row, bound_s, place_s)
        if start_s < place_s:
            if left >= 0:
                vacate(st, left, left_s)
                left = np.int64(-1)
            until_s = start_s + length_s
            profile_change(st, row, -1, start_s, until_s)
        else:
            start_s = place_s  # the open place, or none better than its own
        if start_s < held_s:
            st.jobs_f[RESERVED_S, row] = start_s
            if start_s + length_s <= held_s:
                left = row
                left_s = held_s
            else:  # old and new place overlap: what is left is no whole place
                vacate(st, row, held_s)
                left = np.int64(-1)
        note_bound(st, row, held_s)
    if left >= 0:
        vacate(st, left, left_s)


@compiled
def extend_overdue(st: State, now_s: float) -> Int:
    """Put off the expected ends of running jobs that overran: by as long as they have overrun, at least a minute.

    Returns how many there were.
    """
    count = 0
    while st.counters[NUM_RUNNING] > 0 and st.jobs_f[RUN_END_S, 0] <= now_s:
        row = st.jobs_i[RUN, 0]
        overrun_s = now_s - (st.jobs_f[START_S, row] + st.jobs_f[BOUND_S, row])
        running_remove(st, row)
        running_insert(st, row, now_s + max(OVERRUN_GRACE_S, overrun_s))
        count += 1
    st.counters[EXTENDED] += count
    return count


@compiled
def profile_from_running(st: State, now_s: float) -> None:
    """Make the profile from the running jobs alone: free capacity now, and what each of them gives back at its end."""
    st.counters[PROFILE_LEN] = 1
    st.profile_s[0] = now_s
    for r in range(st.node_free.shape[0]):
        total = np.int64(0)
        for n in range(st.node_free.shape[1]):
            if st.node_i[OPEN, n] == 1:
                total += st.node_free[r, n]
        st.profile_free[r, 0] = total
    if st.counters[GPUS] > 0:  # a GPU that is shared counts as whole: the profile does not know which ones are
        whole, every = st.counters[WHOLE_ROW], st.node_free.shape[0] - 1
        st.profile_free[whole, 0] = st.profile_free[every, 0]
        for i in range(st.counters[NUM_RUNNING]):
            row = st.jobs_i[RUN, i]
            s = st.jobs_i[SHAPE, row]
            st.profile_free[whole, 0] += st.jobs_i[TASKS, row] * (st.need[every, s] - st.need[whole, s])
    for i in range(st.counters[NUM_RUNNING]):
        row = st.jobs_i[RUN, i]
        s = st.jobs_i[SHAPE, row]
        k = profile_split(st, max(st.jobs_f[RUN_END_S, i], now_s))
        for r in range(st.need.shape[0]):  # ends never decrease, so k is the last step
            st.profile_free[r, k] += st.jobs_i[TASKS, row] * st.need[r, s]


@compiled
def rebuild_profile(st: State, now_s: float) -> None:
    """Make the profile anew and reserve again for every waiting job that had a reservation, in queue order."""
    profile_from_running(st, now_s)
    st.counters[PASS_NUMBER] += 1
    st.counters[NUM_FREED] = 0
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        row = st.jobs_i[QUEUE, position]
        if not np.isnan(st.jobs_f[RESERVED_S, row]):
            reserve(st, row, now_s)
            note_bound(st, row, -np.inf)


@compiled
def promise_missed(st: State, now_s: float) -> bool:
    """Whether a reservation lies in the past because the pass that was due then was put off by the interval."""
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        if st.jobs_f[RESERVED_S, st.jobs_i[QUEUE, position]] < now_s:
            return True
    return False


@compiled
def reserve_new(st: State, now_s: float, depth: Int) -> None:
    """Reserve for the waiting jobs that have no reservation yet, down to ``depth`` behind the head (0: all)."""
    last = st.counters[QUEUE_HI]
    if depth > 0:
        last = min(last, st.counters[QUEUE_LO] + 1 + depth)
    for position in range(st.counters[QUEUE_LO], last):
        row = st.jobs_i[QUEUE, position]
        if np.isnan(st.jobs_f[RESERVED_S, row]):
            reserve(st, row, now_s)
            note_bound(st, row, -np.inf)


@compiled
def put_off(st: State, row: Int, now_s: float) -> None:
    """Move the reservation of a due job that fragmentation blocks behind the next expected end."""
    held_s = st.jobs_f[RESERVED_S, row]
    until_s = held_s + st.jobs_f[BOUND_S, row]
    profile_change(st, row, 1, max(held_s, now_s), until_s)
    note_freed(st, max(held_s, now_s))
    if st.counters[NUM_RUNNING] == 0:  # nodes are down: there is no promise to make until one is back
        st.jobs_f[RESERVED_S, row] = np.inf
        return
    next_s = st.jobs_f[RUN_END_S, 0]
    profile_split(st, next_s)
    reserve(st, row, next_s)


@compiled
def give_back_bound(st: State, row: Int, now_s: float) -> None:
    """A job that has just started, and not on the slowest nodes, is expected to end before its reservation did."""
    end_s = st.jobs_f[END_S, row]
    bound_s = now_s + st.jobs_f[BOUND_S, row]
    if end_s < bound_s:
        profile_change(st, row, 1, end_s, bound_s)
        note_freed(st, end_s)


@inlined
def pass_conservative(st: State, now_s: float, strategy: Int, depth: Int) -> float:
    """Conservative backfilling: every waiting job holds a reservation, and nobody's is ever made later by another job.

    When capacity was freed the reservations are compressed in queue order; new jobs take the earliest gap; due jobs
    start. A due job that does not fit means that a running job overran its request (its expected end is put off and
    all reservations are made anew) or that free capacity lies on too many nodes (its own reservation is put off).
    Jobs further than ``depth`` behind the head hold no reservation yet (0: all do). Mu'alem & Feitelson, IEEE TPDS
    12(6), 2001. Returns the next reservation after ``now_s``; inf when there is none.
    """
    profile_trim(st, now_s)
    if promise_missed(st, now_s):
        rebuild_profile(st, now_s)
    elif st.counters[RELEASED] == 1:
        compress(st, now_s)
    again = True
    next_s = np.inf
    while again:
        reserve_new(st, now_s, depth)
        overran = False
        next_s = np.inf
        num_started = 0
        waits_ahead = 0
        for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
            row = st.jobs_i[QUEUE, position]
            s = st.jobs_i[SHAPE, row]
            is_due = st.jobs_f[RESERVED_S, row] <= now_s
            if is_due and st.jobs_i[TASKS, row] <= st.shapes[FREE_SLOTS, s]:
                start_job(st, row, now_s, strategy, waits_ahead, st.slots[s])
                give_back_bound(st, row, now_s)
                st.jobs_i[PICK, num_started] = position
                num_started += 1
                continue
            if is_due:
                if st.counters[NUM_RUNNING] > 0 and st.jobs_f[RUN_END_S, 0] <= now_s:
                    overran = True
                    break
                put_off(st, row, now_s)
            waits_ahead = 1
            if st.jobs_f[RESERVED_S, row] < next_s:  # noqa: PLR1730 - false for NaN, a job without a reservation
                next_s = st.jobs_f[RESERVED_S, row]
        remove_started(st, num_started)
        if overran:
            extend_overdue(st, now_s)
            rebuild_profile(st, now_s)
        again = overran
        if depth > 0 and num_started > 0:
            again = True  # the depth now reaches jobs that it did not reach before
    if depth > 0 and st.counters[QUEUE_HI] - st.counters[QUEUE_LO] - 1 > depth:
        st.counters[CUT_SHORT] += 1
    return next_s
