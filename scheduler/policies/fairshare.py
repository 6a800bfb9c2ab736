"""Order by how little the user has had lately."""

from __future__ import annotations

from collections.abc import Mapping

from shunter.scheduler.fairshare import fair_share_factor
from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.types import FloatArray


def fairshare(view: QueueView, _: Mapping[str, float]) -> FloatArray:
    """Least decayed usage first. Kay & Lauder, A fair share scheduler, CACM 31(1), 1988; decay as in Slurm."""
    return -fair_share_factor(view.usage_s, view.jobs.user_idx)
