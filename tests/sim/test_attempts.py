"""Attempts of jobs: reading them, and the failures that they tell of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shunter.scheduler.errors import TraceError
from shunter.sim.attempts import attempt_failures, job_failures
from tests.traces.conftest import SHARED


def log(folder: Path, text: str, name: str = "attempts.json") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def attempt(start: str, end: str | None) -> dict[str, str | None]:
    day = "2017-10-07 "
    return {"start_time": day + start, "end_time": end and day + end}


def test_attempts_that_were_followed_by_another_are_failures(tmp_path: Path) -> None:
    jobs = [
        {"id": "x", "num_gpus": 2, "attempts": [attempt("01:00:00", "01:00:30"), attempt("01:01:00", "01:02:40")]},
        {"jobid": "y", "attempts": [attempt("05:00:00", "05:00:01"), attempt("06:00:00", None)]},
        {"id": "z", "num_gpus": 1, "attempts": []},
    ]
    recorded = attempt_failures(log(tmp_path, json.dumps(jobs)))
    assert recorded.job_id == ("x", "y", "z")
    assert recorded.attempts.tolist() == [2, 1, 0]
    assert recorded.length_s.tolist() == [30, 100, 1]
    np.testing.assert_array_equal(recorded.gap_s, [np.nan, 30, np.nan])
    assert recorded.mean_gpu_time_to_failure_s() == 2 * 130  # y's GPUs are not known, z never ran
    failures = job_failures(recorded, ["z", "other", "x"])
    assert (failures.job_row.tolist(), failures.attempt.tolist(), failures.after_s.tolist()) == ([2], [1], [30.0])


def test_bad_attempts_are_told_all_at_once(tmp_path: Path) -> None:
    jobs = [
        7,
        {"id": "x", "attempts": [attempt("nine", "ten")]},
        {"id": "y", "attempts": [attempt("02:00:00", "01:00:00")]},
    ]
    with pytest.raises(
        TraceError, match=r"job 1: expected an object.*job 2: attempt 1: .*job 3: attempt 1: ends before"
    ):
        attempt_failures(log(tmp_path, json.dumps(jobs)))
    with pytest.raises(TraceError, match="expected a list of jobs"):
        attempt_failures(log(tmp_path, "{}"))
    with pytest.raises(TraceError, match=r":1:2: no valid JSON"):
        attempt_failures(log(tmp_path, "[}"))


def test_philly_attempts(shared_traces: Path) -> None:
    recorded = attempt_failures(shared_traces / "philly" / "philly_jobs_attempts.json.gz")
    assert np.bincount(recorded.attempts).tolist() == [0, 2218, 442, 180, 122, 72]
    failures = job_failures(recorded, recorded.job_id)
    assert len(failures.job_row) == 442 + 2 * 180 + 3 * 122 + 4 * 72
    assert (np.diff(failures.job_row) >= 0).all()
    assert np.nanmin(recorded.gap_s) >= 0


@pytest.fixture(scope="module")
def shared_traces() -> Path:
    """The folder of public traces beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder of public traces at {SHARED}")
    return SHARED
