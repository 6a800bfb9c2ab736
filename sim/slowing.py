"""What slows running jobs: neighbours on a shared GPU, and other work on their nodes.

Keeps the speed of each job without either, and both factors; tells whose speed is another one now.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import FloatArray
from shunter.sim.other_work import Beside, OtherWork
from shunter.sim.sharing import Sharing

if TYPE_CHECKING:
    from shunter.sim.workload import Workload


SAME = 1e-12
"""Speeds that differ by no more than this, relatively, are one: products of the same factors round differently."""


@dataclass(slots=True)
class Slowing:
    """Speeds of the running jobs.

    Attributes:
        sharing: Who shares a GPU with whom; None where that does not matter.
        beside: Other work on the nodes; None where there is none.
        alone: (J,) speed of the running jobs without either.
        shared: (J,) factor by neighbours on the same GPU.
        busy: (J,) factor by other work.
        touched: Jobs whose speed may be another one since the last ``changes``.
    """

    sharing: Sharing | None
    beside: Beside | None
    alone: FloatArray
    shared: FloatArray
    busy: FloatArray
    touched: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, workload: Workload, *, shares: bool, other_work: OtherWork | None) -> Slowing | None:
        """Nothing runs; None where nothing slows any job.

        Raises:
            UsageError: See ``Sharing.of`` and ``Beside.of``.
        """
        if not shares and other_work is None:
            return None
        sharing = Sharing.of(workload) if shares else None
        beside = None if other_work is None else Beside.of(other_work, workload)
        size = workload.num_jobs
        return cls(sharing, beside, np.ones(size), np.ones(size), np.ones(size))

    def enter(self, state: ClusterState, row: int) -> None:
        """A job has been started; call it while its rate is the one that nothing slows."""
        self.alone[row] = state.jobs_f[at.RATE, row]
        self.shared[row] = 1.0
        if self.sharing is not None:
            self.sharing.enter(state, row)
        if self.beside is not None:
            self.beside.nodes_of[row] = np.unique([node for node, *_ in state.entries_of(row)])
            self.busy[row] = self.beside.speed(row)
            self.touched.add(row)

    def leave(self, row: int) -> None:
        """A job has ended or been stopped."""
        if self.sharing is not None:
            self.sharing.leave(row)
        if self.beside is not None:
            self.beside.nodes_of.pop(row, None)
            self.touched.discard(row)

    def begin_step(self, state: ClusterState, step: int) -> None:
        """A step of the other work begins: nodes are as busy as it says, and what is predicted is told to the core."""
        assert self.beside is not None
        self.beside.load, predicted = self.beside.work.loads(step)
        state.set_loads(predicted)
        for row in sorted(self.beside.nodes_of):
            speed = self.beside.speed(row)
            if speed != self.busy[row]:
                self.busy[row] = speed
                self.touched.add(row)

    def changes(self, state: ClusterState) -> list[tuple[int, float]]:
        """(row, new rate) of the running jobs whose rate is another one now; by row."""
        if self.sharing is not None:
            rows, speeds = self.sharing.changes()
            self.shared[rows] = speeds
            self.touched.update(rows)
        rows = sorted(self.touched)
        self.touched.clear()
        if not rows:
            return []
        before = state.jobs_f[at.RATE, rows]
        rates = self.alone[rows] * self.shared[rows] * self.busy[rows]
        differs = np.abs(rates - before) > SAME * before
        return [(row, rate) for row, rate, yes in zip(rows, rates.tolist(), differs, strict=True) if yes]

    def arrays(self) -> dict[str, Any]:
        """What a checkpoint cannot work out from the state."""
        found: dict[str, Any] = {f"slowing_{name}": getattr(self, name) for name in ("alone", "shared", "busy")}
        return found if self.beside is None else found | {"slowing_load": self.beside.load}

    def restore(self, arrays: dict[str, Any], state: ClusterState) -> None:
        """Take over what ``arrays`` saved; the rest follows from who runs where."""
        if self.beside is not None:
            self.beside.load = arrays["slowing_load"].copy()
        for row in sorted(state.running.tolist()):
            self.enter(state, row)
        self.touched.clear()
        if self.sharing is not None:
            self.sharing.touched.clear()
        for name in ("alone", "shared", "busy"):
            getattr(self, name)[:] = arrays[f"slowing_{name}"]
