"""The passes without backfilling and with EASY."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import allocating, compiled, inlined
from shunter.scheduler.kernels.gpus import pick_gpus, pick_shared, room_of_gpus
from shunter.scheduler.kernels.lists import queue_remove
from shunter.scheduler.kernels.placing import place
from shunter.scheduler.kernels.slots import change_units, room_on, touch_spare
from shunter.scheduler.kernels.starting import start_job
from shunter.scheduler.layout import (
    ACTIVE,
    ALLOC,
    ANY_SLOTS,
    BESIDE,
    BEST_FIT,
    BLOCKED,
    BOUND_S,
    CHOSEN,
    CHOSEN_TASKS,
    COUNT,
    CUT_SHORT,
    EASY_NOEXTRA,
    EASY_SJBF,
    EXPECTED_S,
    FIRST,
    FREE_SLOTS,
    FUTURE_SLOTS,
    GPUS,
    HELD,
    MASK,
    NEXT,
    NODE,
    NUM_ACTIVE,
    NUM_HELD,
    NUM_NODE_ROWS,
    NUM_RUNNING,
    PER_GPU,
    PICK,
    PICK_S,
    QUEUE,
    QUEUE_HI,
    QUEUE_LO,
    RUN,
    RUN_END_S,
    SHAPE,
    SHARE,
    SPARE_BOUND,
    SPARE_NUMBER,
    TASKS,
    USABLE,
    WAITING,
    State,
)
from shunter.scheduler.types import Int

# What ``may_backfill`` says
NOT_NOW = 0
ENDS_IN_TIME = 1  # by its expected run time, before the head needs what it takes
FITS_BESIDE = 2  # it takes only what the head leaves spare


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


@inlined
def change_spare(st: State, row: Int, sign: Int, s: Int) -> Int:
    """Take (``sign`` 1) from ``spare`` what a running job holds, or add it (−1), and count FUTURE_SLOTS again there.

    Returns by how much the sum of the slots of ``s`` changed.
    """
    change = np.int64(0)
    own = st.jobs_i[SHAPE, row]
    gpu_row = NUM_NODE_ROWS + st.counters[GPUS]
    entry = st.jobs_i[ALLOC, row]
    while entry >= 0:
        node, mask, first = st.alloc[NODE, entry], st.alloc[MASK, entry], st.alloc[FIRST, entry]
        touch_spare(st, node)
        change_units(st, st.spare, gpu_row, node, own, sign * st.alloc[COUNT, entry], mask, first)
        there = room_on(st, st.spare, gpu_row, s, node)
        change += there - st.node_i[FUTURE_SLOTS, node]
        st.node_i[FUTURE_SLOTS, node] = there
        entry = st.alloc[NEXT, entry]
    return change


@compiled
def take_spare_on(st: State, s: Int, node: Int, tasks: Int) -> None:
    """Take tasks of a shape from ``spare`` on one node, and choose the GPUs there."""
    gpu_row = NUM_NODE_ROWS + st.counters[GPUS]
    touch_spare(st, node)
    if st.counters[GPUS] == 0:
        change_units(st, st.spare, gpu_row, node, s, tasks, 0, -1)
    elif st.shapes[SHARE, s] == 0:
        change_units(st, st.spare, gpu_row, node, s, tasks, pick_gpus(st, gpu_row, gpu_row, node, s, tasks), -1)
    else:
        for _ in range(tasks):
            gpu, first = pick_shared(st, gpu_row, gpu_row, node, s, BEST_FIT)
            change_units(st, st.spare, gpu_row, node, s, 1, np.int64(1) << gpu, first)


@inlined
def begin_spare(st: State, s: Int) -> Int:
    """Let ``spare`` be what is free now, and row FUTURE_SLOTS the slots of an active shape; returns their sum.

    Columns of ``spare`` are written when they are first touched: on most nodes nothing happens in a pass.
    """
    st.counters[SPARE_NUMBER] += 1
    future, slots = st.node_i[FUTURE_SLOTS], st.slots[s]
    for n in range(len(future)):
        future[n] = slots[n]
    return st.shapes[FREE_SLOTS, s]


@compiled
def reserve_head(st: State, row: Int, now_s: float, strategy: Int, least_s: float) -> float:
    """Shadow time of a head job that does not fit; ``spare`` (R, N) becomes what is free then without the head's nodes.

    Running jobs are released in the order of their expected ends (a past one counts as now) until the head fits;
    all jobs that end at the shadow time are released with it. Mu'alem & Feitelson, IEEE TPDS 12(6), 2001. While nodes
    are down it may not fit even then: the shadow time is inf, and nothing is held for it. It is not before ``least_s``,
    when what is no node's, as power, lets the head start.
    """
    s = st.jobs_i[SHAPE, row]
    future = st.node_i[FUTURE_SLOTS]
    total = begin_spare(st, s)
    shadow_s = least_s
    for i in range(st.counters[NUM_RUNNING]):
        end_s = max(st.jobs_f[RUN_END_S, i], now_s)
        if total >= st.jobs_i[TASKS, row] and end_s > shadow_s:
            break
        total += change_spare(st, st.jobs_i[RUN, i], -1, s)
        shadow_s = max(shadow_s, end_s)
    st.counters[NUM_HELD] = 0
    if total < st.jobs_i[TASKS, row]:
        return np.inf
    chosen = place(st, strategy, st.jobs_i[TASKS, row], future)
    for i in range(chosen):
        take_spare_on(st, s, st.node_i[CHOSEN, i], st.node_i[CHOSEN_TASKS, i])
        st.node_i[HELD, i] = st.node_i[CHOSEN, i]
    st.counters[NUM_HELD] = chosen
    return shadow_s


@inlined
def slots_beside(st: State, s: Int, node: Int) -> Int:
    """Tasks of ``s`` that one of the head's nodes can take now without touching the reservation."""
    here = st.slots[s, node]
    if here > 0:
        gpu_row = NUM_NODE_ROWS + st.counters[GPUS]
        here = min(here, room_on(st, st.spare, gpu_row, s, node))
        if here > 0 and st.counters[GPUS] > 0 and st.shapes[PER_GPU, s] > 0:
            here = min(here, room_of_gpus(st, NUM_NODE_ROWS, gpu_row, s, node))  # free now need not be spare
    return here


@inlined
def count_beside(st: State, s: Int) -> Int:
    """Tasks of ``s`` that can start now without touching the head's reservation.

    On other nodes than the head's no less is spare than is free now, so that all that fits there may start.
    """
    total = st.shapes[FREE_SLOTS, s]
    for i in range(st.counters[NUM_HELD]):
        node = st.node_i[HELD, i]
        total += slots_beside(st, s, node) - st.slots[s, node]
    return total


@inlined
def write_usable(st: State, s: Int) -> None:
    """Write into row USABLE how many tasks of ``s`` each node can take now without touching the head's reservation."""
    usable, slots = st.node_i[USABLE], st.slots[s]
    for n in range(len(usable)):
        usable[n] = slots[n]
    for i in range(st.counters[NUM_HELD]):
        usable[st.node_i[HELD, i]] = slots_beside(st, s, st.node_i[HELD, i])


@compiled
def fits_beside(st: State, s: Int, tasks: Int) -> bool:
    """Whether a gang fits beside the head's reservation; if so, row USABLE says where."""
    st.shapes[SPARE_BOUND, s] = count_beside(st, s)
    if tasks > st.shapes[SPARE_BOUND, s]:
        return False
    write_usable(st, s)
    return True


@inlined
def no_shape_fits(st: State) -> bool:
    """Whether no task of a shape that waits fits now: nothing can start, however long the queue."""
    count = 0
    for a in range(st.counters[NUM_ACTIVE]):
        s = st.shapes[ACTIVE, a]
        if st.shapes[FREE_SLOTS, s] > 0 and st.shapes[WAITING, s] > 0:
            count += 1
    return count == 0


@allocating
def backfill_order(st: State, first: Int, last: Int, sjbf: bool) -> Int:
    """Queue positions of the candidates that fit now, in the order in which they are tried; returns their number."""
    count = 0
    for position in range(first, last):
        row = st.jobs_i[QUEUE, position]
        if st.jobs_i[TASKS, row] <= st.shapes[FREE_SLOTS, st.jobs_i[SHAPE, row]]:
            st.jobs_i[PICK, count] = position
            count += 1
    if sjbf and count > 1:
        for i in range(count):
            st.jobs_f[PICK_S, i] = st.jobs_f[EXPECTED_S, st.jobs_i[QUEUE, st.jobs_i[PICK, i]]]
        order = np.argsort(st.jobs_f[PICK_S, :count], kind="mergesort")
        positions = st.jobs_i[PICK, :count].copy()
        for i in range(count):
            st.jobs_i[PICK, i] = positions[order[i]]
    return count


@inlined
def may_backfill(st: State, row: Int, now_s: float, shadow_s: float, mode: Int) -> Int:
    """Whether a candidate may start now without delaying the head: ``NOT_NOW``, ``ENDS_IN_TIME`` or ``FITS_BESIDE``.

    In the last case row USABLE says where. Until the pass is over, an answer of ``NOT_NOW`` does not change. What is
    spare only shrinks during a pass, so the last count for a shape bounds all later ones: most candidates of a long
    queue are refused by that bound, without looking at the nodes.
    """
    s, tasks = st.jobs_i[SHAPE, row], st.jobs_i[TASKS, row]
    how = NOT_NOW
    if tasks <= st.shapes[FREE_SLOTS, s]:
        end_s = now_s + st.jobs_f[BOUND_S, row]
        if end_s < shadow_s or (end_s == shadow_s and mode != EASY_NOEXTRA):
            how = ENDS_IN_TIME
        elif mode != EASY_NOEXTRA and tasks <= st.shapes[SPARE_BOUND, s] and fits_beside(st, s, tasks):
            how = FITS_BESIDE
    return how


@compiled
def start_behind(st: State, row: Int, now_s: float, how: Int, strategy: Int) -> None:
    """Start a candidate for which ``may_backfill`` said ``how``."""
    usable = st.slots[st.jobs_i[SHAPE, row]]
    if how == FITS_BESIDE:
        usable = st.node_i[USABLE]
        st.counters[BESIDE] = 1  # what it takes is taken from ``spare``, too
    start_job(st, row, now_s, strategy, 1, usable)
    st.counters[BESIDE] = 0


@inlined
def backfill_one(st: State, row: Int, now_s: float, shadow_s: float, mode: Int, strategy: Int) -> bool:
    """Start a candidate that fits and does not delay the head; returns whether it was started.

    Copied into the loop over the candidates: to hand over a ``State`` costs more than to refuse one.
    """
    how = may_backfill(st, row, now_s, shadow_s, mode)
    if how != NOT_NOW:
        start_behind(st, row, now_s, how, strategy)
    return how != NOT_NOW


@compiled
def reserve_first(st: State, head: Int, now_s: float, strategy: Int) -> float:
    """As ``reserve_head``, and nothing is known yet of what fits beside it."""
    shadow_s = reserve_head(st, head, now_s, strategy, now_s)
    for a in range(st.counters[NUM_ACTIVE]):
        st.shapes[SPARE_BOUND, st.shapes[ACTIVE, a]] = ANY_SLOTS
    return shadow_s


@inlined
def pass_easy(st: State, mode: Int, now_s: float, strategy: Int, depth: Int) -> None:
    """EASY: heads first, then later jobs that end by the shadow time or use only what the head leaves spare.

    ``EASY_NOEXTRA`` allows only jobs that end strictly before the shadow time (RLScheduler, SC'20). ``EASY_SJBF``
    tries the candidates shortest expected run time first (Tsafrir, Etsion & Feitelson, IEEE TPDS 18(6), 2007).
    """
    start_heads(st, now_s, strategy)
    backfill_behind(st, mode, now_s, strategy, depth)


@compiled
def backfill_behind(st: State, mode: Int, now_s: float, strategy: Int, depth: Int) -> None:
    """Start the jobs behind a head that does not fit, as far as they do not delay it."""
    lo = st.counters[QUEUE_LO]
    last = st.counters[QUEUE_HI]
    if last - lo < 2:
        return
    if depth > 0 and last - lo - 1 > depth:
        last = lo + 1 + depth
        st.counters[CUT_SHORT] += 1
    if last - lo > st.counters[NUM_ACTIVE] and no_shape_fits(st):
        return
    num_candidates = backfill_order(st, lo + 1, last, mode == EASY_SJBF)
    if num_candidates == 0:
        return
    head = st.jobs_i[QUEUE, lo]
    shadow_s = reserve_first(st, head, now_s, strategy)
    num_started = 0
    for i in range(num_candidates):
        row = st.jobs_i[QUEUE, st.jobs_i[PICK, i]]
        if backfill_one(st, row, now_s, shadow_s, mode, strategy):
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
