"""Replays in which nodes and GPUs fail, drain and come back; worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from shunter.scheduler.errors import EngineError, UsageError
from shunter.sim.failures import DRAIN, FAIL, REPAIR, RESUME, Outages, PlannedDrain, merged, planned_drains
from shunter.sim.replay import simulate
from shunter.sim.result import Result
from shunter.sim.workload import Defaults
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup
from tests.properties.gpu_strategies import as_outages
from tests.scheduler.cases import table

ONE = ClusterSpec("one", (NodeGroup("n", 1, cpus=8.0, gpus=1.0),))
TWO = ClusterSpec("two", (NodeGroup("n", 2, cpus=8.0, gpus=2.0),))
WHOLE = -1


def replay(text: str, cluster: ClusterSpec, outages: Outages, **options: Any) -> Result:
    return simulate(table(text, cluster), outages=outages, details=True, **options)


def attempts(result: Result) -> dict[str, list[tuple[float, float, str]]]:
    names = result.jobs["job_id"].to_list()
    found: dict[str, list[tuple[float, float, str]]] = {name: [] for name in names}
    for row in result.tables["attempts"].sort("job", "attempt").to_dicts():
        found[names[row["job"]]].append((row["start_s"], row["end_s"], row["ended"]))
    return found


def nodes(result: Result) -> dict[tuple[str, int], set[int]]:
    """(job, attempt) → nodes."""
    names = result.jobs["job_id"].to_list()
    found: dict[tuple[str, int], set[int]] = {}
    for row in result.tables["placements"].to_dicts():
        found.setdefault((names[row["job"]], row["attempt"]), set()).add(row["node"])
    return found


FIFTY = """
    job submit runs gpus cpus
    a   0      50   1    1
"""


def test_work_since_the_last_checkpoint_is_lost() -> None:
    """Saved every 10 s: of 25 s 5 are lost. After the repair at 40 s, 5 s of restart and the 30 s that are left."""
    outages = as_outages([(0, WHOLE, 25.0, 40.0)])
    result = replay(FIFTY, ONE, outages, defaults=Defaults(checkpoint_s=10.0, restart_s=5.0))
    assert attempts(result) == {"a": [(0, 25, "lost"), (40, 75, "completed")]}
    first, second = result.tables["attempts"].to_dicts()
    assert (first["work_s"], first["lost_s"], first["overhead_s"]) == (25, 5, 0)
    assert (second["work_s"], second["lost_s"], second["overhead_s"]) == (30, 0, 5)
    job = result.jobs.row(0, named=True)
    assert (job["attempts"], job["lost_s"], job["requeued_s"], job["wait_failure_s"]) == (2, 5, 15, 15)
    assert result.metrics["restarts"] == 1
    assert result.tables["outages"].to_dicts() == [
        {"node": 0, "gpu": -1, "from_s": 25, "until_s": 40, "kind": "failure"}
    ]


def test_without_checkpoints_all_work_is_lost_and_with_continuous_ones_none() -> None:
    outages = as_outages([(0, WHOLE, 25.0, 40.0)])
    assert attempts(replay(FIFTY, ONE, outages))["a"] == [(0, 25, "lost"), (40, 90, "completed")]
    always = replay(FIFTY, ONE, outages, defaults=Defaults(checkpoint_s=0.0))
    assert attempts(always)["a"] == [(0, 25, "lost"), (40, 65, "completed")]


def test_checkpoints_count_over_attempts() -> None:
    """Saved at 20 s of work; the second attempt saves at 40 s, after 20 s of its own, and loses 5 s of 25."""
    outages = as_outages([(0, WHOLE, 30.0, 31.0), (0, WHOLE, 56.0, 60.0)])
    result = replay(FIFTY, ONE, outages, defaults=Defaults(checkpoint_s=20.0))
    assert attempts(result)["a"] == [(0, 30, "lost"), (31, 56, "lost"), (60, 70, "completed")]
    assert result.tables["attempts"]["lost_s"].to_list() == [10, 5, 0]


def test_retries_are_bounded() -> None:
    """One retry: the second failure is the last. What was saved is lost, too."""
    outages = as_outages([(0, WHOLE, 10.0, 11.0), (0, WHOLE, 30.0, 31.0), (0, WHOLE, 90.0, 91.0)])
    text = FIFTY + "b 40 5 1 1"
    how = {"defaults": Defaults(checkpoint_s=5.0)}
    result = replay(text, ONE, outages, max_retries=1, **how)
    assert attempts(result) == {"a": [(0, 10, "lost"), (11, 30, "lost")], "b": [(40, 45, "completed")]}
    a = result.jobs.row(0, named=True)
    assert (a["state"], a["reason"], a["end_s"]) == ("failed", "failed more than 1 times", 30)
    assert a["lost_s"] == 29
    assert result.metrics["jobs_failed"] == 1
    patient = replay(text, ONE, outages, max_retries=2, **how)
    assert patient.jobs["state"].to_list() == ["completed", "completed"]


def test_a_gang_stops_as_a_whole_and_leaves_its_other_nodes_free() -> None:
    """g holds both nodes; node 1 fails at 10 s; b can have node 0 until node 1 is back at 30 s."""
    text = """
        job submit runs asks tasks gpus cpus
        g   0      50   50   4     1    1
        b   5      10   10   2     1    1
    """
    outages = as_outages([(1, WHOLE, 10.0, 30.0)])
    result = replay(text, TWO, outages, backfill="easy")
    assert attempts(result) == {"g": [(0, 10, "lost"), (30, 80, "completed")], "b": [(10, 20, "completed")]}
    assert nodes(result)["b", 1] == {0}


def test_a_gpu_takes_only_its_users_with_it() -> None:
    """GPU 0 of node 0 fails: a, which holds it, moves to node 1; b on GPU 1 and c on node 1 go on."""
    text = """
        job submit runs gpus cpus
        a   0      50   1    1
        b   0      50   1    1
        c   0      50   1    1
    """
    outages = as_outages([(0, 0, 10.0, 100.0)])
    result = replay(text, TWO, outages)
    assert attempts(result) == {
        "a": [(0, 10, "lost"), (10, 60, "completed")],
        "b": [(0, 50, "completed")],
        "c": [(0, 50, "completed")],
    }
    assert nodes(result)["a", 2] == {1}


def test_all_that_share_a_gpu_fail_with_it() -> None:
    text = """
        job submit runs gpus cpus
        a   0      50   0.5  1
        b   0      50   0.5  1
        c   0      50   0.5  1
    """
    cluster = ClusterSpec("one", (NodeGroup("n", 1, cpus=8.0, gpus=2.0),))
    result = replay(text, cluster, as_outages([(0, 0, 10.0, 20.0)]))
    assert [len(runs) for runs in attempts(result).values()] == [2, 2, 1]
    # a is first again and fits beside c; b waits for the repair
    assert attempts(result)["a"][1][0] == 10
    assert attempts(result)["b"][1][0] == 20


def test_nothing_starts_before_the_repair() -> None:
    outages = as_outages([(0, WHOLE, 0.0, 12.0)])
    result = replay(FIFTY, ONE, outages)
    job = result.jobs.row(0, named=True)
    assert (job["start_s"], job["wait_failure_s"]) == (12, 12)


def test_ends_come_before_failures_at_one_instant() -> None:
    result = replay(FIFTY, ONE, as_outages([(0, WHOLE, 50.0, 60.0)]))
    assert attempts(result) == {"a": [(0, 50, "completed")]}


def drained(from_s: float, notice_s: float) -> Outages:
    return planned_drains([PlannedDrain(0, from_s, from_s + 100.0, notice_s)], 2)


def test_a_drain_moves_what_would_not_end_in_time_and_starts_nothing_new() -> None:
    """Node 0 goes at 40 s, notice at 20 s. a ends at 30 s and stays; b would end at 50 s and moves with all its work.

    c, which comes at 25 s, does not get the GPU that is free on node 0, and waits for node 1.
    """
    text = """
        job submit runs gpus cpus
        a   0      30   1    1
        b   0      50   1    1
        x   0      35   1    1
        c   25     5    1    1
    """
    result = replay(text, TWO, drained(40.0, 20.0))
    assert attempts(result) == {
        "a": [(0, 30, "completed")],
        "b": [(0, 20, "preempted"), (20, 50, "completed")],
        "x": [(0, 35, "completed")],
        "c": [(35, 40, "completed")],
    }
    assert nodes(result)["b", 2] == {1}
    assert result.jobs["lost_s"].to_list() == [0, 0, 0, 0]
    kinds = result.tables["outages"].select("from_s", "until_s", "kind").rows()
    assert kinds == [(20, 40, "notice")] or kinds[0] == (20, 40, "notice")


def test_what_overruns_its_request_is_lost_when_the_node_goes() -> None:
    """a said that it would end at 30 s, so it was left on the node that goes at 40 s."""
    text = """
        job submit runs asks gpus cpus
        a   0      60   30   1    1
    """
    result = replay(text, TWO, drained(40.0, 20.0))
    assert attempts(result)["a"] == [(0, 40, "lost"), (40, 100, "completed")]


def test_a_drain_that_is_called_off_moves_nobody() -> None:
    import numpy as np

    events = Outages(
        np.asarray([20.0, 60.0]),
        np.asarray([0, 0]),
        np.asarray([-1, -1]),
        np.asarray([DRAIN, RESUME]),
        np.asarray([2, 2]),
    )
    text = """
        job submit runs tasks gpus cpus
        a   0      90   3     1    1
        b   30     5    1     1    1
        c   31     5    1     1    1
    """
    result = replay(text, TWO, events)
    assert attempts(result)["a"] == [(0, 90, "completed")]
    assert result.jobs["start_s"].to_list() == [0, 30, 35]


def test_outages_of_node_and_gpu_at_once() -> None:
    """The node is away from 10 to 20 s and its GPU 0 until 40 s: from 20 s on one GPU works."""
    cluster = ClusterSpec("one", (NodeGroup("n", 1, cpus=8.0, gpus=2.0),))
    outages = merged(as_outages([(0, WHOLE, 10.0, 20.0)]), as_outages([(0, 0, 5.0, 40.0)]))
    text = """
        job submit runs gpus cpus
        a   6      30   1    1
        b   7      30   1    1
    """
    result = replay(text, cluster, outages)
    assert attempts(result) == {
        "a": [(6, 10, "lost"), (20, 50, "completed")],
        "b": [(40, 70, "completed")],
    }


@pytest.mark.parametrize("backfill", ["none", "easy", "conservative"])
def test_promises_are_made_anew_when_nodes_go_and_come(backfill: str) -> None:
    """a and b run on a node each; node 1 fails at 10 s; b waits there until 60 s, c (both nodes) for both to end."""
    text = """
        job submit runs tasks gpus cpus
        a   0      30   2     1    1
        b   0      40   2     1    1
        c   5      10   4     1    1
    """
    outages = as_outages([(1, WHOLE, 10.0, 60.0)])
    result = replay(text, TWO, outages, backfill=backfill)
    assert attempts(result) == {
        "a": [(0, 30, "completed")],
        "b": [(0, 10, "lost"), (30, 70, "completed")],
        "c": [(70, 80, "completed")],
    }


@pytest.mark.parametrize("gpu", [WHOLE, 0])
@pytest.mark.parametrize("backfill", ["none", "easy", "conservative"])
def test_what_never_comes_back_is_said(gpu: int, backfill: str) -> None:
    with pytest.raises(EngineError) as error:
        replay(FIFTY, ONE, as_outages([(0, gpu, 10.0, float("inf"))]), backfill=backfill)
    assert str(error.value) == ("1 of 1 jobs never ended: nodes or GPUs that they need went away and never came back")


def test_failures_take_place_between_two_passes() -> None:
    """Passes every 100 s: a's node is away from 20 s to 30 s; the next attempt begins with the pass at 100 s."""
    result = replay(FIFTY, ONE, as_outages([(0, WHOLE, 20.0, 30.0)]), interval_s=100.0)
    assert attempts(result)["a"] == [(0, 20, "lost"), (100, 150, "completed")]
    done = replay(FIFTY, ONE, as_outages([(0, WHOLE, 60.0, 70.0)]), interval_s=100.0)
    assert attempts(done)["a"] == [(0, 50, "completed")]


def test_kinds_of_events() -> None:
    assert (FAIL, REPAIR, DRAIN, RESUME) == (0, 1, 2, 3)


# --- failover --------------------------------------------------------------------------------------------------------

DISPLACED = """
    job submit runs priority tasks gpus cpus
    a   0      50   1        1     1    1
    b   0      50   2        1     1    1
    c   0      50   1        1     1    1
    w   1      5    9        3     1    1
"""


def test_jobs_that_lose_their_node_wait_in_the_queue_or_move_ahead_of_it() -> None:
    """Node 0 with a and b fails at 10 s, one GPU of node 1 is free; w is shortest and blocks the queue till the repair.

    Moved ahead of it, b comes first, by its priority.
    """
    outages = as_outages([(0, WHOLE, 10.0, 100.0)])
    waited = replay(DISPLACED, TWO, outages, policy="sjf")
    assert {name: runs[-1][:2] for name, runs in attempts(waited).items()} == {
        "a": (100, 150),
        "b": (105, 155),
        "c": (0, 50),
        "w": (100, 105),
    }
    moved = replay(DISPLACED, TWO, outages, policy="sjf", failover="move")
    assert attempts(moved) == {
        "a": [(0, 10, "lost"), (100, 150, "completed")],
        "b": [(0, 10, "lost"), (10, 60, "completed")],
        "c": [(0, 50, "completed")],
        "w": [(100, 105, "completed")],
    }
    assert nodes(moved)["b", 2] == {1}


def test_no_more_than_the_blast_radius_leaves_a_draining_node_at_once() -> None:
    """Notice at 20 s, node 0 goes at 100 s. c has node 1 until 50 s: a leaves and waits, b stays till a runs again."""
    text = """
        job submit runs gpus cpus
        a   0      150  1    1
        b   0      150  1    1
        c   0      50   2    1
    """
    free = replay(text, TWO, drained(100.0, 80.0))
    assert attempts(free) == {
        "a": [(0, 20, "preempted"), (50, 180, "completed")],
        "b": [(0, 20, "preempted"), (50, 180, "completed")],
        "c": [(0, 50, "completed")],
    }
    limited = replay(text, TWO, drained(100.0, 80.0), blast_radius=0.4)
    assert attempts(limited) == {
        "a": [(0, 20, "preempted"), (50, 180, "completed")],
        "b": [(0, 50, "preempted"), (50, 150, "completed")],
        "c": [(0, 50, "completed")],
    }


def test_what_is_held_back_until_the_node_goes_is_lost() -> None:
    text = """
        job submit runs gpus cpus
        a   0      150  1    1
        b   0      150  1    1
        c   0      120  2    1
    """
    result = replay(text, TWO, drained(100.0, 80.0), blast_radius=0.4)
    assert [run[2] for run in attempts(result)["b"]] == ["lost", "completed"]
    assert attempts(result)["b"][0][:2] == (0, 100)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"failover": "shove"}, "unknown --failover 'shove'"),
        ({"blast_radius": 0.0}, "blast radius 0.0"),
        ({"failover": "move", "backfill": "conservative"}, "does not go with conservative"),
    ],
)
def test_failover_that_cannot_be_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        replay(FIFTY, ONE, as_outages([(0, WHOLE, 10.0, 20.0)]), **options)
