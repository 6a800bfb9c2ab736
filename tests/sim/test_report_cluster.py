"""The report of runs on clusters: its numbers against brute force, and its page and figures as a reader gets them."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.energy import Downtimes
from shunter.scheduler.errors import UsageError
from shunter.scheduler.kernels.fragmentation import Typical, fragmentation, make_typical
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.types import FloatArray
from shunter.sim.failures import CAUSE_FAILURE, Spans, outages_of
from shunter.sim.replay import simulate
from shunter.sim.report import cluster_series, gpu_timeline, heatmap, series
from shunter.sim.report.cluster_figures import CLUSTER_FIGURES
from shunter.sim.report.cluster_page import PEOPLE_COLUMNS, cluster_data
from shunter.sim.report.cluster_sections import failure_cells, waiting_sentence
from shunter.sim.report.figures import write_figure, write_figures
from shunter.sim.report.held import Held, availability, held_of, node_amounts
from shunter.sim.report.html import render_report, write_report
from shunter.sim.report.people import people
from shunter.sim.result import Result
from shunter.sim.workload import Defaults
from shunter.traces.tables import ClusterSpec, GpuType, NodeGroup, Trace, make_jobs
from tests.sim.browser import CHROMIUM, opened

SPEC = ClusterSpec(
    "two kinds",
    (
        NodeGroup(
            "big",
            3,
            cpus=32.0,
            gpus=4.0,
            memory_gib=256.0,
            gpu_type="fast",
            idle_w=200.0,
            peak_w=400.0,
            price_per_h=8.0,
        ),
        NodeGroup(
            "small",
            2,
            cpus=16.0,
            gpus=2.0,
            memory_gib=64.0,
            gpu_type="slow",
            idle_w=100.0,
            peak_w=150.0,
            price_per_h=2.0,
        ),
        NodeGroup("cpu", 1, cpus=64.0, memory_gib=256.0, idle_w=100.0, peak_w=300.0, price_per_h=1.0),
    ),
    gpu_types={"fast": GpuType(idle_w=30.0, peak_w=400.0), "slow": GpuType(idle_w=10.0, peak_w=70.0)},
    carbon_g_per_kwh={"region-0": 300.0},
)
HOSTILE = "</script><script>alert(1)</script>"


def make_trace(num_jobs: int = 220, seed: int = 3) -> Trace:
    """Shared GPUs, single ones and gangs of 62 users in three groups; more than the cluster can take at once."""
    rng = np.random.default_rng(seed)
    gpus = rng.choice([0.0, 0.25, 0.5, 1.0, 2.0, 4.0], num_jobs, p=[0.1, 0.1, 0.15, 0.35, 0.2, 0.1])
    jobs = make_jobs(
        {
            "job_id": [HOSTILE, *(f"j{i}" for i in range(1, num_jobs))],
            "submit_s": np.round(np.cumsum(rng.exponential(200.0, num_jobs))),
            "duration_s": np.round(rng.lognormal(7.5, 1.2, num_jobs)) + 10,
            "tasks": np.where(gpus == 2, rng.integers(1, 4, num_jobs), 1),
            "gpus": gpus,
            "cpus": np.maximum(1.0, 4 * gpus),
            "memory_gib": np.full(num_jobs, 2.0),
            "user": [HOSTILE if i % 62 == 0 else f"u{i % 62}" for i in range(num_jobs)],
            "group": [("vision", "speech", "<b>text</b>")[i % 3] for i in range(num_jobs)],
        }
    )
    return Trace(name="mixed", jobs=jobs, cluster=SPEC)


@pytest.fixture(scope="module")
def runs() -> tuple[Result, Result]:
    """FCFS, and SRTF with preemption; node 1 fails in the middle, and one GPU of node 0 before it."""
    trace = make_trace()
    spans = Spans.joined(
        [
            Spans.of(np.array([1]), np.array([9000.0]), np.array([30000.0]), cause=CAUSE_FAILURE),
            Spans.of(np.array([0]), np.array([4000.0]), np.array([12000.0]), cause=CAUSE_FAILURE, gpu=np.array([2])),
        ]
    )
    both: dict[str, Any] = {"outages": outages_of(spans), "defaults": Defaults(checkpoint_s=600.0, restart_s=30.0)}
    first = simulate(trace, policy="fcfs", **both)
    return first, simulate(trace, policy="srtf", preemption=Preemption(("policy",)), **both)


def typical_tasks(trace: Trace) -> Typical:
    """The commonest kinds of task of a trace, until they cover 95 % of the jobs, weighted by their jobs."""
    frame = trace.jobs.frame.group_by("cpus", "gpus").len().sort("len", descending=True)
    covered = frame["len"].cum_sum() / len(trace.jobs)
    frame = frame.head(int((covered < 0.95).sum()) + 1)
    milli, weight = np.round(frame["gpus"].to_numpy() * 1000).astype(np.int64), frame["len"].to_numpy()
    return make_typical(
        cpu=np.round(frame["cpus"].to_numpy() * 1000).astype(np.int64),
        share=np.minimum(milli, 1000),
        gpus=-(-milli // 1000),
        weight=weight / weight.sum(),
        allowed=np.ones((len(milli), 1), dtype=np.bool_),
    )


def held_rows(spec: ClusterSpec, rows: list[tuple[Any, ...]], down: Downtimes | None = None) -> Held:
    """Placements given as ``(job, attempt, node, gpu, start, end, gpus, cpus)``."""
    columns = [np.asarray(column) for column in zip(*sorted(rows, key=lambda r: r[4]), strict=True)] or [
        np.zeros(0)
    ] * 8
    ints = [column.astype(np.int64) for column in columns[:4]]
    floats = [column.astype(np.float64) for column in columns[4:]]
    return Held(
        spec, *ints, *floats[:2], ["completed"] * len(rows), *floats[2:], down or Downtimes.none(), []
    )  # fmt: skip


# Heat map ---------------------------------------------------------------------------------------------------------


def brute_overlaps(rows: list[tuple[int, float, float, float]], num_rows: int, edges: FloatArray) -> FloatArray:
    """Each interval against each cell, by the definition of an overlap."""
    total = np.zeros((num_rows, len(edges) - 1))
    for row, begin, end, weight in rows:
        for b in range(len(edges) - 1):
            if row >= 0:
                total[row, b] += weight * max(0.0, min(end, edges[b + 1]) - max(begin, edges[b]))
    return total


seconds = st.one_of(st.integers(-5, 25).map(float), st.floats(-5, 25))
interval = st.tuples(st.integers(-1, 2), seconds, seconds, st.floats(0, 8)).map(
    lambda r: (r[0], min(r[1], r[2]), max(r[1], r[2]), r[3])
)


@settings(deadline=None, max_examples=80)
@given(st.lists(interval, max_size=12), st.lists(st.integers(0, 20), min_size=2, max_size=8, unique=True))
def test_overlaps_are_those_of_every_interval_with_every_cell(
    rows: list[tuple[int, float, float, float]], cuts: list[int]
) -> None:
    edges = np.sort(np.asarray(cuts, dtype=np.float64))
    row, begin, end, weight = (np.asarray(c) for c in zip(*rows, strict=True)) if rows else [np.zeros(0)] * 4
    got = heatmap.overlaps(row.astype(np.int64), begin, end, weight, 3, edges)
    np.testing.assert_allclose(got, brute_overlaps(rows, 3, edges), atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_cells_count_each_job_once(data: st.DataObject) -> None:
    """A job that comes back, or holds several GPUs and nodes of a row, is one job there."""
    rows = []
    for job in range(data.draw(st.integers(0, 5))):
        times = sorted(data.draw(st.lists(st.integers(0, 20), min_size=2, max_size=6)))
        for attempt, (begin, end) in enumerate(zip(times[::2], times[1::2], strict=False), start=1):
            nodes = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))
            rows += [(job, attempt, node, -1, begin, end, 1.0, 1.0) for node in nodes]
    edges = np.array([0.0, 4.0, 5.0, 10.0, 20.0])
    row_of = np.array([0, 0, 1])
    held = held_rows(SPEC, rows)
    cells = heatmap.JobsInCells(2, edges)
    by_end = held.take(np.lexsort((held.attempt, held.end_s)))
    cut = data.draw(st.integers(0, len(rows)))
    while 0 < cut < len(rows) and by_end.end_s[cut] == by_end.end_s[cut - 1]:
        cut += 1
    last = {r[0]: r[1] for r in sorted(rows, key=lambda r: r[1])}
    goes_on = np.asarray([last[job] > attempt for job, attempt in zip(by_end.job, by_end.attempt, strict=True)], bool)
    for part in (np.arange(cut), np.arange(cut, len(rows))):
        some = replace(by_end.take(part), goes_on=goes_on[part])
        cells.add(some, row_of[some.node])
    got = cells.counts
    for row in range(2):
        for b in range(4):
            inside = {r[0] for r in rows if row_of[r[2]] == row and min(r[5], edges[b + 1]) > max(r[4], edges[b])}
            assert got[row, b] == len(inside)


def test_shares_count_only_what_was_in_service() -> None:
    """big-0 holds 2 of 4 GPUs throughout; big-1 holds 4 until it fails at 5 s; one of small-0's two GPUs is away."""
    rows = [(0, 1, 0, -1, 0.0, 10.0, 2.0, 1.0), (1, 1, 1, -1, 0.0, 5.0, 4.0, 1.0), (2, 1, 3, 0, 0.0, 10.0, 1.0, 1.0)]
    down = Downtimes(np.array([1, 3]), np.array([-1, 1]), np.array([5.0, 0.0]), np.array([np.inf, 10.0]))
    spread = heatmap.node_rows(SPEC, "gpus")
    picture = heatmap.heat_map(held_rows(SPEC, rows, down), spread, "gpus", np.array([0.0, 2.5, 7.5, 10.0]))
    assert spread.row_of.tolist() == [0, 1, 2, 3, 4, -1]  # the node without GPUs has no row
    np.testing.assert_allclose(picture.share[:4], [[0.5, 0.5, 0.5], [1, 1, 0], [0, 0, 0], [1, 1, 1]])
    np.testing.assert_allclose(picture.down[:4], [[0, 0, 0], [0, 0.5, 1], [0, 0, 0], [0.5, 0.5, 0.5]])
    assert picture.jobs[:4].tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1]]


def test_mean_of_the_heat_map_is_the_utilisation(runs: tuple[Result, Result]) -> None:
    for result in runs:
        held = held_of(result)
        assert held is not None
        rows = heatmap.node_rows(held.spec, "gpus")
        picture = heatmap.heat_map(held, rows, "gpus", heatmap.time_edges(series.time_span([result]), 77))
        weight = rows.amount[:, None] * (1 - picture.down)
        assert (picture.share * weight).sum() / weight.sum() == pytest.approx(result.metrics["gpu_utilisation"])


def test_nodes_share_rows_within_their_group() -> None:
    spec = ClusterSpec("c", (NodeGroup("a", 5, gpus=8.0), NodeGroup("b", 2, gpus=4.0), NodeGroup("c", 3, cpus=1.0)))
    rows = heatmap.node_rows(spec, "gpus", max_rows=4)
    assert rows.row_of.tolist() == [0, 0, 1, 1, 2, 3, 3, -1, -1, -1]
    assert rows.amount.tolist() == [16, 16, 8, 8]
    assert heatmap.row_names(spec, rows) == ["a-0 … a-1", "a-2 … a-3", "a-4", "b-0 … b-1"]
    many = ClusterSpec("m", tuple(NodeGroup(f"g{i}", 1, gpus=1.0) for i in range(9)))
    assert heatmap.node_rows(many, "gpus", max_rows=4).row_of.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_large_heat_map_takes_less_than_a_second() -> None:
    rng = np.random.default_rng(0)
    count, nodes = 200_000, 1000
    start = np.sort(rng.uniform(0, 1e7, count))
    node, job = rng.integers(0, nodes, count), np.arange(count)
    one, none = np.ones(count), Downtimes.none()
    spec = ClusterSpec("large", (NodeGroup("n", nodes, gpus=8.0),))
    end = start + rng.exponential(30_000, count)
    held = Held(spec, job, np.ones(count, np.int64), node, np.full(count, -1), start, end, [], one, one, none, [])
    begin = time.process_time()
    picture = heatmap.heat_map(held, heatmap.node_rows(spec, "gpus", nodes), "gpus", np.linspace(0, 1e7, 401))
    assert picture.share.shape == (1000, 400)
    assert time.process_time() - begin < 1.0


# GPU timeline -----------------------------------------------------------------------------------------------------


def test_no_two_attempts_overlap_on_a_gpu(runs: tuple[Result, Result]) -> None:
    window = series.Window("all", *series.time_span(runs))
    for result in runs:
        run = held_of(result)
        assert run is not None
        held = run.whole()
        blocks = gpu_timeline.blocks_of(held.spec, max_lanes=8)
        assert [b.nodes.tolist() for b in blocks] == [[0, 1], [2, 3, 4]]
        drawn = 0.0
        for block in blocks:
            bars = gpu_timeline.bars_of(held, block, window)
            drawn += float(bars.width.sum())
            assert (bars.lane + bars.width <= block.size + 1e-9).all()
            for i, j in np.ndindex(len(bars.row), len(bars.row)):
                a, b = bars.row[i], bars.row[j]
                together = held.start_s[a] < held.end_s[b] and held.start_s[b] < held.end_s[a]
                if i < j and together:
                    apart = bars.lane[i] + bars.width[i], bars.lane[j] + bars.width[j]
                    assert bars.lane[i] >= apart[1] - 1e-9 or bars.lane[j] >= apart[0] - 1e-9
        lasting = held.end_s > held.start_s
        assert drawn == pytest.approx(held.gpus[lasting & (held.gpus > 0)].sum())


def test_bars_lie_on_the_gpu_that_the_run_names() -> None:
    rows = [(0, 1, 1, 3, 0.0, 9.0, 0.5, 1.0), (1, 1, 1, 3, 1.0, 9.0, 0.5, 1.0), (2, 1, 1, 0, 0.0, 9.0, 1.0, 1.0)]
    held = held_rows(SPEC, rows)
    block = gpu_timeline.blocks_of(SPEC, max_lanes=8)[0]
    bars = gpu_timeline.bars_of(held, block, series.Window("w", 0.0, 10.0))
    assert {int(held.job[r]): (lane, w) for r, lane, w in zip(bars.row, bars.lane, bars.width, strict=True)} == {
        0: (7.0, 0.5),
        1: (7.5, 0.5),
        2: (4.0, 1.0),
    }


def test_the_busiest_blocks_are_chosen() -> None:
    rows = [(0, 1, 4, -1, 0.0, 9.0, 2.0, 1.0), (1, 1, 0, -1, 0.0, 4.0, 4.0, 1.0), (2, 1, 1, -1, 50.0, 90.0, 4.0, 1.0)]
    held = held_rows(SPEC, rows)
    blocks = gpu_timeline.blocks_of(SPEC, max_lanes=4)
    window = series.Window("w", 0.0, 10.0)
    assert [b.nodes.tolist() for b in blocks] == [[0], [1], [2], [3, 4]]
    assert gpu_timeline.chosen_blocks(blocks, [held], window) == [3, 0, 1, 2]
    assert gpu_timeline.chosen_blocks(blocks, [held], window, most=2) == [3, 0]
    assert gpu_timeline.chosen_blocks(blocks, [held], window, max_bars=1) == [3]
    assert gpu_timeline.chosen_blocks(blocks, [held], window, max_bars=0) == [3]
    assert gpu_timeline.busiest(held, [window, series.Window("v", 50.0, 60.0)]).title == "v"


# Over time --------------------------------------------------------------------------------------------------------


def test_fragmentation_is_that_of_the_free_gpus_at_every_moment(runs: tuple[Result, Result]) -> None:
    """The kernel asked for each node from scratch, with what the placements leave free there."""
    typical = typical_tasks(make_trace())
    for result in runs:
        run = held_of(result)
        assert run is not None
        held = run.whole()
        steps = result.timeline.drop_nulls(["free_gpus", "fragmented_gpus"])
        time_s, free_all, fragmented = (steps[n].to_numpy() for n in ("time_s", "free_gpus", "fragmented_gpus"))
        cpus, gpus = node_amounts(SPEC, "cpus"), node_amounts(SPEC, "gpus").astype(int)
        for now in np.random.default_rng(1).uniform(0, time_s[-1], 40):
            on = (held.start_s <= now) & (held.end_s > now)
            out = (held.down.from_s <= now) & (held.down.until_s > now)
            total = free = 0.0
            for n in range(SPEC.num_nodes):
                if (out & (held.down.node == n) & (held.down.gpu < 0)).any():
                    continue
                left = np.full(4, 1000)
                for g in range(gpus[n]):
                    left[g] -= round(1000 * held.gpus[on & (held.node == n) & (held.gpu == g)].sum())
                    if (out & (held.down.node == n) & (held.down.gpu == g)).any():
                        left[g] = 0
                free_cpu = round(1000 * (cpus[n] - held.cpus[on & (held.node == n)].sum()))
                total += fragmentation(typical, free_cpu, left, gpus[n], 0) / 1000
                free += left[: gpus[n]].sum() / 1000
            at = int(np.searchsorted(time_s, now, side="right")) - 1
            assert fragmented[at] == pytest.approx(total, abs=1e-9)
            assert free_all[at] == pytest.approx(free, abs=1e-9)


def test_power_and_rho_agree_with_the_metrics(runs: tuple[Result, Result]) -> None:
    for result in runs:
        held = held_of(result)
        assert held is not None
        first, last = series.time_span([result])
        watts = cluster_series.power_means(held, np.linspace(first, last, 51))
        assert watts is not None
        assert watts.mean() * (last - first) / 3.6e6 == pytest.approx(result.metrics["energy_kwh"])
        rho = cluster_series.fairness_rho(result, "gpus")
        assert rho is not None
        assert np.nanmean(rho) == pytest.approx(result.metrics["avg_ftf_rho"])
    bare = replace(runs[0], manifest={"cluster": {"name": "c", "groups": [{"name": "n", "count": 6, "gpus": 4.0}]}})
    held = held_of(bare)
    assert held is not None
    assert cluster_series.power_means(held, np.array([0.0, 1.0])) is None


def test_availability_by_hand(runs: tuple[Result, Result]) -> None:
    """Node 1 is away for 21,000 s; the failure of one GPU leaves its node available."""
    held = held_of(runs[0])
    assert held is not None
    up = availability(held, 0.0, 42_000.0)
    assert up.tolist() == [1.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    cells = failure_cells(runs[0])
    assert [said for _, said in cells[:2]] == ["1", "1"]
    assert "(big-1)" in cells[3][1]


# Waiting, groups and users ----------------------------------------------------------------------------------------


def test_the_reasons_sum_to_the_waiting(runs: tuple[Result, Result]) -> None:
    for result in runs:
        total = cluster_series.waiting_reasons(result).sum()
        assert total == pytest.approx(cluster_series.total_waiting_s(result))
        assert total > 0
    assert waiting_sentence(runs).startswith("Every waiting second has one reason")
    wrong = replace(runs[0], jobs=runs[0].jobs.with_columns(pl.col("wait_queue_s") + 3600))
    assert "the run's tables do not agree" in waiting_sentence([wrong])
    by = cluster_series.reasons_by(runs, "user", top=5)
    assert [name for name, _ in by][-1].endswith("others")
    for i, result in enumerate(runs):
        parts = np.sum([values[i] for _, values in by], axis=0)
        np.testing.assert_allclose(parts, cluster_series.waiting_reasons(result))


def test_groups_by_hand(runs: tuple[Result, Result]) -> None:
    """Every number of a row, from the jobs and attempts of that group alone."""
    for result in runs:
        rows = people(result, "group", "gpus")
        assert [r["name"] for r in rows] == sorted((r["name"] for r in rows), key=lambda n: -hours_of(result, n)[0])
        assert sum(r["share"] for r in rows) == pytest.approx(1.0)
        for row in rows:
            jobs = result.jobs.filter(pl.col("group") == row["name"])
            assert row["jobs"] == jobs.height
            assert row["wait_s"] == pytest.approx(jobs["wait_s"].mean())
            assert row["p95_wait_s"] == pytest.approx(np.percentile(jobs["wait_s"], 95))
            assert row["jct_s"] == pytest.approx((jobs["end_s"] - jobs["submit_s"]).mean())
            hours, lost, preemptions = hours_of(result, row["name"])
            assert (row["hours"], row["lost_hours"]) == pytest.approx((hours, lost))
            assert row["preemptions"] == preemptions
        assert sum(r["lost_hours"] for r in rows) * 3600 == pytest.approx(result.metrics["lost_gpu_s"])
    assert sum(r["preemptions"] for r in people(runs[1], "group", "gpus")) == runs[1].metrics["preemptions"] > 0


def hours_of(result: Result, group: str) -> tuple[float, float, int]:
    """GPU-hours, GPU-hours lost and preemptions of a group, attempt by attempt."""
    jobs = result.jobs.rows(named=True)
    hours = lost = 0.0
    preemptions = 0
    for row in result.tables["attempts"].iter_rows(named=True):
        if jobs[row["job"]]["group"] == group:
            hours += jobs[row["job"]]["gpus"] * (row["end_s"] - row["start_s"]) / 3600
            lost += jobs[row["job"]]["gpus"] * (row["lost_s"] + row["overhead_s"]) / 3600
            preemptions += row["ended"] == "preempted"
    return hours, lost, preemptions


def test_those_after_the_first_are_summed(runs: tuple[Result, Result]) -> None:
    all_rows = people(runs[0], "user", "gpus", top=100)
    rows = people(runs[0], "user", "gpus", top=10)
    assert [r["name"] for r in rows[:10]] == [r["name"] for r in all_rows[:10]]
    assert rows[10]["others"] == 52
    assert rows[10]["hours"] == pytest.approx(sum(r["hours"] for r in all_rows[10:]))
    assert rows[10]["jobs"] == sum(r["jobs"] for r in all_rows[10:])
    assert len(people(runs[0], "user", "gpus", top=61)) == 62  # one row for one more name says more than "1 others"
    nobody = replace(runs[0], jobs=runs[0].jobs.with_columns(pl.lit(None, pl.String).alias("user")))
    assert people(nobody, "user", "gpus") == []


# Page -------------------------------------------------------------------------------------------------------------


def test_the_page_has_the_data_of_the_cluster(runs: tuple[Result, Result]) -> None:
    data = cluster_data(runs, "gpus", None)
    assert sorted(data) == ["free", "gpus", "heat", "people", "power", "rho", "waiting"]
    heat = data["heat"]
    share = np.frombuffer(base64.b64decode(heat["runs"][0]["share"]), np.uint8).reshape(5, heat["columns"])
    held = held_of(runs[0])
    assert held is not None
    rows = heatmap.node_rows(held.spec, "gpus")
    edges = heatmap.time_edges(series.time_span(runs), heat["columns"])
    np.testing.assert_array_equal(share, np.round(heatmap.heat_map(held, rows, "gpus", edges).share * 200))
    groups, users = data["people"]["tables"]
    assert (groups["name"], len(groups["runs"][0])) == ("Groups", 3)
    assert users["runs"][0][-1][0] == "12 others"
    assert all(len(row) == 2 + len(PEOPLE_COLUMNS) for row in users["runs"][0])
    json.dumps(data, allow_nan=False)


def test_the_page_says_what_it_shows_and_escapes_names(runs: tuple[Result, Result]) -> None:
    text = render_report(runs)
    for heading in (
        "Where the waiting came from", "The same by group", "Fragmented GPUs", "Power", "Nodes over time",
        "GPUs over time", "Failures and maintenance", "Finish-time fairness", "Groups in numbers", "Users in numbers",
    ):  # fmt: skip
        assert f"<h3>{heading}</h3>" in text
    assert text.count("<script") == 2
    assert "<b>text</b>" not in text
    assert re.search(r'class="value"[^>]*>[^<]* <small>kWh</small>', text)
    assert re.search(r'class="value"[^>]*>[^<]* <small>USD</small>', text)
    assert len(text) < 400_000
    assert render_report(runs) == text


def test_runs_without_tables_give_the_report_of_a_pool(runs: tuple[Result, Result]) -> None:
    names = [c for c in runs[0].jobs.columns if c.startswith("wait_") and c != "wait_s"]
    old = replace(
        runs[0], tables={"timeline": runs[0].timeline}, jobs=runs[0].jobs.drop(*names, "requeued_s", "lost_s")
    )
    text = render_report([old])
    assert '"cluster":' not in text.split('id="data">')[1].split("</script>")[0].replace('"cluster":{"name"', "")
    assert "Nodes over time" not in text
    assert "const C = DATA.cluster" not in text
    both = render_report([old, runs[1]])  # one run without and one with: the charts show the latter
    assert "Nodes over time" in both
    assert "The same by group" not in both


def test_runs_on_different_nodes_share_no_heat_map(runs: tuple[Result, Result]) -> None:
    groups = [{**g, "count": g["count"] + 1} for g in runs[1].manifest["cluster"]["groups"]]
    other = replace(runs[1], manifest=runs[1].manifest | {"cluster": runs[1].manifest["cluster"] | {"groups": groups}})
    data = cluster_data([runs[0], other], "gpus", None)
    assert "heat" not in data
    assert "gpus" not in data
    assert "waiting" in data


def test_tables_of_another_run_are_refused(runs: tuple[Result, Result]) -> None:
    for column, table in (("node", "placements"), ("node", "outages"), ("job", "placements")):
        wrong = runs[0].tables[table].with_columns(pl.col(column) + 1000)
        tables = {**runs[0].tables, table: wrong}
        if column == "job":
            tables["attempts"] = runs[0].tables["attempts"].with_columns(pl.col("job") + 1000)
        with pytest.raises(UsageError, match=rf"{table}\.parquet: names a {column} that is not one of the run's"):
            render_report([replace(runs[0], tables=tables)])


def test_a_large_run_makes_a_page_below_a_megabyte(runs: tuple[Result, Result]) -> None:
    """1,200 nodes, 40,000 attempts, five runs."""
    rng = np.random.default_rng(0)
    count, nodes = 40_000, 1200
    start = np.sort(rng.uniform(0, 3e6, count))
    end = start + rng.exponential(20_000, count)
    jobs = pl.DataFrame(
        {
            "job_id": [f"job-{i}" for i in range(count)], "submit_s": start, "start_s": start, "end_s": end,
            "wait_s": np.zeros(count), "attempts": np.ones(count), "state": ["completed"] * count,
            "reason": pl.Series([None] * count, dtype=pl.String), "duration_s": end - start, "requested_s": end - start,
            "tasks": np.ones(count, np.int64), "cpus": np.ones(count), "gpus": np.ones(count),
            "user": [f"user-{i % 900}" for i in range(count)], "group": [f"group-{i % 70}" for i in range(count)],
            **{f"wait_{name}_s": rng.exponential(100, count) for name in cluster_series.REASONS},
        }
    )  # fmt: skip
    tables = {
        "timeline": runs[0].timeline,
        "attempts": pl.DataFrame({"job": range(count), "attempt": 1, "start_s": start, "end_s": end, "ended": "lost"}),
        "placements": pl.DataFrame(
            {"job": range(count), "attempt": 1, "node": rng.integers(0, nodes, count), "gpu": -1, "gpus": 1.0}
        ),
        "outages": pl.DataFrame(
            {"node": range(nodes), "gpu": -1, "from_s": 1e6, "until_s": 1.2e6, "kind": "failure"}
        ),
    }  # fmt: skip
    spec = {"name": "large", "groups": [{"name": "n", "count": nodes, "gpus": 8.0}]}
    result = replace(runs[0], jobs=jobs, tables=tables, manifest={"cluster": spec}, metrics={"avg_wait_s": 1.0})
    assert len(render_report([replace(result, seed=i) for i in range(5)])) < 1_000_000


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize("number", [1, 2])
def test_a_browser_draws_the_cluster_without_an_error(runs: tuple[Result, Result], tmp_path: Path, number: int) -> None:
    write_report(runs[2 - number :], tmp_path / "report.html")
    stdout, stderr = opened(tmp_path / "report.html")
    assert "Uncaught" not in stderr
    assert "CONSOLE" not in stderr
    charts = dict(re.findall(r'<div class="chart" id="([\w-]+)">(<svg.*?</svg>)', stdout, re.DOTALL))
    expected = "cdf size reasons reasons-by utilisation queue fragmented power heat gpus gantt rho"
    assert list(charts) == expected.split()
    for svg in charts.values():
        assert "NaN" not in svg
        assert "undefined" not in svg
    assert charts["heat"].count('class="cells"') > 3
    assert 'class="away"' in charts["heat"]
    assert charts["gpus"].count('class="job') > 20
    assert stdout.count("<tfoot>") == 1
    assert "alert(1)</script>" not in stdout.replace("\\u003c", "<").split('id="data"')[0]


def test_figures_of_a_cluster(runs: tuple[Result, Result], tmp_path: Path) -> None:
    from matplotlib.image import imread

    assert list(CLUSTER_FIGURES) == ["nodes", "gpus", "fragmented", "power", "waiting-reasons", "fairness"]
    for name, (is_known, draw) in CLUSTER_FIGURES.items():
        assert is_known(runs)
        write_figure(draw, runs, tmp_path / f"{name}.png")
        picture = (imread(tmp_path / f"{name}.png")[::4, ::4, :3] * 255).astype(np.int64) @ np.array([65536, 256, 1])
        assert len(np.unique(picture)) > 30
    written = write_figures(runs[:1], tmp_path / "all", suffix=".pdf")
    assert [p.stem for p in written][-6:] == list(CLUSTER_FIGURES)
    old = [replace(r, tables={"timeline": r.timeline}) for r in runs[:1]]
    assert [name for name, (is_known, _) in CLUSTER_FIGURES.items() if is_known(old)] == ["waiting-reasons"]
