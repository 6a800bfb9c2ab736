"""What a predictor of run times is told of every job at its submission: names and version of the columns, their upkeep.

The compiled functions of ``kernels.durations`` write the columns; here is what they are called, and how the arrays that
they work on are set up: for training, for replays in either engine, and for a live queue. A change of a column's
meaning needs a new ``VERSION``: a model is refused by any other schema than the one it was trained on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.features import Schema
from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.scheduler.kernels.durations import RunFacts, RunHistories
    from shunter.scheduler.kernels.forecasts import Forecasts
    from shunter.scheduler.kernels.forest import Forest

VERSION = 1

WINDOW, RATE = 200, 0.005
"""Of the calibration, see ``RunModel``."""

KEYS = (
    ("who", "the user, or the group where the log has no user"),
    ("alike", "who, request and size"),
    ("who_request", "who and request"),
    ("who_size", "who and size"),
    ("all", "all jobs"),
    ("group", "the group"),
    ("queue", "the queue"),
    ("request", "jobs with the same request"),
    ("group_size", "the group and the size"),
)
"""Whose history is told, in the order of ``kernels.durations``; the first four in full."""

BASE = (
    (
        "typical",
        "log of the typical run time: middle of the eight newest of the narrowest key of which a job has ended",
    ),
    ("log_request", "log of the requested seconds; missing where there is no request"),
    ("request", "log_request less typical"),
    ("log_cpus", "log(1 + CPUs of the whole gang)"),
    ("log_gpus", "log(1 + GPUs of the whole gang)"),
    ("log_area", "log_request + log of the GPUs, or of the CPUs where no GPU is asked for"),
    ("hour", "of the day; missing where the log has no date"),
    ("weekday", "days since Thursday 0:00, 0 to 7; missing where the log has no date"),
    ("has_user", "1 where the user is known"),
    ("who_waiting", "log(1 + waiting jobs of the user)"),
    ("all_running", "log(1 + running jobs)"),
)

PLAIN = (
    ("count", "log(1 + jobs that have ended)"),
    ("mean", "running mean of log run time less typical, the newest counting 0.3"),
    ("slow_mean", "the same, the newest counting 0.05"),
    ("least", "log run time less typical: least of the eight newest"),
    ("middle", "middle of them"),
    ("most", "largest of them"),
    ("short", "running share of jobs of less than a minute"),
    ("ratio", "running mean of log(run / request)"),
    ("at_limit", "running share of jobs that ran up to their request"),
)

FULL = (
    ("last", "log run time less typical, of the job that ended last"),
    ("before", "of the one that ended before it"),
    ("since_end", "log(1 + seconds since a job ended)"),
    ("last_ratio", "log(run / request) of the last one with a request"),
    ("running", "log(1 + jobs that run)"),
    ("elapsed", "log(1 + mean seconds that these have run so far) less typical"),
    ("since_start", "log(1 + seconds since one started)"),
    ("recent", "log(1 + jobs submitted, each counting half after an hour)"),
    ("since_submit", "log(1 + seconds since the submission before)"),
)


def _names() -> tuple[tuple[str, str], ...]:
    found = list(BASE)
    for place, (key, of) in enumerate(KEYS):
        found += [(f"{key}_{name}", f"{meaning}: {of}") for name, meaning in PLAIN + (FULL if place < 4 else ())]
    return tuple(found)


FEATURES: tuple[tuple[str, str], ...] = _names()
"""Name and meaning of each column, in the order of ``kernels.durations.write_run_features``."""

SCHEMA = Schema(
    name="durations",
    version=VERSION,
    sha256=hashlib.sha256("\n".join(name for name, _ in FEATURES).encode()).hexdigest(),
    size=len(FEATURES),
)


@dataclass(frozen=True, slots=True)
class Submissions:
    """What is known of jobs when they are submitted, all (J,), in submit order.

    Attributes:
        submit_s: Submit times.
        request_s: Requested times; NaN where there is none.
        cpus: Of the whole gang.
        gpus: Of the whole gang.
        user: Codes from 0 on; −1 where unknown.
        group: Likewise.
        queue: Likewise.
        clock_s: Unix times of the submissions; NaN where the log has no date.
    """

    submit_s: FloatArray
    request_s: FloatArray
    cpus: FloatArray
    gpus: FloatArray
    user: IntArray
    group: IntArray
    queue: IntArray
    clock_s: FloatArray

    def __len__(self) -> int:
        return len(self.submit_s)

    def take(self, rows: slice) -> Submissions:
        """Some of the jobs, in their order."""
        return Submissions(*(getattr(self, f.name)[rows] for f in fields(self)))


def run_facts(jobs: Submissions) -> RunFacts:
    """The facts of jobs, with their keys numbered."""
    from shunter.scheduler.kernels.durations import RunFacts

    num_users = int(jobs.user.max(initial=-1)) + 1
    who = np.where(jobs.user >= 0, jobs.user, np.where(jobs.group >= 0, num_users + jobs.group, -1))
    request = np.unique(jobs.request_s, return_inverse=True)[1].reshape(-1)
    size = _paired(*(np.unique(amount, return_inverse=True)[1].reshape(-1) for amount in (jobs.cpus, jobs.gpus)))
    kinds = (
        who,
        _paired(_paired(who, request), size),
        _paired(who, request),
        _paired(who, size),
        np.zeros(len(jobs), np.int64),
        jobs.group,
        jobs.queue,
        np.where(np.isnan(jobs.request_s), -1, request),
        _paired(jobs.group, size),
    )
    keys = np.zeros((len(jobs), len(KEYS)), np.int64)
    first = 1
    for place, kind in enumerate(kinds):
        keys[:, place] = np.where(kind >= 0, first + kind, 0)
        first += int(kind.max(initial=-1)) + 1
    return RunFacts(
        request_s=np.maximum(jobs.request_s, 1.0),
        cpus=np.array(jobs.cpus, np.float64),
        gpus=np.array(jobs.gpus, np.float64),
        clock_s=np.array(jobs.clock_s, np.float64),
        has_user=(jobs.user >= 0).astype(np.float64),
        keys=keys,
    )


def _paired(a: IntArray, b: IntArray) -> IntArray:
    """Codes of pairs, from 0 on; −1 where either is unknown."""
    known = (a >= 0) & (b >= 0)
    pair = np.where(known, a * (int(b.max(initial=0)) + 1) + b, -1)
    values, codes = np.unique(pair, return_inverse=True)
    found: IntArray = codes.reshape(-1) - int(len(values) > 0 and values[0] < 0)
    return found


def new_run_histories(facts: RunFacts) -> RunHistories:
    """Nothing has happened yet."""
    from shunter.scheduler.kernels.durations import NUM_HISTORY_COLUMNS, RING, RunHistories

    return RunHistories(
        of=np.zeros((int(facts.keys.max(initial=0)) + 1, NUM_HISTORY_COLUMNS)),
        started_s=np.full(len(facts.keys), np.nan),
        room=np.zeros(RING),
    )


@dataclass(frozen=True, slots=True)
class RunModel:
    """A model of run times: what a bundle holds, and what replays and live queues are handed.

    Attributes:
        forest: One ensemble a quantile, of differences from the typical log run time.
        levels: Shares of jobs that are to lie below each quantile, rising.
        expected: The one of these levels that decisions count with.
        window: Ended jobs by which the outer quantiles are calibrated; 0: they are not.
        rate: By how much one of them moves the level at which the calibration is read.
        name: What tables call it.
        sha256: Of its file.
    """

    forest: Forest
    levels: tuple[float, ...]
    expected: float
    window: int = WINDOW
    rate: float = RATE
    name: str = "learned"
    sha256: str = ""

    def forecasts(self, facts: RunFacts) -> Forecasts:
        """The model at work on jobs of which nothing has happened yet."""
        return new_forecasts(facts, self)


def new_forecasts(facts: RunFacts, model: RunModel | None = None) -> Forecasts:
    """Forecasts of jobs of which nothing has happened yet; without a model only their histories are kept."""
    from shunter.scheduler.kernels.forecasts import Forecasts
    from shunter.scheduler.kernels.forest import no_forest

    levels = () if model is None else model.levels
    window = (len(levels), 0 if model is None else model.window)
    return Forecasts(
        facts=facts,
        histories=new_run_histories(facts),
        forest=no_forest() if model is None else model.forest,
        levels=np.array(levels, np.float64),
        shift=np.zeros(len(levels)),
        lift=np.zeros(len(levels)),
        beyond=np.zeros(window),
        ordered=np.zeros(window),
        seen=np.zeros(1, np.int64),
        rate=np.asarray([0.0 if model is None else model.rate]),
        most_s=most_of(facts.request_s),
        at_level=np.asarray([0 if model is None else levels.index(model.expected)]),
        raw=np.full((len(facts.keys), len(levels)), np.nan),
        x=np.zeros(SCHEMA.size),
        told=np.zeros(len(levels)),
    )


@dataclass(frozen=True, slots=True)
class Recorded:
    """A schedule of jobs that is over: rows are those of the submissions.

    Attributes:
        jobs: What was known of each when it was submitted.
        start_s: (J,) when each started.
        run_s: (J,) what each took; what is told of a job reads those that had ended.
    """

    jobs: Submissions
    start_s: FloatArray
    run_s: FloatArray

    def __post_init__(self) -> None:
        early = np.flatnonzero(~(self.start_s >= self.jobs.submit_s))
        if len(early):
            row = int(early[0])
            raise ValueError(
                f"job {row} starts at {self.start_s[row]} s, before its submission at {self.jobs.submit_s[row]} s"
            )

    def features(self) -> FloatArray:
        """(J, F) features, each job's as they were at its submission."""
        found = np.empty((len(self.jobs), SCHEMA.size))
        self.watch(new_forecasts(run_facts(self.jobs)), features=found)
        return found

    def quantiles(self, model: RunModel) -> FloatArray:
        """(J, Q) quantiles in seconds, each job's as they were told at its submission: calibrated by what had ended."""
        found = np.empty((len(self.jobs), len(model.levels)))
        self.watch(model.forecasts(run_facts(self.jobs)), quantiles=found)
        return found

    def watch(
        self,
        forecasts: Forecasts,
        *,
        until_s: float = np.inf,
        features: FloatArray | None = None,
        quantiles: FloatArray | None = None,
    ) -> None:
        """Let what the schedule teaches up to a time enter forecasts; see ``kernels.forecasts.watch``."""
        from shunter.scheduler.kernels.forecasts import watch

        rows = np.arange(len(self.jobs))
        end_s = self.start_s + self.run_s
        watch(
            forecasts,
            np.array(self.jobs.submit_s, np.float64),
            np.array(self.start_s, np.float64),
            np.array(self.run_s, np.float64),
            np.lexsort((rows, self.start_s)),
            np.lexsort((rows, end_s == self.start_s, end_s)),
            until_s,
            np.empty((0, SCHEMA.size)) if features is None else features,
            np.empty((0, len(forecasts.levels))) if quantiles is None else quantiles,
        )


def most_of(request_s: FloatArray) -> FloatArray:
    """(J,) the largest run times that are predicted: the requests, at least 1 s; inf where there is none."""
    found: FloatArray = np.where(np.isnan(request_s), np.inf, np.maximum(request_s, 1.0))
    return found
