"""How much of a node's free GPU capacity the usual tasks cannot use: the fragmentation of FGD.

A node's fragmentation against one task is all its free GPU capacity when the task cannot run there (wrong GPU model,
too few CPUs, too few GPUs with enough left), else the sum of what is free on the GPUs that are too full for it. Against
a workload it is the mean over the typical tasks, weighted by how common each is; a task without GPUs leaves all of the
free GPU capacity unused. Fragmentation gradient descent puts a task where this grows least.

Source: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent",
USENIX ATC 2023, section 3. Amounts are milli-CPU and milli-GPU; memory does not count.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.types import BoolArray, FloatArray, Int, IntArray

WHOLE_GPU = 1000
"""Milli-GPU of a GPU that nobody uses."""


class Typical(NamedTuple):
    """The tasks that stand for a workload, and room to count the GPUs of one node in.

    Attributes:
        cpu: (T,) milli-CPU.
        gpus: (T,) number of GPUs; 0 without.
        weight: (T,) how common the task is; they sum to 1.
        allowed: (T, C) whether the task may use nodes of a class.
        level: (T,) entry of ``shares``.
        shares: (L,) the different milli-GPU that tasks ask for on each of their GPUs, 1000 for whole ones.
        usable: (L,) scratch: GPUs with at least that much free.
        too_full: (L,) scratch: free milli-GPU of the other GPUs.
    """

    cpu: IntArray
    gpus: IntArray
    weight: FloatArray
    allowed: BoolArray | IntArray
    level: IntArray
    shares: IntArray
    usable: IntArray
    too_full: IntArray


def make_typical(*, cpu: IntArray, share: IntArray, gpus: IntArray, weight: FloatArray, allowed: BoolArray) -> Typical:
    """Typical tasks from what each asks for.

    Args:
        cpu: (T,) milli-CPU.
        share: (T,) milli-GPU on each of its GPUs, 1000 for whole ones; 0 without GPUs.
        gpus: (T,) number of GPUs.
        weight: (T,) how common the task is; the fragmentation is in proportion to their sum, so that should be 1.
        allowed: (T, C) whether the task may use nodes of a class.
    """
    shares, level = np.unique(share, return_inverse=True)
    return Typical(
        cpu=cpu,
        gpus=np.where(share == 0, 0, gpus),
        weight=weight,
        allowed=np.ascontiguousarray(allowed),
        level=level.astype(np.int64),
        shares=shares,
        usable=np.zeros(len(shares), dtype=np.int64),
        too_full=np.zeros(len(shares), dtype=np.int64),
    )


@compiled
def fragmentation(typical: Typical, free_cpu: Int, free_gpu: IntArray, num_gpus: Int, node_class: Int) -> float:
    """Free milli-GPU of a node that the typical tasks cannot use, on average.

    Args:
        typical: The tasks that stand for the workload.
        free_cpu: Free milli-CPU.
        free_gpu: (G,) free milli-GPU of each GPU; entries from ``num_gpus`` on do not count.
        num_gpus: GPUs of the node.
        node_class: Column of ``typical.allowed``.

    Cost: O(L G + T).
    """
    return counted_fragmentation(typical, free_cpu, count_gpus(typical, free_gpu, num_gpus), node_class)


@compiled
def count_gpus(typical: Typical, free_gpu: IntArray, num_gpus: Int) -> Int:
    """Count the GPUs of a node by what tasks ask for, into ``typical``; returns their free milli-GPU."""
    for level in range(len(typical.shares)):
        typical.usable[level] = 0
        typical.too_full[level] = 0
    idle = 0
    for g in range(num_gpus):
        count_gpu(typical, free_gpu[g], 1)
        idle += free_gpu[g]
    return idle


@compiled
def count_gpu(typical: Typical, free: Int, sign: Int) -> None:
    """Count a GPU with ``free`` milli-GPU in (``sign`` 1) or out (−1)."""
    for level in range(len(typical.shares)):
        if free >= typical.shares[level]:
            typical.usable[level] += sign
        else:
            typical.too_full[level] += sign * free


@compiled
def counted_fragmentation(typical: Typical, free_cpu: Int, idle: Int, node_class: Int) -> float:
    """As ``fragmentation``, of a node whose GPUs have been counted and have ``idle`` milli-GPU free.

    The six reasons are summed one by one and then together, in the authors' order: FGD compares scores that are cut to
    whole points, so the last bit of a sum can decide where a task goes.
    """
    lacks_both = lacks_gpu = lacks_cpu = without_gpu = without_gpu_lacks_cpu = no_access = 0.0
    for t in range(len(typical.weight)):
        lost = typical.weight[t] * idle
        enough_cpu = free_cpu >= typical.cpu[t]
        if typical.gpus[t] == 0:
            if enough_cpu:
                without_gpu += lost
            else:
                without_gpu_lacks_cpu += lost
        elif not typical.allowed[t, node_class]:
            no_access += lost
        elif typical.usable[typical.level[t]] < typical.gpus[t]:
            if enough_cpu:
                lacks_gpu += lost
            else:
                lacks_both += lost
        elif enough_cpu:
            lacks_gpu += typical.weight[t] * typical.too_full[typical.level[t]]
        else:
            lacks_cpu += lost
    return lacks_both + lacks_gpu + lacks_cpu + without_gpu + without_gpu_lacks_cpu + no_access


@compiled
def gradient_points(before: float, after: float) -> float:
    """Points of a placement that takes a node's fragmentation from ``before`` to ``after`` (milli-GPU): 0 to 100.

    50 when it does not change, more when it falls: the logistic function of the difference in GPUs.
    """
    return 100.0 * (1.0 / (1.0 + math.exp(-((before - after) / WHOLE_GPU))))
