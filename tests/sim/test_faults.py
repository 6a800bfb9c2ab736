"""Replays in which attempts fail by a fault of the job's own, as a log recorded them; worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shunter.scheduler.errors import UsageError
from shunter.sim.attempts import JobFailures, attempt_failures, job_failures
from shunter.sim.replay import simulate
from shunter.sim.result import Result
from shunter.sim.workload import Defaults
from shunter.traces.read import read
from tests.properties.gpu_strategies import as_outages
from tests.scheduler.cases import table
from tests.sim.test_outages_replay import ONE, TWO, WHOLE, attempts


def faults(*rows: tuple[int, float], work_s: list[float] | None = None) -> JobFailures:
    """Failures from (row of the job, seconds of work), each job's in their order."""
    job = [row for row, _ in rows]
    numbers = [job[: i + 1].count(row) for i, row in enumerate(job)]
    return JobFailures(
        np.asarray(job, np.int64),
        np.asarray(numbers, np.int64),
        np.asarray([s for _, s in rows]),
        np.asarray(work_s or []),
    )


def replay(text: str, failing: JobFailures, **options: Any) -> Result:
    return simulate(table(text, options.pop("cluster", ONE)), faults=failing, details=True, **options)


FIFTY = """
    job submit runs gpus cpus
    a   0      50   1    1
"""


def test_attempts_fail_after_the_work_that_the_log_says() -> None:
    result = replay(FIFTY, faults((0, 30.0), (0, 20.0)))
    assert attempts(result)["a"] == [(0, 30, "failed"), (30, 50, "failed"), (50, 100, "completed")]
    assert result.tables["attempts"]["lost_s"].to_list() == [30, 20, 0]
    assert result.jobs["lost_s"].to_list() == [50]
    assert result.metrics["restarts"] == 2
    assert result.metrics["lost_gpu_s"] == 50
    stops = [e for e in result.events.to_dicts() if e["kind"] == "stop"]
    assert [(e["time_s"], e["detail"]) for e in stops] == [(30, "failed"), (50, "failed")]


def test_a_failed_attempt_goes_back_to_its_last_checkpoint() -> None:
    """Saved every 20 s: 20 s of the first 30; 40 s after 20 s more; 10 s are left. Each restart takes 5 s."""
    result = replay(FIFTY, faults((0, 30.0), (0, 20.0)), defaults=Defaults(checkpoint_s=20.0, restart_s=5.0))
    assert attempts(result)["a"] == [(0, 30, "failed"), (30, 55, "failed"), (55, 70, "completed")]
    assert result.tables["attempts"]["lost_s"].to_list() == [10, 0, 0]


def test_an_attempt_that_the_log_says_failed_fails_however_little_is_left() -> None:
    """The last attempt took 50 s, so that is the job's work; the first ran 80 s, in vain."""
    result = replay(FIFTY, faults((0, 80.0)))
    assert attempts(result)["a"] == [(0, 80, "failed"), (80, 130, "completed")]
    assert result.tables["attempts"].select("work_s", "lost_s").rows() == [(80, 80), (50, 0)]
    saved = replay(FIFTY, faults((0, 80.0)), defaults=Defaults(checkpoint_s=0.0))
    assert attempts(saved)["a"] == [(0, 80, "failed"), (80, 80, "completed")]
    assert saved.tables["attempts"]["lost_s"].to_list() == [30, 0]


def test_the_log_says_how_much_work_a_job_is() -> None:
    result = replay(FIFTY, faults((0, 10.0), work_s=[15.0]))
    assert attempts(result)["a"] == [(0, 10, "failed"), (10, 25, "completed")]
    assert result.jobs["duration_s"].to_list() == [15]


def test_retries_are_bounded_over_failures_of_the_job_and_of_its_node() -> None:
    result = replay(
        FIFTY, faults((0, 5.0), (0, 5.0), (0, 5.0)), outages=as_outages([(0, WHOLE, 8.0, 9.0)]), max_retries=2
    )
    assert attempts(result)["a"] == [(0, 5, "failed"), (5, 8, "lost"), (9, 11, "failed")]
    assert result.jobs["state"].to_list() == ["failed"]


def test_an_outage_puts_off_the_failure_by_no_work() -> None:
    """10 of the 30 s are done when the node fails at 10 s; 20 s after its repair at 15 s the job fails by itself."""
    result = replay(FIFTY, faults((0, 30.0)), outages=as_outages([(0, WHOLE, 10.0, 15.0)]))
    assert attempts(result)["a"] == [(0, 10, "lost"), (15, 35, "failed"), (35, 85, "completed")]


def test_the_wait_before_another_attempt_doubles() -> None:
    """4 s, 8 s and then never more than six minutes; others may have the GPU meanwhile."""
    text = FIFTY + "b 1 3 1 1"
    result = replay(text, faults((0, 10.0), (0, 10.0)), retry_wait_s=4.0)
    assert attempts(result) == {
        "a": [(0, 10, "failed"), (14, 24, "failed"), (32, 82, "completed")],
        "b": [(10, 13, "completed")],
    }
    a = result.jobs.row(0, named=True)
    assert (a["requeued_s"], a["wait_failure_s"]) == (12, 12)


def test_a_wait_that_is_no_number_of_seconds_is_refused() -> None:
    with pytest.raises(UsageError, match="retry wait -1"):
        replay(FIFTY, faults((0, 10.0)), retry_wait_s=-1.0)


def test_failures_of_a_window_are_those_of_its_jobs() -> None:
    text = FIFTY + "b 1 3 1 1\n c 2 3 1 1"
    result = simulate(table(text, TWO), window=(1, 2), faults=faults((0, 10.0), (1, 2.0), work_s=[1.0, 4.0, 5.0]))
    assert [len(runs) for runs in attempts(result).values()] == [2, 1]
    assert result.jobs["duration_s"].to_list() == [4, 5]


@pytest.mark.parametrize("backfill", ["none", "easy", "conservative"])
def test_a_failure_gives_the_nodes_to_whoever_is_next(backfill: str) -> None:
    """a fails at 10 s and waits behind b, which is ahead of it in the queue of longest jobs first."""
    text = FIFTY + "b 1 60 1 1"
    result = replay(text, faults((0, 10.0)), policy="ljf", backfill=backfill)
    assert attempts(result) == {"a": [(0, 10, "failed"), (70, 120, "completed")], "b": [(10, 70, "completed")]}


def philly(folder: Path) -> Path:
    """x fails after 30 s and after 100 s, then runs 60 s; y runs once, z never."""
    day = "2017-10-07 "

    def job(name: str, gpus: int, submitted: str, *spans: tuple[str, str]) -> dict[str, Any]:
        runs = [{"start_time": day + a, "end_time": day + b} for a, b in spans]
        return {"id": name, "num_gpus": gpus, "runtime": 1.0, "submitted_time": day + submitted, "attempts": runs}

    jobs = [
        job("x", 2, "01:00:00", ("01:00:00", "01:00:30"), ("01:01:00", "01:02:40"), ("01:10:00", "01:11:00")),
        job("y", 1, "01:00:10", ("05:00:00", "05:00:01")),
        job("z", 1, "01:00:20"),
    ]
    path = folder / "attempts.json"
    path.write_text(json.dumps(jobs))
    return path


def test_a_recorded_log_from_file_to_table(tmp_path: Path) -> None:
    path = philly(tmp_path)
    trace = read(path)
    recorded = job_failures(attempt_failures(path), trace.jobs.frame["job_id"].to_list())
    np.testing.assert_array_equal(recorded.work_s, [60.0, np.nan])
    result = simulate(trace, cluster=TWO, faults=recorded, details=True)
    assert attempts(result)["x"] == [(0, 30, "failed"), (30, 130, "failed"), (130, 190, "completed")]
    assert result.manifest["faults"]["attempts"] == 2
