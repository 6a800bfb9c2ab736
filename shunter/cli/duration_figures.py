"""Figures of predicted run times: predicted against actual quantiles, and coverage over time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from shunter.predictors.duration_metrics import over_time
from shunter.sim.report.figures import COLOURS, DPI, SINGLE_COLUMN_IN, new_figure, paper_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from shunter.predictors.duration_metrics import Judged

PROMISED = 0.8
"""Share of the jobs that the outer quantiles are to hold."""


def quantile_figure(name: str, told: Judged) -> bytes:
    """A PNG: jobs in groups of equal predicted median; the quantiles told of each group, and those that it had."""
    with paper_style():
        figure, (axes,) = new_figure(SINGLE_COLUMN_IN, SINGLE_COLUMN_IN)
        middle = told.quantiles[:, told.levels.index(0.5)] if 0.5 in told.levels else told.quantiles[:, 0]
        groups = [rows for rows in np.array_split(np.argsort(middle, kind="stable"), 20) if len(rows)]
        counted = np.minimum(told.run_s, told.most_s)
        for colour, q in zip(COLOURS, range(len(told.levels)), strict=False):
            said = [np.exp(np.mean(np.log(told.quantiles[rows, q]))) for rows in groups]
            had = [np.quantile(counted[rows], told.levels[q]) for rows in groups]
            axes.plot(said, had, "o-", color=colour, markersize=2.5, linewidth=0.8, label=f"{told.levels[q]:g}")
        ends = (1.0, float(max(counted.max(), told.quantiles[np.isfinite(told.quantiles)].max())))
        axes.plot(ends, ends, color="#9aa3ab", linewidth=0.8, zorder=0)
        axes.set(xscale="log", yscale="log", xlabel="predicted quantile (s)", ylabel="actual quantile (s)", title=name)
        axes.legend(title="quantile", frameon=False)
        return _png(figure)


def coverage_over_time(name: str, told: Judged) -> bytes:
    """A PNG: the share of jobs that ended in their interval, along the test period."""
    with paper_style():
        figure, (axes,) = new_figure(SINGLE_COLUMN_IN, 0.7 * SINGLE_COLUMN_IN)
        days, share = over_time(told)
        axes.axhline(PROMISED, color="#9aa3ab", linewidth=0.8)
        axes.plot(days, share, "o-", color=COLOURS[0], markersize=2.5, linewidth=0.8)
        axes.set(xlabel="days into the period", ylabel="jobs inside the interval", ylim=(0, 1), title=name)
        return _png(figure)


def _png(figure: Figure) -> bytes:
    """A figure as PNG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
