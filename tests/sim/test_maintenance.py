"""Plans of maintenance, and nodes on probation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shunter.scheduler.errors import ConfigError, UsageError
from shunter.scheduler.failover import Flapping
from shunter.sim.failures import (
    CAUSE_DRAIN,
    CAUSE_FAILURE,
    CAUSE_PROBATION,
    DRAIN,
    FAIL,
    HOUR_S,
    REPAIR,
    RESUME,
    Outages,
    PlannedDrain,
    merged,
    planned_drains,
    spans_of,
)
from shunter.sim.flapping import with_probation
from shunter.sim.maintenance import read_maintenance
from shunter.sim.replay import simulate
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup
from tests.properties.gpu_strategies import as_outages
from tests.scheduler.cases import table
from tests.sim.test_failures import check_legal
from tests.sim.test_outages_replay import attempts, drained

LAB = ClusterSpec("lab", (NodeGroup("a", 3, cpus=8.0, gpus=2.0), NodeGroup("b", 2, cpus=8.0, gpus=2.0)))
DAY_H = 24.0


def plan(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text)
    return path


def story(outages: Outages) -> list[tuple[float, int, int]]:
    """(hours, node, kind) of every event."""
    rows = zip(outages.time_s / HOUR_S, outages.node, outages.kind, strict=True)
    return [(round(float(t), 6), int(n), int(k)) for t, n, k in rows]


def test_a_window_drains_the_nodes_that_its_patterns_match(tmp_path: Path) -> None:
    text = "windows:\n- {nodes: [b-*, a-1], from_h: 10, hours: 2, notice_h: 1}\n"
    outages = read_maintenance(plan(tmp_path, text), LAB, until_s=DAY_H * HOUR_S)
    expected = [(9, n, DRAIN) for n in (1, 3, 4)] + [(10, n, FAIL) for n in (1, 3, 4)]
    assert story(outages) == expected + [(12, n, REPAIR) for n in (1, 3, 4)]


def test_a_window_repeats_until_the_end_or_as_often_as_it_says(tmp_path: Path) -> None:
    daily = "from_h: 1, hours: 2, every_h: 24"
    text = f"windows:\n- {{nodes: a-0, {daily}}}\n- {{nodes: a-1, {daily}, times: 2}}"
    outages = read_maintenance(plan(tmp_path, text), LAB, until_s=4 * DAY_H * HOUR_S)
    fails = [(hours, node) for hours, node, kind in story(outages) if kind == FAIL]
    assert fails == [(1, 0), (1, 1), (25, 0), (25, 1), (49, 0), (73, 0)]


def test_all_that_is_wrong_with_a_plan_is_told_at_once(tmp_path: Path) -> None:
    text = "windows:\n- {nodes: [c-1, a-9], from_h: 0, hours: 1}\n- {nodes: '*', from_h: 0, hours: 1, every_h: 2}\n"
    with pytest.raises(ConfigError) as error:
        read_maintenance(plan(tmp_path, text), LAB, until_s=1e10)
    assert "windows[0].nodes: the cluster has no node 'c-1'" in str(error.value)
    assert "windows[0].nodes: the cluster has no node 'a-9'" in str(error.value)
    assert "windows[1].every_h: " in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("windows: []", "windows: "),
        ("windows:\n- {nodes: a-0, from_h: -1, hours: 0}", r"windows\[0\].from_h: .*windows\[0\].hours: "),
        ("windows:\n- {nodes: a-0, from_h: 1, hours: 2, every_h: 1}", r"windows\[0\]: every_h 1 is shorter"),
        ("windows:\n- {nodes: a-0, from_h: 1, hours: 2, times: 3}", r"windows\[0\]: times needs every_h"),
        ("windows:\n- {nodes: a-0, from_h: 1, hour: 2}", "hour: unknown key; did you mean 'hours'"),
        ("- nodes", "expected keys and values"),
    ],
)
def test_a_plan_that_breaks_the_schema_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_maintenance(plan(tmp_path, text), LAB, until_s=1e6)


def test_a_node_that_failed_too_often_of_late_takes_nothing_after_its_repair() -> None:
    """Twice within 100 s: held out for 50 s. The failure at 300 s stands alone again."""
    outages = as_outages([(0, -1, 10.0, 20.0), (0, -1, 60.0, 70.0), (0, -1, 300.0, 310.0), (1, -1, 60.0, 70.0)])
    held = with_probation(outages, Flapping(2, window_s=100.0, probation_s=50.0))
    spans = spans_of(held)
    on = np.flatnonzero(spans.cause == CAUSE_PROBATION)
    assert (spans.node[on], spans.from_s[on], spans.until_s[on]) == (0, 70.0, 120.0)
    assert (RESUME, 120.0) in list(zip(held.kind.tolist(), held.time_s.tolist(), strict=True))


def test_a_failure_on_probation_ends_it_and_begins_it_anew() -> None:
    outages = as_outages([(0, -1, 10.0, 20.0), (0, -1, 30.0, 40.0)])
    held = with_probation(outages, Flapping(1, window_s=100.0, probation_s=50.0))
    spans = spans_of(held)
    assert list(zip(spans.from_s, spans.until_s, spans.is_down, strict=True)) == [
        (10, 20, True),
        (20, 30, False),
        (30, 40, True),
        (40, 90, False),
    ]


def test_planned_drains_and_single_gpus_make_no_node_flap() -> None:
    outages = merged(drained(40.0, 20.0), as_outages([(1, 0, 10.0, 20.0)]))
    held = with_probation(outages, Flapping(1, window_s=1000.0, probation_s=50.0))
    assert story(held) == story(outages)


def test_a_drain_during_probation_is_a_drain_and_the_node_stays_closed() -> None:
    """On probation from 20 to 70 s; the notice of a drain begins at 30 s and lasts until the node goes at 100 s."""
    drain = planned_drains([PlannedDrain(0, 100.0, 160.0, notice_s=70.0)], num_nodes=1)
    held = with_probation(merged(drain, as_outages([(0, -1, 10.0, 20.0)])), Flapping(1, 1000.0, probation_s=50.0))
    check_legal(held)
    spans = spans_of(held)
    assert list(zip(spans.from_s, spans.until_s, spans.cause, strict=True)) == [
        (10, 20, CAUSE_FAILURE),
        (20, 30, CAUSE_PROBATION),
        (30, 100, CAUSE_DRAIN),
        (100, 160, CAUSE_DRAIN),
    ]


def test_work_goes_elsewhere_while_a_node_is_on_probation() -> None:
    """Node 0 is back at 20 s and held out until 70 s: b waits for node 1, and the table says why."""
    cluster = ClusterSpec("two", (NodeGroup("n", 2, cpus=8.0, gpus=1.0),))
    text = """
        job submit runs gpus cpus
        a   0      40   1    1
        b   0      10   1    1
        c   41     50   1    1
        d   41     50   1    1
    """
    outages = with_probation(as_outages([(0, -1, 5.0, 20.0)]), Flapping(1, 100.0, 50.0))
    result = simulate(table(text, cluster), outages=outages, details=True)
    assert attempts(result) == {
        "a": [(0, 5, "lost"), (10, 50, "completed")],
        "b": [(0, 10, "completed")],
        "c": [(50, 100, "completed")],
        "d": [(70, 120, "completed")],
    }
    kinds = result.tables["outages"].select("node", "from_s", "until_s", "kind").rows()
    assert kinds == [(0, 5, 20, "failure"), (0, 20, 70, "probation")]


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"window_s": 0.0}, {"probation_s": float("inf")}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="flapping"):
        Flapping(**wrong)  # type: ignore[arg-type]
