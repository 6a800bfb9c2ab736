"""The curves and tables that reports draw, computed from results: small whatever the number of jobs.

Pure functions of results; they draw and write nothing. The HTML report, the figures and other readers share them, so
that a picture and a table of the same run never disagree.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.metrics import bounded_slowdown
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.report.formats import DAY_S, grouped
from shunter.sim.result import Result

if TYPE_CHECKING:
    import polars as pl

MAX_SIZE_CLASSES = 8
QUANTILES = (0.25, 0.5, 0.75, 0.95)


def unique_labels(results: Sequence[Result]) -> list[str]:
    """Labels of the runs; what tells equal ones apart (placement, else seed, else a number) is added to them."""
    labels = [r.label for r in results]
    for suffixes in ([f" ({r.placement})" for r in results], [f" seed {r.seed}" for r in results]):
        repeated = {label for label in labels if labels.count(label) > 1}
        with_suffix = [label + s if label in repeated else label for label, s in zip(labels, suffixes, strict=True)]
        if len(set(with_suffix)) > len(set(labels)):
            labels = with_suffix
    return [
        f"{label} #{labels[: i + 1].count(label)}" if label in labels[:i] else label for i, label in enumerate(labels)
    ]


def primary_resource(results: Sequence[Result]) -> str:
    """``gpus`` when any run used GPUs, else ``cpus``: what utilisation and job sizes are counted in."""
    import polars as pl

    used = (r.scan("timeline").select((pl.col("used_gpus") > 0).any()).collect().item() for r in results)
    return "gpus" if any(used) else "cpus"


def started(result: Result) -> pl.DataFrame:
    """The jobs that ran: those with a start and an end."""
    import polars as pl

    return result.jobs.filter(pl.col("start_s").is_not_null() & pl.col("end_s").is_not_null())


def slowdowns(frame: pl.DataFrame) -> FloatArray:
    """(J,) bounded slowdown of started jobs."""
    submit, start, end = (frame[c].to_numpy() for c in ("submit_s", "start_s", "end_s"))
    return bounded_slowdown(start - submit, end - start)


def extremes(results: Sequence[Result], column: str) -> tuple[float, float] | None:
    """Least and largest value of a job column over all runs; None where no job has one."""
    values = [v for r in results if len(v := r.jobs[column].drop_nulls().to_numpy())]
    return (min(float(v.min()) for v in values), max(float(v.max()) for v in values)) if values else None


def time_span(results: Sequence[Result]) -> tuple[float, float]:
    """First submit and last end over all runs (s); at least one second apart."""
    first, last_submit = extremes(results, "submit_s") or (0.0, 0.0)
    _, last = extremes(results, "end_s") or (0.0, last_submit)
    return first, max(first + 1.0, last)


# Waits ------------------------------------------------------------------------------------------------------------


def wait_grid(results: Sequence[Result], points: int = 160) -> FloatArray:
    """(points,) waits from one second to the longest of all runs, evenly spaced on a logarithmic axis."""
    _, longest = extremes(results, "wait_s") or (0.0, 0.0)
    return np.geomspace(1.0, max(10.0, longest), points)


def wait_cdf(result: Result, grid: FloatArray) -> FloatArray:
    """Share of the started jobs that waited at most ``grid`` seconds, shape of ``grid``; zeros for no jobs."""
    waits = np.sort(result.jobs["wait_s"].drop_nulls().to_numpy())
    if len(waits) == 0:
        return np.zeros(len(grid))
    # A relative nanosecond more, so that the longest wait itself is counted in spite of geomspace's rounding.
    counts = np.searchsorted(waits, grid * (1 + 1e-9), side="right")
    return np.asarray(counts / len(waits), dtype=np.float64)


# Time series ------------------------------------------------------------------------------------------------------


def step_means(times_s: FloatArray, values: FloatArray, edges_s: FloatArray) -> FloatArray:
    """Means over time of a step function in each bin.

    Args:
        times_s: (T,) rising instants; ``values`` hold from each on. Before the first and after the last it is 0.
        values: (T,) values.
        edges_s: (B + 1,) rising edges of the bins.

    Returns:
        (B,) exact time-weighted means.
    """
    if len(times_s) == 0:
        return np.zeros(len(edges_s) - 1)
    integral = np.concatenate([[0.0], np.cumsum(values[:-1] * np.diff(times_s))])
    return np.asarray(np.diff(np.interp(edges_s, times_s, integral)) / np.diff(edges_s))


def timeline_means(result: Result, column: str, edges_s: FloatArray) -> FloatArray:
    """(B,) time-weighted means of a timeline column between ``edges_s``; nulls count as 0."""
    import polars as pl

    steps = result.scan("timeline").select("time_s", pl.col(column).cast(pl.Float64).fill_null(0)).collect()
    return step_means(steps["time_s"].to_numpy(), steps[column].to_numpy(), edges_s)


# Job sizes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SizeClasses:
    """Classes of job sizes, small to large: ``bounds[i]`` is the largest size of class ``i``."""

    bounds: FloatArray
    labels: tuple[str, ...]

    def index(self, sizes: FloatArray) -> IntArray:
        """(J,) class of each size."""
        return np.searchsorted(self.bounds, sizes * (1 - 1e-12), side="left").astype(np.int64)


def size_classes(amounts: FloatArray) -> SizeClasses:
    """At most eight classes that double (or grow fourfold, eightfold, …) and cover ``amounts``; empty ones left out."""
    largest = float(amounts.max()) if len(amounts) else 1.0
    ratio = 2
    while largest > float(ratio) ** (MAX_SIZE_CLASSES - 1):
        ratio *= 2
    bounds = [float(ratio) ** i for i in range(MAX_SIZE_CLASSES) if ratio ** (i - 1) < largest or i == 0]
    classes = SizeClasses(np.asarray(bounds), tuple(class_label(b, ratio) for b in bounds))
    if len(amounts) == 0:
        return classes
    if (amounts < 1).any():
        classes = SizeClasses(np.asarray([1 - 1e-9, *bounds]), ("< 1", *classes.labels))
    used = np.unique(classes.index(amounts))
    return SizeClasses(classes.bounds[used], tuple(classes.labels[i] for i in used))


def class_label(bound: float, ratio: int) -> str:
    """``1``, ``2``, ``3–4``, ``5–8`` …: the whole sizes up to ``bound`` and above the class before."""
    low, high = int(bound // ratio) + 1, int(bound)
    return grouped(high) if low >= high else f"{grouped(low)}–{grouped(high)}"


def sizes(result: Result, resource: str) -> FloatArray:
    """(J,) amount of ``resource`` that each started job holds."""
    return started(result)[resource].fill_null(0).to_numpy().astype(np.float64, copy=False)


def slowdown_by_size(result: Result, classes: SizeClasses, resource: str) -> list[dict[str, float] | None]:
    """Per size class the number of jobs, ``p25, p50, p75, p95`` and mean of the bounded slowdown; None when empty."""
    import polars as pl

    frame = started(result)
    index = classes.index(sizes(result, resource))
    rows = (
        pl.DataFrame({"class": index, "slowdown": slowdowns(frame)})
        .group_by("class")
        .agg(
            pl.len().alias("jobs"),
            pl.col("slowdown").mean().alias("mean"),
            *(pl.col("slowdown").quantile(q, "linear").alias(f"p{round(100 * q)}") for q in QUANTILES),
        )
    )
    found: list[dict[str, float] | None] = [None] * len(classes.labels)
    for row in rows.to_dicts():
        found[row.pop("class")] = row
    return found


# Gantt ------------------------------------------------------------------------------------------------------------

MAX_GANTT_JOBS = 400


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time to look at closely."""

    title: str
    start_s: float
    end_s: float


def interesting_windows(results: Sequence[Result], start_s: float | None = None) -> list[Window]:
    """The first busy day and the day of the deepest queue of the first run, each shortened to about 400 jobs.

    A day is busy when its mean queue is at least the mean over all days. ``start_s`` asks for one window from there.
    """
    first, last = time_span(results)
    if start_s is not None:
        return [shortened(results, Window("Chosen window", start_s, start_s + DAY_S))]
    edges = np.arange(first, last + DAY_S, DAY_S)
    queue = timeline_means(results[0], "queue_length", edges)
    if queue.max() <= 0:  # nobody ever waits: the day with the most running jobs shows most
        busiest = int(np.argmax(timeline_means(results[0], "running_jobs", edges)))
        return [shortened(results, Window("Busiest day", edges[busiest], edges[busiest] + DAY_S))]
    days = {"First busy day": int(np.argmax(queue >= queue.mean())), "Deepest queue": int(np.argmax(queue))}
    if len(set(days.values())) == 1:
        days = {"Deepest queue": days["Deepest queue"]}
    return [shortened(results, Window(title, edges[day], edges[day] + DAY_S)) for title, day in days.items()]


def shortened(results: Sequence[Result], window: Window) -> Window:
    """``window`` halved until no run has more than 400 jobs in it, but not below six hours: less tells no story.

    It ends with the last job at the latest.
    """
    spans = [(job["start_s"].to_numpy(), job["end_s"].to_numpy()) for job in (started(r) for r in results)]
    length = window.end_s - window.start_s
    while length > DAY_S / 4:
        end = window.start_s + length
        if all(np.sum((s < end) & (e > window.start_s)) <= MAX_GANTT_JOBS for s, e in spans):
            break
        length /= 2
    last = time_span(results)[1]
    end = window.start_s + length
    return Window(window.title, window.start_s, min(end, last) if last > window.start_s else end)


@dataclass(frozen=True, slots=True)
class Gantt:
    """Jobs of a window packed onto lanes (one a CPU or GPU).

    Attributes:
        jobs: Rows of the job table, by start time.
        pieces: Per job the ``(first lane, number of lanes)`` it holds; several where no free stretch was long enough.
        lanes: Lanes in use at most, or the cluster's capacity where it is known and larger.
        left_out: Jobs in the window that are not shown, the smallest ones.
    """

    jobs: pl.DataFrame
    pieces: tuple[tuple[tuple[float, float], ...], ...]
    lanes: float
    left_out: int


def gantt(result: Result, window: Window, resource: str) -> Gantt:
    """The jobs that run inside ``window``, packed. Lanes are made up for display: a log does not name processors."""
    import polars as pl

    inside = (pl.col("start_s") < window.end_s) & (pl.col("end_s") > window.start_s) & (pl.col(resource) > 0)
    jobs = started(result).filter(inside)
    left_out = max(0, jobs.height - MAX_GANTT_JOBS)
    if left_out:
        visible = pl.min_horizontal("end_s", window.end_s) - pl.max_horizontal("start_s", window.start_s)
        jobs = jobs.sort(pl.col(resource) * visible, descending=True, maintain_order=True).head(MAX_GANTT_JOBS)
    jobs = jobs.sort("start_s", "submit_s", "job_id")
    starts = np.maximum(jobs["start_s"].to_numpy(), window.start_s)
    pieces, lanes = pack_lanes(starts, jobs["end_s"].to_numpy(), jobs[resource].to_numpy().astype(np.float64))
    return Gantt(jobs, pieces, max(lanes, result.capacity(resource) or 0.0), left_out)


def pack_lanes(
    starts_s: FloatArray, ends_s: FloatArray, sizes: FloatArray
) -> tuple[tuple[tuple[tuple[float, float], ...], ...], float]:
    """Lanes for jobs given by rising start times: the lowest free stretch that holds the whole job, else several.

    Args:
        starts_s: (J,) start times, rising.
        ends_s: (J,) end times.
        sizes: (J,) lanes that each job needs; fractions are kept to a thousandth.

    Returns:
        Per job its ``(first lane, lanes)`` pieces, and the number of lanes used.

    Cost: O(J × stretches); meant for hundreds of jobs.
    """
    needs = np.maximum(1, np.round(sizes * 1000).astype(np.int64))
    free: list[tuple[int, int]] = []  # disjoint stretches (low, high) below ``top``, sorted
    held: list[list[tuple[int, int]]] = [[] for _ in starts_s]
    running: list[tuple[float, int]] = []
    top = 0
    for job, start in enumerate(starts_s):
        while running and running[0][0] <= start:
            free = merged(free + held[heapq.heappop(running)[1]])
        held[job], free, top = take(free, int(needs[job]), top)
        heapq.heappush(running, (float(ends_s[job]), job))
    pieces = tuple(tuple((low / 1000, (high - low) / 1000) for low, high in stretches) for stretches in held)
    return pieces, top / 1000


def take(free: list[tuple[int, int]], need: int, top: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int]:
    """Take ``need`` lanes from the free stretches: (taken, still free, highest lane ever used)."""
    for i, (low, high) in enumerate(free):
        if high - low >= need:
            rest = [(low + need, high)] if high - low > need else []
            return [(low, low + need)], free[:i] + rest + free[i + 1 :], top
    taken: list[tuple[int, int]] = []
    left: list[tuple[int, int]] = []
    for low, high in free:
        part = min(need, high - low)
        if part:
            taken.append((low, low + part))
        if part < high - low:
            left.append((low + part, high))
        need -= part
    if need:
        taken.append((top, top + need))
        top += need
    return merged(taken), left, top


def merged(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted stretches with touching ones joined."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(stretches):
        if joined and joined[-1][1] == low:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined


# Tables -----------------------------------------------------------------------------------------------------------


def waits_by(results: Sequence[Result], column: str, resource: str, top: int = 10) -> list[dict[str, Any]]:
    """The ``top`` values of ``user`` or ``group`` by resource time in the first run, with each run's mean wait.

    Each row has ``name, jobs, resource_s, share`` (of the resource time of all started jobs) and ``waits_s`` (one a
    run, None where no job of that name started). Empty when the log names nobody or only one.
    """
    import polars as pl

    if results[0].jobs[column].n_unique() - (results[0].jobs[column].null_count() > 0) < 2:
        return []
    area = (pl.col(resource).fill_null(0) * (pl.col("end_s") - pl.col("start_s"))).sum()
    tables = [
        started(r).group_by(column).agg(pl.len().alias("jobs"), area.alias("area"), pl.col("wait_s").mean())
        for r in results
    ]
    total = float(tables[0]["area"].sum()) or 1.0
    head = tables[0].filter(pl.col(column).is_not_null()).sort("area", column, descending=[True, False]).head(top)
    waits = [dict(zip(t[column], t["wait_s"], strict=True)) for t in tables]
    return [
        {
            "name": row[column],
            "jobs": row["jobs"],
            "resource_s": row["area"],
            "share": row["area"] / total,
            "waits_s": [w.get(row[column]) for w in waits],
        }
        for row in head.to_dicts()
    ]


def warnings(result: Result) -> list[str]:
    """What a reader must know before trusting the numbers, one sentence each.

    Rejected jobs with their reasons, rows of the log that were left out or changed, passes that were cut short or put
    off, and the manifest's own ``warnings``.
    """
    import polars as pl

    rejected = result.jobs.filter(pl.col("state") == "rejected")
    reasons = rejected.group_by(pl.col("reason").fill_null("no reason given")).agg(pl.len().alias("n"))
    said = [f"{counted(n, 'job')} rejected: {reason}" for reason, n in reasons.sort("n", "reason").iter_rows()]
    trace = result.manifest.get("trace", {})
    said += [f"{counted(n, 'row')} of the log left out: {rule}" for rule, n in trace.get("dropped", {}).items() if n]
    said += [f"{counted(n, 'row')} of the log adjusted: {rule}" for rule, n in trace.get("adjusted", {}).items() if n]
    if n := result.manifest.get("passes_cut_short", 0):
        said.append(f"{counted(n, 'scheduling pass', 'es')} cut short at the backfill depth")
    if n := result.manifest.get("passes_put_off", 0):
        said.append(f"{counted(n, 'scheduling pass', 'es')} put off by the interval between passes")
    return said + [str(w) for w in result.manifest.get("warnings", ())]


def counted(number: int, noun: str, plural: str = "s") -> str:
    """``1 job``, ``12 jobs``."""
    return f"{grouped(number)} {noun}{'' if number == 1 else plural}"
