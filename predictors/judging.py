"""A forecaster's bundle on a series: its errors beside the baselines', coverage before and after calibration, figures.

The last 30 % of the series are judged. Baselines learn from the same part as the network did, and choose what they
choose on the same validation part; trees are left out where LightGBM is not installed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.predictors.baselines import BoostedTrees, Ewma, LinearAutoregression, Persistence, SeasonalNaive
from shunter.predictors.conformal import Calibration, calibrated
from shunter.predictors.evaluation import Forecasts, covered, forecast_windows, judge, naive_errors, pinball
from shunter.predictors.load import LoadForecaster
from shunter.predictors.scaling import NodeScales, cycles_of, encode
from shunter.predictors.shapes import HIGH, HORIZON, LOW, MEDIAN
from shunter.predictors.windows import Windows, of_some_nodes, split, windows_in
from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from shunter.predictors.shapes import Forecaster
    from shunter.scheduler.types import FloatArray
    from shunter.traces.load_series import LoadSeries

MOST_JUDGED = 400_000
"""Windows of the test part; of larger ones every k-th node is judged."""

FAN_POINTS = 120
"""Of the stretch that the figure shows."""


@dataclass(frozen=True)
class Parts:
    """A series cut in time, and what the training part says of its nodes."""

    series: LoadSeries
    scales: NodeScales
    train: Windows
    validation: Windows
    test: Windows
    naive: FloatArray
    cycles: int

    @classmethod
    def of(cls, series: LoadSeries) -> Parts:
        """Cut a series.

        Raises:
            TraceError: It is too short.
            UsageError: Nothing was measured in its last 30 %.
        """
        rows = split(len(series.values))
        train, validation, test = (
            windows_in(series.values, part, begin_s=series.begin_s, step_s=series.step_s)
            for part in (rows.train, rows.validation, rows.test)
        )
        if not len(test):
            raise UsageError(f"{series.name}: nothing was measured in its last 30 %, which forecasts are judged on")
        return cls(
            series=series,
            scales=NodeScales.fit(series.values[: rows.train[1]]),
            train=train,
            validation=validation,
            test=of_some_nodes(test, MOST_JUDGED),
            naive=naive_errors(series.values[: rows.validation[1]]),
            cycles=cycles_of(rows.train[1] * series.step_s, dated=series.dated),
        )


def baselines(parts: Parts, *, trees: bool = True, report: Callable[[str], None] | None = None) -> list[Forecaster]:
    """All baselines, fitted; the trees where they are wanted and LightGBM is there."""
    persistence, seasonal, ewma, linear = (
        Persistence(),
        SeasonalNaive(parts.series.step_s),
        Ewma(),
        LinearAutoregression(),
    )
    told = report or (lambda _name: None)
    ewma.fit(parts.validation, parts.scales)
    told(linear.name)
    linear.fit(parts.train, parts.validation, parts.scales)
    for each in (persistence, seasonal, ewma, linear):
        each.calibrate(parts.validation, parts.scales)
    found: list[Forecaster] = [persistence, seasonal, ewma, linear]
    if trees and find_spec("lightgbm") is not None:
        boosted = BoostedTrees(parts.cycles)
        told(boosted.name)
        boosted.fit(parts.train, parts.validation, parts.scales)
        found.append(boosted)
    return found


def scales_of(windows: Windows, scales: NodeScales | None) -> FloatArray:
    """(M,) scales of windows, that calibration counts in."""
    found = [
        encode(part.history(), part.time_s(), None if scales is None else scales.take(part.nodes)).scale
        for part in windows.chunks()
    ]
    return np.concatenate(found) if found else np.zeros(0)


def known_to(forecaster: Forecaster, parts: Parts) -> NodeScales | None:
    """What a forecaster is told of a series' nodes: nothing where it learns that from histories, as in operation."""
    return None if isinstance(forecaster, LoadForecaster) and forecaster.general else parts.scales


def calibration_of(parts: Parts, forecaster: Forecaster) -> Calibration:
    """What calibration has learned by the end of the validation part, with nothing pending."""
    scales = known_to(forecaster, parts)
    quantiles = forecast_windows(forecaster, parts.validation, scales).quantiles
    begun = Calibration.begin(len(parts.series.nodes))
    state, _ = calibrated(begun, parts.validation, quantiles, scales_of(parts.validation, scales))
    return Calibration.begin(len(parts.series.nodes), state.offset, state.size)


def judge_series(
    parts: Parts, forecaster: Forecaster, others: Sequence[Forecaster], *, seed: int = 0
) -> tuple[dict[str, Any], list[Forecasts]]:
    """Judge a forecaster on the test part: a document for JSON, and all forecasts, calibrated ones last.

    The document has ``errors`` by forecaster (``lstm+conformal`` is the same medians with calibrated intervals),
    ``against`` each other one, and ``calibrated`` with the coverage of intervals that have a width.
    """
    scales = known_to(forecaster, parts)
    mine = forecast_windows(forecaster, parts.test, scales)
    theirs = [forecast_windows(other, parts.test, parts.scales) for other in others]
    scale = scales_of(parts.test, scales)
    _, quantiles = calibrated(calibration_of(parts, forecaster), parts.test, mine.quantiles, scale)
    after = Forecasts(f"{mine.name}+conformal", quantiles)
    document = judge([*theirs, mine], parts.test, parts.naive, subject=mine.name, seed=seed)
    document |= {"series": parts.series.name, "feature": parts.series.features[0], "step_s": parts.series.step_s}
    targets = parts.test.targets()
    held = covered(quantiles, targets)
    wide = quantiles[..., HIGH] > quantiles[..., LOW]
    document["calibrated"] = {
        "coverage": _means(held),
        "coverage_overall": float(np.nanmean(held)),
        "share_with_width": wide.mean(axis=0).tolist(),
        "coverage_with_width": _means(np.where(wide, held, np.nan)),
        "pinball": _means(pinball(quantiles, targets)),
        "width": (quantiles[..., HIGH] - quantiles[..., LOW]).mean(axis=0).tolist(),
    }
    return document, [*theirs, mine, after]


def _means(values: FloatArray) -> list[float | None]:
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    return [float(t / c) if c else None for t, c in zip(total, known.sum(axis=0), strict=True)]


def figures(parts: Parts, document: dict[str, Any], forecasts: Sequence[Forecasts]) -> dict[str, bytes]:
    """Two pictures: error by step, and forecasts over a stretch of the test part."""
    from matplotlib.figure import Figure

    error = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = error.add_subplot()
    steps = np.arange(1, HORIZON + 1)
    for name, values in document["errors"].items():
        if name != "seasonal":
            axes.plot(steps, values["mase"], marker="o", label=name, linewidth=2.4 if name == "lstm" else 1.2)
    axes.axhline(1.0, color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        xlabel="steps ahead", ylabel="MASE", title=f"{parts.series.name}: {parts.series.features[0]}", xticks=steps
    )
    axes.legend()
    return {"error-by-step.png": _png(error), "forecasts.png": _png(_fan(parts, forecasts[-1]))}


def _fan(parts: Parts, forecasts: Forecasts) -> Any:
    """Forecasts one and five steps ahead of the node that moves most often, with their intervals."""
    from matplotlib.figure import Figure

    node = int(
        np.argmin(
            np.where(np.bincount(parts.test.nodes, minlength=len(parts.scales.still)) > 0, parts.scales.still, 2.0)
        )
    )
    rows = np.flatnonzero(parts.test.nodes == node)[:FAN_POINTS]
    instants = parts.test.instants[rows]
    figure = Figure(figsize=(9.0, 5.4), layout="constrained")
    pair = figure.subplots(2, 1, sharex=True)
    for axes, step in zip(pair, (1, HORIZON), strict=True):
        quantiles = forecasts.quantiles[rows, step - 1]
        at = (instants + step - instants[0]) * parts.series.step_s / 3600.0
        axes.fill_between(at, quantiles[:, LOW], quantiles[:, HIGH], alpha=0.25, label="80 % interval")
        axes.plot(at, quantiles[:, MEDIAN], linewidth=1.4, label="median")
        axes.plot(at, parts.test.targets()[rows, step - 1], color="black", linewidth=0.8, label="measured")
        axes.set(ylabel=parts.series.features[0], title=f"{step} step{'s' if step > 1 else ''} ahead")
    pair[0].legend(loc="upper right")
    pair[1].set(xlabel=f"hours into the test part, node {parts.series.nodes[node]}")
    return figure


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
