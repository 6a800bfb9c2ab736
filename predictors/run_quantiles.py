"""Run times drawn from a model's quantiles: the other way than ``run_times``, with the same face.

A job's quantiles are those told at its submission. Between two of them logarithms of run times are taken as even, below
the lowest as between the lowest two, above the highest up to the request. A job that runs already is drawn from what is
left of its distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shunter.predictors.run_times import LEAST_S, RunJobs, beyond_s
from shunter.scheduler.types import FloatArray


@dataclass(frozen=True, slots=True)
class RunQuantiles:
    """Draws by quantiles that jobs bring along (``RunJobs.quantile_s``).

    Attributes:
        levels: (L,) of the quantiles, rising, between 0 and 1.
    """

    levels: FloatArray

    def draw(self, jobs: RunJobs, elapsed_s: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
        """(S, J) run times; see ``RunTimes.draw``."""
        assert jobs.quantile_s is not None
        at_levels, log_s = self._curves(jobs.quantile_s, jobs.request_s)
        places = rng.random((count, len(elapsed_s)))
        gone = _share_below(at_levels, log_s, np.log(np.maximum(elapsed_s, 1e-9)))
        run_s = np.exp(_value_at(at_levels, log_s, gone + places * (1.0 - gone)))
        late = run_s <= elapsed_s
        run_s = np.where(late, beyond_s(jobs.request_s, elapsed_s, places), run_s)
        return np.maximum(run_s, LEAST_S)

    def _curves(self, quantile_s: FloatArray, request_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(L + 2,) levels with 0 and 1, and (J, L + 2) logarithms of the run times there, never decreasing."""
        log_s = np.log(np.maximum(quantile_s, LEAST_S))
        first, second = self.levels[:2]
        lowest = log_s[:, 0] - (log_s[:, 1] - log_s[:, 0]) * first / (second - first)
        highest = np.log(np.maximum(request_s, LEAST_S))
        curve = np.concatenate([np.maximum(lowest, 0.0)[:, None], log_s, highest[:, None]], axis=1)
        return np.concatenate([[0.0], self.levels, [1.0]]), np.maximum.accumulate(curve, axis=1)


def _value_at(at_levels: FloatArray, curve: FloatArray, level: FloatArray) -> FloatArray:
    """(S, J) values of curves (J, L) at levels (S, J)."""
    piece = np.clip(np.searchsorted(at_levels, level, "right") - 1, 0, len(at_levels) - 2)
    share = (level - at_levels[piece]) / (at_levels[piece + 1] - at_levels[piece])
    job = np.arange(len(curve))
    value: FloatArray = curve[job, piece] * (1.0 - share) + curve[job, piece + 1] * share
    return value


def _share_below(at_levels: FloatArray, curve: FloatArray, value: FloatArray) -> FloatArray:
    """(J,) levels at which curves (J, L) reach values (J,)."""
    job = np.arange(len(curve))
    piece = np.clip((curve <= value[:, None]).sum(axis=1) - 1, 0, len(at_levels) - 2)
    low, high = curve[job, piece], curve[job, piece + 1]
    share = np.clip((value - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    share = np.where(high > low, share, (value >= high).astype(np.float64))
    found: FloatArray = at_levels[piece] + share * (at_levels[piece + 1] - at_levels[piece])
    return found
