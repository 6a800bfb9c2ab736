"""Whether a cluster specification makes sense: every problem with the path of its key.

Judges both the dataclasses and the models of their YAML files, which have the same attributes, so that a rule stands
in one place. Totals over the cluster are judged only where the parts are sound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from shunter.scheduler.errors import nearest
from shunter.scheduler.mig import GEOMETRIES, geometry_of

Problem = tuple[str, str]
"""Path of a key, and what is wrong with its value."""


def all_problems(spec: Any, tiers: tuple[str, ...]) -> Iterator[Problem]:
    """Everything that is wrong with a specification of which the types are right; ``tiers`` are those of topology."""
    if not spec.groups:
        yield "groups", "at least one node group is needed"
    known = list(spec.gpu_types)
    parts: list[tuple[str, Iterator[Problem]]] = [
        *((f"groups[{i}]", group_problems(group)) for i, group in enumerate(spec.groups)),
        *((f"groups[{i}]", gpu_type_name_problems(group, known)) for i, group in enumerate(spec.groups)),
        *((f"gpu_types.{name}", gpu_type_problems(kind)) for name, kind in spec.gpu_types.items()),
        *((f"quotas.{name}", quota_problems(quota)) for name, quota in spec.quotas.items()),
        ("tier_speed", tier_problems(spec.tier_speed, tiers)),
    ]
    is_sound = True
    for place, problems in parts:
        for path, reason in problems:
            is_sound = False
            yield (f"{place}.{path}" if path else place), reason
    yield from _number_problems(spec, positive=("rack_mtbf_h", "rack_mttr_h", "power_cap_w"))
    if not spec.currency:
        yield "currency", "a name cannot be empty"
    for region, value in spec.carbon_g_per_kwh.items():
        if not _is_amount(value):
            yield f"carbon_g_per_kwh.{region}", f"{value} is not a finite number of at least 0"
    if is_sound:
        yield from spec_pair_problems(spec)


def group_problems(group: Any) -> Iterator[Problem]:
    """What is wrong with a node group by itself; anything with the attributes of a ``NodeGroup`` will do."""
    if group.count < 1:
        yield "count", f"{group.count} is not a positive number of nodes"
    if group.cpus is None and group.memory_gib is None and group.gpus is None:
        yield "", "none of cpus, memory_gib, gpus is given"
    yield from _number_problems(
        group,
        amounts=("cpus", "memory_gib", "gpus", "price_per_h", "idle_w", "peak_w"),
        positive=("mtbf_h", "mttr_h", "gpu_mtbf_h", "gpu_mttr_h", "failure_shape"),
    )
    for name in ("rack_size", "switch_size"):
        size = getattr(group, name)
        if size is not None and size < 1:
            yield name, f"{size} is not a positive number of nodes"
    yield from group_pair_problems(group)


def group_pair_problems(group: Any) -> Iterator[Problem]:
    """Values of a node group that do not go together."""
    yield from _rate_problems(group, "mtbf_h", "mttr_h")
    yield from _rate_problems(group, "gpu_mtbf_h", "gpu_mttr_h")
    yield from _at_least_problems(group, (("peak_w", "idle_w"),))
    rack_size, switch_size = group.rack_size, group.switch_size
    if rack_size and switch_size and rack_size > 0 and switch_size > 0 and rack_size % switch_size:
        yield "switch_size", f"{switch_size} nodes a switch do not divide a rack of {rack_size} nodes evenly"
    for name in ("mig", "gpu_mtbf_h"):
        if getattr(group, name) and group.gpus == 0:
            yield name, "the nodes of this group have no GPUs"
    for name in ("zone", "region", "owner"):
        if getattr(group, name) == "":
            yield name, "a name cannot be empty"


def gpu_type_problems(kind: Any) -> Iterator[Problem]:
    """What is wrong with a GPU type by itself."""
    yield from _number_problems(kind, amounts=("idle_w", "peak_w"), positive=("memory_gib",))
    yield from _at_least_problems(kind, (("peak_w", "idle_w"),))
    for name, value in kind.speed.items():
        if not (_is_amount(value) and value > 0):
            yield f"speed.{name}", f"{value} is not a finite number above 0"


def quota_problems(quota: Any) -> Iterator[Problem]:
    """What is wrong with a quota by itself."""
    yield from _number_problems(quota, amounts=("guaranteed_gpus", "limit_gpus"), positive=("weight",))
    yield from _at_least_problems(quota, (("limit_gpus", "guaranteed_gpus"),))


def tier_problems(tier_speed: Mapping[str, Mapping[str, float]], tiers: tuple[str, ...]) -> Iterator[Problem]:
    """What is wrong with the speeds of topology tiers."""
    for model_class, speeds in tier_speed.items():
        for tier, value in speeds.items():
            path = f"{model_class}.{tier}"
            if tier not in tiers:
                yield path, f"unknown tier{nearest(tier, list(tiers))}"
            elif not (_is_amount(value) and 0 < value <= 1):
                yield path, f"{value} is not above 0 and at most 1, the speed of a gang on one node"


def gpu_type_name_problems(group: Any, known: list[str]) -> Iterator[Problem]:
    """A GPU type that is not among those of the specification; where it has none, any name will do."""
    if known and group.gpu_type is not None and group.gpu_type not in known:
        yield "gpu_type", f"unknown GPU type {group.gpu_type!r}{nearest(group.gpu_type, known)}"


def geometry_of_group(group: Any, kinds: Mapping[str, Any]) -> str | None:
    """The geometry of a group's MIG instances: its own, or its GPU type's; None where there is none or it is not known.

    Args:
        group: Anything with the attributes of a ``NodeGroup``.
        kinds: GPU types by name.
    """
    if not group.mig:
        return None
    if isinstance(group.mig, str):
        return group.mig if group.mig in GEOMETRIES else None
    kind = kinds.get(group.gpu_type or "")
    return geometry_of(group.gpu_type, None if kind is None else kind.memory_gib)


def _mig_problems(spec: Any) -> Iterator[Problem]:
    """Groups of which it cannot be told into which instances their GPUs are cut."""
    for i, group in enumerate(spec.groups):
        if not group.mig or geometry_of_group(group, spec.gpu_types) is not None:
            continue
        known = ", ".join(GEOMETRIES)
        if isinstance(group.mig, str):
            yield f"groups[{i}].mig", f"unknown geometry {group.mig!r}{nearest(group.mig, list(GEOMETRIES))}"
        else:
            yield (
                f"groups[{i}].mig",
                f"GPU type {group.gpu_type!r} and its memory do not tell how the GPUs are cut; instead of true, name "
                f"one of {known}",
            )


def spec_pair_problems(spec: Any) -> Iterator[Problem]:
    """What is wrong between the parts of a specification, each of which is sound by itself."""
    yield from _mig_problems(spec)
    regions = sorted({group.region for group in spec.groups})
    for region in spec.carbon_g_per_kwh:
        if region not in regions:
            yield f"carbon_g_per_kwh.{region}", f"no group lies in this region{nearest(region, regions)}"
    yield from _rate_problems(spec, "rack_mtbf_h", "rack_mttr_h")
    yield from _quota_totals(spec)


def _quota_totals(spec: Any) -> Iterator[Problem]:
    """Guarantees that the cluster cannot keep."""
    gpus = float(sum(group.count * (group.gpus or 0.0) for group in spec.groups))
    for name, quota in spec.quotas.items():
        reachable = sum(g.count * (g.gpus or 0.0) for g in spec.groups if g.owner in (None, name))
        if quota.guaranteed_gpus > reachable:
            what = f"the {reachable:g} GPUs" + ("" if reachable == gpus else f" (of {gpus:g}) that are open to it")
            yield f"quotas.{name}.guaranteed_gpus", f"{quota.guaranteed_gpus:g} is more than {what}"
    guaranteed = sum(quota.guaranteed_gpus for quota in spec.quotas.values())
    if guaranteed > gpus and len(spec.quotas) > 1:
        yield "quotas", f"{guaranteed:g} GPUs are guaranteed in all, but the cluster has {gpus:g}"


def _number_problems(part: Any, amounts: tuple[str, ...] = (), positive: tuple[str, ...] = ()) -> Iterator[Problem]:
    """Attributes that are no finite number of at least 0, or not above 0 where that is needed; None is fine."""
    for name in amounts:
        value = getattr(part, name)
        if value is not None and not _is_amount(value):
            yield name, f"{value} is not a finite number of at least 0"
    for name in positive:
        value = getattr(part, name)
        if value is not None and not (_is_amount(value) and value > 0):
            yield name, f"{value} is not a finite number above 0"


def _rate_problems(part: Any, failure: str, repair: str) -> Iterator[Problem]:
    """A time between failures without a time to repair, or the other way round: neither means anything alone."""
    fails, is_repaired = getattr(part, failure) is not None, getattr(part, repair) is not None
    if fails and not is_repaired:
        yield failure, f"a time between failures needs {repair} too"
    if is_repaired and not fails:
        yield repair, f"a time to repair needs {failure} too"


def _at_least_problems(part: Any, pairs: tuple[tuple[str, str], ...]) -> Iterator[Problem]:
    """Pairs of attributes of which the first may not be the smaller."""
    for name, other in pairs:
        high, low = getattr(part, name), getattr(part, other)
        if high is not None and low is not None and high < low:
            yield name, f"{high:g} is below {other} of {low:g}"


def _is_amount(value: float) -> bool:
    return math.isfinite(value) and value >= 0
