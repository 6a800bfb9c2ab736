"""The compiled loops of the Helios protocol. Imports Numba, so it is itself imported only where a run begins.

Owns placement and the decision rules of one virtual cluster; the original ticks every second, these loops jump from
one instant at which something can change to the next.

Why no tick is missed. Between two instants at which a job arrives or ends, free GPUs do not grow, and ``consolidate``
never succeeds on fewer free GPUs where it failed on more. So FIFO and SJF only act at arrivals and ends. QSSF gives a
job that arrived at an empty queue its priority one tick later, which is a further instant. Under SRTF the order does
change while time passes, as running jobs come nearer to their ends; but a running job had its share of the quota at
the last decision, so that moving it forward takes nothing from those it passes, and a job that was just preempted only
moves back: the decision stays the same until the next arrival or end. Under Tiresias a running job also changes queue
when its attained service passes the threshold; that instant is computed, and decisions wait for the next full minute.

Jobs are rows 0…J−1 in order of submission. Times are whole seconds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from shunter.scheduler.types import IntArray
from shunter.sim.compat.helios import GPUS_PER_NODE
from shunter.sim.compat.sorting import sort_by_key

NEVER = np.iinfo(np.int64).max
SHORT_OVERHEAD_S, LONG_OVERHEAD_S = 40, 60
"""Added to the remaining time by a preemption, up to one node of GPUs and above."""
DECISION_PERIOD_S = 60
SERVICE_THRESHOLD = 18_000
"""Tiresias: attained GPU-seconds above which a job is in the low queue."""
LOW_QUEUE = 1 << 40
"""Added to the sort key of a job in the low queue: more than any submit time."""


PENDING, RUNNING = 0, 1
"""Where the lengths of the two lists stand in ``State.num``."""


class Cluster(NamedTuple):
    """Free GPUs of a virtual cluster's nodes, and who holds the others."""

    free: IntArray  # (N,)
    whole: IntArray  # (N,) row of the gang that holds the node as one of its whole ones, or −1
    part_node: IntArray  # (J,) node of the job's last or only piece
    part_gpus: IntArray  # (J,) GPUs of that piece


@njit(cache=True)
def new_cluster(num_nodes: int, num_jobs: int) -> Cluster:
    """An empty virtual cluster."""
    return Cluster(
        np.full(num_nodes, GPUS_PER_NODE, np.int64),
        np.full(num_nodes, -1, np.int64),
        np.zeros(num_jobs, np.int64),
        np.zeros(num_jobs, np.int64),
    )


@njit(cache=True)
def place(cluster: Cluster, row: int, gpus: int) -> bool:
    """``consolidate``: one node if the job fits on one, else whole nodes and one piece; False when it does not fit.

    The fullest node that has room takes a job of up to 8 GPUs. A larger one takes wholly free nodes, lowest index
    first, and its remainder goes to the node with the most free GPUs after those.
    """
    free = cluster.free
    whole_nodes = gpus // GPUS_PER_NODE if gpus > GPUS_PER_NODE else 0
    rest = gpus - whole_nodes * GPUS_PER_NODE
    num_free_nodes = 0
    for node in range(len(free)):
        num_free_nodes += free[node] == GPUS_PER_NODE
    if num_free_nodes < whole_nodes:
        return False
    piece = -1
    if whole_nodes == 0:
        for node in range(len(free)):
            if free[node] > 0 and free[node] >= rest and (piece < 0 or free[node] < free[piece]):
                piece = node
    elif rest > 0:
        passed = 0
        for node in range(len(free)):
            if free[node] == GPUS_PER_NODE and passed < whole_nodes:
                passed += 1
            elif piece < 0 or free[node] > free[piece]:
                piece = node
        if piece >= 0 and free[piece] < rest:
            piece = -1
    if piece < 0 and (rest > 0 or whole_nodes == 0):
        return False
    for node in range(len(free)):
        if whole_nodes > 0 and free[node] == GPUS_PER_NODE and node != piece:
            cluster.whole[node] = row
            free[node] = 0
            whole_nodes -= 1
    if piece >= 0:
        free[piece] -= rest
        cluster.part_node[row] = piece
    cluster.part_gpus[row] = rest
    return True


@njit(cache=True)
def release(cluster: Cluster, row: int, gpus: int) -> None:
    """Give back what ``place`` took."""
    if gpus > GPUS_PER_NODE:
        for node in range(len(cluster.free)):
            if cluster.whole[node] == row:
                cluster.whole[node] = -1
                cluster.free[node] = GPUS_PER_NODE
    if cluster.part_gpus[row] > 0:
        cluster.free[cluster.part_node[row]] += cluster.part_gpus[row]


class Jobs(NamedTuple):
    """The jobs of a virtual cluster, (J,) each."""

    submit: IntArray  # sorted
    duration: IntArray
    gpus: IntArray  # each at most what the cluster's nodes hold


class State(NamedTuple):
    """Jobs of a virtual cluster and the two lists that they are in; (J,) each but ``num``."""

    submit: IntArray
    gpus: IntArray
    key: IntArray  # of pending jobs, least first
    tie: IntArray  # second key
    start: IntArray  # first start, −1 before
    end: IntArray  # the tick at which it ends or has ended, −1 while it is pending
    queued: IntArray  # seconds waited, summed over attempts
    preemptions: IntArray
    remaining: IntArray  # while pending: run time left, with overheads
    attained: IntArray  # while pending: GPU-seconds used
    since: IntArray  # last start if running, last preemption if pending
    pending: IntArray  # ``pending[:num[PENDING]]`` sorted by (key, tie), among equals in the order of queueing
    running: IntArray  # ``running[:num[RUNNING]]`` in the order of starting
    num: IntArray  # (2,)


@njit(cache=True)
def new_state(jobs: Jobs, key: IntArray, tie: IntArray) -> State:
    """Nothing submitted yet; ``key`` is copied because preemptions change it."""
    count = len(jobs.submit)
    return State(
        jobs.submit,
        jobs.gpus,
        key.copy(),
        tie,
        np.full(count, -1, np.int64),
        np.full(count, -1, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        jobs.duration.copy(),
        np.zeros(count, np.int64),
        jobs.submit.copy(),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.zeros(2, np.int64),
    )


@njit(cache=True)
def insert(state: State, length: int, row: int, key: IntArray, tie: IntArray) -> None:
    """Insert ``row`` into ``pending[:length]``, sorted by (key, tie), behind its equals."""
    rows = state.pending
    low, high = 0, length
    while low < high:
        middle = (low + high) // 2
        other = rows[middle]
        if key[other] < key[row] or (key[other] == key[row] and tie[other] <= tie[row]):
            low = middle + 1
        else:
            high = middle
    for i in range(length, low, -1):
        rows[i] = rows[i - 1]
    rows[low] = row


@njit(cache=True)
def enqueue(state: State, row: int) -> None:
    """``row`` becomes pending."""
    insert(state, state.num[PENDING], row, state.key, state.tie)
    state.num[PENDING] += 1


@njit(cache=True)
def next_instant(state: State, arrived: int, other: int) -> int:
    """The earliest of the next submission, the next end and ``other``."""
    now = other
    if arrived < len(state.submit):
        now = min(now, state.submit[arrived])
    for i in range(state.num[RUNNING]):
        now = min(now, state.end[state.running[i]])
    return now


@njit(cache=True)
def finish(state: State, cluster: Cluster, now: int) -> int:
    """Release the jobs that end now; returns how many."""
    kept = 0
    for i in range(state.num[RUNNING]):
        row = state.running[i]
        if state.end[row] == now:
            release(cluster, row, state.gpus[row])
        else:
            state.running[kept] = row
            kept += 1
    ended: int = state.num[RUNNING] - kept
    state.num[RUNNING] = kept
    return ended


@njit(cache=True)
def begin(state: State, row: int, now: int, ticks: int) -> None:
    """The placed ``row`` runs for ``ticks`` from now on; it is still to be taken out of ``pending``."""
    if state.start[row] < 0:
        state.start[row] = now
    state.queued[row] += now - state.since[row]
    state.since[row] = now
    state.end[row] = now + ticks
    state.running[state.num[RUNNING]] = row
    state.num[RUNNING] += 1


@njit(cache=True)
def drop_first(state: State, count: int) -> None:
    """Take the first ``count`` rows out of ``pending``."""
    length = state.num[PENDING] - count
    for i in range(length):
        state.pending[i] = state.pending[i + count]
    state.num[PENDING] = length


@njit(cache=True)
def run_to_completion(jobs: Jobs, key: IntArray, num_nodes: int, qssf: bool) -> State:
    """FIFO, SJF and QSSF: strict order by ``key``, and the first job that does not fit stops the rest.

    Args:
        jobs: The jobs; every run time is at least 1.
        key: (J,) submit time, run time, or QSSF's priority.
        num_nodes: Nodes of the virtual cluster.
        qssf: Whether equal keys stand in the order of their GPUs, and jobs that come to an empty queue have no key
            until the next tick.
    """
    count = len(jobs.submit)
    cluster = new_cluster(num_nodes, count)
    nothing = np.zeros(count, np.int64)
    state = new_state(jobs, key, jobs.gpus if qssf else nothing)
    arrived = done = 0
    rank = NEVER  # the tick at which waiting jobs without a key get one
    while done < count:
        now = next_instant(state, arrived, rank)
        done += finish(state, cluster, now)
        if rank == now:
            waiting = state.pending[: state.num[PENDING]].copy()
            for i in range(len(waiting)):
                insert(state, i, waiting[i], state.key, state.tie)
        rank = NEVER
        unranked = qssf and state.num[PENDING] == 0
        while arrived < count and jobs.submit[arrived] == now:
            if unranked:
                insert(state, state.num[PENDING], arrived, jobs.gpus, nothing)
                state.num[PENDING] += 1
            else:
                enqueue(state, arrived)
            arrived += 1
        started = 0
        while started < state.num[PENDING]:
            row = state.pending[started]
            if not place(cluster, row, jobs.gpus[row]):
                break
            begin(state, row, now, jobs.duration[row])
            started += 1
        drop_first(state, started)
        if unranked and state.num[PENDING] > 0:
            rank = now + 1
    return state


@njit(cache=True)
def run_preempting(jobs: Jobs, num_nodes: int, tiresias: bool) -> State:
    """SRTF and Tiresias; arguments as above, but run times may be 0.

    A run of *d* seconds ends d + 1 ticks after its start. At a decision the jobs, in order, share a quota of all GPUs:
    a running job outside it is preempted, a pending one inside it is started where it can be placed.
    """
    count = len(jobs.submit)
    cluster = new_cluster(num_nodes, count)
    state = new_state(jobs, jobs.submit if tiresias else jobs.duration, np.zeros(count, np.int64))
    arrived = done = 0
    decision = NEVER  # Tiresias: the next full minute at which the order may have changed
    while done < count:
        now = next_instant(state, arrived, decision)
        done += finish(state, cluster, now)
        while arrived < count and jobs.submit[arrived] == now:
            enqueue(state, arrived)
            arrived += 1
        if not tiresias:
            decide(state, cluster, now, tiresias)
        elif now % DECISION_PERIOD_S == 0:
            decide(state, cluster, now, tiresias)
            decision = next_demotion(state, now)
        else:
            decision = min(decision, next_decision(now))
    return state


@njit(cache=True)
def next_decision(time: int) -> int:
    """The first full minute from ``time`` on."""
    return -(-time // DECISION_PERIOD_S) * DECISION_PERIOD_S


@njit(cache=True)
def attained_now(state: State, row: int, now: int) -> int:
    """GPU-seconds that a running job has used."""
    attained: int = state.attained[row] + state.gpus[row] * (now - state.since[row])
    return attained


@njit(cache=True)
def tiresias_key(state: State, row: int, attained: int) -> int:
    """Sort key: submit time within the high queue, then within the low one."""
    key: int = state.submit[row] + (LOW_QUEUE if attained > SERVICE_THRESHOLD else 0)
    return key


@njit(cache=True)
def next_demotion(state: State, now: int) -> int:
    """The first decision after ``now`` at which a running job has passed Tiresias's threshold; NEVER without one."""
    first = NEVER
    for i in range(state.num[RUNNING]):
        row = state.running[i]
        spare = SERVICE_THRESHOLD - attained_now(state, row, now)
        if spare >= 0 and state.gpus[row] > 0:
            first = min(first, now + spare // state.gpus[row] + 1)
    return next_decision(first) if first < NEVER else NEVER


@njit(cache=True)
def decide(state: State, cluster: Cluster, now: int, tiresias: bool) -> None:
    """One decision: preempt the running jobs outside the quota, then start pending ones inside it."""
    running = state.running[: state.num[RUNNING]].copy()
    running_key = np.empty(len(running), np.int64)
    for i in range(len(running)):
        if tiresias:
            running_key[i] = tiresias_key(state, running[i], attained_now(state, running[i], now))
        else:
            running_key[i] = state.end[running[i]] - 1 - now
    sort_by_key(running, running_key)
    quota = GPUS_PER_NODE * len(cluster.free)
    chosen, victims = share_quota(state, running, running_key, quota, tiresias)
    for i in range(len(victims)):
        preempt(state, cluster, victims[i], now, tiresias)
    start_chosen(state, cluster, chosen, now)


@njit(cache=True)
def share_quota(
    state: State, running: IntArray, running_key: IntArray, quota: int, running_first: bool
) -> tuple[IntArray, IntArray]:
    """Pending rows inside the quota and running rows outside it, each in order of their keys.

    ``running`` is sorted by ``running_key``; ``running_first`` says which goes first among equal keys.
    """
    num_pending = state.num[PENDING]
    chosen = np.empty(num_pending, np.int64)
    victims = np.empty(len(running), np.int64)
    num_chosen = num_victims = p = r = 0
    while p < num_pending or r < len(running):
        take_pending = r == len(running)
        if not take_pending and p < num_pending:
            ahead = running_key[r] - state.key[state.pending[p]]
            take_pending = ahead > 0 or (ahead == 0 and not running_first)
        if take_pending:
            row = state.pending[p]
            p += 1
        else:
            row = running[r]
            r += 1
        fits = state.gpus[row] <= quota
        if fits:
            quota -= state.gpus[row]
        if take_pending and fits:
            chosen[num_chosen] = row
            num_chosen += 1
        elif not take_pending and not fits:
            victims[num_victims] = row
            num_victims += 1
    return chosen[:num_chosen], victims[:num_victims]


@njit(cache=True)
def preempt(state: State, cluster: Cluster, row: int, now: int, tiresias: bool) -> None:
    """Put a running job back into the queue, behind its equals, with the overhead added to its remaining time."""
    overhead = SHORT_OVERHEAD_S if state.gpus[row] <= GPUS_PER_NODE else LONG_OVERHEAD_S
    state.remaining[row] = state.end[row] - 1 - now + overhead
    state.attained[row] = attained_now(state, row, now)
    state.end[row] = -1
    state.preemptions[row] += 1
    state.since[row] = now
    release(cluster, row, state.gpus[row])
    state.key[row] = tiresias_key(state, row, state.attained[row]) if tiresias else state.remaining[row]
    enqueue(state, row)
    kept = 0
    for i in range(state.num[RUNNING]):
        if state.running[i] != row:
            state.running[kept] = state.running[i]
            kept += 1
    state.num[RUNNING] = kept


@njit(cache=True)
def start_chosen(state: State, cluster: Cluster, chosen: IntArray, now: int) -> None:
    """Start those of ``chosen``, in their order, that can be placed; the quota does not know of fragmentation."""
    any_started = False
    for i in range(len(chosen)):
        row = chosen[i]
        if place(cluster, row, state.gpus[row]):
            begin(state, row, now, state.remaining[row] + 1)
            any_started = True
    if not any_started:
        return
    kept = 0
    for i in range(state.num[PENDING]):
        row = state.pending[i]
        if state.end[row] < 0:
            state.pending[kept] = row
            kept += 1
    state.num[PENDING] = kept
