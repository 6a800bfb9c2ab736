"""Start times of waiting jobs as values: what an estimator is told beside a snapshot, and what it answers.

The estimator itself is handed in (``TellStarts``): it rolls the simulator forward and draws run times, which the core
knows nothing of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import numpy as np

from shunter.scheduler.snapshot import JobColumns, JobHistories, Snapshot
from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.scheduler.decide import Settings
    from shunter.scheduler.fairshare import Ledger


class Told(Enum):
    """What an answer rests on; each member says how far it can be relied on."""

    ESTIMATED = "estimated"  # by rolls in which orders are those that will be made
    ORDER_KEPT = "order-kept"  # the ordering cannot be made anew in a roll: the present order was kept
    BY_REQUEST = "by-request"  # no job has ended yet: every job takes what it asks for
    NEVER = "never"  # does not start in any roll: nodes that it needs are closed or too small; no times
    UNSUPPORTED = "unsupported"  # under rules that a roll does not know; no times
    BAD_INPUT = "bad-input"  # what was handed in contradicts itself; no times


@dataclass(frozen=True, slots=True)
class Recent:
    """Jobs of the past whose like may be submitted again.

    Attributes:
        columns: (T,) what is known of them; submit times rise.
        tasks: (T,) gang sizes.
        shape_idx: (T,) rows in ``shapes`` of the snapshot's demand.
        histories: (T,) what is known of their users now; None where no ordering asks.
    """

    columns: JobColumns
    tasks: IntArray
    shape_idx: IntArray
    histories: JobHistories | None = None


def _none() -> FloatArray:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of jobs that the snapshot does not have.

    Attributes:
        user_idx: (E,) users of the jobs that have ended, in the order of their ends; −1 unknown.
        requested_s: (E,) their requests.
        processors: (E,) their sizes.
        run_s: (E,) how long they ran.
        recent: Jobs that were submitted of late, ended or not; None: nobody is expected to come.
        ledger: What users have had, for orderings that ask for it.
    """

    user_idx: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    requested_s: FloatArray = field(default_factory=_none)
    processors: FloatArray = field(default_factory=_none)
    run_s: FloatArray = field(default_factory=_none)
    recent: Recent | None = None
    ledger: Ledger | None = None


@dataclass(frozen=True, slots=True)
class StartTimes:
    """When the waiting jobs start, (Q,) each, in the order of the snapshot.

    Attributes:
        low_s: One of ten starts earlier; never before the present. NaN where no times are told.
        median_s: One of two does.
        high_s: One of ten starts later.
        told: What each answer rests on.
        why: For people: why nothing could be told; empty where something was.
    """

    low_s: FloatArray
    median_s: FloatArray
    high_s: FloatArray
    told: tuple[Told, ...]
    why: str = ""

    @classmethod
    def nothing(cls, count: int, told: Told, why: str) -> StartTimes:
        """No times for ``count`` jobs."""
        low_s, median_s, high_s = np.full((3, count), np.nan)
        return cls(low_s, median_s, high_s, (told,) * count, why)


class TellStarts(Protocol):
    """When the waiting jobs of a snapshot start: the same answer to the same question."""

    def __call__(self, snapshot: Snapshot, past: Past, settings: Settings, seed: int) -> StartTimes:
        """An answer to every input, also to one that makes no sense.

        Args:
            snapshot: The present, after its pass.
            past: What is known of other jobs.
            settings: How decisions are made.
            seed: Of what is drawn.
        """


def fault_of(snapshot: Snapshot, past: Past) -> str:
    """What is wrong with a question, in words; empty where nothing is."""
    columns, waiting = snapshot.columns, snapshot.num_running
    ended = (past.user_idx, past.requested_s, past.processors, past.run_s)
    recent = past.recent
    checks = {
        "the present is no time": not np.isfinite(snapshot.now_s),
        "the snapshot has more running jobs than jobs, or columns of other lengths": not (
            0 <= waiting <= len(snapshot.rows) == len(columns) == len(snapshot.demand.tasks)
        ),
        "a request of the snapshot is not a number of seconds above 0": not _above_0(columns.requested_s),
        "a submission of the snapshot is no time up to the present": not _until(columns.submit_s, snapshot.now_s),
        "a running job started at no time up to the present": not _until(snapshot.started_s, snapshot.now_s),
        "what is told of ended jobs differs in length": len({len(each) for each in ended}) > 1,
        "a request of an ended job is not a number of seconds above 0": not _above_0(past.requested_s),
        "a run time of an ended job is not a number of at least 0": not _until(-past.run_s, 0.0),
    }
    if recent is not None:
        size = len(recent.columns)
        asked = snapshot.histories is not None
        checks |= {
            "what is told of recent jobs differs in length": not (size == len(recent.tasks) == len(recent.shape_idx)),
            "a recent job has a shape that the snapshot does not have": bool(
                ((recent.shape_idx < 0) | (recent.shape_idx >= len(snapshot.demand.shapes))).any()
            ),
            "recent jobs are not in the order of their submission, up to the present": bool(
                (np.diff(recent.columns.submit_s) < 0).any() or not _until(recent.columns.submit_s, snapshot.now_s)
            ),
            "a request of a recent job is not a number of seconds above 0": not _above_0(recent.columns.requested_s),
            "what is known of users lacks for recent jobs": asked and recent.histories is None,
        }
    return next((fault for fault, holds in checks.items() if holds), "")


def _above_0(values: FloatArray) -> bool:
    return bool((np.isfinite(values) & (values > 0)).all())


def _until(values: FloatArray, last: float) -> bool:
    return bool((np.isfinite(values) & (values <= last)).all())
