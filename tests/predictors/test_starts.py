"""Start times: what is drawn, what is rolled, and intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.predictors.run_quantiles import RunQuantiles
from shunter.predictors.run_times import RunJobs, RunTimes
from shunter.predictors.start_calibration import Calibration
from shunter.predictors.starts import DAY_S, Estimates, estimate_starts, possible_shifts
from shunter.scheduler.types import FloatArray, IntArray
from tests.examples import examples


def jobs(*rows: tuple[int, float, float]) -> RunJobs:
    """Jobs of (user, request, processors)."""
    users, requests, sizes = zip(*rows, strict=True)
    return RunJobs(np.asarray(users), np.asarray(requests, np.float64), np.asarray(sizes, np.float64))


def drawn(known: RunTimes, job: tuple[int, float, float], elapsed_s: float = 0.0) -> set[float]:
    return set(known.draw(jobs(job), np.asarray([elapsed_s]), 300, np.random.default_rng(0))[:, 0].tolist())


ENDED = [(0, 100.0, 1.0)] * 4 + [(0, 200.0, 2.0)] * 4 + [(1, 50.0, 1.0)]
RUNS = [10.0, 20.0, 30.0, 40.0, 100.0, 100.0, 100.0, 200.0, 5.0]


def test_run_times_are_those_of_the_jobs_most_alike() -> None:
    known = RunTimes(jobs(*ENDED), np.asarray(RUNS))
    assert drawn(known, (0, 100.0, 1.0)) == {10.0, 20.0, 30.0, 40.0}
    assert drawn(known, (0, 200.0, 2.0)) == {100.0, 200.0}
    # Of no job alike: the user's eight, by the share of their requests: 0.1, 0.2, 0.3, 0.4, 0.5, 1.
    assert drawn(known, (0, 1000.0, 1.0)) == {100.0, 200.0, 300.0, 400.0, 500.0, 1000.0}
    # One job of a user is not enough: anybody's.
    assert drawn(known, (1, 1000.0, 1.0)) == {100.0, 200.0, 300.0, 400.0, 500.0, 1000.0}
    assert drawn(known, (7, 1000.0, 1.0)) == drawn(known, (-1, 1000.0, 1.0)) == drawn(known, (1, 1000.0, 1.0))


def test_a_running_job_is_compared_with_jobs_that_ran_longer() -> None:
    known = RunTimes(jobs(*ENDED), np.asarray(RUNS))
    assert drawn(known, (0, 100.0, 1.0), 25.0) == {30.0, 40.0}
    # None of those alike has: of everybody's, shares 0.5 and 1 of its request.
    assert drawn(known, (0, 100.0, 1.0), 45.0) == {50.0, 100.0}
    late = drawn(known, (0, 100.0, 1.0), 400.0)  # past its request: up to a quarter more
    assert min(late) > 400.0
    assert max(late) < 500.0


def test_only_the_last_jobs_count() -> None:
    known = RunTimes(jobs(*[(0, 100.0, 1.0)] * 40), np.repeat([10.0, 50.0], 20))
    assert drawn(known, (0, 100.0, 1.0)) == {50.0}


def test_nothing_is_known_before_a_job_has_ended() -> None:
    known = RunTimes(RunJobs(np.zeros(0, np.int64), np.zeros(0), np.zeros(0)), np.zeros(0))
    assert drawn(known, (0, 100.0, 1.0)) == {100.0}
    assert min(drawn(known, (0, 100.0, 1.0), 60.0)) > 60.0


@settings(max_examples=examples(50))
@given(st.data())
def test_drawn_run_times_are_possible(data: st.DataObject) -> None:
    """Positive, and longer than the job has run."""
    row = st.tuples(st.integers(-1, 3), st.sampled_from([1.0, 60.0, 3600.0]), st.sampled_from([1.0, 8.0]))
    ended = data.draw(st.lists(row, min_size=1, max_size=30))
    run_s = np.asarray(data.draw(st.lists(st.floats(0, 1e5), min_size=len(ended), max_size=len(ended))))
    asked = data.draw(st.lists(row, min_size=1, max_size=5))
    elapsed_s = np.asarray(data.draw(st.lists(st.floats(0, 1e6), min_size=len(asked), max_size=len(asked))))
    found = RunTimes(jobs(*ended), run_s).draw(jobs(*asked), elapsed_s, 20, np.random.default_rng(1))
    assert (found > elapsed_s).all()
    assert (found >= 1.0).all()


class OneAfterTheOther:
    """A machine for one job at a time: the running one, then the others in the order of the queue."""

    elapsed_s: FloatArray = np.asarray([10.0])
    is_dear = False

    def __init__(self) -> None:
        self.came: list[tuple[IntArray, FloatArray]] = []

    def starts(self, run_s: FloatArray, again: IntArray | None = None, again_s: FloatArray | None = None) -> FloatArray:
        assert again is not None
        assert again_s is not None
        assert len(run_s) == 4 + len(again)
        self.came.append((again, again_s))
        return 100.0 - 10.0 + np.cumsum(run_s[:3])


def test_estimates_are_quantiles_of_the_rolls() -> None:
    known = RunTimes(jobs(*[(0, 100.0, 1.0)] * 20), np.linspace(20.0, 40.0, 20))
    found = estimate_starts(
        OneAfterTheOther(), jobs(*[(0, 100.0, 1.0)] * 4), known, 100.0, np.random.default_rng(3), samples=2000
    )
    # The running job has run 10 s of 20 to 40: nine of ten of its ends lie behind 100 − 10 + 22.
    assert found.low_s[0] == pytest.approx(112.0, abs=1.5)
    assert found.median_s[0] == pytest.approx(120.0, abs=1.5)
    assert found.high_s[0] == pytest.approx(128.0, abs=1.5)
    assert found.median_s[2] == pytest.approx(180.0, abs=2.0)
    assert (found.high_s - found.low_s)[2] > (found.high_s - found.low_s)[0]


def test_recent_jobs_come_again_after_whole_days() -> None:
    known = RunTimes(jobs(*[(0, 100.0, 1.0)] * 20), np.full(20, 30.0))
    now_s = 20 * DAY_S
    recent_s = now_s - DAY_S * np.asarray([10.0, 6.0, 2.0])
    roll = OneAfterTheOther()
    estimate_starts(
        roll, jobs(*[(0, 100.0, 1.0)] * 7), known, now_s, np.random.default_rng(0), recent_s=recent_s, samples=50
    )
    assert possible_shifts(recent_s, now_s).tolist() == [days * DAY_S for days in range(5, 11)]
    # Those submitted within the last so many days come; of exactly ten days ago, none.
    expected = {5: [2], 6: [2], 7: [1, 2], 8: [1, 2], 9: [1, 2], 10: [1, 2]}
    seen = set()
    for again, again_s in roll.came:
        assert (np.diff(again_s) > 0).all()
        later = np.rint((again_s - recent_s[again]) / DAY_S).astype(int)
        np.testing.assert_allclose(again_s, recent_s[again] + later * DAY_S)
        turns = np.unique(later)
        days = np.diff(turns, prepend=0)  # each turn lasts as many days as it looks back
        assert 28 <= turns[-1] < 28 + 10
        for turn, back in zip(turns, days, strict=True):
            assert again[later == turn].tolist() == expected[back]
        seen |= set(days.tolist())
    assert seen == set(expected)
    assert possible_shifts(np.asarray([now_s - 3600.0]), now_s).tolist() == []


def test_a_job_that_comes_twice_runs_twice() -> None:
    """Its run times are drawn apart."""
    rng = np.random.default_rng(0)
    known = RunTimes(jobs(*[(0, 100.0, 1.0)] * 20), np.linspace(20.0, 40.0, 20))
    found: list[FloatArray] = []

    class Watching(OneAfterTheOther):
        def starts(
            self, run_s: FloatArray, again: IntArray | None = None, again_s: FloatArray | None = None
        ) -> FloatArray:
            found.append(run_s[4:])
            return super().starts(run_s, again, again_s)

    recent_s = np.asarray([8.0, 19.0]) * DAY_S
    estimate_starts(Watching(), jobs(*[(0, 100.0, 1.0)] * 6), known, 20 * DAY_S, rng, recent_s=recent_s, samples=5)
    assert all(len(each) >= 3 for each in found)  # in 28 days, by up to twelve at a time
    assert all(len(set(each.tolist())) >= 2 for each in found)


def test_a_job_that_never_starts_has_no_time() -> None:
    class Closed(OneAfterTheOther):
        def starts(
            self, run_s: FloatArray, again: IntArray | None = None, again_s: FloatArray | None = None
        ) -> FloatArray:
            return np.where([False, True, False], np.inf, super().starts(run_s, again, again_s))

    known = RunTimes(jobs(*ENDED), np.asarray(RUNS))
    found = estimate_starts(Closed(), jobs(*[(0, 100.0, 1.0)] * 4), known, 100.0, np.random.default_rng(0))
    assert np.isinf([found.low_s[1], found.median_s[1], found.high_s[1]]).all()
    assert np.isfinite([found.low_s[[0, 2]], found.high_s[[0, 2]]]).all()


def test_run_times_by_quantiles_have_these_quantiles() -> None:
    told = np.asarray([[10.0, 100.0, 200.0, 400.0]])
    known = RunQuantiles(np.asarray([0.1, 0.5, 0.75, 0.9]))
    job = RunJobs(np.zeros(1, np.int64), np.asarray([1000.0]), np.ones(1), told)
    found = known.draw(job, np.zeros(1), 20_000, np.random.default_rng(0))[:, 0]
    np.testing.assert_allclose(np.quantile(found, known.levels), told[0], rtol=0.05)
    assert found.min() >= 1.0
    assert found.max() <= 1000.0
    # Of one that has run for 200 s only the upper quarter is left: its middle is at the level 0.875.
    longer = known.draw(job, np.asarray([200.0]), 20_000, np.random.default_rng(0))[:, 0]
    assert longer.min() > 200.0
    expected = 200.0 * 2.0 ** (0.125 / 0.15)  # between 0.75 and 0.9, even in logarithms
    assert np.median(longer) == pytest.approx(expected, rel=0.03)
    assert (known.draw(job, np.asarray([1500.0]), 100, np.random.default_rng(0)) > 1500.0).all()


def test_intervals_cover_what_they_promise_though_they_were_far_too_narrow() -> None:
    """Estimates are wrong by a factor of two, their intervals by a tenth; answers come when jobs start."""
    rng = np.random.default_rng(5)
    calibration, held, asked = Calibration(), 0, 0
    starts: list[tuple[float, int]] = []
    for job in range(3000):
        now_s = 600.0 * job
        for start_s, other in [each for each in starts if each[0] <= now_s]:
            calibration.started(other, start_s)
        starts = [each for each in starts if each[0] > now_s]
        wait_s = float(rng.lognormal(8.0, 1.0))
        guess_s = now_s + wait_s * float(rng.lognormal(0.0, 0.7))
        raw = Estimates(*(np.asarray([now_s + factor * (guess_s - now_s)]) for factor in (0.9, 1.0, 1.1)))
        told = calibration.adjusted(raw, np.asarray([float(job)]), now_s)
        assert now_s <= told.low_s[0] <= told.median_s[0] <= told.high_s[0]
        starts.append((now_s + wait_s, job))
        held += int(job >= 200 and told.low_s[0] <= now_s + wait_s <= told.high_s[0])
        asked += int(job >= 200)
    assert 0.77 < held / asked < 0.83


def test_long_waits_count_though_hundreds_of_estimates_are_made_before_they_end() -> None:
    """Everybody waits 20 to 60 days and is told 10 to 20; 60 estimates a day."""
    rng = np.random.default_rng(2)
    calibration, held, asked = Calibration(), 0, 0
    waiting: list[tuple[float, int]] = []
    for day in range(400):
        now_s = day * DAY_S
        for start_s, job in [each for each in waiting if each[0] <= now_s]:
            calibration.started(job, start_s)
        waiting = [each for each in waiting if each[0] > now_s]
        start_s = now_s + rng.uniform(20.0, 60.0, 60) * DAY_S
        raw = Estimates(*(np.full(60, now_s + days * DAY_S) for days in (10.0, 15.0, 20.0)))
        rows = 60 * day + np.arange(60)
        told = calibration.adjusted(raw, rows.astype(np.float64), now_s)
        waiting += zip(start_s.tolist(), rows.tolist(), strict=True)
        if day >= 150:
            held += int(((told.low_s <= start_s) & (start_s <= told.high_s)).sum())
            asked += 60
    assert 0.75 < held / asked < 0.97
