"""A state of its own made from a snapshot: what a plan is tried on, so that the live state stays as it is."""

from __future__ import annotations

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.snapshot import Snapshot
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import FloatArray


def state_of_snapshot(
    snapshot: Snapshot,
    *,
    score: FloatArray,
    backfill: str,
    placement: str,
    depth: int,
    locality_s: float = 0.0,
) -> ClusterState:
    """A state of its own to try a decision on; its rows are 0..J in the order of ``snapshot.rows``.

    Args:
        snapshot: What is known.
        score: (Q,) policy scores of the waiting jobs.
        backfill: A name of ``BACKFILLS``.
        placement: A name of ``PLACEMENTS``.
        depth: See ``ClusterState``.
        locality_s: See ``ClusterState``.
    """
    from shunter.scheduler import kernels

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
    )
    state.counters[at.DRAWN] = snapshot.drawn
    state.set_loads(snapshot.node_load)
    packed = state.unscored
    state.jobs_f[at.OVERHEAD_S] = snapshot.overhead_s
    state.jobs_f[at.BOUND_S] += snapshot.overhead_s
    state.jobs_i[at.KIND, snapshot.overhead_s > 0] = -1
    for broken in np.flatnonzero(snapshot.lost_gpus):
        state.lose_gpus(int(broken), int(snapshot.lost_gpus[broken]))
    for i, entries in enumerate(snapshot.entries_of_running()):
        shape = int(snapshot.demand.shape_idx[i])
        state.shapes[at.WAITING, shape] += 1
        state.counters[at.NUM_OUT] = 0
        kernels.activate_shape(packed, shape)
        for node, tasks, mask, first in entries:
            kernels.add_entry(packed, i, node, tasks, mask, first)
            kernels.refresh_node(packed, node)
        kernels.set_running(packed, i, snapshot.started_s[i], 0)
        state.expect_end(i, snapshot.expected_end_s[i])
    state.jobs_f[at.RATE, :num_running] = snapshot.rate
    state.jobs_f[at.SINCE_S, :num_running] = snapshot.since_s
    state.jobs_f[at.DONE_S, :num_running] = snapshot.done_s
    state.jobs_i[at.STOPPING, :num_running] = snapshot.stopping
    state.counters[at.NUM_STOPPING] = snapshot.stopping.sum()
    for closed in np.flatnonzero(snapshot.closed):
        kernels.set_open(packed, int(closed), 0)
    state.absorb(snapshot.now_s, np.zeros(0, dtype=np.int64), 0, num_running, len(snapshot.rows))
    state.jobs_f[at.ENTERED_S, num_running:] = snapshot.entered_s
    state.jobs_f[at.RESERVED_S, num_running:] = snapshot.reserved_s
    state.counters[at.RELEASED] = int(snapshot.released)
    if backfill == "conservative":
        kernels.profile_from_promises(packed, snapshot.now_s)
    return state
