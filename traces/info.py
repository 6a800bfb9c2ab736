"""What a trace contains: counts, load, sizes, run times, arrival pattern, estimates, and the defects a reader found.

``describe`` returns plain numbers and texts, ready for JSON. Quantiles are of the sample itself (linear interpolation).
The picture of the same facts is drawn by ``shunter.traces.picture``.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.types import RESOURCES, BoolArray, FloatArray
from shunter.traces.tables import Trace

if TYPE_CHECKING:
    import polars as pl

QUANTILES = {"min": 0.0, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "max": 1.0}
HOUR_S, DAY_S = 3600.0, 86400.0

LAST_DATE_S = 253402300800.0  # the year 10,000, which calendars here cannot express

LONG_GAP_S = 3 * DAY_S
"""A pause in arrivals that is worth telling: a holiday is shorter, a log that was interrupted is not."""

DOMINANT_SHARE = 0.25
"""Share of all jobs from which one user shapes the results of a whole trace."""


def describe(trace: Trace) -> dict[str, Any]:
    """Facts about a trace as nested dictionaries of numbers, texts and lists; what is not known is absent or None."""
    jobs = trace.jobs.frame
    submit, duration = trace.jobs.floats("submit_s"), trace.jobs.floats("duration_s")
    facts: dict[str, Any] = {
        "name": trace.name,
        "format": trace.format,
        "source": trace.source,
        "sha256": trace.sha256,
        "start": start_text(trace),
        "jobs": len(trace.jobs),
        "first_submit_s": float(submit.min(initial=np.inf)) if len(submit) else None,
        "last_submit_s": float(submit.max(initial=0.0)) if len(submit) else None,
        "span_s": float(np.ptp(submit)) if len(submit) else 0.0,
        "cluster": _cluster(trace),
        "offered_load": {kind: value for kind, value in offered_load(trace).items() if value is not None},
        "users": jobs["user"].drop_nulls().n_unique(),
        "groups": jobs["group"].drop_nulls().n_unique(),
        "queues": jobs["queue"].drop_nulls().n_unique(),
        "outcomes": _counts(jobs["outcome"]),
        "size": _sizes(trace),
        "duration_s": _quantiles(duration),
        "interarrival_s": _arrivals(submit),
        "daily_cycle": _shares(calendar(trace)["hour"].to_numpy(), 24),
        "weekly_cycle": _shares(calendar(trace)["weekday"].to_numpy(), 7),
        "clock": clock_name(trace),
        "estimates": _estimates(trace),
        "recorded_wait_s": _quantiles(jobs["recorded_wait_s"].drop_nulls().to_numpy()),
        "larger_than_cluster": _larger(trace),
        "cleaning": _cleaning(trace),
        "header": dict(trace.header),
    }
    facts["defects"] = _defects(trace, facts)
    return facts


def start_text(trace: Trace) -> str | None:
    """Second 0 of the trace as an ISO time in UTC; None when the log does not say."""
    if trace.start_unix_s is None or trace.start_unix_s >= LAST_DATE_S:
        return None
    return datetime.datetime.fromtimestamp(trace.start_unix_s, tz=datetime.UTC).isoformat()


def size_resource(trace: Trace) -> str:
    """The resource that a trace's sizes are told in: GPUs where jobs ask for any, else CPUs."""
    return "gpus" if float(trace.jobs.frame["gpus"].sum()) > 0 else "cpus"


def sizes(trace: Trace, resource: str | None = None) -> FloatArray:
    """Units of ``resource`` that each job holds over all its tasks, shape (J,)."""
    return trace.jobs.floats(resource or size_resource(trace)) * trace.jobs.ints("tasks")


def offered_load(trace: Trace) -> dict[str, float | None]:
    """Work of all jobs over what the cluster could do between the first and the last submission, per resource."""
    submit, duration = trace.jobs.floats("submit_s"), trace.jobs.floats("duration_s")
    span = float(np.ptp(submit)) if len(submit) else 0.0
    loads: dict[str, float | None] = {}
    for kind in RESOURCES:
        total = trace.cluster.total(kind)
        work = float((sizes(trace, kind) * duration).sum())
        loads[kind] = work / (total * span) if total and span > 0 and work > 0 else None
    return loads


def clock_name(trace: Trace) -> str:
    """Which clock hours of the day are told by: the site's zone, UTC, or the trace's own start."""
    if trace.start_unix_s is None:
        return "hours since the trace's start"
    zone = trace.header.get("TimeZoneString", "").strip()
    return zone if zone in zoneinfo.available_timezones() else "UTC"


def calendar(trace: Trace) -> pl.DataFrame:
    """Hour of the day (0 to 23) and weekday (0 Monday to 6) of every submission on the trace's clock."""
    import polars as pl

    zone = clock_name(trace)
    seconds = trace.jobs.frame["submit_s"] + (trace.start_unix_s or 0.0)
    stamps = (seconds * 1e3).cast(pl.Int64).cast(pl.Datetime("ms", "UTC"))
    if zone in zoneinfo.available_timezones():
        stamps = stamps.dt.convert_time_zone(zone)
    weekday = stamps.dt.weekday().cast(pl.Int64) - 1
    if trace.start_unix_s is None:
        weekday = (seconds // DAY_S).cast(pl.Int64) % 7
    return pl.DataFrame({"hour": stamps.dt.hour().cast(pl.Int64), "weekday": weekday})


def _quantiles(values: FloatArray) -> dict[str, float] | None:
    """Mean and quantiles of a sample with its size; None when it is empty."""
    if not len(values):
        return None
    levels = np.quantile(values, list(QUANTILES.values()))
    named = dict(zip(QUANTILES, (float(level) for level in levels), strict=True))
    return {"count": float(len(values)), "mean": float(values.mean()), **named}


def _counts(column: pl.Series) -> dict[str, int]:
    counted = column.value_counts(sort=True)
    return {str(name): int(count) for name, count in counted.iter_rows()}


def _shares(cells: Any, bins: int) -> list[float]:
    counts = np.bincount(cells, minlength=bins)
    return [round(float(count), 6) for count in counts / max(1, counts.sum())]


def _cluster(trace: Trace) -> dict[str, Any]:
    totals = {kind: trace.cluster.total(kind) for kind in RESOURCES}
    known = {kind: value for kind, value in totals.items() if value is not None}
    return {"name": trace.cluster.name, "nodes": trace.cluster.num_nodes, **known}


def _sizes(trace: Trace) -> dict[str, Any]:
    held = sizes(trace)
    whole = held[held >= 1]
    powers = np.log2(whole) == np.round(np.log2(whole))
    return {
        "resource": size_resource(trace),
        **(_quantiles(held) or {}),
        "single_share": float(np.mean(held == 1)) if len(held) else 0.0,
        "power_of_two_share": float(powers.sum() / max(1, len(held))),
        "below_one_share": float(np.mean((held > 0) & (held < 1))) if len(held) else 0.0,
    }


def _arrivals(submit: FloatArray) -> dict[str, float] | None:
    """Quantiles of the times between submissions, their coefficient of variation, and the share that is 0.

    ``cv`` is 1 for a Poisson process; ``burstiness`` is (σ − μ) / (σ + μ): 0 for Poisson, towards 1 for bursts
    (Goh & Barabási, EPL 81, 2008).
    """
    gaps = np.diff(submit)
    facts = _quantiles(gaps)
    if facts is None or facts["mean"] <= 0:
        return facts
    mean, deviation = float(gaps.mean()), float(gaps.std())
    facts["cv"] = deviation / mean
    facts["burstiness"] = (deviation - mean) / (deviation + mean)
    facts["simultaneous_share"] = float(np.mean(gaps == 0))
    return facts


def _estimates(trace: Trace) -> dict[str, Any]:
    """How run times compare with what users asked for."""
    requested, duration = trace.jobs.floats("requested_s"), trace.jobs.floats("duration_s")
    known: BoolArray = np.isfinite(requested)
    facts: dict[str, Any] = {"known_share": float(known.mean()) if len(known) else 0.0}
    if known.any():
        accuracy = duration[known] / requested[known]
        facts["accuracy"] = _quantiles(accuracy)
        facts["exceeding_share"] = float(np.mean(accuracy > 1))
    return facts


def larger_than_cluster(trace: Trace) -> BoolArray:
    """(J,) True for jobs that the empty cluster could not hold: in total, or one task on any node."""
    too_large = np.zeros(len(trace.jobs), dtype=np.bool_)
    for kind in RESOURCES:
        amounts = [getattr(group, kind) for group in trace.cluster.groups]
        if any(amount is None for amount in amounts):
            continue  # a resource that some node does not state is never a constraint there
        per_task = trace.jobs.floats(kind)
        total = sum(group.count * amount for group, amount in zip(trace.cluster.groups, amounts, strict=True))
        too_large |= (per_task * trace.jobs.ints("tasks") > total + 1e-9) | (per_task > max(amounts) + 1e-9)
    return too_large


def _larger(trace: Trace) -> dict[str, Any]:
    mask = larger_than_cluster(trace)
    return {"jobs": int(mask.sum()), "share": float(mask.mean()) if len(mask) else 0.0}


def _cleaning(trace: Trace) -> dict[str, Any]:
    cleaning = trace.cleaning
    return {
        "rows_read": cleaning.rows_read,
        "rows_dropped": cleaning.rows_dropped,
        "dropped": dict(cleaning.dropped),
        "adjusted": dict(cleaning.adjusted),
        "bad_rows": [str(row) for row in cleaning.bad_rows],
    }


def _defects(trace: Trace, facts: Mapping[str, Any]) -> list[str]:
    """Sentences on what a user of the trace should know before trusting a result."""
    found: list[str] = []
    jobs = max(1, facts["jobs"])
    larger = facts["larger_than_cluster"]["jobs"]
    if larger:
        found.append(f"{larger:,} jobs are larger than the cluster and will be rejected")
    exceeding = facts["estimates"].get("exceeding_share", 0.0)
    if exceeding > 0:
        found.append(f"{exceeding:.1%} of the jobs with a requested time run past it")
    unknown = 1 - facts["estimates"]["known_share"]
    if unknown > 0:
        found.append(f"{unknown:.1%} of the jobs have no requested time")
    submit = trace.jobs.floats("submit_s")
    gaps = np.diff(submit)
    if len(gaps) and gaps.max() > LONG_GAP_S:
        at = int(gaps.argmax())
        found.append(f"no arrivals for {gaps[at] / DAY_S:.1f} days after day {submit[at] / DAY_S:.1f}")
    users = trace.jobs.frame["user"].drop_nulls().value_counts(sort=True)
    if users.height > 1 and users["count"][0] / jobs > DOMINANT_SHARE:
        found.append(f"user {users['user'][0]!r} sent {users['count'][0] / jobs:.0%} of the jobs")
    loads = facts["offered_load"]
    found.extend(f"offered load of {kind} is {load:.2f}: queues grow" for kind, load in loads.items() if load > 1)
    return found
