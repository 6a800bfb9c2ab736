"""Carbon-intensity series: reading and placing in time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from shunter.scheduler.energy import Intensity
from shunter.scheduler.errors import TraceError
from shunter.traces.carbon import read_carbon

HOUR_S = 3600.0


def unix_s(*date: int) -> float:
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


def at(series: Intensity, time_s: float) -> float:
    """The intensity at a time, as the slope of the integral over the second from then on."""
    begin, end = series.integral(np.asarray([time_s, time_s + 1.0]))
    return float(end - begin)


@pytest.fixture
def day(write_text: Callable[..., Path]) -> Path:
    """2022-03-01, hour h with an intensity of 100 + h."""
    rows = "".join(f"2022-03-01T{hour:02d}:00:00Z,{100 + hour}\n" for hour in range(24))
    return write_text(f"timestamp,carbon_intensity\n{rows}", "grid.csv")


def test_a_series_that_covers_the_trace_is_used_as_it_stands(day: Path) -> None:
    series = read_carbon(day, unix_s(2022, 3, 1, 6, 30))
    assert (series.step_s, series.offset_s) == (HOUR_S, 6.5 * HOUR_S)
    assert [at(series, hours * HOUR_S) for hours in (0, 0.5, 17, 18)] == pytest.approx([106, 107, 123, 100])


def test_a_trace_without_a_date_starts_with_the_series(day: Path) -> None:
    assert at(read_carbon(day), 5.2 * HOUR_S) == pytest.approx(105)


def test_another_year_takes_the_same_time_of_day(day: Path) -> None:
    """A day repeated for ever: whatever the date, 14:00 has 114 g/kWh."""
    for year in (2011, 2017, 2024):
        assert at(read_carbon(day, unix_s(year, 10, 7, 14)), 60.0) == pytest.approx(114)


def test_another_year_takes_the_same_day_of_the_year(write_text: Callable[..., Path]) -> None:
    """A series of 2022 by days, day d with d g/kWh. 7 October is day 279, in a leap year 280; 2022 itself is exact."""
    days = (datetime.fromtimestamp(unix_s(2022, 1, 1) + day * 86400, UTC) for day in range(365))
    rows = "".join(f"{day:%Y-%m-%d},{i}\n" for i, day in enumerate(days))
    path = write_text(f"timestamp,carbon_intensity\n{rows}", "grid.csv")
    october = {year: at(read_carbon(path, unix_s(year, 10, 7)), 60.0) for year in (2017, 2022, 2024)}
    assert october == pytest.approx({2017: 279, 2022: 279, 2024: 280})
    assert at(read_carbon(path, unix_s(2017, 12, 31)), 86400.0) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "place", "reason"),
    [
        ("2022-01-01T00:00:00Z,1\nyesterday,2", ":3:1:", "expected a time such as"),
        ("2022-01-01T00:00:00Z,1\n2022-01-01T01:00:00Z,-2", ":3:2:", "at least 0"),
        ("2022-01-01T00:00:00Z,1\n2022-01-01T01:00:00Z,", ":3:2:", "expected a number"),
        ("2022-01-01T00:00:00Z,1\n2022-01-01T01:00:00Z,2\n2022-01-01T03:00:00Z,2", ":4:1:", "a step of 3600 s"),
        ("2022-01-01T00:00:00Z,1\n2022-01-01T00:00:00Z,2", ":2:1:", "rising times"),
        ("2022-01-01T00:00:00Z,1", ":2:1:", "at least two rows"),
    ],
)
def test_a_bad_series_is_refused_with_its_place(
    write_text: Callable[..., Path], rows: str, place: str, reason: str
) -> None:
    path = write_text(f"timestamp,carbon_intensity\n{rows}\n", "grid.csv")
    with pytest.raises(TraceError) as refused:
        read_carbon(path)
    assert str(path) + place in str(refused.value)
    assert reason in str(refused.value)


def test_another_table_is_refused(write_text: Callable[..., Path]) -> None:
    with pytest.raises(TraceError, match="'carbon_intensity' missing"):
        read_carbon(write_text("timestamp,price\n2022-01-01,3\n", "grid.csv"))


def test_the_dutch_grid_of_2022(shared: Path) -> None:
    """364 days of quarter-hours; a trace of October 2017 meets October 2022; 31 December shows 1 January."""
    path = shared / "carbon" / "carbon_intensity_2022_NL.csv.gz"
    series = read_carbon(path, unix_s(2017, 10, 7))
    assert (len(series.g_per_kwh), series.step_s) == (364 * 96, 900.0)
    same_day = read_carbon(path, unix_s(2022, 10, 7))
    assert series.offset_s == same_day.offset_s == 279 * 86400
    assert at(same_day, 86400.0 * 365 - 279 * 86400) == pytest.approx(series.g_per_kwh[96], rel=1e-6)
    assert at(read_carbon(path, unix_s(2022, 1, 1)), 900.0) == pytest.approx(162.94891011965495, rel=1e-6)
