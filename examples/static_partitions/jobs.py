"""The jobs of the study, and the nodes that each virtual cluster is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray
from shunter.traces import read
from shunter.traces.clusters import load_cluster
from shunter.traces.generate import generate
from shunter.traces.tables import ClusterSpec, NodeGroup, Quota, Trace

DAY_S = 86400.0
LOG = Path(__file__).resolve().parents[2] / ".." / "shared" / "traces" / "philly" / "philly_jobs.csv.gz"
GPUS_PER_NODE = 8


@dataclass(frozen=True, slots=True)
class Study:
    """The jobs as arrays of shape (J,), and when what is measured; the warm-up is as long as a window unless said."""

    trace: Trace
    note: str
    submit_s: FloatArray
    duration_s: FloatArray
    gpus: FloatArray
    group_idx: IntArray
    groups: Sequence[str]
    demand_from_s: float
    calibrated_s: float
    window_s: float
    num_windows: int
    warm_up_s: float | None = None

    @property
    def source(self) -> dict[str, str]:
        """Where the jobs come from, as plain values."""
        return {"name": self.trace.name, "sha256": self.trace.sha256, "note": self.note}

    @classmethod
    def of(cls, trace: Trace, note: str, *, demand_from_s: float, calibrated_s: float, window_s: float) -> Study:
        """Cut what follows the calibration into full windows."""
        jobs = trace.jobs
        group_idx, groups = jobs.codes("group")
        submit_s = jobs.floats("submit_s")
        return cls(
            trace=trace,
            note=note,
            submit_s=submit_s,
            duration_s=jobs.floats("duration_s"),
            gpus=jobs.floats("gpus") * jobs.ints("tasks"),
            group_idx=group_idx,
            groups=groups,
            demand_from_s=demand_from_s,
            calibrated_s=calibrated_s,
            window_s=window_s,
            num_windows=int((submit_s[-1] - calibrated_s) // window_s),
        )

    def windows(self, count: int = 0) -> list[tuple[float, float]]:
        """Begin and end of each measured window; the first ``count`` of them, 0 for all."""
        begins = [self.calibrated_s + k * self.window_s for k in range(count or self.num_windows)]
        return [(begin_s, begin_s + self.window_s) for begin_s in begins]

    def demand(self, from_s: float, until_s: float) -> FloatArray:
        """(V,) GPUs that each virtual cluster would hold on average if nobody ever waited."""
        ends_s = np.minimum(self.submit_s + self.duration_s, until_s)
        held_s = np.maximum(ends_s - np.maximum(self.submit_s, from_s), 0.0)
        return np.bincount(self.group_idx, self.gpus * held_s, len(self.groups)) / (until_s - from_s)

    def largest_gang(self, until_s: float) -> FloatArray:
        """(V,) GPUs of the largest gang that each virtual cluster has submitted so far; 0 for none."""
        known = self.submit_s < until_s
        largest = np.zeros(len(self.groups))
        np.maximum.at(largest, self.group_idx[known], self.gpus[known])
        return largest


def philly() -> Study:
    """The log beside the repository, or a generated stand-in with as many days of calibration as it can spare."""
    if LOG.is_file():
        trace = read(LOG)
        return Study.of(trace, "Philly", demand_from_s=14 * DAY_S, calibrated_s=35 * DAY_S, window_s=7 * DAY_S)
    trace = generate("gpu", jobs=12_000, seed=1, params={"nodes": 40, "load": 0.7})
    span_s = float(trace.jobs.floats("submit_s")[-1])
    note = f"{LOG.name} is not there: generated jobs instead, which say nothing of Philly"
    return Study.of(trace, note, demand_from_s=0.0, calibrated_s=0.3 * span_s, window_s=0.7 * span_s / 9.01)


def nodes_for(demand: FloatArray, largest: FloatArray, total: int) -> IntArray:
    """(V,) nodes by virtual cluster, ``total`` in all: in proportion to demand, above what its largest gang needs.

    Who has never submitted gets none. Largest remainders go first, ties to the first virtual cluster.

    Raises:
        ValueError: The largest gangs alone need more.
    """
    least = np.ceil(largest / GPUS_PER_NODE).astype(np.int64)
    if least.sum() > total:
        raise ValueError(f"{total} nodes are fewer than the {least.sum()} of the largest gangs")
    given = least.copy()
    for _ in range(total - int(least.sum())):  # one node after the other to whom its share lacks most
        lacking = demand / demand.sum() * total - given
        given[int(np.argmax(np.where(largest > 0, lacking, -np.inf)))] += 1
    return given


def clusters(study: Study, nodes: IntArray) -> dict[bool, ClusterSpec]:
    """The same nodes as partitions (False) and as a pool with quotas (True): Philly's servers of 8 GPUs in racks."""
    philly_spec = load_cluster("philly")
    node = next(group for group in philly_spec.groups if group.gpus == GPUS_PER_NODE)
    owners = {study.groups[v]: int(count) for v, count in enumerate(nodes) if count}
    owned = tuple(replace(node, name=name, count=count, owner=name) for name, count in owners.items())
    pooled: tuple[NodeGroup, ...] = (replace(node, name="node", count=int(nodes.sum())),)
    quotas = {name: Quota(guaranteed_gpus=float(count * GPUS_PER_NODE)) for name, count in owners.items()}
    types = {node.gpu_type or "": philly_spec.gpu_types[node.gpu_type or ""]}
    return {
        False: ClusterSpec("partitions", owned, gpu_types=types),
        True: ClusterSpec("pool", pooled, gpu_types=types, quotas=quotas),
    }
