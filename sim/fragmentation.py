"""Fragmentation over time: the free GPU capacity that the usual jobs cannot use, as FGD defines it.

Worked out after a replay from what every attempt held, so that schedules of any placement can be compared.
Source: Weng et al., "Beware of Fragmentation", USENIX ATC 2023; see ``scheduler.kernels.fragmentation``.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.arrays import shape_facts, typical_tasks
from shunter.scheduler.capacity import GPU
from shunter.scheduler.jit import allocating
from shunter.scheduler.kernels.fragmentation import WHOLE_GPU, Typical, fragmentation, make_typical
from shunter.scheduler.types import UNITS_PER, FloatArray, IntArray
from shunter.sim.cluster_arrays import MOST_GPUS_APART
from shunter.sim.workload import Workload

if TYPE_CHECKING:
    import polars as pl


class Fragmentation:
    """The fragmented GPUs of a cluster, followed through what was held; windows in the order of time.

    Nodes that are down count as if they were up and empty.

    Attributes:
        integral: Of the fragmented GPUs over time so far, in GPU-seconds.
        from_s: When the first placement began; −inf before.
        until_s: The last instant so far; −inf before the first.
    """

    def __init__(self, workload: Workload) -> None:
        units = workload.capacity.units
        gpus = units[GPU]
        self._typical = _typical(workload)
        self._num_gpus = gpus // WHOLE_GPU
        self._free_gpu = WHOLE_GPU * (np.arange(gpus.max() // WHOLE_GPU) < self._num_gpus[:, None]).astype(np.int64)
        self._free_cpu = units[0].copy()
        self._classes = workload.capacity.classes
        self._of_node = np.zeros(len(gpus))
        self._total = np.zeros(1)
        _empty(self._of_node, self._total, self._free_cpu, self._free_gpu, self._num_gpus, self._classes, self._typical)
        self.integral = 0.0
        self.from_s = self.until_s = -math.inf

    @classmethod
    def of(cls, workload: Workload) -> Fragmentation | None:
        """Nothing is held yet; None for a cluster without GPUs or one that is described as a pool."""
        gpus = workload.capacity.units[GPU]
        whole = bool((gpus % WHOLE_GPU == 0).all()) and int(gpus.max(initial=0)) <= MOST_GPUS_APART * WHOLE_GPU
        return cls(workload) if whole and gpus.any() else None

    def after(self, taken: pl.DataFrame, given_back: pl.DataFrame) -> tuple[FloatArray, FloatArray]:
        """Instants at which what is held changes and the fragmented GPUs from then on, both (T,).

        The first is the last one of the window before (−inf in the first window, when nothing is held), so that a value
        is known at the begin of this one.

        Args:
            taken: Placements that begin in the window, by time.
            given_back: Those that end in it.
        """
        time_s = np.concatenate([given_back["end_s"].to_numpy(), taken["start_s"].to_numpy()])
        # At one time what ends is given back before anything is taken.
        sign = np.repeat(np.asarray([-1, 1]), [given_back.height, taken.height])
        order = np.lexsort((sign, time_s))
        milli, cpu = (
            np.rint(self._both(given_back, taken, name)[order] * unit).astype(np.int64)
            for name, unit in (("gpus", WHOLE_GPU), ("cpus", UNITS_PER[0]))
        )
        node, gpu = (self._both(given_back, taken, name)[order] for name in ("node", "gpu"))
        before = float(self._total[0])
        values = _account(
            node, gpu, milli, cpu, sign[order], self._free_gpu, self._num_gpus, self._free_cpu, self._classes,
            self._typical, self._of_node, self._total,
        )  # fmt: skip
        times = time_s[order]
        last = np.append(times[1:] != times[:-1], True)[: len(times)]
        instants = np.concatenate([[self.until_s], times[last]])
        fragmented = np.concatenate([[before], values[last]]) / WHOLE_GPU
        known = slice(0 if math.isfinite(self.until_s) else 1, None)
        self.integral += float((fragmented[known][:-1] * np.diff(instants[known])).sum())
        if not math.isfinite(self.from_s) and len(times):
            self.from_s = float(times[0])
        self.until_s = float(instants[-1])
        return instants, fragmented

    @property
    def mean(self) -> float:
        """Average over the time from the first placement's begin until the last one's end, in GPUs."""
        has_length = math.isfinite(self.from_s) and self.until_s > self.from_s
        return self.integral / (self.until_s - self.from_s) if has_length else float(self._total[0]) / WHOLE_GPU

    @staticmethod
    def _both(given_back: pl.DataFrame, taken: pl.DataFrame, name: str) -> Any:
        return np.concatenate([given_back[name].to_numpy(), taken[name].to_numpy()])


def _typical(workload: Workload) -> Typical:
    """The tasks that stand for the workload."""
    table, _ = typical_tasks(workload.demand, workload.capacity)
    share = table[at.LEVEL_SHARE, table[at.TYPICAL_LEVEL]]
    classes = shape_facts(workload.demand, workload.capacity).shape[0] - at.NUM_SHAPE_ROWS
    return make_typical(
        cpu=table[at.TYPICAL_CPU],
        share=share,
        gpus=table[at.TYPICAL_GPUS],
        weight=table[at.TYPICAL_WEIGHT].view(np.float64),
        allowed=table[at.NUM_TYPICAL_ROWS : at.NUM_TYPICAL_ROWS + classes].T == 1,
    )


@allocating
def _empty(
    of_node: FloatArray,
    total: FloatArray,
    free_cpu: IntArray,
    free_gpu: IntArray,
    num_gpus: IntArray,
    node_class: IntArray,
    typical: Typical,
) -> None:
    """The fragmented milli-GPU of each node and of all while nothing is held, into ``of_node`` and ``total``."""
    for n in range(len(num_gpus)):
        of_node[n] = fragmentation(typical, free_cpu[n], free_gpu[n], num_gpus[n], node_class[n])
        total[0] += of_node[n]


@allocating
def _account(
    node: IntArray,
    gpu: IntArray,
    milli: IntArray,
    cpu: IntArray,
    sign: IntArray,
    free_gpu: IntArray,
    num_gpus: IntArray,
    free_cpu: IntArray,
    node_class: IntArray,
    typical: Typical,
    of_node: FloatArray,
    total: FloatArray,
) -> FloatArray:
    """(E,) fragmented milli-GPU of the cluster after each event; GPUs that are not told apart are taken as whole.

    What is free, ``of_node`` (N,) and ``total`` (1,) are followed in place.
    """
    after = np.zeros(len(node))
    for i in range(len(node)):
        n = node[i]
        free_cpu[n] -= sign[i] * cpu[i]
        if gpu[i] >= 0:
            free_gpu[n, gpu[i]] -= sign[i] * milli[i]
        else:
            rest = milli[i]
            for g in range(num_gpus[n]):
                if rest >= WHOLE_GPU and free_gpu[n, g] == (WHOLE_GPU if sign[i] > 0 else 0):
                    free_gpu[n, g] -= sign[i] * WHOLE_GPU
                    rest -= WHOLE_GPU
        now = fragmentation(typical, free_cpu[n], free_gpu[n], num_gpus[n], node_class[n])
        total[0] += now - of_node[n]
        of_node[n] = now
        after[i] = total[0]
    return after
