"""Small random GPU clusters with everything that an operator may have, workloads for them, and what fails when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from shunter.scheduler.failover import Flapping
from shunter.scheduler.mig import offered
from shunter.scheduler.preemption import RULES, Preemption
from shunter.scheduler.state import PLACEMENTS
from shunter.sim.attempts import JobFailures
from shunter.sim.failures import CAUSE_FAILURE, Outages, PlannedDrain, Spans, merged, outages_of, planned_drains
from shunter.sim.flapping import with_probation
from shunter.sim.replay import simulate
from shunter.sim.result import Result
from shunter.sim.workload import Defaults
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup, Quota
from shunter.traces.tables import Trace, make_jobs

TYPES = ("v100", "a100", "h100")
GROUPS = ("red", "green", "blue")
POLICIES = (
    "fcfs",
    "sjf",
    "srtf",
    "las",
    "tiresias:first=20,second=60,third=200",
    "priority",
    "edf",
    "wfp3",
    "fairshare",
    "ftf",
)
BACKFILLS = ("none", "easy", "easy-noextra", "easy-sjbf")
PLACEMENT_NAMES = sorted(PLACEMENTS)
GEOMETRY_NAMES = ("a30-24gb", "a100-40gb", "a100-80gb")


@dataclass(frozen=True, slots=True)
class Case:
    """A replay: what runs where, and how."""

    cluster: ClusterSpec
    trace: Trace
    how: dict[str, Any] = field(default_factory=dict)

    def run(self, **changes: Any) -> Result:
        return simulate(self.trace, **{"cluster": self.cluster, "details": True, **self.how, **changes})


@st.composite
def clusters(draw: st.DrawFn, *, parts: bool = False) -> ClusterSpec:
    """One to three groups of nodes, and some of: GPU types, racks, speeds, owners, quotas, a power cap.

    With ``parts`` most groups have GPUs that are cut into MIG instances or of which the memory is known.
    """
    typed, owned = draw(st.booleans()), draw(st.sampled_from([False, False, True]))
    groups = []
    for i in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 4))
        switches = draw(st.sampled_from([None, 1, 2]))
        groups.append(
            NodeGroup(
                name=f"g{i}",
                count=count,
                cpus=draw(st.integers(8, 40) if parts else st.integers(4, 12)),
                memory_gib=draw(st.sampled_from([None, 16.0, 32.0])),
                gpus=draw(st.integers(1, 4)),
                gpu_type=TYPES[i] if typed else None,
                switch_size=switches,
                rack_size=2 if switches else None,
                zone=draw(st.sampled_from(["a", "b"])),
                idle_w=10.0,
                peak_w=30.0,
                owner=draw(st.sampled_from([None, *GROUPS])) if owned and i else None,
                mig=draw(st.sampled_from([False, *GEOMETRY_NAMES])) if parts else False,
            )
        )
    kinds = {
        name: GpuType(
            memory_gib=draw(st.sampled_from([None, 16.0, 40.0])) if parts else None,
            speed={"default": draw(st.sampled_from([0.5, 1.0, 2.0])), "llm": 1.5},
            idle_w=5.0,
            peak_w=105.0,
        )
        for name in TYPES
    }
    tiers = {"default": {"switch": 0.9, "rack": 0.8, "zone": 0.5}, "llm": {"switch": 0.5}}
    quotas = draw(st.one_of(st.just({}), st.just({}), quotas_of(groups)))
    idle_w = sum(group.count * (10.0 + (5.0 * (group.gpus or 0) if typed else 0.0)) for group in groups)
    return ClusterSpec(
        name="gpus",
        groups=tuple(groups),
        gpu_types=kinds if typed else {},
        quotas=quotas,
        borrowing=draw(st.booleans()),
        tier_speed=tiers if draw(st.booleans()) else {},
        power_cap_w=idle_w + draw(st.sampled_from([110.0, 250.0, 600.0])) if draw(st.integers(0, 4)) == 0 else None,
    )


@st.composite
def quotas_of(draw: st.DrawFn, nodes: list[NodeGroup]) -> dict[str, Quota]:
    """Guarantees out of the nodes that a group owns, or else out of those that nobody owns."""
    left: dict[str | None, int] = {}
    for group in nodes:
        left[group.owner] = left.get(group.owner, 0) + group.count * int(group.gpus or 0)
    quotas = {}
    for name in draw(st.sampled_from([GROUPS[:1], GROUPS[:2], GROUPS])):
        where = name if name in left else None
        own = draw(st.integers(0, left[where]))
        left[where] -= own
        quotas[name] = Quota(float(own), draw(st.sampled_from([None, float(own), float(own + 2)])))
    return quotas


@st.composite
def traces(
    draw: st.DrawFn, cluster: ClusterSpec, *, max_jobs: int = 12, overruns: bool = True, parts: bool = False
) -> Trace:
    """Gangs, shares of a GPU and jobs without one; wishes for GPU types; many ties in time.

    With ``parts`` also MIG instances that the cluster offers, and needs of GPU memory.
    """
    cuts = [name for name in map(cluster.geometry_of, cluster.groups) if name is not None]
    profiles = [None, *offered(cuts), *offered(cuts)] if cuts else [None]
    typed = bool(cluster.gpu_types)
    here = [group.gpu_type for group in cluster.groups if group.gpu_type is not None]
    wishes = [None, None, here[0], here[-1], f"{here[-1]}|{here[0]}"] if typed else [None]
    rows = []
    for i in range(draw(st.integers(1, max_jobs))):
        gpus = draw(st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0, 1.0, 2.0, 3.0]))
        profile = draw(st.sampled_from(profiles)) if parts else None
        duration_s = float(draw(st.integers(0, 40)))
        submit_s = float(draw(st.integers(0, 60)))
        rows.append(
            {
                "job_id": f"j{i}",
                "submit_s": submit_s,
                "duration_s": duration_s,
                "requested_s": max(duration_s, 1.0)
                * draw(st.sampled_from([1.0, 1.0, 2.0, *([0.5] if overruns else [])])),
                "tasks": draw(st.sampled_from([1, 1, 1, 2, 3, 5])),
                "gpus": gpus if profile is None else min(gpus, 1.0),
                "gpu_profile": profile,
                "gpu_memory_gib": draw(st.sampled_from([None, 2.0, 7.5, 12.0, 30.0])) if parts else None,
                "cpus": float(draw(st.integers(1, 4))),
                "memory_gib": float(draw(st.integers(0, 6))),
                "gpu_type": draw(st.sampled_from(wishes)),
                "group": draw(st.sampled_from([None, *GROUPS])),
                "user": draw(st.sampled_from(["ada", "bob"])),
                "priority": float(draw(st.integers(0, 2))),
                "model_class": draw(st.sampled_from([None, "llm"])),
                "deadline_s": draw(st.sampled_from([None, submit_s + 50.0])),
                "checkpoint_s": draw(st.sampled_from([None, 0.0, 4.0])),
                "restart_s": draw(st.sampled_from([None, 0.0, 3.0])),
            }
        )
    rows.sort(key=lambda row: row["submit_s"])
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return Trace(name="random", jobs=make_jobs(columns), cluster=cluster)


@st.composite
def failures(draw: st.DrawFn, cluster: ClusterSpec, *, gpus: bool = True) -> Outages:
    """Nodes and GPUs that fail and come back, and drains with notice; all is back in the end."""
    spans, drains = [], []
    table = cluster.node_table()
    for node in range(cluster.num_nodes):
        for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
            from_s, length_s = float(draw(st.integers(0, 150))), float(draw(st.integers(1, 40)))
            gpu = draw(st.integers(-1, int(table.gpus[node]) - 1)) if gpus else -1
            spans.append((node, gpu, from_s, from_s + length_s))
        if draw(st.integers(0, 5)) == 0:
            from_s = float(draw(st.integers(30, 120)))
            drains.append(PlannedDrain(node, from_s, from_s + 25.0, notice_s=float(draw(st.integers(0, 30)))))
    outages = merged(as_outages(spans), planned_drains(drains, cluster.num_nodes))
    rule = Flapping(draw(st.integers(1, 2)), window_s=80.0, probation_s=30.0)
    return with_probation(outages, rule) if draw(st.booleans()) else outages


def as_outages(spans: list[tuple[int, int, float, float]]) -> Outages:
    """Outages from (node, GPU or −1, from, until)."""
    import numpy as np

    columns = np.asarray(spans, dtype=np.float64).reshape(-1, 4).T
    node, gpu = columns[0].astype(np.int64), columns[1].astype(np.int64)
    return outages_of(Spans.of(node, columns[2], columns[3], cause=CAUSE_FAILURE, gpu=gpu))


@st.composite
def faults(draw: st.DrawFn, num_jobs: int) -> JobFailures:
    """Up to three failures of a job's own, and for some jobs how much work they are."""
    import numpy as np

    counts = [draw(st.sampled_from([0, 0, 1, 3])) for _ in range(num_jobs)]
    rows = np.repeat(np.arange(num_jobs, dtype=np.int64), counts)
    numbers = np.asarray([i for count in counts for i in range(1, count + 1)], dtype=np.int64)
    after_s = np.asarray([float(draw(st.integers(0, 30))) for _ in numbers])
    work_s = np.asarray([draw(st.sampled_from([np.nan, 0.0, 7.0])) for _ in counts])
    return JobFailures(rows, numbers, after_s, work_s if draw(st.booleans()) else np.zeros(0))


@st.composite
def preemptions(draw: st.DrawFn) -> Preemption:
    rules = draw(st.lists(st.sampled_from(RULES), min_size=1, max_size=3, unique=True))
    return Preemption(
        tuple(rules), min_run_s=draw(st.sampled_from([0.0, 0.0, 5.0])), grace_s=draw(st.sampled_from([0.0, 0.0, 4.0]))
    )


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    preempt: bool = True,
    fail: bool = True,
    conservative: bool = False,
    overruns: bool = True,
    parts: bool = False,
) -> Case:
    """A replay with any of the features that go together."""
    cluster = draw(clusters(parts=parts))
    trace = draw(traces(cluster, overruns=overruns, parts=parts))
    how: dict[str, Any] = {
        "policy": draw(st.sampled_from(POLICIES)),
        "backfill": draw(st.sampled_from(BACKFILLS)),
        "placement": draw(st.sampled_from(PLACEMENT_NAMES)),
        "locality_s": draw(st.sampled_from([0.0, 0.0, 15.0])),
        "depth": draw(st.sampled_from([0, 0, 2])),
        "interval_s": draw(st.sampled_from([0.0, 0.0, 0.0, 7.0])),
        "max_retries": draw(st.sampled_from([0, 1, 6])),
        "defaults": Defaults(draw(st.sampled_from([None, 5.0])), draw(st.sampled_from([0.0, 2.0]))),
    }
    plain = not (cluster.quotas or any(group.owner for group in cluster.groups) or cluster.power_cap_w is not None)
    if conservative and plain:
        how |= {"backfill": "conservative", "locality_s": 0.0}
    elif preempt and draw(st.booleans()):
        how["preemption"] = draw(preemptions())
    if fail and draw(st.booleans()):
        how["outages"] = draw(failures(cluster))
        how["blast_radius"] = draw(st.sampled_from([1.0, 0.3]))
        if how["backfill"] != "conservative" and not parts:
            how["failover"] = draw(st.sampled_from(["requeue", "move"]))
    if fail and draw(st.booleans()):
        how["faults"] = draw(faults(len(trace.jobs)))
        how["retry_wait_s"] = draw(st.sampled_from([0.0, 0.0, 6.0]))
    return Case(cluster, trace, how)
