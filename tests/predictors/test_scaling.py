"""What is known of nodes, and inputs from windows."""

from __future__ import annotations

import numpy as np
import pytest

from shunter.predictors.scaling import NodeScales, calendar, carried, cycles_of, encode, sizes
from shunter.predictors.shapes import HISTORY

DAY_S = 86_400.0


def test_scales_by_hand() -> None:
    values = np.array([1.0, 3.0, 3.0, np.nan, 7.0, 6.0])[:, None, None]
    scales = NodeScales.fit(values)
    # Measured changes: 2, 0 and 1.
    assert scales.step[0, 0] == pytest.approx(1.0)
    assert (scales.low[0, 0], scales.high[0, 0], scales.whole[0]) == (1.0, 7.0, 1.0)
    assert scales.still[0] == pytest.approx(1 / 3)


def test_a_constant_node_and_one_never_measured_have_units_above_zero() -> None:
    values = np.stack([np.full((40, 1), 5.0), np.full((40, 1), np.nan)], axis=1)
    unit = NodeScales.fit(values).unit()
    assert unit[0, 0] == pytest.approx(0.005)
    assert unit[1, 0] == 1.0


def test_gaps_are_filled_from_before_and_beginnings_from_after() -> None:
    values = np.array([[np.nan, 2.0, np.nan, 4.0], [np.nan] * 4])
    assert carried(values, np.isfinite(values), np.array([4.0, 9.0])).tolist() == [[2, 2, 2, 4], [9, 9, 9, 9]]


def test_inputs_do_not_depend_on_level_or_unit() -> None:
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(HISTORY, 4, 1)), axis=0)
    first, second = (np.moveaxis(each, 0, 1) for each in (values, 1000.0 + 50.0 * values))
    inputs = [encode(each, np.zeros(4), NodeScales.of_histories(each)) for each in (first, second)]
    np.testing.assert_allclose(inputs[0].sequence, inputs[1].sequence, atol=1e-5)
    np.testing.assert_allclose(inputs[0].context, inputs[1].context, atol=1e-5)
    np.testing.assert_allclose(inputs[1].scale, 50.0 * inputs[0].scale)


def test_inputs_have_the_sizes_that_networks_expect() -> None:
    history = np.random.default_rng(0).normal(size=(2, HISTORY, 3))
    encoded = encode(history, np.zeros(2), None, 2)
    channels, facts = sizes(3)
    assert encoded.sequence.shape == (2, HISTORY, channels)
    assert encoded.context.shape == (2, facts)
    assert np.isfinite(encoded.sequence).all()


def test_calendar_by_hand() -> None:
    # Six in the morning, a quarter of the day: sine 1, cosine 0; half a day's cycle: sine 0, cosine −1.
    np.testing.assert_allclose(calendar(np.array([DAY_S / 4]), 2)[0, :4], [1.0, 0.0, 0.0, -1.0], atol=1e-12)


def test_the_calendar_is_zero_where_it_cannot_be_learned() -> None:
    assert not calendar(np.array([12345.0]), 0).any()
    assert cycles_of(30 * DAY_S, dated=False) == 0
    assert cycles_of(2 * DAY_S, dated=True) == 0
    assert cycles_of(5 * DAY_S, dated=True) == 1
    assert cycles_of(28 * DAY_S, dated=True) == 2
