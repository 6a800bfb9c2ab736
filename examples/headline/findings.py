"""Runs the arms: what pooling does and what the policy adds, and the policy beside others on one pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from examples.headline.arms import ladder, policies
from examples.headline.jobs import as_one, helios, num_nodes, philly_by_cluster
from examples.static_partitions.jobs import GPUS_PER_NODE, Study, nodes_for
from examples.static_partitions.replays import Arm, Bench, Measured

Progress = Callable[[str], None]

LOADS = (0.75, 1.10)
MAIN_LOAD = 0.75
POLICY_LOADS = {"Philly": (1.10,), "Helios": (0.90, 1.00)}
"""Demand of the calibration over the GPUs, for the comparison of policies: where jobs wait."""

QUICK_WINDOWS = 3


@dataclass(frozen=True, slots=True)
class Level:
    """All arms at one load.

    Attributes:
        study: Whose jobs.
        load: Demand of the calibration over the GPUs.
        gpus: How many there are.
        arms: By name, what each did.
    """

    study: Study
    load: float
    gpus: int
    arms: Mapping[str, Measured]

    @property
    def offered(self) -> float:
        """Demand of the measured windows over the GPUs."""
        return float(next(iter(self.arms.values())).figure("offered"))


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was measured.

    Attributes:
        pooling: By load, from partitions to the pool under the learned policy.
        policies: Policies on one pool, by log and load.
    """

    study: Study
    pooling: tuple[Level, ...]
    policies: tuple[Level, ...]

    @property
    def main(self) -> Level:
        """Pooling at the main load."""
        return next(level for level in self.pooling if level.load == MAIN_LOAD)


def investigate(*, quick: bool, progress: Progress) -> Findings:
    """Run everything; ``quick``: three windows at one load, nothing that preempts by policy."""
    study = philly_by_cluster()
    loads = (MAIN_LOAD,) if quick else LOADS
    pooling = {load: pooled(study, load, quick=quick, progress=progress) for load in loads}
    other = None if quick else helios()
    if not quick and other is None:
        progress("the Helios log is not there: left out")
    asked = [(each, load) for each in (study, other) if each is not None for load in loads_of(each, quick=quick)]
    compared = [side_by_side(each, load, quick=quick, progress=progress) for each, load in asked]
    return Findings(study, tuple(pooling.values()), tuple(compared))


def loads_of(study: Study, *, quick: bool) -> tuple[float, ...]:
    """At which loads policies are compared on a log."""
    loads = POLICY_LOADS.get(study.note, POLICY_LOADS["Philly"])
    return loads[-1:] if quick else loads


def shares(study: Study, load: float) -> Any:
    """(V,) nodes by virtual cluster at a load; as in ``static_partitions``."""
    known = study.demand(study.demand_from_s, study.calibrated_s), study.largest_gang(study.calibrated_s)
    return nodes_for(*known, round(float(known[0].sum()) / load / GPUS_PER_NODE))


def pooled(study: Study, load: float, *, quick: bool, progress: Progress) -> Level:
    """Partitions and pools at one load."""
    bench = Bench(study, study.windows(QUICK_WINDOWS if quick else 0), progress)
    nodes = shares(study, load)
    arms = {arm.name: bench.run(arm, [nodes] * len(bench.windows)) for arm in ladder()}
    return Level(study, load, int(nodes.sum()) * GPUS_PER_NODE, arms)


def side_by_side(study: Study, load: float, *, quick: bool, progress: Progress) -> Level:
    """Policies on one pool at one load."""
    one = as_one(study)
    bench = Bench(one, one.windows(QUICK_WINDOWS if quick else 0), progress)
    nodes = np.asarray([num_nodes(one, load)])
    arms: tuple[Arm, ...] = policies(preempting=not quick)
    found = {arm.name: bench.run(arm, [nodes] * len(bench.windows)) for arm in arms}
    return Level(one, load, int(nodes[0]) * GPUS_PER_NODE, found)
