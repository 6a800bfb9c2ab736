"""One picture of a load series: its course, every node over time, and its day and week.

Drawn like ``shunter.traces.picture``: matplotlib's object interface on the Agg canvas, no display, no global state.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray
from shunter.traces.info import DAY_S, HOUR_S
from shunter.traces.load_series import Float32Array, LoadSeries
from shunter.traces.picture import BLUE, GREY, TIME_TICKS, WEEKDAYS, save
from shunter.traces.series.info import known_mean, mean_over_nodes, moment_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 600
"""Stretches of time that a picture tells apart."""

ROWS = 120
"""Rows of the heat map; on more nodes neighbours share one."""

SHOWN_NAMES = 24


def plot_series(series: LoadSeries, path: str | Path) -> None:
    """Write the picture of a series as PNG, PDF or SVG, by the name's ending; of its first feature.

    Raises:
        UsageError: Another ending.
        OutputError: The file cannot be written.
    """
    many = len(series.nodes) > 1
    save(path, lambda figure: _draw(figure, series), (12.0, 7.6 if many else 5.6))


def _draw(figure: Figure, series: LoadSeries) -> None:
    many = len(series.nodes) > 1
    heights = (1.0, 1.5, 1.1) if many else (1.0, 0.9)
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights, width_ratios=(1.0, 1.0))
    axes = figure.add_subplot(grid[0, :])
    _course(axes, series)
    if many:
        _nodes(figure.add_subplot(grid[1, :], sharex=axes), series)
        axes.tick_params(labelbottom=False)
        axes.set_xlabel("")
    _week(figure.add_subplot(grid[-1, 0]), series)
    _changes(figure.add_subplot(grid[-1, 1]), series)
    figure.suptitle(_title(series), x=0.012, ha="left", fontsize=13, fontweight="bold", color="#111827")


def _title(series: LoadSeries) -> str:
    name = series.name if len(series.name) <= 48 else series.name[:45] + "…"
    nodes = f"{len(series.nodes):,} nodes, " if len(series.nodes) > 1 else ""
    return f"{name}: {nodes}{len(series):,} points every {series.step_s:g} s"


def _label(series: LoadSeries) -> str:
    unit = f" ({series.units[0]})" if series.units[0] else ""
    return f"{series.features[0]}{unit}"


def _edges(series: LoadSeries) -> IntArray:
    """Points at which the stretches of the time axis begin and end."""
    return np.unique(np.linspace(0, len(series), min(COLUMNS, len(series)) + 1).astype(np.int64))


def _time(series: LoadSeries, points: IntArray) -> tuple[FloatArray, str]:
    """Points as days or hours since the first one, and what the axis says."""
    span = len(series) * series.step_s
    unit, name = (DAY_S, "days") if span > 3 * DAY_S else (HOUR_S, "hours")
    start = moment_text(series, 0)
    since = f"since {start[:16].replace('T', ' ')}" if start else "since the start"
    return np.asarray(points * (series.step_s / unit), dtype=np.float64), f"{name} {since}"


def _course(axes: Axes, series: LoadSeries) -> None:
    """Mean over the nodes in each stretch of time, and the range within it (one node) or of most nodes (several)."""
    edges = _edges(series)
    time, label = _time(series, edges)
    target = series.values[:, :, 0].astype(np.float64)
    course = mean_over_nodes(series.values[:, :, 0])
    stretches = list(pairwise(edges))
    middle = np.array([known_mean(course[a:b], axis=0) for a, b in stretches])
    if len(series.nodes) > 1:
        cells = np.array([known_mean(target[a:b], axis=0) for a, b in stretches])
        low, high = (_quantile(cells, q) for q in (0.1, 0.9))
        what = "80 % of the nodes"
    else:
        low, high = (np.array([_extreme(course[a:b], pick) for a, b in stretches]) for pick in (np.min, np.max))
        what = "least and largest"
    axes.fill_between(time[:-1], low, high, color=BLUE, alpha=0.22, linewidth=0, step="post", label=what)
    axes.step(time[:-1], middle, where="post", color=BLUE, linewidth=1.1, label="mean")
    axes.set_title(_label(series))
    axes.set_xlabel(label)
    axes.set_xlim(time[0], time[-1])
    axes.legend(loc="upper right", ncols=2, frameon=False, fontsize=8)


def _quantile(cells: FloatArray, level: float) -> FloatArray:
    """(C,) quantile over the known nodes of each row."""
    return np.array([np.quantile(row[~np.isnan(row)], level) if (~np.isnan(row)).any() else np.nan for row in cells])


def _extreme(values: FloatArray, pick: object) -> float:
    known = values[~np.isnan(values)]
    return float(pick(known)) if len(known) else float("nan")  # type: ignore[operator]


def _nodes(axes: Axes, series: LoadSeries) -> None:
    """Every node's load over time; white is not measured."""
    edges = _edges(series)
    time, label = _time(series, edges)
    cells = heat(series.values[:, :, 0], edges, min(ROWS, len(series.nodes)))
    known = cells[~np.isnan(cells)]
    top = float(np.quantile(known, 0.995)) if known.size else 1.0
    low = min(0.0, float(known.min())) if known.size else 0.0
    rows = np.arange(cells.shape[0] + 1)
    mesh = axes.pcolormesh(time, rows, cells, cmap="viridis", vmin=low, vmax=max(top, low + 1e-9), rasterized=True)
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlabel(label)
    axes.set_title(
        "Each node over time" if cells.shape[0] == len(series.nodes) else "Nodes over time (neighbours share a row)"
    )
    if len(series.nodes) <= SHOWN_NAMES:
        axes.set_yticks(rows[:-1] + 0.5, [name[:14] for name in series.nodes], fontsize=7)
    else:
        axes.set_ylabel(f"{len(series.nodes):,} nodes")
        axes.set_yticks([])
    bar = axes.figure.colorbar(mesh, ax=axes, shrink=0.9, pad=0.01)
    bar.set_label(series.units[0] or series.features[0], fontsize=8)
    bar.outline.set_visible(False)


def heat(target: Float32Array, edges: IntArray, rows: int) -> FloatArray:
    """(rows, stretches) mean of the known points of (T, N) loads; neighbouring nodes share a row."""
    groups = np.array_split(np.arange(target.shape[1]), rows)
    known = (~np.isnan(target)).astype(np.float64)
    filled = np.nan_to_num(target.astype(np.float64))
    sums, counts = (np.add.reduceat(part, edges[:-1], axis=0) for part in (filled, known))
    cells = [
        np.divide(
            sums[:, g].sum(1), counts[:, g].sum(1), out=np.full(len(edges) - 1, np.nan), where=counts[:, g].sum(1) > 0
        )
        for g in groups
    ]
    return np.array(cells)


def _week(axes: Axes, series: LoadSeries) -> None:
    """Mean by hour and weekday; without a calendar, or for a short series, the distribution of the load."""
    span = len(series) * series.step_s
    if not series.dated or span < 2 * DAY_S or series.step_s > HOUR_S:
        values = series.values[:, :, 0]
        axes.hist(values[~np.isnan(values)], bins=60, color=BLUE, alpha=0.75)
        axes.set_title("How often which load (points)")
        axes.set_xlabel(_label(series))
        return
    times = series.times_s()
    hour = (times % DAY_S // HOUR_S).astype(np.int64)
    weekday = ((times // DAY_S).astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    course = mean_over_nodes(series.values[:, :, 0])
    known = ~np.isnan(course)
    cell = weekday[known] * 24 + hour[known]
    counts = np.bincount(cell, minlength=168)
    sums = np.bincount(cell, weights=course[known], minlength=168)
    cells = np.divide(sums, counts, out=np.full(168, np.nan), where=counts > 0).reshape(7, 24)
    mesh = axes.pcolormesh(np.arange(25), np.arange(8), cells, cmap="Blues", rasterized=True)
    axes.set_yticks(np.arange(7) + 0.5, WEEKDAYS)
    axes.set_xticks(range(0, 25, 4))
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_title("Mean by hour and weekday")
    axes.set_xlabel("hour of the day (the source's clock)")
    bar = axes.figure.colorbar(mesh, ax=axes, shrink=0.9, pad=0.02)
    bar.outline.set_visible(False)


def _changes(axes: Axes, series: LoadSeries) -> None:
    """How far the load is from what it was, by how long ago: what a forecast of "as now" gets wrong."""
    target = series.values[:, :, 0].astype(np.float64)
    longest = max(2, min(len(series) // 4, round(2 * DAY_S / series.step_s)))
    lags = np.unique(np.geomspace(1, longest, 40).astype(np.int64))
    lags = lags[lags < len(series)]
    far = np.array([float(known_mean(np.abs(target[lag:] - target[:-lag]), axis=None)) for lag in lags])
    axes.plot(lags * series.step_s, far, color=BLUE, linewidth=1.4, marker=".", markersize=4)
    axes.set_xscale("log")
    low, high = 0.8 * series.step_s, 1.25 * longest * series.step_s
    ticks = [(place, text) for place, text in TIME_TICKS if low <= place <= high]
    if len(ticks) > 1:
        axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
        axes.minorticks_off()
    axes.set_xlim(low, high)
    axes.set_ylim(bottom=0)
    axes.set_title("Mean change against what it was")
    axes.set_xlabel("how long ago")
    axes.set_ylabel(series.units[0], color=GREY)
