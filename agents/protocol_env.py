"""Windows of a log under the RLScheduler protocol, as the environment needs them (Zhang et al., SC'20)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shunter.agents import env_layout as layout
from shunter.agents.batch import entries, load_episode, load_facts, load_rewards, new_watched
from shunter.agents.rewards import Weights
from shunter.agents.sources import Given, Ran, Rules, Window, metrics_of, rows_within, view_ranks
from shunter.scheduler.errors import UsageError
from shunter.scheduler.kernels.features import NUM_FEATURES, Facts
from shunter.scheduler.kernels.network import new_network
from shunter.scheduler.types import AnyArray, FloatArray, IntArray
from shunter.sim.compat import rls_kernel, rlscheduler
from shunter.sim.compat.rls_learned import facts_of
from shunter.sim.compat.rlscheduler import RlsTrace, as_float


@dataclass(frozen=True, slots=True)
class ProtocolSource:
    """Jobs that windows are drawn from; see ``sources.AnySource``.

    Attributes:
        trace: The log as the protocol sees it.
        rows: First row that a window may use, and the row after the last.
        facts: What features say of the jobs.
        order: (3, J) ranks by request, area and size.
        weights: What is rewarded.
    """

    trace: RlsTrace
    rows: tuple[int, int]
    facts: Facts
    order: IntArray
    weights: Weights

    @classmethod
    def of(cls, given: Given, rules: Rules) -> ProtocolSource:
        """From an SWF file or an ``RlsTrace``, or one of these with rows ``(log, first, last)``.

        Raises:
            UsageError: Neither of them, or rows that the log does not have.
            TraceError: Not readable, fewer jobs than an episode takes, or one that cannot run on the machine.
        """
        what, *rows = given if isinstance(given, tuple) else (given,)
        if isinstance(what, str | Path):
            what = rlscheduler.load(what)
        if not isinstance(what, RlsTrace):
            raise UsageError(f"protocol rlscheduler reads SWF files, not a {type(what).__name__}")
        first, last = rows_within(rows, what.name, len(what), rules)
        rlscheduler.window(what, first, last - first)
        facts = facts_of(what)
        return cls(what, (first, last), facts, view_ranks(facts), rules.reward.on(None))

    @property
    def name(self) -> str:
        """The log's."""
        return self.trace.name

    def metrics(self, first: int, start_s: FloatArray) -> dict[str, float]:
        """Metrics of the window's jobs under the project's names and definitions; see ``sources.Source.metrics``."""
        jobs = self.trace.jobs.rows(first, len(start_s))
        ran = Ran(
            submit_s=as_float(jobs.submit_s),
            run_s=as_float(jobs.run_s),
            start_s=start_s,
            processors=as_float(jobs.procs),
            user_idx=jobs.user,
            deadline_s=np.full(len(jobs), np.inf),
            failed=np.zeros(len(jobs), np.bool_),
        )
        return metrics_of(ran, resource="cpus", total=float(self.trace.max_procs))


class ProtocolSlot:
    """The arrays of one environment for one log under the protocol; see ``batch.AnySlot``."""

    def __init__(self, source: ProtocolSource, rules: Rules, episode: layout.Episode) -> None:
        self.source, self.rules, self.episode = source, rules, episode
        width = rules.jobs
        self.features = np.zeros((rules.visible, NUM_FEATURES))
        self.jobs = [np.zeros(width, np.int64) for _ in range(6)]
        self.machine = np.asarray([source.trace.num_nodes, source.trace.procs_per_node], np.float64)
        self.state = rls_kernel.State(
            np.zeros(rls_kernel.NUM_SCALARS, np.int64), *(np.zeros(width, np.int64) for _ in range(6))
        )
        self.watched = new_watched(source.facts, width)
        self.network = new_network(np.zeros(0))
        self.room = [np.zeros(NUM_FEATURES), np.zeros(width), np.zeros(width + 1, np.int64), np.zeros(width + 1)]
        watched = [*self.watched.facts, *self.watched.histories, *self.watched.scratch]
        arrays: list[AnyArray] = [
            *self.jobs,
            self.machine,
            *self.state,
            *watched,
            *self.network,
            *self.room,
            self.features,
            *episode,
        ]
        self.table = entries(arrays)

    @property
    def now_s(self) -> float:
        """Time of the decision, on the log's clock."""
        return float(self.state.at[rls_kernel.NOW])

    @property
    def start_s(self) -> FloatArray:
        """(W,) start times; NaN for jobs that have not started."""
        started = np.full(len(self.state.start), np.nan)
        rows = self.state.order[: self.state.at[rls_kernel.STARTED]]
        started[rows] = self.state.start[rows]
        return started

    def load(self, window: Window) -> None:
        """Put the jobs of a window into the arrays, on an empty machine and without histories."""
        jobs, rows = self.source.trace.jobs.rows(window.first, window.count), window.rows
        columns: Sequence[IntArray] = (jobs.submit_s, jobs.run_s, jobs.requested_s, jobs.procs, jobs.nodes)
        for own, column in zip(self.jobs, columns, strict=False):
            own[:] = column
        for array in self.state:
            array[:] = 0
        self.state.at[rls_kernel.FREE] = self.source.trace.num_nodes
        load_facts(self.watched, self.source.facts, rows, window.count)
        load_episode(self.episode, window, self.rules, self.source.order[:, rows])
        counts, run_s = np.arange(window.count), as_float(jobs.run_s)
        load_rewards(self.episode, self.rules, self.source.weights, self.watched.facts, counts, run_s)
