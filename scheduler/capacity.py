"""What a cluster has, in whole units, and what fits on it when it is empty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.mig import FULL, open_table
from shunter.scheduler.types import RESOURCES, UNITS_PER, BoolArray, FloatArray, IntArray, ResourceDemand

GPU = RESOURCES.index("gpus")


@dataclass(frozen=True, slots=True)
class Quotas:
    """What groups may hold of the scarce resource, in units.

    Attributes:
        names: Q names.
        guaranteed: (Q,) what is the group's own: others that borrow it give it back on demand.
        limit: (Q,) what it may hold at most.
        weight: (Q,) its share of what is borrowed, to thousandths; None: the ordering alone decides who borrows.
    """

    names: tuple[str, ...]
    guaranteed: IntArray
    limit: IntArray
    weight: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the nodes have.

    Attributes:
        units: (R, N) whole units of each resource on each node.
        tracked: (R,) whether the resource is a constraint at all; a log without memory does not run out of it.
        gpus: (N,) GPUs of each node where they are told apart, as sharing needs; else None.
        node_class: (N,) class of each node, column of ``ResourceDemand.class_ok``; None: all alike.
        domains: (3, N) switch, rack and zone of each node; None: all under one switch.
        speeds: (M, C + 5) speed of each model on a class of nodes, then by the tier that a gang spans (node, switch,
            rack, zone, cluster); None: all 1.
        quotas: Quotas of groups; None without any.
        num_lanes: Queues that wait for themselves only.
        power_cap_w: Watts that jobs may draw beyond the idle ones; −1: any.
        can_close: Nodes or GPUs may go out of service.
        parts: (N,) what one GPU of a node can be divided into, beside its thousandths: MiB of memory, or where GPUs are
            cut into MIG instances the bits of its memory slices; None: not counted.
    """

    units: IntArray
    tracked: tuple[bool, ...]
    gpus: IntArray | None = None
    node_class: IntArray | None = None
    domains: IntArray | None = None
    speeds: FloatArray | None = None
    quotas: Quotas | None = None
    num_lanes: int = 1
    power_cap_w: int = -1
    can_close: bool = False
    parts: IntArray | None = None

    @property
    def scarce(self) -> int:
        """The resource that size means: GPUs where there are any, else CPUs, else memory."""
        return next(r for r in (2, 0, 1) if self.tracked[r] and (r != 2 or self.units[r].any() or not self.tracked[0]))

    @property
    def processors(self) -> float:
        """Capacity in that resource, over all nodes."""
        return float(self.units[self.scarce].sum()) / UNITS_PER[self.scarce]

    @property
    def classes(self) -> IntArray:
        """(N,) class of each node."""
        return np.zeros(self.units.shape[1], np.int64) if self.node_class is None else self.node_class


def empty_slots(demand: ResourceDemand, capacity: Capacity, shape: int) -> IntArray:
    """(N,) tasks of a shape that fit on each node of the empty cluster."""
    units = demand.shapes[shape]
    slots = np.full(capacity.units.shape[1], at.ANY_SLOTS, dtype=np.int64)
    for r in range(len(RESOURCES)):
        if capacity.tracked[r] and units[r] > 0:
            slots = np.minimum(slots, capacity.units[r] // units[r])
    if capacity.gpus is not None and 0 < units[GPU] <= UNITS_PER[GPU]:
        slots = np.minimum(slots, capacity.gpus * room_of_empty_gpu(demand, capacity, shape))
    if demand.class_ok is not None:
        slots = np.where(demand.class_ok[shape][capacity.classes], slots, 0)
    return slots


def room_of_empty_gpu(demand: ResourceDemand, capacity: Capacity, shape: int) -> IntArray:
    """(N,) tasks of a shape that asks for one GPU or less, that fit on each GPU of a node when nobody uses it."""
    room = np.full(capacity.units.shape[1], UNITS_PER[GPU] // demand.shapes[shape, GPU], dtype=np.int64)
    if capacity.parts is None:
        return room
    if demand.gpu_memory is not None and demand.gpu_memory[shape] > 0:
        room = np.minimum(room, capacity.parts // demand.gpu_memory[shape])
    if demand.instances is not None:
        kinds = demand.instances[shape][capacity.classes]
        room = np.where(kinds >= 0, open_table()[kinds, capacity.parts & FULL], room)
    return room


def never_fits(demand: ResourceDemand, capacity: Capacity) -> BoolArray:
    """(J,) jobs that could not run even on the empty cluster."""
    if not len(demand):
        return np.zeros(0, dtype=np.bool_)
    slots = np.asarray([empty_slots(demand, capacity, s).sum() for s in range(len(demand.shapes))])
    return demand.tasks > slots[demand.shape_idx]
