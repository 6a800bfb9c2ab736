"""What finished jobs have taught of their users, for the features of a learned order: kept as the simulator keeps it.

The same sums as ``scheduler.kernels.features`` keeps for replays, in plain Python for single jobs, because the process
that serves calls does not load compiled code; a property test holds the two together. A row has the kernels' columns.
How many jobs of a user wait is counted when a snapshot is taken.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from typing import NamedTuple

import numpy as np

from shunter.daemon.store.rows import Change, HistoryRow
from shunter.scheduler.types import FloatArray, IntArray

COUNT, MEAN, VARIANCE, RUNNING, WAITING, USED_AT_S, USED_DAY, USED_WEEK, SHORT, LAST, LAST_RUN, ENDED_AT_S = range(12)
NUM_COLUMNS = 12
NEWEST, NEWEST_SHORT, SHORT_S = 0.25, 0.1, 60.0
"""As in the kernels: least weights of the newest job, and below which run time a job is a short one."""
HALF_LIVES_S = (86_400.0, 7 * 86_400.0)
MOST_ENDED = 2000
"""Ended jobs that are remembered one by one."""
PACKED = struct.Struct(f"<{NUM_COLUMNS}d")


class Table:
    """Histories by key: one row each, which never moves."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.values = np.zeros((64, NUM_COLUMNS))

    def row(self, key: str) -> int:
        """The row of a key; a new one has learned nothing."""
        row = self.rows.setdefault(key, len(self.rows))
        if row >= len(self.values):
            self.values = np.concatenate([self.values, np.zeros_like(self.values)])
        return row

    def __getitem__(self, key: str) -> list[float]:
        values: list[float] = self.values[self.row(key)].tolist()
        return values

    def __setitem__(self, key: str, values: list[float]) -> None:
        row = self.row(key)  # may make the table larger
        self.values[row] = values

    def take(self, rows: IntArray) -> FloatArray:
        """(NUM_COLUMNS, ·) of some rows."""
        return np.ascontiguousarray(self.values[rows].T)


class EndedJob(NamedTuple):
    """What is remembered of a job that has ended, for estimates of starts."""

    owner: str
    request_s: float
    processors: float
    run_s: float


class Histories:
    """Of all users, and of jobs of the same user, request and size."""

    def __init__(self) -> None:
        self.users, self.alike = Table(), Table()
        self.ended: deque[EndedJob] = deque(maxlen=MOST_ENDED)

    def change_running(self, change: Change, owner: str, processors: float, now_s: float) -> None:
        """A user's running processors change now."""
        values = self.users[owner]
        day, week = (_used(values, now_s, which) for which in (0, 1))
        values[USED_DAY], values[USED_WEEK], values[USED_AT_S] = day, week, now_s
        values[RUNNING] += processors
        self._keep(change, self.users, "u:", owner, values)

    def learn(
        self, change: Change, owner: str, *, request_s: float, processors: float, run_s: float, now_s: float
    ) -> None:
        """A job has ended for good after ``run_s`` seconds of work."""
        self.ended.append(EndedJob(owner, request_s, processors, run_s))
        log_ratio = float(np.log(max(run_s, 1.0) / max(request_s, 1.0)))
        for table, prefix, key in (
            (self.users, "u:", owner),
            (self.alike, "a:", alike_key(owner, request_s, processors)),
        ):
            values = table[key]
            _learn(values, log_ratio, run_s, now_s)
            self._keep(change, table, prefix, key, values)

    @staticmethod
    def _keep(change: Change, table: Table, prefix: str, key: str, values: list[float]) -> None:
        table[key] = values
        change.histories.append(HistoryRow(prefix + key, PACKED.pack(*values)))

    def restore(self, stored: dict[str, bytes]) -> None:
        """Take over what was stored."""
        for key, values in stored.items():
            table = self.users if key.startswith("u:") else self.alike
            table[key[2:]] = list(PACKED.unpack(values))


def alike_key(owner: str, request_s: float, processors: float) -> str:
    """What jobs have in common that are learned from together."""
    return f"{owner}:{float(request_s)!r}:{float(processors)!r}"


def _used(values: list[float], now_s: float, which: int) -> float:
    half_s = HALF_LIVES_S[which]
    kept = math.exp2((values[USED_AT_S] - now_s) / half_s)
    running = values[RUNNING] * half_s / math.log(2.0)
    return values[USED_DAY + which] * kept + running * (1.0 - kept)


def _learn(values: list[float], log_ratio: float, run_s: float, now_s: float) -> None:
    count = values[COUNT] + 1.0
    rate = max(1.0 / count, NEWEST)
    difference = log_ratio - values[MEAN]
    values[MEAN] += rate * difference
    values[VARIANCE] = (1.0 - rate) * (values[VARIANCE] + rate * difference * difference)
    values[COUNT] = count
    rate = max(1.0 / count, NEWEST_SHORT)
    values[SHORT] += rate * ((1.0 if run_s < SHORT_S else 0.0) - values[SHORT])
    values[LAST], values[LAST_RUN], values[ENDED_AT_S] = log_ratio, math.log1p(max(run_s, 0.0)), now_s
