"""What came of the estimates, as text, plain values and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples.start_times.trial import Trial
from shunter.predictors.starts import DAY_S, Estimates
from shunter.scheduler.types import BoolArray, FloatArray

WEEK_S = 7 * DAY_S
DRAWS = 2_000


def inside(estimates: Estimates, start_s: FloatArray) -> BoolArray:
    """(E,) whether starts lie in their intervals."""
    held: BoolArray = (estimates.low_s <= start_s) & (start_s <= estimates.high_s)
    return held


def figures(trial: Trial) -> dict[str, Any]:
    """A log's figures; the interval of the ratio of median errors by weeks drawn anew."""
    ours, theirs = np.abs(trial.told.median_s - trial.start_s), np.abs(trial.by_request_s - trial.start_s)
    week = np.unique(trial.made_s // WEEK_S, return_inverse=True)[1]
    rows = [np.flatnonzero(week == number) for number in range(week.max() + 1)]
    rng = np.random.default_rng(0)
    ratios, shares = [], []
    for _ in range(DRAWS if len(rows) > 1 else 0):
        drawn = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        ratios.append(np.median(ours[drawn]) / max(np.median(theirs[drawn]), 1e-9))
        shares.append(inside(trial.told, trial.start_s)[drawn].mean())
    bounds = [np.quantile(each, [0.025, 0.975]).tolist() if each else None for each in (ratios, shares)]
    return {
        "log": trial.name,
        "estimates": len(ours),
        "looks": len(trial.spent_s),
        "median_wait_left_s": float(np.median(trial.start_s - trial.made_s)),
        "median_error_s": float(np.median(ours)),
        "median_error_by_request_s": float(np.median(theirs)),
        "ratio": float(np.median(ours) / max(np.median(theirs), 1e-9)),
        "ratio_interval": bounds[0],
        "mean_error_s": float(ours.mean()),
        "mean_error_by_request_s": float(theirs.mean()),
        "median_bias_s": float(np.median(trial.told.median_s - trial.start_s)),
        "coverage": float(inside(trial.told, trial.start_s).mean()),
        "coverage_interval": bounds[1],
        "coverage_raw": float(inside(trial.raw, trial.start_s).mean()),
        "below": float((trial.start_s < trial.told.low_s).mean()),
        "above": float((trial.start_s > trial.told.high_s).mean()),
        "median_width_s": float(np.median(trial.told.high_s - trial.told.low_s)),
        "look_median_s": float(np.median(trial.spent_s)),
        "look_max_s": float(np.sort(trial.spent_s)[:-1].max(initial=0.0)),
        "queue_max": int(trial.queue.max()),
    }


def as_json(trials: Sequence[Trial]) -> Any:
    """Figures of every log."""
    return [figures(trial) for trial in trials]


def report(trials: Sequence[Trial]) -> str:
    """A table, a line a log."""
    lines = [
        f"{'log':<24}{'estimates':>10}{'wait left':>11}{'error':>9}{'by request':>12}{'ratio (95 %)':>20}"
        f"{'in 80 %':>9}{'raw':>6}{'width':>9}{'a look':>9}",
    ]
    for each in map(figures, trials):
        low, high = each["ratio_interval"] or (float("nan"), float("nan"))
        lines.append(
            f"{each['log']:<24}{each['estimates']:>10,}{_hours(each['median_wait_left_s']):>11}"
            f"{_hours(each['median_error_s']):>9}{_hours(each['median_error_by_request_s']):>12}"
            f"{each['ratio']:>7.2f} ({low:.2f}–{high:.2f})"
            f"{each['coverage']:>9.0%}{each['coverage_raw']:>6.0%}{_hours(each['median_width_s']):>9}"
            f"{each['look_median_s'] * 1e3:>6.0f} ms"
        )
    lines.append("Medians over all estimates; error: of the median, against one roll by requested times.")
    return "\n".join(lines)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600.0:.1f} h" if seconds >= 3600.0 else f"{seconds / 60.0:.0f} min"


def draw(trials: Sequence[Trial], path: Path) -> None:
    """Errors as cumulative shares, a panel a log, ours against requests."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * len(trials), 3.4), layout="constrained")
    for axes, trial in zip(figure.subplots(1, len(trials), squeeze=False)[0], trials, strict=True):
        for name, told in (("rolled forward", trial.told.median_s), ("by requests", trial.by_request_s)):
            error_h = np.sort(np.abs(told - trial.start_s)) / 3600.0
            axes.plot(np.maximum(error_h, 1e-2), np.linspace(0.0, 1.0, len(error_h)), label=name)
        axes.set_xscale("log")
        axes.set(title=trial.name, xlabel="error of the start time (h)", ylim=(0.0, 1.0))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("share of estimates")
    figure.axes[0].legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=150)
