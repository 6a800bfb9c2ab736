"""What is known of run times at submission: by hand, without a look ahead, and what a forest makes of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.durations import FEATURES, SCHEMA, Recorded, RunModel, Submissions
from shunter.scheduler.kernels.durations import NUM_FEATURES
from shunter.scheduler.kernels.forest import Forest, predict_rows

AT = {name: place for place, (name, _) in enumerate(FEATURES)}


def table(rows: list[tuple[float, float, float, float, float, int]]) -> Recorded:
    """Jobs of (submit, start, run, request, CPUs, user); a request of 0 is none, a user of −1 nobody."""
    submit_s, start_s, run_s, request_s, cpus, user = (
        np.asarray(column, np.float64) for column in zip(*rows, strict=True)
    )
    count = len(rows)
    nobody = np.full(count, -1)
    jobs = Submissions(
        submit_s,
        np.where(request_s > 0, request_s, np.nan),
        cpus,
        np.zeros(count),
        user.astype(np.int64),
        nobody,
        nobody,
        submit_s,
    )
    return Recorded(jobs, start_s, run_s)


def test_every_column_has_a_name_of_its_own() -> None:
    assert SCHEMA.size == NUM_FEATURES == len(AT)


def test_histories_tell_what_has_ended_and_what_runs() -> None:
    """User 0's a ran 100 of 1000 s, b 10 s in full; c runs since 50 s; d comes at 300 s, e at 301 s."""
    schedule = table(
        [
            (0, 0, 100, 1000, 2, 0),
            (0, 10, 10, 10, 4, 0),
            (0, 50, 9999, 1000, 2, 0),
            (300, 300, 5, 1000, 2, 0),
            (301, 400, 5, 1000, 8, 1),
        ]
    )
    found = schedule.features()
    first, fourth, fifth = found[0], found[3], found[4]
    assert first[AT["who_count"]] == 0
    assert np.isnan(first[AT["who_last"]])
    assert first[AT["typical"]] == pytest.approx(math.log(1000) - 1)

    def of(name: str) -> float:
        return float(fourth[AT[name]])

    typical = math.log(100)  # only a is alike: the same user, request and size
    assert of("typical") == pytest.approx(typical, rel=1e-6)
    assert of("alike_count") == pytest.approx(math.log(2), rel=1e-6)
    assert of("who_count") == pytest.approx(math.log(3), rel=1e-6)
    assert of("who_last") == pytest.approx(0.0, abs=1e-6)  # a ended at 100 s, b at 20 s
    assert of("who_before") == pytest.approx(math.log(10) - typical, rel=1e-6)
    assert of("who_middle") == pytest.approx((math.log(10) + math.log(100)) / 2 - typical, rel=1e-6)
    assert of("who_since_end") == pytest.approx(math.log(201), rel=1e-6)
    assert of("who_last_ratio") == pytest.approx(math.log(0.1), rel=1e-6)
    assert of("who_at_limit") == pytest.approx(0.5)  # b first, then a: (1 + 0) / 2
    assert of("who_short") == pytest.approx(0.5)
    assert of("alike_running") == pytest.approx(math.log(2), rel=1e-6)
    assert of("alike_elapsed") == pytest.approx(math.log(251) - typical, rel=1e-6)
    assert of("alike_since_submit") == pytest.approx(math.log(301), rel=1e-6)
    assert of("who_recent") == pytest.approx(math.log(1 + 3 * 2 ** (-300 / 3600)), rel=1e-6)
    assert of("all_running") == pytest.approx(math.log(2), rel=1e-6)
    assert fifth[AT["who_count"]] == 0  # another user
    assert fifth[AT["all_count"]] == pytest.approx(math.log(3), rel=1e-6)


def test_unknown_users_and_missing_requests_have_no_history() -> None:
    found = table([(0, 0, 5, 0, 1, -1), (10, 10, 5, 0, 1, -1)]).features()[1]
    assert np.isnan(found[AT["log_request"]])
    assert found[AT["who_count"]] == found[AT["alike_count"]] == found[AT["request_count"]] == 0
    assert found[AT["all_count"]] == pytest.approx(math.log(2), rel=1e-6)


def test_a_job_that_starts_before_its_submission_is_refused() -> None:
    with pytest.raises(ValueError, match=r"job 1 starts at 5.0 s, before its submission at 9.0 s"):
        table([(0, 0, 1, 1, 1, 0), (9, 5, 1, 1, 1, 0)])


@st.composite
def schedules(draw: st.DrawFn) -> Recorded:
    """Small schedules with ties, jobs that end at once, unknown users and missing requests."""
    cells = (st.integers(0, 3), st.integers(0, 4), st.integers(0, 6), st.integers(0, 2), st.integers(1, 2))
    rows = draw(st.lists(st.tuples(*cells, st.integers(-1, 1)), min_size=1, max_size=20))
    now = 0
    jobs = list[tuple[float, float, float, float, float, int]]()
    for gap, wait, run, request, cpus, user in rows:
        now += gap
        jobs.append((now * 50, (now + wait) * 50, run * 50, request * 100, cpus, user))
    return table(jobs)


def small_forest() -> Forest:
    """Two quantiles of two trees each, on features that change with histories."""
    column = AT["who_last"]
    numbers = np.asarray
    return Forest(
        feature=numbers([column, 0, 0, AT["alike_running"], 0, 0]),
        threshold=numbers([0.2, 0.0, 0.0, 0.5, 0.0, 0.0]),
        left=numbers([1, 1, 2, 4, 4, 5]),
        right=numbers([2, 1, 2, 5, 4, 5]),
        missing_left=numbers([0, 0, 0, 1, 0, 0]),
        value=numbers([0.0, -0.5, 0.5, 0.0, 0.1, 0.3]),
        roots=numbers([0, 3, 0, 3]),
        first=numbers([0, 1, 4]),
    )


@settings(max_examples=150)
@given(schedules(), st.data())
def test_nothing_is_known_of_the_run_time_of_a_job_that_has_not_ended(schedule: Recorded, data: st.DataObject) -> None:
    """Whatever jobs take that have not ended when job i is submitted: its features and quantiles keep every bit."""
    row = data.draw(st.integers(0, len(schedule.jobs) - 1))
    now_s = schedule.jobs.submit_s[row]
    open_ = schedule.start_s + schedule.run_s > now_s
    open_ |= schedule.start_s >= now_s  # those that start now and end at once, too
    other_s = schedule.run_s.copy()
    for job in np.flatnonzero(open_):
        least_s = max(now_s - schedule.start_s[job], 0.0)
        other_s[job] = least_s + data.draw(st.integers(1, 500))
    changed = replace(schedule, run_s=other_s)
    np.testing.assert_array_equal(schedule.features()[row], changed.features()[row])
    model = RunModel(small_forest(), (0.1, 0.9), 0.9, window=4, rate=0.1)
    np.testing.assert_array_equal(schedule.quantiles(model)[row], changed.quantiles(model)[row])


@settings(max_examples=100)
@given(schedules())
def test_quantiles_rise_and_stay_between_a_second_and_the_request(schedule: Recorded) -> None:
    found = schedule.quantiles(RunModel(small_forest(), (0.1, 0.9), 0.1, window=4, rate=0.1))
    most_s = np.where(np.isnan(schedule.jobs.request_s), np.inf, schedule.jobs.request_s)
    assert (found >= 1.0 - 1e-12).all()
    assert (found[:, 1] >= found[:, 0]).all()
    assert (found <= most_s[:, None]).all()


def test_a_missing_value_goes_where_training_sent_it() -> None:
    rows = np.full((3, SCHEMA.size), np.nan)
    rows[1, AT["who_last"]], rows[1, AT["alike_running"]] = 0.2, 0.5
    rows[2, AT["who_last"]], rows[2, AT["alike_running"]] = 0.3, 0.6
    out = np.empty((3, 2))
    predict_rows(small_forest(), rows, out)
    # First ensemble: one tree. Second: the other, the first again, and the other again.
    np.testing.assert_allclose(out, [[0.5, 0.7], [-0.5, -0.3], [0.5, 1.1]])


def test_the_interval_holds_its_share_after_a_change() -> None:
    """All jobs take e² times what they took before: after the calibration's window 80 % lie inside again."""
    random = np.random.default_rng(0)
    count = 4000
    run_s = np.exp(random.normal(5.0, 1.0, count) + np.where(np.arange(count) < 2000, 0.0, 2.0))
    submit_s = np.arange(count) * 5000.0
    schedule = table([(submit_s[i], submit_s[i], run_s[i], 0, 1, -1) for i in range(count)])
    leaf = Forest(
        feature=np.zeros(2, np.int64),
        threshold=np.zeros(2),
        left=np.arange(2),
        right=np.arange(2),
        missing_left=np.zeros(2, np.int64),
        value=np.asarray([-0.1, 0.1]),  # an interval that is far too narrow
        roots=np.arange(2),
        first=np.arange(3),
    )
    found = schedule.quantiles(RunModel(leaf, (0.1, 0.9), 0.9, window=200, rate=0.005))
    inside = (run_s >= found[:, 0]) & (run_s <= found[:, 1])
    assert inside[:40].mean() < 0.4  # not calibrated yet
    for first in (400, 1000, 2400, 3200):
        assert 0.76 < inside[first : first + 800].mean() < 0.84
