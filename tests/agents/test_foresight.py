"""A first score by regression: means are found whatever the distribution, and the index is made of them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs shunter[train]")

from shunter.agents.foresight import (
    COLUMN,
    Glimpses,
    averaged,
    by_expected_work,
    composed,
    fit_means,
    foresee,
    look,
)
from shunter.agents.lessons import Lesson, lessons_of
from shunter.agents.settings import Settings
from shunter.agents.training import Material
from shunter.scheduler.kernels.features import NUM_FEATURES
from shunter.scheduler.kernels.network import new_network, score_row
from shunter.scheduler.types import FloatArray
from tests.agents.small import small_settings, small_trace


@pytest.fixture(scope="module")
def settings() -> Settings:
    return small_settings().with_values(
        {"curriculum.generated_share": 0.0, "foresight.rows": 3000, "foresight.jobs": 200, "foresight.batch": 256}
    )


@pytest.fixture(scope="module")
def lessons(settings: Settings) -> list[Lesson]:
    trace = small_trace()
    return lessons_of([Material(trace, trace.cluster, (0, 300), (300, 400))], settings, 0, 0)


def row(**values: float) -> FloatArray:
    x = np.zeros(NUM_FEATURES)
    for name, value in values.items():
        x[COLUMN[name]] = value
    return x


def test_the_difference_of_both_means_is_found() -> None:
    """Of two kinds of jobs, one in ten and one in two fail at once; the others run as long as they ask for."""
    rng = np.random.default_rng(0)
    kind = rng.random(20_000) < 0.5
    fails = rng.random(20_000) < np.where(kind, 0.5, 0.1)
    features = np.zeros((20_000, NUM_FEATURES), np.float32)
    features[:, COLUMN["user_short"]] = kind
    weight, ratio = np.where(fails, 1.0, 0.01), np.where(fails, 0.005, 1.0)
    glimpses = Glimpses(features, weight, ratio, np.zeros(20_000, np.int64))
    asked = small_settings().foresight.model_copy(
        update={"epochs": 30, "batch": 512, "learning_rate": 0.02, "terms": {}, "request_share": 0.0}
    )
    heads = fit_means(glimpses, asked, (8, 4), seed=1)
    first, second = row(), row(user_short=1.0)
    expected = [np.log(array[kind].mean() / array[~kind].mean()) for array in (weight, ratio)]
    found = [score_row(head, second) - score_row(head, first) for head in heads]
    np.testing.assert_allclose(found, expected, atol=0.05)
    score = composed(heads, asked)
    assert score_row(score, second) - score_row(score, first) == pytest.approx(found[1] - found[0])


def test_every_trace_counts_alike() -> None:
    """A trace with a hundred times as many rows does not decide alone: the mean lies between both."""
    lesson = np.concatenate([np.zeros(10_000, np.int64), np.ones(100, np.int64)])
    weight = np.where(lesson == 0, 0.1, 0.9)
    glimpses = Glimpses(np.zeros((10_100, NUM_FEATURES), np.float32), weight, np.ones(10_100), lesson)
    asked = small_settings().foresight.model_copy(update={"epochs": 1, "learning_rate": 1e-9})
    alike = fit_means(glimpses, asked, (2, 2), seed=0)
    assert all(abs(score_row(head, row(log_size=1.0))) < 1e-6 for head in alike)


def test_work_is_expected_work_where_nothing_is_regressed() -> None:
    """Expected run time, squared, times processors, and the terms of the settings."""
    asked = small_settings().foresight.model_copy(update={"request_share": 0.0, "terms": {"log_until_free": 2.0}})
    nothing = fit_means(
        Glimpses(np.zeros((64, NUM_FEATURES), np.float32), np.ones(64), np.ones(64), np.zeros(64, np.int64)),
        asked.model_copy(update={"epochs": 1, "learning_rate": 1e-9, "batch": 64}),
        (2, 2),
        seed=0,
    )
    score = composed(nothing, asked)
    assert score_row(score, row(log_request=0.2)) == pytest.approx(0.0, abs=1e-6)
    assert score_row(score, row(log_expected=0.2)) == pytest.approx(6.0, abs=1e-6)
    assert score_row(score, row(log_processors=0.5)) == pytest.approx(6.0, abs=1e-6)
    assert score_row(score, row(log_until_free=1.0)) == pytest.approx(2.0, abs=1e-6)


def test_glimpses_are_of_waiting_jobs_with_what_came_of_them(lessons: list[Lesson], settings: Settings) -> None:
    glimpses = look(lessons, settings, seed=3)
    workload = lessons[0].workload
    assert len(glimpses) >= 3000
    assert ((glimpses.weight > 0) & (glimpses.weight <= 1.0)).all()
    known = {
        (np.float32(np.log1p(max(request_s, 1.0)) / 15.0), round(10.0 / max(run_s, 10.0), 9))
        for request_s, run_s in zip(workload.columns.requested_s, workload.run_s, strict=True)
    }
    seen = zip(glimpses.features[:, COLUMN["log_request"]], glimpses.weight, strict=True)
    assert all((request, round(float(weight), 9)) in known for request, weight in seen)


def test_the_same_seed_gives_the_same_score(lessons: list[Lesson], settings: Settings) -> None:
    first, again, other = (foresee(lessons, settings, seed=seed) for seed in (5, 5, 6))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert not np.array_equal(first.skip, other.skip)


def test_several_scores_are_averaged_in_one_network() -> None:
    rng = np.random.default_rng(2)
    members = [
        new_network(
            rng.normal(size=NUM_FEATURES),
            rng.normal(size=(wide, NUM_FEATURES)),
            rng.normal(size=wide),
            rng.normal(size=(narrow, wide)),
            rng.normal(size=narrow),
            rng.normal(size=narrow),
        )
        for wide, narrow in ((3, 2), (2, 1))
    ]
    x = rng.normal(size=NUM_FEATURES)
    assert score_row(averaged(members), x) == pytest.approx(np.mean([score_row(each, x) for each in members]))


def test_it_can_be_stopped(lessons: list[Lesson], settings: Settings) -> None:
    score = foresee(lessons, settings, seed=0, should_stop=lambda: True)
    assert np.isfinite(score.skip).all()


def test_jobs_are_looked_at_in_the_order_of_expected_work() -> None:
    skip = by_expected_work()
    assert row(log_expected=1.0) @ skip == 30.0
    assert row(log_processors=1.0) @ skip == 12.0
