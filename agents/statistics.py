"""How sure a comparison over windows is: intervals, equivalence, wins, and what several seeds gave.

Every policy replays the same windows, so comparisons are paired: windows are resampled, never policies or jobs. Windows
that follow each other share a backlog and a season; they are drawn in blocks. Pure: equal values and seed give equal
numbers. The resampling itself is that of ``sim.compare``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shunter.scheduler.types import FloatArray
from shunter.sim.compare import LEVEL, MIN_WINDOWS, expanded_quantiles, window_draws

MARGIN = 0.03
"""Two policies whose ratio lies surely within 1 ± this are called equal."""

TEST_LEVEL = 0.9
"""Level of the interval that two one-sided tests at 5 % look at (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987)."""

TIE = 1e-9
"""Values whose relative difference is below this are equal: the same schedule, summed up in another order."""

Interval = tuple[float, float]
Verdict = Literal["better", "worse", "equal", "undecided"]


@dataclass(frozen=True, slots=True)
class Draws:
    """Resamples of K windows, the same for everything that is compared on them.

    Attributes:
        weights: (B, K) how often each window is drawn in each replicate; None with too few windows.
        block: Consecutive windows that are drawn together.
        blocks: How many of these the windows are worth.
    """

    weights: FloatArray | None
    block: int
    blocks: int

    def interval(self, values: FloatArray, level: float = LEVEL) -> Interval | None:
        """The interval of a statistic from its value in every replicate, (B,); None with too few windows."""
        if self.weights is None or not np.isfinite(values).all():
            return None
        low, high = expanded_quantiles(self.blocks, level)
        return float(np.quantile(values, low)), float(np.quantile(values, high))

    def mean(self, values: FloatArray) -> Interval | None:
        """Interval of the mean of (K,) values."""
        return None if self.weights is None else self.interval(self.weights @ values / self.weights.sum(axis=1))


def draw(num_windows: int, *, consecutive: bool, seed: int = 0) -> Draws:
    """Resamples of windows.

    Args:
        num_windows: K.
        consecutive: The windows follow each other in time, in this order: blocks of about ∛K of them are drawn, which
            is the rate that keeps a bootstrapped variance consistent (Künsch, Ann. Stat. 17(3), 1989), and never so
            long that fewer than five blocks are left.
        seed: Of the resampling.
    """
    block = max(1, min(round(num_windows ** (1 / 3)), num_windows // MIN_WINDOWS)) if consecutive else 1
    weights = window_draws(num_windows, np.random.default_rng(seed), block)
    return Draws(weights, block, max(1, num_windows // block))


@dataclass(frozen=True, slots=True)
class PairedRatio:
    """A policy against another one over the same windows, by one metric.

    Attributes:
        ratio: Mean over the windows divided by that of the other policy; None where the other's is 0.
        interval: 95 % interval of the ratio.
        test_interval: 90 % interval, which decides on equality.
        typical: Geometric mean of the windows' ratios, in which a heavy window counts no more than a light one; None
            where a value is 0.
        typical_interval: Its 95 % interval.
        wins: Windows in which it is better.
        ties: Windows in which both are equal.
        losses: Windows in which it is worse.
        verdict: ``better`` or ``worse``: the 95 % interval leaves out 1; ``equal``: the 90 % interval lies within the
            margin, so that two one-sided tests at 5 % reject any larger difference; else ``undecided``.
        no_worse: The 90 % interval does not reach beyond the margin on the worse side.
    """

    ratio: float | None
    interval: Interval | None
    test_interval: Interval | None
    typical: float | None
    typical_interval: Interval | None
    wins: int
    ties: int
    losses: int
    verdict: Verdict
    no_worse: bool

    @property
    def win_rate(self) -> float:
        """Share of windows won; a tie counts half."""
        return (self.wins + self.ties / 2) / (self.wins + self.ties + self.losses)


def paired_ratio(
    values: FloatArray, others: FloatArray, draws: Draws, *, less_is_better: bool = True, margin: float = MARGIN
) -> PairedRatio:
    """Compare two policies over the same windows.

    Args:
        values: (K,) a metric of each window under the policy, at least 0.
        others: (K,) the same under the other policy.
        draws: Resamples of the windows.
        less_is_better: Direction of the metric.
        margin: Differences up to this share of the other's mean do not matter.
    """
    tied = np.abs(values - others) <= TIE * np.maximum(np.abs(values), np.abs(others))
    below = (values < others) & ~tied
    wins = int((below if less_is_better else ~below & ~tied).sum())
    ties = int(tied.sum())
    ratio = interval = test = None
    base = float(others.mean())
    if base > 0:
        ratio = float(values.mean()) / base
        if draws.weights is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                replicates = (draws.weights @ values) / (draws.weights @ others)
            interval, test = draws.interval(replicates), draws.interval(replicates, TEST_LEVEL)
    typical = typical_interval = None
    if (values > 0).all() and (others > 0).all():
        logs = np.log(values / others)
        typical = float(np.exp(logs.mean()))
        found = draws.mean(logs)
        typical_interval = None if found is None else (float(np.exp(found[0])), float(np.exp(found[1])))
    return PairedRatio(
        ratio=ratio,
        interval=interval,
        test_interval=test,
        typical=typical,
        typical_interval=typical_interval,
        wins=wins,
        ties=ties,
        losses=len(values) - wins - ties,
        verdict=verdict_of(interval, test, less_is_better=less_is_better, margin=margin),
        no_worse=test is not None and (test[1] < 1 + margin if less_is_better else test[0] > 1 - margin),
    )


def pooled_ratio(
    pairs: Sequence[tuple[FloatArray, FloatArray]], draws: Sequence[Draws]
) -> tuple[float | None, Interval | None]:
    """Geometric mean over traces of the ratio of two policies' means, and its 95 % interval.

    Args:
        pairs: For each trace, (K,) a metric of each window under either policy; K differs from trace to trace.
        draws: For each trace, resamples of its windows, drawn apart from those of the others.

    Returns:
        The ratio, None where a mean is 0; and the interval, None where a trace has too few windows.
    """
    if not all(mine.mean() > 0 and others.mean() > 0 for mine, others in pairs):
        return None, None
    ratio = float(np.exp(np.mean([np.log(mine.mean() / others.mean()) for mine, others in pairs])))
    logs = []
    for (mine, others), drawn in zip(pairs, draws, strict=True):
        if drawn.weights is None:
            return ratio, None
        with np.errstate(divide="ignore", invalid="ignore"):
            logs.append(np.log((drawn.weights @ mine) / (drawn.weights @ others)))
    fewest = min(draws, key=lambda drawn: drawn.blocks)
    return ratio, fewest.interval(np.exp(np.mean(logs, axis=0)))


def verdict_of(interval: Interval | None, test: Interval | None, *, less_is_better: bool, margin: float) -> Verdict:
    """See ``PairedRatio.verdict``.

    A difference that is both certain and too small to matter is called equal.
    """
    if interval is None or test is None:
        return "undecided"
    if 1 - margin < test[0] and test[1] < 1 + margin:
        return "equal"
    if interval[1] < 1:
        return "better" if less_is_better else "worse"
    if interval[0] > 1:
        return "worse" if less_is_better else "better"
    return "undecided"


@dataclass(frozen=True, slots=True)
class Seeds:
    """What several seeds of one training gave; positions are those of the seeds as they were given.

    Attributes:
        worst: Position of the worst.
        median: Position of the middle one; the worse of two.
        best: Position of the best.
    """

    worst: int
    median: int
    best: int


def rank_seeds(values: Sequence[float], *, less_is_better: bool = True) -> Seeds:
    """The worst, the middle and the best of at least one value."""
    order = sorted(range(len(values)), key=lambda i: (values[i] if less_is_better else -values[i], i))
    return Seeds(worst=order[-1], median=order[len(order) // 2], best=order[0])
