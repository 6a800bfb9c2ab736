"""Compiled decision kernels over the packed state arrays of ``layout``.

Owns every hot loop: fitting, placing, starting, releasing, and the scheduling pass under each kind of backfilling.
All kernels stand in one file because Numba's disk cache follows the source file of the function it compiled, not the
files of the functions that one calls. ``reference`` holds the plain-Python twin that a property test compares with.

Invariants: ``node_free`` never negative; ``slots[s, n]`` equals ``min_r node_free[r, n] // need[r, s]`` for every
active shape; a job is in the queue or in ``RUN``, never in both; ``RUN_END_S`` never decreases along the list.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from shunter.scheduler.layout import (
    ACTIVE,
    ACTIVE_POS,
    ALLOC,
    ALLOC_FREE,
    ANY_SLOTS,
    BACKFILLED,
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
    SPARE_BOUND,
    START_S,
    TASKS,
    USABLE,
    WAITING,
    WORST_FIT,
    State,
)
from shunter.scheduler.types import FloatArray, IntArray

AnyArray = npt.NDArray[np.generic]
Int = int | np.signedinteger[Any]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """A kernel that makes no arrays and so needs no reference counts.

    They would cost more than the decisions: an atomic instruction for every field of ``State`` at every use. The caller
    holds all arrays for as long as a call lasts.
    """
    return njit(cache=True, _nrt=False)(function)  # type: ignore[call-overload]


def allocating(function: Kernel) -> Kernel:
    """A kernel that sorts or copies into arrays of its own. Said outright: a callee inherits its caller's setting."""
    return njit(cache=True, _nrt=True)(function)  # type: ignore[call-overload]


@njit(cache=True, _nrt=False, inline="always")  # type: ignore[call-overload]
def slots_on(free: IntArray, need: IntArray, shape: Int, node: Int) -> Int:
    """Tasks of ``shape`` that fit into column ``node`` of ``free`` (R, N)."""
    best = np.int64(ANY_SLOTS)
    for r in range(need.shape[0]):
        if need[r, shape] > 0:
            here = free[r, node] // need[r, shape]
            best = min(best, here)
    return best


def _move_block(_typing: Any, values: Any, _to: Any, _source: Any, _count: Any) -> Any:
    """``move_block(values, to, source, count)``: move entries of a one-dimensional array, as ``memmove`` does.

    Numba compiles neither a loop over a shifted copy nor an overlapping slice assignment to a block move: at 1,000
    entries they take ten times as long.
    """
    signature = types.void(values, types.intp, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type = signature.args[0]
        data = context.make_array(array_type)(context, builder, args[0]).data
        size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
        cgutils.raw_memmove(builder, builder.gep(data, [args[1]]), builder.gep(data, [args[2]]), args[3], size)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return signature, generate


move_block: Any = intrinsic(_move_block)


@compiled
def shift_right(values: AnyArray, first: Int, count: Int) -> None:
    """Move values[first:count] up by one."""
    move_block(values, first + 1, first, count - first)


@compiled
def shift_left(values: AnyArray, first: Int, count: Int) -> None:
    """Move values[first + 1:count] down by one."""
    move_block(values, first, first + 1, count - first - 1)


# --- shapes and slots ------------------------------------------------------------------------------------------------


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


# --- placement -------------------------------------------------------------------------------------------------------


@compiled
def place(st: State, strategy: Int, tasks: Int, usable: IntArray) -> Int:
    """Choose nodes for a gang of ``tasks`` where node n can take ``usable[n]``; their sum must reach ``tasks``.

    Returns the number of nodes chosen; nodes and tasks stand in rows CHOSEN and CHOSEN_TASKS. Ties: lowest node.
    """
    num_nodes = len(usable)
    if num_nodes == 1:
        st.node_i[CHOSEN, 0] = 0
        st.node_i[CHOSEN_TASKS, 0] = tasks
        return 1
    if strategy == FIRST_FIT:
        return fill_in_order(st, tasks, usable, False)
    if strategy == WORST_FIT:
        return fill_level(st, tasks, usable)
    tightest = tightest_node(tasks, usable)
    if tightest >= 0:
        st.node_i[CHOSEN, 0] = tightest
        st.node_i[CHOSEN_TASKS, 0] = tasks
        return 1
    if strategy == BEST_FIT:
        order_nodes(st, usable, False)
        return fill_in_order(st, tasks, usable, True)
    return fill_packed(st, tasks, usable)


@compiled
def tightest_node(tasks: Int, usable: IntArray) -> Int:
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


@allocating
def order_nodes(st: State, usable: IntArray, descending: bool) -> None:
    """Write the nodes by usable slots, ties by number, into row ORDER."""
    key = -usable if descending else usable
    order = np.argsort(key, kind="mergesort")
    for i in range(len(order)):
        st.node_i[ORDER, i] = order[i]


@compiled
def fill_in_order(st: State, tasks: Int, usable: IntArray, use_order: bool) -> Int:
    """Fill nodes one after the other, by number or in row ORDER."""
    chosen = 0
    for i in range(len(usable)):
        n = st.node_i[ORDER, i] if use_order else i
        if usable[n] > 0:
            here = min(tasks, usable[n])
            st.node_i[CHOSEN, chosen] = n
            st.node_i[CHOSEN_TASKS, chosen] = here
            chosen += 1
            tasks -= here
            if tasks == 0:
                break
    return chosen


@compiled
def fill_packed(st: State, tasks: Int, usable: IntArray) -> Int:
    """Fewest nodes: the emptiest first, and the remainder on the tightest node that holds it."""
    order_nodes(st, usable, True)
    chosen = 0
    i = 0
    while tasks > usable[st.node_i[ORDER, i]]:
        n = st.node_i[ORDER, i]
        st.node_i[CHOSEN, chosen] = n
        st.node_i[CHOSEN_TASKS, chosen] = usable[n]
        tasks -= usable[n]
        chosen += 1
        i += 1
    best = st.node_i[ORDER, i]
    while i < len(usable) and usable[st.node_i[ORDER, i]] >= tasks:
        n = st.node_i[ORDER, i]
        if usable[n] < usable[best]:
            best = n
        i += 1
    st.node_i[CHOSEN, chosen] = best
    st.node_i[CHOSEN_TASKS, chosen] = tasks
    return chosen + 1


@compiled
def fill_level(st: State, tasks: Int, usable: IntArray) -> Int:
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
        if rest > 0 and usable[n] >= low > 0:
            here += 1
            rest -= 1
        if here > 0:
            st.node_i[CHOSEN, chosen] = n
            st.node_i[CHOSEN_TASKS, chosen] = here
            chosen += 1
    return chosen


# --- queue and running list ------------------------------------------------------------------------------------------


@compiled
def queue_insert(st: State, row: Int) -> None:
    """Insert a job behind all waiting jobs whose (score, row) is not larger."""
    queue = st.jobs_i[QUEUE]
    score = st.jobs_f[SCORE]
    lo = st.counters[QUEUE_LO]
    hi = st.counters[QUEUE_HI]
    if hi == len(queue):  # the list reached the end of its array: move it to the front
        move_block(queue, 0, lo, hi - lo)
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
        move_block(queue, lo - 1, lo, left - lo)
        lo -= 1
        left -= 1
    else:
        move_block(queue, left + 1, left, hi - left)
        hi += 1
    queue[left] = row
    st.counters[QUEUE_LO] = lo
    st.counters[QUEUE_HI] = hi


@compiled
def queue_remove(st: State, position: Int) -> bool:
    """Remove one position of the queue by moving its shorter side. Returns True when the front part moved right."""
    queue = st.jobs_i[QUEUE]
    lo = st.counters[QUEUE_LO]
    hi = st.counters[QUEUE_HI]
    if position - lo <= hi - position:
        move_block(queue, lo + 1, lo, position - lo)
        st.counters[QUEUE_LO] = lo + 1
        return True
    move_block(queue, position, position + 1, hi - 1 - position)
    st.counters[QUEUE_HI] = hi - 1
    return False


@compiled
def running_insert(st: State, row: Int, end_s: float) -> None:
    """Insert a job into the running list, behind all with the same expected end."""
    ends = st.jobs_f[RUN_END_S]
    rows = st.jobs_i[RUN]
    count = st.counters[NUM_RUNNING]
    left = np.searchsorted(ends[:count], end_s, side="right")
    shift_right(ends, left, count)
    shift_right(rows, left, count)
    ends[left] = end_s
    rows[left] = row
    st.jobs_f[END_S, row] = end_s
    st.counters[NUM_RUNNING] = count + 1


@compiled
def running_remove(st: State, row: Int) -> None:
    """Take a job out of the running list."""
    ends = st.jobs_f[RUN_END_S]
    rows = st.jobs_i[RUN]
    count = st.counters[NUM_RUNNING]
    i = np.searchsorted(ends[:count], st.jobs_f[END_S, row], side="left")
    while rows[i] != row:
        i += 1
    shift_left(ends, i, count)
    shift_left(rows, i, count)
    st.counters[NUM_RUNNING] = count - 1


# --- starting and releasing ------------------------------------------------------------------------------------------


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


# --- passes: no backfilling and EASY ---------------------------------------------------------------------------------


@compiled
def start_heads(st: State, now_s: float, strategy: Int) -> None:
    """Start the head of the queue while it fits."""
    while st.counters[QUEUE_LO] < st.counters[QUEUE_HI]:
        row = st.jobs_i[QUEUE, st.counters[QUEUE_LO]]
        s = st.jobs_i[SHAPE, row]
        if st.jobs_i[TASKS, row] > st.shapes[FREE_SLOTS, s]:
            st.counters[BLOCKED] = 1
            return
        st.counters[QUEUE_LO] += 1
        start_job(st, row, now_s, strategy, 0, st.slots[s])
    st.counters[BLOCKED] = 0


@compiled
def reserve_head(st: State, row: Int, now_s: float, strategy: Int) -> float:
    """Shadow time of a head job that does not fit; ``spare`` (R, N) becomes what is free then without the head's nodes.

    Running jobs are released in the order of their expected ends (a past one counts as now) until the head fits;
    all jobs that end at the shadow time are released with it. Mu'alem & Feitelson, IEEE TPDS 12(6), 2001.
    """
    s = st.jobs_i[SHAPE, row]
    future = st.node_i[FUTURE_SLOTS]
    total = np.int64(0)
    for n in range(st.node_free.shape[1]):
        future[n] = st.slots[s, n]
        total += st.slots[s, n]
        for r in range(st.node_free.shape[0]):
            st.spare[r, n] = st.node_free[r, n]
    shadow_s = now_s
    for i in range(st.counters[NUM_RUNNING]):
        end_s = max(st.jobs_f[RUN_END_S, i], now_s)
        if total >= st.jobs_i[TASKS, row] and end_s > shadow_s:
            break
        other = st.jobs_i[RUN, i]
        other_shape = st.jobs_i[SHAPE, other]
        entry = st.jobs_i[ALLOC, other]
        while entry >= 0:
            n = st.alloc[NODE, entry]
            for r in range(st.need.shape[0]):
                st.spare[r, n] += st.alloc[COUNT, entry] * st.need[r, other_shape]
            there = slots_on(st.spare, st.need, s, n)
            total += there - future[n]
            future[n] = there
            entry = st.alloc[NEXT, entry]
        shadow_s = end_s
    chosen = place(st, strategy, st.jobs_i[TASKS, row], future)
    for i in range(chosen):
        for r in range(st.need.shape[0]):
            st.spare[r, st.node_i[CHOSEN, i]] -= st.node_i[CHOSEN_TASKS, i] * st.need[r, s]
    return shadow_s


@compiled
def spare_slots(st: State, s: Int) -> Int:
    """Write into row USABLE how many tasks of ``s`` each node can take now without touching the head's reservation."""
    total = np.int64(0)
    for n in range(st.spare.shape[1]):
        here = st.slots[s, n]
        if here > 0:
            here = min(here, slots_on(st.spare, st.need, s, n))
        st.node_i[USABLE, n] = here
        total += here
    return total


@compiled
def fits_spare(st: State, s: Int, tasks: Int) -> bool:
    """Whether a gang fits beside the head's reservation; if so, row USABLE says where.

    What is spare only shrinks during a pass, so the last count for a shape bounds all later ones: most candidates of a
    long queue are refused by that bound, without looking at the nodes.
    """
    if tasks > st.shapes[SPARE_BOUND, s]:
        return False
    st.shapes[SPARE_BOUND, s] = spare_slots(st, s)
    return tasks <= st.shapes[SPARE_BOUND, s]


@allocating
def backfill_order(st: State, first: Int, last: Int, sjbf: bool) -> Int:
    """Queue positions of the candidates that fit now, in the order in which they are tried; returns their number."""
    count = 0
    for position in range(first, last):
        row = st.jobs_i[QUEUE, position]
        if st.jobs_i[TASKS, row] <= st.shapes[FREE_SLOTS, st.jobs_i[SHAPE, row]]:
            st.jobs_i[PICK, count] = position
            st.jobs_f[PICK_S, count] = st.jobs_f[EXPECTED_S, row]
            count += 1
    if sjbf and count > 1:
        order = np.argsort(st.jobs_f[PICK_S, :count], kind="mergesort")
        positions = st.jobs_i[PICK, :count].copy()
        for i in range(count):
            st.jobs_i[PICK, i] = positions[order[i]]
    return count


@compiled
def pass_easy(st: State, mode: Int, now_s: float, strategy: Int, depth: Int) -> None:
    """EASY: heads first, then later jobs that end by the shadow time or use only what the head leaves spare.

    ``EASY_NOEXTRA`` allows only jobs that end strictly before the shadow time (RLScheduler, SC'20). ``EASY_SJBF``
    tries the candidates shortest expected run time first (Tsafrir, Etsion & Feitelson, IEEE TPDS 18(6), 2007).
    """
    start_heads(st, now_s, strategy)
    lo = st.counters[QUEUE_LO]
    last = st.counters[QUEUE_HI]
    if last - lo < 2:
        return
    if depth > 0 and last - lo - 1 > depth:
        last = lo + 1 + depth
        st.counters[CUT_SHORT] += 1
    num_candidates = backfill_order(st, lo + 1, last, mode == EASY_SJBF)
    if num_candidates == 0:
        return
    head = st.jobs_i[QUEUE, lo]
    shadow_s = reserve_head(st, head, now_s, strategy)
    for a in range(st.counters[NUM_ACTIVE]):
        st.shapes[SPARE_BOUND, st.shapes[ACTIVE, a]] = ANY_SLOTS
    num_started = 0
    for i in range(num_candidates):
        row = st.jobs_i[QUEUE, st.jobs_i[PICK, i]]
        s = st.jobs_i[SHAPE, row]
        tasks = st.jobs_i[TASKS, row]
        if tasks > st.shapes[FREE_SLOTS, s]:
            continue
        end_s = now_s + st.jobs_f[EXPECTED_S, row]
        if end_s < shadow_s or (end_s == shadow_s and mode != EASY_NOEXTRA):
            start_job(st, row, now_s, strategy, 1, st.slots[s])
        elif mode != EASY_NOEXTRA and fits_spare(st, s, tasks):
            start_job(st, row, now_s, strategy, 1, st.node_i[USABLE])
            entry = st.jobs_i[ALLOC, row]
            while entry >= 0:
                for r in range(st.need.shape[0]):
                    st.spare[r, st.alloc[NODE, entry]] -= st.alloc[COUNT, entry] * st.need[r, s]
                entry = st.alloc[NEXT, entry]
        else:
            continue
        st.jobs_i[PICK, num_started] = st.jobs_i[PICK, i]
        num_started += 1
    remove_started(st, num_started)


@allocating
def remove_started(st: State, num_started: Int) -> None:
    """Take the queue positions in PICK[:num_started] (any order) off the queue."""
    if num_started == 0:
        return
    positions = np.sort(st.jobs_i[PICK, :num_started])
    shift = 0
    for position in positions:  # a removal that moved the front part leaves later positions as they are
        if not queue_remove(st, position - shift):
            shift += 1


# --- conservative backfilling ----------------------------------------------------------------------------------------
# The profile is a step function of free capacity: column k of ``profile_free`` (R, P) holds from profile_s[k] on, the
# last one for ever. It counts running jobs until their expected ends and every waiting job at its reservation. On a
# cluster of several nodes it counts totals over the nodes.


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
    length_s = st.jobs_f[EXPECTED_S, row]
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
        st.jobs_i[KIND_PASS, kind] != st.counters[PASS_NUMBER]
        or st.jobs_f[RESERVED_S, row] < st.jobs_f[KIND_HELD_S, kind]
    ):
        return -np.inf
    bound_s = st.jobs_f[KIND_LB_S, kind]
    for i in range(st.jobs_i[KIND_SEEN, kind], st.counters[NUM_FREED]):
        bound_s = min(bound_s, st.jobs_f[PICK_S, i] - st.jobs_f[EXPECTED_S, row])
    return bound_s


@compiled
def note_bound(st: State, row: Int, held_s: float) -> None:
    """Remember for the job's kind that nothing before its present reservation was to be had."""
    kind = st.jobs_i[KIND, row]
    st.jobs_i[KIND_PASS, kind] = st.counters[PASS_NUMBER]
    st.jobs_i[KIND_SEEN, kind] = st.counters[NUM_FREED]
    st.jobs_f[KIND_LB_S, kind] = st.jobs_f[RESERVED_S, row]
    st.jobs_f[KIND_HELD_S, kind] = held_s


@compiled
def note_freed(st: State, from_s: float) -> None:
    """Remember that capacity was freed from a time on, so that bounds found before no longer hold behind it."""
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
    profile_change(st, row, -1, start_s, start_s + st.jobs_f[EXPECTED_S, row])


@compiled
def earlier_start(st: State, row: Int, lower_s: float, place_s: float) -> float:
    """Earliest start from ``lower_s`` on, and before ``place_s``, that delays nobody; inf without one.

    ``place_s`` begins a place that the job can have but that the profile shows as taken: its own reservation, or one
    that a job of the same kind has just left. The steps that it covers are not looked at.
    """
    count = st.counters[PROFILE_LEN]
    length_s = st.jobs_f[EXPECTED_S, row]
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
    until_s = from_s + st.jobs_f[EXPECTED_S, row]
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
        length_s = st.jobs_f[EXPECTED_S, row]
        same_kind = left >= 0 and st.jobs_i[KIND, left] == st.jobs_i[KIND, row]
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
        overrun_s = now_s - (st.jobs_f[START_S, row] + st.jobs_f[EXPECTED_S, row])
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
            total += st.node_free[r, n]
        st.profile_free[r, 0] = total
    for i in range(st.counters[NUM_RUNNING]):
        row = st.jobs_i[RUN, i]
        s = st.jobs_i[SHAPE, row]
        k = profile_split(st, max(st.jobs_f[RUN_END_S, i], now_s))
        for r in range(st.need.shape[0]):  # ends never decrease, so k is the last step
            st.profile_free[r, k] += st.jobs_i[TASKS, row] * st.need[r, s]


@compiled
def profile_from_promises(st: State, now_s: float) -> None:
    """Make the profile from the running jobs and the reservations that waiting jobs hold."""
    profile_from_running(st, now_s)
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        row = st.jobs_i[QUEUE, position]
        from_s = st.jobs_f[RESERVED_S, row]
        if not np.isnan(from_s):
            until_s = from_s + st.jobs_f[EXPECTED_S, row]
            profile_change(st, row, -1, max(from_s, now_s), until_s)


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
    until_s = held_s + st.jobs_f[EXPECTED_S, row]
    profile_change(st, row, 1, max(held_s, now_s), until_s)
    note_freed(st, max(held_s, now_s))
    next_s = st.jobs_f[RUN_END_S, 0]
    profile_split(st, next_s)
    reserve(st, row, next_s)


@compiled
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
                st.jobs_i[PICK, num_started] = position
                num_started += 1
                continue
            if is_due:
                if st.jobs_f[RUN_END_S, 0] <= now_s:
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


# --- what the shells call --------------------------------------------------------------------------------------------


@compiled
def absorb(
    st: State, now_s: float, finished: IntArray, num_finished: Int, arrived_lo: Int, arrived_hi: Int, mode: Int
) -> None:
    """Take in what happened at an instant: the finished jobs, then the arrivals of rows arrived_lo..arrived_hi."""
    for i in range(num_finished):
        row = finished[i]
        if mode == CONSERVATIVE:
            profile_trim(st, now_s)
            profile_change(st, row, 1, now_s, st.jobs_f[END_S, row])
        release_job(st, row)
    for row in range(arrived_lo, arrived_hi):
        if st.jobs_i[TASKS, row] <= 0:  # rejected on submission: never enters the queue
            continue
        s = st.jobs_i[SHAPE, row]
        st.shapes[WAITING, s] += 1
        activate_shape(st, s)
        st.jobs_f[RESERVED_S, row] = np.nan
        queue_insert(st, row)


@compiled
def run_pass(st: State, now_s: float, mode: Int, strategy: Int, depth: Int) -> float:
    """One scheduling pass in place; started jobs stand in OUT[:NUM_OUT]. Returns when the next pass is due, or inf."""
    st.counters[NUM_OUT] = 0
    next_s = np.inf
    if mode == NO_BACKFILL:
        start_heads(st, now_s, strategy)
    elif mode == CONSERVATIVE:
        next_s = pass_conservative(st, now_s, strategy, depth)
    else:
        pass_easy(st, mode, now_s, strategy, depth)
    st.counters[RELEASED] = 0
    return next_s


@compiled
def advance(
    now_s: float,
    finished: IntArray,
    num_finished: Int,
    arrived_lo: Int,
    arrived_hi: Int,
    mode: Int,
    strategy: Int,
    depth: Int,
    jobs_i: IntArray,
    jobs_f: FloatArray,
    counters: IntArray,
    node_free: IntArray,
    need: IntArray,
    slots: IntArray,
    shapes: IntArray,
    alloc: IntArray,
    node_i: IntArray,
    spare: IntArray,
    profile_s: FloatArray,
    profile_free: IntArray,
) -> float:
    """``absorb`` and ``run_pass`` in one call, for orderings whose score does not change while a job waits.

    Takes the arrays of a ``State`` one by one: handing over the tuple itself costs Python three times as much.
    """
    st = State(jobs_i, jobs_f, counters, node_free, need, slots, shapes, alloc, node_i, spare, profile_s, profile_free)
    absorb(st, now_s, finished, num_finished, arrived_lo, arrived_hi, mode)
    return run_pass(st, now_s, mode, strategy, depth)
