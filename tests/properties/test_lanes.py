"""Lanes, limits and the power cap against plain replays that must come out alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.sim.replay import simulate
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup, Quota
from shunter.traces.tables import Trace, make_jobs
from tests.examples import examples

SOME = settings(max_examples=examples(20), deadline=None)
OWNERS = ("red", "green", "blue")
BACKFILLS = ("none", "easy", "easy-noextra", "easy-sjbf")


@st.composite
def jobs_of_groups(draw: st.DrawFn, most_gpus: int) -> list[dict[str, Any]]:
    """Up to 14 jobs with many ties in time; they often ask for more time than they take."""
    rows = []
    for i in range(draw(st.integers(1, 14))):
        duration_s = float(draw(st.integers(1, 30)))
        rows.append(
            {
                "job_id": f"j{i}",
                "submit_s": float(draw(st.integers(0, 30))),
                "duration_s": duration_s,
                "requested_s": duration_s * draw(st.sampled_from([0.5, 1.0, 1.0, 2.0])),
                "gpus": float(draw(st.integers(1, most_gpus))),
                "group": draw(st.sampled_from([*OWNERS, None])),
            }
        )
    return sorted(rows, key=lambda row: row["submit_s"])


def started(rows: list[dict[str, Any]], cluster: ClusterSpec, **how: Any) -> dict[str, float | None]:
    """Job → start."""
    if not rows:
        return {}
    trace = Trace("random", make_jobs({name: [row[name] for row in rows] for name in rows[0]}), cluster)
    jobs = simulate(trace, **how).jobs
    return dict(zip(jobs["job_id"].to_list(), jobs["start_s"].to_list(), strict=True))


@SOME
@given(st.data())
def test_a_partition_is_a_cluster_of_its_own(data: st.DataObject) -> None:
    """Each owner's jobs, replayed on its nodes alone, start as they do beside the others."""
    nodes = tuple(
        NodeGroup(f"n{i}", data.draw(st.integers(1, 2)), gpus=float(data.draw(st.integers(1, 3))), owner=owner)
        for i, owner in enumerate((*OWNERS[: data.draw(st.integers(1, 3))], None))
    )
    rows = data.draw(jobs_of_groups(4))
    how = {
        "policy": data.draw(st.sampled_from(["fcfs", "sjf", "wfp3"])),
        "backfill": data.draw(st.sampled_from(BACKFILLS)),
        "depth": data.draw(st.sampled_from([0, 0, 2])),
    }
    found = started(rows, ClusterSpec("parts", nodes), **how)
    for group in nodes:
        others = {node.owner for node in nodes} - {None}
        mine = [row for row in rows if (row["group"] if row["group"] in others else None) == group.owner]
        alone = started(mine, ClusterSpec("alone", (replace(group, owner=None),)), **how)
        assert alone == {row["job_id"]: found[row["job_id"]] for row in mine}


@SOME
@given(st.data())
def test_a_power_cap_for_so_many_gpus_is_a_cluster_with_so_many(data: st.DataObject) -> None:
    """Watts are held, reserved and backfilled as GPUs of one node are."""
    gpus, rows = data.draw(st.integers(1, 5)), data.draw(jobs_of_groups(6))
    how = {"policy": data.draw(st.sampled_from(["fcfs", "sjf"])), "backfill": data.draw(st.sampled_from(BACKFILLS))}
    large = NodeGroup("n", 1, gpus=60.0, gpu_type="x")
    capped = ClusterSpec(
        "capped", (large,), gpu_types={"x": GpuType(idle_w=10.0, peak_w=110.0)}, power_cap_w=600.0 + 100 * gpus
    )
    small = ClusterSpec("small", (NodeGroup("n", 1, gpus=float(gpus)),))
    assert started(rows, capped, **how) == started(rows, small, **how)


@SOME
@given(st.data())
def test_a_group_under_a_limit_is_alone_on_a_cluster_of_that_size(data: st.DataObject) -> None:
    """What is over the limit waits, is reserved for and is passed as a head that does not fit is."""
    gpus, rows = data.draw(st.integers(1, 5)), data.draw(jobs_of_groups(6))
    how = {
        "policy": data.draw(st.sampled_from(["fcfs", "sjf"])),
        "backfill": data.draw(st.sampled_from(["none", "easy"])),
    }
    rows = [row | {"group": "red"} for row in rows]
    large = (NodeGroup("n", 1, gpus=60.0),)
    limited = ClusterSpec("limited", large, quotas={"red": Quota(0.0, float(gpus))})
    small = ClusterSpec("small", (NodeGroup("n", 1, gpus=float(gpus)),))
    assert started(rows, limited, **how) == started(rows, small, **how)
