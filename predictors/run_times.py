"""Run times drawn from what ended jobs tell: no model, only the jobs most like the one in question.

A job's run time is its request times the share of the request that a job took which has ended: one of the last of the
same user, request and size, or where these are few one of the user's last, or of anybody's. A job that runs already is
only compared with jobs that ran longer than it has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shunter.scheduler.types import FloatArray, IntArray

KeyArray = npt.NDArray[np.uint64]

LAST = (20, 50, 500)
"""Jobs that are looked back at: alike, of the same user, of anybody."""

ENOUGH = (4, 4, 1)
"""So many of them have to be there."""

LEAST_S = 1.0

GRACE_S = 60.0
"""A job past its request is expected to run for a quarter of what it has run, and so long at least."""


@dataclass(frozen=True, slots=True)
class RunJobs:
    """What is known of jobs, (J,) each.

    Attributes:
        user_idx: Row of the user; −1 when unknown.
        request_s: Requested times, above 0.
        processors: Sizes.
        quantile_s: (J, L) run times that a model told at their submissions, for ``RunQuantiles``; None without one.
    """

    user_idx: IntArray
    request_s: FloatArray
    processors: FloatArray
    quantile_s: FloatArray | None = None

    def take(self, rows: IntArray) -> RunJobs:
        """Some of them."""
        quantile_s = None if self.quantile_s is None else self.quantile_s[rows]
        return RunJobs(self.user_idx[rows], self.request_s[rows], self.processors[rows], quantile_s)


class RunTimes:
    """What jobs that have ended tell of those that have not.

    Args:
        ended: Jobs in the order of their ends.
        run_s: (J,) how long they ran.
    """

    def __init__(self, ended: RunJobs, run_s: FloatArray) -> None:
        self._ratio = run_s / np.maximum(ended.request_s, 1.0)
        self._levels = [_Level.of(keys, self._ratio) for keys in _keys(ended)]

    def draw(self, jobs: RunJobs, elapsed_s: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
        """(S, J) run times of jobs that have run for ``elapsed_s`` (J,) already, 0 for those that wait.

        Args:
            jobs: The jobs.
            elapsed_s: How long each has run.
            count: S.
            rng: Draws.
        """
        size = len(elapsed_s)
        request_s = np.maximum(jobs.request_s, 1.0)
        first, last = self._groups(jobs)
        places = rng.random((count, size))
        drawn = np.ones((count, size))
        for level, values in enumerate(self._levels):
            chosen = first[level] < last[level]
            index = first[level] + (places * (last[level] - first[level])).astype(np.int64)
            drawn[:, chosen] = values.ratio[index[:, chosen]]
        run_s = drawn * request_s
        for job in np.flatnonzero(elapsed_s > 0):
            run_s[:, job] = self._longer(int(job), first, last, request_s[job], elapsed_s[job], places[:, job])
        return np.maximum(run_s, LEAST_S)

    def _groups(self, jobs: RunJobs) -> tuple[IntArray, IntArray]:
        """(L, J) where each job's group begins and ends on each level; empty but on the nearest with enough jobs."""
        first, last = np.zeros((2, len(self._levels), len(jobs.request_s)), np.int64)
        open_jobs = np.ones(len(jobs.request_s), bool)
        for level, (values, keys) in enumerate(zip(self._levels, _keys(jobs), strict=True)):
            begin, end = values.group(keys)
            begin = np.maximum(begin, end - LAST[level])
            chosen = open_jobs & (end - begin >= ENOUGH[level])
            first[level, chosen], last[level, chosen] = begin[chosen], end[chosen]
            open_jobs &= ~chosen
        return first, last

    def _longer(
        self, job: int, first: IntArray, last: IntArray, request_s: float, elapsed_s: float, places: FloatArray
    ) -> FloatArray:
        """(S,) run times above ``elapsed_s``: of its group, else of anybody's jobs, else a guess."""
        everybody = self._levels[-1].ratio
        groups = [values.ratio[first[i, job] : last[i, job]] for i, values in enumerate(self._levels)]
        for ratios in (*groups, everybody[-LAST[-1] :]):
            longer = np.sort(ratios[ratios * request_s > elapsed_s]) * request_s
            if len(longer):
                chosen: FloatArray = longer[(places * len(longer)).astype(np.int64)]
                return chosen
        return beyond_s(np.full(len(places), request_s), np.full(len(places), elapsed_s), places)


def beyond_s(request_s: FloatArray, elapsed_s: FloatArray, places: FloatArray) -> FloatArray:
    """Run times of jobs of which nothing else is known than how long they have run: up to the request, or a bit more.

    Args:
        request_s: Requests.
        elapsed_s: How long they have run.
        places: Draws between 0 and 1.
    """
    past_s = elapsed_s + np.maximum(elapsed_s / 4.0, GRACE_S)
    most_s = np.where(request_s > elapsed_s, request_s, past_s)
    guess_s: FloatArray = elapsed_s + np.maximum(places, 1e-3) * (most_s - elapsed_s)
    return guess_s


@dataclass(frozen=True, slots=True)
class _Level:
    """Ratios of ended jobs group by group, in each in the order of their ends."""

    keys: KeyArray
    ratio: FloatArray

    @classmethod
    def of(cls, keys: KeyArray, ratio: FloatArray) -> _Level:
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], ratio[order])

    def group(self, keys: KeyArray) -> tuple[IntArray, IntArray]:
        """(J,) where the groups with these keys begin and end."""
        return np.searchsorted(self.keys, keys, "left"), np.searchsorted(self.keys, keys, "right")


def _keys(jobs: RunJobs) -> tuple[KeyArray, KeyArray, KeyArray]:
    """(J,) keys that are equal for jobs of one group, level by level.

    Those of different groups are equal with a probability of 2⁻⁶⁴. Jobs of unknown users count as one user's.
    """
    user = _mixed(jobs.user_idx.astype(np.int64).view(np.uint64))
    request, size = (
        np.ascontiguousarray(part, np.float64).view(np.uint64) for part in (jobs.request_s, jobs.processors)
    )
    return _mixed(_mixed(user ^ request) ^ size), user, np.zeros_like(user)


def _mixed(numbers: KeyArray) -> KeyArray:
    """The finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): a bijection under which bits depend on all."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
