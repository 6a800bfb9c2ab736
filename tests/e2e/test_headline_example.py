"""The example that leads from partitions to a learned policy, whole, on generated jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from examples.headline import findings, jobs
from examples.headline.arms import PARTITION_FCFS, POOL_EASY, ladder, policies
from examples.headline.findings import Findings, investigate
from examples.headline.jobs import DEFAULT_REQUEST_S, as_one, num_nodes
from examples.headline.report import LEARNED, LEARNED_POOL, as_json, draw, report
from examples.static_partitions import jobs as partition_jobs
from examples.static_partitions.jobs import Study
from shunter.traces.generate import generate


def small() -> Study:
    """1,500 generated jobs: calibration on the first third, seven windows."""
    trace = generate("gpu", jobs=1500, seed=3, params={"nodes": 12, "load": 0.8})
    span_s = float(trace.jobs.floats("submit_s")[-1])
    return Study.of(trace, "generated", demand_from_s=0.0, calibrated_s=0.3 * span_s, window_s=0.7 * span_s / 7.01)


@pytest.fixture(scope="module")
def found() -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(findings, "philly_by_cluster", small)
    yield investigate(quick=True, progress=lambda _: None)
    patch.undo()


def test_no_arm_is_told_run_times() -> None:
    for arm in (*ladder(), *policies()):
        assert arm.estimates == "tsafrir"
        assert arm.default_request_s == DEFAULT_REQUEST_S


def test_who_may_stop_jobs() -> None:
    stopping = [arm.name for arm in policies() if arm.stops_jobs]
    assert all("preempts" in name for name in stopping)
    assert len(stopping) == 4
    assert [arm.stops_jobs for arm in ladder()] == [False, False, True, True, True, False]


def test_the_pool_waits_less_and_the_learned_order_is_another(found: Findings) -> None:
    arms = found.main.arms
    assert arms[LEARNED_POOL].figure("wait_s") < arms[PARTITION_FCFS.name].figure("wait_s")
    assert {tuple(arm.sums["jobs"]) for arm in arms.values()} == {tuple(arms[POOL_EASY.name].sums["jobs"])}
    compared = found.policies[0].arms
    assert compared["LAS, EASY"].figure("jct_s") == compared["FIFO, EASY"].figure("jct_s")  # nobody is stopped
    assert compared[LEARNED].figure("jct_s") != compared["FIFO, EASY"].figure("jct_s")


def test_report_json_and_figure(found: Findings, tmp_path: Path) -> None:
    text = report(found)
    assert "62 → 89 %" in text
    assert "generated" in text
    assert json.loads(json.dumps(as_json(found)))["pooling"][0]["arms"].keys() == found.main.arms.keys()
    draw(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_one_group_and_no_fewer_nodes_than_a_gang_needs() -> None:
    one = as_one(small())
    assert one.groups == ("all",)
    assert one.demand(0.0, one.calibrated_s).shape == (1,)
    assert num_nodes(one, 1e9) == -(-int(one.largest_gang(one.calibrated_s).max()) // 8)


def test_without_the_logs_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(partition_jobs, "LOG", tmp_path / "none.csv.gz")
    monkeypatch.setattr(jobs, "HELIOS", tmp_path / "none.csv.gz")
    assert "say nothing of Philly" in jobs.philly_by_cluster().note
    assert jobs.helios() is None
