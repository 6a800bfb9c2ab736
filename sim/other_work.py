"""Load of the nodes by work that is not the scheduler's: services, people at their keyboards, another scheduler's jobs.

A recorded series says how busy each node is with it, step by step. A job runs the slower, the busier its nodes are
(``scheduler.interference``), and a gang at the pace of its slowest node. What the scheduler is told at the begin of a
step was made from the steps before it, by whatever forecasts: both are tables that exist before the replay begins,
because nothing that the scheduler does changes such load.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.interference import fitted_speed
from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.sim.workload import Workload

PERCENT = 100
"""Loads are told in whole percents, as NVML tells utilisation: speeds do not change for less."""

AHEAD = 5
"""Steps that a forecast is about."""


@dataclass(frozen=True, eq=False)
class OtherWork:
    """How busy nodes are with other work, and what is predicted of it.

    Attributes:
        first_s: Time of the first step, on the trace's clock.
        step_s: Length of a step.
        load: (T, N) load of each node in each step, 0 to 1. After the last step the first comes again.
        predicted: (T, N) mean load of the next ``AHEAD`` steps as it is told when a step begins.
        told_by: Who predicts, for the manifest.
    """

    first_s: float
    step_s: float
    load: FloatArray
    predicted: FloatArray
    told_by: str = "none"

    def __post_init__(self) -> None:
        if self.load.ndim != 2 or self.load.shape != self.predicted.shape or not len(self.load):
            raise UsageError(f"node loads {self.load.shape} and predictions {self.predicted.shape} do not fit together")
        if not (np.isfinite(self.step_s) and self.step_s > 0 and np.isfinite(self.first_s)):
            raise UsageError(f"node loads every {self.step_s!r} s from {self.first_s!r} s on are no grid")
        for name, values in (("load", self.load), ("predicted load", self.predicted)):
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise UsageError(f"{name} of nodes: expected finite numbers of at least 0")
        if (self.load > 1).any():
            raise UsageError(f"load of a node of {self.load.max():g}: expected shares of a node, 0 to 1")

    def step_at(self, now_s: float) -> int:
        """Number of the step that holds at a time, counted from the first one."""
        return int(np.floor((now_s - self.first_s) / self.step_s + 1e-9))

    def begin_of(self, step: int) -> float:
        """When a step begins."""
        return self.first_s + step * self.step_s

    def loads(self, step: int) -> tuple[FloatArray, FloatArray]:
        """(N,) loads of a step, and (N,) predictions at its begin."""
        row = step % len(self.load)
        return np.rint(self.load[row] * PERCENT) / PERCENT, self.predicted[row]


def foreseen(load: FloatArray) -> FloatArray:
    """(T, N) what a perfect forecast of (T, N) loads would tell: the mean of this step and the next ones."""
    many = len(load)
    rows = (np.arange(many)[:, None] + np.arange(AHEAD)) % many
    ahead: FloatArray = load[rows].mean(axis=1)
    return ahead


def last_known(load: FloatArray) -> FloatArray:
    """(T, N) the load of the step before, as a scheduler without a forecast sees it; nothing at first."""
    return np.concatenate([np.zeros_like(load[:1]), load[:-1]])


def usual(load: FloatArray) -> FloatArray:
    """(T, N) each node's mean load so far; nothing at first."""
    so_far = np.cumsum(load, axis=0)[:-1] / np.arange(1, len(load))[:, None]
    return np.concatenate([np.zeros_like(load[:1]), so_far])


@dataclass(slots=True)
class Beside:
    """Other work at one moment, and how much it slows the running jobs.

    Attributes:
        work: Loads and predictions.
        coefficient: Of ``fitted_speed``.
        own_util: (J,) utilisation of each job alone.
        load: (N,) loads that hold now.
        nodes_of: Nodes of each running job.
    """

    work: OtherWork
    coefficient: float
    own_util: FloatArray
    load: FloatArray
    nodes_of: dict[int, IntArray] = field(default_factory=dict)

    @classmethod
    def of(cls, work: OtherWork, workload: Workload) -> Beside:
        """Nothing runs yet, and no load is known.

        Raises:
            UsageError: The loads are of another number of nodes.
        """
        from shunter.traces.interference import packaged_interference

        num_nodes = workload.capacity.units.shape[1]
        if work.load.shape[1] != num_nodes:
            raise UsageError(
                f"node loads of {work.load.shape[1]} nodes, but cluster {workload.cluster.name!r} has {num_nodes}"
            )
        table = packaged_interference()
        class_idx, classes = workload.trace.jobs.codes("model_class")
        if workload.capacity.tracked[2] and workload.capacity.units[2].any():
            own_util = table.utilisations([None, *classes])[class_idx + 1]
        else:
            own_util = np.ones(workload.num_jobs)  # a job on CPUs keeps those busy that it holds
        return cls(work, table.coefficient, own_util, np.zeros(num_nodes))

    def speed(self, row: int) -> float:
        """Speed of a running job over its speed on idle nodes."""
        load = self.load[self.nodes_of[row]].max(initial=0.0)
        return float(fitted_speed(self.coefficient, self.own_util[row], load))
