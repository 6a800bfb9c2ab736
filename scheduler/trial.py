"""A state of its own made from a snapshot: what a plan is tried on, so that the live state stays as it is."""

from __future__ import annotations

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.snapshot import Snapshot
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import FloatArray, IntArray


def state_of_snapshot(
    snapshot: Snapshot,
    *,
    score: FloatArray,
    backfill: str,
    placement: str,
    depth: int,
    locality_s: float = 0.0,
    strict: bool = False,
) -> ClusterState:
    """A state of its own to try a decision on; its rows are 0..J in the order of ``snapshot.rows``.

    Args:
        snapshot: What is known.
        score: (Q,) policy scores of the waiting jobs.
        backfill: A name of ``BACKFILLS``.
        placement: A name of ``PLACEMENTS``.
        depth: See ``ClusterState``.
        locality_s: See ``ClusterState``.
        strict: See ``ClusterState``.
    """
    num_running = snapshot.num_running
    scores = np.concatenate([np.zeros(num_running), score])
    state = ClusterState(
        capacity=snapshot.capacity,
        demand=snapshot.demand,
        columns=snapshot.columns,
        score=scores,
        backfill=backfill,
        placement=placement,
        depth=depth,
        locality_s=locality_s,
        seed=snapshot.seed,
        strict=strict,
    )
    state.counters[at.DRAWN] = snapshot.drawn
    state.set_loads(snapshot.node_load)
    state.jobs_f[at.OVERHEAD_S] = snapshot.overhead_s
    state.jobs_f[at.BOUND_S] += snapshot.overhead_s
    state.jobs_i[at.KIND, snapshot.overhead_s > 0] = -1
    for broken in np.flatnonzero(snapshot.lost_gpus):
        state.lose_gpus(int(broken), int(snapshot.lost_gpus[broken]))
    state.node_i[at.OPEN] = ~snapshot.closed
    _run(state, snapshot)
    _let_wait(state, snapshot, score)
    state.counters[at.RELEASED] = int(snapshot.released)
    if backfill == "conservative":
        _promise(state, snapshot.now_s)
    return state


def _run(state: ClusterState, snapshot: Snapshot) -> None:
    """The running jobs, whose rows come first, hold what they hold. No shape is active yet: slots are counted later."""
    from shunter.scheduler import kernels

    num_running = snapshot.num_running
    order = np.argsort(snapshot.alloc_job, kind="stable")
    entries = (snapshot.alloc_job, snapshot.alloc_node, snapshot.alloc_tasks, snapshot.alloc_gpus, snapshot.alloc_slice)
    kernels.hold_all(state.unscored, np.stack(entries)[:, order])
    ends_s = snapshot.expected_end_s
    by_end = np.argsort(ends_s, kind="stable")
    state.jobs_i[at.RUN, :num_running] = by_end
    state.jobs_f[at.RUN_END_S, :num_running] = ends_s[by_end]
    state.counters[at.NUM_RUNNING] = num_running
    state.jobs_f[at.END_S, :num_running] = ends_s
    state.jobs_f[at.START_S, :num_running] = snapshot.started_s
    state.jobs_f[at.RATE, :num_running] = snapshot.rate
    state.jobs_f[at.SINCE_S, :num_running] = snapshot.since_s
    state.jobs_f[at.DONE_S, :num_running] = snapshot.done_s
    state.jobs_i[at.STOPPING, :num_running] = snapshot.stopping
    state.counters[at.NUM_STOPPING] = snapshot.stopping.sum()
    if state.counters[at.LISTED]:
        groups = state.jobs_i[at.GROUP, :num_running]
        np.add.at(state.groups[at.USED], groups[groups >= 0], state.jobs_i[at.SIZE, :num_running][groups >= 0])
        state.counters[at.POWER_USED_W] = state.jobs_i[at.POWER_W, :num_running].sum()


def _let_wait(state: ClusterState, snapshot: Snapshot, score: FloatArray) -> None:
    """The jobs behind the running ones wait, by score and then by row; later columns are of jobs that do not."""
    from shunter.scheduler import kernels

    first, last = snapshot.num_running, len(snapshot.rows)
    queue = first + np.argsort(score[: last - first], kind="stable")
    queue = queue[state.jobs_i[at.TASKS, queue] > 0]  # a rejected job never enters the queue
    state.jobs_i[at.QUEUE, : len(queue)] = queue
    state.counters[at.QUEUE_HI] = len(queue)
    state.shapes[at.WAITING] = np.bincount(state.jobs_i[at.SHAPE, queue], minlength=state.shapes.shape[1])
    kernels.activate_waiting(state.unscored)
    state.jobs_f[at.ENTERED_S, first:] = snapshot.entered_s
    state.jobs_f[at.RESERVED_S, first:] = snapshot.reserved_s


def _promise(state: ClusterState, now_s: float) -> None:
    """The profile of conservative backfilling: what running jobs give back, and what promises to waiting jobs take.

    Sorted and added up in one go; steps at which nothing changes are left out, as where promises are made one by one.
    """
    running, queue = state.running, state.queue
    from_s = state.jobs_f[at.RESERVED_S, queue]
    until_s = from_s + state.jobs_f[at.BOUND_S, queue]
    from_s = np.maximum(from_s, now_s)  # NaN stays
    promised = until_s > from_s
    held, taken = _totals(state, running), _totals(state, queue[promised])
    time_s = np.concatenate([state.jobs_f[at.RUN_END_S, : len(running)], from_s[promised], until_s[promised]])
    order = np.argsort(time_s, kind="stable")
    free = np.column_stack([_free_now(state), np.concatenate([held, -taken, taken], axis=1)[:, order]])
    time_s = np.maximum(np.concatenate([[now_s], time_s[order]]), now_s)
    begins = np.flatnonzero(np.append(True, time_s[1:] != time_s[:-1]))
    change = np.add.reduceat(free, begins, axis=1)
    kept = (change != 0).any(axis=0)
    kept[0] = True
    count = int(kept.sum())
    state.profile_s[:count] = time_s[begins][kept]
    state.profile_free[:, :count] = np.cumsum(change[:, kept], axis=1)
    state.counters[at.PROFILE_LEN] = count


def _totals(state: ClusterState, rows: IntArray) -> IntArray:
    """(R, ·) what jobs take over all their tasks."""
    units: IntArray = state.jobs_i[at.TASKS, rows] * state.need[:, state.jobs_i[at.SHAPE, rows]]
    return units


def _free_now(state: ClusterState) -> IntArray:
    """(R,) free units over the open nodes; a GPU that is shared counts as whole: no one knows which ones will be."""
    free: IntArray = state.node_free[:, state.node_i[at.OPEN] == 1].sum(axis=1)
    if state.counters[at.GPUS] > 0:
        whole = int(state.counters[at.WHOLE_ROW])
        held = _totals(state, state.running).sum(axis=1)
        free[whole] = free[-1] + held[-1] - held[whole]
    return free
