"""Free GPUs over time, and those of them that the usual jobs cannot use: fragmentation as FGD defines it.

Worked out after a replay from what every attempt held, so that schedules of any placement can be compared.
On GPUs that are cut into MIG instances, a task can use what is free of a GPU where an instance of its profile may lie.
Source: Weng et al., "Beware of Fragmentation", USENIX ATC 2023; see ``scheduler.kernels.fragmentation``.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.arrays import shape_facts, typical_tasks
from shunter.scheduler.capacity import GPU
from shunter.scheduler.energy import Downtimes
from shunter.scheduler.jit import allocating, compiled
from shunter.scheduler.kernels.fragmentation import WHOLE_GPU, Typical, fragmentation, make_typical
from shunter.scheduler.kernels.gpus import NUM_OPEN
from shunter.scheduler.mig import GEOMETRIES
from shunter.scheduler.types import UNITS_PER, FloatArray, Int, IntArray
from shunter.sim.cluster_arrays import MOST_GPUS_APART
from shunter.sim.workload import Workload

if TYPE_CHECKING:
    import polars as pl

# Rows of the steps by which what is free changes
NODE = 0
GPU_OF_NODE = 1  # −1: GPUs are not told apart, or the whole node
MILLI_GPU = 2  # that become free
MILLI_CPU = 3
SLICES = 4  # bits of the memory slices of a MIG instance that become free; negative: that are taken
DOWN = 5  # 1: out of service; −1: back
NUM_STEP_ROWS = 6


class Free(NamedTuple):
    """What is free on the nodes now, followed in place.

    Attributes:
        cpu: (N,) milli-CPU.
        gpu: (N, G) milli-GPU of each GPU.
        slices: (N, G) bits of the free memory slices, where GPUs are cut into MIG instances; 0 elsewhere.
        num_gpus: (N,) GPUs of the node.
        node_class: (N,) class of the node.
        is_cut: (N,) whether its GPUs are cut into MIG instances.
        node_down: (N,) outages of the whole node.
        gpu_down: (N, G) outages of a GPU.
        of_node: (2, N) free and fragmented milli-GPU of each node.
        total: (2,) and of all.
        usable: (G,) scratch.
        usable_slices: (G,) scratch.
    """

    cpu: IntArray
    gpu: IntArray
    slices: IntArray
    num_gpus: IntArray
    node_class: IntArray
    is_cut: IntArray
    node_down: IntArray
    gpu_down: IntArray
    of_node: FloatArray
    total: FloatArray
    usable: IntArray
    usable_slices: IntArray


class Fragmentation:
    """The free and the fragmented GPUs of a cluster, followed through what was held; windows in the order of time.

    Nodes and GPUs that are out of service are not free.

    Args:
        workload: The jobs and the nodes.
        down: What is out of service, and when.

    Attributes:
        integral: Of the fragmented GPUs over time so far, in GPU-seconds.
        from_s: When the first placement began; −inf before.
        until_s: The last instant so far; −inf before the first.
    """

    def __init__(self, workload: Workload, down: Downtimes) -> None:
        self._typical, self._kinds = _typical(workload)
        self._free = _all_free(workload)
        nothing = np.zeros((NUM_STEP_ROWS, len(self._free.num_gpus)), dtype=np.int64)
        nothing[NODE] = np.arange(nothing.shape[1])
        nothing[GPU_OF_NODE] = -1
        _carry_out(nothing, self._free, self._typical, self._kinds)
        self._outages_s, self._outages = _outage_steps(down)
        self._next_outage = 0
        self.integral = 0.0
        self.from_s = self.until_s = -math.inf

    @classmethod
    def of(cls, workload: Workload, down: Downtimes) -> Fragmentation | None:
        """Nothing is held yet; None for a cluster without GPUs or one that is described as a pool."""
        gpus = workload.capacity.units[GPU]
        whole = bool((gpus % WHOLE_GPU == 0).all()) and int(gpus.max(initial=0)) <= MOST_GPUS_APART * WHOLE_GPU
        return cls(workload, down) if whole and gpus.any() else None

    def after(self, taken: pl.DataFrame, given_back: pl.DataFrame, until_s: float) -> tuple[FloatArray, FloatArray]:
        """Instants at which what is free changes (T,), and the free and fragmented GPUs from then on (2, T).

        The first is the last one of the window before (−inf in the first window, when nothing is held), so that values
        are known at the begin of this one.

        Args:
            taken: Placements that begin in the window, by time.
            given_back: Those that end in it.
            until_s: End of the window; outages up to then are taken in.
        """
        last_outage = int(np.searchsorted(self._outages_s, until_s, side="right"))
        outages = slice(self._next_outage, last_outage)
        self._next_outage = last_outage
        parts = (_held_steps(given_back, 1), self._outages[:, outages], _held_steps(taken, -1))
        times = (given_back["end_s"].to_numpy(), self._outages_s[outages], taken["start_s"].to_numpy())
        time_s = np.concatenate(times)
        # At one time what ends is given back before anything is taken.
        order = np.lexsort((np.repeat(np.arange(3), [len(part) for part in times]), time_s))
        before = self._free.total.copy()
        values = _carry_out(
            np.ascontiguousarray(np.concatenate(parts, axis=1)[:, order]), self._free, self._typical, self._kinds
        )
        time_s = time_s[order]
        last = np.append(time_s[1:] != time_s[:-1], True)[: len(time_s)]
        instants = np.concatenate([[self.until_s], time_s[last]])
        found = np.concatenate([before[:, None], values[:, last]], axis=1) / WHOLE_GPU
        self._sum_up(instants, found[1], times[2])
        return instants, np.maximum(found, 0.0)

    def _sum_up(self, instants: FloatArray, fragmented: FloatArray, begins_s: FloatArray) -> None:
        if not math.isfinite(self.from_s) and len(begins_s):
            self.from_s = float(begins_s[0])
        lengths = np.diff(np.maximum(instants, self.from_s if math.isfinite(self.from_s) else instants[-1]))
        self.integral += float((fragmented[:-1] * lengths).sum())
        self.until_s = float(instants[-1])

    @property
    def mean(self) -> float:
        """Average over the time from the first placement's begin until the last instant, in GPUs."""
        has_length = math.isfinite(self.from_s) and self.until_s > self.from_s
        return self.integral / (self.until_s - self.from_s) if has_length else float(self._free.total[1]) / WHOLE_GPU


def _all_free(workload: Workload) -> Free:
    """Nothing is held and everything works; sums are still to be worked out."""
    units, classes = workload.capacity.units, workload.capacity.classes
    num_gpus = units[GPU] // WHOLE_GPU
    gpu = WHOLE_GPU * (np.arange(num_gpus.max()) < num_gpus[:, None]).astype(np.int64)
    full = np.asarray([0 if name is None else GEOMETRIES[name].full for name in workload.places.geometries])
    slices = full[workload.places.class_of_node][:, None] * (gpu > 0)
    num_nodes, widest = gpu.shape
    return Free(
        cpu=units[0].copy(),
        gpu=gpu,
        slices=slices,
        num_gpus=num_gpus,
        node_class=classes,
        is_cut=(slices > 0).any(axis=1).astype(np.int64),
        node_down=np.zeros(num_nodes, dtype=np.int64),
        gpu_down=np.zeros_like(gpu),
        of_node=np.zeros((2, num_nodes)),
        total=np.zeros(2),
        usable=np.zeros(widest, dtype=np.int64),
        usable_slices=np.zeros(widest, dtype=np.int64),
    )


def _held_steps(placements: pl.DataFrame, sign: int) -> IntArray:
    """(NUM_STEP_ROWS, P) what becomes free (``sign`` 1) or is taken (−1)."""
    steps = np.zeros((NUM_STEP_ROWS, placements.height), dtype=np.int64)
    steps[NODE], steps[GPU_OF_NODE] = placements["node"].to_numpy(), placements["gpu"].to_numpy()
    steps[MILLI_GPU] = sign * np.rint(placements["gpus"].to_numpy() * WHOLE_GPU)
    steps[MILLI_CPU] = sign * np.rint(placements["cpus"].to_numpy() * UNITS_PER[0])
    if "slice" in placements.columns:
        first, size = (placements[name].fill_null(0).to_numpy() for name in ("slice", "slices"))
        steps[SLICES] = sign * (((1 << size) - 1) << first)
    return steps


def _outage_steps(down: Downtimes) -> tuple[FloatArray, IntArray]:
    """Rising times (E,) at which something goes out of service or comes back, and the steps (NUM_STEP_ROWS, E)."""
    ends = np.isfinite(down.until_s)
    time_s = np.concatenate([down.until_s[ends], down.from_s])
    steps = np.zeros((NUM_STEP_ROWS, len(time_s)), dtype=np.int64)
    steps[NODE] = np.concatenate([down.node[ends], down.node])
    steps[GPU_OF_NODE] = np.concatenate([down.gpu[ends], down.gpu])
    steps[DOWN] = np.repeat([-1, 1], [int(ends.sum()), len(ends)])
    order = np.argsort(time_s, kind="stable")
    return time_s[order], steps[:, order]


def _typical(workload: Workload) -> tuple[Typical, IntArray]:
    """The tasks that stand for the workload, and (T, C) the kind of MIG instance that each takes, else negative."""
    table, _ = typical_tasks(workload.demand, workload.capacity)
    share = table[at.LEVEL_SHARE, table[at.TYPICAL_LEVEL]]
    classes = shape_facts(workload.demand, workload.capacity).shape[0] - at.NUM_SHAPE_ROWS
    places = table[at.NUM_TYPICAL_ROWS : at.NUM_TYPICAL_ROWS + classes].T
    typical = make_typical(
        cpu=table[at.TYPICAL_CPU],
        share=share,
        gpus=table[at.TYPICAL_GPUS],
        weight=table[at.TYPICAL_WEIGHT].view(np.float64),
        allowed=places > 0,
    )
    return typical, np.ascontiguousarray(places - at.AS_INSTANCE)


@compiled
def _of_node(free: Free, node: Int, typical: Typical, kinds: IntArray) -> tuple[Int, float]:
    """Free and fragmented milli-GPU of a node that is up; ``kinds`` (T, C) are the instances that the tasks take."""
    idle = np.int64(0)
    for g in range(free.num_gpus[node]):
        is_up = free.node_down[node] == 0 and free.gpu_down[node, g] == 0
        free.usable[g] = max(free.gpu[node, g], 0) if is_up else 0
        free.usable_slices[g] = free.slices[node, g] if is_up else 0
        idle += free.usable[g]
    if free.is_cut[node] == 0:
        return idle, fragmentation(typical, free.cpu[node], free.usable, free.num_gpus[node], free.node_class[node])
    lost = 0.0
    for t in range(len(typical.weight)):
        kind = kinds[t, free.node_class[node]]
        for g in range(free.num_gpus[node]):
            fits = kind >= 0 and free.cpu[node] >= typical.cpu[t] and NUM_OPEN[kind, free.usable_slices[g]] > 0
            if not fits:
                lost += typical.weight[t] * free.usable[g]
    return idle, lost


@compiled
def _take_step(steps: IntArray, i: Int, free: Free) -> None:
    """Change what is free; GPUs that are not told apart are taken as whole ones, the lowest first."""
    node, gpu = steps[NODE, i], steps[GPU_OF_NODE, i]
    free.cpu[node] += steps[MILLI_CPU, i]
    if gpu >= 0:
        free.gpu[node, gpu] += steps[MILLI_GPU, i]
        free.slices[node, gpu] += steps[SLICES, i]
        free.gpu_down[node, gpu] += steps[DOWN, i]
        return
    free.node_down[node] += steps[DOWN, i]
    rest = abs(steps[MILLI_GPU, i])
    for g in range(free.num_gpus[node]):
        if rest >= WHOLE_GPU and free.gpu[node, g] == (0 if steps[MILLI_GPU, i] > 0 else WHOLE_GPU):
            free.gpu[node, g] = WHOLE_GPU - free.gpu[node, g]
            rest -= WHOLE_GPU


@allocating
def _carry_out(steps: IntArray, free: Free, typical: Typical, kinds: IntArray) -> FloatArray:
    """(2, E) free and fragmented milli-GPU of the cluster after each step."""
    after = np.zeros((2, steps.shape[1]))
    for i in range(steps.shape[1]):
        node = steps[NODE, i]
        _take_step(steps, i, free)
        idle, lost = _of_node(free, node, typical, kinds)
        free.total[0] += idle - free.of_node[0, node]
        free.total[1] += lost - free.of_node[1, node]
        free.of_node[0, node], free.of_node[1, node] = idle, lost
        after[0, i], after[1, i] = free.total[0], free.total[1]
    return after
