"""Other work on the nodes: exact run times, where jobs go, who goes first, and replays taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shunter.scheduler.errors import UsageError
from shunter.sim.other_work import AHEAD, OtherWork, foreseen, last_known, usual
from shunter.sim.replay import Interrupted, simulate
from shunter.sim.result import Result
from shunter.sim.run_folder import RUN_FILES
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup
from shunter.traces.generate import generate
from shunter.traces.interference import packaged_interference
from shunter.traces.tables import Trace, make_jobs

TWO_NODES = ClusterSpec(name="two", groups=(NodeGroup("node", count=2, cpus=2),))
COEFFICIENT = packaged_interference().coefficient


def speed(load: float, own: float = 1.0) -> float:
    """Of a job that uses its CPUs all the time, on a node with so much other work."""
    return 1 / (1 + COEFFICIENT * own * load)


def jobs(cluster: ClusterSpec, *rows: tuple[Any, ...]) -> Trace:
    """Name, submission, duration, tasks (a CPU each), priority."""
    names = ("job_id", "submit_s", "duration_s", "tasks", "priority")
    filled = [(*row, *(1, 0.0)[len(row) - 3 :]) for row in rows]
    columns = {name: [row[i] for row in filled] for i, name in enumerate(names)}
    return Trace(name="busy", jobs=make_jobs(columns | {"cpus": [1.0] * len(rows)}), cluster=cluster)


def work(load: list[list[float]], predicted: list[list[float]] | None = None, step_s: float = 100.0) -> OtherWork:
    table = np.asarray(load)
    return OtherWork(0.0, step_s, table, np.asarray(predicted) if predicted else np.zeros_like(table))


def ends(result: Result) -> dict[str, float]:
    return dict(result.jobs.select("job_id", "end_s").rows())


def nodes(result: Result) -> dict[str, list[int]]:
    placed = result.tables["placements"]
    names = result.jobs["job_id"].to_list()
    return {
        names[job]: sorted(part["node"].to_list())
        for (job,), part in placed.group_by("job", maintain_order=True)  # type: ignore[misc]
    }


def test_a_job_goes_at_the_pace_that_other_work_leaves_it() -> None:
    """100 s at load 0.5, then 100 s at 1, then on the idle node to its end."""
    trace = jobs(TWO_NODES, ("A", 0.0, 250.0))
    run = simulate(trace, other_work=work([[0.5, 0], [1.0, 0], [0, 0], [0, 0]]))
    assert ends(run) == {"A": pytest.approx(200 + 250 - 100 * speed(0.5) - 100 * speed(1.0))}
    assert ends(simulate(trace)) == {"A": 250}


def test_a_gang_goes_at_the_pace_of_its_slowest_node_and_loads_come_again() -> None:
    trace = jobs(TWO_NODES, ("A", 0.0, 300.0, 4))
    run = simulate(trace, other_work=work([[0.2, 0.8], [0.0, 0.0]]))
    done = 100 * speed(0.8) + 100 + 100 * speed(0.8)  # the first step comes again
    assert ends(run) == {"A": pytest.approx(300 + 300 - done)}


def test_loads_count_in_whole_percents() -> None:
    trace = jobs(TWO_NODES, ("A", 0.0, 50.0))
    exact, rounded = (simulate(trace, other_work=work([[load, 0.0]])) for load in (0.42, 0.4199))
    assert ends(exact) == ends(rounded) == {"A": pytest.approx(50 / speed(0.42))}


def test_least_loaded_takes_the_node_that_is_predicted_calm() -> None:
    trace = jobs(TWO_NODES, ("A", 0.0, 50.0), ("B", 120.0, 50.0), ("C", 130.0, 50.0, 3))
    told = work([[0.9, 0.1], [0.1, 0.9]], [[0.9, 0.1], [0.1, 0.9]])
    run = simulate(trace, placement="least-loaded", other_work=told)
    assert nodes(run) == {"A": [1], "B": [0], "C": [0, 1]}
    blind = simulate(trace, placement="least-loaded", other_work=work([[0.9, 0.1], [0.1, 0.9]]))
    assert nodes(blind) == nodes(simulate(trace, placement="first-fit", other_work=told))


def test_predicted_load_puts_priority_over_load() -> None:
    """One free CPU on each node: A needs one, B both. B's target has load 0.8; its class has to be that much higher."""
    for priority, first in ((3.0, "A"), (8.0, "B")):
        trace = jobs(
            TWO_NODES, ("x", 0.0, 100.0, 2), ("y", 0.0, 100.0, 2), ("B", 10.0, 50.0, 4, priority), ("A", 10.0, 50.0, 2)
        )
        told = work([[0.0, 0.0]] * 4, [[0.1, 0.8]] * 4)
        run = simulate(trace, policy="predicted-load", placement="least-loaded", other_work=told)
        started = dict(run.jobs.select("job_id", "start_s").rows())
        assert min(("A", "B"), key=lambda name: started[name]) == first


def test_without_predictions_predicted_load_is_priority() -> None:
    trace = generate("poisson", jobs=400, seed=5, params={"servers": 8, "load": 0.95, "size": "1,2,4"})
    frame = trace.jobs.frame.with_columns(priority=np.arange(400) % 3.0)
    trace = Trace("p", make_jobs(frame.to_dict(as_series=True)), trace.cluster)
    one, other = (simulate(trace, policy=policy, backfill="easy") for policy in ("predicted-load", "priority"))
    assert one.jobs["start_s"].to_list() == other.jobs["start_s"].to_list()


def test_what_is_told() -> None:
    load = np.asarray([[0.0], [1.0], [0.5], [0.5], [0.0], [1.0]])
    assert last_known(load)[:, 0].tolist() == [0, 0, 1, 0.5, 0.5, 0]
    np.testing.assert_allclose(usual(load)[:, 0], [0, 0, 0.5, 0.5, 0.5, 0.4])
    assert foreseen(load)[0, 0] == pytest.approx(load[:AHEAD].mean())
    assert foreseen(load)[5, 0] == pytest.approx((1 + 0 + 1 + 0.5 + 0.5) / 5)


@pytest.mark.parametrize(
    ("load", "predicted", "said"),
    [
        ([[0.5, 1.5]], [[0, 0]], "load of a node of 1.5"),
        ([[0.5, np.nan]], [[0, 0]], "load of nodes: expected finite"),
        ([[0.5, 0.5]], [[0, -1]], "predicted load of nodes: expected finite"),
        ([[0.5, 0.5]], [[0]], "do not fit together"),
    ],
)
def test_bad_loads_are_refused(load: list[list[float]], predicted: list[list[float]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        work(load, predicted)


def test_loads_of_other_nodes_are_refused() -> None:
    with pytest.raises(UsageError, match="node loads of 3 nodes, but cluster 'two' has 2"):
        simulate(jobs(TWO_NODES, ("A", 0.0, 1.0)), other_work=work([[0.1, 0.2, 0.3]]))


def test_a_replay_taken_up_again_is_the_same_to_the_byte(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    cluster = ClusterSpec(name="six", groups=(NodeGroup("node", count=6, cpus=4),))
    trace = generate("poisson", jobs=3000, seed=2, params={"servers": 24, "load": 0.8, "size": "1,2,4"})
    trace = Trace("t", trace.jobs, cluster)
    load = rng.random((50, 6))
    told = OtherWork(0.0, 500.0, load, last_known(load))
    how: dict[str, Any] = {"policy": "predicted-load", "backfill": "easy", "placement": "least-loaded"}
    simulate(trace, other_work=told, **how).save(tmp_path / "whole")
    path = tmp_path / "run.checkpoint"
    with pytest.raises(Interrupted):
        simulate(trace, other_work=told, checkpoint=path, should_stop=lambda: True, **how)
    simulate(trace, other_work=told, checkpoint=path, resume=True, **how).save(tmp_path / "resumed")
    for name in RUN_FILES:
        if name != "timing.json":
            assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    other = OtherWork(0.0, 500.0, load, usual(load))
    with pytest.raises(UsageError, match="different: other_work"):
        simulate(trace, other_work=other, checkpoint=path, resume=True, **how)
