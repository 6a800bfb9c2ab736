"""Facts of a cluster specification for people and scripts: totals, per group, per GPU type, per quota."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from shunter.scheduler.mig import GEOMETRIES, KINDS
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup


def describe_cluster(spec: ClusterSpec) -> dict[str, Any]:
    """Totals and details, all JSON-able; what is not known is absent.

    Returns:
        ``name``; ``nodes``, ``racks``, ``switches``, ``zones`` and ``regions``; the capacities ``cpus``, ``memory_gib``
        and ``gpus``; ``price_per_h``, and ``idle_w`` and ``peak_w`` with GPUs, each a sum over the groups that say;
        ``currency``, ``groups``, ``gpu_types``, ``quotas``; and ``spec``, the specification itself.
    """
    table = spec.node_table()
    facts: dict[str, Any] = {
        "name": spec.name,
        "nodes": spec.num_nodes,
        "racks": int(table.rack_idx[-1]) + 1,
        "switches": int(table.switch_idx[-1]) + 1,
        "zones": int(table.zone_idx.max()) + 1,
        "regions": int(table.region_idx.max()) + 1,
    }
    facts |= {kind: total for kind in ("cpus", "memory_gib", "gpus") if (total := spec.total(kind)) is not None}
    groups = [_group_facts(spec, group) for group in spec.groups]
    for name in ("price_per_h", "idle_w", "peak_w"):
        known = [group["count"] * group[name] for group in groups if name in group]
        if known:
            facts[name] = float(sum(known))
    return facts | {
        "currency": spec.currency,
        "groups": groups,
        "gpu_types": gpu_type_facts(spec),
        "quotas": quota_facts(spec),
        "spec": asdict(spec),
    }


def _group_facts(spec: ClusterSpec, group: NodeGroup) -> dict[str, Any]:
    """What is known of one group; ``idle_w`` and ``peak_w`` are of a node with its GPUs.

    With MIG instances also ``geometry``, and ``profiles`` with how many of each fit on one GPU.
    """
    facts = {name: value for name, value in asdict(group).items() if value is not None}
    facts["racks"] = group.num_racks
    geometry = spec.geometry_of(group)
    if geometry is not None:
        places = {name: len(KINDS[row].starts) for name, row in GEOMETRIES[geometry].profiles.items()}
        facts |= {"geometry": geometry, "profiles": places}
    kind = spec.gpu_types.get(group.gpu_type or "")
    for name in ("idle_w", "peak_w"):
        of_gpus = getattr(kind, name, None)
        parts = [getattr(group, name), None if of_gpus is None else of_gpus * (group.gpus or 0.0)]
        known = [part for part in parts if part is not None]
        facts.pop(name, None)
        if known:
            facts[name] = float(sum(known))
    return facts


def gpu_type_facts(spec: ClusterSpec) -> dict[str, dict[str, Any]]:
    """Number of GPUs and properties of each type that the groups or the specification name, in that order."""
    counts: Counter[str] = Counter()
    for group in spec.groups:
        if group.gpus:
            counts[group.gpu_type or "GPU"] += group.count * group.gpus  # type: ignore[assignment]
    facts: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys([*counts, *spec.gpu_types]):
        kind = spec.gpu_types.get(name)
        known = {} if kind is None else {key: value for key, value in asdict(kind).items() if value is not None}
        facts[name] = {"gpus": float(counts[name])} | known
    return facts


def quota_facts(spec: ClusterSpec) -> dict[str, dict[str, Any]]:
    """Guarantee, effective limit, weight and guaranteed share of the cluster of each group of jobs."""
    gpus = spec.total("gpus") or 0.0
    facts = {}
    for name, quota in spec.quotas.items():
        limit = quota.limit_gpus
        if limit is None:
            limit = gpus if spec.borrowing else quota.guaranteed_gpus
        facts[name] = {
            "guaranteed_gpus": quota.guaranteed_gpus,
            "limit_gpus": limit,
            "weight": quota.weight,
            "share": quota.guaranteed_gpus / gpus if gpus else 0.0,
        }
    return facts
