"""Orders of capacity from predictions, by hand, and what always holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.scheduler.errors import UsageError
from shunter.scheduler.scaling import ScalingRule, scaled, wanted_units
from shunter.sim.scaling import ahead_of, as_before, replay_scaling


def test_the_highest_demand_until_an_order_would_come_counts() -> None:
    told = np.asarray([3.0, 8.0, 5.0, 20.0])
    assert wanted_units(told, ScalingRule(lead=0)) == 3
    assert wanted_units(told, ScalingRule(lead=2, headroom=1.1)) == 9
    assert wanted_units(told, ScalingRule(lead=9)) == 20
    assert wanted_units(told, ScalingRule(lead=0, least=5)) == 5
    assert wanted_units(told, ScalingRule(lead=9, most=10)) == 10


def test_what_is_on_its_way_counts_and_cannot_be_sent_back() -> None:
    rule = ScalingRule(lead=2)
    assert scaled(4.0, np.asarray([1.0, 1.0]), np.asarray([8.0]), rule) == (4.0, 2.0)
    assert scaled(4.0, np.asarray([1.0, 1.0]), np.asarray([5.0]), rule) == (4.0, 0.0)  # needed until they come
    assert scaled(4.0, np.asarray([1.0, 1.0]), np.asarray([3.0]), rule) == (3.0, 0.0)


def test_a_reactive_rule_is_late_by_its_lead_and_a_perfect_one_is_not() -> None:
    demand = np.asarray([2.0, 2.0, 6.0, 6.0, 6.0, 1.0, 1.0])
    late = replay_scaling(demand, as_before(demand, 5), ScalingRule(lead=2))
    assert late.capacity.tolist() == [2, 2, 2, 2, 2, 6, 1]
    assert late.unmet.tolist() == [0, 0, 4, 4, 4, 0, 0]
    assert late.paid.tolist() == [2, 2, 2, 6, 6, 6, 1]
    perfect = replay_scaling(demand, ahead_of(demand, 5), ScalingRule(lead=2))
    assert perfect.capacity.tolist() == [6, 6, 6, 6, 6, 1, 1]
    assert perfect.unmet_share(demand) == 0


@given(
    demand=st.lists(st.integers(0, 30), min_size=2, max_size=40),
    lead=st.integers(0, 4),
    headroom=st.floats(1.0, 2.0),
)
def test_a_perfect_forecast_leaves_nothing_out_and_nobody_pays_for_less_than_there_is(
    demand: list[int], lead: int, headroom: float
) -> None:
    asked = np.asarray(demand, dtype=np.float64)
    rule = ScalingRule(lead=lead, headroom=headroom)
    perfect = replay_scaling(asked, ahead_of(asked, 5), rule)
    assert perfect.unmet.sum() == 0
    reactive = replay_scaling(asked, as_before(asked, 5), rule)
    for found in (perfect, reactive):
        assert (found.paid >= found.capacity).all()
        assert (found.capacity >= 0).all()


def test_bad_rules_and_tables() -> None:
    for bad in ({"lead": -1}, {"headroom": 0.0}, {"headroom": float("nan")}, {"least": 5.0, "most": 1.0}):
        with pytest.raises(UsageError):
            ScalingRule(**bad)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="for a demand of 3 steps"):
        replay_scaling(np.ones(3), np.ones((2, 5)), ScalingRule())
    assert replay_scaling(np.ones(2), np.full((2, 5), np.nan), ScalingRule()).unmet.tolist() == [1, 1]
