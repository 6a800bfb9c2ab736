"""Energy, carbon, power over time, headroom and cost: hand-computed cases, and sums against fine steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.energy import (
    Downtimes,
    Intensity,
    NodePower,
    Placements,
    carbon_kg,
    cost,
    energy_kwh,
    power_series,
)

HOUR_S = 3600.0


def power(*rows: tuple[float, ...]) -> NodePower:
    """Nodes as (idle, peak, GPU idle, GPU peak, CPUs, GPUs)."""
    return NodePower(*(np.asarray(column, dtype=np.float64) for column in zip(*rows, strict=True)))


def held(*rows: tuple[float, ...]) -> Placements:
    """Rows (job, node, from, until, CPUs, GPUs)."""
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 6)
    whole = table[:, :2].astype(np.int64)
    return Placements(whole[:, 0], whole[:, 1], *(table[:, i] for i in range(2, 6)))


def down(*rows: tuple[int, int, float, float]) -> Downtimes:
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 4)
    whole = table[:, :2].astype(np.int64)
    return Downtimes(whole[:, 0], whole[:, 1], table[:, 2], table[:, 3])


DGX = (1000.0, 1800.0, 50.0, 400.0, 128.0, 8.0)
BOX = (100.0, 300.0, 0.0, 0.0, 16.0, 0.0)


def test_energy_by_hand() -> None:
    """Two hours. DGX: 1000 + 8·50 W idle = 2.8 kWh, and for one hour half of its CPUs (400 W) and 4 GPUs (1400 W).

    Box: down for the first half hour, so 1.5 h · 100 W, and for half an hour all of its CPUs (200 W).
    """
    placements = held((0, 0, 0, HOUR_S, 64, 4), (1, 1, HOUR_S, 1.5 * HOUR_S, 16, 0))
    total, nodes = energy_kwh(power(DGX, BOX), placements, down((1, -1, 0, HOUR_S / 2)), 0.0, 2 * HOUR_S)
    np.testing.assert_allclose(nodes, [2.8 + 1.8, 0.15 + 0.1])
    assert total == pytest.approx(4.85)


def test_a_failed_gpu_draws_nothing() -> None:
    """3 of 4 h without one GPU of 50 W; a failure that never ends is cut at the end of the window."""
    without, _ = energy_kwh(power(DGX), held(), Downtimes.none(), 0.0, 4 * HOUR_S)
    lost, _ = energy_kwh(power(DGX), held(), down((0, 3, HOUR_S, math.inf)), 0.0, 4 * HOUR_S)
    assert without - lost == pytest.approx(3 * 0.05)


def test_only_the_window_counts() -> None:
    placements = held((0, 0, -HOUR_S, 3 * HOUR_S, 128, 8))
    total, _ = energy_kwh(power(DGX), placements, Downtimes.none(), HOUR_S, 2 * HOUR_S)
    assert total == pytest.approx(1.8 + 8 * 0.4)


def test_where_cpus_are_not_known_a_node_is_as_busy_as_its_gpus() -> None:
    """A quarter of the GPUs adds a quarter of 800 W and 2 · 350 W; a node with neither adds nothing."""
    unknown = power((1000, 1800, 50, 400, 0, 8), (100, 300, 0, 0, 0, 0))
    added = unknown.added_w(np.asarray([0, 1]), np.asarray([5.0, 5.0]), np.asarray([2.0, 0.0]))
    np.testing.assert_allclose(added, [200 + 700, 0])


def test_power_over_time_by_hand() -> None:
    """At rest 1,400 W; +700 W from 10 s to 30 s, +350 W from 20 s to 30 s; nothing at all from 40 s to 50 s."""
    placements = held((0, 0, 10, 30, 0, 2), (1, 0, 20, 30, 0, 1))
    times, watts = power_series(power(DGX), placements, down((0, -1, 40, 50)), 0.0, 60.0)
    assert times.tolist() == [0, 10, 20, 30, 40, 50]
    np.testing.assert_allclose(watts, [1400, 2100, 2450, 1400, 0, 1400])


INTERVAL = st.tuples(st.integers(0, 1), st.integers(-10, 50), st.integers(1, 40), st.integers(0, 16), st.integers(0, 8))


@settings(deadline=None)
@given(st.lists(INTERVAL, max_size=8), st.integers(0, 20), st.lists(st.floats(0, 900), min_size=1, max_size=5))
def test_energy_and_carbon_are_integrals_of_power(
    rows: list[tuple[int, int, int, int, int]], start: int, grams: list[float]
) -> None:
    """Stepped second by second through [start, start + 30): intervals begin and end at whole seconds."""
    nodes = power(DGX, BOX)
    placements = held(*((i, n, t, t + d, c, g) for i, (n, t, d, c, g) in enumerate(rows)))
    outages = down((1, -1, 5, 25))
    end = start + 30
    total, _ = energy_kwh(nodes, placements, outages, start, end)
    times, watts = power_series(nodes, placements, outages, start, end)
    each_w = watts[np.searchsorted(times, np.arange(start, end), side="right") - 1]
    assert total == pytest.approx(each_w.sum() / 3.6e6, rel=1e-9, abs=1e-12)
    series = Intensity(np.asarray(grams), step_s=7.0, offset_s=3.0)
    emitted, _ = carbon_kg(
        nodes, placements, outages, start, end, region_idx=np.zeros(2, np.int64), intensities=[series]
    )
    each_g = [grams[int((at_s + 3) // 7) % len(grams)] for at_s in range(start, end)]
    assert emitted == pytest.approx((each_w * each_g).sum() / 3.6e9, rel=1e-9, abs=1e-12)


def test_carbon_of_two_regions() -> None:
    """A box at 100 W for 10 h is 1 kWh: 500 g in the first region; in the second 5 h at 100 g and 5 h at 300 g."""
    series = [Intensity.constant(500.0), Intensity(np.asarray([100.0, 300.0]), step_s=5 * HOUR_S)]
    total, each = carbon_kg(
        power(BOX, BOX),
        held(),
        Downtimes.none(),
        0.0,
        10 * HOUR_S,
        region_idx=np.asarray([0, 1]),
        intensities=series,
    )
    np.testing.assert_allclose(each, [0.5, 0.2])
    assert total == pytest.approx(0.7)


def test_an_intensity_repeats_for_ever() -> None:
    """Steps of 10 s with 1 and 3 g/kWh, starting 5 s in: 5·1 + 10·3, then 20·2 = 40 a round."""
    series = Intensity(np.asarray([1.0, 3.0]), step_s=10.0, offset_s=5.0)
    times = np.asarray([0.0, 15.0, 35.0, 2015.0, -20.0])
    np.testing.assert_allclose(series.integral(times) - series.integral(np.zeros(1)), [0, 35, 75, 35 + 4000, -40])


def test_cost_by_hand() -> None:
    """10 h. On demand: 3 / h, one hour down, a failed GPU is paid for: 27. Spot: 1 / h, down from 8 h on: 8."""
    outages = down((0, -1, 0, HOUR_S), (0, 2, 0, 5 * HOUR_S), (1, -1, 8 * HOUR_S, math.inf))
    found = cost(np.asarray([3.0, 1.0]), np.asarray([False, True]), outages, 0.0, 10 * HOUR_S)
    assert (found.total, found.on_demand, found.spot) == (35.0, 27.0, 8.0)
    np.testing.assert_allclose(found.per_node, [27, 8])


def test_many_placements_are_quick() -> None:
    """200,000 placements on 1,000 nodes: a second would be slow by a factor of more than five."""
    import time

    rng = np.random.default_rng(0)
    count, nodes = 200_000, power(*[DGX] * 1000)
    begin = rng.uniform(0, 1e6, count)
    placements = Placements(
        rng.integers(0, 50_000, count),
        rng.integers(0, 1000, count),
        begin,
        begin + rng.uniform(0, 1e4, count),
        rng.uniform(0, 12, count),
        rng.uniform(0, 1, count),
    )
    began = time.perf_counter()
    total, _ = energy_kwh(nodes, placements, Downtimes.none(), 0.0, 1e6)
    times, watts = power_series(nodes, placements, Downtimes.none(), 0.0, 1e6)
    assert time.perf_counter() - began < 1.0
    assert total == pytest.approx((watts * np.diff(np.append(times, 1e6))).sum() / 3.6e6, rel=1e-9)
