"""Jobs on one GPU: exact run times while neighbours come and go."""

from __future__ import annotations

from typing import Any

import pytest

from shunter.scheduler.errors import UsageError
from shunter.scheduler.preemption import Preemption
from shunter.sim.replay import simulate
from shunter.sim.result import Result
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup
from shunter.traces.interference import interference_table
from shunter.traces.tables import Trace, make_jobs, pool

ONE_GPU = ClusterSpec(name="one", groups=(NodeGroup("node", count=1, gpus=1),))
TWO_GPUS = ClusterSpec(name="two", groups=(NodeGroup("node", count=1, gpus=2),))
CLASSES = [None, "BERT", "ResNet18"]


def beside(own: str | None, *others: str | None) -> float:
    """Speed of a job beside others, by the packaged table: the product over the pairs."""
    table, speed = interference_table(CLASSES), 1.0
    for other in others:
        speed *= table[CLASSES.index(own), CLASSES.index(other)]
    return speed


def jobs(cluster: ClusterSpec, *rows: tuple[Any, ...]) -> Trace:
    """Name, submission, duration, class, GPUs of a task, tasks, priority."""
    names = ("job_id", "submit_s", "duration_s", "model_class", "gpus", "tasks", "priority")
    filled = [(*row, *(0.5, 1, 0.0)[len(row) - 4 :]) for row in rows]
    columns = {name: [row[i] for row in filled] for i, name in enumerate(names)}
    return Trace(name="shared", jobs=make_jobs(columns | {"cpus": [0.0] * len(rows)}), cluster=cluster)


def ends(result: Result) -> dict[str, float]:
    return dict(result.jobs.select("job_id", "end_s").rows())


def test_two_jobs_that_overlap_in_part() -> None:
    """A is alone for 50 s, then beside B until it ends, and B is alone after that."""
    a, b = beside("BERT", "ResNet18"), beside("ResNet18", "BERT")
    assert a < 1
    trace = jobs(ONE_GPU, ("A", 0.0, 100.0, "BERT"), ("B", 50.0, 100.0, "ResNet18"))
    a_ends_s = 50 + 50 / a
    b_ends_s = a_ends_s + 100 - (a_ends_s - 50) * b
    run = simulate(trace, interference=True)
    assert ends(run) == {"A": pytest.approx(a_ends_s), "B": pytest.approx(b_ends_s)}
    assert ends(simulate(trace)) == {"A": 100, "B": 150}


def test_three_jobs_multiply_and_unknown_classes_are_average() -> None:
    trace = jobs(ONE_GPU, *((name, 0.0, 100.0, model, 0.3) for name, model in zip("ABC", CLASSES, strict=True)))
    run = simulate(trace, interference=True)
    speeds = [beside(None, "BERT", "ResNet18"), beside("BERT", None, "ResNet18"), beside("ResNet18", None, "BERT")]
    first = max(range(3), key=lambda i: speeds[i])
    assert ends(run)["ABC"[first]] == pytest.approx(100 / speeds[first])


def test_jobs_on_other_gpus_and_with_whole_ones_are_not_slowed() -> None:
    trace = jobs(TWO_GPUS, ("A", 0.0, 100.0, "BERT"), ("B", 0.0, 100.0, "BERT", 1.0))
    assert ends(simulate(trace, interference=True)) == {"A": 100, "B": 100}
    apart = jobs(TWO_GPUS, ("A", 0.0, 100.0, "BERT", 0.6), ("B", 0.0, 100.0, "BERT", 0.6))
    assert ends(simulate(apart, interference=True)) == {"A": 100, "B": 100}


def test_a_gang_runs_at_its_slowest_task() -> None:
    """Two tasks of 0.6 lie on two GPUs; B joins one of them for 10 s of its own time."""
    gang, b = beside("BERT", "ResNet18"), beside("ResNet18", "BERT")
    trace = jobs(TWO_GPUS, ("G", 0.0, 100.0, "BERT", 0.6, 2), ("B", 20.0, 10.0, "ResNet18", 0.4))
    together_s = 10 / b
    found = ends(simulate(trace, interference=True))
    assert found == {"B": pytest.approx(20 + together_s), "G": pytest.approx(100 + together_s * (1 - gang))}


def test_tasks_of_one_job_on_one_gpu_slow_each_other() -> None:
    trace = jobs(ONE_GPU, ("G", 0.0, 100.0, "BERT", 0.5, 2))
    assert ends(simulate(trace, interference=True)) == {"G": pytest.approx(100 / beside("BERT", "BERT"))}


def test_a_job_in_its_grace_period_still_stops_when_a_neighbour_leaves() -> None:
    """W needs what B has: at 10 s B is told to stop, at 12 s A ends, at 30 s B gives way."""
    a = beside("BERT", "ResNet18")
    trace = jobs(
        ONE_GPU,
        ("A", 0.0, 12.0 * a, "BERT", 0.4, 1, 0.0),
        ("B", 0.0, 100.0, "ResNet18", 0.5, 1, 0.0),
        ("W", 10.0, 50.0, "BERT", 0.6, 1, 9.0),
    )
    run = simulate(trace, policy="priority", interference=True, preemption=Preemption(("priority",), grace_s=20.0))
    assert ends(run)["A"] == pytest.approx(12)
    assert ends(run)["W"] == pytest.approx(80)
    b = beside("ResNet18", "BERT")
    assert ends(run)["B"] == pytest.approx(80 + 100 - 12 * b - 18)


def test_a_cluster_without_nodes_is_refused() -> None:
    cluster = ClusterSpec(name="heap", groups=(NodeGroup("all", count=1, gpus=640),))
    with pytest.raises(UsageError, match="--interference needs to know which jobs share a GPU: cluster 'heap'"):
        simulate(jobs(cluster, ("A", 0.0, 1.0, None)), interference=True)
    no_gpus = make_jobs({"job_id": ["A"], "submit_s": [0.0], "duration_s": [5.0], "cpus": [1.0]})
    assert ends(simulate(Trace(name="cpus", jobs=no_gpus, cluster=pool(4)), interference=True)) == {"A": 5}
