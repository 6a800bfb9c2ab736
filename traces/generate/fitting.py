"""Learning a ``FittedModel`` from a trace. The fit is deterministic but for ties of ranks, which the seed breaks.

What is learnt and why is told in ``fitted``. Columns that are not modelled: priority, deadline, model class,
preemption. A trace whose memory amounts differ from job to job gets one typical amount per shape.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.scheduler.types import BoolArray, FloatArray, IntArray
from shunter.traces.generate.compare import lag1
from shunter.traces.generate.drawing import MAX_LAG, followers, gaps, nearness, previous_of_source, walk
from shunter.traces.generate.fitted import FittedModel
from shunter.traces.generate.numerics import knots, normal_scores, quantile_table
from shunter.traces.generate.params import stream
from shunter.traces.generate.sections import (
    HOUR_S,
    NEARNESS,
    RATIO_INTERVALS,
    SHAPE_AMOUNTS,
    TABLE_INTERVALS,
    WEEK_HOURS,
    Arrivals,
    Durations,
    Outcomes,
    Requests,
    Shapes,
    Sources,
)
from shunter.traces.tables import OUTCOMES, JobTable, Trace

MIN_JOBS = 50
BURST_S = 10.0
"""A gap up to this long counts as a burst, unless the log is so dense that a tenth of its mean gap is shorter."""
LAG_BINS = int(np.log2(MAX_LAG)) + 2
WAVE_ROUNDS = 4
TRIAL_JOBS = 50_000
MAX_HABITS = 256
MAX_SHAPES = 2000
CLASS_JOBS = 200
"""A size class needs this many jobs for a quantile table of its own."""
SHRINK_JOBS = 10.0
"""Weight, in jobs, of the whole log in a user's mean and spread: a user with three jobs is no law."""
RATE_PRIOR_JOBS = 20.0
REPEAT_ROUNDS = 5
LAG_ROUNDS = 6
RECENT = 64
MAX_BACK = 0.9
MAX_POWER = 0.99
RUN_BINS = 16
POPULAR = 40
POPULAR_SHARE = 0.002
ACF_LAGS = np.array([1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233])
FAST_RHO = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
SLOW_RHO = (0.95, 0.98, 0.99, 0.995, 0.998)


def fit_trace(trace: Trace, *, seed: int = 0) -> FittedModel:
    """A model of ``trace``; see the module's text.

    Raises:
        TraceError: Fewer than ``MIN_JOBS`` jobs, or all of them at one instant.
    """
    jobs = trace.jobs
    submit, duration = jobs.floats("submit_s"), jobs.floats("duration_s")
    if len(jobs) < MIN_JOBS:
        raise TraceError(f"{trace.name!r} has {len(jobs)} jobs; a fit needs at least {MIN_JOBS}")
    if submit[-1] <= submit[0]:
        raise TraceError(f"{trace.name!r}: all jobs arrive at {submit[0]:g} s; a fit needs a span of time")
    arrivals, burst = fit_arrivals(submit, seed)
    source, kind, group_of, num_sources = source_codes(jobs)
    shape, amounts, words = shape_codes(jobs)
    # Sources are numbered by size; all after the largest share the last habit.
    habit_of_source = np.minimum(np.arange(num_sources), MAX_HABITS)
    habit = habit_of_source[source]
    parent = previous_of_source(source)
    class_of_shape = size_classes(amounts, np.bincount(shape, minlength=len(amounts)))
    near = nearness(parent, burst)
    repeat, weights = fit_repeat(shape, habit, parent, near, class_of_shape)
    score = class_scores(duration, class_of_shape[shape], source)
    shapes = Shapes(
        amounts=rounded(amounts),
        gpu_type=words["gpu_type"],
        queue=words["queue"],
        class_idx=class_of_shape,
        habit_idx=weights[0],
        shape_idx=weights[1],
        weight=weights[2],
        repeat=repeat,
    )
    return FittedModel(
        name=trace.name,
        jobs=len(jobs),
        start_unix_s=trace.start_unix_s,
        cluster=trace.cluster,
        arrivals=arrivals,
        sources=fit_sources(
            source,
            kind=kind,
            group_of=group_of,
            habit_of=habit_of_source,
            parent=parent,
            burst=burst,
            shape=shape,
            seed=seed,
        ),
        shapes=shapes,
        durations=fit_durations(
            duration, class_idx=class_of_shape[shape], score=score, habit=habit, shape=shape, parent=parent, near=near
        ),
        requests=fit_requests(duration, jobs.floats("requested_s"), parent),
        outcomes=fit_outcomes(duration, jobs.frame["outcome"].to_list()),
    )


def rounded(values: FloatArray) -> FloatArray:
    """Values to six significant digits: enough for any statistic, and a third of the size in JSON."""
    flat = np.asarray(values, dtype=np.float64)
    return np.array([float(f"{v:.6g}") for v in flat.reshape(-1)]).reshape(flat.shape)


def fit_arrivals(submit_s: FloatArray, seed: int) -> tuple[Arrivals, BoolArray]:
    """The arrival process, and (J,) which jobs come in a burst (the first does not)."""
    span = submit_s[-1] - submit_s[0]
    trend = week_trend(submit_s)
    rates = week_rates(submit_s, trend)
    hourly = (trend[:, None] * rates[None, :]).reshape(-1)
    clock = np.concatenate(([0.0], np.cumsum(hourly * HOUR_S)))
    units = np.diff(np.interp(submit_s, np.arange(len(clock)) * HOUR_S, clock))
    gap = np.diff(submit_s)
    limit = min(BURST_S, 0.1 * span / len(gap))
    short = gap <= limit
    score = normal_scores(np.where(short, gap, limit + 1.0 + units), stream(seed, "fit:gaps").random(len(gap)))
    power, rho = fit_waves(score)
    share = float(short.mean())
    width = len(knots(TABLE_INTERVALS))
    arrivals = Arrivals(
        first_s=float(submit_s[0]),
        week_rates=rounded(rates),
        trend=rounded(trend),
        burst_share=share,
        burst_s=rounded(quantile_table(gap[short], TABLE_INTERVALS)) if short.any() else np.zeros(width),
        gap_units=rounded(quantile_table(units[~short], TABLE_INTERVALS)) if not short.all() else np.zeros(width),
        wave_power=rounded(power),
        wave_rho=rounded(rho),
        whole_seconds=float(is_whole(submit_s)),
    )
    return sharper(arrivals, lag1(np.log1p(gap)), len(submit_s), seed), np.concatenate(([False], short))


def sharper(arrivals: Arrivals, target: float, jobs: int, seed: int) -> Arrivals:
    """The arrivals with the fast wave's power set so that a trial's gaps have the log's lag-1 autocorrelation.

    Scores of equal gaps are in random order, and a log with a clock of seconds has many equal gaps, so the
    autocorrelation of the scores is too low.
    """
    for _ in range(WAVE_ROUNDS):
        burst, amount = gaps(arrivals, min(jobs, TRIAL_JOBS), stream(seed, "fit:trial"))
        seen = lag1(np.log1p(np.diff(walk(arrivals, burst, amount, trend=True))))
        fast, slow = arrivals.wave_power
        fast = np.clip(fast + (target - seen) / arrivals.wave_rho[0], 0.0, max(MAX_POWER - slow, 0.0))
        arrivals = replace(arrivals, wave_power=rounded(np.array([fast, slow])))
    return arrivals


def is_whole(values: FloatArray) -> bool:
    """Whether all values are whole numbers."""
    return bool((values == np.floor(values)).all())


def week_trend(submit_s: FloatArray) -> FloatArray:
    """(W,) arrivals by week of the trace's clock over their mean, smoothed over three weeks; at least 0.02."""
    week_s = WEEK_HOURS * HOUR_S
    weeks = int(submit_s[-1] // week_s) + 1
    if weeks < 3:
        return np.ones(weeks)
    edges = np.arange(weeks + 1) * week_s
    counts = np.histogram(submit_s, bins=edges)[0].astype(np.float64)
    exposure = np.clip(np.minimum(edges[1:], submit_s[-1]) - np.maximum(edges[:-1], submit_s[0]), 3600.0, week_s)
    padded_counts, padded_exposure = np.pad(counts, 1), np.pad(exposure, 1)
    kernel = np.array([0.25, 0.5, 0.25])
    rate = np.convolve(padded_counts, kernel, "valid") / np.convolve(padded_exposure, kernel, "valid")
    factor: FloatArray = rate * (exposure.sum() / counts.sum())
    return np.maximum(factor, 0.02)


def week_rates(submit_s: FloatArray, trend: FloatArray) -> FloatArray:
    """(168,) jobs per second by hour of the week.

    The count of an hour is blended with ``RATE_PRIOR_JOBS`` jobs' worth of the separable profile (hour of the day ×
    day of the week), which itself falls back to flat where the trace is shorter than two days or two weeks.
    """
    hours = len(trend) * WEEK_HOURS
    edges = np.arange(hours + 1) * HOUR_S
    exposure = np.clip(np.minimum(edges[1:], submit_s[-1]) - np.maximum(edges[:-1], submit_s[0]), 0.0, HOUR_S)
    exposure = (exposure * np.repeat(trend, WEEK_HOURS)).reshape(-1, WEEK_HOURS).sum(axis=0)
    counts = np.bincount((submit_s // HOUR_S).astype(np.int64) % WEEK_HOURS, minlength=WEEK_HOURS).astype(np.float64)
    span = submit_s[-1] - submit_s[0]
    mean = counts.sum() / exposure.sum()
    by_hour, by_day = np.full(24, mean), np.ones(7)
    c, e = counts.reshape(7, 24), exposure.reshape(7, 24)
    if span >= 2 * 24 * HOUR_S:
        by_hour = (c.sum(axis=0) + 1.0) / (e.sum(axis=0) + 1.0 / mean)
    if span >= 2 * WEEK_HOURS * HOUR_S:
        by_day = (c.sum(axis=1) + 1.0) / ((e @ by_hour) + 1.0)
    prior = (by_day[:, None] * by_hour[None, :]).reshape(-1)
    rates: FloatArray = (counts + RATE_PRIOR_JOBS) / (exposure + RATE_PRIOR_JOBS / prior)
    return rates


def fit_waves(score: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(2,) variance shares and (2,) correlations of two AR(1) parts whose sum has the scores' autocorrelation."""
    lags = ACF_LAGS[len(score) > ACF_LAGS * 10]
    centred = score - score.mean()
    power = float(centred @ centred)
    acf = np.array([float(centred[k:] @ centred[:-k]) / power for k in lags])
    best, found = np.inf, (np.zeros(2), np.array([FAST_RHO[0], SLOW_RHO[0]]))
    for fast in FAST_RHO:
        for slow in SLOW_RHO:
            basis = np.stack([fast**lags, slow**lags], axis=1)
            shares = two_shares(basis, acf)
            error = float(((basis @ shares - acf) ** 2).sum())
            if error < best:
                best, found = error, (shares, np.array([fast, slow]))
    return found


def two_shares(basis: FloatArray, target: FloatArray) -> FloatArray:
    """(2,) non-negative least-squares weights with a sum of at most 1."""
    shares = np.linalg.lstsq(basis, target, rcond=None)[0].astype(np.float64)
    if shares.min() < 0:
        single = np.clip((basis * target[:, None]).sum(axis=0) / (basis**2).sum(axis=0), 0.0, 1.0)
        errors = [float(((basis[:, i] * single[i] - target) ** 2).sum()) for i in (0, 1)]
        keep = int(np.argmin(errors))
        shares = np.where(np.arange(2) == keep, single, 0.0)
    return shares / max(1.0, float(shares.sum()))


def source_codes(jobs: JobTable) -> tuple[IntArray, str, IntArray, int]:
    """(J,) source of each job by falling number of jobs, its kind, (U,) group of each source, and U.

    A missing user counts as one user of its own.
    """
    user, users = jobs.codes("user")
    group, groups = jobs.codes("group")
    if users:
        kind, raw = "user", np.where(user < 0, len(users), user)
    elif groups:
        kind, raw = "group", np.where(group < 0, len(groups), group)
    else:
        kind, raw = "none", np.zeros(len(jobs), dtype=np.int64)
    code, num = by_count(raw)
    if not groups:
        return code, kind, np.full(num, -1, dtype=np.int64), num
    ranked, num_groups = by_count(np.where(group < 0, len(groups), group))
    # A user's group is the one that most of the jobs name.
    pairs, counts = np.unique(code * num_groups + ranked, return_counts=True)
    order = np.lexsort((pairs, -counts))
    owner, first = np.unique(pairs[order] // num_groups, return_index=True)
    group_of = np.full(num, -1, dtype=np.int64)
    group_of[owner] = pairs[order][first] % num_groups
    # A group that is nobody's main one is gone; the others are numbered anew, in the same order.
    return code, kind, np.unique(group_of, return_inverse=True)[1].reshape(-1).astype(np.int64), num


def by_count(codes: IntArray) -> tuple[IntArray, int]:
    """(J,) codes renumbered by falling frequency, equal ones by their old number; and how many there are."""
    values, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.lexsort((values, -counts))] = np.arange(len(values))
    return rank[inverse.reshape(-1)], len(values)


def shape_codes(jobs: JobTable) -> tuple[IntArray, FloatArray, dict[str, tuple[str, ...]]]:
    """(J,) shape of each job, (S, 4) its amounts, and its words (GPU type and queue)."""
    amounts = np.stack([jobs.floats(name) for name in SHAPE_AMOUNTS], axis=1)
    gpu_type, types = jobs.codes("gpu_type")
    queue, queues = jobs.codes("queue")
    rows = np.column_stack([amounts, gpu_type, queue])
    shapes, code = np.unique(rows, axis=0, return_inverse=True)
    if len(shapes) > MAX_SHAPES:
        rest = np.unique(rows[:, [0, 1, 3, 4, 5]], axis=0, return_inverse=True)[1].reshape(-1)
        rows[:, 2] = group_median(rows[:, 2], rest)
        shapes, code = np.unique(rows, axis=0, return_inverse=True)
    code = code.reshape(-1).astype(np.int64)
    if len(shapes) > MAX_SHAPES:
        shapes, code = most_frequent(shapes, code)
    words = {
        "gpu_type": tuple([*types, ""][int(i)] for i in shapes[:, 4]),
        "queue": tuple([*queues, ""][int(i)] for i in shapes[:, 5]),
    }
    return code, shapes[:, :4], words


def group_median(values: FloatArray, group: IntArray) -> FloatArray:
    """(J,) the lower median of the values in each value's group."""
    order = np.lexsort((values, group))
    start = np.searchsorted(group[order], np.arange(int(group.max()) + 1))
    count = np.bincount(group)
    return np.asarray(values[order][start + (count - 1) // 2][group])


def most_frequent(shapes: FloatArray, code: IntArray) -> tuple[FloatArray, IntArray]:
    """The ``MAX_SHAPES`` most frequent shapes, and (J,) the one of nearest size for each job."""
    counts = np.bincount(code, minlength=len(shapes))
    kept = np.sort(np.lexsort((np.arange(len(shapes)), -counts))[:MAX_SHAPES])
    size = shapes[:, 0] * np.maximum(shapes[:, 1], shapes[:, 3])
    order = kept[np.argsort(size[kept], kind="stable")]
    near = np.clip(np.searchsorted(size[order], size), 0, len(order) - 1)
    target = order[near]
    target[kept] = kept
    return shapes[kept], np.searchsorted(kept, target)[code].astype(np.int64)


def sparse_counts(row: IntArray, column: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Distinct (row, column) pairs and how often each occurs, (N,) each."""
    width = int(column.max()) + 1
    pairs, counts = np.unique(row * width + column, return_counts=True)
    return pairs // width, pairs % width, counts.astype(np.float64)


def size_classes(amounts: FloatArray, counts: IntArray) -> IntArray:
    """(S,) size class: doublings of the gang's GPUs (CPUs where no job has any); small classes join the next one."""
    resource = amounts[:, 3] if amounts[:, 3].any() else amounts[:, 1] if amounts[:, 1].any() else np.ones(len(amounts))
    size = amounts[:, 0] * resource
    octave = np.where(size < 1, np.where(size > 0, 0, -1), np.floor(np.log2(np.maximum(size, 1))) + 1).astype(np.int64)
    jobs = np.bincount(octave + 1, weights=counts)
    label, current, held = np.zeros(len(jobs), dtype=np.int64), 0, 0.0
    for i, count in enumerate(jobs):
        label[i] = current
        held += count
        if held >= CLASS_JOBS and jobs[i + 1 :].sum() >= CLASS_JOBS:
            current, held = current + 1, 0.0
    return label[octave + 1]


def class_scores(duration_s: FloatArray, class_idx: IntArray, source: IntArray) -> FloatArray:
    """(J,) run times as normal scores within their size class.

    Equal run times are ordered by source and then by arrival. Any order gives normal scores, but a random one would
    hide that a user whose jobs all take one second always takes one second.
    """
    score = np.zeros(len(duration_s))
    for c in range(int(class_idx.max()) + 1):
        mask = class_idx == c
        score[mask] = normal_scores(duration_s[mask], source[mask])
    return score


def fit_sources(
    source: IntArray,
    *,
    kind: str,
    group_of: IntArray,
    habit_of: IntArray,
    parent: IntArray,
    burst: BoolArray,
    shape: IntArray,
    seed: int,
) -> Sources:
    """Shares of the sources and the lags at which they come back."""
    counts = np.bincount(source, minlength=len(habit_of))
    target = lag_shares(parent, burst)
    batch = burst & (np.arange(len(source)) - parent == 1) & (shape == shape[parent])
    sources = Sources(
        kind=kind,
        shares=rounded(counts / counts.sum()),
        group_idx=group_of,
        habit_idx=habit_of,
        lag_share=target,
        batch_share=float(rounded(np.array([batch.mean()]))[0]),
    )
    sample = burst[:TRIAL_JOBS]
    for _ in range(LAG_ROUNDS if len(counts) > 1 else 0):
        parents, drawn = followers(sources, sample, seed)
        sources = replace(sources, lag_share=less_chance(target, parents, previous_of_source(drawn), sample))
    return replace(sources, lag_share=rounded(sources.lag_share))


def less_chance(target: FloatArray, drawn: IntArray, seen: IntArray, burst: BoolArray) -> FloatArray:
    """(2, B) lags to draw so that the ``target`` is seen, given what a trial drew and what it showed.

    A new session may hit a source that was seen just before, so drawing by the observed lags gives too many short
    ones. What happens by chance is measured on the trial and taken off. Long lags (above ``RECENT``) are left to
    chance: without enough new sessions all jobs would in the end descend from one.
    """
    own = np.arange(len(drawn))
    shares = np.zeros_like(target)
    recent = slice(2, int(np.log2(RECENT)) + 2)
    for inside in (0, 1):
        mask = burst == bool(inside)
        not_copied = mask & (own - drawn != 1)
        apart = mask & (drawn == own) & (own - seen != 1)
        chance = float((own - seen == 1)[not_copied].mean()) if not_copied.any() else 0.0
        again = float(((seen < own) & (own - seen <= RECENT))[apart].mean()) if apart.any() else 0.0
        copy = beyond_chance(float(target[inside, 1]), chance)
        wanted = float(target[inside, recent].sum())
        back = min(beyond_chance(wanted / max(1.0 - float(target[inside, 1]), 1e-9), again), MAX_BACK)
        shares[inside, 1] = copy
        shares[inside, recent] = (1.0 - copy) * back * target[inside, recent] / max(wanted, 1e-9)
        shares[inside, 0] = max(1.0 - float(shares[inside].sum()), 0.0)
    return shares


def lag_shares(parent: IntArray, burst: BoolArray) -> FloatArray:
    """(2, B) share of the lags outside and inside bursts: none, 1, 2, 3–4, 5–8, …"""
    lag = np.arange(len(parent)) - parent
    bins = np.where(lag > 0, np.ceil(np.log2(np.maximum(lag, 1))).astype(np.int64) + 1, 0)
    shares = np.zeros((2, LAG_BINS))
    for inside in (0, 1):
        counts = np.bincount(bins[burst == bool(inside)], minlength=LAG_BINS).astype(np.float64)
        shares[inside] = counts / counts.sum() if counts.sum() else np.eye(LAG_BINS)[0]
    return shares


def beyond_chance(observed: float, chance: float) -> float:
    """Probability p of copying such that p + (1 − p) · chance = observed; within 0 .. 1."""
    return float(np.clip((observed - chance) / max(1.0 - chance, 1e-9), 0.0, 1.0))


def fit_repeat(
    shape: IntArray, habit: IntArray, parent: IntArray, near: IntArray, class_of_shape: IntArray
) -> tuple[FloatArray, tuple[IntArray, IntArray, FloatArray]]:
    """How often followers copy their predecessor's shape, and from what the others are drawn.

    Copying is (3, C) by ``nearness`` and the predecessor's size class: sweeps repeat small jobs
    more often than large ones. A shape that is copied often must be drawn seldom to keep its share, so the weights of
    the draw are the shares times the probability that a job of the class is not followed by its copy. Both depend on
    each other and are settled by a few rounds.

    Returns:
        ``(repeat, (habit, shape, weight))``.
    """
    row, column, count = sparse_counts(habit, shape)
    width, classes = int(column.max()) + 1, int(class_of_shape.max()) + 1
    follows = np.flatnonzero(parent < np.arange(len(parent)))
    before = shape[parent[follows]]
    place = np.searchsorted(row * width + column, habit[follows] * width + before)
    cell = near[follows] * classes + class_of_shape[before]
    pairs = np.maximum(np.bincount(cell, minlength=NEARNESS * classes), 1)
    same = (
        np.bincount(cell, weights=(shape[follows] == before).astype(np.float64), minlength=NEARNESS * classes) / pairs
    )
    jobs = np.bincount(class_of_shape[shape], minlength=classes)
    weight, repeat = count, np.zeros(NEARNESS * classes)
    for _ in range(REPEAT_ROUNDS):
        share = weight / np.bincount(row, weights=weight)[row]
        chance = np.bincount(cell, weights=share[place], minlength=NEARNESS * classes) / pairs
        repeat = np.clip((same - chance) / np.maximum(1.0 - chance, 1e-9), 0.0, 0.98)
        copied = np.bincount(class_of_shape[before], weights=repeat[cell], minlength=classes)
        weight = count * np.maximum(1.0 - copied / np.maximum(jobs, 1), 0.02)[class_of_shape[column]]
    return rounded(repeat.reshape(NEARNESS, classes)), (row, column, rounded(weight))


def fit_durations(
    duration_s: FloatArray,
    *,
    class_idx: IntArray,
    score: FloatArray,
    habit: IntArray,
    shape: IntArray,
    parent: IntArray,
    near: IntArray,
) -> Durations:
    """Quantile tables by size class, users' tendencies, and how much a follower resembles its predecessor."""
    jobs = np.bincount(habit).astype(np.float64)
    mean = np.bincount(habit, weights=score) / (jobs + SHRINK_JOBS)
    square = np.bincount(habit, weights=(score - mean[habit]) ** 2)
    sd = np.sqrt((square + SHRINK_JOBS) / (jobs + SHRINK_JOBS))
    rest = (score - mean[habit]) / sd[habit]
    rho = np.zeros((NEARNESS, 2))
    follows, same = parent < np.arange(len(parent)), shape == shape[parent]
    for level in range(NEARNESS):
        for repeated in (0, 1):
            i = np.flatnonzero(follows & (near == level) & (same == bool(repeated)))
            if len(i) > SHRINK_JOBS:
                a, b = rest[i] - rest[i].mean(), rest[parent[i]] - rest[parent[i]].mean()
                power = float(np.sqrt((a @ a) * (b @ b)))
                rho[level, repeated] = np.clip(float(a @ b) / power, 0.0, 0.999) if power > 0 else 0.0
    tables = [quantile_table(duration_s[class_idx == c], TABLE_INTERVALS) for c in range(int(class_idx.max()) + 1)]
    return Durations(
        quantiles_s=rounded(np.stack(tables)),
        habit_mean=rounded(mean),
        habit_sd=rounded(np.maximum(sd, 0.05)),
        rho=rounded(rho),
        whole_seconds=float(is_whole(duration_s)),
    )


def run_bins(duration_s: FloatArray) -> FloatArray:
    """(B − 1,) inner edges of at most ``RUN_BINS`` bins that hold about equally many jobs."""
    return np.unique(rounded(np.quantile(duration_s, np.arange(1, RUN_BINS) / RUN_BINS)))


def fit_requests(duration_s: FloatArray, requested_s: FloatArray, parent: IntArray) -> Requests:
    """Requests given run times; (J,) ``requested_s`` is NaN where a job has none."""
    known = np.isfinite(requested_s)
    none = np.zeros(0)
    if not known.any():
        return Requests(1.0, none, none, 0.0, none, none, none, none)
    edges = run_bins(duration_s[known])
    num_bins = len(edges) + 1
    bins = np.searchsorted(edges, duration_s, side="right")
    over = known & (requested_s < duration_s)
    kept = known & ~over
    asked = rounded(np.where(known, requested_s, 0.0))
    values, counts = np.unique(asked[known], return_counts=True)
    top = np.lexsort((values, -counts))[:POPULAR]
    popular = np.sort(values[top[counts[top] >= POPULAR_SHARE * known.sum()]])
    place = np.searchsorted(popular, asked)
    code = np.where(np.append(popular, -1.0)[place] == asked, place, len(popular))
    share = np.zeros((num_bins, len(popular) + 1))
    np.add.at(share, (bins[kept], code[kept]), 1.0)
    share = (share + 1e-9) / (share + 1e-9).sum(axis=1, keepdims=True)
    odd = kept & (code == len(popular))
    ratio = np.maximum(requested_s / np.maximum(duration_s, 1.0), 1e-3)
    return Requests(
        missing_share=float(1.0 - known.mean()),
        overrun_share=rounded(
            np.bincount(bins[over], minlength=num_bins) / np.maximum(np.bincount(bins[known], minlength=num_bins), 1)
        ),
        overrun_ratio=rounded(request_ratios(ratio, np.zeros_like(bins), over, over, 1)[0]),
        keep=fit_keep(duration_s, requested_s, parent=parent, share=share, bins=bins, code=code),
        edges_s=edges,
        values_s=popular,
        share=rounded(share),
        ratio=rounded(request_ratios(ratio, bins, odd, kept, num_bins)),
    )


def request_ratios(
    ratio: FloatArray, bins: IntArray, wanted: BoolArray, otherwise: BoolArray, num_bins: int
) -> FloatArray:
    """(B, K) quantiles of request / run time over a bin's ``wanted`` jobs, else over its ``otherwise`` ones, else 1."""
    grid = np.linspace(0.0, 1.0, RATIO_INTERVALS + 1)
    rows = []
    for b in range(num_bins):
        mask = wanted & (bins == b)
        mask = mask if mask.any() else otherwise & (bins == b)
        rows.append(np.quantile(ratio[mask], grid) if mask.any() else np.ones(len(grid)))
    return np.stack(rows)


def fit_keep(
    duration_s: FloatArray,
    requested_s: FloatArray,
    *,
    parent: IntArray,
    share: FloatArray,
    bins: IntArray,
    code: IntArray,
) -> float:
    """How much oftener than by chance a follower keeps its predecessor's request, where that suffices."""
    before = requested_s[parent]
    pair = (parent < np.arange(len(parent))) & np.isfinite(requested_s) & np.isfinite(before) & (before >= duration_s)
    i = np.flatnonzero(pair)
    if not len(i):
        return 0.0
    popular = code[parent[i]] < share.shape[1] - 1
    chance = float(np.where(popular, share[bins[i], code[parent[i]]], 0.0).mean())
    return float(rounded(np.array([beyond_chance(float((requested_s[i] == before[i]).mean()), chance)]))[0])


def fit_outcomes(duration_s: FloatArray, outcome: list[Any]) -> Outcomes:
    """Shares of the outcomes by run-time bin."""
    edges = run_bins(duration_s)
    bins = np.searchsorted(edges, duration_s, side="right")
    lookup = {name: i for i, name in enumerate(OUTCOMES)}
    share = np.zeros((len(edges) + 1, len(OUTCOMES)))
    np.add.at(share, (bins, np.array([lookup[name] for name in outcome], dtype=np.int64)), 1.0)
    share[share.sum(axis=1) == 0, 0] = 1.0
    return Outcomes(edges_s=edges, share=rounded(share / share.sum(axis=1, keepdims=True)))
