from __future__ import annotations

import numpy as np
import pytest

from shunter.scheduler.errors import ConfigError, TraceError
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, job_schema, make_jobs, pool

GOOD = {"job_id": ["a", "b"], "submit_s": [2, 1.5], "duration_s": [5, 6.5]}


def test_jobs_are_sorted_and_completed_with_defaults() -> None:
    jobs = make_jobs(GOOD | {"tasks": [3, None]})
    assert jobs.frame["job_id"].to_list() == ["b", "a"]
    assert jobs.frame["tasks"].to_list() == [1, 3]
    assert list(jobs.frame.columns) == list(job_schema())
    assert jobs.frame["outcome"].to_list() == ["completed", "completed"]
    assert np.isnan(jobs.floats("requested_s")).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"duration_s": [1, -1]}, r"row 1, column 'duration_s': expected a finite run time of at least 0 s, got -1"),
        ({"submit_s": [1, float("nan")]}, r"row 1, column 'submit_s'"),
        ({"requested_s": [0, 1]}, r"row 0, column 'requested_s': expected a positive time limit"),
        ({"deadline_s": [float("inf"), 1]}, r"row 0, column 'deadline_s': expected a finite time"),
        ({"recorded_wait_s": [1, -2]}, r"row 1, column 'recorded_wait_s'"),
        ({"gpus": [1, 1.5]}, r"row 1, column 'gpus': more than one GPU a task must be a whole number"),
        ({"job_id": ["a", "a"]}, r"row 0, column 'job_id': 'a' occurs more than once"),
        ({"job_id": ["a", ""]}, r"row 1, column 'job_id': an identifier is needed"),
        ({"outcome": ["done", "failed"]}, r"row 0, column 'outcome': expected one of completed"),
        ({"tasks": ["x", "y"]}, r"job column 'tasks': expected values of type Int64"),
        ({"colour": [1, 2]}, r"unknown job columns: colour"),
    ],
)
def test_bad_columns(change: dict[str, list[object]], message: str) -> None:
    with pytest.raises(TraceError, match=message) as caught:
        make_jobs(GOOD | change)
    assert "\n" not in str(caught.value)


def test_missing_column() -> None:
    with pytest.raises(TraceError, match="job column 'duration_s' is missing"):
        make_jobs({"job_id": ["a"], "submit_s": [1]})


def test_codes_are_in_alphabetical_order() -> None:
    jobs = make_jobs(GOOD | {"submit_s": [1, 2], "user": ["zoe", None], "group": ["b", "a"]})
    codes, values = jobs.codes("user")
    assert (codes.tolist(), values) == ([0, -1], ["zoe"])
    codes, values = jobs.codes("group")
    assert (codes.tolist(), values) == ([1, 0], ["a", "b"])
    assert jobs.codes("queue")[0].tolist() == [-1, -1]


def test_windows() -> None:
    trace = Trace("t", make_jobs(GOOD), pool(4))
    assert trace.window(1, 1).jobs.frame["job_id"].to_list() == ["a"]
    with pytest.raises(TraceError, match="window 1:2 does not lie inside 't', which has 2 jobs"):
        trace.window(1, 2)


def test_cluster_problems_are_told_together() -> None:
    with pytest.raises(ConfigError, match=r"groups\[0\].count: 0 .*groups\[1\]: none of cpus"):
        ClusterSpec("c", (NodeGroup("a", 0, cpus=1.0), NodeGroup("b", 1)))
