"""Power, prices and intensities of a specification."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from shunter.scheduler.energy import Intensity, energy_kwh
from shunter.scheduler.errors import ConfigError
from shunter.sim.failures import PlannedDrain, planned_drains, spans_of
from shunter.sim.power import downtimes, intensities, node_power, node_prices
from shunter.traces.tables import ClusterSpec, GpuType, NodeGroup
from tests.scheduler.test_energy import held

SPEC = ClusterSpec(
    "two kinds",
    (
        NodeGroup(
            "gpu", 2, cpus=64, gpus=8, gpu_type="A100", idle_w=500, peak_w=900, price_per_h=20, spot=True, region="nl"
        ),
        NodeGroup("cpu", 1, cpus=16, idle_w=100, peak_w=200, price_per_h=1, region="pl"),
    ),
    gpu_types={"A100": GpuType(idle_w=50, peak_w=400)},
    carbon_g_per_kwh={"nl": 200.0, "pl": 700.0},
)


def without(**fields: object) -> ClusterSpec:
    """The specification with other values in its first group."""
    return dataclasses.replace(SPEC, groups=(dataclasses.replace(SPEC.groups[0], **fields), SPEC.groups[1]))  # type: ignore[arg-type]


def test_arrays_follow_the_groups() -> None:
    power = node_power(SPEC)
    prices = node_prices(SPEC)
    assert power is not None
    assert prices is not None
    assert power.at_rest_w.tolist() == [900, 900, 100]
    assert power.at_most_w.tolist() == [900 + 3200, 900 + 3200, 200]
    assert (prices[0].tolist(), prices[1].tolist()) == ([20, 20, 1], [True, True, False])


def test_what_is_not_stated_is_not_guessed() -> None:
    assert node_power(without(peak_w=None)) is None
    assert node_power(without(gpu_type=None)) is None
    assert node_power(dataclasses.replace(SPEC, gpu_types={"A100": GpuType(idle_w=50)})) is None
    assert node_prices(without(price_per_h=None)) is None
    assert intensities(dataclasses.replace(SPEC, carbon_g_per_kwh={"pl": 700.0})) is None


def test_a_series_takes_the_place_of_a_constant() -> None:
    series = Intensity(np.asarray([1.0, 2.0]))
    found = intensities(SPEC, {"pl": series})
    assert found is not None
    assert found[0].g_per_kwh.tolist() == [200.0]
    assert found[1] is series
    with pytest.raises(ConfigError, match="no node is in region 'lp'; did you mean 'pl'"):
        intensities(SPEC, {"lp": series})


def test_a_draining_node_draws_power_until_it_is_taken_away() -> None:
    """The CPU node drains from 1,800 s and is away from 3,600 s to 7,200 s of two hours: 1 h at 100 W."""
    power = node_power(SPEC)
    assert power is not None
    outages = planned_drains([PlannedDrain(2, 3600.0, 7200.0, notice_s=1800.0)], num_nodes=3)
    _, nodes = energy_kwh(power, held(), downtimes(spans_of(outages)), 0.0, 7200.0)
    np.testing.assert_allclose(nodes, [1.8, 1.8, 0.1])
