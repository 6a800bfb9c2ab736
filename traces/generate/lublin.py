"""The workload model of Lublin and Feitelson for rigid jobs on parallel machines.

Source: U. Lublin & D. G. Feitelson, "The workload on parallel supercomputers: modeling the characteristics of rigid
jobs", JPDC 63(11), 2003, and the constants of the authors' program m_lublin99.

- Size: 1 with probability ``serial``; otherwise 2^u with u two-stage uniform on [ulow, umed] (probability ``uprob``)
  and [umed, uhi], u rounded to a whole number with probability ``pow2``.
- Run time: e^g with g hyper-gamma, the first component chosen with probability ``pa · size + pb``; g ≤ 12.
- Arrivals: each job pays e^g "points", g ~ gamma(aarr · arar, barr), g ≤ 13; the half-hours of the day hold points in
  proportion to a gamma(anum, bnum) density over the half-hours from 05:30 on. The sum of points is therefore the
  arrival time on a clock on which the cycle is flat, and one interpolation turns it into seconds: the program's loop
  over buckets, without the loop (and without its truncation of each gap to whole seconds).

Second 0 of a generated trace is midnight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import FloatArray, IntArray
from shunter.traces.generate.estimates import ESTIMATE_PARAMETERS, requested_times
from shunter.traces.generate.numerics import draw, factor_for, gamma_cdf, zipf_shares
from shunter.traces.generate.params import Parameter, Values, stream
from shunter.traces.tables import Trace, make_jobs, pool

BUCKETS = 48
DAY_S = 86400.0
BUCKET_S = DAY_S / BUCKETS
FIRST_BUCKET = 11
"""The cycle's day starts at the eleventh half-hour, when least jobs arrive (the program's CYCLIC_DAY_START)."""
MAX_LOG_RUNTIME = 12.0
MAX_LOG_GAP = 13.0
MAX_REPEATS = 1000


@dataclass(frozen=True, slots=True)
class Constants:
    """One column of the published constants; ``uhi`` and ``umed`` as distances from log2 of the machine size."""

    serial: float
    pow2: float
    ulow: float
    umed_below_uhi: float
    uhi_below_log2: float
    uprob: float
    a1: float
    b1: float
    a2: float
    b2: float
    pa: float
    pb: float
    aarr: float
    barr: float
    anum: float
    bnum: float
    arar: float


# fmt: off
ALL = Constants(
    serial=0.244, pow2=0.576, ulow=0.8, umed_below_uhi=2.5, uhi_below_log2=0.0, uprob=0.86,
    a1=4.2, b1=0.94, a2=312.0, b2=0.03, pa=-0.0054, pb=0.78,
    aarr=10.2303, barr=0.4871, anum=8.1737, bnum=3.9631, arar=1.0225,
)
BATCH = Constants(
    serial=0.2927, pow2=0.6686, ulow=1.2, umed_below_uhi=2.0, uhi_below_log2=0.0, uprob=0.875,
    a1=6.57, b1=0.823, a2=639.1, b2=0.0156, pa=-0.003, pb=0.6986,
    aarr=6.0415, barr=0.8531, anum=6.1271, bnum=5.2740, arar=1.0519,
)
INTERACTIVE = Constants(
    serial=0.1541, pow2=0.625, ulow=1.0, umed_below_uhi=2.5, uhi_below_log2=1.5, uprob=0.705,
    a1=3.8351, b1=0.6605, a2=7.073, b2=0.6856, pa=-0.0118, pb=0.9156,
    aarr=6.5510, barr=0.6621, anum=8.9186, bnum=3.6680, arar=0.9797,
)
# fmt: on
STREAMS = {
    "all": (("all", ALL),),
    "batch": (("batch", BATCH),),
    "interactive": (("interactive", INTERACTIVE),),
    "mixed": (("batch", BATCH), ("interactive", INTERACTIVE)),
}


def constant(name: str, unit: str, meaning: str, **limits: float) -> Parameter:
    """A published constant as a parameter: off by default, with the three published values in its description."""
    published = ", ".join(
        f"{label} {getattr(c, name):g}"
        for label, c in zip(("all", "batch", "interactive"), (ALL, BATCH, INTERACTIVE), strict=True)
    )
    return Parameter(name, None, unit, f"{meaning} (published: {published})", **limits)  # type: ignore[arg-type]


LUBLIN_PARAMETERS = (
    Parameter("cpus", 128.0, "CPUs", "machine size", low=1, whole=True),
    Parameter(
        "variant",
        "all",
        "-",
        "which published constants: all jobs alike, only batch, only interactive, or mixed (both streams merged)",
        choices=tuple(STREAMS),
    ),
    Parameter("load", None, "-", "offered load to reach by scaling the arrivals; not given: as published", low=0.001),
    constant("serial", "-", "probability of a serial job", low=0, high=1),
    constant("pow2", "-", "probability of a parallel job whose size is a power of two", low=0, high=1),
    constant("ulow", "log2 CPUs", "log2 of the smallest parallel size", low=0),
    Parameter(
        "umed", None, "log2 CPUs", "where the two uniform stages meet (published: uhi − 2.5, batch uhi − 2)", low=0
    ),
    Parameter(
        "uhi", None, "log2 CPUs", "log2 of the largest size (published: of the machine; interactive 1.5 less)", low=0
    ),
    constant("uprob", "-", "probability of the first uniform stage", low=0, high=1),
    constant("a1", "-", "shape of the first gamma of the log run time", low=1e-6),
    constant("b1", "-", "scale of the first gamma of the log run time", low=1e-6),
    constant("a2", "-", "shape of the second gamma of the log run time", low=1e-6),
    constant("b2", "-", "scale of the second gamma of the log run time", low=1e-6),
    constant("pa", "1/CPU", "slope over size of the probability of the first gamma"),
    constant("pb", "-", "intercept of the probability of the first gamma"),
    constant("aarr", "-", "shape of the gamma of the log inter-arrival time in rush hours", low=1e-6),
    constant("barr", "-", "scale of the gamma of the log inter-arrival time", low=1e-6),
    constant("anum", "-", "shape of the gamma of the daily cycle", low=1e-6, high=200),
    constant("bnum", "half-hours", "scale of the gamma of the daily cycle", low=1e-6),
    constant("arar", "-", "ratio of aarr over all hours to rush hours", low=1e-6),
    Parameter("users", 0.0, "-", "number of users; 0: no user column", low=0, whole=True),
    Parameter("user_zipf", 1.0, "-", "exponent of the users' Zipf shares", low=0),
    *ESTIMATE_PARAMETERS,
)


@dataclass(frozen=True, slots=True)
class Stream:
    """One class of jobs: constants with the caller's changes, and the range of sizes for the machine."""

    label: str
    constants: Constants
    umed: float
    uhi: float


def lublin99(jobs: int, seed: int, values: Values) -> Trace:
    """A trace of the Lublin–Feitelson model; see the module's text and ``LUBLIN_PARAMETERS``.

    Raises:
        UsageError: The size range is empty (``ulow`` above ``uhi``), or changed constants make nearly every run time or
            gap longer than the model allows.
    """
    cpus = int(values.number("cpus"))
    streams = [configure(label, base, cpus, values) for label, base in STREAMS[values.word("variant")]]
    size = [sizes(s, cpus, jobs, stream(seed, f"lublin:size:{s.label}")) for s in streams]
    run = [runtimes(s.constants, n, stream(seed, f"lublin:run:{s.label}")) for s, n in zip(streams, size, strict=True)]
    paid = [points(s.constants, jobs, stream(seed, f"lublin:arrive:{s.label}")) for s in streams]
    clocks = [day_clock(s.constants) for s in streams]
    all_sizes, all_runs = np.concatenate(size), np.concatenate(run)
    factor, target = 1.0, values.optional("load")
    if target is not None and jobs > 1:
        work = all_sizes * all_runs

        def load(factor: float) -> float:
            # The cycle stays 24 h whatever the load: the points a job pays are scaled, not its arrival time.
            submit, order = merge(clocks, paid, factor, jobs)
            return float(work[order].sum()) / (cpus * max(float(submit[-1] - submit[0]), 1.0))

        factor = factor_for(load, target)
    submit, order = merge(clocks, paid, factor, jobs)
    columns: dict[str, object] = {
        "job_id": np.arange(1, jobs + 1),
        "submit_s": submit,
        "duration_s": all_runs[order],
        "tasks": all_sizes[order],
        "cpus": np.ones(jobs),
        **optional_columns(all_runs[order], values, seed),
    }
    if len(streams) > 1:
        columns["queue"] = np.array([s.label for s in streams])[order // jobs].tolist()
    return Trace(
        name=f"lublin99-{cpus}",
        jobs=make_jobs(columns),
        cluster=pool(cpus),
        source=f"generated by lublin99, {jobs} jobs, seed {seed}",
        format="lublin99",
        header={"model": "lublin99", "jobs": str(jobs), "seed": str(seed), **values.header()},
    )


def optional_columns(duration_s: FloatArray, values: Values, seed: int) -> dict[str, object]:
    """Columns that the published model does not have: estimates and users."""
    columns: dict[str, object] = {}
    requested = requested_times(duration_s, values, stream(seed, "lublin:estimates"))
    if requested is not None:
        columns["requested_s"] = requested
    if values.number("users"):
        shares = zipf_shares(int(values.number("users")), values.number("user_zipf"))
        users = draw(stream(seed, "lublin:users"), shares, len(duration_s))
        columns["user"] = np.array([f"u{i + 1}" for i in range(len(shares))])[users].tolist()
    return columns


def configure(label: str, base: Constants, cpus: int, values: Values) -> Stream:
    """The constants of a stream with what the caller changed, fitted to the machine size.

    Raises:
        UsageError: ``ulow`` lies above ``uhi``.
    """
    changes = {
        name: value
        for name in Constants.__dataclass_fields__
        if not name.endswith(("_uhi", "_log2")) and (value := values.optional(name)) is not None
    }
    constants = replace(base, **changes)
    given = values.optional("uhi")
    uhi = max(math.log2(cpus) - constants.uhi_below_log2, 0.0) if given is None else given
    if "ulow" in changes and constants.ulow > uhi:
        raise UsageError(f"model 'lublin99', parameter 'ulow': {constants.ulow:g} lies above uhi, {uhi:g}")
    constants = replace(constants, ulow=min(constants.ulow, uhi))
    middle = values.optional("umed")
    # On a small machine uhi − 2.5 falls below ulow; the first stage then shrinks to a point instead of turning round.
    umed = min(max(uhi - constants.umed_below_uhi if middle is None else middle, constants.ulow), uhi)
    return Stream(label, constants, umed, uhi)


def sizes(s: Stream, cpus: int, jobs: int, rng: np.random.Generator) -> IntArray:
    """(J,) processors: serial, powers of two and others; never above the machine."""
    c = s.constants
    kind = rng.random(jobs)
    first = rng.random(jobs) <= c.uprob
    low, high = np.where(first, c.ulow, s.umed), np.where(first, s.umed, s.uhi)
    exponent = low + rng.random(jobs) * (high - low)
    exponent = np.where(kind <= c.serial + c.pow2, np.floor(exponent + 0.5), exponent)
    size = np.floor(np.exp2(exponent) + 0.5)
    size = np.where(kind <= c.serial, 1.0, size)
    return np.clip(size, 1, cpus).astype(np.int64)


def runtimes(c: Constants, size: IntArray, rng: np.random.Generator) -> FloatArray:
    """(J,) run times in whole seconds, at least 1.

    A draw above the limit is repeated with its component chosen anew, as in the authors' program: to keep the component
    would give too many jobs to the one that passes the limit more often.
    """
    probability = np.clip(c.pa * size + c.pb, 0.0, 1.0)

    def again(i: IntArray) -> FloatArray:
        first = rng.random(len(i)) <= probability[i]
        return rng.gamma(np.where(first, c.a1, c.a2), np.where(first, c.b1, c.b2))

    return np.floor(np.exp(truncated(again, len(size), MAX_LOG_RUNTIME, "run time")))


def points(c: Constants, jobs: int, rng: np.random.Generator) -> FloatArray:
    """(J,) sum of the points paid up to each job, in half-hours of mean rate."""
    logs = truncated(lambda i: rng.gamma(c.aarr * c.arar, c.barr, len(i)), jobs, MAX_LOG_GAP, "inter-arrival time")
    return np.exp(logs).cumsum() / BUCKET_S


def truncated(draw_again: Callable[[IntArray], FloatArray], jobs: int, limit: float, what: str) -> FloatArray:
    """(J,) draws, those above ``limit`` repeated; ``draw_again`` draws for the given jobs.

    Raises:
        UsageError: Hardly any draw stays below the limit, so the constants cannot be meant.
    """
    values = np.empty(jobs)
    left = np.arange(jobs)
    for _ in range(MAX_REPEATS):
        values[left] = draw_again(left)
        left = left[values[left] > limit]
        if not len(left):
            return values
    raise UsageError(
        f"model 'lublin99': with these constants nearly every log {what} exceeds the model's limit, {limit:g}"
    )


def day_clock(c: Constants) -> FloatArray:
    """(49,) points held by the day up to each half-hour; 48 points a day.

    Raises:
        UsageError: The cycle's gamma has no weight on the day.
    """
    weights = np.zeros(BUCKETS)
    for i in range(FIRST_BUCKET, FIRST_BUCKET + BUCKETS):
        weights[(i - 1) % BUCKETS] = gamma_cdf(i + 0.5, c.anum, c.bnum) - gamma_cdf(i - 0.5, c.anum, c.bnum)
    if weights.sum() < 1e-6:
        raise UsageError(
            f"model 'lublin99': a cycle of gamma({c.anum:g}, {c.bnum:g}) half-hours has no weight on the day"
        )
    # A cycle so narrow that a half-hour holds nothing would stop the clock there.
    weights = np.maximum(weights, 1e-12 * weights.sum())
    return np.concatenate((np.zeros(1), np.cumsum(weights) * (BUCKETS / weights.sum())))


def merge(clocks: list[FloatArray], points: list[FloatArray], factor: float, jobs: int) -> tuple[FloatArray, IntArray]:
    """The first ``jobs`` arrivals over all streams: (J,) whole seconds and (J,) index into the joined streams."""
    times = []
    for clock, paid in zip(clocks, points, strict=True):
        scaled = paid * factor
        days = np.floor(scaled / BUCKETS)
        times.append(
            np.floor(days * DAY_S + np.interp(scaled - days * BUCKETS, clock, np.arange(BUCKETS + 1) * BUCKET_S))
        )
    joined = np.concatenate(times)
    order = np.arange(jobs) if len(times) == 1 else np.argsort(joined, kind="stable")[:jobs]
    return joined[order], order.astype(np.int64)
