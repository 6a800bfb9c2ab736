"""How evenly a cluster was shared: Jain's index and finish-time fairness.

Pure formulas over arrays. The decayed usage of Slurm's fair share is in ``fairshare``, dominant shares in
``policies.drf``.
"""

from __future__ import annotations

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray

RHO_DEFINITIONS = ("themis", "shockwave")


def jain_index(amounts: FloatArray) -> float:
    """``(Σx)² / (n Σx²)`` of n non-negative amounts: 1 when all are equal (0 included), 1/n when one has everything.

    NaN for no amounts at all.

    Source: Jain, Chiu & Hawe, A quantitative measure of fairness and discrimination for resource allocation in shared
    computer systems, DEC-TR-301, 1984.
    """
    if len(amounts) == 0:
        return float("nan")
    scaled = np.asarray(amounts, dtype=np.float64) / max(float(np.max(amounts)), np.finfo(float).tiny)
    squares = float((scaled**2).sum())
    return float(scaled.sum()) ** 2 / (len(scaled) * squares) if squares > 0 else 1.0


def served_shares(owner_idx: IntArray, received: FloatArray, wanted: FloatArray) -> FloatArray:
    """What each owner (user, group) received of what it wanted, for Jain's index; owners that wanted nothing are out.

    With the GPU-seconds a job ran as ``received`` and its GPUs × completion time as ``wanted``, an owner's share is the
    part of its GPU-time in the system that was execution: between 0 and 1, and not swayed by how much it asked for.
    Jain's index of such normalised throughputs is the one that his paper proposes.

    Args:
        owner_idx: (J,) owner of each job; negative: nobody's, not counted.
        received: (J,) amounts.
        wanted: (J,) amounts.
    """
    known = owner_idx >= 0
    total = np.bincount(owner_idx[known], weights=wanted[known])
    got = np.bincount(owner_idx[known], weights=received[known])
    return got[total > 0] / total[total > 0]


def average_contention(submit_s: FloatArray, end_s: FloatArray, group_idx: IntArray | None = None) -> FloatArray:
    """(J,) time average, over each job's stay from submission to end, of how many jobs were in the system.

    The job counts itself, so the average is at least 1; for a stay of no length it is NaN.

    Args:
        submit_s: (J,) submissions.
        end_s: (J,) ends, ``end_s >= submit_s``.
        group_idx: (J,) count groups with a job in the system instead of jobs.

    Cost: O(J log J).
    """
    begins, ends = (submit_s, end_s) if group_idx is None else _stays_of_groups(submit_s, end_s, group_idx)
    times = np.concatenate([begins, ends])
    order = np.argsort(times, kind="stable")
    times = times[order]
    inside = np.cumsum(np.repeat([1.0, -1.0], [len(begins), len(ends)])[order])
    area = np.concatenate([[0.0], np.cumsum(inside[:-1] * np.diff(times))])[: len(times)]
    stay_s = end_s - submit_s
    total = np.interp(end_s, times, area) - np.interp(submit_s, times, area) if len(times) else stay_s
    return _ratio(total, stay_s)


def finish_time_fairness(
    submit_s: FloatArray,
    end_s: FloatArray,
    exclusive_s: FloatArray,
    gpus: FloatArray,
    total_gpus: float,
    *,
    definition: str = "themis",
    group_idx: IntArray | None = None,
) -> FloatArray:
    """(J,) ρ: completion time in the shared cluster over that on a private 1/n share; above 1 is worse than private.

    ``n`` is the average number of jobs (or groups) in the system during the job's stay, see ``average_contention``.
    The private share is ``total_gpus / n`` GPUs, and nobody waits for it; a job of ``g`` GPUs that runs ``exclusive_s``
    on all of them runs longer in proportion when its share is smaller than ``g``, and no faster when it is larger:

    - ``themis``: ρ = (end − submit) / (exclusive · max(1, n·g / total)). Themis estimates the private time as the time
      on the whole cluster times n, for jobs that scale to any number of GPUs; this is the same for a job of fixed size.
    - ``shockwave``: ρ = (end − submit) / (exclusive · max(1, n / total)): what Shockwave's simulator computes with its
      time-varying contention, in which every job counts as one GPU. Equal to ``themis`` for jobs of one GPU.

    NaN where the completion or the exclusive time is 0.

    Args:
        submit_s: (J,) submissions.
        end_s: (J,) ends.
        exclusive_s: (J,) run time with all GPUs asked for and nobody else.
        gpus: (J,) GPUs asked for (CPUs on a cluster without GPUs).
        total_gpus: GPUs in the cluster.
        definition: One of ``RHO_DEFINITIONS``.
        group_idx: (J,) shares are those of groups instead of jobs: a job is compared with having its group's alone.

    Source: Mahajan et al., Themis: fair and efficient GPU cluster scheduling, NSDI 2020, §3; Zheng et al., Shockwave:
    fair and efficient cluster scheduling for dynamic adaptation in machine learning, NSDI 2023.
    """
    if definition not in RHO_DEFINITIONS:
        raise ValueError(f"finish-time fairness by {definition!r}, expected one of {', '.join(RHO_DEFINITIONS)}")
    size = gpus if definition == "themis" else np.ones(len(gpus))
    contention = average_contention(submit_s, end_s, group_idx)
    private_s = exclusive_s * np.maximum(1.0, contention * size / total_gpus)
    return _ratio(end_s - submit_s, private_s)


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Quotients; NaN where the divisor is 0 or unknown."""
    result = np.full(len(below), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _stays_of_groups(submit_s: FloatArray, end_s: FloatArray, group_idx: IntArray) -> tuple[FloatArray, FloatArray]:
    """Begins and ends of the times in which each group had a job in the system."""
    groups = np.concatenate([group_idx, group_idx])
    times = np.concatenate([submit_s, end_s])
    steps = np.repeat([1, -1], [len(submit_s), len(end_s)])
    order = np.lexsort((-steps, times, groups))
    inside = np.cumsum(steps[order])
    begins = (inside == 1) & (steps[order] == 1)
    ends = inside == 0
    return times[order][begins], times[order][ends]
