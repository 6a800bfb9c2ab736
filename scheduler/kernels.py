"""Compiled decision kernels over the packed state arrays of ``layout``.

Owns every hot loop: fitting, placing, starting, releasing, and the scheduling pass under each kind of backfilling.
All kernels stand in one file because Numba's disk cache follows the source file of the function it compiled, not the
files of the functions that one calls. ``reference`` holds the plain-Python twin that a property test compares with.

Invariants: ``node_free`` never negative; ``slots[s, n]`` equals ``min_r node_free[r, n] // need[r, s]`` for every
active shape; a job is in the queue or in ``RUN``, never in both; ``RUN_END_S`` never decreases along the list.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from shunter.scheduler.layout import (
    ACTIVE,
    ACTIVE_POS,
    ALLOC,
    ALLOC_FREE,
    BEST_FIT,
    BLOCKED,
    CHOSEN,
    CHOSEN_TASKS,
    CONSERVATIVE,
    COUNT,
    CUT_SHORT,
    EASY_NOEXTRA,
    EASY_SJBF,
    END_S,
    EXPECTED_S,
    EXTENDED,
    FIRST_FIT,
    FREE_SLOTS,
    FUTURE_SLOTS,
    KEEP_ACTIVE_SHAPES,
    KIND,
    KIND_HELD_S,
    KIND_LB_S,
    KIND_PASS,
    KIND_SEEN,
    NEXT,
    NO_BACKFILL,
    NODE,
    NUM_ACTIVE,
    NUM_FREED,
    NUM_OUT,
    NUM_RUNNING,
    ORDER,
    OUT,
    OUT_BACKFILLED,
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
    SCORE,
    SHAPE,
    START_S,
    TASKS,
    USABLE,
    WAITING,
    WORST_FIT,
)

ANY_SLOTS = np.int64(1) << 60  # a shape that needs nothing fits any number of times


@njit(cache=True, inline="always")
def slots_on(free, need, shape, node):
    """Tasks of ``shape`` that fit into column ``node`` of ``free`` (R, N)."""
    best = ANY_SLOTS
    for r in range(need.shape[0]):
        if need[r, shape] > 0:
            here = free[r, node] // need[r, shape]
            best = min(best, here)
    return best


# --- shapes and slots ------------------------------------------------------------------------------------------------


@njit(cache=True)
def activate_shape(s, counters, node_free, need, slots, shapes):
    """Begin to keep the free slots of shape ``s`` up to date; nothing to do when it is active."""
    if shapes[ACTIVE_POS, s] >= 0:
        return
    total = np.int64(0)
    for n in range(node_free.shape[1]):
        slots[s, n] = slots_on(node_free, need, s, n)
        total += slots[s, n]
    shapes[FREE_SLOTS, s] = total
    shapes[ACTIVE_POS, s] = counters[NUM_ACTIVE]
    shapes[ACTIVE, counters[NUM_ACTIVE]] = s
    counters[NUM_ACTIVE] += 1


@njit(cache=True)
def forget_waiting(s, counters, shapes):
    """One job of shape ``s`` left the queue; with many shapes the last one to leave deactivates the shape."""
    shapes[WAITING, s] -= 1
    if shapes[WAITING, s] == 0 and shapes.shape[1] > KEEP_ACTIVE_SHAPES:
        position = shapes[ACTIVE_POS, s]
        counters[NUM_ACTIVE] -= 1
        last = shapes[ACTIVE, counters[NUM_ACTIVE]]
        shapes[ACTIVE, position] = last
        shapes[ACTIVE_POS, last] = position
        shapes[ACTIVE_POS, s] = -1


@njit(cache=True)
def change_node(node, shape, tasks, counters, node_free, need, slots, shapes):
    """Take (``tasks`` > 0) or give back (< 0) tasks of ``shape`` on one node and refresh the slots of active shapes."""
    for r in range(need.shape[0]):
        node_free[r, node] -= tasks * need[r, shape]
    for a in range(counters[NUM_ACTIVE]):
        s = shapes[ACTIVE, a]
        now = slots_on(node_free, need, s, node)
        shapes[FREE_SLOTS, s] += now - slots[s, node]
        slots[s, node] = now


# --- placement -------------------------------------------------------------------------------------------------------


@njit(cache=True)
def place(strategy, tasks, usable, node_i):
    """Choose nodes for a gang of ``tasks`` where node n can take ``usable[n]``; their sum must reach ``tasks``.

    Returns the number of nodes chosen; nodes and tasks stand in rows CHOSEN and CHOSEN_TASKS. Ties: lowest node.
    """
    num_nodes = len(usable)
    if num_nodes == 1:
        node_i[CHOSEN, 0] = 0
        node_i[CHOSEN_TASKS, 0] = tasks
        return 1
    if strategy == FIRST_FIT:
        return fill_in_order(tasks, usable, node_i, False)
    if strategy == WORST_FIT:
        return fill_level(tasks, usable, node_i)
    tightest = tightest_node(tasks, usable)
    if tightest >= 0:
        node_i[CHOSEN, 0] = tightest
        node_i[CHOSEN_TASKS, 0] = tasks
        return 1
    if strategy == BEST_FIT:
        order_nodes(usable, node_i, False)
        return fill_in_order(tasks, usable, node_i, True)
    return fill_packed(tasks, usable, node_i)


@njit(cache=True)
def tightest_node(tasks, usable):
    """The node with the fewest usable slots that still holds all ``tasks``; −1 when none does."""
    best = -1
    best_slots = ANY_SLOTS + 1
    for n in range(len(usable)):
        if tasks <= usable[n] < best_slots:
            best = n
            best_slots = usable[n]
            if best_slots == tasks:
                break
    return best


@njit(cache=True)
def order_nodes(usable, node_i, descending):
    """Write the nodes by usable slots, ties by number, into row ORDER."""
    key = -usable if descending else usable
    order = np.argsort(key, kind="mergesort")
    for i in range(len(order)):
        node_i[ORDER, i] = order[i]


@njit(cache=True)
def fill_in_order(tasks, usable, node_i, use_order):
    """Fill nodes one after the other, by number or in row ORDER."""
    chosen = 0
    for i in range(len(usable)):
        n = node_i[ORDER, i] if use_order else i
        if usable[n] > 0:
            here = min(tasks, usable[n])
            node_i[CHOSEN, chosen] = n
            node_i[CHOSEN_TASKS, chosen] = here
            chosen += 1
            tasks -= here
            if tasks == 0:
                break
    return chosen


@njit(cache=True)
def fill_packed(tasks, usable, node_i):
    """Fewest nodes: the emptiest first, and the remainder on the tightest node that holds it."""
    order_nodes(usable, node_i, True)
    chosen = 0
    i = 0
    while tasks > usable[node_i[ORDER, i]]:
        n = node_i[ORDER, i]
        node_i[CHOSEN, chosen] = n
        node_i[CHOSEN_TASKS, chosen] = usable[n]
        tasks -= usable[n]
        chosen += 1
        i += 1
    best = node_i[ORDER, i]
    while i < len(usable) and usable[node_i[ORDER, i]] >= tasks:
        n = node_i[ORDER, i]
        if usable[n] < usable[best]:
            best = n
        i += 1
    node_i[CHOSEN, chosen] = best
    node_i[CHOSEN_TASKS, chosen] = tasks
    return chosen + 1


@njit(cache=True)
def fill_level(tasks, usable, node_i):
    """Each task to the node with the most usable slots left, ties to the lowest node.

    Equal to lowering a water level: all nodes above it give down to it, what is left goes to nodes that stand on it.
    """
    low = np.int64(0)
    high = np.int64(0)
    for n in range(len(usable)):
        high = max(high, usable[n])
    while low < high:  # the lowest level at which no more than ``tasks`` have been taken
        level = (low + high) // 2
        taken = np.int64(0)
        for n in range(len(usable)):
            if usable[n] > level:
                taken += min(usable[n] - level, tasks + 1)
            if taken > tasks:
                break
        if taken <= tasks:
            high = level
        else:
            low = level + 1
    rest = tasks
    for n in range(len(usable)):
        rest -= max(usable[n] - low, 0)
    chosen = 0
    for n in range(len(usable)):
        here = max(usable[n] - low, 0)
        if rest > 0 and usable[n] >= low and low > 0:
            here += 1
            rest -= 1
        if here > 0:
            node_i[CHOSEN, chosen] = n
            node_i[CHOSEN_TASKS, chosen] = here
            chosen += 1
    return chosen


# --- queue and running list ------------------------------------------------------------------------------------------


@njit(cache=True)
def queue_insert(row, jobs_i, jobs_f, counters):
    """Insert a job behind all waiting jobs whose (score, row) is not larger."""
    queue = jobs_i[QUEUE]
    score = jobs_f[SCORE]
    lo = counters[QUEUE_LO]
    hi = counters[QUEUE_HI]
    if hi == len(queue):  # the list reached the end of its array: move it to the front
        for i in range(lo, hi):
            queue[i - lo] = queue[i]
        hi -= lo
        lo = 0
    left = lo
    right = hi
    last = queue[hi - 1] if hi > lo else -1
    if hi == lo or score[last] < score[row] or (score[last] == score[row] and last < row):
        left = hi
    else:
        while left < right:
            middle = (left + right) // 2
            other = queue[middle]
            if score[other] < score[row] or (score[other] == score[row] and other < row):
                left = middle + 1
            else:
                right = middle
    if left - lo < hi - left and lo > 0:
        for i in range(lo, left):
            queue[i - 1] = queue[i]
        lo -= 1
        left -= 1
    else:
        for i in range(hi, left, -1):
            queue[i] = queue[i - 1]
        hi += 1
    queue[left] = row
    counters[QUEUE_LO] = lo
    counters[QUEUE_HI] = hi


@njit(cache=True)
def queue_remove(position, jobs_i, counters):
    """Remove one position of the queue by moving its shorter side. Returns True when the front part moved right."""
    queue = jobs_i[QUEUE]
    lo = counters[QUEUE_LO]
    hi = counters[QUEUE_HI]
    if position - lo <= hi - position:
        for i in range(position, lo, -1):
            queue[i] = queue[i - 1]
        counters[QUEUE_LO] = lo + 1
        return True
    for i in range(position, hi - 1):
        queue[i] = queue[i + 1]
    counters[QUEUE_HI] = hi - 1
    return False


@njit(cache=True)
def running_insert(row, end_s, jobs_i, jobs_f, counters):
    """Insert a job into the running list, behind all with the same expected end."""
    ends = jobs_f[RUN_END_S]
    rows = jobs_i[RUN]
    count = counters[NUM_RUNNING]
    left = np.searchsorted(ends[:count], end_s, side="right")
    for i in range(count, left, -1):
        ends[i] = ends[i - 1]
        rows[i] = rows[i - 1]
    ends[left] = end_s
    rows[left] = row
    jobs_f[END_S, row] = end_s
    counters[NUM_RUNNING] = count + 1


@njit(cache=True)
def running_remove(row, jobs_i, jobs_f, counters):
    """Take a job out of the running list."""
    ends = jobs_f[RUN_END_S]
    rows = jobs_i[RUN]
    count = counters[NUM_RUNNING]
    i = np.searchsorted(ends[:count], jobs_f[END_S, row], side="left")
    while rows[i] != row:
        i += 1
    for k in range(i, count - 1):
        ends[k] = ends[k + 1]
        rows[k] = rows[k + 1]
    counters[NUM_RUNNING] = count - 1


# --- starting and releasing ------------------------------------------------------------------------------------------


@njit(cache=True)
def start_job(
    row, now_s, strategy, backfilled, usable, jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i
):
    """Place a job that fits and run it; ``usable`` are the slots it may take. The caller takes it off the queue."""
    s = jobs_i[SHAPE, row]
    chosen = place(strategy, jobs_i[TASKS, row], usable, node_i)
    first = np.int64(-1)
    for i in range(chosen):
        entry = counters[ALLOC_FREE]
        counters[ALLOC_FREE] = alloc[NEXT, entry]
        alloc[NODE, entry] = node_i[CHOSEN, i]
        alloc[COUNT, entry] = node_i[CHOSEN_TASKS, i]
        alloc[NEXT, entry] = first
        first = entry
        change_node(node_i[CHOSEN, i], s, node_i[CHOSEN_TASKS, i], counters, node_free, need, slots, shapes)
    jobs_i[ALLOC, row] = first
    jobs_f[START_S, row] = now_s
    running_insert(row, now_s + jobs_f[EXPECTED_S, row], jobs_i, jobs_f, counters)
    out = counters[NUM_OUT]
    jobs_i[OUT, out] = row
    jobs_i[OUT_BACKFILLED, out] = backfilled
    counters[NUM_OUT] = out + 1
    forget_waiting(s, counters, shapes)


@njit(cache=True)
def release_job(row, jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc):
    """Give back everything that a running job holds."""
    s = jobs_i[SHAPE, row]
    entry = jobs_i[ALLOC, row]
    while entry >= 0:
        change_node(alloc[NODE, entry], s, -alloc[COUNT, entry], counters, node_free, need, slots, shapes)
        following = alloc[NEXT, entry]
        alloc[NEXT, entry] = counters[ALLOC_FREE]
        counters[ALLOC_FREE] = entry
        entry = following
    jobs_i[ALLOC, row] = -1
    running_remove(row, jobs_i, jobs_f, counters)
    counters[RELEASED] = 1


# --- passes: no backfilling and EASY ---------------------------------------------------------------------------------


@njit(cache=True)
def start_heads(now_s, strategy, jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i):
    """Start the head of the queue while it fits."""
    while counters[QUEUE_LO] < counters[QUEUE_HI]:
        row = jobs_i[QUEUE, counters[QUEUE_LO]]
        s = jobs_i[SHAPE, row]
        if jobs_i[TASKS, row] > shapes[FREE_SLOTS, s]:
            counters[BLOCKED] = 1
            return
        counters[QUEUE_LO] += 1
        start_job(
            row, now_s, strategy, 0, slots[s], jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i
        )
    counters[BLOCKED] = 0


@njit(cache=True)
def reserve_head(row, now_s, strategy, spare, jobs_i, jobs_f, counters, node_free, need, slots, alloc, node_i):
    """Shadow time of a head job that does not fit; ``spare`` (R, N) becomes what is free then without the head's nodes.

    Running jobs are released in the order of their expected ends (a past one counts as now) until the head fits;
    all jobs that end at the shadow time are released with it. Mu'alem & Feitelson, IEEE TPDS 12(6), 2001.
    """
    s = jobs_i[SHAPE, row]
    future = node_i[FUTURE_SLOTS]
    total = np.int64(0)
    for n in range(node_free.shape[1]):
        future[n] = slots[s, n]
        total += slots[s, n]
        for r in range(node_free.shape[0]):
            spare[r, n] = node_free[r, n]
    shadow_s = now_s
    for i in range(counters[NUM_RUNNING]):
        end_s = max(jobs_f[RUN_END_S, i], now_s)
        if total >= jobs_i[TASKS, row] and end_s > shadow_s:
            break
        other = jobs_i[RUN, i]
        other_shape = jobs_i[SHAPE, other]
        entry = jobs_i[ALLOC, other]
        while entry >= 0:
            n = alloc[NODE, entry]
            for r in range(need.shape[0]):
                spare[r, n] += alloc[COUNT, entry] * need[r, other_shape]
            there = slots_on(spare, need, s, n)
            total += there - future[n]
            future[n] = there
            entry = alloc[NEXT, entry]
        shadow_s = end_s
    chosen = place(strategy, jobs_i[TASKS, row], future, node_i)
    for i in range(chosen):
        for r in range(need.shape[0]):
            spare[r, node_i[CHOSEN, i]] -= node_i[CHOSEN_TASKS, i] * need[r, s]
    return shadow_s


@njit(cache=True)
def spare_slots(s, spare, need, slots, node_i):
    """Write into row USABLE how many tasks of ``s`` each node can take now without touching the head's reservation."""
    total = np.int64(0)
    for n in range(spare.shape[1]):
        here = slots[s, n]
        if here > 0:
            here = min(here, slots_on(spare, need, s, n))
        node_i[USABLE, n] = here
        total += here
    return total


@njit(cache=True)
def backfill_order(first, last, sjbf, jobs_i, jobs_f, shapes):
    """Queue positions of the candidates that fit now, in the order in which they are tried; returns their number."""
    count = 0
    for position in range(first, last):
        row = jobs_i[QUEUE, position]
        if jobs_i[TASKS, row] <= shapes[FREE_SLOTS, jobs_i[SHAPE, row]]:
            jobs_i[PICK, count] = position
            jobs_f[PICK_S, count] = jobs_f[EXPECTED_S, row]
            count += 1
    if sjbf and count > 1:
        order = np.argsort(jobs_f[PICK_S, :count], kind="mergesort")
        positions = jobs_i[PICK, :count].copy()
        for i in range(count):
            jobs_i[PICK, i] = positions[order[i]]
    return count


@njit(cache=True)
def pass_easy(
    mode, now_s, strategy, depth, spare, jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i
):
    """EASY: heads first, then later jobs that end by the shadow time or use only what the head leaves spare.

    ``EASY_NOEXTRA`` allows only jobs that end strictly before the shadow time (RLScheduler, SC'20). ``EASY_SJBF``
    tries the candidates shortest expected run time first (Tsafrir, Etsion & Feitelson, IEEE TPDS 18(6), 2007).
    """
    start_heads(now_s, strategy, jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i)
    lo = counters[QUEUE_LO]
    last = counters[QUEUE_HI]
    if last - lo < 2:
        return
    if depth > 0 and last - lo - 1 > depth:
        last = lo + 1 + depth
        counters[CUT_SHORT] += 1
    num_candidates = backfill_order(lo + 1, last, mode == EASY_SJBF, jobs_i, jobs_f, shapes)
    if num_candidates == 0:
        return
    head = jobs_i[QUEUE, lo]
    shadow_s = reserve_head(
        head, now_s, strategy, spare, jobs_i, jobs_f, counters, node_free, need, slots, alloc, node_i
    )
    num_started = 0
    for i in range(num_candidates):
        row = jobs_i[QUEUE, jobs_i[PICK, i]]
        s = jobs_i[SHAPE, row]
        tasks = jobs_i[TASKS, row]
        if tasks > shapes[FREE_SLOTS, s]:
            continue
        end_s = now_s + jobs_f[EXPECTED_S, row]
        if end_s < shadow_s or (end_s == shadow_s and mode != EASY_NOEXTRA):
            start_job(
                row, now_s, strategy, 1, slots[s],
                jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i,
            )  # fmt: skip
        elif mode != EASY_NOEXTRA and spare_slots(s, spare, need, slots, node_i) >= tasks:
            start_job(
                row, now_s, strategy, 1, node_i[USABLE],
                jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i,
            )  # fmt: skip
            entry = jobs_i[ALLOC, row]
            while entry >= 0:
                for r in range(need.shape[0]):
                    spare[r, alloc[NODE, entry]] -= alloc[COUNT, entry] * need[r, s]
                entry = alloc[NEXT, entry]
        else:
            continue
        jobs_i[PICK, num_started] = jobs_i[PICK, i]
        num_started += 1
    remove_started(num_started, jobs_i, counters)


@njit(cache=True)
def remove_started(num_started, jobs_i, counters):
    """Take the queue positions in PICK[:num_started] (any order) off the queue."""
    if num_started == 0:
        return
    positions = np.sort(jobs_i[PICK, :num_started])
    shift = 0
    for position in positions:  # a removal that moved the front part leaves later positions as they are
        if not queue_remove(position - shift, jobs_i, counters):
            shift += 1


# --- conservative backfilling ----------------------------------------------------------------------------------------
# The profile is a step function of free capacity: column k of ``profile_free`` (R, P) holds from profile_s[k] on, the
# last one for ever. It counts running jobs until their expected ends and every waiting job at its reservation. On a
# cluster of several nodes it counts totals over the nodes.


@njit(cache=True)
def profile_split(time_s, profile_s, profile_free, counters):
    """Index of the step that begins at ``time_s``, which is made if need be; ``time_s`` is not before the first."""
    count = counters[PROFILE_LEN]
    k = np.searchsorted(profile_s[:count], time_s, side="left")
    if k < count and profile_s[k] == time_s:
        return k
    for i in range(count, k, -1):
        profile_s[i] = profile_s[i - 1]
        for r in range(profile_free.shape[0]):
            profile_free[r, i] = profile_free[r, i - 1]
    profile_s[k] = time_s
    for r in range(profile_free.shape[0]):
        profile_free[r, k] = profile_free[r, k - 1]
    counters[PROFILE_LEN] = count + 1
    return k


@njit(cache=True)
def profile_merge(k, profile_s, profile_free, counters):
    """Drop step ``k`` when it equals the one before it."""
    count = counters[PROFILE_LEN]
    if k <= 0 or k >= count:
        return
    for r in range(profile_free.shape[0]):
        if profile_free[r, k] != profile_free[r, k - 1]:
            return
    for i in range(k, count - 1):
        profile_s[i] = profile_s[i + 1]
        for r in range(profile_free.shape[0]):
            profile_free[r, i] = profile_free[r, i + 1]
    counters[PROFILE_LEN] = count - 1


@njit(cache=True)
def profile_change(row, sign, from_s, until_s, jobs_i, need, profile_s, profile_free, counters):
    """Add ``sign`` times the job's total demand to the free capacity of [from_s, until_s)."""
    if until_s <= from_s:
        return
    first = profile_split(from_s, profile_s, profile_free, counters)
    last = profile_split(until_s, profile_s, profile_free, counters)
    s = jobs_i[SHAPE, row]
    for r in range(need.shape[0]):
        amount = sign * jobs_i[TASKS, row] * need[r, s]
        for k in range(first, last):
            profile_free[r, k] += amount
    profile_merge(last, profile_s, profile_free, counters)
    profile_merge(first, profile_s, profile_free, counters)


@njit(cache=True)
def profile_trim(now_s, profile_s, profile_free, counters):
    """Let the profile begin at ``now_s``."""
    count = counters[PROFILE_LEN]
    k = np.searchsorted(profile_s[:count], now_s, side="right") - 1
    if k > 0:
        for i in range(k, count):
            profile_s[i - k] = profile_s[i]
            for r in range(profile_free.shape[0]):
                profile_free[r, i - k] = profile_free[r, i]
        counters[PROFILE_LEN] = count - k
    profile_s[0] = now_s


@njit(cache=True)
def profile_fits(row, k, jobs_i, need, profile_free):
    """Whether the job's total demand is free in step ``k``."""
    s = jobs_i[SHAPE, row]
    for r in range(need.shape[0]):
        if jobs_i[TASKS, row] * need[r, s] > profile_free[r, k]:
            return False
    return True


@njit(cache=True)
def earliest_start(row, from_k, jobs_i, jobs_f, need, profile_s, profile_free, counters):
    """Earliest begin of a step from ``from_k`` on with room for the job's expected run time.

    There always is one: the last step is the empty cluster.
    """
    count = counters[PROFILE_LEN]
    length_s = jobs_f[EXPECTED_S, row]
    k = from_k
    while k < count:
        if not profile_fits(row, k, jobs_i, need, profile_free):
            k += 1
            continue
        start_s = profile_s[k]
        j = k + 1
        while j < count and profile_s[j] < start_s + length_s and profile_fits(row, j, jobs_i, need, profile_free):
            j += 1
        if j == count or profile_s[j] >= start_s + length_s:
            return start_s
        k = j + 1
    return np.inf


@njit(cache=True)
def kind_bound(row, jobs_i, jobs_f, counters):
    """A time before which this job cannot start, from what was found for another job of its kind.

    If job A could not be moved to before t, then neither can job B of the same kind whose reservation is later, or
    that has none yet: room for B there would have been room for A. Room that opened since, from time f on, helps only
    starts after f less the job's length.
    """
    kind = jobs_i[KIND, row]
    if jobs_i[KIND_PASS, kind] != counters[PASS_NUMBER] or jobs_f[RESERVED_S, row] < jobs_f[KIND_HELD_S, kind]:
        return -np.inf
    bound_s = jobs_f[KIND_LB_S, kind]
    for i in range(jobs_i[KIND_SEEN, kind], counters[NUM_FREED]):
        bound_s = min(bound_s, jobs_f[PICK_S, i] - jobs_f[EXPECTED_S, row])
    return bound_s


@njit(cache=True)
def note_bound(row, held_s, jobs_i, jobs_f, counters):
    """Remember for the job's kind that nothing before its present reservation was to be had."""
    kind = jobs_i[KIND, row]
    jobs_i[KIND_PASS, kind] = counters[PASS_NUMBER]
    jobs_i[KIND_SEEN, kind] = counters[NUM_FREED]
    jobs_f[KIND_LB_S, kind] = jobs_f[RESERVED_S, row]
    jobs_f[KIND_HELD_S, kind] = held_s


@njit(cache=True)
def note_freed(from_s, jobs_f, counters):
    """Remember that capacity was freed from a time on, so that bounds found before no longer hold behind it."""
    jobs_f[PICK_S, counters[NUM_FREED]] = from_s
    counters[NUM_FREED] += 1


@njit(cache=True)
def reserve(row, from_s, jobs_i, jobs_f, need, profile_s, profile_free, counters):
    """Give a waiting job the earliest reservation from ``from_s`` on that delays nobody's."""
    jobs_f[RESERVED_S, row] = np.nan
    from_k = 0
    bound_s = max(from_s, kind_bound(row, jobs_i, jobs_f, counters))
    if bound_s > profile_s[0]:
        from_k = np.searchsorted(profile_s[: counters[PROFILE_LEN]], bound_s, side="left")
    start_s = earliest_start(row, from_k, jobs_i, jobs_f, need, profile_s, profile_free, counters)
    jobs_f[RESERVED_S, row] = start_s
    profile_change(
        row, -1, start_s, start_s + jobs_f[EXPECTED_S, row], jobs_i, need, profile_s, profile_free, counters
    )


@njit(cache=True)
def earlier_start(row, lower_s, place_s, jobs_i, jobs_f, need, profile_s, profile_free, counters):
    """Earliest start from ``lower_s`` on, and before ``place_s``, that delays nobody; inf without one.

    ``place_s`` begins a place that the job can have but that the profile shows as taken: its own reservation, or one
    that a job of the same kind has just left. The steps that it covers are not looked at.
    """
    count = counters[PROFILE_LEN]
    length_s = jobs_f[EXPECTED_S, row]
    k = np.searchsorted(profile_s[:count], lower_s, side="left")
    while k < count and profile_s[k] < place_s:
        if not profile_fits(row, k, jobs_i, need, profile_free):
            k += 1
            continue
        start_s = profile_s[k]
        until_s = min(start_s + length_s, place_s)
        j = k + 1
        while j < count and profile_s[j] < until_s and profile_fits(row, j, jobs_i, need, profile_free):
            j += 1
        if j == count or profile_s[j] >= until_s:
            return start_s
        k = j + 1
    return np.inf


@njit(cache=True)
def vacate(row, from_s, jobs_i, jobs_f, need, profile_s, profile_free, counters):
    """Free the place of this job's kind that begins at ``from_s``."""
    until_s = from_s + jobs_f[EXPECTED_S, row]
    profile_change(row, 1, from_s, until_s, jobs_i, need, profile_s, profile_free, counters)
    note_freed(from_s, jobs_f, counters)


@njit(cache=True)
def compress(now_s, jobs_i, jobs_f, need, profile_s, profile_free, counters):
    """Move every reservation, in queue order, to the earliest time that delays nobody (never later than it was).

    When a job moves, jobs of the same kind behind it often move up one place each. So the place that a job leaves is
    first kept open (``left_s``, of the kind of job ``left``) without touching the profile: a job of that kind takes it
    as it is, and only before another kind is looked at is it given back to the profile.
    """
    counters[PASS_NUMBER] += 1
    counters[NUM_FREED] = 0
    left = np.int64(-1)
    left_s = np.inf
    for position in range(counters[QUEUE_LO], counters[QUEUE_HI]):
        row = jobs_i[QUEUE, position]
        held_s = jobs_f[RESERVED_S, row]
        if not held_s > now_s:  # due, or new and without a reservation (NaN)
            continue
        length_s = jobs_f[EXPECTED_S, row]
        same_kind = left >= 0 and jobs_i[KIND, left] == jobs_i[KIND, row]
        bound_s = kind_bound(row, jobs_i, jobs_f, counters)
        if left >= 0 and not same_kind:
            bound_s = min(bound_s, left_s - length_s)
        if bound_s >= held_s:
            continue
        if left >= 0 and not same_kind:
            vacate(left, left_s, jobs_i, jobs_f, need, profile_s, profile_free, counters)
            left = np.int64(-1)
        place_s = min(held_s, left_s) if left >= 0 else held_s
        start_s = earlier_start(row, bound_s, place_s, jobs_i, jobs_f, need, profile_s, profile_free, counters)
        if start_s < place_s:
            if left >= 0:
                vacate(left, left_s, jobs_i, jobs_f, need, profile_s, profile_free, counters)
                left = np.int64(-1)
            until_s = start_s + length_s
            profile_change(row, -1, start_s, until_s, jobs_i, need, profile_s, profile_free, counters)
        else:
            start_s = place_s  # the open place, or none better than its own
        if start_s < held_s:
            jobs_f[RESERVED_S, row] = start_s
            if start_s + length_s <= held_s:
                left = row
                left_s = held_s
            else:  # old and new place overlap: what is left is no whole place
                vacate(row, held_s, jobs_i, jobs_f, need, profile_s, profile_free, counters)
                left = np.int64(-1)
        note_bound(row, held_s, jobs_i, jobs_f, counters)
    if left >= 0:
        vacate(left, left_s, jobs_i, jobs_f, need, profile_s, profile_free, counters)


@njit(cache=True)
def extend_overdue(now_s, jobs_i, jobs_f, counters):
    """Put off the expected ends of running jobs that overran: by as long as they have overrun, at least a minute.

    Returns how many there were.
    """
    count = 0
    while counters[NUM_RUNNING] > 0 and jobs_f[RUN_END_S, 0] <= now_s:
        row = jobs_i[RUN, 0]
        overrun_s = now_s - (jobs_f[START_S, row] + jobs_f[EXPECTED_S, row])
        running_remove(row, jobs_i, jobs_f, counters)
        running_insert(row, now_s + max(OVERRUN_GRACE_S, overrun_s), jobs_i, jobs_f, counters)
        count += 1
    counters[EXTENDED] += count
    return count


@njit(cache=True)
def profile_from_running(now_s, jobs_i, jobs_f, counters, node_free, need, profile_s, profile_free):
    """Make the profile from the running jobs alone: free capacity now, and what each of them gives back at its end."""
    counters[PROFILE_LEN] = 1
    profile_s[0] = now_s
    for r in range(node_free.shape[0]):
        total = np.int64(0)
        for n in range(node_free.shape[1]):
            total += node_free[r, n]
        profile_free[r, 0] = total
    for i in range(counters[NUM_RUNNING]):
        row = jobs_i[RUN, i]
        s = jobs_i[SHAPE, row]
        k = profile_split(max(jobs_f[RUN_END_S, i], now_s), profile_s, profile_free, counters)
        for r in range(need.shape[0]):  # ends never decrease, so k is the last step
            profile_free[r, k] += jobs_i[TASKS, row] * need[r, s]


@njit(cache=True)
def profile_from_promises(now_s, jobs_i, jobs_f, counters, node_free, need, profile_s, profile_free):
    """Make the profile from the running jobs and the reservations that waiting jobs hold."""
    profile_from_running(now_s, jobs_i, jobs_f, counters, node_free, need, profile_s, profile_free)
    for position in range(counters[QUEUE_LO], counters[QUEUE_HI]):
        row = jobs_i[QUEUE, position]
        from_s = jobs_f[RESERVED_S, row]
        if not np.isnan(from_s):
            until_s = from_s + jobs_f[EXPECTED_S, row]
            profile_change(row, -1, max(from_s, now_s), until_s, jobs_i, need, profile_s, profile_free, counters)


@njit(cache=True)
def rebuild_profile(now_s, jobs_i, jobs_f, node_free, need, profile_s, profile_free, counters):
    """Make the profile anew and reserve for every waiting job again, in queue order."""
    profile_from_running(now_s, jobs_i, jobs_f, counters, node_free, need, profile_s, profile_free)
    counters[PASS_NUMBER] += 1
    counters[NUM_FREED] = 0
    for position in range(counters[QUEUE_LO], counters[QUEUE_HI]):
        row = jobs_i[QUEUE, position]
        reserve(row, now_s, jobs_i, jobs_f, need, profile_s, profile_free, counters)
        note_bound(row, -np.inf, jobs_i, jobs_f, counters)


@njit(cache=True)
def put_off(row, now_s, jobs_i, jobs_f, need, profile_s, profile_free, counters):
    """Move the reservation of a due job that fragmentation blocks behind the next expected end."""
    held_s = jobs_f[RESERVED_S, row]
    until_s = held_s + jobs_f[EXPECTED_S, row]
    profile_change(row, 1, max(held_s, now_s), until_s, jobs_i, need, profile_s, profile_free, counters)
    note_freed(max(held_s, now_s), jobs_f, counters)
    next_s = jobs_f[RUN_END_S, 0]
    profile_split(next_s, profile_s, profile_free, counters)
    reserve(row, next_s, jobs_i, jobs_f, need, profile_s, profile_free, counters)


@njit(cache=True)
def pass_conservative(
    now_s, strategy, profile_s, profile_free,
    jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i,
):  # fmt: skip
    """Conservative backfilling: every waiting job holds a reservation, and nobody's is ever made later by another job.

    When capacity was freed the reservations are compressed in queue order; new jobs take the earliest gap; due jobs
    start. A due job that does not fit means that a running job overran its request (its expected end is put off and
    all reservations are made anew) or that free capacity lies on too many nodes (its own reservation is put off).
    Mu'alem & Feitelson, IEEE TPDS 12(6), 2001. Returns the next reservation after ``now_s``; inf when there is none.
    """
    profile_trim(now_s, profile_s, profile_free, counters)
    if counters[RELEASED] == 1:
        compress(now_s, jobs_i, jobs_f, need, profile_s, profile_free, counters)
    for position in range(counters[QUEUE_LO], counters[QUEUE_HI]):
        row = jobs_i[QUEUE, position]
        if np.isnan(jobs_f[RESERVED_S, row]):
            reserve(row, now_s, jobs_i, jobs_f, need, profile_s, profile_free, counters)
            note_bound(row, -np.inf, jobs_i, jobs_f, counters)
    again = True
    next_s = np.inf
    while again:
        again = False
        next_s = np.inf
        num_started = 0
        waits_ahead = 0
        for position in range(counters[QUEUE_LO], counters[QUEUE_HI]):
            row = jobs_i[QUEUE, position]
            s = jobs_i[SHAPE, row]
            if jobs_f[RESERVED_S, row] <= now_s and jobs_i[TASKS, row] <= shapes[FREE_SLOTS, s]:
                start_job(
                    row, now_s, strategy, waits_ahead, slots[s],
                    jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i,
                )  # fmt: skip
                jobs_i[PICK, num_started] = position
                num_started += 1
                continue
            if jobs_f[RESERVED_S, row] <= now_s:
                if jobs_f[RUN_END_S, 0] <= now_s:
                    again = True
                    break
                put_off(row, now_s, jobs_i, jobs_f, need, profile_s, profile_free, counters)
            waits_ahead = 1
            next_s = min(next_s, jobs_f[RESERVED_S, row])
        remove_started(num_started, jobs_i, counters)
        if again:
            extend_overdue(now_s, jobs_i, jobs_f, counters)
            rebuild_profile(now_s, jobs_i, jobs_f, node_free, need, profile_s, profile_free, counters)
    return next_s


# --- what the shells call --------------------------------------------------------------------------------------------


@njit(cache=True)
def absorb(
    now_s, finished, num_finished, arrived_lo, arrived_hi, mode, profile_s, profile_free,
    jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc,
):  # fmt: skip
    """Take in what happened at an instant: the finished jobs, then the arrivals of rows arrived_lo..arrived_hi."""
    for i in range(num_finished):
        row = finished[i]
        if mode == CONSERVATIVE:
            profile_trim(now_s, profile_s, profile_free, counters)
            profile_change(row, 1, now_s, jobs_f[END_S, row], jobs_i, need, profile_s, profile_free, counters)
        release_job(row, jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc)
    for row in range(arrived_lo, arrived_hi):
        if jobs_i[TASKS, row] <= 0:  # rejected on submission: never enters the queue
            continue
        s = jobs_i[SHAPE, row]
        shapes[WAITING, s] += 1
        activate_shape(s, counters, node_free, need, slots, shapes)
        jobs_f[RESERVED_S, row] = np.nan
        queue_insert(row, jobs_i, jobs_f, counters)


@njit(cache=True)
def run_pass(
    now_s, mode, strategy, depth, spare, profile_s, profile_free,
    jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i,
):  # fmt: skip
    """One scheduling pass in place; started jobs stand in OUT[:NUM_OUT]. Returns when the next pass is due, or inf."""
    counters[NUM_OUT] = 0
    next_s = np.inf
    if mode == NO_BACKFILL:
        start_heads(now_s, strategy, jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i)
    elif mode == CONSERVATIVE:
        next_s = pass_conservative(
            now_s, strategy, profile_s, profile_free,
            jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i,
        )  # fmt: skip
    else:
        pass_easy(
            mode, now_s, strategy, depth, spare,
            jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i,
        )  # fmt: skip
    counters[RELEASED] = 0
    return next_s


@njit(cache=True)
def advance(
    now_s, finished, num_finished, arrived_lo, arrived_hi, mode, strategy, depth, spare, profile_s, profile_free,
    jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i,
):  # fmt: skip
    """``absorb`` and ``run_pass`` in one call, for orderings whose score does not change while a job waits."""
    absorb(
        now_s, finished, num_finished, arrived_lo, arrived_hi, mode, profile_s, profile_free,
        jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc,
    )  # fmt: skip
    return run_pass(
        now_s, mode, strategy, depth, spare, profile_s, profile_free,
        jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i,
    )  # fmt: skip
