"""Outages: legal alternation, drawing by rates, availability, recorded logs."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import ConfigError, TraceError, UsageError
from shunter.sim.failure_logs import read_outages
from shunter.sim.failures import (
    CAUSE_DRAIN,
    CAUSE_FAILURE,
    CAUSE_RACK,
    DRAIN,
    FAIL,
    REPAIR,
    RESUME,
    WHOLE_NODE,
    Outages,
    PlannedDrain,
    Spans,
    availability,
    draw_outages,
    merged,
    outages_of,
    planned_drains,
    spans_of,
)
from shunter.traces.tables import ClusterSpec, NodeGroup
from tests.traces.conftest import SHARED

HOUR_S = 3600.0


def cluster(*groups: NodeGroup, **fields: float) -> ClusterSpec:
    return ClusterSpec("test", groups, **fields)  # type: ignore[arg-type]


def story(outages: Outages) -> list[tuple[float, int, int, int]]:
    """(time, node, GPU, kind) of every event."""
    columns = (outages.time_s, outages.node, outages.gpu, outages.kind)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def check_legal(outages: Outages) -> None:
    """Follow every event; each must lead from where its node or GPU is."""
    assert (np.diff(outages.time_s) >= 0).all()
    node_state: dict[int, str] = {}
    broken: set[tuple[int, int]] = set()
    for _, node, gpu, kind in story(outages):
        state = node_state.get(node, "up")
        if gpu != WHOLE_NODE:
            assert state != "down"
            assert ((node, gpu) in broken) == (kind == REPAIR)
            (broken.add if kind == FAIL else broken.discard)((node, gpu))
        elif kind == FAIL:
            assert state != "down"
            assert not any(where == node for where, _ in broken), "its GPUs' outages are cut at its own"
            node_state[node] = "down"
        else:
            expected = {REPAIR: "down", DRAIN: "up", RESUME: "draining"}[kind]
            assert state == expected
            node_state[node] = "draining" if kind == DRAIN else "up"


# --- intervals -------------------------------------------------------------------------------------------------------

TIMES = st.integers(-5, 40)
SPAN = st.tuples(st.integers(0, 2), st.integers(-1, 2), TIMES, TIMES, st.booleans())


def table(rows: list[tuple[int, int, int, int, bool]]) -> Spans:
    node, gpu, begin, length = (np.asarray([row[i] for row in rows], dtype=np.int64) for i in range(4))
    is_down = np.asarray([row[4] for row in rows], dtype=np.bool_) | (gpu >= 0)
    cause = np.where(is_down, CAUSE_FAILURE, CAUSE_DRAIN).astype(np.int64)
    return Spans(node, gpu, begin.astype(float), (begin + length).astype(float), cause, is_down)


def lasting(spans: Spans, node: int, gpu: int, at_s: float, *, down: bool) -> bool:
    mine = (spans.node == node) & (spans.gpu == gpu) & (spans.is_down == down)
    return bool((mine & (spans.from_s <= at_s) & (at_s < spans.until_s)).any())


@settings(deadline=None)
@given(st.lists(SPAN, max_size=12))
def test_any_intervals_become_a_legal_story_that_says_the_same(rows: list[tuple[int, int, int, int, bool]]) -> None:
    """At each half second: node and GPU are down as the intervals say, a GPU only while its node is not."""
    given_spans = table(rows)
    outages = outages_of(given_spans)
    check_legal(outages)
    found = spans_of(outages)
    for node in range(3):
        for at_s in np.arange(0.5, 80, 1.0).tolist():
            is_away = lasting(given_spans, node, -1, at_s, down=True)
            assert lasting(found, node, -1, at_s, down=True) == is_away
            is_draining = lasting(given_spans, node, -1, at_s, down=False) and not is_away
            assert lasting(found, node, -1, at_s, down=False) == is_draining
            for gpu in range(3):
                is_broken = lasting(given_spans, node, gpu, at_s, down=True) and not is_away
                assert lasting(found, node, gpu, at_s, down=True) == is_broken


def test_overlapping_outages_are_one_with_the_first_cause() -> None:
    parts = [
        Spans.of(np.asarray([1]), np.asarray([20.0]), np.asarray([40.0]), cause=CAUSE_FAILURE),
        Spans.of(np.asarray([1]), np.asarray([10.0]), np.asarray([30.0]), cause=CAUSE_RACK),
    ]
    outages = outages_of(Spans.joined(parts))
    assert story(outages) == [(10, 1, -1, FAIL), (40, 1, -1, REPAIR)]
    assert outages.cause.tolist() == [CAUSE_RACK, CAUSE_RACK]


def test_outages_that_begin_together_have_the_least_cause() -> None:
    both = (np.asarray([1]), np.asarray([10.0]))
    parts = [
        Spans.of(*both, np.asarray([50.0]), cause=CAUSE_RACK),
        Spans.of(*both, np.asarray([20.0]), cause=CAUSE_FAILURE),
    ]
    assert outages_of(Spans.joined(parts)).cause.tolist() == [CAUSE_FAILURE, CAUSE_FAILURE]
    assert outages_of(Spans.joined(parts[::-1])).cause.tolist() == [CAUSE_FAILURE, CAUSE_FAILURE]


def test_a_gpus_outage_is_cut_out_where_its_node_is_down() -> None:
    """GPU 2 is broken from 0 to 50, its node down from 10 to 30; GPU 5 is broken only while the node is down."""
    node, gpu = np.asarray([0, 0, 0]), np.asarray([2, -1, 5])
    spans = Spans(
        node, gpu, np.asarray([0.0, 10, 12]), np.asarray([50.0, 30, 20]), np.zeros(3, np.int64), np.ones(3, bool)
    )
    expected = [(0, 0, 2, FAIL), (10, 0, 2, REPAIR), (10, 0, -1, FAIL)]
    assert story(outages_of(spans)) == [*expected, (30, 0, -1, REPAIR), (30, 0, 2, FAIL), (50, 0, 2, REPAIR)]


def test_an_outage_without_an_end_has_no_repair() -> None:
    spans = Spans.of(np.asarray([0]), np.asarray([5.0]), np.asarray([math.inf]), cause=CAUSE_FAILURE)
    outages = outages_of(spans)
    assert story(outages) == [(5, 0, -1, FAIL)]
    assert spans_of(outages).until_s.tolist() == [math.inf]
    assert availability(outages, 2, 20.0) == pytest.approx(1 - 15 / 40)


def test_a_drain_with_notice_is_taken_away_and_comes_back() -> None:
    outages = planned_drains([PlannedDrain(3, 100.0, 160.0, notice_s=30.0)], num_nodes=4)
    assert story(outages) == [(70, 3, -1, DRAIN), (100, 3, -1, FAIL), (160, 3, -1, REPAIR)]
    spans = spans_of(outages)
    assert spans.is_down.tolist() == [False, True]
    assert spans.cause.tolist() == [CAUSE_DRAIN, CAUSE_DRAIN]
    assert availability(outages, 4, 200.0) == pytest.approx(1 - 60 / 800)


def test_bad_drains_are_told_all_at_once() -> None:
    bad = [PlannedDrain(9, 0, 1), PlannedDrain(0, 5, 5), PlannedDrain(0, 5, 6, notice_s=-1)]
    with pytest.raises(UsageError, match=r"drains\[0\]: node 9 .*drains\[1\]: .*drains\[2\]: .*notice_s"):
        planned_drains(bad, num_nodes=4)


def test_a_failure_during_a_drains_notice() -> None:
    """The node fails at 80, ten seconds into the notice, is back at 90, and drains on until it is taken away at 100."""
    drain = planned_drains([PlannedDrain(0, 100.0, 160.0, notice_s=30.0)], num_nodes=1)
    failure = outages_of(Spans.of(np.asarray([0]), np.asarray([80.0]), np.asarray([90.0]), cause=CAUSE_FAILURE))
    expected = [(70, 0, -1, DRAIN), (80, 0, -1, FAIL), (90, 0, -1, REPAIR), (90, 0, -1, DRAIN), (100, 0, -1, FAIL)]
    assert story(merged(drain, failure)) == [*expected, (160, 0, -1, REPAIR)]


# --- drawing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [1.0, 0.7, 2.0])
def test_availability_is_mtbf_over_mtbf_plus_mttr(shape: float) -> None:
    """Renewal theory: the up time of one node over a long T has mean A·T and variance T (σu²·d² + σd²·u²) / (u + d)³.

    u, d are the means of up and down times and σ² their variances; for the exponential repair σd = d, for a Weibull of
    shape k σu² = u² (Γ(1+2/k) / Γ(1+1/k)² − 1). Source: Cox, Renewal theory, 1962, ch. 7. Over n independent nodes the
    share of time up is normal around A with that variance over n·T²; 4 σ are missed once in 16,000 seeds. A node that
    is new at 0 is up (A·E[C²] − E[U²]) / 2(u + d) longer than A·T, with C = U + D (second term of p*(s) at s → 0).
    """
    up_h, down_h, nodes, until_h = 100.0, 10.0, 200, 40_000.0
    group = NodeGroup("n", nodes, cpus=1, mtbf_h=up_h, mttr_h=down_h, failure_shape=shape)
    outages = draw_outages(cluster(group), until_s=until_h * HOUR_S, seed=11)
    measured = availability(outages, nodes, until_h * HOUR_S)
    spread = math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1
    variance = until_h * (spread * up_h**2 * down_h**2 + down_h**2 * up_h**2) / (up_h + down_h) ** 3
    sigma = math.sqrt(variance / nodes) / until_h
    expected = up_h / (up_h + down_h)
    up_squared = (1 + spread) * up_h**2
    cycle_squared = up_squared + 2 * down_h**2 + 2 * up_h * down_h
    new_h = (expected * cycle_squared - up_squared) / (2 * (up_h + down_h))
    assert sigma < 6e-4
    assert abs(measured - expected - new_h / until_h) < 4 * sigma


@pytest.mark.parametrize("shape", [1.0, 0.7])
def test_up_and_down_times_have_the_stated_means(shape: float) -> None:
    """Means of the times from repair to failure and back, within 4 standard errors (σ as above)."""
    group = NodeGroup("n", 100, cpus=1, mtbf_h=50, mttr_h=2, failure_shape=shape)
    spans = spans_of(draw_outages(cluster(group), until_s=4000 * HOUR_S, seed=5))
    order = np.lexsort((spans.from_s, spans.node))
    node, begin, end = spans.node[order], spans.from_s[order] / HOUR_S, spans.until_s[order] / HOUR_S
    up = (begin[1:] - end[:-1])[node[1:] == node[:-1]]
    spread = math.sqrt(math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1)
    # The last life of each node is cut off: with ~77 lives a node the bias is far below an error of 0.6 %.
    assert abs(up.mean() - 50) < 4 * 50 * spread / math.sqrt(len(up)) + 50 / 77
    down = end - begin
    assert abs(down.mean() - 2) < 4 * 2 / math.sqrt(len(down))


def test_exponential_lives_have_no_memory_and_weibull_ones_do() -> None:
    """Kolmogorov-Smirnov against the distribution that is claimed; 1.63/√n is the 1 % point."""

    def lives(shape: float) -> np.ndarray:
        group = NodeGroup("n", 3000, cpus=1, mtbf_h=1, mttr_h=1e9, failure_shape=shape)  # one life each
        outages = draw_outages(cluster(group), until_s=200 * HOUR_S, seed=2)
        assert np.bincount(outages.node).tolist() == [2] * 3000
        return np.sort(spans_of(outages).from_s / HOUR_S)

    for shape in (1.0, 0.6):
        x = lives(shape)
        claimed = 1 - np.exp(-((x * math.gamma(1 + 1 / shape)) ** shape))
        assert np.abs(claimed - (np.arange(len(x)) + 0.5) / len(x)).max() < 1.63 / math.sqrt(len(x))


def rated(name: str, count: int = 4) -> NodeGroup:
    return NodeGroup(
        name, count, gpus=2, mtbf_h=20, mttr_h=2, gpu_mtbf_h=50, gpu_mttr_h=5, rack_size=2, failure_shape=0.8
    )


def test_equal_seeds_give_equal_outages_and_others_do_not() -> None:
    spec = cluster(rated("a"), rated("b"), rack_mtbf_h=100, rack_mttr_h=1)
    one, two = (draw_outages(spec, until_s=1e6, seed=7) for _ in range(2))
    assert story(one) == story(two)
    check_legal(one)
    assert story(one) != story(draw_outages(spec, until_s=1e6, seed=8))
    assert set(one.cause.tolist()) == {CAUSE_FAILURE, CAUSE_RACK}


def test_adding_a_group_does_not_change_the_others() -> None:
    rates = {"rack_mtbf_h": 100.0, "rack_mttr_h": 1.0}
    alone = draw_outages(cluster(rated("a"), rated("b"), **rates), until_s=1e6, seed=7)
    more = draw_outages(cluster(rated("a"), rated("b"), rated("c"), **rates), until_s=1e6, seed=7)
    assert story(alone) == [event for event in story(more) if event[1] < 8]
    before = draw_outages(cluster(rated("c"), rated("a"), rated("b"), **rates), until_s=1e6, seed=7)
    assert story(alone) == [(t, n - 4, g, k) for t, n, g, k in story(before) if n >= 4]


def test_a_longer_horizon_only_adds_later_failures() -> None:
    spec = cluster(rated("a", 6))
    short, long = (draw_outages(spec, until_s=until_s, seed=3) for until_s in (3e5, 9e5))
    begun = [event for event in story(short) if event[0] < 3e5]
    assert begun == [event for event in story(long) if event[0] < 3e5]
    assert len(long) > len(short)


def test_a_rack_fails_as_a_whole_and_alone() -> None:
    spec = cluster(NodeGroup("n", 7, cpus=1, rack_size=3), rack_mtbf_h=10, rack_mttr_h=1)
    outages = draw_outages(spec, until_s=1e6, seed=1)
    racks = spec.node_table().rack_idx
    assert len(outages)
    for time_s in np.unique(outages.time_s).tolist():
        hit = outages.node[outages.time_s == time_s]
        assert hit.tolist() == np.flatnonzero(racks == racks[hit[0]]).tolist()


def test_nothing_fails_without_rates() -> None:
    outages = draw_outages(cluster(NodeGroup("n", 5, gpus=8)), until_s=1e9, seed=0)
    assert len(outages) == 0
    assert availability(outages, 5, 1e9) == 1.0


def test_refusals_of_rates() -> None:
    with pytest.raises(ConfigError, match=r"groups\[0\]\.mtbf_h: a time between failures needs mttr_h too"):
        cluster(NodeGroup("n", 5, cpus=1, mtbf_h=10))
    too_often = cluster(NodeGroup("n", 5, gpus=1, gpu_mtbf_h=1e-6, gpu_mttr_h=1e-6))
    with pytest.raises(ConfigError, match=r"groups\[0\]\.gpu_mtbf_h.*is the unit hours"):
        draw_outages(too_often, until_s=1e9, seed=0)
    groups = (NodeGroup("n", 5, cpus=1, mtbf_h=10), NodeGroup("m", 5, gpus=1, gpu_mtbf_h=10, rack_size=1))
    with pytest.raises(ConfigError) as error:
        cluster(*groups)
    for path in ("groups[0].mtbf_h: ", "groups[1].gpu_mtbf_h: "):
        assert str(error.value).count(path) == 1
    with pytest.raises(ConfigError, match="rack_mtbf_h: a time between failures needs rack_mttr_h too"):
        cluster(NodeGroup("n", 5, cpus=1), rack_mtbf_h=5)
    with pytest.raises(UsageError, match="finite"):
        draw_outages(too_often, until_s=math.inf, seed=0)


# --- logs ------------------------------------------------------------------------------------------------------------

TWO = ClusterSpec("two", (NodeGroup("a", 2, gpus=4), NodeGroup("b", 1, cpus=8)))


def log(folder: Path, text: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_plain_log_names_nodes_by_name_or_number(tmp_path: Path) -> None:
    text = "time_s,node,event,gpu\n0,a-1,fail,\n10,1,Repair,\n10,b,drain,\n12,0,fail,3\n20,b,resume,\n25,a-0,repair,3\n"
    expected = [(0, 1, -1, FAIL), (10, 1, -1, REPAIR), (10, 2, -1, DRAIN), (12, 0, 3, FAIL)]
    outages = read_outages(log(tmp_path, text), TWO)
    assert story(outages) == [*expected, (20, 2, -1, RESUME), (25, 0, 3, REPAIR)]


def test_the_origin_moves_a_log_and_what_lasts_begins_at_zero(tmp_path: Path) -> None:
    text = "time_s,node,event\n100,b,fail\n150,b,repair\n160,0,fail\n"
    outages = read_outages(log(tmp_path, text), TWO, origin_s=120)
    assert story(outages) == [(0, 2, -1, FAIL), (30, 2, -1, REPAIR), (40, 0, -1, FAIL)]


@pytest.mark.parametrize(
    ("rows", "place", "reason"),
    [
        ("0,c-1,fail,", ":2:2:", "no such node; did you mean"),
        ("0,17,fail,", ":2:2:", "there are 3, counted from 0"),
        ("0,0,explode,", ":2:3:", "expected fail, repair, drain, resume"),
        ("0,0,repair,", ":2:3:", "repair without a failure"),
        ("0,0,resume,", ":2:3:", "resume without a drain"),
        ("0,0,fail,\n1,a-0,fail,", ":3:3:", "a second fail"),
        ("5,0,fail,\n4,0,repair,", ":3:1:", "at least that of the row before"),
        ("x,0,fail,", ":2:1:", "expected a number"),
        ("0,0,fail,4", ":2:4:", "the node has 4 GPUs"),
        ("0,b,fail,0", ":2:4:", "the node has 0 GPUs"),
        ("0,0,drain,1", ":2:4:", "whole nodes"),
        ("0,0,fail", ":2:3:", "expected 4 columns"),
        ("0,,fail,", ":2:2:", "a value is needed"),
    ],
)
def test_a_bad_log_is_refused_with_its_place(tmp_path: Path, rows: str, place: str, reason: str) -> None:
    path = log(tmp_path, f"time_s,node,event,gpu\n{rows}\n")
    with pytest.raises(TraceError) as refused:
        read_outages(path, TWO)
    assert str(path) + place in str(refused.value)
    assert reason in str(refused.value)


def test_several_defects_are_told_together(tmp_path: Path) -> None:
    rows = "".join(f"{i},nowhere,fail\n" for i in range(8))
    with pytest.raises(TraceError, match=r":2:2:.*:3:2:.*:6:2:.*; and 3 more$"):
        read_outages(log(tmp_path, f"time_s,node,event\n{rows}"), TWO)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "1,2,3\n", "\x00\x01", '{"a": 1}'])
def test_what_is_no_failure_log_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(TraceError, match=r"log\.csv"):
        read_outages(log(tmp_path, text), TWO)


def test_machine_events_in_order_of_first_appearance(tmp_path: Path) -> None:
    """77 and 5 are there from the beginning; 9 comes at 2 s and is a third machine; an update says nothing."""
    text = "0,77,0,p,1,1\n0,5,0,p,1,1\n1000000,5,1,p,1,1\n2000000,9,0,p,1,1\n3000000,77,2,p,,\n4000000,5,0,p,1,1\n"
    path = log(tmp_path, text)
    outages = read_outages(path, TWO)
    assert story(outages) == [(0, 2, -1, FAIL), (1, 1, -1, FAIL), (2, 2, -1, REPAIR), (4, 1, -1, REPAIR)]
    assert outages.notes == ("1 machines were added later: their nodes are down until then",)
    fewer = read_outages(path, cluster(NodeGroup("n", 1, cpus=1)))
    assert len(fewer) == 0
    assert fewer.notes == ("the log has 3 machines, the cluster 1 nodes: the first are taken",)
    with pytest.raises(TraceError, match=r":4:3: .*removed a second time.*:5:3: .*expected 0 \(add\)"):
        read_outages(log(tmp_path, "0,1,0,p,1,1\n5,1,1,p,1,1\n6,2,0,p,1,1\n7,1,1,p,1,1\n8,1,7,p,1,1\n"), TWO)


def test_google_machine_events(shared_traces: Path) -> None:
    """8,957 removals and 106 late machines begin outages, of which 97 never end (counted in the file itself)."""
    path = shared_traces / "google-2011" / "machine_events_part-00000-of-00001.csv.gz"
    with gzip.open(path, "rt") as file:
        rows = [line.split(",")[:3] for line in file]
    down: dict[str, float] = {}
    lost_s = 0.0
    end_s = int(rows[-1][0]) / 1e6
    for time_us, machine, event in rows:
        at_s = int(time_us) / 1e6
        if event == "1":
            down[machine] = at_s
        elif event == "0":
            lost_s += at_s - down.pop(machine, at_s if at_s == 0 else 0.0)
    lost_s += sum(end_s - since for since in down.values())
    outages = read_outages(path, cluster(NodeGroup("n", 12_583, cpus=1)))
    check_legal(outages)
    assert np.bincount(outages.kind).tolist() == [8957 + 106, 8957 + 106 - 97]
    measured = availability(outages, 12_583, end_s)
    assert measured == pytest.approx(1 - lost_s / (12_583 * end_s), rel=1e-9)
    assert 0.98 < measured < 1


@pytest.fixture(scope="module")
def shared_traces() -> Path:
    """The folder of public traces beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder of public traces at {SHARED}")
    return SHARED
