"""Elastic jobs: how many GPUs each gets when the job runs on any number between its minimum and its maximum.

Owns speed-up curves (arrays that say how much faster a job runs on *g* GPUs than on one) and the division of a number
of GPUs among jobs by marginal gain. Batch sizes are left alone: the gain is throughput, not the goodput of Pollux and
Sia, which adapt the batch size as well. Curves are concave, so taking the GPUs one by one, each for the job that gains
most, gives the largest weighted sum of speed-ups.
Sources: Qiao et al., OSDI 2021 (Pollux); Subramanya et al., SOSP 2023 (Sia); Gu et al., ASPLOS 2023 (ElasticFlow).
"""

from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import allocating
from shunter.scheduler.types import FloatArray, IntArray

CONCAVE_SLACK = 1e-9
"""Rounding that a curve may show and still count as concave."""


def concave_curve(gpus: IntArray, rate: FloatArray, size: int) -> FloatArray:
    """A speed-up curve through measurements, made monotone and concave.

    In this order: a speed-up above the number of GPUs counts as that number (measured superlinear scaling is an
    artefact of small batches on one GPU); more GPUs than are useful may stand idle, so the best rate so far counts; the
    least concave curve that lies nowhere below the points takes their place. Between points the curve is a straight
    line, beyond the last one it is flat.

    Args:
        gpus: (P,) increasing numbers of GPUs, the first of them 1.
        rate: (P,) work per second on as many, in any unit, > 0.
        size: Largest number of GPUs of the result.

    Returns:
        (size + 1,) speed-up on 0, 1, …, ``size`` GPUs; entry 0 is 0 and entry 1 is 1.

    Raises:
        ValueError: The measurements do not start at one GPU, do not increase, or hold a rate that is not positive.
    """
    if len(gpus) == 0 or gpus[0] != 1 or np.any(np.diff(gpus) <= 0):
        raise ValueError(f"numbers of GPUs have to increase and start at 1, got {gpus.tolist()}")
    if not np.all(np.isfinite(rate)) or np.any(rate <= 0):
        raise ValueError(f"rates have to be positive, got {rate.tolist()}")
    points_x = np.concatenate([[0], gpus]).astype(np.float64)
    speed_up = np.minimum(np.maximum.accumulate(rate) / rate[0], gpus)
    points_y = np.concatenate([[0.0], speed_up])
    hull = _upper_hull(points_x, points_y)
    curve: FloatArray = np.interp(np.arange(size + 1), points_x[hull], points_y[hull])
    return curve


def _upper_hull(x: FloatArray, y: FloatArray) -> IntArray:
    """Indices of the corners of the least concave curve above points with increasing ``x``."""
    corners: list[int] = []
    for i in range(len(x)):
        while len(corners) >= 2:
            a, b = corners[-2], corners[-1]
            if (y[b] - y[a]) * (x[i] - x[b]) > (y[i] - y[b]) * (x[b] - x[a]):
                break
            corners.pop()
        corners.append(i)
    return np.array(corners, dtype=np.int64)


def amdahl_curve(parallel_ratio: float, size: int) -> FloatArray:
    """(size + 1,) speed-ups by Amdahl's law: 1 / (1 − p + p/g) on *g* GPUs, p = ``parallel_ratio`` in [0, 1].

    Raises:
        ValueError: The ratio lies outside [0, 1].
    """
    if not 0.0 <= parallel_ratio <= 1.0:
        raise ValueError(f"the parallel part has to lie between 0 and 1, got {parallel_ratio}")
    gpus = np.arange(1, size + 1, dtype=np.float64)
    return np.concatenate([[0.0], 1.0 / (1.0 - parallel_ratio + parallel_ratio / gpus)])


def amdahl_ratio(gpus: IntArray, speed_up: FloatArray) -> float:
    """The parallel part p in [0, 1] for which Amdahl's law fits best: least squares of log speed-up.

    The law in 1/s = 1 − p·(1 − 1/g) is linear in p; logarithms weigh all sizes alike, so p is found by a search over a
    grid of 1e-4, which is finer than any measurement.

    Args:
        gpus: (P,) numbers of GPUs.
        speed_up: (P,) measured speed-ups, > 0.
    """
    grid = np.linspace(0.0, 1.0, 10_001)
    inverse = 1.0 - grid[:, None] * (1.0 - 1.0 / gpus[None, :])
    misfit = np.sum((np.log(inverse) + np.log(speed_up)) ** 2, axis=1)
    return float(grid[int(np.argmin(misfit))])


def share_by_marginal_gain(
    min_gpus: IntArray,
    max_gpus: IntArray,
    curve_idx: IntArray,
    curves: FloatArray,
    total_gpus: int,
    weights: FloatArray,
) -> IntArray:
    """Divide GPUs among elastic jobs: everyone's minimum in order, the rest one by one to the largest gain.

    A job whose minimum no longer fits gets nothing, and the jobs after it are still served. The gain of one more GPU is
    ``weight · (curve[g + 1] − curve[g])``; equal gains go to the earlier job. A GPU that gains nobody anything stays
    free.

    Args:
        min_gpus: (J,) least number of GPUs on which a job runs, ≥ 1; the rows are in the order of service.
        max_gpus: (J,) largest useful number, ≥ the minimum.
        curve_idx: (J,) row of ``curves``.
        curves: (K, G + 1) concave speed-ups on 0 … G GPUs.
        total_gpus: GPUs to be divided.
        weights: (J,) importance of a job's speed-up, > 0.

    Returns:
        (J,) GPUs of each job: 0, or between its minimum and its maximum.

    Raises:
        ValueError: A minimum below 1 or above its maximum, a weight that is not positive, a curve that does not exist,
            is not concave or is shorter than a maximum, or a negative number of GPUs.

    Cost: O((J + GPUs) log J).
    """
    _check(min_gpus, max_gpus, curve_idx, curves, total_gpus, weights)
    return _share(
        np.ascontiguousarray(min_gpus, dtype=np.int64),
        np.ascontiguousarray(max_gpus, dtype=np.int64),
        np.ascontiguousarray(curve_idx, dtype=np.int64),
        np.ascontiguousarray(curves, dtype=np.float64),
        int(total_gpus),
        np.ascontiguousarray(weights, dtype=np.float64),
    )


def _check(
    min_gpus: IntArray,
    max_gpus: IntArray,
    curve_idx: IntArray,
    curves: FloatArray,
    total_gpus: int,
    weights: FloatArray,
) -> None:
    """Refuse what would give a wrong division without notice."""
    bad = np.flatnonzero((min_gpus < 1) | (max_gpus < min_gpus))
    if len(bad):
        job = int(bad[0])
        raise ValueError(f"job {job}: expected 1 <= min_gpus <= max_gpus, got {min_gpus[job]} and {max_gpus[job]}")
    if total_gpus < 0:
        raise ValueError(f"expected a number of GPUs of at least 0, got {total_gpus}")
    if np.any(~(weights > 0)):
        raise ValueError("weights have to be positive")
    if len(curve_idx) and (curve_idx.min() < 0 or curve_idx.max() >= len(curves)):
        raise ValueError(f"curve_idx has to lie between 0 and {len(curves) - 1}")
    if len(max_gpus) and max_gpus.max() >= curves.shape[1]:
        raise ValueError(f"curves end at {curves.shape[1] - 1} GPUs, a job may take {max_gpus.max()}")
    rows = np.flatnonzero(np.any(np.diff(curves, n=2, axis=1) > CONCAVE_SLACK, axis=1))
    if len(rows):
        raise ValueError(f"curve {rows[0]} is not concave, so one GPU at a time would not give the best division")


@allocating
def _share(
    min_gpus: IntArray,
    max_gpus: IntArray,
    curve_idx: IntArray,
    curves: FloatArray,
    total_gpus: int,
    weights: FloatArray,
) -> IntArray:
    """The division itself: a heap of jobs by the gain of their next GPU, the earlier job first among equals."""
    num_jobs = len(min_gpus)
    shares = np.zeros(num_jobs, dtype=np.int64)
    left = total_gpus
    gain = np.empty(num_jobs, dtype=np.float64)
    heap = np.empty(num_jobs, dtype=np.int64)
    size = 0
    for job in range(num_jobs):
        if min_gpus[job] > left:
            continue
        shares[job] = min_gpus[job]
        left -= min_gpus[job]
        if shares[job] < max_gpus[job]:
            curve = curves[curve_idx[job]]
            gain[job] = weights[job] * (curve[shares[job] + 1] - curve[shares[job]])
            heap[size] = job
            size += 1
    for root in range(size // 2 - 1, -1, -1):
        _sift(heap, gain, root, size)
    while left > 0 and size > 0:
        job = heap[0]
        if gain[job] <= 0.0:
            break
        shares[job] += 1
        left -= 1
        if shares[job] < max_gpus[job]:
            curve = curves[curve_idx[job]]
            gain[job] = weights[job] * (curve[shares[job] + 1] - curve[shares[job]])
        else:
            size -= 1
            heap[0] = heap[size]
        _sift(heap, gain, 0, size)
    return shares


@allocating
def _sift(heap: IntArray, gain: FloatArray, root: int, size: int) -> None:
    """Let the entry at ``root`` sink until no child has a larger gain, or an equal one and an earlier job."""
    entry = heap[root]
    while 2 * root + 1 < size:
        child = 2 * root + 1
        if child + 1 < size:
            a, b = heap[child], heap[child + 1]
            if gain[b] > gain[a] or (gain[b] == gain[a] and b < a):
                child += 1
        other = heap[child]
        if gain[entry] > gain[other] or (gain[entry] == gain[other] and entry < other):
            break
        heap[root] = other
        root = child
    heap[root] = entry
