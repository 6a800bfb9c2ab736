"""Windows lie whole within their part, and never know what is to come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.predictors.baselines import Ewma, LinearAutoregression, Persistence, SeasonalNaive
from shunter.predictors.scaling import NodeScales, encode
from shunter.predictors.shapes import HISTORY, HORIZON
from shunter.predictors.windows import SPAN, of_some_nodes, split, thinned, windows_in
from shunter.scheduler.errors import TraceError


def test_parts_by_hand() -> None:
    parts = split(1000)
    assert (parts.train, parts.validation, parts.test) == ((0, 600), (600, 700), (700, 1000))


def test_a_short_series_is_refused_with_the_least_length() -> None:
    with pytest.raises(TraceError, match=r"120 points are too few .* at least 290"):
        split(120)


def test_windows_are_whole_within_their_rows() -> None:
    values = np.arange(100.0)[:, None, None]
    windows = windows_in(values, (10, 60))
    assert len(windows) == 50 - SPAN + 1
    assert windows.history().min() == 10.0
    assert windows.targets().max() == 59.0


def test_history_and_targets_by_hand() -> None:
    window = windows_in(np.arange(40.0)[:, None, None], (0, 40), begin_s=100.0, step_s=10.0).take(slice(0, 1))
    assert window.history()[0, :, 0].tolist() == list(range(24))
    assert window.targets()[0].tolist() == [24.0, 25.0, 26.0, 27.0, 28.0]
    assert window.time_s()[0] == 100.0 + 23 * 10.0


def test_windows_without_past_or_future_are_left_out() -> None:
    values = np.full((60, 1, 1), np.nan)
    values[HISTORY - 1] = 1.0  # the end of the first window's history
    values[HISTORY + HORIZON - 1] = 1.0  # its last target
    # Instants 23 … 27 have row 23 in their history and row 28 ahead; for 28 and later nothing is ahead any more.
    assert windows_in(values, (0, 60)).instants.tolist() == [23, 24, 25, 26, 27]


def test_instants_rise_and_stride_thins_them() -> None:
    values = np.zeros((200, 3, 1))
    windows = windows_in(values, (0, 200), stride=7)
    assert (np.diff(windows.instants) >= 0).all()
    assert set(np.diff(np.unique(windows.instants))) == {7}


def test_thinning_keeps_the_ends() -> None:
    windows = windows_in(np.zeros((500, 2, 1)), (0, 500))
    few = thinned(windows, 10)
    assert len(few) == 10
    assert few.instants[0] == windows.instants[0]
    assert few.instants[-1] == windows.instants[-1]


def test_some_nodes_are_whole_in_time() -> None:
    windows = windows_in(np.zeros((100, 6, 1)), (0, 100))
    few = of_some_nodes(windows, len(windows) // 3)
    assert np.unique(few.nodes).tolist() == [0, 3]
    assert len(few) * 3 == len(windows)
    assert of_some_nodes(windows, len(windows)) is windows


@given(st.integers(0, 59), st.floats(-1e6, 1e6))
def test_a_value_changed_after_an_instant_changes_no_forecast_made_at_it(row: int, value: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 2, 2))
    other = values.copy()
    other[row] = value
    scales = NodeScales.fit(values)
    models = [Persistence(), SeasonalNaive(3600.0), Ewma(), LinearAutoregression()]
    before, after = (windows_in(each, (0, 60)) for each in (values, other))
    early = before.instants < row
    for model in models:
        found = [
            model.forecast(each.history(), each.time_s(), scales.take(each.nodes))[early] for each in (before, after)
        ]
        np.testing.assert_array_equal(*found)
    inputs = [
        encode(each.history()[early], each.time_s()[early], scales.take(each.nodes[early]), 2)
        for each in (before, after)
    ]
    np.testing.assert_array_equal(inputs[0].sequence, inputs[1].sequence)
    np.testing.assert_array_equal(inputs[0].context, inputs[1].context)
