"""Fragmentation over time: the free GPU capacity that the usual jobs cannot use, as FGD defines it.

Worked out after a replay from what every attempt held, so that schedules of any placement can be compared.
On GPUs that are cut into MIG instances, a task can use what is free of a GPU where an instance of its profile may lie.
Source: Weng et al., "Beware of Fragmentation", USENIX ATC 2023; see ``scheduler.kernels.fragmentation``.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.arrays import shape_facts, typical_tasks
from shunter.scheduler.capacity import GPU
from shunter.scheduler.jit import allocating, compiled
from shunter.scheduler.kernels.fragmentation import WHOLE_GPU, Typical, fragmentation, make_typical
from shunter.scheduler.kernels.gpus import NUM_OPEN
from shunter.scheduler.mig import GEOMETRIES
from shunter.scheduler.types import UNITS_PER, FloatArray, Int, IntArray
from shunter.sim.cluster_arrays import MOST_GPUS_APART
from shunter.sim.workload import Workload

if TYPE_CHECKING:
    import polars as pl


def fragmentation_series(
    workload: Workload, tables: Mapping[str, pl.DataFrame]
) -> tuple[FloatArray, FloatArray] | None:
    """Times at which what is held changes, and the fragmented GPUs of the cluster from then on.

    None where the cluster has no GPUs or is described as a pool, and where nothing was noted of the placements. Nodes
    that are down count as if they were up and empty.

    Args:
        workload: The jobs and the nodes.
        tables: ``placements`` and ``attempts`` of the replay.
    """
    gpus = workload.capacity.units[GPU]
    whole = bool((gpus % WHOLE_GPU == 0).all()) and int(gpus.max(initial=0)) <= MOST_GPUS_APART * WHOLE_GPU
    if "placements" not in tables or not gpus.any() or not whole or not tables["placements"].height:
        return None
    held = tables["placements"].join(
        tables["attempts"].select("job", "attempt", "start_s", "end_s"), on=["job", "attempt"], maintain_order="left"
    )
    start_s, end_s = held["start_s"].to_numpy(), held["end_s"].to_numpy()
    count = held.height
    time_s = np.concatenate([end_s, start_s])  # at one time what ends is given back before anything is taken
    sign = np.concatenate([np.full(count, -1), np.ones(count, dtype=np.int64)])
    order = np.lexsort((sign, time_s))
    row = order % count
    milli = np.rint(held["gpus"].to_numpy() * WHOLE_GPU).astype(np.int64)
    cpu = np.rint(held["cpus"].to_numpy() * UNITS_PER[0]).astype(np.int64)
    columns = (held["node"].to_numpy()[row], held["gpu"].to_numpy()[row], milli[row], cpu[row], sign[order])
    slices = np.zeros(count, dtype=np.int64)
    if "slice" in held.columns:
        first, size = (held[name].fill_null(0).to_numpy() for name in ("slice", "slices"))
        slices = ((1 << size) - 1) << first
    typical, kinds = _typical(workload)
    free_gpu = WHOLE_GPU * (np.arange(gpus.max() // WHOLE_GPU) < gpus[:, None] // WHOLE_GPU).astype(np.int64)
    full = np.asarray([0 if name is None else GEOMETRIES[name].full for name in workload.places.geometries])
    free_slices = full[workload.places.class_of_node][:, None] * (free_gpu > 0)
    fragmented = _account(
        *columns, slices[row], free_gpu, free_slices, gpus // WHOLE_GPU, workload.capacity.units[0].copy(),
        workload.capacity.classes, typical, kinds,
    )  # fmt: skip
    times = time_s[order]
    last = np.append(times[1:] != times[:-1], True)
    return times[last], fragmented[last] / WHOLE_GPU


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
def _of_node(
    typical: Typical,
    kinds: IntArray,
    free_cpu: Int,
    free_gpu: IntArray,
    free_slices: IntArray,
    num_gpus: Int,
    node_class: Int,
    is_cut: bool,
) -> float:
    """Fragmented milli-GPU of a node; ``kinds`` (T,) are the instances that the tasks take on it."""
    if not is_cut:
        return fragmentation(typical, free_cpu, free_gpu, num_gpus, node_class)
    lost = 0.0
    for t in range(len(typical.weight)):
        for g in range(num_gpus):
            fits = kinds[t] >= 0 and free_cpu >= typical.cpu[t] and NUM_OPEN[kinds[t], free_slices[g]] > 0
            if not fits:
                lost += typical.weight[t] * free_gpu[g]
    return lost


@allocating
def _account(
    node: IntArray,
    gpu: IntArray,
    milli: IntArray,
    cpu: IntArray,
    sign: IntArray,
    slices: IntArray,
    free_gpu: IntArray,
    free_slices: IntArray,
    num_gpus: IntArray,
    free_cpu: IntArray,
    node_class: IntArray,
    typical: Typical,
    kinds: IntArray,
) -> FloatArray:
    """(E,) fragmented milli-GPU of the cluster after each event; GPUs that are not told apart are taken as whole."""
    of_node = np.zeros(len(num_gpus))
    is_cut = free_slices[:, 0] > 0
    total = 0.0
    for n in range(len(num_gpus)):
        of_node[n] = _of_node(
            typical,
            kinds[:, node_class[n]],
            free_cpu[n],
            free_gpu[n],
            free_slices[n],
            num_gpus[n],
            node_class[n],
            is_cut[n],
        )
        total += of_node[n]
    after = np.zeros(len(node))
    for i in range(len(node)):
        n = node[i]
        free_cpu[n] -= sign[i] * cpu[i]
        if gpu[i] >= 0:
            free_gpu[n, gpu[i]] -= sign[i] * milli[i]
            free_slices[n, gpu[i]] -= sign[i] * slices[i]
        else:
            rest = milli[i]
            for g in range(num_gpus[n]):
                if rest >= WHOLE_GPU and free_gpu[n, g] == (WHOLE_GPU if sign[i] > 0 else 0):
                    free_gpu[n, g] -= sign[i] * WHOLE_GPU
                    rest -= WHOLE_GPU
        now = _of_node(
            typical,
            kinds[:, node_class[n]],
            free_cpu[n],
            free_gpu[n],
            free_slices[n],
            num_gpus[n],
            node_class[n],
            is_cut[n],
        )
        total += now - of_node[n]
        of_node[n] = now
        after[i] = total
    return after


def time_average(times_s: FloatArray, values: FloatArray, from_s: float, until_s: float) -> float:
    """Mean over [from_s, until_s) of a step function that begins at ``times_s[0] >= from_s`` with its first value."""
    edges = np.clip(np.append(times_s, until_s), from_s, until_s)
    lengths = np.diff(edges)
    return float((values * lengths).sum() / lengths.sum()) if lengths.sum() > 0 else float(values[-1])
