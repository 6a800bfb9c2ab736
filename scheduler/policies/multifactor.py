"""Slurm's multifactor priority: a weighted sum of age, size, fair share, quality of service and partition."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shunter.scheduler.fairshare import fair_share_factor
from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.types import FloatArray

PARAMETERS = {"age": 1000.0, "size": 1000.0, "fairshare": 10000.0, "qos": 1000.0, "partition": 0.0, "max_age_days": 7.0}
"""Weights, and the age at which the age factor reaches 1 (Slurm's PriorityMaxAge)."""


def multifactor(view: QueueView, parameters: Mapping[str, float]) -> FloatArray:
    """Weighted sum of age, size, fair share, quality of service and partition. Slurm, Multifactor Priority Plugin.

    ``age·min(wait/max_age, 1) + size·n/N + fairshare·2^(−usage/share) + qos·q + partition·p``, where q is the job's
    priority over the largest in the queue and p ranks the partitions by name (first is 1). Every user has an equal
    share. Highest first.
    """
    jobs = view.jobs
    age = np.minimum(view.wait_s / (parameters["max_age_days"] * 86400.0), 1.0)
    size = jobs.processors / max(view.total_processors, 1.0)
    most = jobs.priority.max(initial=0.0)
    quality = jobs.priority / most if most > 0 else np.zeros(len(jobs))
    num_queues = int(jobs.queue_idx.max(initial=-1)) + 1
    partition = np.where(jobs.queue_idx < 0, 0.0, 1.0 - jobs.queue_idx / max(num_queues, 1))
    return -(
        parameters["age"] * age
        + parameters["size"] * size
        + parameters["fairshare"] * fair_share_factor(view.usage_s, jobs.user_idx)
        + parameters["qos"] * quality
        + parameters["partition"] * partition
    )
