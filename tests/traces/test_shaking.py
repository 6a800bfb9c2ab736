"""Shaken copies: which jobs move, how far, and what stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import TraceError, UsageError
from shunter.traces.demo import demo_trace
from shunter.traces.shaking import SESSION_S, sessions, shaken
from shunter.traces.tables import Trace, make_jobs, pool


def a_day() -> Trace:
    """Two users, jobs b and c in one session, one job without a user at noon, and a deadline."""
    return Trace(
        "day",
        make_jobs(
            {
                "job_id": list("abcdefg"),
                "submit_s": [0.0, 20_000.0, 20_600.0, 40_000.0, 43_200.0, 50_000.0, 86_400.0],
                "duration_s": [10.0] * 7,
                "user": ["y", "x", "x", "x", None, "y", "y"],
                "deadline_s": [None, None, None, 50_000.0, None, None, None],
            }
        ),
        pool(1),
    )


def test_sessions_end_with_a_pause_and_belong_to_one_user() -> None:
    submit_s = np.array([0.0, 10.0, SESSION_S, SESSION_S + 5.0, 2 * SESSION_S + 1.0, 2 * SESSION_S + 2.0])
    found = sessions(submit_s, np.array([0, 1, 0, -1, 0, -1]))
    assert found[0] == found[2]  # a pause of exactly the limit
    assert len({found[0], found[1], found[3], found[4], found[5]}) == 5


def test_a_session_moves_together_and_its_deadlines_with_it() -> None:
    trace = a_day()
    copy = shaken(trace, 3, span_s=1800.0)
    before, after = ({row["job_id"]: row for row in t.jobs.frame.to_dicts()} for t in (trace, copy))
    moved = {name: after[name]["submit_s"] - before[name]["submit_s"] for name in after}
    assert all(abs(shift) <= 1800.0 for shift in moved.values())
    assert len({round(moved[name], 6) for name in "bdef"}) == 4  # each session by its own amount
    assert after["d"]["deadline_s"] - before["d"]["deadline_s"] == pytest.approx(moved["d"])
    assert {k: v for k, v in after["d"].items() if k not in ("submit_s", "deadline_s")} == {
        k: v for k, v in before["d"].items() if k not in ("submit_s", "deadline_s")
    }
    assert moved["b"] == pytest.approx(moved["c"])
    assert shaken(trace, 3, span_s=1800.0).jobs.frame.equals(copy.jobs.frame)
    assert not shaken(trace, 4, span_s=1800.0).jobs.frame.equals(copy.jobs.frame)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 900), st.integers(2, 1100), st.integers(0, 9), st.sampled_from([1.0, 600.0, 1e7]))
def test_only_the_rows_asked_for_change_places_among_themselves(
    first: int, count: int, seed: int, span_s: float
) -> None:
    trace = demo_trace("hpc")
    last = min(first + count, len(trace.jobs))
    copy = shaken(trace, seed, span_s=span_s, rows=(first, last))
    old, new = trace.jobs.frame, copy.jobs.frame
    assert new.head(first).equals(old.head(first))
    assert new.slice(last).equals(old.slice(last))
    assert sorted(new["job_id"][first:last]) == sorted(old["job_id"][first:last])
    assert new["submit_s"].is_sorted()
    joined = old.join(new.select("job_id", moved_s="submit_s"), on="job_id")
    assert (joined["moved_s"] - joined["submit_s"]).abs().max() <= span_s * (1 + 1e-9)


def test_bad_input_is_named() -> None:
    trace = a_day()
    for span_s in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="above 0"):
            shaken(trace, 1, span_s=span_s)
    with pytest.raises(TraceError, match="rows 3 to 9 do not lie inside 'day'"):
        shaken(trace, 1, rows=(3, 9))
