"""Small random clusters and workloads for the property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from shunter.scheduler.policies import ORDERINGS
from shunter.scheduler.reference import PLACE
from shunter.scheduler.state import BACKFILLS
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs, pool

POLICIES = sorted(
    name for name, ordering in ORDERINGS.items() if ordering.rounds is None and not ordering.needs_features
)
"""Orderings of a queue; what decides by rounds stops jobs, and models have to be handed in: both have properties of
their own."""
MODES = sorted(BACKFILLS)
PLACES = sorted(PLACE)  # the others score single GPUs, which these clusters do not have


@st.composite
def pools(draw: st.DrawFn) -> ClusterSpec:
    return pool(draw(st.integers(1, 12)))


@st.composite
def node_clusters(draw: st.DrawFn) -> ClusterSpec:
    groups = [
        NodeGroup(
            name=f"g{i}",
            count=draw(st.integers(1, 4)),
            cpus=draw(st.integers(2, 8)),
            memory_gib=draw(st.integers(4, 16)),
            gpus=draw(st.integers(0, 4)),
        )
        for i in range(draw(st.integers(1, 2)))
    ]
    return ClusterSpec(name="nodes", groups=tuple(groups))


@st.composite
def traces(
    draw: st.DrawFn, cluster: ClusterSpec, *, max_jobs: int = 14, overruns: bool = True, whole_s: bool = True
) -> Trace:
    """Jobs with many ties in time, some overrunning their request, some too large for the cluster."""
    num_jobs = draw(st.integers(1, max_jobs))
    is_pool = cluster.groups[0].memory_gib is None
    time_s = st.integers(0, 40) if whole_s else st.floats(0, 40, allow_subnormal=False)
    length_s = st.integers(1, 30) if whole_s else st.floats(0.1, 30)
    rows = []
    for i in range(num_jobs):
        duration_s = float(draw(length_s))
        factor = draw(st.sampled_from([1.0, 1.0, 1.5, 4.0] + ([0.5] if overruns else [])))
        rows.append(
            {
                "job_id": f"j{i}",
                "submit_s": float(draw(time_s)),
                "duration_s": duration_s,
                "requested_s": duration_s * factor,
                "tasks": draw(st.integers(1, 13 if is_pool else 6)),
                "cpus": 1.0 if is_pool else float(draw(st.integers(0, 3))),
                "memory_gib": 0.0 if is_pool else float(draw(st.integers(0, 4))),
                "gpus": 0.0 if is_pool else float(draw(st.sampled_from([0, 0, 1, 2]))),
                "user": draw(st.sampled_from(["ada", "bob", "cyd"])),
                "queue": draw(st.sampled_from(["short", "long"])),
                "priority": float(draw(st.integers(0, 2))),
            }
        )
    rows[0]["cpus"] = max(rows[0]["cpus"], 1.0)  # jobs that all ask for nothing are refused
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    return Trace(name="random", jobs=make_jobs(columns), cluster=cluster)


@st.composite
def lanes(draw: st.DrawFn, *, overruns: bool = True, max_jobs: int = 14) -> tuple[ClusterSpec, Trace]:
    """A cluster, pool or nodes, with a workload for it."""
    cluster = draw(st.one_of(pools(), node_clusters()))
    return cluster, draw(traces(cluster, overruns=overruns, max_jobs=max_jobs))
