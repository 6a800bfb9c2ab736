"""How much jobs slow each other down on a shared GPU: pure functions of arrays.

A table holds, for each model class, its speed beside one job of each class, over its speed alone. Beside several jobs
the factors are multiplied: measurements exist for pairs only, and each neighbour takes its part of what is left.
Source of the pairwise form: Hu et al., ASPLOS 2023 (Lucid); Xiao et al., OSDI 2018 (Gandiva) first measured it.
"""

from __future__ import annotations

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray


def fitted_speed(coefficient: float, own_util: FloatArray, other_util: FloatArray) -> FloatArray:
    """Speed of a job beside another over its speed alone: 1 / (1 + c · u · v), in (0, 1].

    Two jobs that keep the GPU busy all the time slow each other by 1 + c; one that leaves it idle most of the time
    neither suffers nor harms much.

    Args:
        coefficient: c ≥ 0, fitted to measurements.
        own_util: GPU utilisation of the job alone, 0 to 1; any shape.
        other_util: GPU utilisation of its neighbour alone; a shape that fits.
    """
    speed: FloatArray = 1.0 / (1.0 + coefficient * own_util * other_util)
    return speed


def shared_speeds(table: FloatArray, class_idx: IntArray, gpu_idx: IntArray) -> FloatArray:
    """Speed of each job on its GPU over its speed alone on that GPU.

    Args:
        table: (M, M) speed in (0, 1] of the row's class beside one job of the column's class.
        class_idx: (J,) class of each job.
        gpu_idx: (J,) GPU on which it runs, ≥ 0; jobs of the same number share one.

    Returns:
        (J,) product over the neighbours; 1 for a job that has its GPU for itself.

    Cost: O(J log J + GPUs in use · M) instead of all pairs.
    """
    if len(class_idx) == 0:
        return np.ones(0)
    _, place = np.unique(gpu_idx, return_inverse=True)
    present = np.zeros((int(place.max()) + 1, len(table)))
    np.add.at(present, (place, class_idx), 1.0)
    slowdown = -np.log(table)
    beside = np.einsum("jm,jm->j", present[place], slowdown[class_idx]) - slowdown[class_idx, class_idx]
    speeds: FloatArray = np.exp(-np.maximum(beside, 0.0))
    return speeds
