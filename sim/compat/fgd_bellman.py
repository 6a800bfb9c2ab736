"""The other measure of fragmentation that the authors' simulator logs: what is lost once typical pods fill a node.

A node that (nearly) no typical pod can use has lost all its free GPU capacity; any other loses the mean of what it
loses after each typical pod has been put on it, and all of what is free where a pod does not fit. It never steers a
placement.

The original remembers the loss by what is free on a node and leaves out paths so unlikely that less than a milli-GPU
is at stake; what it remembers therefore depends on which node leads there first. The order here is the same, so the
values are too. Plain Python: 10,866 events of openb take 18 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.types import IntArray
from shunter.sim.compat.fgd import FgdRun, typical_pods
from shunter.sim.compat.fgd_files import WHOLE_GPU_MILLI, FgdNodes, FgdPods

if TYPE_CHECKING:
    from shunter.scheduler.kernels.fragmentation import Typical

LOST_FROM = 0.999
"""Share of typical pods from which on a node that they cannot use counts as lost."""

MOST_GPUS = 8
"""GPUs that the original tells apart when it remembers a node."""

Pod = tuple[int, int, int, float]
"""CPU, milli-GPU on each GPU, GPUs and weight of a typical pod."""


class Bellman:
    """The loss of nodes, remembered for as long as the object lives."""

    def __init__(self, typical: Typical) -> None:
        share = typical.shares[typical.level]
        self._pods: list[Pod] = list(
            zip(typical.cpu.tolist(), share.tolist(), typical.gpus.tolist(), typical.weight.tolist(), strict=True)
        )
        self._allowed = typical.allowed
        self._lost: dict[tuple[int, tuple[int, ...], int], float] = {}

    def loss(self, free_cpu: int, free_gpu: tuple[int, ...], node_class: int, likely: float = 1.0) -> float:
        """Milli-GPU that a node loses in the end.

        Args:
            free_cpu: Free milli-CPU.
            free_gpu: Free milli-GPU of each GPU.
            node_class: Column of the typical pods' allowed classes.
            likely: Probability of the path that led here.
        """
        key = (free_cpu, tuple(sorted((*free_gpu, *([0] * (MOST_GPUS - len(free_gpu)))), reverse=True)), node_class)
        known = self._lost.get(key)
        if known is not None:
            return known
        idle = sum(free_gpu)
        if idle * likely < 1:
            return 0.0
        if self._unusable(free_cpu, free_gpu, node_class) < LOST_FROM:
            lost = 0.0
            for pod in self._pods:
                left = gpus_after(free_cpu, free_gpu, pod)
                if left is None:
                    lost += idle * pod[3]
                else:
                    lost += self.loss(free_cpu - pod[0], left, node_class, likely * pod[3]) * pod[3]
        else:
            lost = float(idle)
        self._lost[key] = lost
        return lost

    def _unusable(self, free_cpu: int, free_gpu: tuple[int, ...], node_class: int) -> float:
        """Share of the typical pods that cannot use any GPU of a node; those without GPUs never do."""
        shares = [0.0] * 6  # reason by reason and then together, as the original adds them up
        for (cpu, share, gpus, weight), allowed in zip(self._pods, self._allowed[:, node_class].tolist(), strict=True):
            if gpus == 0:
                shares[3 if free_cpu >= cpu else 4] += weight
            elif not allowed:
                shares[5] += weight
            elif sum(free >= share for free in free_gpu) < gpus:
                shares[1 if free_cpu >= cpu else 0] += weight
            elif free_cpu < cpu:
                shares[2] += weight
        return sum(shares)


def gpus_after(free_cpu: int, free_gpu: tuple[int, ...], pod: Pod) -> tuple[int, ...] | None:
    """What is free on the GPUs when a pod takes the fullest ones that have room; None when it does not fit."""
    cpu, share, wanted, _ = pod
    if free_cpu < cpu or len(free_gpu) < wanted:
        return None
    left = list(free_gpu)
    for gpu in sorted(range(len(left)), key=left.__getitem__):
        if wanted == 0:
            break
        if left[gpu] >= share:
            left[gpu] -= share
            wanted -= 1
    return tuple(left) if wanted == 0 else None


def losses(pods: FgdPods, nodes: FgdNodes, run: FgdRun, order: IntArray) -> Iterator[float]:
    """Milli-GPU that the cluster loses in the end, after each pod of a run.

    Args:
        pods: The list of pods.
        nodes: The cluster.
        run: Who was placed where.
        order: (N,) rows of the nodes in the order in which they are looked at.
    """
    classes = sorted(set(nodes.models))
    bellman = Bellman(typical_pods(pods, classes))
    node_class = [classes.index(model) for model in nodes.models]
    free_cpu = nodes.cpu_milli.tolist()
    free_gpu = [(WHOLE_GPU_MILLI,) * gpus for gpus in nodes.gpus.tolist()]
    lost: dict[int, float] = {}
    for row, node, holds in zip(pods.shape_idx[run.pod].tolist(), run.node.tolist(), run.holds, strict=True):
        if node >= 0:
            free_cpu[node] -= int(pods.cpu_milli[row])
            held = holds[: len(free_gpu[node])] * pods.share_milli[row]
            free_gpu[node] = tuple((np.array(free_gpu[node]) - held).tolist())
            lost.pop(node, None)
        for n in order.tolist():
            if n not in lost:
                lost[n] = bellman.loss(free_cpu[n], free_gpu[n], node_class[n])
        yield sum(lost.values())
