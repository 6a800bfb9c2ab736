"""Whether the compiled kernels are on disk already, and compiling them on a tiny cluster when they are not."""

from __future__ import annotations

import numpy as np

from shunter.scheduler.capacity import Capacity
from shunter.scheduler.snapshot import JobColumns
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import ResourceDemand


def is_cached() -> bool:
    """Whether compiled code for the present kernels lies on disk; a stale or foreign one counts as absent."""
    from shunter.scheduler import kernels
    from shunter.scheduler.jit import is_on_disk

    return is_on_disk(kernels.advance)


def warm_up() -> None:
    """Compile or load the kernels that every run needs, by running two jobs on one processor.

    Those of conservative backfilling, lanes, preemption and the like are compiled when they are first used.
    """
    zeros = np.zeros(2)
    columns = JobColumns.of(zeros)
    demand = ResourceDemand(np.ones(2, np.int64), np.zeros(2, np.int64), np.asarray([[1000, 0, 0]]))
    capacity = Capacity(np.asarray([[1000], [0], [0]]), (True, False, False))
    finished = np.zeros(2, dtype=np.int64)
    state = ClusterState(
        capacity=capacity, demand=demand, columns=columns, score=zeros, backfill="easy", placement="first-fit"
    )
    state.absorb(0.0, finished, 0, 0, 1)
    state.run_pass(0.0)
    state.advance(0.0, finished, 0, 1, 2)


if __name__ == "__main__":
    warm_up()
