"""The parts of a fitted model: plain numbers, each with its shape and meaning. They are what its JSON form holds."""

from __future__ import annotations

from dataclasses import dataclass

from shunter.scheduler.types import FloatArray, IntArray

HOUR_S = 3600.0
WEEK_HOURS = 168
TABLE_INTERVALS = 200
"""Even intervals of the quantile tables of gaps and run times; see ``numerics.knots`` for the tail."""
RATIO_INTERVALS = 32
"""Even intervals of the quantile tables of request / run time."""
SHAPE_AMOUNTS = ("tasks", "cpus", "memory_gib", "gpus")
NEARNESS = 3
"""How near a job is to its user's previous one: next to it in a burst, next to it, or with others between."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When jobs come.

    Attributes:
        first_s: First submit; fixes the phase of the cycle.
        week_rates: (168,) jobs per second by hour of the trace's week.
        trend: (W,) factor by week, mean about 1; repeated after W weeks.
        burst_share: Share of the gaps that are bursts.
        burst_s: (K,) quantiles of burst gaps in seconds.
        gap_units: (K,) quantiles of the other gaps, in expected jobs (seconds times the rate of the moment).
        wave_power: (2,) share of the scores' variance in the fast and the slow AR(1) part; the rest is white.
        wave_rho: (2,) their lag-1 correlations.
        whole_seconds: 1 when the log's clock ticks in seconds.
    """

    first_s: float
    week_rates: FloatArray
    trend: FloatArray
    burst_share: float
    burst_s: FloatArray
    gap_units: FloatArray
    wave_power: FloatArray
    wave_rho: FloatArray
    whole_seconds: float


@dataclass(frozen=True, slots=True)
class Sources:
    """Who submits. A source is a user; where a log has none, a group; where it has neither, everybody.

    Attributes:
        kind: ``user``, ``group`` or ``none``.
        shares: (U,) share of the jobs.
        group_idx: (U,) group of each user; −1 for none.
        habit_idx: (U,) row of the habits (shapes, run times); small sources share the last row.
        lag_share: (2, B) for gaps outside and inside bursts: probability of a new session (column 0), of following the
            job one back (column 1), two back, 3–4, 5–8, … back.
        batch_share: Share of the jobs that come in a burst from the same source with the same shape (for reports).
    """

    kind: str
    shares: FloatArray
    group_idx: IntArray
    habit_idx: IntArray
    lag_share: FloatArray
    batch_share: float


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a job asks for.

    Attributes:
        amounts: (S, 4) tasks, and CPUs, GiB and GPUs per task.
        gpu_type: (S,) text; empty for none.
        queue: (S,) text; empty for none.
        class_idx: (S,) size class of the run-time tables.
        habit_idx: (N,) with ``shape_idx`` and ``weight``: the sparse table of jobs by habit and shape.
        shape_idx: (N,) see ``habit_idx``.
        weight: (N,) see ``habit_idx``; weights of the draw, which are less than the shares for what is often copied.
        repeat: (3, C) probability that a follower copies the shape: by ``nearness`` × the predecessor's class.
    """

    amounts: FloatArray
    gpu_type: tuple[str, ...]
    queue: tuple[str, ...]
    class_idx: IntArray
    habit_idx: IntArray
    shape_idx: IntArray
    weight: FloatArray
    repeat: FloatArray


@dataclass(frozen=True, slots=True)
class Durations:
    """How long jobs run.

    Attributes:
        quantiles_s: (C, K) quantiles by size class.
        habit_mean: (H,) mean normal score of the habit's jobs within their classes.
        habit_sd: (H,) its standard deviation.
        rho: (3, 2) correlation of a follower's score with its predecessor's: by ``nearness`` × shape changed or copied.
        whole_seconds: 1 when run times are whole seconds.
    """

    quantiles_s: FloatArray
    habit_mean: FloatArray
    habit_sd: FloatArray
    rho: FloatArray
    whole_seconds: float


@dataclass(frozen=True, slots=True)
class Requests:
    """What users say how long jobs will run. All arrays are empty when the log has no requests.

    Attributes:
        missing_share: Share of the jobs without a request.
        overrun_share: (B,) share of the requests below the run time, by run-time bin.
        overrun_ratio: (K,) quantiles of request / run time of those.
        keep: Probability that a follower keeps its predecessor's request beyond chance, where that suffices.
        edges_s: (B − 1,) inner edges of the run-time bins.
        values_s: (V,) popular values, rising.
        share: (B, V + 1) probability of each popular value, and of none of them, given the run-time bin.
        ratio: (B, K) quantiles of request / run time of unpopular values.
    """

    missing_share: float
    overrun_share: FloatArray
    overrun_ratio: FloatArray
    keep: float
    edges_s: FloatArray
    values_s: FloatArray
    share: FloatArray
    ratio: FloatArray


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How jobs end: (B − 1,) inner edges of run-time bins, (B, 3) probability of each of ``tables.OUTCOMES``."""

    edges_s: FloatArray
    share: FloatArray
