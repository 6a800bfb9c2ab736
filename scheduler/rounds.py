"""Decisions by rounds: every so many seconds, who runs on which class of nodes and on how many tasks.

A round is a pure function ``RoundView → Target``. Two are Gavel's: a linear program says which share of the time each
job should have on each class of nodes, and rounds approach these shares. One divides GPUs among elastic jobs by
marginal gain. Who carries a target out decides about nodes; here only amounts and classes count.
Sources: Narayanan et al., OSDI 2020 (Gavel); Qiao et al., OSDI 2021 (Pollux); Subramanya et al., SOSP 2023 (Sia).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from shunter.scheduler.heterogeneity import NO_TYPE, het_las, het_makespan, round_assignment
from shunter.scheduler.types import BoolArray, FloatArray, IntArray

WAITS = NO_TYPE
"""Class of a job that does not run."""

MOST_JOBS = 512
"""Jobs of a linear program, at most: the first in the policy's order. Later ones only fill what is left."""

LAG_ROUNDS = 10.0
"""Rounds over which a pair of job and class may lag behind its share before it comes ahead of all that lag less."""

WORTH = 1e-9
"""Relative gain below which a change of sizes counts as none."""


@dataclass(frozen=True, slots=True)
class Elastic:
    """On how many tasks each job may run; a rigid one has one number.

    Attributes:
        min_tasks: (J,) least number, ≥ 1.
        max_tasks: (J,) largest number.
        curve_idx: (J,) row of ``curves``.
        curves: (K, G + 1) concave speed-ups on 0 … G tasks.
        asked: (J,) tasks for which the run time is known.
    """

    min_tasks: IntArray
    max_tasks: IntArray
    curve_idx: IntArray
    curves: FloatArray
    asked: IntArray

    def speed(self, row: int, tasks: int) -> float:
        """Speed of a job on so many tasks over its speed on those that it asked for."""
        curve = self.curves[self.curve_idx[row]]
        return 1.0 if tasks == self.asked[row] else float(curve[tasks] / curve[self.asked[row]])

    def take(self, rows: IntArray) -> Elastic:
        """The same for some jobs."""
        return Elastic(self.min_tasks[rows], self.max_tasks[rows], self.curve_idx[rows], self.curves, self.asked[rows])


@dataclass(frozen=True, slots=True)
class RoundView:
    """What a round may know of the jobs that it may start, stop and move, in the policy's order; Q of them, C classes.

    Attributes:
        round_s: Seconds between two rounds.
        tasks: (Q,) tasks, now or at the last attempt.
        task_units: (Q,) units of the scarce resource that one task takes, ≥ 1.
        class_idx: (Q,) class on which a job runs, ``WAITS`` where it does not.
        speed: (Q, C) speed on a class relative to the reference; 0 where the job cannot run.
        left_s: (Q,) expected work left, in seconds on the reference class and the tasks asked for, > 0.
        age_s: (Q,) seconds since submission.
        restarts: (Q,) attempts after the first that have begun.
        restart_s: (Q,) seconds that another one would need before it works on.
        lag_s: (Q, C) seconds that the shares of former rounds would have given, less those received.
        capacity: (C,) units of the scarce resource that the jobs of the view may hold.
        elastic: Sizes that jobs may have; None where all are rigid.
    """

    round_s: float
    tasks: IntArray
    task_units: IntArray
    class_idx: IntArray
    speed: FloatArray
    left_s: FloatArray
    age_s: FloatArray
    restarts: IntArray
    restart_s: FloatArray
    lag_s: FloatArray
    capacity: IntArray
    elastic: Elastic | None = None

    @property
    def size(self) -> IntArray:
        """(Q,) units of the scarce resource over the gang."""
        return self.tasks * self.task_units


@dataclass(frozen=True, slots=True)
class Target:
    """What should run until the next round.

    Attributes:
        class_idx: (Q,) class, or ``WAITS``.
        tasks: (Q,) tasks.
        share: (Q, C) shares of time that the rounds approach.
    """

    class_idx: IntArray
    tasks: IntArray
    share: FloatArray


Round = Callable[[RoundView], Target]


# --- shares of time on classes of nodes ------------------------------------------------------------------------------


def het_las_round(view: RoundView) -> Target:
    """The round that follows max–min fair shares of effective throughput; see ``heterogeneity.het_las``."""
    size, capacity = _whole(view)
    first = slice(0, MOST_JOBS)
    return _follow(view, _las_shares(_Problem.of(view.speed[first], size[first], capacity)))


def het_makespan_round(view: RoundView) -> Target:
    """The round that follows the shares under which the last job ends first; see ``heterogeneity.het_makespan``."""
    size, capacity = _whole(view)
    first = slice(0, MOST_JOBS)
    return _follow(view, het_makespan(view.speed[first], size[first], capacity, view.left_s[first]))


def _whole(view: RoundView) -> tuple[IntArray, IntArray]:
    """Sizes and capacities in the largest unit of which all are multiples."""
    unit = max(int(np.gcd.reduce(np.concatenate([view.size, view.capacity]))), 1) if len(view.tasks) else 1
    return view.size // unit, view.capacity // unit


@dataclass(frozen=True)
class _Problem:
    """The input of an allocation as a key: arrays as bytes."""

    speed: bytes
    size: bytes
    capacity: bytes

    @classmethod
    def of(cls, speed: FloatArray, size: IntArray, capacity: IntArray) -> _Problem:
        return cls(speed.tobytes(), size.tobytes(), capacity.tobytes())


@lru_cache(maxsize=4)
def _las_shares(problem: _Problem) -> FloatArray:
    """(Q, C) shares; remembered, because the same jobs stand before many rounds."""
    size, capacity = np.frombuffer(problem.size, np.int64), np.frombuffer(problem.capacity, np.int64)
    speed = np.frombuffer(problem.speed, np.float64).reshape(len(size), len(capacity))
    shares = het_las(speed, size, capacity)
    shares.flags.writeable = False
    return shares


def _follow(view: RoundView, shares: FloatArray) -> Target:
    """The round that brings what was received nearest to the shares, and fills what they leave."""
    size, capacity = _whole(view)
    share = np.zeros(view.speed.shape)
    share[: len(shares)] = shares
    received = received_rounds(share, view.lag_s, view.round_s)
    chosen = round_assignment(share, received, size, capacity, view.class_idx, view.speed > 0)
    return Target(chosen, view.tasks.copy(), share)


def received_rounds(share: FloatArray, lag_s: FloatArray, round_s: float) -> FloatArray:
    """(Q, C) rounds received, as ``round_assignment`` counts them, over a horizon of ``LAG_ROUNDS``.

    A pair that has had exactly its share has received ``LAG_ROUNDS`` times it; one that lags behind less, one that is
    ahead more. So pairs are served by lag over share, whenever the shares have last changed.
    """
    received: FloatArray = np.maximum(share * LAG_ROUNDS - lag_s / round_s, 0.0)
    return received


# --- elastic jobs ----------------------------------------------------------------------------------------------------


def elastic_round(view: RoundView) -> Target:
    """Every job its minimum, in the policy's order; what is left one GPU after another to the largest gain.

    A job goes to the class where it would be fastest if it shared the class evenly with those that are there already. A
    running one changes class, or grows, only if that is worth a restart (``restart_factor``); and if nobody would
    start, sizes change only if the sum of speeds, restarts counted, grows.
    """
    assert view.elastic is not None
    factor = restart_factor(view)
    home = choose_classes(view, factor)
    pinned = np.zeros(len(home), dtype=np.bool_)
    while True:
        tasks = _divide(view, home, pinned)
        stays = (home == view.class_idx) & (home != WAITS) & ~pinned
        gain, now = _speed_up(view, tasks) * factor, _speed_up(view, view.tasks)
        not_worth = stays & (tasks > view.tasks) & (gain <= now * (1.0 + WORTH))
        if not not_worth.any():
            break
        pinned |= not_worth
    share = np.zeros(view.speed.shape)
    running = view.class_idx != WAITS
    nobody_starts = not ((home != WAITS) & ~running).any()
    if nobody_starts and not _is_worth(view, home, tasks, factor):
        return Target(view.class_idx.copy(), view.tasks.copy(), share)
    return Target(home, np.where(home == WAITS, view.tasks, tasks), share)


def restart_factor(view: RoundView) -> FloatArray:
    """(Q,) what a running job's new speed is multiplied by before it is compared with the present one.

    (T − N · S) / (T + S) with age T, N restarts so far and S seconds a restart: a job that is young or was restarted
    often is left alone. Subramanya et al., SOSP 2023, section 3.3; Qiao et al., OSDI 2021, section 4.2.1.
    """
    cost = view.restart_s
    length = view.age_s + cost
    worked = np.maximum(view.age_s - view.restarts * cost, 0.0)
    return np.where(cost > 0, worked / np.where(length > 0, length, 1.0), 1.0)


def choose_classes(view: RoundView, factor: FloatArray) -> IntArray:
    """(Q,) class of each job, ``WAITS`` for one whose minimum does not fit beside those of the jobs before it."""
    elastic = view.elastic
    assert elastic is not None
    left = view.capacity.copy()
    members = np.zeros(len(left), dtype=np.int64)
    home = np.full(len(view.tasks), WAITS, dtype=np.int64)
    least = elastic.min_tasks * view.task_units
    for job in np.flatnonzero(least <= left.max(initial=0)).tolist():
        open_to = (view.speed[job] > 0) & (least[job] <= left)
        if not open_to.any():
            continue
        even = view.capacity // ((members + 1) * view.task_units[job])
        even = np.clip(even, elastic.min_tasks[job], elastic.max_tasks[job])
        value = np.where(open_to, view.speed[job] * elastic.curves[elastic.curve_idx[job]][even], -1.0)
        best, now = int(np.argmax(value)), int(view.class_idx[job])
        if now != WAITS and open_to[now] and value[best] * factor[job] <= value[now] * (1.0 + WORTH):
            best = now
        home[job] = best
        left[best] -= least[job]
        members[best] += 1
    return home


def _divide(view: RoundView, home: IntArray, pinned: BoolArray) -> IntArray:
    """(Q,) tasks of each job: class by class, what the minima leave goes one task after another to the largest gain."""
    from shunter.scheduler.elastic import share_by_marginal_gain

    elastic = view.elastic
    assert elastic is not None
    least = np.where(pinned, view.tasks, elastic.min_tasks)
    most = np.where(pinned, view.tasks, elastic.max_tasks)
    tasks = np.zeros(len(home), dtype=np.int64)
    for kind in range(len(view.capacity)):
        here = np.flatnonzero(home == kind)
        grows = here[most[here] > least[here]]
        tasks[here] = least[here]
        if not len(grows):
            continue
        left = int(view.capacity[kind] - (least[here] * view.task_units[here]).sum())
        unit = int(view.task_units[grows[0]])  # tasks of elastic jobs take one GPU
        tasks[grows] = share_by_marginal_gain(
            least[grows],
            most[grows],
            elastic.curve_idx[grows],
            elastic.curves,
            int(least[grows].sum()) + max(left, 0) // unit,
            view.speed[grows, kind],
        )
    return tasks


def _speed_up(view: RoundView, tasks: IntArray) -> FloatArray:
    """(Q,) speed-up of each job on so many tasks over one."""
    assert view.elastic is not None
    found: FloatArray = view.elastic.curves[view.elastic.curve_idx, tasks]
    return found


def _is_worth(view: RoundView, home: IntArray, tasks: IntArray, factor: FloatArray) -> bool:
    """Whether the sum of speeds grows when running jobs are resized and moved, each change at its restart factor."""
    each = np.arange(len(home))
    runs, ran = home != WAITS, view.class_idx != WAITS
    now = np.where(ran, view.speed[each, view.class_idx] * _speed_up(view, view.tasks), 0.0)
    then = np.where(runs, view.speed[each, home] * _speed_up(view, np.where(runs, tasks, 0)), 0.0)
    changes = (home != view.class_idx) | (runs & (tasks != view.tasks))
    return bool(np.where(changes & ran, then * factor, then).sum() > now.sum() * (1.0 + WORTH))
