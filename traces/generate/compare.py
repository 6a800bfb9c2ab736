"""How like two traces are: the figures by which a fitted model is judged."""

from __future__ import annotations

import numpy as np

from shunter.scheduler.types import FloatArray
from shunter.traces.tables import JobTable, Trace

HOUR_S = 3600.0


def job_sizes(jobs: JobTable) -> tuple[FloatArray, str]:
    """(J,) size over the whole gang and its resource: GPUs where the trace has any, CPUs otherwise."""
    tasks = jobs.ints("tasks")
    gpus = jobs.floats("gpus")
    if gpus.any():
        return tasks * gpus, "gpus"
    cpus = jobs.floats("cpus")
    return (tasks * cpus if cpus.any() else tasks.astype(np.float64)), "cpus"


def offered_load(trace: Trace) -> float:
    """Work arriving per second over capacity, between the first and the last submit; NaN without a known capacity."""
    size, resource = job_sizes(trace.jobs)
    capacity = trace.cluster.total(resource)
    submit = trace.jobs.floats("submit_s")
    span = submit[-1] - submit[0]
    if not capacity or span <= 0:
        return float("nan")
    return float(size @ trace.jobs.floats("duration_s") / (capacity * span))


def hour_profile(submit_s: FloatArray) -> FloatArray:
    """(24,) share of arrivals by hour of the trace's day."""
    hour = (submit_s // HOUR_S).astype(np.int64) % 24
    return np.bincount(hour, minlength=24) / len(submit_s)


def ks_distance(a: FloatArray, b: FloatArray) -> float:
    """Two-sample Kolmogorov–Smirnov distance: greatest difference of the empirical distribution functions."""
    points = np.union1d(a, b)
    at_a = np.searchsorted(np.sort(a), points, side="right") / len(a)
    at_b = np.searchsorted(np.sort(b), points, side="right") / len(b)
    return float(np.abs(at_a - at_b).max())


def lag1(values: FloatArray) -> float:
    """Lag-1 autocorrelation; 0 for a constant series."""
    centred = values - values.mean()
    power = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / power if power > 0 else 0.0


def compare(real: Trace, generated: Trace) -> dict[str, float]:
    """Figures of likeness, most of them in pairs ``X_real``, ``X_generated``.

    ``ks_size``, ``ks_duration``, ``ks_gap``: KS distances of the gang's size, the run time and the time between
    arrivals (a monotone scale such as the logarithm changes none of them). ``hour_correlation``: Pearson correlation of
    the hour-of-day profiles. ``lag1_gap``, ``lag1_duration``, ``lag1_size``: lag-1 autocorrelation of the logarithms.
    ``load``: offered load.
    """
    figures: dict[str, float] = {}
    series: list[dict[str, FloatArray]] = []
    for trace in (real, generated):
        submit = trace.jobs.floats("submit_s")
        series.append(
            {
                "size": job_sizes(trace.jobs)[0],
                "duration": trace.jobs.floats("duration_s"),
                "gap": np.diff(submit),
                "submit": submit,
            }
        )
    for name in ("size", "duration", "gap"):
        figures[f"ks_{name}"] = ks_distance(series[0][name], series[1][name])
    profiles = [hour_profile(s["submit"]) for s in series]
    figures["hour_correlation"] = float(np.corrcoef(profiles[0], profiles[1])[0, 1])
    for name in ("gap", "duration", "size"):
        for label, s in zip(("real", "generated"), series, strict=True):
            figures[f"lag1_{name}_{label}"] = lag1(np.log1p(s[name]))
    for label, trace in (("real", real), ("generated", generated)):
        figures[f"load_{label}"] = offered_load(trace)
    return figures
