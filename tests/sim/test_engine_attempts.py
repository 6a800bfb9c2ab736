"""Attempts, placements and what jobs wait for, as the engine tells of them; worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from shunter.scheduler.preemption import Preemption
from shunter.sim.replay import simulate
from shunter.sim.result import Result
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup
from shunter.traces.tables import pool
from tests.scheduler.cases import table

TWO = ClusterSpec("two", (NodeGroup("n", 2, cpus=8.0, memory_gib=64.0, gpus=2.0),))
WAITS = ("queue", "fragmentation", "quota", "gang", "failure")


def replay(text: str, cluster: ClusterSpec = TWO, **options: Any) -> Result:
    return simulate(table(text, cluster), **{"details": True, **options})


def waits(result: Result, job: str) -> dict[str, float]:
    """What a job waited for, without what it did not."""
    row = result.jobs.row(result.jobs["job_id"].to_list().index(job), named=True)
    assert row["wait_s"] + row["requeued_s"] == sum(row[f"wait_{name}_s"] for name in WAITS)
    return {name: row[f"wait_{name}_s"] for name in WAITS if row[f"wait_{name}_s"]}


def test_tables_of_a_plain_run() -> None:
    text = """
        job submit runs tasks gpus cpus memory_gib
        a   0      10   3     1    2    4
        b   5      10   1     2    1    1
    """
    result = replay(text)
    names = ["job", "attempt", "start_s", "end_s", "ended", "work_s", "lost_s", "overhead_s", "rate"]
    assert result.tables["attempts"].select(names).rows() == [
        (0, 1, 0, 10, "completed", 10, 0, 0, 1),
        (1, 1, 10, 20, "completed", 10, 0, 0, 1),
    ]
    assert result.tables["placements"].rows() == [
        (0, 1, 0, -1, 2, 4, 8, 0),
        (0, 1, 1, -1, 1, 2, 4, 0),
        (1, 1, 0, -1, 2, 1, 1, 10),
    ]
    assert "outages" not in result.tables


def test_details_are_the_default_on_several_nodes_only() -> None:
    text = """
        job submit runs cpus gpus
        a   0      10   1    0
    """
    assert "placements" in replay(text, details=None).tables
    assert set(replay(text, pool(4), details=None).tables) == {"timeline", "events"}


def test_waiting_for_the_queue() -> None:
    """b waits for the only GPUs that there are; c would fit on the CPUs, but b is ahead."""
    text = """
        job submit runs tasks gpus cpus
        a   0      10   4     1    1
        b   0      10   1     1    1
        c   0      10   1     0    1
    """
    result = replay(text)
    assert waits(result, "b") == {"queue": 10}
    assert waits(result, "c") == {"queue": 10}


def test_waiting_for_fragmentation_and_its_end() -> None:
    """Two GPUs are free, one on each node, and b wants two of one node; while c has one of them it is the queue."""
    text = """
        job submit runs tasks gpus cpus
        x   0      10   1     1    1
        y   0      30   1     1    1
        b   0      10   1     2    1
        c   5      3    1     1    1
    """
    result = replay(text, backfill="easy", placement="worst-fit")
    assert result.jobs["start_s"].to_list() == [0, 0, 10, 5]
    assert waits(result, "b") == {"fragmentation": 7, "queue": 3}


def test_waiting_for_the_rest_of_a_gang() -> None:
    """Two of g's three tasks would fit from 0 s on, all of them at 10 s."""
    text = """
        job submit runs tasks gpus cpus
        a   0      10   2     1    1
        g   0      10   3     1    1
    """
    assert waits(replay(text), "g") == {"gang": 10}


def test_seconds_between_attempts_have_reasons_too() -> None:
    """a waits from 20 s to 30 s for b, which stopped it."""
    text = """
        job submit runs gpus cpus
        a   0      100  2    1
        z   0      200  2    1
        b   20     10   2    1
    """
    result = replay(text, policy="srtf", preemption=Preemption(("policy",)))
    assert result.jobs["start_s"].to_list() == [0, 0, 20]
    stopped = result.jobs.row(1, named=True)
    assert (stopped["job_id"], stopped["requeued_s"]) == ("z", 10)
    assert waits(result, "z") == {"queue": 10}


@pytest.mark.parametrize("details", [True, False])
def test_jobs_end_between_two_passes(details: bool) -> None:
    """Passes at 0 and 20 s: a ends at 10 s, b starts at 20 s."""
    text = """
        job submit runs tasks gpus cpus
        a   0      10   4     1    1
        b   1      10   4     1    1
    """
    result = replay(text, interval_s=20.0, details=details)
    assert result.jobs["end_s"].to_list() == [10, 30]
    assert result.jobs["start_s"].to_list() == [0, 20]


def test_waiting_for_a_pass_is_waiting_for_the_queue() -> None:
    text = """
        job submit runs tasks gpus cpus
        a   0      10   1     1    1
        b   5      10   1     1    1
    """
    assert waits(replay(text, interval_s=20.0), "b") == {"queue": 15}
