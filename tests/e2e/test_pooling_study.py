"""The study of partitions against a pool: its rules by hand, and a small run of the whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.static_partitions import jobs
from examples.static_partitions.findings import Findings, change, fewest_nodes, investigate
from examples.static_partitions.jobs import Study, clusters, nodes_for, philly
from examples.static_partitions.replays import PARTITION_EASY, PARTITION_FCFS, POOL_EASY, Bench
from examples.static_partitions.report import CHANGES, as_json, draw, report, shown
from shunter.sim.power import node_prices
from shunter.traces.generate import generate
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs


@pytest.fixture(scope="module")
def small() -> Study:
    """1,500 generated jobs: calibration on the first third, seven windows."""
    trace = generate("gpu", jobs=1500, seed=3, params={"nodes": 12, "load": 0.8})
    span_s = float(trace.jobs.floats("submit_s")[-1])
    return Study.of(trace, "generated", demand_from_s=0.0, calibrated_s=0.3 * span_s, window_s=0.7 * span_s / 7.01)


@pytest.fixture(scope="module")
def findings(small: Study) -> Any:
    return investigate(small, quick=True, progress=lambda _: None)


def two_groups() -> Trace:
    """a holds 8 GPUs over [0, 100); b holds 16 over [50, 150) and submits 2 at 190 for 10 s."""
    jobs = {
        "job_id": ["1", "2", "3"],
        "submit_s": [0.0, 50.0, 190.0],
        "duration_s": [100.0, 100.0, 10.0],
        "gpus": [8.0, 8.0, 2.0],
        "tasks": [1, 2, 1],
        "group": ["a", "b", "b"],
    }
    return Trace("two", make_jobs(jobs), ClusterSpec("c", (NodeGroup("n", 4, gpus=8.0),)))


def test_demand_and_largest_gang_by_hand() -> None:
    made = Study.of(two_groups(), "", demand_from_s=0.0, calibrated_s=100.0, window_s=40.0)
    # [0, 100): a 8 GPUs for 100 s, b 16 GPUs for 50 s.
    assert made.demand(0.0, 100.0).tolist() == [8.0, 8.0]
    assert made.largest_gang(50.0).tolist() == [8.0, 0.0]
    assert made.largest_gang(100.0).tolist() == [8.0, 16.0]
    assert made.windows() == [(100.0, 140.0), (140.0, 180.0)]


def test_nodes_go_by_demand_above_the_largest_gang() -> None:
    # Shares of 10 nodes: 6, 3, 1; the third needs 2 for its gang, which the first, with the least lacking, gives.
    nodes = nodes_for(np.array([60.0, 30.0, 10.0]), np.array([8.0, 8.0, 16.0]), 10)
    assert nodes.tolist() == [5, 3, 2] or nodes.tolist() == [6, 2, 2]
    assert nodes.sum() == 10


def test_who_never_submitted_gets_no_nodes() -> None:
    assert nodes_for(np.array([1.0, 0.0, 1.0]), np.array([1.0, 0.0, 1.0]), 5)[1] == 0


def test_too_few_nodes_for_the_largest_gangs_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 nodes are fewer than the 3"):
        nodes_for(np.ones(2), np.array([16.0, 8.0]), 2)


def test_both_clusters_have_the_same_nodes(small: Study) -> None:
    nodes = np.arange(1, len(small.groups) + 1)
    specs = clusters(small, nodes)
    assert specs[False].num_nodes == specs[True].num_nodes == nodes.sum()
    assert {group.owner: group.count for group in specs[False].groups} == dict(
        zip(small.groups, nodes.tolist(), strict=True)
    )
    assert sum(quota.guaranteed_gpus for quota in specs[True].quotas.values()) == specs[True].total("gpus")
    assert node_prices(specs[True])[0].sum() == node_prices(specs[False])[0].sum()


def test_every_arm_runs_the_same_jobs_and_the_pool_waits_less(findings: Findings) -> None:
    arms = findings.arms
    assert {arm.left_out for arm in arms.values()} == {next(iter(arms.values())).left_out}
    counts = [arm.sums["jobs"].tolist() for arm in arms.values()]
    assert counts[0] == counts[1] == counts[2]
    pool, partitions = arms[POOL_EASY.name], arms[PARTITION_FCFS.name]
    assert pool.figure("wait_s") < partitions.figure("wait_s")
    for arm in arms.values():
        assert 0 < arm.figure("utilisation") <= 1
        assert arm.sums["useful_gpu_h"].sum() <= arm.sums["held_gpu_s"].sum() / 3600 + 1e-6


def test_cost_of_a_useful_gpu_hour_is_price_over_utilisation(findings: Findings) -> None:
    """Without preemption all that is held is useful: 2.07 a GPU-hour over the share of the GPUs held."""
    arm = findings.arms[PARTITION_FCFS.name]
    assert arm.figure("cost_per_useful_gpu_hour") == pytest.approx(2.07 / arm.figure("utilisation"))


def test_an_arm_does_not_differ_from_itself(findings: Findings) -> None:
    arm = findings.arms[PARTITION_FCFS.name]
    for name in CHANGES:
        assert change(arm, arm, name)["interval"] == [0.0, 0.0]
    worse = replace(arm, sums={**arm.sums, "wait_s": arm.sums["wait_s"] * 2})
    assert change(arm, worse, "wait_s") == {"relative": pytest.approx(1.0), "interval": pytest.approx([1.0, 1.0])}


def test_nothing_is_relative_to_no_wait(findings: Findings) -> None:
    arm = findings.arms[PARTITION_FCFS.name]
    idle = replace(arm, sums={**arm.sums, "wait_s": np.zeros(5)})
    once = replace(arm, sums={**arm.sums, "wait_s": np.array([0.0, 0.0, 0.0, 0.0, 1.0])})
    assert change(idle, arm, "wait_s") == {"relative": None, "interval": None}
    assert change(once, idle, "wait_s") == {"relative": -1.0, "interval": None}
    assert shown(change(idle, arm, "wait_s")) == "–"


def test_the_smallest_pool_keeps_the_wait(small: Study, findings: Findings) -> None:
    bench = Bench(small, small.windows(5), lambda _: None)
    own = [findings.nodes] * 5
    full = findings.arms[POOL_EASY.name]
    base = findings.arms[PARTITION_EASY.name]
    found = fewest_nodes(bench, POOL_EASY, own, {"x": base}, full)["x"]
    assert found.nodes <= found.total == findings.nodes.sum()
    assert found.pool.figure("wait_s") <= base.figure("wait_s")


def test_report_json_and_figure(findings: Findings, tmp_path: Path) -> None:
    text = report(findings)
    assert "The claim" in text
    assert json.loads(json.dumps(as_json(findings)))["arms"].keys() == findings.arms.keys()
    draw(findings, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_without_the_log_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jobs, "LOG", tmp_path / "philly_jobs.csv.gz")
    made = philly()
    assert "say nothing of Philly" in made.note
    assert made.num_windows >= 5
