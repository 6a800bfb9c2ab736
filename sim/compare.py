"""Paired comparison of two runs of the same jobs: how much each job gained, and how sure that is.

Jobs are paired by ``job_id``. Neighbouring jobs share a queue, so their differences are correlated, and an interval
that took them for independent would be far too narrow. The interval here resamples whole windows of consecutive jobs.
Pure: the same runs and seed give the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.metrics import bounded_slowdown
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.result import Result

if TYPE_CHECKING:
    import polars as pl

REPLICATES = 10_000
LEVEL = 0.95
MIN_WINDOWS = 5
"""Fewer windows give no interval worth the name; the approximation of Student's t below is good from here on."""

EQUAL = 1e-6
"""Differences up to this many seconds (or units of slowdown) count as equal: below what any log records."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity that every job has under both runs; less is better."""

    name: str
    label: str
    unit: str
    worse: str
    better: str


MEASURES = (
    Measure("wait_s", "wait", "s", "waits {} more", "waits {} less"),
    Measure("jct_s", "time in the system", "s", "needs {} longer to finish", "finishes {} sooner"),
    Measure("bounded_slowdown", "bounded slowdown", "", "slows jobs down {} more", "slows jobs down {} less"),
)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """``b − a`` of one measure over the paired jobs.

    Attributes:
        measure: ``wait_s``, ``jct_s`` or ``bounded_slowdown``.
        mean_a: Mean under the first run.
        mean_b: Mean under the second.
        difference: ``mean_b − mean_a``; negative where the second run is better.
        interval: 95 % interval of the difference; None with too few jobs.
        relative: ``difference / mean_a``; None where ``mean_a`` is 0.
        relative_interval: 95 % interval of ``relative``.
        better: Share of jobs that are better off under the second run.
        equal: Share of jobs for which it makes no difference.
        worse: Share of jobs that are worse off.
    """

    measure: str
    mean_a: float
    mean_b: float
    difference: float
    interval: tuple[float, float] | None
    relative: float | None
    relative_interval: tuple[float, float] | None
    better: float
    equal: float
    worse: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What ``compare`` found.

    Attributes:
        a: Label of the first run.
        b: Label of the second run.
        trace: Name of the trace.
        num_jobs: Jobs that started in both runs.
        num_left_out: Jobs that started in one or in none.
        seed: Seed of the resampling.
        differences: One per measure: wait, time in the system, bounded slowdown.
        windows: One row a window of consecutive jobs: ``window, num_jobs, submit_from_s, submit_to_s`` and for each
            measure its mean under both runs and their difference (``wait_s_a, wait_s_b, wait_s_difference``, …).
    """

    a: str
    b: str
    trace: str
    num_jobs: int
    num_left_out: int
    seed: int
    differences: tuple[PairedDifference, ...]
    windows: pl.DataFrame

    def difference(self, measure: str) -> PairedDifference:
        """The difference of one measure.

        Raises:
            KeyError: There is no such measure.
        """
        return {d.measure: d for d in self.differences}[measure]

    def statement(self, measure: str = "wait_s") -> str:
        """The finding in one sentence: ``b waits 12 % less than a (95 % interval 8 to 15 %)``."""
        found = self.difference(measure)
        words = {m.name: m for m in MEASURES}[measure]
        if found.interval is None:
            return f"{self.num_jobs} jobs are too few for an interval; at least {MIN_WINDOWS} are needed"
        if found.equal == 1.0:
            return f"{self.b} and {self.a} give every job the same {words.label}"
        if not found.is_clear:
            shown = " to ".join(readable(v, words.unit, signed=True) for v in found.interval)
            return (
                f"no difference in {words.label} between {self.b} and {self.a} that the 95 % interval "
                f"({shown}) can tell from zero"
            )
        verb = words.worse if found.difference > 0 else words.better
        if found.relative is None or found.relative_interval is None:
            amount = readable(abs(found.difference), words.unit)
            shown = " to ".join(readable(v, words.unit) for v in sorted(map(abs, found.interval)))
        else:
            amount = f"{percent(abs(found.relative))} %"
            shown = " to ".join(percent(v) for v in sorted(map(abs, found.relative_interval))) + " %"
        return f"{self.b} {verb.format(amount)} than {self.a} (95 % interval {shown})"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return {
            "a": self.a,
            "b": self.b,
            "trace": self.trace,
            "jobs": self.num_jobs,
            "jobs_left_out": self.num_left_out,
            "seed": self.seed,
            "level": LEVEL,
            "replicates": REPLICATES,
            "differences": {
                d.measure: {
                    **{k: v for k, v in asdict(d).items() if k != "measure"},
                    "statement": self.statement(d.measure),
                }
                for d in self.differences
            },
            "windows": self.windows.to_dicts(),
        }


def readable(value: float, unit: str, *, signed: bool = False) -> str:
    """Seconds in human units, other values with three digits; with a sign where asked."""
    from shunter.sim.report.formats import amount, duration

    text = duration(value) if unit == "s" else amount(value)
    return f"+{text}" if signed and value > 0 else text


def percent(ratio: float) -> str:
    """A ratio in per cent without the sign: whole from 10 on, else with one decimal."""
    return f"{100 * ratio:.0f}" if ratio >= 0.0995 else f"{100 * ratio:.1f}"


def compare(
    a: Result, b: Result, *, seed: int = 0, windows: int = 20, names: tuple[str, str] | None = None
) -> Comparison:
    """Compare two runs of the same jobs, job by job.

    The interval is a block bootstrap: the jobs, in submit order, are cut into ``windows`` windows of consecutive jobs
    of (nearly) equal number; 10,000 times, as many windows are drawn with replacement and the mean difference of their
    jobs is taken. Quantiles are widened for the small number of windows as in Hesterberg's expanded percentile
    interval. It assumes windows much longer than a backlog lives; with fewer windows that holds better, at the price
    of a wider interval.

    Args:
        a: The run to compare with.
        b: The other run.
        seed: Seed of the resampling.
        windows: Number of windows, at least 5; less only where there are fewer jobs.
        names: What to call the two runs; by default their labels.

    Raises:
        UsageError: The runs do not replay the same jobs, or share no started job, or ``windows`` is too small.

    Sources: Künsch, The jackknife and the bootstrap for general stationary observations, Ann. Stat. 17(3), 1989;
    Hesterberg, What teachers should know about the bootstrap, Am. Stat. 69(4), 2015.
    """
    if windows < MIN_WINDOWS:
        raise UsageError(f"--windows {windows}: at least {MIN_WINDOWS} windows are needed for an interval")
    paired, num_all = paired_jobs(a, b)
    num_jobs = paired.height
    bounds = np.linspace(0, num_jobs, min(windows, num_jobs) + 1).round().astype(np.int64)
    values = {m.name: (paired[f"{m.name}_a"].to_numpy(), paired[f"{m.name}_b"].to_numpy()) for m in MEASURES}
    weights = window_draws(len(bounds) - 1, np.random.default_rng(seed))
    label_a, label_b = names or distinct_labels(a, b)
    return Comparison(
        a=label_a,
        b=label_b,
        trace=a.trace,
        num_jobs=num_jobs,
        num_left_out=num_all - num_jobs,
        seed=seed,
        differences=tuple(paired_difference(name, *pair, bounds, weights) for name, pair in values.items()),
        windows=window_table(paired["submit_s"].to_numpy(), values, bounds),
    )


def distinct_labels(a: Result, b: Result) -> tuple[str, str]:
    """Names of the two runs; equal ones are told apart by placement, seed or number."""
    from shunter.sim.report.series import unique_labels

    first, second = unique_labels([a, b])
    return first, second


def paired_jobs(a: Result, b: Result) -> tuple[pl.DataFrame, int]:
    """Jobs that started in both runs, in submit order, with every measure under both; and the number of all jobs.

    Raises:
        UsageError: The runs do not replay the same jobs, or no job started in both.
    """
    import polars as pl

    refuse_different_jobs(a, b)
    both = a.jobs.select("job_id", "submit_s", "start_s", "end_s").join(
        b.jobs.select("job_id", "start_s", "end_s"), on="job_id", suffix="_b", how="inner", maintain_order="left"
    )
    started = both.drop_nulls().sort("submit_s", maintain_order=True)
    if started.is_empty():
        raise UsageError(f"no job started both under {a.label} and under {b.label}: there is nothing to compare")
    columns = {"submit_s": started["submit_s"].to_numpy()}
    for suffix, source in (("a", ""), ("b", "_b")):
        start, end = started[f"start_s{source}"].to_numpy(), started[f"end_s{source}"].to_numpy()
        wait = start - columns["submit_s"]
        columns |= {
            f"wait_s_{suffix}": wait,
            f"jct_s_{suffix}": end - columns["submit_s"],
            f"bounded_slowdown_{suffix}": bounded_slowdown(wait, end - start),
        }
    return pl.DataFrame(columns), both.height


def refuse_different_jobs(a: Result, b: Result) -> None:
    """Raise UsageError, with the first difference, unless both runs have the same jobs submitted at the same times."""
    import polars as pl

    only_a = a.jobs.join(b.jobs, on="job_id", how="anti", maintain_order="left")["job_id"]
    only_b = b.jobs.join(a.jobs, on="job_id", how="anti", maintain_order="left")["job_id"]
    if len(only_a) or len(only_b):
        first = f"job {only_a[0]!r} is only in the first" if len(only_a) else f"job {only_b[0]!r} is only in the second"
        raise UsageError(
            f"the runs do not replay the same jobs ({a.trace!r} and {b.trace!r}: {len(only_a)} only in the first run, "
            f"{len(only_b)} only in the second; {first}); compare runs of one trace and one window"
        )
    columns = [c for c in ("submit_s", "duration_s") if c in a.jobs.columns and c in b.jobs.columns]
    both = a.jobs.select("job_id", *columns).join(b.jobs.select("job_id", *columns), on="job_id", suffix="_b")
    for column in columns:
        odd = both.filter((pl.col(column) - pl.col(f"{column}_b")).abs() > EQUAL)
        if odd.height:
            job, mine, other = odd.row(0, named=True)["job_id"], odd[column][0], odd[f"{column}_b"][0]
            raise UsageError(
                f"the runs do not replay the same jobs: {column} of job {job!r} is {mine} in the first run and {other} "
                f"in the second ({odd.height} jobs differ)"
            )


def window_draws(num_windows: int, rng: np.random.Generator, block: int = 1) -> FloatArray | None:
    """(B, K) how often each window is drawn in each replicate; None for too few windows.

    With ``block`` above 1, so many consecutive windows are drawn together, and the last is followed by the first, so
    that each is drawn as often as any other (Politis & Romano, A circular block-resampling procedure for stationary
    data, 1992).
    """
    if num_windows < MIN_WINDOWS:
        return None
    if block == 1:
        return rng.multinomial(num_windows, np.full(num_windows, 1 / num_windows), size=REPLICATES).astype(np.float64)
    begins = rng.integers(0, num_windows, size=(REPLICATES, -(-num_windows // block), 1))
    drawn = ((begins + np.arange(block)) % num_windows).reshape(REPLICATES, -1)[:, :num_windows]
    places = drawn + num_windows * np.arange(REPLICATES)[:, None]
    counts = np.bincount(places.ravel(), minlength=REPLICATES * num_windows)
    return counts.reshape(REPLICATES, num_windows).astype(np.float64)


def paired_difference(
    measure: str, a: FloatArray, b: FloatArray, bounds: IntArray, weights: FloatArray | None
) -> PairedDifference:
    """Mean difference of one measure with its interval.

    Args:
        measure: Name of the measure.
        a: (J,) values under the first run, in submit order.
        b: (J,) values under the second.
        bounds: (K + 1,) rows at which windows begin and end.
        weights: (B, K) how often each window is drawn in each replicate.
    """
    delta = b - a
    mean_a, difference = float(a.mean()), float(delta.mean())
    interval = relative_interval = None
    if weights is not None:
        low, high = expanded_quantiles(weights.shape[1])
        sums = np.add.reduceat(delta, bounds[:-1])
        # About the overall mean: where every job gains the same, the interval closes to a point.
        spread = weights @ (sums - difference * np.diff(bounds)) / (weights @ np.diff(bounds))
        interval = (difference + float(np.quantile(spread, low)), difference + float(np.quantile(spread, high)))
        base = weights @ np.add.reduceat(a, bounds[:-1])
        if mean_a > 0 and (base > 0).all():
            ratios = (weights @ sums) / base
            relative_interval = (float(np.quantile(ratios, low)), float(np.quantile(ratios, high)))
    return PairedDifference(
        measure=measure,
        mean_a=mean_a,
        mean_b=float(b.mean()),
        difference=difference,
        interval=interval,
        relative=difference / mean_a if mean_a > 0 else None,
        relative_interval=relative_interval,
        better=float((delta < -EQUAL).mean()),
        equal=float((np.abs(delta) <= EQUAL).mean()),
        worse=float((delta > EQUAL).mean()),
    )


def expanded_quantiles(num_windows: int, level: float = LEVEL) -> tuple[float, float]:
    """Quantiles of the bootstrap distribution that make an interval from ``num_windows`` independent windows.

    A plain percentile interval of K values is too narrow by ``sqrt((K − 1) / K)`` and by the step from Student's t to
    the normal distribution; the expanded one takes ``Φ(−sqrt(K / (K − 1)) t)`` instead of 2.5 %. Student's quantile
    is Fisher and Cornish's expansion (1960), off by less than 0.01 from four degrees of freedom on.
    """
    normal = NormalDist()
    z, nu = normal.inv_cdf((1 + level) / 2), num_windows - 1
    t = z + (z**3 + z) / (4 * nu) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * nu**3)
    low = normal.cdf(-math.sqrt(num_windows / nu) * t)
    return low, 1 - low


def window_table(
    submit_s: FloatArray, values: dict[str, tuple[FloatArray, FloatArray]], bounds: IntArray
) -> pl.DataFrame:
    """One row a window: its jobs, first and last submit, and the means of every measure under both runs."""
    import polars as pl

    starts, ends = bounds[:-1], bounds[1:]
    counts = ends - starts
    columns: dict[str, Any] = {
        "window": np.arange(1, len(starts) + 1),
        "num_jobs": counts,
        "submit_from_s": submit_s[starts],
        "submit_to_s": submit_s[ends - 1],
    }
    for name, (a, b) in values.items():
        means = [np.add.reduceat(v, starts) / counts for v in (a, b)]
        columns |= {f"{name}_a": means[0], f"{name}_b": means[1], f"{name}_difference": means[1] - means[0]}
    return pl.DataFrame(columns)
