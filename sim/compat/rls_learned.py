"""The RLScheduler protocol under a learned score: many windows in one compiled call.

At every decision with more than one job in the queue, each of them is scored by a network from the features of
``scheduler.kernels.features``; the lowest score is chosen, ties by (submit time, number), and the choice binds as it
does for the protocol's own policies. The whole queue may be chosen from, as by those; the published learner sees 128
jobs of it. The features know what the protocol has shown by then: who runs is who has not been released yet, running
jobs are expected to end at their request, a job has been submitted when it has joined the queue, and histories learn of
a run time when the job is released.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler import features
from shunter.scheduler.snapshot import JobColumns
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.compat.rlscheduler import BOUND_S, RlsTrace, as_float, window

if TYPE_CHECKING:
    from shunter.scheduler.kernels.features import Facts
    from shunter.scheduler.kernels.network import Network


def facts_of(trace: RlsTrace) -> Facts:
    """What the features say of the jobs that does not change; resources are processors."""
    jobs = trace.jobs
    users = np.unique(np.append(-1, np.maximum(jobs.user, -1)), return_inverse=True)[1][1:]
    columns = JobColumns.of(
        as_float(jobs.submit_s),
        requested_s=as_float(jobs.requested_s),
        processors=as_float(jobs.procs),
        user_idx=users - 1,
    )
    return features.facts_of(columns, float(trace.max_procs))


class RlsRollout:
    """Windows of a log under the protocol and a network's score, without any set-up between calls.

    Args:
        trace: The log.
        backfill: Whether jobs are backfilled while the head of the queue waits.
    """

    def __init__(self, trace: RlsTrace, backfill: bool) -> None:
        from shunter.scheduler.kernels.features import NUM_CONTEXT, NUM_FEATURES
        from shunter.sim.compat import rls_kernel as kernel

        self.trace = trace
        self.backfill = bool(backfill)
        self.facts = facts_of(trace)
        self.histories = features.new_histories(self.facts)
        self._context = np.zeros(NUM_CONTEXT)
        self._features = np.zeros(NUM_FEATURES)
        jobs = trace.jobs
        self._jobs = kernel.Jobs(
            submit=np.ascontiguousarray(jobs.submit_s),
            run=np.ascontiguousarray(jobs.run_s),
            requested=np.ascontiguousarray(jobs.requested_s),
            procs=np.ascontiguousarray(jobs.procs),
            nodes=np.ascontiguousarray(jobs.nodes),
            rank=np.zeros(len(jobs), np.int64),
            kind=kernel.LEARNED,
            num_nodes=trace.num_nodes,
            procs_per_node=trace.procs_per_node,
        )

    def starts(self, network: Network, starts: Sequence[int] | IntArray, length: int) -> IntArray:
        """Start times (W, ``length``), on the log's clock, of the windows that begin at rows ``starts`` (W,).

        Each window has an empty machine and users without history.

        Raises:
            TraceError: A window does not lie inside the log, or a job of it cannot run on the machine.
        """
        from shunter.scheduler.kernels.features import Scratch
        from shunter.sim.compat import rls_kernel as kernel

        for start in starts:
            window(self.trace, int(start), length)
        learned = kernel.Learned(
            facts=self.facts,
            histories=self.histories,
            scratch=Scratch(np.zeros(length), np.zeros(length), self._context),
            network=network,
            x=self._features,
            key=np.zeros(length),
            running=np.zeros(length, np.int64),
            limit_s=np.zeros(length),
        )
        first = np.asarray(starts, dtype=np.int64)
        return kernel.simulate_windows(self._jobs, self.backfill, learned, first, length)

    def mean_bsld(self, network: Network, starts: Sequence[int] | IntArray, length: int) -> FloatArray:
        """Mean bounded slowdown (W,) of each window; arguments and errors as in ``starts``."""
        rows = np.asarray(starts, dtype=np.int64)[:, None] + np.arange(length)
        jobs = self.trace.jobs
        wait = as_float(self.starts(network, starts, length) - jobs.submit_s[rows])
        run_s = as_float(jobs.run_s[rows])
        means: FloatArray = np.mean(np.maximum(1.0, (wait + run_s) / np.maximum(run_s, BOUND_S)), axis=1)
        return means


def run_learned(
    trace: RlsTrace, starts: Sequence[int] | IntArray, length: int, network: Network, backfill: bool
) -> FloatArray:
    """Bounded slowdowns' means (W,) of windows of a log under a network; ``RlsRollout`` spares the set-up."""
    return RlsRollout(trace, backfill).mean_bsld(network, starts, length)
