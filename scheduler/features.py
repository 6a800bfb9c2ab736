"""What a learned ordering is told of every waiting job: names, meanings and version of the columns, and their upkeep.

The compiled functions of ``kernels.features`` write the columns; here is what they are called, and the one place where
what they read is set up: for replays in either engine, for training and for a plan made from a snapshot. A change of a
column's meaning needs a new ``VERSION``: a model is refused by any other schema than the one it was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray, numbers_of

if TYPE_CHECKING:
    from shunter.scheduler.kernels.features import Facts, Histories, Scratch
    from shunter.scheduler.snapshot import JobColumns, JobHistories, Snapshot
    from shunter.scheduler.state import ClusterState

VERSION = 2


class Feature(NamedTuple):
    """One column.

    Attributes:
        name: Stable name.
        meaning: One line.
        low: Lower end of the values that are usual.
        high: Upper end.
    """

    name: str
    meaning: str
    low: float
    high: float


FEATURES: tuple[Feature, ...] = (
    Feature("log_request", "log(1 + requested seconds) / 15", 0.05, 0.9),
    Feature("log_size", "log(1 + processors) over that of the whole cluster", 0.05, 1.0),
    Feature("size", "processors over those of the cluster", 0.0, 1.0),
    Feature("log_wait", "log(1 + seconds waited) / 15", 0.0, 1.0),
    Feature("relative_wait", "log(1 + wait / request) / 5", 0.0, 2.0),
    Feature("log_area", "log_request · log_size", 0.0, 0.9),
    Feature("fits", "1 where the job could start now", 0.0, 1.0),
    Feature("spare", "free processors less the job's, over those of the cluster", -1.0, 1.0),
    Feature("user_ratio", "running mean of log(run / request) of the user's finished jobs, / 4", -3.0, 1.0),
    Feature("user_known", "n / (n + 2) for the user's n finished jobs", 0.0, 1.0),
    Feature("user_spread", "standard deviation of the user's log(run / request), / 2", 0.0, 2.0),
    Feature("alike_ratio", "as user_ratio, of jobs of the same user, request and size", -3.0, 1.0),
    Feature("alike_known", "n / (n + 1) for the n finished ones of these", 0.0, 1.0),
    Feature("user_running", "processors of the user's running jobs over those of the cluster", 0.0, 1.0),
    Feature("user_waiting", "log(1 + waiting jobs of the user) / 8", 0.0, 1.2),
    Feature("log_until_free", "log(1 + seconds until enough processors are expected to be free) / 15", 0.0, 1.0),
    Feature("log_expected", "log of the expected run time, learned from the user's jobs, / 15", -0.2, 0.9),
    Feature("free", "free processors over those of the cluster; of all jobs", 0.0, 1.0),
    Feature("queue_length", "log(1 + waiting jobs) / 8; of all jobs", 0.08, 1.2),
    Feature("queued_area", "log(1 + hours of the cluster that the queue asks for) / 5; of all jobs", 0.0, 2.0),
    Feature("running_left", "log(1 + seconds of the cluster that running jobs still need) / 15; of all jobs", 0.0, 1.0),
    Feature("oldest_wait", "log(1 + longest wait in the queue) / 15; of all jobs", 0.0, 1.0),
    Feature("user_day", "log(1 + the user's share of the cluster in %, half-life a day) / 5", 0.0, 1.0),
    Feature("user_week", "as user_day, half-life a week", 0.0, 1.0),
    Feature("log_slowdown", "log of the bounded slowdown if it started now and ran as expected, / 10", 0.0, 1.5),
    Feature("age", "waiting time over five days, at most 4", 0.0, 4.0),
    Feature(
        "relative_age", "waiting time over five times that in which all there is could be done, at most 4", 0.0, 4.0
    ),
    Feature("user_short", "running share of the user's finished jobs that ran for less than a minute", 0.0, 1.0),
    Feature("alike_short", "as user_short, of jobs of the same user, request and size", 0.0, 1.0),
    Feature("user_last", "log(run / request) of the user's job that finished last, / 4", -3.0, 1.0),
    Feature("alike_last", "as user_last, of jobs of the same user, request and size", -3.0, 1.0),
    Feature("user_last_run", "log(1 + run seconds) of the user's job that finished last, / 15", 0.0, 0.9),
    Feature("since_ended", "log(1 + seconds since it did) / 15; 1 where none has", 0.0, 1.2),
    Feature("log_processors", "log(1 + processors) / 12, whatever the cluster's size", 0.0, 1.0),
)
"""The columns in the order of ``kernels.features.write_row``."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a model was trained on; it can be used with the very same only.

    Attributes:
        name: Of the set of columns.
        version: Of their meaning.
        sha256: Over the names, in order.
        size: Number of columns.
    """

    name: str
    version: int
    sha256: str
    size: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256, "size": self.size}


SCHEMA = Schema(
    name="queue",
    version=VERSION,
    sha256=hashlib.sha256("\n".join(feature.name for feature in FEATURES).encode()).hexdigest(),
    size=len(FEATURES),
)


def facts_of(columns: JobColumns, total_processors: float) -> Facts:
    """What the features say of jobs that does not change.

    Args:
        columns: (J,) jobs.
        total_processors: Of the whole cluster, in the unit of ``columns.processors``.
    """
    from shunter.scheduler.kernels.features import LOG_SPAN, Facts

    request_s = np.maximum(columns.requested_s, 1.0)
    user = np.maximum(columns.user_idx, -1) + 1
    equal = np.column_stack([user.astype(np.float64), request_s, columns.processors])
    return Facts(
        submit_s=columns.submit_s,
        request_s=request_s,
        log_request=np.log1p(request_s) / LOG_SPAN,
        processors=columns.processors,
        log_size=np.log1p(np.maximum(columns.processors, 0.0)) / np.log1p(total_processors),  # some logs know no size
        user=user,
        alike=numbers_of(equal),
        total=np.asarray([total_processors]),
    )


def new_histories(facts: Facts) -> Histories:
    """Nothing has been learned of these jobs' users."""
    from shunter.scheduler.kernels.features import NUM_HISTORY_ROWS, Histories

    return Histories(
        np.zeros((NUM_HISTORY_ROWS, int(facts.user.max(initial=0)) + 1)),
        np.zeros((NUM_HISTORY_ROWS, int(facts.alike.max(initial=0)) + 1)),
    )


def new_scratch(num_jobs: int) -> Scratch:
    """Room for what is worked out once an instant."""
    from shunter.scheduler.kernels.features import NUM_CONTEXT, Scratch

    return Scratch(np.zeros(num_jobs), np.zeros(num_jobs), np.zeros(NUM_CONTEXT))


@dataclass(frozen=True, slots=True)
class Past:
    """Jobs that had ended before the ones that are looked at begin to come: what a live scheduler would know of.

    Rows are jobs in the order of their ends, all arrays (P,).

    Attributes:
        user_idx: Users, numbered as those of the jobs that are looked at; −1 unknown.
        requested_s: Requested times.
        processors: Units of the scarce resource.
        run_s: What they took.
        end_s: When they ended.
    """

    user_idx: IntArray
    requested_s: FloatArray
    processors: FloatArray
    run_s: FloatArray
    end_s: FloatArray

    def __len__(self) -> int:
        return len(self.end_s)


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """All that the features of the jobs of one state are made from.

    Attributes:
        facts: What does not change.
        histories: What finished jobs have taught; changes as jobs come, start and end.
        scratch: Room.
    """

    facts: Facts
    histories: Histories
    scratch: Scratch

    @classmethod
    def of(cls, columns: JobColumns, total_processors: float, past: Past | None = None) -> FeatureSource:
        """For jobs of which nothing has happened yet, after jobs that have taught something."""
        if past is None or not len(past):
            facts = facts_of(columns, total_processors)
            return cls(facts, new_histories(facts), new_scratch(len(columns)))
        from shunter.scheduler.kernels.features import Facts, learn_past
        from shunter.scheduler.snapshot import JobColumns

        every = facts_of(
            JobColumns.of(
                np.concatenate([past.end_s - past.run_s, columns.submit_s]),
                requested_s=np.concatenate([past.requested_s, columns.requested_s]),
                processors=np.concatenate([past.processors, columns.processors]),
                user_idx=np.concatenate([past.user_idx, columns.user_idx]),
            ),
            total_processors,
        )
        histories, count = new_histories(every), len(past)
        learn_past(every, histories, np.arange(count), past.run_s, past.end_s, count, np.inf)
        own = {name: array[count:].copy() for name, array in every._asdict().items() if name != "total"}
        return cls(Facts(**own, total=every.total), histories, new_scratch(len(columns)))

    @classmethod
    def of_snapshot(cls, snapshot: Snapshot, known: JobHistories) -> FeatureSource:
        """For the jobs of a snapshot, each of which brings along what is known of its user and of equal jobs.

        Users and equal jobs are numbered anew: those of a snapshot need not be all that there are.
        """
        source = cls.of(snapshot.columns, snapshot.total_processors)
        source.histories.users[:, source.facts.user] = known.users
        source.histories.alike[:, source.facts.alike] = known.alike
        return source

    def submitted(self, rows: Iterable[int]) -> None:
        """Jobs begin to wait."""
        from shunter.scheduler.kernels.features import note_submitted

        for row in rows:
            note_submitted(self.facts, self.histories, row)

    def started(self, rows: Iterable[int], now_s: float) -> None:
        """Jobs stop waiting and run."""
        from shunter.scheduler.kernels.features import note_started

        for row in rows:
            note_started(self.facts, self.histories, row, now_s)

    def stopped(self, row: int, now_s: float) -> None:
        """A job runs no longer though it has not ended: nothing is learned of its run time."""
        from shunter.scheduler.kernels.features import change_running

        user = int(self.facts.user[row])
        change_running(self.histories.users, user, -float(self.facts.processors[row]), now_s)

    def ended(self, rows: Iterable[int], run_s: FloatArray, now_s: float) -> None:
        """Jobs have ended; they are learned from in the order of their rows. ``run_s`` (J,) is what they took."""
        from shunter.scheduler.kernels.features import note_ended

        for row in sorted(rows):
            note_ended(self.facts, self.histories, row, float(run_s[row]), now_s)

    def matrix(self, state: ClusterState, now_s: float) -> FloatArray:
        """(Q, F) features of the waiting jobs, in the order of the queue."""
        from shunter.scheduler.kernels.features import NUM_FEATURES, write_features

        found = np.zeros((len(state.queue), NUM_FEATURES))
        write_features(state.packed, self.facts, self.histories, self.scratch, now_s, found)
        return found

    def known_of(self, rows: IntArray) -> JobHistories:
        """What is known of some jobs' users and equal jobs, job by job: copies, for a snapshot."""
        from shunter.scheduler.snapshot import JobHistories

        return JobHistories(
            np.ascontiguousarray(self.histories.users[:, self.facts.user[rows]]),
            np.ascontiguousarray(self.histories.alike[:, self.facts.alike[rows]]),
        )
