"""A cluster specification as arrays: nodes in whole units, their classes, and who may run where and how fast.

A class is a set of nodes that no job can tell apart but by what is free: nodes with one GPU type, one owner, and GPUs
that are cut into MIG instances in one way or not at all. The groups of jobs that own nodes have a queue of their own
(a lane) and run there only; all others share the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.capacity import Capacity, Quotas
from shunter.scheduler.errors import UsageError
from shunter.scheduler.mig import GEOMETRIES
from shunter.scheduler.types import (
    RESOURCES,
    UNITS_PER,
    BoolArray,
    FloatArray,
    IntArray,
    ResourceDemand,
    to_units,
)
from shunter.sim.gpu_parts import memory_of_gpus, parts_of_gpus, task_gpus

if TYPE_CHECKING:
    from shunter.traces.tables import ClusterSpec, Trace

MOST_GPUS_APART = 62
"""GPUs of a node that can be told apart: their bits have to fit into one whole number."""

NodeClass = tuple[str | None, str | None, str | None]
"""GPU type, owner, and geometry of MIG instances."""


@dataclass(frozen=True, slots=True)
class Places:
    """Classes of nodes, and where jobs may run.

    Attributes:
        class_of_node: (N,) class of each node.
        types: GPU type of each class; None without one.
        owners: Owner of each class; None where everyone may run.
        allowed_idx: (J,) row of ``allowed`` of each job; None when every job may run on every node.
        allowed: (A, C) classes that jobs may run on.
        lane_idx: (J,) queue that each job waits in.
        num_lanes: Queues.
        gpu_draw_w: (C,) watts that one busy GPU draws beyond an idle one.
        cpu_draw_w: (C,) watts that one busy CPU draws.
        geometries: How the GPUs of each class are cut into MIG instances; None where they are not.
        instances: (A, C) row of ``mig.KINDS`` of the instance that a task takes there, −1 for none; None when no job
            asks for one.
        task_gpus: (J,) GPUs of a task; of one that takes an instance, the instance's part of its GPU.
        class_memory: (C,) MiB of one GPU.
        gpu_memory: (J,) MiB that a task needs of the memory of one GPU; None when no job says, or no GPU's is known.
    """

    class_of_node: IntArray
    types: tuple[str | None, ...]
    owners: tuple[str | None, ...]
    allowed_idx: IntArray | None
    allowed: BoolArray | None
    lane_idx: IntArray
    num_lanes: int
    gpu_draw_w: FloatArray
    cpu_draw_w: FloatArray
    geometries: tuple[str | None, ...]
    instances: IntArray | None
    task_gpus: FloatArray
    class_memory: IntArray
    gpu_memory: IntArray | None

    def of_tasks(self) -> dict[str, Any]:
        """What ``ResourceDemand.from_amounts`` asks for beyond CPUs and memory."""
        return {
            "gpus": self.task_gpus,
            "allowed_idx": self.allowed_idx,
            "allowed": self.allowed,
            "instances": self.instances,
            "gpu_memory": self.gpu_memory,
            "class_memory": self.class_memory,
        }

    @property
    def parts(self) -> IntArray:
        """(C,) what one GPU of a node of each class can be divided into; see ``Capacity.parts``."""
        full = [0 if name is None else GEOMETRIES[name].full for name in self.geometries]
        is_cut = np.asarray([name is not None for name in self.geometries])
        return np.where(is_cut, np.asarray(full, dtype=np.int64), self.class_memory)

    def peak_draw_w(self, demand: ResourceDemand) -> FloatArray:
        """(J,) watts that each job draws beyond the idle ones, at most, over the classes that it may run on."""
        cpus = demand.shapes[:, 0, None] / UNITS_PER[0] * self.cpu_draw_w
        gpus = demand.shapes[:, 2, None] / UNITS_PER[2] * self.gpu_draw_w
        allowed = np.ones_like(cpus, dtype=bool) if demand.class_ok is None else demand.class_ok
        by_shape = np.where(allowed, cpus + gpus, 0.0).max(axis=1)
        draw: FloatArray = demand.tasks * by_shape[demand.shape_idx]
        return draw


def allowed_places(trace: Trace, cluster: ClusterSpec) -> Places:
    """Classes of the cluster's nodes, and which of them each job may use.

    Raises:
        UsageError: A job asks for a GPU type or a MIG profile that no node has.
    """
    kinds = [(group.gpu_type, group.owner, cluster.geometry_of(group)) for group in cluster.groups]
    classes = list(dict.fromkeys(kinds))
    of_node = np.repeat([classes.index(kind) for kind in kinds], [group.count for group in cluster.groups])
    types, owners, geometries = zip(*classes, strict=True)
    num_jobs = len(trace.jobs)
    lanes = {owner: i + 1 for i, owner in enumerate(sorted({o for o in owners if o is not None}))}
    group_idx, groups = trace.jobs.codes("group")
    lane_of_group = np.asarray([*(lanes.get(group, 0) for group in groups), 0], dtype=np.int64)
    lane_idx = lane_of_group[group_idx] if lanes else np.zeros(num_jobs, dtype=np.int64)
    lane_of_class = np.asarray([0 if owner is None else lanes[owner] for owner in owners])
    wanted_idx, wanted = trace.jobs.codes("gpu_type")
    typed = any(kind is not None for kind in types) and bool((wanted_idx >= 0).any())
    allowed_idx, allowed = None, None
    instances: IntArray | None = None
    part_idx, parts, kind_of_part = parts_of_gpus(trace, cluster, geometries)
    if typed or lanes or part_idx is not None:
        of_wish = np.ones((len(wanted) + 1, len(classes)), dtype=np.bool_)  # the last row: no wish
        for i, wish in enumerate(wanted if typed else []):
            of_wish[i] = [kind in wish.split("|") for kind in types]
            if not of_wish[i].any():
                _refuse_type(trace, cluster, wish, types)
        of_lane = lane_of_class[None, :] == np.arange(len(lanes) + 1)[:, None]
        allowed = (of_wish[:, None] & of_lane[None]).reshape(-1, len(classes))
        wish_idx = np.where(wanted_idx >= 0, wanted_idx, len(wanted))
        allowed_idx = wish_idx * (len(lanes) + 1) + lane_idx
        if part_idx is not None:
            allowed_idx = allowed_idx * len(parts) + part_idx
            if (kind_of_part >= 0).any():
                instances = np.tile(kind_of_part, (len(allowed), 1))
            allowed = (allowed[:, None] & parts[None]).reshape(-1, len(classes))
    class_memory, gpu_memory = memory_of_gpus(trace, cluster, types)
    gpu_draw_w, cpu_draw_w = _draws_w(cluster, kinds, classes)
    return Places(
        class_of_node=of_node.astype(np.int64),
        types=types,
        owners=owners,
        allowed_idx=allowed_idx,
        allowed=allowed,
        lane_idx=lane_idx,
        num_lanes=len(lanes) + 1,
        gpu_draw_w=gpu_draw_w,
        cpu_draw_w=cpu_draw_w,
        geometries=geometries,
        instances=instances,
        task_gpus=task_gpus(trace, cluster),
        class_memory=class_memory,
        gpu_memory=gpu_memory,
    )


def _refuse_type(trace: Trace, cluster: ClusterSpec, wish: str, types: tuple[str | None, ...]) -> None:
    import polars as pl

    frame = trace.jobs.frame
    row = int(frame.select((pl.col("gpu_type") == wish).arg_true()).to_series()[0])
    known = ", ".join(sorted({kind for kind in types if kind is not None}))
    raise UsageError(
        f"{trace.name}: job {frame['job_id'][row]!r} (row {row}) asks for GPU type {wish!r}, which no node of cluster "
        f"{cluster.name!r} has; it has {known}"
    )


def _draws_w(cluster: ClusterSpec, kinds: list[NodeClass], classes: list[NodeClass]) -> tuple[FloatArray, FloatArray]:
    """(C,) watts of one GPU and of one CPU beyond the idle ones; of groups of one class, the larger."""
    gpu_w, cpu_w = np.zeros(len(classes)), np.zeros(len(classes))
    for group, kind in zip(cluster.groups, kinds, strict=True):
        c = classes.index(kind)
        gpu = cluster.gpu_types.get(group.gpu_type or "")
        if gpu is not None and gpu.peak_w is not None:
            gpu_w[c] = max(gpu_w[c], gpu.peak_w - (gpu.idle_w or 0.0))
        if group.peak_w is not None and group.cpus:
            cpu_w[c] = max(cpu_w[c], (group.peak_w - (group.idle_w or 0.0)) / group.cpus)
    return gpu_w, cpu_w


def idle_draw_w(cluster: ClusterSpec) -> float:
    """Watts of the whole cluster when nothing runs."""
    total = 0.0
    for group in cluster.groups:
        gpu = cluster.gpu_types.get(group.gpu_type or "")
        total += group.count * ((group.idle_w or 0.0) + (group.gpus or 0.0) * ((gpu.idle_w or 0.0) if gpu else 0.0))
    return total


def capacity_of(
    cluster: ClusterSpec,
    *,
    gpus_asked: bool = False,
    shares_gpus: bool = False,
    places: Places | None = None,
    can_close: bool = False,
    counts_parts: bool = False,
) -> Capacity:
    """A cluster's nodes in whole units.

    CPUs or memory that a group does not state are no constraint there: logs often do not know them. GPUs that a group
    does not state are not there. They are counted at all when some group states them, or when jobs ask for them
    (``gpus_asked``) on nodes that are described by their CPUs. They are told apart when jobs share them
    (``shares_gpus``), unless a node stands for a pool of so many that it is no node. Then their memory and MIG
    instances are counted when jobs say something about them (``counts_parts``).
    """
    unlimited = np.int64(1) << 42  # more than any node has, and summable over a million nodes
    counts = [group.count for group in cluster.groups]
    rows = []
    tracked = []
    for r, resource in enumerate(RESOURCES):
        missing = np.int64(0) if resource == "gpus" else unlimited
        amounts = [getattr(group, resource) for group in cluster.groups]
        known = [
            missing if amount is None else int(to_units(np.asarray([amount]), r, up=False)[0]) for amount in amounts
        ]
        rows.append(np.repeat(np.asarray(known, dtype=np.int64), counts))
        tracked.append(any(amount is not None for amount in amounts))
    counts_gpus = tracked[2] or (gpus_asked and tracked[0])
    units = np.stack(rows)
    whole = units[2] % UNITS_PER[2] == 0
    apart = shares_gpus and counts_gpus and bool(whole.all()) and units[2].max() <= MOST_GPUS_APART * UNITS_PER[2]
    table = cluster.node_table()
    flat = table.switch_idx.max(initial=0) == 0
    cap_w = -1 if cluster.power_cap_w is None else int(cluster.power_cap_w - idle_draw_w(cluster))
    if cap_w < -1 or (cluster.power_cap_w is not None and cap_w < 0):
        raise UsageError(
            f"cluster {cluster.name!r}: power_cap_w {cluster.power_cap_w:g} is below the {idle_draw_w(cluster):g} W "
            "that the idle cluster draws"
        )
    return Capacity(
        units=units,
        tracked=(tracked[0], tracked[1], counts_gpus),
        gpus=units[2] // UNITS_PER[2] if apart else None,
        node_class=None
        if places is None or (places.allowed is None and len(places.types) == 1)
        else places.class_of_node,
        domains=None if flat else np.stack([table.switch_idx, table.rack_idx, table.zone_idx]),
        num_lanes=1 if places is None else places.num_lanes,
        power_cap_w=cap_w,
        can_close=can_close,
        parts=places.parts[places.class_of_node] if apart and counts_parts and places is not None else None,
    )


def quotas_of(
    cluster: ClusterSpec, capacity: Capacity, group_idx: IntArray, groups: list[str]
) -> tuple[Quotas | None, IntArray, list[str]]:
    """The quotas in units, each job's row in them (−1 without one), and the names of the rows."""
    if not cluster.quotas:
        return None, group_idx, groups
    names = list(cluster.quotas)
    unit = UNITS_PER[capacity.scarce]
    total = int(capacity.units[capacity.scarce].sum())
    guaranteed = np.asarray([round(quota.guaranteed_gpus * unit) for quota in cluster.quotas.values()], dtype=np.int64)
    limit = np.asarray(
        [
            own if not cluster.borrowing else total if quota.limit_gpus is None else round(quota.limit_gpus * unit)
            for quota, own in zip(cluster.quotas.values(), guaranteed.tolist(), strict=True)
        ],
        dtype=np.int64,
    )
    weights = [quota.weight for quota in cluster.quotas.values()]
    weight = np.asarray([1.0 if own is None else own for own in weights])
    row_of = np.asarray([*(names.index(group) if group in names else -1 for group in groups), -1], dtype=np.int64)
    shares = None if all(own is None for own in weights) else weight
    return Quotas(tuple(names), guaranteed, limit, shares), row_of[group_idx], names


def speeds_of(cluster: ClusterSpec, places: Places, models: list[str]) -> FloatArray | None:
    """(M + 1, C + NUM_TIERS) speeds of each model class, the first row for jobs without one; None when all are 1."""
    rows = []
    for model in [None, *models]:
        kinds = [cluster.gpu_types.get(kind or "") for kind in places.types]
        by_class = [1.0 if kind is None else kind.speed_of(model) for kind in kinds]
        rows.append([*by_class, *cluster.tier_speeds(model)])
    table = np.asarray(rows, dtype=np.float64)
    return None if (table == 1.0).all() else table
