"""How good predicted run times are: beside what users ask for and simple rules, with intervals over days.

Everything that is judged is told at submission and knows only jobs that had ended by then. A point prediction is never
more than the request. Errors count both run times as at least one second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.durations import RunModel, most_of
from shunter.traces.submissions import recorded

if TYPE_CHECKING:
    from shunter.scheduler.durations import Recorded
    from shunter.scheduler.types import BoolArray, FloatArray, IntArray
    from shunter.traces.periods import Period
    from shunter.traces.tables import Trace

DAY_S = 86_400.0
RESAMPLES = 400
UNKNOWN_S = 3600.0
"""What a rule says of a job without a request before any job has ended."""

MEANINGS = {
    "request": "what the user asked for; where that is missing the mean of all jobs that had ended",
    "last-two": "mean of the user's two jobs that ended last (Tsafrir); the request for users without two",
    "average": "mean of all jobs of the user that had ended",
    "last-two-ratio": "as last-two, of run / request, times the request",
    "average-ratio": "as average, of run / request, times the request",
    "typical": "median of the eight newest of the narrowest group of like jobs: what the model starts from",
}
"""The rules that a model is set beside; where a log has no users its groups stand for them."""


def baselines(schedule: Recorded) -> dict[str, FloatArray]:
    """Name → (J,) seconds that each rule says at each job's submission."""
    jobs, run_s = schedule.jobs, schedule.run_s
    who = np.where(jobs.user >= 0, jobs.user, -2 - jobs.group)
    most_s = most_of(jobs.request_s)
    end_s = schedule.start_s + run_s
    order = np.argsort(end_s, kind="stable")
    told = {name: np.full(len(jobs), np.nan) for name in MEANINGS if name != "typical"}
    ended, total_s, known = 0, 0.0, dict[int, _Known]()
    for row in range(len(jobs)):
        now_s = jobs.submit_s[row]
        while ended < len(order) and end_s[order[ended]] <= now_s:
            past = int(order[ended])
            total_s += run_s[past]
            if who[past] != -1:
                known.setdefault(int(who[past]), _Known()).learn(float(run_s[past]), float(jobs.request_s[past]))
            ended += 1
        fallback_s = total_s / ended if ended else UNKNOWN_S
        fallback_s = jobs.request_s[row] if np.isfinite(jobs.request_s[row]) else fallback_s
        told["request"][row] = fallback_s
        said = known.get(int(who[row]), NOTHING).says(float(jobs.request_s[row]))
        for name, value in said.items():
            told[name][row] = min(value if np.isfinite(value) else fallback_s, most_s[row])
    features = schedule.features()
    told["typical"] = np.minimum(np.exp(features[:, 0]), most_s)
    return told


class _Known:
    """What has been seen of one user."""

    __slots__ = ("count", "last", "num_ratios", "ratios", "sum_ratio", "sum_s")

    def __init__(self) -> None:
        self.last: tuple[float, ...] = ()
        self.ratios: tuple[float, ...] = ()
        self.count = self.num_ratios = 0
        self.sum_s = self.sum_ratio = 0.0

    def learn(self, run_s: float, request_s: float) -> None:
        self.last = (*self.last[-1:], run_s)
        self.count += 1
        self.sum_s += run_s
        if np.isfinite(request_s):
            ratio = run_s / max(request_s, 1.0)
            self.ratios = (*self.ratios[-1:], ratio)
            self.num_ratios += 1
            self.sum_ratio += ratio

    def says(self, request_s: float) -> dict[str, float]:
        two = len(self.last) == 2
        return {
            "last-two": sum(self.last) / 2 if two else np.nan,
            "average": self.sum_s / self.count if self.count else np.nan,
            "last-two-ratio": sum(self.ratios) / 2 * request_s if len(self.ratios) == 2 else np.nan,
            "average-ratio": self.sum_ratio / self.num_ratios * request_s if self.num_ratios else np.nan,
        }


NOTHING = _Known()


@dataclass(frozen=True, slots=True)
class Judged:
    """What was told of the jobs of a period, and what they took.

    Attributes:
        submit_s: (J,) submit times.
        run_s: (J,) what they took, at least 1 s.
        most_s: (J,) requests; inf where there is none.
        points: Name → (J,) predictions.
        quantiles: (J, Q) of the model.
        raw: (J, Q) the same without calibration.
        levels: Of these.
    """

    submit_s: FloatArray
    run_s: FloatArray
    most_s: FloatArray
    points: Mapping[str, FloatArray]
    quantiles: FloatArray
    raw: FloatArray
    levels: tuple[float, ...]

    @property
    def inside(self) -> BoolArray:
        """(J,) whether the job ended in its interval; at the request an interval has no upper end."""
        counted = np.minimum(self.run_s, self.most_s) * (1.0 - 1e-9)
        found: BoolArray = (counted * (1 + 2e-9) >= self.quantiles[:, 0]) & (counted <= self.quantiles[:, -1])
        return found


def judged(trace: Trace, period: Period, models: Mapping[str, RunModel]) -> dict[str, Judged]:
    """What models and rules say of a period's jobs, after having watched all jobs before it."""
    schedule = recorded(trace.window(0, period.last))
    rows = slice(period.first, period.last)
    rules = {name: values[rows] for name, values in baselines(schedule).items()}
    found = dict[str, Judged]()
    for name, model in models.items():
        quantiles = schedule.quantiles(model)[rows]
        raw = schedule.quantiles(RunModel(model.forest, model.levels, model.expected, window=0))[rows]
        median = model.levels.index(0.5) if 0.5 in model.levels else model.levels.index(model.expected)
        found[name] = Judged(
            schedule.jobs.submit_s[rows],
            np.maximum(schedule.run_s[rows], 1.0),
            most_of(schedule.jobs.request_s[rows]),
            {name: quantiles[:, median]} | rules,
            quantiles,
            raw,
            model.levels,
        )
    return found


def summary(found: Judged, name: str, seed: int = 0) -> dict[str, Any]:
    """The table of one trace: every contender with intervals, and how the quantiles of the model held.

    Args:
        found: What was told.
        name: Of the model among the points.
        seed: Of the resampling.
    """
    days = ((found.submit_s - found.submit_s[0]) // DAY_S).astype(np.int64)
    weights = day_weights(days, seed)
    errors = {who: np.abs(np.log(np.maximum(told, 1.0) / found.run_s)) for who, told in found.points.items()}
    contenders = []
    for who, told in found.points.items():
        error = errors[who]
        under = (np.maximum(told, 1.0) < found.run_s * (1 - 1e-9)).astype(np.float64)
        contenders.append(
            {
                "name": who,
                "median_ratio_error": _interval(float(np.exp(np.median(error))), np.exp(medians(error, weights))),
                "mean_log_error": _interval(float(error.mean()), means(error, weights)),
                "under_share": _interval(float(under.mean()), means(under, weights)),
                "difference": _interval(
                    float((errors[name] - error).mean()), means(errors[name] - error, weights)
                ),  # of the mean log error: model less contender
            }
        )
    inside = found.inside.astype(np.float64)
    log_run = np.log(np.minimum(found.run_s, found.most_s))
    return {
        "jobs": len(found.run_s),
        "days": int(days[-1]) + 1,
        "contenders": contenders,
        "coverage": _interval(float(inside.mean()), means(inside, weights)),
        "coverage_uncalibrated": float(
            Judged(found.submit_s, found.run_s, found.most_s, {}, found.raw, found.raw, found.levels).inside.mean()
        ),
        "interval_ratio": float(np.exp(np.median(np.log(found.quantiles[:, -1] / found.quantiles[:, 0])))),
        "beyond_request_share": float((found.run_s > found.most_s).mean()),
        "quantiles": [
            {
                "level": level,
                "below_share": float((log_run <= np.log(found.quantiles[:, q]) + 1e-9).mean()),
                "pinball": _interval(*_pinball(log_run, found.quantiles[:, q], level, weights)),
            }
            for q, level in enumerate(found.levels)
        ],
    }


def _pinball(log_run: FloatArray, told: FloatArray, level: float, weights: FloatArray) -> tuple[float, FloatArray]:
    beyond = log_run - np.log(told)
    loss = np.maximum(level * beyond, (level - 1.0) * beyond)
    return float(loss.mean()), means(loss, weights)


def _interval(value: float, resampled: FloatArray) -> dict[str, float]:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return {"value": value, "low": float(low), "high": float(high)}


def day_weights(days: IntArray, seed: int, resamples: int = RESAMPLES) -> FloatArray:
    """(S, J) how often each job counts when days are drawn with replacement."""
    _, of_job = np.unique(days, return_inverse=True)
    num_days = int(of_job.max()) + 1
    drawn = np.random.default_rng([seed, 7]).multinomial(num_days, np.full(num_days, 1.0 / num_days), size=resamples)
    found: FloatArray = drawn[:, of_job.reshape(-1)].astype(np.float32)
    return found


def means(values: FloatArray, weights: FloatArray) -> FloatArray:
    """(S,) weighted means."""
    found: FloatArray = (weights @ values.astype(np.float32)) / weights.sum(axis=1)
    return found


def medians(values: FloatArray, weights: FloatArray) -> FloatArray:
    """(S,) weighted medians."""
    order = np.argsort(values, kind="stable")
    found = np.empty(len(weights))
    for i, weight in enumerate(weights):
        total = np.cumsum(weight[order])
        found[i] = values[order[min(int(np.searchsorted(total, total[-1] / 2)), len(order) - 1)]]
    return found


def over_time(found: Judged, parts: int = 24) -> tuple[FloatArray, FloatArray]:
    """(P,) middle of each part of the period, in days since its begin, and the coverage in it."""
    cuts: Sequence[IntArray] = np.array_split(np.arange(len(found.run_s)), min(parts, len(found.run_s)))
    days = (found.submit_s - found.submit_s[0]) / DAY_S
    inside = found.inside
    return np.asarray([days[rows].mean() for rows in cuts]), np.asarray([inside[rows].mean() for rows in cuts])
