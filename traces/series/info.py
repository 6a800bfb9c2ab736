"""What a load series contains: grid, nodes, features, what is missing, how the load moves, and what a reader noted.

``describe_series`` returns plain numbers and texts, ready for JSON. Quantiles are of the points of all nodes together.
"""

from __future__ import annotations

import datetime
import warnings
from itertools import pairwise
from typing import Any

import numpy as np

from shunter.scheduler.types import FloatArray
from shunter.traces.info import DAY_S, HOUR_S, LAST_DATE_S
from shunter.traces.load_series import Float32Array, LoadSeries

QUANTILES = {"min": 0.0, "p05": 0.05, "p50": 0.5, "p95": 0.95, "max": 1.0}
PROFILE_BINS = 52
"""Stretches of time in the short course of the load: a line in a terminal."""

MUCH_MISSING = 0.05


def describe_series(series: LoadSeries) -> dict[str, Any]:
    """Facts about a load series; the first feature is the target. What is not known is None."""
    target = series.values[:, :, 0]
    nodes = _nodes(series)
    facts: dict[str, Any] = {
        "kind": "load series",
        "name": series.name,
        "format": series.facts.get("format", ""),
        "source": series.facts.get("source", ""),
        "sha256": series.facts.get("source_sha256", ""),
        "dated": series.dated,
        "start": moment_text(series, 0),
        "end": moment_text(series, len(series)),
        "begin_s": series.begin_s,
        "step_s": series.step_s,
        "span_s": len(series) * series.step_s,
        "points": len(series),
        "nodes": len(series.nodes),
        "target": series.features[0],
        "missing_share": float(np.isnan(target).mean()),
        "longest_gap_s": longest_gap(target) * series.step_s,
        "unchanged_share": unchanged_share(target),
        "features": [_feature(series, i) for i in range(len(series.features))],
        "by_node": nodes,
        "profile": profile(series, PROFILE_BINS).tolist(),
        "daily_cycle": daily_cycle(series),
        "notes": dict(series.facts),
    }
    facts["defects"] = _defects(facts)
    return facts


def moment_text(series: LoadSeries, point: int) -> str | None:
    """The time of a point as an ISO time without a zone; None where the source has no calendar."""
    seconds = series.begin_s + point * series.step_s
    if not series.dated or not 0 <= seconds < LAST_DATE_S:
        return None
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC).replace(tzinfo=None).isoformat()


def longest_gap(target: Float32Array) -> int:
    """The most steps in a row in which some node, measured before and after, was not, of (T, N) values."""
    longest = 0
    for column in target.T:
        known = np.flatnonzero(~np.isnan(column))
        if len(known) > 1:
            longest = max(longest, int(np.diff(known).max()) - 1)
    return longest


def unchanged_share(target: Float32Array) -> float | None:
    """Share of steps over which a (T, N) load keeps its value: how often "as before" is right; None without a pair."""
    changes = np.diff(target, axis=0)
    known = ~np.isnan(changes)
    return float((changes[known] == 0).mean()) if known.any() else None


def mean_over_nodes(target: Float32Array) -> FloatArray:
    """(T,) mean over the nodes that were measured; NaN where none was."""
    course: FloatArray = known_mean(np.asarray(target, dtype=np.float64), axis=1)
    return course


def profile(series: LoadSeries, bins: int) -> FloatArray:
    """(≤ bins,) mean of the target over all nodes in equal stretches of time; NaN where nothing was measured."""
    course = mean_over_nodes(series.values[:, :, 0])
    edges = np.unique(np.linspace(0, len(course), min(bins, len(course)) + 1).astype(np.int64))
    return np.array([known_mean(course[a:b], axis=0) for a, b in pairwise(edges)])


def daily_cycle(series: LoadSeries) -> list[float] | None:
    """Mean of the target by hour of the day; None without a calendar, for steps of more than an hour or under a day."""
    if not series.dated or series.step_s > HOUR_S or len(series) * series.step_s < DAY_S:
        return None
    hour = (series.times_s() % DAY_S // HOUR_S).astype(np.int64)
    course = mean_over_nodes(series.values[:, :, 0])
    return [float(known_mean(course[hour == h], axis=0)) for h in range(24)]


def known_mean(values: FloatArray, axis: int | None) -> Any:
    """Mean of what is known; NaN, without a warning, where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=axis) if values.size else np.nan


def _feature(series: LoadSeries, i: int) -> dict[str, Any]:
    values = series.values[:, :, i]
    known = values[~np.isnan(values)].astype(np.float64)
    facts: dict[str, Any] = {"name": series.features[i], "unit": series.units[i]}
    facts |= {"missing_share": 1.0 - known.size / values.size}
    if known.size:
        levels = np.quantile(known, list(QUANTILES.values()))
        facts |= {"mean": float(known.mean()), "sd": float(known.std())}
        facts |= dict(zip(QUANTILES, (float(level) for level in levels), strict=True))
    return facts


def _nodes(series: LoadSeries) -> list[dict[str, Any]]:
    """Each node's share of missing points, mean, least and largest load, in the series' order."""
    found = []
    for name, column in zip(series.nodes, series.values[:, :, 0].T, strict=True):
        known = column[~np.isnan(column)].astype(np.float64)
        facts: dict[str, Any] = {"node": name, "missing_share": 1.0 - known.size / column.size}
        if known.size:
            facts |= {"mean": float(known.mean()), "min": float(known.min()), "max": float(known.max())}
        found.append(facts)
    return found


def _defects(facts: dict[str, Any]) -> list[str]:
    """Sentences on what a user of the series should know before trusting a forecast of it."""
    found: list[str] = []
    if facts["missing_share"] > MUCH_MISSING:
        found.append(f"{facts['missing_share']:.1%} of the points of {facts['target']} were not measured")
    silent = [node for node in facts["by_node"] if "mean" not in node]
    if silent:
        found.append(f"{len(silent):,} nodes were never measured")
    constant = [node for node in facts["by_node"] if "mean" in node and node["min"] == node["max"]]
    if constant:
        found.append(f"{len(constant):,} of {facts['nodes']:,} nodes have a load that never changes")
    if not facts["dated"]:
        found.append("the source has no calendar: hours of the day and weekdays are not known")
    notes = facts["notes"]
    if notes.get("out_of_order"):
        found.append(f"the clock went backwards {notes['out_of_order']:,} times; the samples were sorted")
    if notes.get("duplicates"):
        found.append(f"{notes['duplicates']:,} samples repeat a node's instant; they were averaged")
    for feature, amount in notes.get("running_before", {}).items():
        found.append(f"{feature} is starts minus ends; {amount:,.0f} ran before the first row, at least")
    return found
