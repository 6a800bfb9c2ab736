"""How metrics are shown to people: labels, units, which direction is better, and numbers in human words.

Owns no value: the metrics themselves are computed in the core. Shared by the HTML report, the figures and the tables
of the command line, so that a metric reads the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shunter.scheduler.metrics import METRICS, Metric

MINUTE_S = 60.0
HOUR_S = 60 * MINUTE_S
DAY_S = 24 * HOUR_S

MINUS = "−"
NARROW = "\u202f"
"""Narrow no-break space: between thousands, so that a number never breaks over two lines."""

UNITS = {"cpus": "CPUs", "gpus": "GPUs"}
ONE_UNIT_HOURS = {"cpus": "CPU hours", "gpus": "GPU hours"}

Kind = Literal["duration", "ratio", "percent", "count", "amount"]


@dataclass(frozen=True, slots=True)
class MetricView:
    """How one metric is shown.

    Attributes:
        label: Full name.
        short: Column heading in a narrow table.
        kind: How the number is written.
        unit: Unit of the exact value; empty for a plain ratio.
        less_is_better: None where neither direction is.
        meaning: One phrase that says what is counted.
    """

    label: str
    short: str
    kind: Kind
    unit: str
    less_is_better: bool | None
    meaning: str


LABELS: Mapping[str, tuple[str, str, Kind]] = {
    "avg_wait_s": ("Average wait", "Wait", "duration"),
    "p50_wait_s": ("Median wait", "Wait p50", "duration"),
    "p95_wait_s": ("95th percentile of waits", "Wait p95", "duration"),
    "p99_wait_s": ("99th percentile of waits", "Wait p99", "duration"),
    "max_wait_s": ("Longest wait", "Wait max", "duration"),
    "avg_jct_s": ("Average time in the system", "JCT", "duration"),
    "p50_jct_s": ("Median time in the system", "JCT p50", "duration"),
    "p95_jct_s": ("95th percentile of times in the system", "JCT p95", "duration"),
    "p99_jct_s": ("99th percentile of times in the system", "JCT p99", "duration"),
    "avg_slowdown": ("Average slowdown", "Slowdown", "ratio"),
    "avg_bounded_slowdown": ("Average bounded slowdown", "Bounded slowdown", "ratio"),
    "p95_bounded_slowdown": ("95th percentile of bounded slowdowns", "Bounded slowdown p95", "ratio"),
    "makespan_s": ("Makespan", "Makespan", "duration"),
    "utilisation": ("Utilisation", "Utilisation", "percent"),
    "gpu_utilisation": ("GPU utilisation", "GPU util.", "percent"),
    "cpu_utilisation": ("CPU utilisation", "CPU util.", "percent"),
    "goodput": ("Goodput", "Goodput", "percent"),
    "throughput_jobs_per_h": ("Throughput", "Jobs/h", "amount"),
    "avg_queue_length": ("Average queue length", "Queue", "amount"),
    "max_queue_length": ("Longest queue", "Queue max", "count"),
    "fragmentation": ("Fragmentation", "Fragm.", "amount"),
    "allocation_ratio": ("Allocation ratio", "Allocated", "percent"),
    "preemptions": ("Preemptions", "Preempt.", "count"),
    "restarts": ("Restarts", "Restarts", "count"),
    "lost_gpu_s": ("GPU time lost", "GPU time lost", "duration"),
    "jain_fairness": ("Jain's fairness index", "Jain", "ratio"),
    "avg_ftf_rho": ("Average finish-time fairness ρ", "FTF ρ", "ratio"),
    "p95_ftf_rho": ("95th percentile of finish-time fairness ρ", "FTF ρ p95", "ratio"),
    "slo_attainment": ("SLO attainment", "SLO", "percent"),
    "energy_kwh": ("Energy", "Energy (kWh)", "amount"),
    "carbon_kg": ("Carbon", "Carbon (kg)", "amount"),
    "cost_total": ("Total cost", "Cost", "amount"),
    "cost_per_job": ("Cost per job", "Cost/job", "amount"),
    "cost_per_useful_gpu_hour": ("Cost per useful GPU hour", "Cost/GPU·h", "amount"),
    "jobs_completed": ("Jobs completed", "Completed", "count"),
    "jobs_failed": ("Jobs failed", "Failed", "count"),
    "jobs_rejected": ("Jobs rejected", "Rejected", "count"),
    "backfilled_jobs": ("Jobs backfilled", "Backfilled", "count"),
}
"""Name of a metric to its label, its column heading and the way its number is written."""

PLAIN_UNITS = ("ratio", "1", "money")
"""Units of the core's table that say nothing to a reader."""

HEADLINE_METRICS = (
    "avg_wait_s",
    "p95_wait_s",
    "max_wait_s",
    "avg_bounded_slowdown",
    "p95_bounded_slowdown",
    "avg_jct_s",
    "utilisation",
    "avg_queue_length",
    "makespan_s",
)
"""Columns of the first table, the most telling first."""


def metric_view(name: str) -> MetricView:
    """How ``name`` is shown; unit, direction and meaning are the core's, an unlabelled metric gets its own name."""
    plain = name.removesuffix("_s").replace("_", " ").capitalize()
    default: Kind = "duration" if name.endswith("_s") else "amount"
    label, short, kind = LABELS.get(name, (plain, plain, default))
    metric = METRICS.get(name, Metric("s" if name.endswith("_s") else "1", None, ""))
    unit = "" if metric.unit in PLAIN_UNITS else metric.unit
    return MetricView(label, short, kind, unit, metric.less_is_better, metric.meaning)


def metric_order(names: Iterable[str]) -> list[str]:
    """``names`` without repetition: the known metrics in the core's order, then the others by name."""
    present = set(names)
    return [n for n in METRICS if n in present] + sorted(present - set(METRICS))


def best_indices(name: str, values: Sequence[float | None]) -> frozenset[int]:
    """Positions of the best value, direction aware; empty where no direction is better or all values are equal."""
    less_is_better = metric_view(name).less_is_better
    known = [v for v in values if v is not None]
    if less_is_better is None or len(known) < 2 or min(known) == max(known):
        return frozenset()
    best = min(known) if less_is_better else max(known)
    return frozenset(i for i, v in enumerate(values) if v is not None and math.isclose(v, best, rel_tol=1e-12))


def duration(seconds: float) -> str:
    """Seconds in the two largest fitting units: ``5 h 41 min``, ``2 d 3 h``, ``4.2 s``, ``0 s``."""
    sign = MINUS if seconds < 0 else ""
    value = abs(seconds)
    if not math.isfinite(value):
        return "∞" if value > 0 else "–"
    if value < 9.995:
        return f"{sign}{value:.3g} s" if value else "0 s"
    if value < 59.5:
        return f"{sign}{value:.0f} s"
    for unit_s, unit, part_s, part in (
        (MINUTE_S, "min", 1.0, "s"),
        (HOUR_S, "h", MINUTE_S, "min"),
        (DAY_S, "d", HOUR_S, "h"),
    ):
        parts = round(value / part_s)
        limit_parts = {"min": 3600, "h": 48 * 60, "d": 10**12}[unit]
        if parts < limit_parts:
            whole, rest = divmod(parts, round(unit_s / part_s))
            if unit == "d" and whole >= 100:
                return f"{sign}{grouped(round(value / DAY_S))} d"
            return f"{sign}{whole} {unit} {rest} {part}" if rest else f"{sign}{whole} {unit}"
    raise AssertionError("unreachable: days take any number")


def grouped(value: int) -> str:
    """A whole number with narrow spaces between thousands."""
    return f"{value:,}".replace(",", NARROW).replace("-", MINUS)


def amount(value: float) -> str:
    """A number with three significant digits; whole numbers and those from 1,000 on without decimals."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "–"
    if abs(value) >= 999.5 or float(value).is_integer():
        return grouped(round(value))
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(digits, 6)}f}"
    return text.replace("-", MINUS)


def human(name: str, value: float | None) -> str:
    """A metric's value for a table; an absent one is an en dash."""
    if value is None:
        return "–"
    kind = metric_view(name).kind
    if kind == "duration":
        return duration(value)
    if kind == "percent":
        return f"{100 * value:.1f} %".replace("-", MINUS)
    if kind == "count":
        return grouped(round(value)) if float(value).is_integer() else amount(value)
    return amount(value)


def exact(name: str, value: float | None) -> str:
    """The whole number as computed, with its unit, for a read-out."""
    if value is None:
        return "not given by this run"
    unit = metric_view(name).unit
    return f"{value!r} {unit}".rstrip()
