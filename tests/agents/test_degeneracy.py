"""The degeneracy check on scores that are heuristics in disguise, and on one that is not."""

from __future__ import annotations

import numpy as np
import pytest

from shunter.agents.degeneracy import MOST_QUEUES, Recorder, check, kendall_tau, order_of, sentences
from shunter.scheduler.kernels.features import LOG_SPAN
from shunter.scheduler.types import FloatArray

NAMES = ("log_request", "size", "log_wait", "user_ratio")


def queues(num: int = 20, jobs: int = 12) -> list[FloatArray]:
    """Queues of jobs with requests of an hour or a day, sizes of 1/8 or 1/2, distinct waits and users."""
    rng = np.random.default_rng(3)
    return [
        np.stack(
            [
                rng.choice(np.log1p([3600.0, 86400.0]) / LOG_SPAN, jobs),
                rng.choice([0.125, 0.5], jobs),
                rng.permutation(np.linspace(0.1, 0.9, jobs)),
                rng.normal(size=jobs),
            ],
            axis=1,
        )
        for _ in range(num)
    ]


def test_shortest_first_in_disguise_is_recognised() -> None:
    found = check([(x, 3.0 * x[:, 0] + 1.0) for x in queues()], NAMES)
    assert found["orders"]["sjf"] == {"first_choice": 1.0, "kendall_tau": 1.0}
    assert found["orders"]["smallest"]["kendall_tau"] < 0.9
    assert found["equal_pairs"] > 0
    assert (found["told_apart"], found["example"]) == (0, None)
    assert "never told two jobs of equal size and request apart" in " ".join(sentences(found))


def test_a_score_of_users_tells_equal_jobs_apart_and_lets_later_ones_overtake() -> None:
    found = check([(x, x[:, 0] + 0.1 * x[:, 3]) for x in queues()], NAMES)
    assert found["told_apart"] == found["equal_pairs"]
    assert 0 < found["overtaking"] < found["equal_pairs"]
    example = found["example"]
    assert example["later"]["score"] < example["earlier"]["score"]
    assert set(example["earlier"]["features"]) <= {"log_wait", "user_ratio"}
    assert "Example: scores" in " ".join(sentences(found))


def test_first_come_tells_equal_jobs_apart_without_overtaking() -> None:
    found = check([(x, -x[:, 2]) for x in queues()], NAMES)
    assert found["orders"]["fcfs"] == {"first_choice": 1.0, "kendall_tau": 1.0}
    assert found["told_apart"] == found["equal_pairs"]
    assert found["overtaking"] == 0


def test_kendalls_tau_by_hand() -> None:
    """Orders 0 1 2 3 and 1 0 3 2: of six pairs four agree and two do not, (4 − 2) / 6."""
    assert kendall_tau(np.arange(4), np.asarray([1, 0, 3, 2])) == pytest.approx(1 / 3)
    assert kendall_tau(np.arange(4), np.arange(4)[::-1]) == -1.0
    assert kendall_tau(np.asarray([2, 3]), np.asarray([3, 1, 0, 2])) == -1.0


def test_ties_go_to_the_longest_wait() -> None:
    assert order_of(np.asarray([1.0, 1.0, 0.0]), np.asarray([5.0, 9.0, 1.0])).tolist() == [2, 1, 0]


def test_the_recorder_passes_scores_on_and_spreads_what_it_keeps() -> None:
    recorder = Recorder(lambda x: x[:, 0], most=10)
    for number in range(1000):
        scores = recorder(np.full((2, 1), float(number)))
        assert (scores == number).all()
        recorder(np.zeros((1, 1)))  # nothing to choose from
    kept = [x[0, 0] for x, _ in recorder.sample()]
    assert len(kept) == 10
    assert kept[0] < 100
    assert kept[-1] > 900
    assert len(Recorder(lambda x: x[:, 0], MOST_QUEUES).sample()) == 0
