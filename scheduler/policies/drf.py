"""Order by dominant share: what a group holds of the resource of which it holds most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.snapshot import JobColumns, QueueView, Snapshot
from shunter.scheduler.types import UNITS_PER, FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.scheduler.capacity import Capacity


def drf(view: QueueView, _: Mapping[str, float]) -> FloatArray:
    """Smallest dominant share of the job's group, or user, first. Ghodsi et al., NSDI 2011.

    The dominant share is the largest share that the group's running jobs hold of any resource, over the group's weight:
    its guaranteed quota, where there are quotas (one GPU for those without). Jobs of the group that are ahead in the
    queue count as held, so that one pass fills the cluster as the paper's algorithm does, task by task. A job without a
    group, or without a quota where there are quotas, belongs to its user.
    """
    return view.shares if len(view.shares) else np.zeros(len(view.jobs))


def dominant_shares(
    columns: JobColumns, units: IntArray, num_running: int, order: IntArray, capacity: Capacity
) -> FloatArray:
    """Weighted dominant share of each waiting job's owner when all its jobs ahead in the queue have started as well.

    Args:
        columns: (J,) jobs: the running ones, then the Q that wait.
        units: (J, R) units that each job holds or asks for.
        num_running: How many of them run.
        order: (Q,) the waiting jobs' places in the order of submission: any numbers that grow along it.
        capacity: What there is.

    Returns:
        (Q,) shares.
    """
    owner = _owners(columns)
    total = np.maximum(capacity.units.sum(axis=1), 1)
    counted = np.asarray(capacity.tracked)
    held = np.zeros((int(owner.max(initial=0)) + 1, units.shape[1]), dtype=np.int64)
    np.add.at(held, owner[:num_running], units[:num_running])
    sequence = np.lexsort((order, owner[num_running:]))
    owners, asked = owner[num_running:][sequence], units[num_running:][sequence]
    before = np.cumsum(asked, axis=0) - asked
    first = np.searchsorted(owners, owners)  # where each owner's jobs begin
    share = np.where(counted, (held[owners] + before - before[first]) / total, 0.0)
    dominant = np.empty(len(sequence))
    dominant[sequence] = share.max(axis=1, initial=0.0)
    return dominant / _weights(columns, capacity)[num_running:]


def shares_of(snapshot: Snapshot) -> FloatArray:
    """(Q,) dominant shares for the waiting jobs of a snapshot."""
    demand = snapshot.demand
    units = demand.tasks[:, None] * demand.shapes[demand.shape_idx]
    waiting = snapshot.rows[snapshot.num_running :]
    return dominant_shares(snapshot.columns, units, snapshot.num_running, waiting, snapshot.capacity)


def _owners(columns: JobColumns) -> IntArray:
    """(J,) a number for each job's group, or else for its user; all unknown users are one."""
    num_groups = int(columns.group_idx.max(initial=-1)) + 1
    owner = np.where(columns.group_idx >= 0, columns.group_idx, num_groups + 1 + columns.user_idx)
    found: IntArray = np.unique(owner, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return found


def _weights(columns: JobColumns, capacity: Capacity) -> FloatArray:
    """(J,) weight of each job's owner: its guarantee over the cluster, or that of one GPU; 1 without quotas."""
    if capacity.quotas is None:
        return np.ones(len(columns))
    scarce = capacity.scarce
    least = UNITS_PER[scarce]
    guaranteed = np.append(np.maximum(capacity.quotas.guaranteed, least), least)
    weights: FloatArray = guaranteed[columns.group_idx] / max(int(capacity.units[scarce].sum()), 1)
    return weights
