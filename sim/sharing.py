"""Interference: jobs that share a GPU slow each other down, and speed up again when a neighbour leaves.

Keeps who is on which shared GPU, and works out speeds anew only for the jobs on GPUs where that has changed. A gang
runs at the speed of its slowest task. Tasks that take whole GPUs or MIG instances, which are isolated, have no
neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.errors import UsageError
from shunter.scheduler.interference import shared_speeds
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.sim.workload import Workload

Spot = tuple[int, int]
"""A GPU: node, and number on the node."""


@dataclass(slots=True)
class Sharing:
    """Who shares a GPU with whom.

    Attributes:
        table: (M, M) speed of a model class beside one job of another, over its speed alone.
        class_idx: (J,) class of each job.
        tasks_on: Tasks on each shared GPU, by job.
        spots_of: GPUs that each running job shares, or may come to share.
        touched: GPUs where a job has come or gone since the last ``changes``.
    """

    table: FloatArray
    class_idx: IntArray
    tasks_on: defaultdict[Spot, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    spots_of: dict[int, list[Spot]] = field(default_factory=dict)
    touched: set[Spot] = field(default_factory=set)

    @classmethod
    def of(cls, workload: Workload) -> Sharing:
        """Nothing runs.

        Raises:
            UsageError: Jobs share GPUs on a cluster whose GPUs cannot be told apart.
        """
        from shunter.traces.interference import interference_table

        gpus = workload.demand.shapes[~workload.demand.is_instance, 2]
        if workload.capacity.gpus is None and workload.capacity.tracked[2] and ((gpus > 0) & (gpus < 1000)).any():
            raise UsageError(
                f"--interference needs to know which jobs share a GPU: cluster {workload.cluster.name!r} has to be "
                "described by its nodes, with at most 62 GPUs each"
            )
        class_idx, classes = workload.trace.jobs.codes("model_class")
        table = interference_table([None, *classes])
        return cls(table, class_idx + 1)

    def enter(self, state: ClusterState, row: int) -> None:
        """A job has been started."""
        if state.shapes[at.SHARE, state.jobs_i[at.SHAPE, row]] == 0 or state.is_instance(row):
            return
        spots = [(node, mask.bit_length() - 1, tasks) for node, tasks, mask in state.entries_of(row) if mask]
        self.spots_of[row] = [(node, gpu) for node, gpu, _ in spots]
        for node, gpu, tasks in spots:
            on = self.tasks_on[node, gpu]
            on[row] = on.get(row, 0) + tasks
            self.touched.add((node, gpu))

    def leave(self, row: int) -> None:
        """A job has ended or been stopped."""
        for spot in self.spots_of.pop(row, ()):
            self.tasks_on[spot].pop(row, None)
            if not self.tasks_on[spot]:
                del self.tasks_on[spot]
            self.touched.add(spot)

    def changes(self) -> tuple[list[int], FloatArray]:
        """Rows of the running jobs whose neighbours are others now, and their speeds over those without neighbours."""
        rows = sorted({row for spot in self.touched for row in self.tasks_on.get(spot, ())})
        self.touched.clear()
        if not rows:
            return [], np.ones(0)
        spots = sorted({spot for row in rows for spot in self.spots_of[row]})
        tasks = np.asarray(
            [
                (row, i)
                for i, spot in enumerate(spots)
                for row, n in sorted(self.tasks_on[spot].items())
                for _ in range(n)
            ]
        )
        speed = shared_speeds(self.table, self.class_idx[tasks[:, 0]], tasks[:, 1])
        slowest = np.ones(len(rows))
        place = np.searchsorted(rows, tasks[:, 0])
        mine = (place < len(rows)) & (np.asarray(rows)[np.minimum(place, len(rows) - 1)] == tasks[:, 0])
        np.minimum.at(slowest, place[mine], speed[mine])
        return rows, slowest
