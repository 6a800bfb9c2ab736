"""Elastic jobs of a trace: the sizes that they may have, their speed on each, what one of their tasks asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.capacity import Capacity
from shunter.scheduler.errors import UsageError
from shunter.scheduler.rounds import Elastic
from shunter.scheduler.types import UNITS_PER, BoolArray, ResourceDemand

if TYPE_CHECKING:
    from shunter.sim.cluster_arrays import Places
    from shunter.traces.tables import JobTable

GPU = UNITS_PER[2]


def elastic_demand(jobs: JobTable, places: Places) -> ResourceDemand:
    """What jobs ask for when an elastic one has a task for each GPU, with its part of the task's CPUs and memory.

    Raises:
        UsageError: An elastic job has no GPU, or a fraction of one, in a task.
    """
    gpus = places.task_gpus
    is_elastic = elastic_rows(jobs)
    odd = np.flatnonzero(is_elastic & ((gpus < 1) | (gpus != np.round(gpus))))
    if len(odd):
        job = jobs.frame["job_id"][int(odd[0])]
        raise UsageError(
            f"job {job!r} (row {odd[0]}) and {len(odd) - 1} others have min_gpus or max_gpus, but "
            f"{gpus[odd[0]]:g} GPUs a task: an elastic job needs whole GPUs; leave its min_gpus and max_gpus empty"
        )
    parts = np.where(is_elastic, gpus, 1.0)
    return ResourceDemand.from_amounts(
        tasks=jobs.ints("tasks") * parts.astype(np.int64),
        cpus=jobs.floats("cpus") / parts,
        memory_gib=jobs.floats("memory_gib") / parts,
        **(places.of_tasks() | {"gpus": gpus / parts}),
    )


def elastic_rows(jobs: JobTable) -> BoolArray:
    """(J,) jobs that say on how many GPUs they may run."""
    frame = jobs.frame
    found: BoolArray = (frame["min_gpus"].is_not_null() | frame["max_gpus"].is_not_null()).to_numpy()
    return found


def elastic_of(jobs: JobTable, demand: ResourceDemand, capacity: Capacity) -> Elastic:
    """Sizes that the jobs may have. A bound that is missing is what the job asks for; none is above the cluster."""
    from shunter.traces.throughputs import speed_up_curves

    asked = demand.tasks
    is_elastic = elastic_rows(jobs)
    total = max(int(capacity.units[2].sum()) // GPU, 1)
    least, most = (jobs.frame[name].fill_null(0).to_numpy().astype(np.int64) for name in ("min_gpus", "max_gpus"))
    least = np.where(is_elastic & (least > 0), least, np.where(most > 0, np.minimum(asked, most), asked))
    most = np.where(is_elastic & (most > 0), np.minimum(most, total), asked)
    most = np.maximum(most, least)
    class_idx, classes = jobs.codes("model_class")
    curves = speed_up_curves([None, *classes], int(max(most.max(initial=1), asked.max(initial=1))))
    return Elastic(least, most, class_idx + 1, curves, asked.copy())
