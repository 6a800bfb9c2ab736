"""How good forecasts are: errors by horizon, coverage, and how surely one forecaster beats another.

``MASE`` is the mean absolute error over the naive forecast's on the training part of the same node, for the same
number of steps ahead (Hyndman & Koehler, 2006, scale by the one-step error; for later steps a forecast would then be
measured against one of an easier question). Its mean is over nodes; nodes that never changed in training have none.
``relative`` is the error over that of persistence on the very same windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.predictors.shapes import HIGH, HORIZON, LOW, MEDIAN, QUANTILES

if TYPE_CHECKING:
    import numpy.typing as npt

    from shunter.predictors.scaling import NodeScales
    from shunter.predictors.shapes import Forecaster
    from shunter.predictors.windows import Windows
    from shunter.scheduler.types import FloatArray, IntArray

BLOCK_S = 86_400.0
"""Errors of the same day are not independent: bootstrap draws whole days, shorter blocks where there are few."""

LEAST_BLOCKS, DRAWS = 20, 1000


@dataclass(frozen=True)
class Forecasts:
    """What one forecaster said about windows: (M, HORIZON, 3)."""

    name: str
    quantiles: FloatArray


def forecast_windows(forecaster: Forecaster, windows: Windows, scales: NodeScales | None) -> Forecasts:
    """Ask a forecaster about all windows, telling it what is known of the nodes, or nothing."""
    parts = [
        forecaster.forecast(part.history(), part.time_s(), None if scales is None else scales.take(part.nodes))
        for part in windows.chunks()
    ]
    return Forecasts(forecaster.name, np.concatenate(parts) if parts else np.zeros((0, HORIZON, len(QUANTILES))))


def naive_errors(values: npt.NDArray[np.floating]) -> FloatArray:
    """(N, HORIZON) mean absolute change of feature 0 of (T, N, F) values over 1 … HORIZON steps; NaN without any."""
    target = values[..., 0].astype(np.float64)
    found = np.full((target.shape[1], HORIZON), np.nan)
    for step in range(1, HORIZON + 1):
        change = np.abs(target[step:] - target[:-step])
        known = np.isfinite(change)
        count = known.sum(axis=0)
        found[count > 0, step - 1] = np.where(known, change, 0.0).sum(axis=0)[count > 0] / count[count > 0]
    return found


def by_node(errors: FloatArray, nodes: IntArray, num_nodes: int) -> FloatArray:
    """(N, HORIZON) means of (M, HORIZON) errors, gaps left out; NaN where a node has none."""
    known = np.isfinite(errors)
    total, count = np.zeros((num_nodes, errors.shape[1])), np.zeros((num_nodes, errors.shape[1]))
    np.add.at(total, nodes, np.where(known, errors, 0.0))
    np.add.at(count, nodes, known)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def mase(errors: FloatArray, nodes: IntArray, naive: FloatArray) -> FloatArray:
    """(HORIZON,) mean over nodes of the mean of (M, HORIZON) absolute errors over the (N, HORIZON) naive ones."""
    mean = by_node(errors, nodes, len(naive))
    known = np.isfinite(mean) & (naive > 0)
    ratio = np.where(known, mean / np.where(known, naive, 1.0), 0.0).sum(axis=0)
    found: FloatArray = ratio / np.maximum(known.sum(axis=0), 1)
    return found


def pinball(quantiles: FloatArray, targets: FloatArray) -> FloatArray:
    """(M, HORIZON) pinball loss of (M, HORIZON, 3) quantiles, the mean over them (Koenker & Bassett, 1978)."""
    error = targets[..., None] - quantiles
    level = np.asarray(QUANTILES)
    found: FloatArray = np.maximum(level * error, (level - 1.0) * error).mean(axis=-1)
    return found


def covered(quantiles: FloatArray, targets: FloatArray) -> FloatArray:
    """(M, HORIZON) 1 where the interval holds the target, 0 where not, NaN where nothing was measured."""
    inside = (targets >= quantiles[..., LOW]) & (targets <= quantiles[..., HIGH])
    found: FloatArray = np.where(np.isfinite(targets), inside, np.nan)
    return found


def measure(
    forecasts: Forecasts, windows: Windows, naive: FloatArray, persistence: Forecasts | None = None
) -> dict[str, Any]:
    """Errors of one forecaster by step: plain numbers."""
    targets = windows.targets()
    error = targets - forecasts.quantiles[..., MEDIAN]
    absolute = np.abs(error)
    found = {
        "mae": np.nanmean(absolute, axis=0),
        "rmse": np.sqrt(np.nanmean(error**2, axis=0)),
        "mase": mase(absolute, windows.nodes, naive),
        "pinball": np.nanmean(pinball(forecasts.quantiles, targets), axis=0),
        "coverage": np.nanmean(covered(forecasts.quantiles, targets), axis=0),
        "width": (forecasts.quantiles[..., HIGH] - forecasts.quantiles[..., LOW]).mean(axis=0),
    }
    if persistence is not None:
        theirs = np.abs(targets - persistence.quantiles[..., MEDIAN])
        base = np.nanmean(theirs, axis=0)
        found["relative"] = np.divide(found["mae"], base, out=np.ones_like(base), where=base > 0)
    return {name: [float(x) for x in values] for name, values in found.items()}


def compare(
    mine: Forecasts, theirs: Forecasts, windows: Windows, naive: FloatArray, *, seed: int = 0
) -> dict[str, list[float]]:
    """Difference of two scaled absolute errors by step, mine less theirs, with the 95 % interval of a block bootstrap.

    Errors are in units of ``naive``, each window counting the same; blocks are stretches of time, all nodes together.
    """
    targets = windows.targets()
    unit = np.where(naive > 0, naive, np.nan)[windows.nodes]
    ahead = np.abs(targets - mine.quantiles[..., MEDIAN]) - np.abs(targets - theirs.quantiles[..., MEDIAN])
    ahead = ahead / unit
    if not len(windows):
        return {"difference": [], "low": [], "high": []}
    first, last = windows.instants[0], windows.instants[-1]
    length = max(1, int(min(BLOCK_S / windows.step_s, (last - first + 1) / LEAST_BLOCKS)))
    block = (windows.instants - first) // length
    known = np.isfinite(ahead)
    total, count = np.zeros((int(block[-1]) + 1, HORIZON)), np.zeros((int(block[-1]) + 1, HORIZON))
    np.add.at(total, block, np.where(known, ahead, 0.0))
    np.add.at(count, block, known)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(total), size=(DRAWS, len(total)))
    means = total[drawn].sum(axis=1) / np.maximum(count[drawn].sum(axis=1), 1)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    middle = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    return {"difference": middle.tolist(), "low": low.tolist(), "high": high.tolist()}


def judge(
    forecasts: Sequence[Forecasts], windows: Windows, naive: FloatArray, *, subject: str, seed: int = 0
) -> dict[str, Any]:
    """All forecasters' errors, and the subject's against each of the others: plain values for JSON."""
    named: Mapping[str, Forecasts] = {each.name: each for each in forecasts}
    base = named.get("persistence")
    document: dict[str, Any] = {
        "windows": len(windows),
        "nodes": len(np.unique(windows.nodes)),
        "nodes_still_in_training": int((~(naive[:, 0] > 0)).sum()),
        "errors": {each.name: measure(each, windows, naive, base) for each in forecasts},
    }
    if subject in named:
        document["against"] = {
            each.name: compare(named[subject], each, windows, naive, seed=seed)
            for each in forecasts
            if each.name != subject
        }
    return document
