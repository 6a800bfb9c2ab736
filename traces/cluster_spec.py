"""What the jobs run on: node groups, racks and switches, GPU types, quotas, prices, power and failure rates.

Owns the ``ClusterSpec`` and its parts; their files are read in ``schemas.py`` and ``clusters.py``. A specification
that exists has been validated; all of its problems are told at once, each with its path. What is not given is not
modelled: a specification of names, counts and amounts alone costs nothing, never fails and has no topology. All values
are plain numbers, texts, tuples and dictionaries, so that ``dataclasses.asdict`` of one can be written as JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shunter.scheduler.errors import ConfigError
from shunter.scheduler.types import IntArray
from shunter.traces.cluster_checks import all_problems, geometry_of_group

TIERS = ("node", "switch", "rack", "zone", "cluster")
"""How far apart the nodes of a gang lie, the closest first; ``cluster`` is anything beyond one zone."""


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """A number of equal nodes. ``None`` for a resource means that the log does not say: it is never a constraint.

    Attributes:
        name: Name of the group; its nodes are ``name-0``, ``name-1``, …
        count: Number of nodes.
        cpus: CPUs of a node.
        memory_gib: Main memory of a node.
        gpus: GPUs of a node.
        gpu_type: Their type, a key of ``ClusterSpec.gpu_types`` where that is given.
        rack_size: Nodes of a rack; racks are never shared between groups. None: the group is one rack.
        switch_size: Nodes under one leaf switch, a divisor of ``rack_size``. None: the rack is one switch.
        zone: Availability zone; zones of different regions are different even if they are called the same.
        region: Region: where the electricity comes from.
        price_per_h: Price of a node for an hour, in the cluster's currency.
        spot: Whether the provider may take the nodes back.
        idle_w: Power of an idle node without its GPUs.
        peak_w: Power of a node without its GPUs, all CPUs busy.
        mtbf_h: Mean time between failures of a node.
        mttr_h: Mean time to its repair.
        gpu_mtbf_h: Mean time between failures of one GPU.
        gpu_mttr_h: Mean time to its repair.
        failure_shape: Weibull shape of the times between failures; 1 is exponential, less is bursty.
        mig: Whether the GPUs are cut into MIG instances: true when their type says how, else the name of a geometry of
            ``scheduler.mig``.
        owner: The only group of jobs (virtual cluster) that may run here; None: everyone.
    """

    name: str
    count: int
    cpus: float | None = None
    memory_gib: float | None = None
    gpus: float | None = None
    gpu_type: str | None = None
    rack_size: int | None = None
    switch_size: int | None = None
    zone: str = "zone-0"
    region: str = "region-0"
    price_per_h: float | None = None
    spot: bool = False
    idle_w: float | None = None
    peak_w: float | None = None
    mtbf_h: float | None = None
    mttr_h: float | None = None
    gpu_mtbf_h: float | None = None
    gpu_mttr_h: float | None = None
    failure_shape: float = 1.0
    mig: bool | str = False
    owner: str | None = None

    @property
    def num_racks(self) -> int:
        """Racks that the group fills, the last one perhaps in part."""
        return -(-self.count // (self.rack_size or self.count))


@dataclass(frozen=True, slots=True)
class GpuType:
    """A kind of GPU.

    Attributes:
        memory_gib: Memory of one GPU.
        speed: Speed relative to the reference type by model class; ``default`` is for all other classes, 1 if absent.
        idle_w: Power of one GPU that nobody holds.
        peak_w: Power of one GPU in full use.
    """

    memory_gib: float | None = None
    speed: Mapping[str, float] = field(default_factory=lambda: {"default": 1.0}, hash=False)
    idle_w: float | None = None
    peak_w: float | None = None

    def speed_of(self, model_class: str | None) -> float:
        """Speed relative to the reference type for jobs of a model class; None: not known."""
        usual = self.speed.get("default", 1.0)
        return usual if model_class is None else self.speed.get(model_class, usual)


@dataclass(frozen=True, slots=True)
class Quota:
    """What a group of jobs (virtual cluster, account) is entitled to.

    Attributes:
        guaranteed_gpus: GPUs that it can always have.
        limit_gpus: GPUs that it never exceeds; None: with borrowing the whole cluster, else what is guaranteed.
        weight: Share of what is borrowed, relative to the other groups; where none says, the ordering alone decides.
    """

    guaranteed_gpus: float
    limit_gpus: float | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class NodeTable:
    """Where each node lies; arrays of shape (N,), int64, rows as the groups of the specification expanded in order.

    Attributes:
        group_idx: Row of its group.
        switch_idx: Its leaf switch, numbered over the cluster.
        rack_idx: Its rack, numbered over the cluster.
        zone_idx: Its zone, numbered in order of appearance.
        region_idx: Its region, numbered in order of appearance.
        gpus: Whole GPUs.
    """

    group_idx: IntArray
    switch_idx: IntArray
    rack_idx: IntArray
    zone_idx: IntArray
    region_idx: IntArray
    gpus: IntArray


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What the jobs run on. A log without node detail is one node with *n* CPUs (or *n* GPUs).

    Attributes:
        name: Name for people.
        groups: The nodes.
        kill_at_limit: Whether a job is stopped when it reaches its requested time.
        gpu_types: What is known of each GPU type; empty: all types are alike.
        quotas: Quota of each group of jobs; empty: no quotas. A group without one may only borrow.
        borrowing: Whether a group may use idle GPUs beyond its guarantee.
        tier_speed: By model class (or ``default``), relative speed of a gang by how far apart its nodes lie (a key for
            each of ``TIERS``). Empty: topology costs nothing.
        rack_mtbf_h: Mean time between failures of a whole rack.
        rack_mttr_h: Mean time to its repair.
        currency: Currency of all prices.
        carbon_g_per_kwh: Constant carbon intensity of the electricity, by region.
        power_cap_w: Power that the cluster may draw at most.
    """

    name: str
    groups: tuple[NodeGroup, ...]
    kill_at_limit: bool = False
    gpu_types: Mapping[str, GpuType] = field(default_factory=dict, hash=False)
    quotas: Mapping[str, Quota] = field(default_factory=dict, hash=False)
    borrowing: bool = True
    tier_speed: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)
    rack_mtbf_h: float | None = None
    rack_mttr_h: float | None = None
    currency: str = "USD"
    carbon_g_per_kwh: Mapping[str, float] = field(default_factory=dict, hash=False)
    power_cap_w: float | None = None

    def __post_init__(self) -> None:
        problems = list(all_problems(self, TIERS))
        if problems:
            clauses = (f"{path}: {reason}" for path, reason in problems)
            raise ConfigError(f"cluster {self.name!r}: " + "; ".join(clauses))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ClusterSpec:
        """The specification of which ``content`` is the ``dataclasses.asdict``; absent keys take their defaults.

        Raises:
            ConfigError: The specification is not valid.
            TypeError: An unknown key, or a required one is missing.
            AttributeError: Not mappings where there should be.
        """
        parts: dict[str, Any] = {"groups": tuple(NodeGroup(**group) for group in content.get("groups", ()))}
        parts["gpu_types"] = {name: GpuType(**kind) for name, kind in content.get("gpu_types", {}).items()}
        parts["quotas"] = {name: Quota(**quota) for name, quota in content.get("quotas", {}).items()}
        return cls(**{**content, **parts})

    @property
    def num_nodes(self) -> int:
        """Nodes over all groups."""
        return sum(group.count for group in self.groups)

    def geometry_of(self, group: NodeGroup) -> str | None:
        """How the GPUs of a group are cut into MIG instances, a key of ``scheduler.mig.GEOMETRIES``; None: not."""
        return geometry_of_group(group, self.gpu_types)

    def total(self, resource: str) -> float | None:
        """Capacity of ``cpus``, ``memory_gib`` or ``gpus`` over all nodes; None when no group says."""
        known = [(g.count, getattr(g, resource)) for g in self.groups if getattr(g, resource) is not None]
        return float(sum(count * value for count, value in known)) if known else None

    def tier_speeds(self, model_class: str | None) -> tuple[float, ...]:
        """Relative speed of a gang of a model class in each of ``TIERS``; None: not known.

        A tier that is not given costs what the one before it costs, and one node costs nothing.
        """
        usual = self.tier_speed.get("default", {})
        given = usual if model_class is None else self.tier_speed.get(model_class, usual)
        speeds, speed = [], 1.0
        for tier in TIERS:
            speed = given.get(tier, speed)
            speeds.append(speed)
        return tuple(speeds)

    def node_names(self) -> list[str]:
        """Name of each node: the group's name, numbered from 0 unless the group is a single node.

        Groups that share a name are numbered on, so that no two of their nodes are called the same.
        """
        counts: Counter[str] = Counter()
        for group in self.groups:
            counts[group.name] += group.count
        given: Counter[str] = Counter()
        names: list[str] = []
        for group in self.groups:
            first = given[group.name]
            given[group.name] += group.count
            alone = counts[group.name] == 1
            names += [group.name] if alone else [f"{group.name}-{first + i}" for i in range(group.count)]
        return names

    def node_table(self) -> NodeTable:
        """Where each node lies, see ``NodeTable``."""
        zones = {place: i for i, place in enumerate(dict.fromkeys((g.region, g.zone) for g in self.groups))}
        regions = {region: i for i, region in enumerate(dict.fromkeys(g.region for g in self.groups))}
        counts = np.asarray([group.count for group in self.groups], dtype=np.int64)
        rack_idx, switch_idx = _racks_and_switches(self.groups)

        def spread(values: list[int]) -> IntArray:
            return np.repeat(np.asarray(values, dtype=np.int64), counts)

        return NodeTable(
            group_idx=spread(list(range(len(self.groups)))),
            switch_idx=switch_idx,
            rack_idx=rack_idx,
            zone_idx=spread([zones[group.region, group.zone] for group in self.groups]),
            region_idx=spread([regions[group.region] for group in self.groups]),
            gpus=spread([int(group.gpus or 0) for group in self.groups]),
        )


def pool(size: float, *, resource: str = "cpus", name: str | None = None, kill_at_limit: bool = False) -> ClusterSpec:
    """A homogeneous pool: one node with ``size`` units of ``cpus`` or ``gpus`` and nothing else to run out of."""
    group = NodeGroup(name="pool", count=1, **{resource: float(size)})  # type: ignore[arg-type]
    return ClusterSpec(name=name or f"{size:g} {resource}", groups=(group,), kill_at_limit=kill_at_limit)


def _racks_and_switches(groups: tuple[NodeGroup, ...]) -> tuple[IntArray, IntArray]:
    """Rack and leaf switch of each node, both (N,) and numbered over the cluster."""
    racks: list[IntArray] = []
    switches: list[IntArray] = []
    next_rack = next_switch = 0
    for group in groups:
        rack_size = group.rack_size or group.count
        switch_size = group.switch_size or rack_size
        rack, place = np.divmod(np.arange(group.count, dtype=np.int64), rack_size)
        switch = rack * -(-rack_size // switch_size) + place // switch_size
        racks.append(next_rack + rack)
        switches.append(next_switch + switch)
        next_rack, next_switch = int(racks[-1][-1]) + 1, int(switches[-1][-1]) + 1
    return np.concatenate(racks), np.concatenate(switches)
