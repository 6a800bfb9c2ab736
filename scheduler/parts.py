"""What a GPU has beside its thousandths, memory or slices for MIG instances, as plain arrays: for checking plans.

The kernels keep the same in ``node_i``; see ``kernels.gpus``.
"""

from __future__ import annotations

import numpy as np

from shunter.scheduler.capacity import GPU, Capacity
from shunter.scheduler.mig import KINDS, slices_of
from shunter.scheduler.types import UNITS_PER, BoolArray, IntArray, ResourceDemand

Entry = tuple[int, int, int, int]
"""Node, tasks, bits of the GPUs there, and the first memory slice of a MIG instance (−1 for none)."""


def idle_parts(capacity: Capacity, works: BoolArray) -> IntArray:
    """(G, N) what each GPU has when nobody uses it: MiB, or bits of memory slices; nothing on one out of service.

    Args:
        capacity: A cluster on which these are counted.
        works: (G, N) whether the GPU exists and is in service.
    """
    assert capacity.parts is not None
    return np.where(works, capacity.parts, 0)


def take_parts(parts: IntArray, demand: ResourceDemand, capacity: Capacity, shape: int, entry: Entry) -> bool:
    """Take from ``parts`` (G, N) what tasks of a shape hold there; whether an instance may lie so, and enough was left.

    ``parts`` is changed as far as it goes; do not use it any more after a refusal.
    """
    node, tasks, mask, first = entry
    kind = kind_of(demand, capacity, shape, node)
    if kind >= 0 and (tasks != 1 or mask.bit_count() != 1 or first not in KINDS[kind].starts):
        return False
    if kind < 0 and first != -1:
        return False
    for g in _gpus(mask, parts):
        amount = _amount(demand, shape, tasks, kind, first)
        if kind >= 0 and amount & ~int(parts[g, node]):
            return False
        parts[g, node] -= amount
        if parts[g, node] < 0:
            return False
    return True


def give_parts(parts: IntArray, demand: ResourceDemand, capacity: Capacity, shape: int, entry: Entry) -> None:
    """Give back what ``take_parts`` took."""
    node, tasks, mask, first = entry
    kind = kind_of(demand, capacity, shape, node)
    for g in _gpus(mask, parts):
        parts[g, node] += _amount(demand, shape, tasks, kind, first)


def kind_of(demand: ResourceDemand, capacity: Capacity, shape: int, node: int) -> int:
    """Row of ``mig.KINDS`` of the instance that a task takes on a node; −1 when it takes none."""
    return -1 if demand.instances is None else int(demand.instances[shape, capacity.classes[node]])


def _gpus(mask: int, parts: IntArray) -> list[int]:
    return [g for g in range(len(parts)) if mask >> g & 1]


def _amount(demand: ResourceDemand, shape: int, tasks: int, kind: int, first: int) -> int:
    """What tasks hold of one GPU; a whole GPU is nobody else's, and its memory need not be counted."""
    if kind >= 0:
        return slices_of(kind, first)
    if demand.gpu_memory is None or demand.shapes[shape, GPU] >= UNITS_PER[GPU]:
        return 0
    return tasks * int(demand.gpu_memory[shape])
