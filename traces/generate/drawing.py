"""Drawing jobs from the parts of a fitted model: one function a part, all in whole-array NumPy.

The steps and why they are so are told in ``fitted``; ``fitting`` uses some of them for trials.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shunter.scheduler.types import BoolArray, FloatArray, IntArray
from shunter.traces.generate.numerics import autoregression, chain, draw, follow, knots, normal_cdf, normal_grid
from shunter.traces.generate.params import stream
from shunter.traces.generate.sections import (
    HOUR_S,
    RATIO_INTERVALS,
    SHAPE_AMOUNTS,
    TABLE_INTERVALS,
    Arrivals,
    Durations,
    Outcomes,
    Requests,
    Shapes,
    Sources,
)
from shunter.traces.tables import OUTCOMES

WALK_ROUNDS = 5
COPY_ROUNDS = 50
GRID_STEP = 20
"""Mixtures of scores are computed on every twentieth point of the normal grid: steps of 0.04."""
MAX_LAG = 512
"""A source that was away for longer, in jobs, opens a new session."""


def gaps(arrivals: Arrivals, jobs: int, rng: np.random.Generator) -> tuple[BoolArray, FloatArray]:
    """(J,) whether the gap before a job is a burst, and (J,) its amount (seconds in a burst, units otherwise)."""
    score = rng.standard_normal(jobs) * np.sqrt(max(1.0 - arrivals.wave_power.sum(), 0.0))
    for power, rho in zip(arrivals.wave_power, arrivals.wave_rho, strict=True):
        score += np.sqrt(power) * autoregression(rng.standard_normal(jobs), float(rho))
    p = normal_cdf(score)
    share = arrivals.burst_share
    burst = p < share
    table = knots(TABLE_INTERVALS)
    short = np.interp(p / share, table, arrivals.burst_s) if share > 0 else np.zeros(jobs)
    long = np.interp((p - share) / (1 - share), table, arrivals.gap_units) if share < 1 else np.zeros(jobs)
    amount = np.where(burst, short, long)
    amount[0] = 0.0
    return burst, amount


def walk(arrivals: Arrivals, burst: BoolArray, amount: FloatArray, trend: bool) -> FloatArray:
    """(J,) submit times of the gaps.

    On the cycle's clock the arrivals are a sum. Burst gaps are seconds, so their length on that clock depends on when
    they take place, which the sum decides: a few rounds of substitution settle it, since rates change by the hour and
    bursts take seconds.
    """
    weeks = arrivals.trend if trend else np.ones(1)
    rates = (weeks[:, None] * arrivals.week_rates[None, :]).reshape(-1)
    clock = np.concatenate(([0.0], np.cumsum(rates * HOUR_S)))
    hours = np.arange(len(clock)) * HOUR_S
    start = np.interp(arrivals.first_s % hours[-1], hours, clock)
    rate: FloatArray | float = float(rates.mean())
    submit = np.zeros(len(amount))
    for _ in range(WALK_ROUNDS):
        units = start + np.where(burst, amount * rate, amount).cumsum()
        turns = np.floor(units / clock[-1])
        submit = turns * hours[-1] + np.interp(units - turns * clock[-1], clock, hours)
        rate = rates[(submit // HOUR_S).astype(np.int64) % len(rates)]
    return np.floor(submit) if arrivals.whole_seconds else submit


def followers(sources: Sources, burst: BoolArray, seed: int) -> tuple[IntArray, IntArray]:
    """(J,) earlier job that each job follows (itself where a session opens), and (J,) source of each job."""
    rng = stream(seed, "fitted:sessions")
    jobs, own = len(burst), np.arange(len(burst))
    u = rng.random(jobs)
    bins = np.zeros(jobs, dtype=np.int64)
    for kind in (0, 1):
        edges = np.cumsum(sources.lag_share[kind])
        mask = burst == bool(kind)
        bins[mask] = np.minimum(np.searchsorted(edges, u[mask] * edges[-1], side="right"), len(edges) - 1)
    high = np.where(bins > 0, 2.0 ** (bins - 1), 0.0)
    low = np.where(bins > 1, 2.0 ** (bins - 2), 0.0)
    lag = np.ceil(low + rng.random(jobs) * (high - low)).astype(np.int64)
    parent = np.where((lag >= 1) & (lag <= own), own - lag, own)
    drawn = draw(stream(seed, "fitted:sources"), sources.shares, jobs)
    return parent, drawn[follow(parent)]


def previous_of_source(source: IntArray) -> IntArray:
    """(J,) the source's previous job; the job itself where there is none or it lies more than ``MAX_LAG`` jobs back."""
    order = np.argsort(source, kind="stable")
    parent = np.arange(len(source))
    same = source[order][1:] == source[order][:-1]
    parent[order[1:][same]] = order[:-1][same]
    own = np.arange(len(source))
    return np.where(own - parent > MAX_LAG, own, parent)


def nearness(parent: IntArray, burst: BoolArray) -> IntArray:
    """(J,) how near a job is to its predecessor: 2 next to it in a burst, 1 next to it, 0 with other jobs between."""
    beside = np.arange(len(parent)) - parent == 1
    return np.where(beside, np.where(burst, 2, 1), 0).astype(np.int64)


def draw_shapes(shapes: Shapes, habit: IntArray, parent: IntArray, near: IntArray, seed: int) -> IntArray:
    """(J,) shape of each job: the predecessor's, or one of the source's."""
    rng = stream(seed, "fitted:shapes")
    jobs, own = len(habit), np.arange(len(habit))
    # One search serves all habits: habit h owns the interval [h, h + 1) of the joined cumulative shares.
    order = np.lexsort((shapes.shape_idx, shapes.habit_idx))
    row, weight = shapes.habit_idx[order], shapes.weight[order]
    total = np.bincount(row, weights=weight)
    upto = np.cumsum(weight)
    before = np.concatenate(([0.0], np.cumsum(total)[:-1]))
    edges = row + (upto - before[row]) / total[row]
    place = np.searchsorted(edges, habit + rng.random(jobs), side="right")
    last = np.searchsorted(row, habit, side="right") - 1
    drawn = shapes.shape_idx[order][np.minimum(place, last)]
    # Whether a job copies depends on what it would copy, so the copies are settled class by class of the leader: a
    # chain breaks where its own leader's class says so, and the jobs behind the break look at their new leader.
    u = rng.random(jobs)
    leader = follow(parent)
    for _ in range(COPY_ROUNDS):
        chance = shapes.repeat[near, shapes.class_idx[drawn[leader[parent]]]]
        settled = follow(np.where(u < chance, parent, own))
        if np.array_equal(settled, leader):
            break
        leader = settled
    return drawn[leader]


def score_distribution(shapes: Shapes, durations: Durations) -> FloatArray:
    """(C, G) distribution function, on the normal grid, of the run-time scores within each size class.

    A class is a mixture of habits, each normal with its own mean and spread; passing a score through its class's
    mixture makes it uniform, so the class's quantile table is reproduced whatever the habits are.
    """
    grid, _ = normal_grid()
    classes, habits = len(durations.quantiles_s), len(durations.habit_mean)
    weight = np.zeros((classes, habits))
    np.add.at(weight, (shapes.class_idx[shapes.shape_idx], shapes.habit_idx), shapes.weight)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    coarse = grid[::GRID_STEP]
    each = normal_cdf((coarse[None, :] - durations.habit_mean[:, None]) / durations.habit_sd[:, None])
    return weight @ each


def draw_durations(
    shapes: Shapes,
    durations: Durations,
    rng: np.random.Generator,
    *,
    shape: IntArray,
    habit: IntArray,
    parent: IntArray,
    near: IntArray,
) -> FloatArray:
    """(J,) run times."""
    own = np.arange(len(shape))
    rho = durations.rho[near, (shape == shape[parent]).astype(np.int64)]
    rho = np.where(parent == own, 0.0, rho)
    score = chain(parent, rho, rng.standard_normal(len(shape)) * np.sqrt(1.0 - rho * rho))
    score = durations.habit_mean[habit] + durations.habit_sd[habit] * score
    mixture, grid = score_distribution(shapes, durations), normal_grid()[0][::GRID_STEP]
    table = knots(TABLE_INTERVALS)
    class_idx = shapes.class_idx[shape]
    duration = np.zeros(len(shape))
    for c in range(len(durations.quantiles_s)):
        mask = class_idx == c
        p = np.interp(score[mask], grid, mixture[c])
        duration[mask] = np.expm1(np.interp(p, table, np.log1p(durations.quantiles_s[c])))
    return np.round(duration) if durations.whole_seconds else duration


def draw_requests(requests: Requests, duration_s: FloatArray, parent: IntArray, rng: np.random.Generator) -> Any:
    """(J,) requested times; a polars series with nulls where a job has none."""
    import polars as pl

    jobs = len(duration_s)
    if requests.missing_share >= 1:
        return pl.Series(values=[None], dtype=pl.Float64).new_from_index(0, jobs)
    requested = fresh_requests(requests, duration_s, rng)
    keeps = rng.random(jobs) < requests.keep
    kept = requested[follow(np.where(keeps, parent, np.arange(jobs)))]
    # An overrun stays one, and nobody inherits a request that the job is known to pass.
    requested = np.where((kept >= duration_s) & (requested >= duration_s), kept, requested)
    missing = rng.random(jobs) < requests.missing_share
    return pl.Series(values=requested).set(pl.Series(values=missing), None) if missing.any() else requested


def fresh_requests(requests: Requests, duration_s: FloatArray, rng: np.random.Generator) -> FloatArray:
    """(J,) requests drawn given the run time alone."""
    jobs, popular = len(duration_s), requests.values_s
    bins = np.searchsorted(requests.edges_s, duration_s, side="right")
    upto = np.cumsum(requests.share, axis=1)
    flat = (upto / upto[:, -1:] + np.arange(len(upto))[:, None]).reshape(-1)
    pick = np.searchsorted(flat, bins + rng.random(jobs), side="right") - bins * upto.shape[1]
    pick = np.clip(pick, 0, len(popular))
    p, table = rng.random(jobs), np.linspace(0.0, 1.0, RATIO_INTERVALS + 1)
    ratio = np.ones(jobs)
    for b in range(len(requests.ratio)):
        mask = bins == b
        ratio[mask] = np.exp(np.interp(p[mask], table, np.log(requests.ratio[b])))
    requested = np.where(pick < len(popular), np.append(popular, 1.0)[pick], np.ceil(duration_s * ratio))
    # A bin is wide, so a value can fall short of a run time at its upper end, which the log did not show.
    at_least = np.append(popular, np.inf)[np.searchsorted(popular, duration_s)]
    at_least = np.where(np.isfinite(at_least), at_least, np.ceil(duration_s))
    requested = np.where(requested < duration_s, at_least, requested)
    over = (rng.random(jobs) < requests.overrun_share[bins]) & (duration_s > 1)
    below = np.floor(duration_s * np.interp(rng.random(jobs), table, requests.overrun_ratio))
    # Overruns are mostly a few seconds above a popular limit.
    floor_value = np.append(0.0, popular)[np.searchsorted(popular, duration_s)]
    below = np.where(floor_value >= below * 0.98, floor_value, below)
    return np.maximum(np.where(over, below, requested), 1.0)


def draw_outcomes(outcomes: Outcomes, duration_s: FloatArray, rng: np.random.Generator) -> list[str]:
    """(J,) outcomes given the run time."""
    bins = np.searchsorted(outcomes.edges_s, duration_s, side="right")
    upto = np.cumsum(outcomes.share, axis=1)[bins]
    pick = (rng.random(len(bins))[:, None] * upto[:, -1:] >= upto).sum(axis=1)
    names: list[str] = np.array(OUTCOMES)[np.minimum(pick, len(OUTCOMES) - 1)].tolist()
    return names


def shape_columns(shapes: Shapes, shape: IntArray) -> dict[str, Any]:
    """Columns of the demand; text columns only where the log has any."""
    columns: dict[str, Any] = {name: shapes.amounts[shape, i] for i, name in enumerate(SHAPE_AMOUNTS)}
    columns["tasks"] = columns["tasks"].astype(np.int64)
    for name, words in (("gpu_type", shapes.gpu_type), ("queue", shapes.queue)):
        if any(words):
            columns[name] = np.array([word or None for word in words], dtype=object)[shape].tolist()
    return columns


def source_columns(sources: Sources, source: IntArray) -> dict[str, Any]:
    """Columns ``user`` and ``group`` with numbered names, where the log has them."""
    columns: dict[str, Any] = {}
    if sources.kind == "user":
        columns["user"] = np.array([f"u{i + 1}" for i in range(len(sources.shares))])[source].tolist()
    if sources.group_idx.max(initial=-1) >= 0:
        names = np.array([None, *(f"g{i + 1}" for i in range(int(sources.group_idx.max()) + 1))], dtype=object)
        columns["group"] = names[sources.group_idx[source] + 1].tolist()
    return columns
