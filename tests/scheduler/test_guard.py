"""The guard's rules: who goes first, when the heuristic decides, and that nobody is overtaken beyond the bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.scheduler.errors import UsageError
from shunter.scheduler.features import SCHEMA
from shunter.scheduler.guard import PARAMETERS, Guard, Seen, guarded_order
from shunter.scheduler.kernels.guarding import OVERRUNS, PAUSED, note_elapsed
from shunter.scheduler.policies.registry import choose_ordering
from tests.networks import nothing_is_usual

HOUR_S = 3600.0


def ordered(guard: Guard, scores: list[float], wait_h: list[float], **more: Any) -> tuple[list[int], str, int]:
    """Order, reason and number of late jobs; requests of one hour, and a heuristic that reverses the queue."""
    count = len(scores)
    given_too: dict[str, Any] = {
        "features": np.zeros((count, SCHEMA.size)),
        "fallback": -np.arange(count, dtype=np.float64),
        "request_s": np.full(count, HOUR_S),
    }
    found = guarded_order(guard, np.asarray(scores), wait_s=HOUR_S * np.asarray(wait_h), **(given_too | more))
    return found.order.tolist(), found.reason, found.num_late


def test_the_learned_order_is_followed_and_ties_end_in_submission() -> None:
    assert ordered(Guard(), [2, 1, 2, 1], [9, 8, 7, 6]) == ([1, 3, 0, 2], "followed", 0)


def test_of_the_jobs_that_waited_too_long_the_first_goes_first() -> None:
    """One of them: if all of them came first, an overloaded cluster would serve in the order of submission."""
    guard = Guard(bound_s=5 * HOUR_S)
    assert ordered(guard, [9, 8, 0, 1], [6, 5, 4, 3]) == ([0, 2, 3, 1], "followed", 2)
    assert ordered(guard, [9, 8, 0, 1], [4, 3, 2, 1]) == ([2, 3, 1, 0], "followed", 0)


def test_the_bound_grows_with_the_request() -> None:
    """96 h or 20 requests, whichever is longer: 6 h ask for 120 h, 1 h for 96 h."""
    guard = Guard.of(PARAMETERS)
    request_s = HOUR_S * np.asarray([6.0, 1.0, 1.0])
    late = guarded_order(
        guard,
        np.asarray([3.0, 2.0, 1.0]),
        np.zeros((3, SCHEMA.size)),
        fallback=np.zeros(3),
        wait_s=HOUR_S * np.asarray([119.0, 97.0, 1.0]),
        request_s=request_s,
    )
    assert late.order.tolist() == [1, 2, 0]
    np.testing.assert_allclose(guard.late_after_s(request_s), HOUR_S * np.asarray([120.0, 96.0, 96.0]))


def test_the_bound_grows_with_what_waits() -> None:
    """Two drains of four quarters of an hour are 2 h: who waited 3 h goes first, unless each would take an hour."""
    guard = Guard(bound_s=HOUR_S, bound_drains=2.0)
    assert ordered(guard, [9, 8, 0, 1], [3, 1.5, 1, 0], work_s=np.full(4, HOUR_S / 4)) == ([0, 2, 3, 1], "followed", 1)
    assert ordered(guard, [9, 8, 0, 1], [3, 1.5, 1, 0], work_s=np.full(4, HOUR_S)) == ([2, 3, 1, 0], "followed", 0)


def test_priority_classes_come_before_starving_jobs_where_they_are_kept() -> None:
    more = {"priority": np.asarray([0.0, 1.0, 1.0, 0.0])}
    guard = Guard(bound_s=5 * HOUR_S, keeps_classes=True)
    assert ordered(guard, [1, 4, 3, 2], [9, 2, 1, 0.5], **more)[0] == [2, 1, 0, 3]
    assert ordered(Guard(bound_s=5 * HOUR_S), [1, 4, 3, 2], [9, 2, 1, 0.5], **more)[0] == [0, 3, 2, 1]


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_finite_number_leaves_the_order_to_the_heuristic(score: float) -> None:
    assert ordered(Guard(), [1, score, 0], [3, 2, 1]) == ([2, 1, 0], "not_finite", 0)


def test_a_feature_that_is_no_number_leaves_the_order_to_the_heuristic() -> None:
    features = np.zeros((3, SCHEMA.size))
    features[1, 4] = np.nan
    assert ordered(Guard(), [1, 2, 3], [3, 2, 1], features=features) == ([2, 1, 0], "not_finite", 0)


def test_features_outside_the_range_of_training() -> None:
    """Two of four jobs have all their features outside: a share of one half."""
    features = np.zeros((4, SCHEMA.size))
    features[:2] = 1.5
    seen = Seen(np.zeros(SCHEMA.size), np.ones(SCHEMA.size))
    more = {"features": features, "seen": seen}
    assert ordered(Guard(most_outside=0.5), [1, 2, 3, 4], [4, 3, 2, 1], **more)[1] == "followed"
    assert ordered(Guard(most_outside=0.49), [1, 2, 3, 4], [4, 3, 2, 1], **more) == ([3, 2, 1, 0], "outside", 0)
    assert ordered(Guard(), [1, 2], [2, 1], features=features[:2], seen=nothing_is_usual())[1] == "followed"


def test_starving_jobs_go_first_in_the_heuristics_order_too() -> None:
    guard = Guard(bound_s=5 * HOUR_S)
    assert ordered(guard, [np.nan, 1, 2], [9, 1, 0.5]) == ([0, 2, 1], "not_finite", 1)
    assert ordered(guard, [1, 2, 3], [9, 1, 0.5], paused=True) == ([0, 2, 1], "slow", 1)


def test_inference_that_is_too_slow_pauses_after_some_overruns_in_a_row() -> None:
    from shunter.scheduler.guard import rules_of

    one = np.ones(1)
    rules = rules_of(Guard(), request_s=one, work_s=one, fallback=one, priority=one, seen=Seen.anything())
    for elapsed_s, overruns in ((2.0, 1), (2.0, 2), (0.5, 0), (2.0, 1), (2.0, 2)):
        note_elapsed(rules, elapsed_s, 1.0, 3, 50)
        assert (rules.counts[OVERRUNS], rules.counts[PAUSED]) == (overruns, 0)
    note_elapsed(rules, 2.0, 1.0, 3, 50)
    assert (rules.counts[OVERRUNS], rules.counts[PAUSED]) == (0, 50)


@given(st.data())
def test_nobody_is_overtaken_beyond_the_bound(data: st.DataObject) -> None:
    """The job that has been late longest is first, so that each one becomes the first; the others stand by score."""
    count = data.draw(st.integers(1, 60))
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    wait_s = np.sort(draw.integers(0, 40, count) * HOUR_S)[::-1].copy()
    request_s = draw.integers(1, 5, count) * HOUR_S
    scores = draw.integers(0, 6, count).astype(np.float64)
    guard = Guard(bound_s=data.draw(st.sampled_from([0.0, 10.0, 24.0])) * HOUR_S, bound_requests=8.0)
    found = guarded_order(
        guard, scores, np.zeros((count, SCHEMA.size)), fallback=-scores, wait_s=wait_s, request_s=request_s
    )
    late = wait_s >= np.maximum(guard.bound_s, 8.0 * request_s)
    assert sorted(found.order) == list(range(count))
    first = np.flatnonzero(late)[:1]
    others = np.delete(np.arange(count), first)
    assert found.order.tolist() == [*first, *others[np.lexsort((others, scores[others]))]]
    assert found.num_late == late.sum()


def test_settings_are_parameters_of_the_ordering() -> None:
    chosen = choose_ordering("learned:bound_h=48,outside=0,budget_ms=5,classes=1,fallback=sjf")
    guard = Guard.of(chosen.parameters)
    assert (guard.bound_s, guard.bound_requests) == (48 * HOUR_S, 20.0)
    assert (guard.most_outside, guard.budget_s, guard.keeps_classes) == (np.inf, 0.005, True)
    assert chosen.fallback == "sjf"
    assert choose_ordering(chosen.label) == chosen
    assert Guard.of({}) == Guard()


@pytest.mark.parametrize(
    ("fallback", "message"), [("wfp3", "fixed score"), ("sjf-oracle", "fixed score"), ("sfj", "did you mean 'sjf'")]
)
def test_a_heuristic_whose_score_changes_cannot_be_the_fallback(fallback: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_ordering(f"learned:fallback={fallback}")
