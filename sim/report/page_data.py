"""The numbers that ``report.js`` draws: aggregates, and the jobs of a few windows. Never all jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shunter.scheduler.types import FloatArray
from shunter.sim.report import series
from shunter.sim.report.formats import UNITS, amount, human
from shunter.sim.result import Result

TIME_POINTS = 600


def page_data(
    results: Sequence[Result], labels: Sequence[str], resource: str, gantt_start_s: float | None
) -> dict[str, Any]:
    """Everything that ``report.js`` draws: aggregates, and the jobs of the Gantt windows."""
    first, last = series.time_span(results)
    grid = series.wait_grid(results)
    capacities = [r.capacity(resource) for r in results]
    return {
        "runs": [{"label": label, **strip_notes(r, resource)} for r, label in zip(results, labels, strict=True)],
        "unit": UNITS[resource],
        "span": [float(first), float(last)],
        "startUnix": start_unix(results[0]),
        "usedIsShare": None not in capacities,
        "cdf": {"x": rounded(grid), "y": [rounded(series.wait_cdf(r, grid)) for r in results]},
        "time": time_data(results, resource, capacities, first, last),
        "size": size_data(results, resource),
        "windows": [
            {
                "title": w.title,
                "start": float(w.start_s),
                "end": float(w.end_s),
                "runs": [gantt_data(r, w, resource) for r in results],
            }
            for w in series.interesting_windows(results, gantt_start_s)
        ],
    }


def time_data(
    results: Sequence[Result], resource: str, capacities: Sequence[float | None], first: float, last: float
) -> dict[str, Any]:
    """Means of utilisation and queue length in at most 600 equal stretches between first submit and last end."""
    edges = np.linspace(first, last, TIME_POINTS + 1)
    return {
        "x": rounded((edges[1:] + edges[:-1]) / 2, digits=8),
        "used": [
            rounded(series.timeline_means(r, f"used_{resource}", edges) / (c or 1.0), digits=4)
            for r, c in zip(results, capacities, strict=True)
        ],
        "queue": [rounded(series.timeline_means(r, "queue_length", edges), digits=4) for r in results],
    }


def strip_notes(result: Result, resource: str) -> dict[str, str]:
    """What stands beside a run's name over its curves: the metrics where given, so that text and table agree."""
    edges = np.asarray(series.time_span([result]))
    capacity = result.capacity(resource)
    used = series.timeline_means(result, f"used_{resource}", edges)[0]
    queue = result.metrics.get("avg_queue_length", series.timeline_means(result, "queue_length", edges)[0])
    if capacity is None:
        share = f"{amount(used)} {UNITS[resource]}"
    else:
        share = human("utilisation", result.metrics.get(f"{resource[:-1]}_utilisation", used / capacity))
    return {"utilisation": f"{share} on average", "queue": f"{amount(queue)} jobs on average"}


def size_data(results: Sequence[Result], resource: str) -> dict[str, Any]:
    """Quantiles of the bounded slowdown by size class, the same classes for all runs."""
    sizes = np.concatenate([series.sizes(r, resource) for r in results])
    classes = series.size_classes(sizes)
    cells = [series.slowdown_by_size(r, classes, resource) for r in results]
    return {
        "labels": list(classes.labels),
        "cells": [[None if c is None else {k: significant(v) for k, v in c.items()} for c in run] for run in cells],
    }


def gantt_data(result: Result, window: series.Window, resource: str) -> dict[str, Any]:
    """The jobs of a window: ``[id, user, group, size, wait, start, end, [lane, lanes, …]]`` each."""
    packed = series.gantt(result, window, resource)
    columns = ("job_id", "user", "group", resource, "wait_s", "start_s", "end_s")
    jobs = [
        [
            *(significant(v, 10) if isinstance(v, float) else v for v in row),
            [significant(v) for piece in pieces for v in piece],
        ]
        for row, pieces in zip(packed.jobs.select(columns).iter_rows(), packed.pieces, strict=True)
    ]
    return {"lanes": significant(packed.lanes), "leftOut": packed.left_out, "jobs": jobs}


def rounded(values: FloatArray, digits: int = 5) -> list[float]:
    """Values with so many significant digits: enough for a picture, and half the bytes."""
    return [significant(float(v), digits) for v in values]


def significant(value: float, digits: int = 6) -> float:
    """``value`` with so many significant digits; a whole number as an integer, which is shorter in JSON."""
    number = float(f"{value:.{digits}g}")
    return int(number) if number.is_integer() else number


def start_unix(result: Result) -> float | None:
    """Unix time of the trace's second 0 by the manifest."""
    trace = result.manifest.get("trace", {})
    value = trace.get("start_unix_s") if isinstance(trace, Mapping) else None
    return None if value is None else float(value)
