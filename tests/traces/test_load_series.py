"""Load series: points on a regular grid, means of what was measured, and nothing that was not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.scheduler.errors import TraceError, UsageError
from shunter.traces.load_series import LARGEST, LoadSeries, regular

SAMPLE = st.tuples(st.integers(0, 5000), st.sampled_from("abc"), st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)))


def one(*values: float, **fields: object) -> LoadSeries:
    """A series of one node and one feature."""
    given_fields = {"step_s": 60.0, "begin_s": 600.0} | fields
    return LoadSeries("s", ("n",), ("load",), np.array(values).reshape(-1, 1, 1), **given_fields)  # type: ignore[arg-type]


@given(st.lists(SAMPLE, min_size=1, max_size=60), st.sampled_from([1.0, 7.0, 60.0, 999.0]))
def test_a_point_is_the_mean_of_the_samples_of_its_step_and_nan_without_any(
    samples: list[tuple[int, str, float]], step: float
) -> None:
    times, nodes, values = zip(*samples, strict=True)
    series = regular("s", times, nodes, {"load": values}, step_s=step)
    assert series.step_s == step
    assert series.nodes == tuple(dict.fromkeys(nodes))
    assert series.begin_s <= min(times) < series.begin_s + step
    assert series.begin_s + (len(series) - 1) * step <= max(times) < series.begin_s + len(series) * step
    for j, node in enumerate(series.nodes):
        for i, begin in enumerate(series.times_s()):
            inside = [v for t, n, v in samples if n == node and begin <= t < begin + step and not math.isnan(v)]
            point = float(series.values[i, j, 0])
            if inside:
                assert point == pytest.approx(
                    float(np.mean(inside)), rel=1e-6, abs=1e-30 + 1e-6 * max(map(abs, inside))
                )
            else:
                assert math.isnan(point)


def test_the_mean_of_one_node_does_not_depend_on_how_large_others_are() -> None:
    series = regular("s", [0, 0, 0], ["b", "a", "a"], {"load": [1.0, 0.0, 2e-29]}, step_s=1.0)
    assert series.values[0, 1, 0] == np.float32(1e-29)


@given(st.lists(SAMPLE, min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(samples: list[tuple[int, str, float]], random: object) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    grids = []
    for rows in (samples, shuffled):
        times, nodes, values = zip(*rows, strict=True)
        series = regular("s", times, nodes, {"load": values}, step_s=60.0)
        grids.append(series.select(nodes=sorted(set(nodes))))
    np.testing.assert_allclose(grids[0].values, grids[1].values, rtol=1e-5, atol=1e-2)
    assert grids[0].begin_s == grids[1].begin_s


def test_the_step_is_the_median_time_between_two_instants_of_a_node() -> None:
    # Gaps: a 60, 60, 180; b 60. Other nodes' samples in between do not shorten them.
    times = [0, 60, 120, 300, 30, 90]
    series = regular("s", times, list("aaaabb"), {"load": range(6)})
    assert series.step_s == 60.0


def test_a_gap_stays_a_gap() -> None:
    series = regular("s", [0, 60, 240], ["a"] * 3, {"load": [1.0, 2.0, 5.0]})
    np.testing.assert_array_equal(series.values[:, 0, 0], [1.0, 2.0, np.nan, np.nan, 5.0])
    assert series.facts["missing_share"] == pytest.approx(0.4)
    assert series.begin_s == 0.0


def test_samples_that_are_a_second_late_or_early_stay_in_their_own_step() -> None:
    # Every 300 s, but for a second: with steps from the first sample on, 299 and 598 would fall into the step before.
    times = [1000, 1299, 1601, 1899, 2200]
    series = regular("s", times, ["a"] * 5, {"load": [1, 2, 3, 4, 5]}, step_s=300)
    np.testing.assert_array_equal(series.values[:, 0, 0], [1, 2, 3, 4, 5])
    assert series.begin_s == 1000 - 150


def test_a_clock_that_goes_backwards_is_sorted_and_counted() -> None:
    series = regular("s", [0, 120, 60, 180, 0], ["a"] * 4 + ["b"], {"load": [0.0, 2.0, 1.0, 3.0, 9.0]})
    np.testing.assert_array_equal(series.values[:, 0, 0], [0, 1, 2, 3])
    assert series.facts["out_of_order"] == 1
    assert series.facts["duplicates"] == 0


def test_the_same_instant_twice_is_averaged_and_counted() -> None:
    series = regular("s", [0, 60, 60, 120], ["a"] * 4, {"load": [0.0, 1.0, 4.0, 3.0], "jobs": [1, math.nan, 7, 1]})
    np.testing.assert_array_equal(series.values[:, 0, 0], [0.0, 2.5, 3.0])
    np.testing.assert_array_equal(series.values[:, 0, 1], [1, 7, 1])
    assert series.facts["duplicates"] == 1


def test_large_numbers_keep_their_mean() -> None:
    series = regular("s", [0, 0, 60, 120], ["a"] * 4, {"load": [16777216.0, 16777218.0, 1.0, 1.0]})
    assert series.values[0, 0, 0] == np.float32(16777216.0 + 1.0)


def test_fractions_of_a_second_fall_into_their_own_steps() -> None:
    times = 1.6e9 + np.arange(1000) * 0.1
    series = regular("s", times, ["a"] * 1000, {"load": np.arange(1000.0)}, step_s=0.1)
    np.testing.assert_array_equal(series.values[:, 0, 0], np.arange(1000.0))


@pytest.mark.parametrize(
    ("times", "values", "step", "message"),
    [
        ([], [], None, "no samples"),
        ([5], [1.0], None, "one instant"),
        ([0, math.nan], [1.0, 2.0], None, "not finite"),
        ([0, 60], [1.0, math.inf], None, "infinite"),
        ([0, 60, 1e12], [1.0, 2.0, 3.0], None, "damaged"),
        ([0, 60], [1.0], None, "different lengths"),
    ],
)
def test_samples_that_make_no_series_are_refused(
    times: list[float], values: list[float], step: float | None, message: str
) -> None:
    with pytest.raises(TraceError, match=message):
        regular("s", times, ["a"] * len(times), {"load": values}, step_s=step)


def test_one_point_is_a_series_when_its_step_is_given() -> None:
    series = regular("s", [90], ["a"], {"load": [3.0]}, step_s=60.0)
    assert (len(series), series.begin_s, series.values[0, 0, 0]) == (1, 90.0, 3.0)


def test_a_step_must_be_positive() -> None:
    for step in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="expected a positive number"):
            regular("s", [0, 60], ["a"] * 2, {"load": [1, 2]}, step_s=step)
    assert LARGEST > 1e8


def test_a_window_begins_later_and_lies_inside() -> None:
    series = one(0, 1, 2, 3)
    part = series.window(1, 3)
    np.testing.assert_array_equal(part.values[:, 0, 0], [1, 2])
    assert part.begin_s == 660.0
    np.testing.assert_array_equal(part.times_s(), [660.0, 720.0])
    for first, last in ((-1, 2), (2, 2), (0, 5)):
        with pytest.raises(TraceError, match="does not lie inside"):
            series.window(first, last)


def test_nodes_and_features_are_selected_by_name_in_the_given_order() -> None:
    values = np.arange(12.0).reshape(2, 3, 2)
    series = LoadSeries("s", ("a", "b", "c"), ("load", "jobs"), values, 60.0, units=("ratio", "jobs"))
    part = series.select(nodes=["c", "a"], features=["jobs"])
    np.testing.assert_array_equal(part.values[..., 0], [[5, 1], [11, 7]])
    assert part.units == ("jobs",)
    assert series.about("jobs").features == ("jobs", "load")
    with pytest.raises(UsageError, match="no node 'd'"):
        series.select(nodes=["d"])
    with pytest.raises(UsageError, match="did you mean 'load'"):
        series.select(features=["laod"])


def test_longer_steps_are_means_of_the_known_points() -> None:
    series = one(1, 3, math.nan, 5, math.nan, math.nan, 7).resampled(120.0)
    # (1 + 3) / 2, 5 alone, none known, and the last one alone.
    np.testing.assert_array_equal(series.values[:, 0, 0], [2.0, 5.0, np.nan, 7.0])
    assert (series.step_s, series.begin_s) == (120.0, 600.0)
    for step in (90.0, 30.0, 0.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="no whole multiple"):
            one(1, 2).resampled(step)


def test_values_cannot_be_written_to_and_do_not_follow_the_callers_array() -> None:
    series = one(1, 2)
    with pytest.raises(ValueError, match="read-only"):
        series.values[0] = 5


def test_what_does_not_fit_together_is_refused() -> None:
    grid = np.zeros((2, 1, 1))
    for nodes, features, values, step in (
        (("a", "b"), ("x",), grid, 60.0),
        (("a",), ("x",), grid[:0], 60.0),
        (("a",), ("x",), grid, 0.0),
        (("a",), (), np.zeros((2, 1, 0)), 60.0),
        (("a", "a"), ("x",), np.zeros((2, 2, 1)), 60.0),
    ):
        with pytest.raises(TraceError):
            LoadSeries("s", nodes, features, values, step)
