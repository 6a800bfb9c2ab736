"""Replays without SimPy: the same kernels, driven by a compiled loop over the events.

Does what a replay needs whose jobs run to their ends once started, under an ordering that is a score: a million jobs a
second where the engine does two hundred thousand. ``simulate`` chooses it with ``--engine auto`` wherever it applies;
training and search run many windows in one call. What it cannot do, ``why_not`` says, and the engine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.capacity import Capacity
from shunter.scheduler.errors import UsageError, nearest
from shunter.scheduler.features import FeatureSource
from shunter.scheduler.learned import KernelScorer, LearnedOrder, warm_up
from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
from shunter.scheduler.snapshot import JobColumns
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import FloatArray, IntArray, ResourceDemand
from shunter.sim.clock import Order
from shunter.sim.engine import ASK_EVERY_S, Simulation
from shunter.sim.estimates import BY_ESTIMATE
from shunter.sim.saving import counts, stand_at
from shunter.sim.workload import Workload, ended_in_order

if TYPE_CHECKING:
    from shunter.scheduler.fairshare import Ledger
    from shunter.scheduler.kernels.fairshare import Usage
    from shunter.scheduler.kernels.learned import Learned
    from shunter.scheduler.kernels.network import Network
    from shunter.sim.rollout_kernel import Jobs, Loop

FIRST_BUDGET = 4_000
"""Events before it asks for the first time whether to stop; the number then follows what events cost."""

ENGINES = ("auto", "simpy", "compiled")

KINDS = {"wfp3": 1, "unicep": 2, "fairshare": 4, "multifactor": 5}
"""Orderings whose score changes while jobs wait, and that the loop works out itself; numbers of ``rollout_kernel``."""


def why_not(simulation: Simulation) -> str | None:
    """Why the compiled loop cannot run this replay; None when it can."""
    options, ordering = simulation.options, simulation.options.settings.ordering.ordering
    learned, label = simulation.learned, simulation.options.settings.ordering.label
    reasons = {
        "jobs may be stopped, speeds differ, or placements are noted": simulation.is_dynamic,
        "waiting is attributed to reasons": simulation.waits_s is not None,
        "priority classes come first": simulation.options.settings.strict_classes,
        "passes are made per event": options.ties != "instant",
        "passes are made at intervals": options.interval_s > 0,
        "conservative backfilling": options.settings.backfill == "conservative",
        f"placement {options.settings.placement} scores nodes": bool(simulation.state.counters[at.SCORED]),
        "quotas, lanes, a power cap or waiting for locality": bool(simulation.state.counters[at.LISTED]),
        f"the score of {ordering.name} is known only once a job is submitted": simulation.estimates is not None
        and ordering.static
        and ordering.uses_estimate
        and ordering.name not in BY_ESTIMATE,
        "the time of inference is measured": learned is not None and learned.guard.budget_s < np.inf,
        f"the model of {label} is no small network": learned is not None and learned.compiled is None,
        f"the score of {ordering.name} changes with time": learned is None
        and not ordering.static
        and ordering.name not in KINDS,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def choose_engine(simulation: Simulation, asked: str) -> str:
    """``simpy`` or ``compiled``; what a replay that is to be compiled needs is compiled or loaded at once.

    Raises:
        UsageError: An unknown engine, or one that cannot do this replay.
    """
    if asked not in ENGINES:
        raise UsageError(f"unknown --engine {asked!r}{nearest(asked, list(ENGINES))}")
    reason = why_not(simulation)
    if asked == "compiled" and reason is not None:
        raise UsageError(f"--engine compiled cannot do this replay: {reason}; use auto or simpy")
    chosen = simulation.options.settings.ordering
    if asked == "simpy" or reason is not None:
        if simulation.learned is not None:
            warm_up(chosen)
        return "simpy"
    warm_up_loop(None if simulation.learned is None else chosen)
    return "compiled"


def warm_up_loop(chosen: ChosenOrdering | None = None) -> None:
    """Compile the loop, or load it from disk, by running one job on one processor; in a model's order if it has one."""
    from shunter.scheduler.kernels.estimates import no_estimates
    from shunter.scheduler.kernels.fairshare import no_usage
    from shunter.sim import rollout_kernel as kernel

    learned = None if chosen is None else warm_up(chosen).compiled
    kind = kernel.STATIC if learned is None else kernel.NETWORK
    one = np.ones(1)
    state = ClusterState(
        capacity=Capacity(np.asarray([[1000], [0], [0]]), (True, False, False)),
        demand=ResourceDemand(np.ones(1, np.int64), np.zeros(1, np.int64), np.asarray([[1000, 0, 0]])),
        columns=JobColumns.of(np.zeros(1)),
        score=np.zeros(1),
        backfill="none",
        placement="first-fit",
        timed=False,
    )
    loop = new_loop(1)
    loop.at[kernel.LAST] = 1
    jobs = kernel.Jobs(np.zeros(1), one, one, one, no_estimates(), no_usage())
    kernel.roll(state.packed, jobs, loop, learned, kind, *state.how, 9)


def run_compiled(simulation: Simulation, should_stop: Callable[[], bool] | None = None) -> bool:
    """Run a simulation to its end, or until ``should_stop`` says so, which is asked a few times a second.

    The simulation then stands where the engine would have left it at the end of that instant: either can go on.

    Returns:
        Whether the replay is complete.
    """
    from shunter.sim import rollout_kernel as kernel

    state, workload = simulation.state, simulation.workload
    learned = None if simulation.learned is None else simulation.learned.compiled
    kind = KINDS.get(simulation.options.settings.ordering.ordering.name, kernel.STATIC)
    kind = kind if learned is None else kernel.NETWORK
    loop, jobs = new_loop(workload.num_jobs), jobs_of(workload, kind, simulation)
    own = counts(simulation)
    loop.at[kernel.NEXT], loop.at[kernel.LAST] = own["_arrived"], workload.num_jobs
    loop.at[kernel.EVENTS], loop.at[kernel.PASSES] = simulation.num_events, simulation.num_passes
    loop.at[kernel.ENDED], loop.now_s[0] = simulation.num_done, own["now_s"]
    for time_s, order, row in simulation.clock.pending:
        if order == Order.END and isinstance(row, int):
            kernel.push_end(loop, time_s, row)
    simulation.engine = "compiled"
    budget, complete = FIRST_BUDGET, False
    while not complete:
        begin_s = time.perf_counter()
        complete = kernel.roll(state.packed, jobs, loop, learned, kind, *state.how, budget)
        budget = max(1, int(budget * min(2.0, ASK_EVERY_S / max(time.perf_counter() - begin_s, 1e-6))))
        if complete or should_stop is not None:
            _hand_back(simulation, own, loop)
        if not complete and should_stop is not None and should_stop():
            break
    if complete:
        simulation.check_complete()
    return complete


def _hand_back(simulation: Simulation, own: dict[str, Any], loop: Loop) -> None:
    """Let the simulation stand where the loop does."""
    from shunter.sim import rollout_kernel as kernel

    arrived, pending = int(loop.at[kernel.NEXT]), int(loop.at[kernel.PENDING])
    batch = int(np.searchsorted(simulation.batch_bounds, arrived))
    order = np.lexsort((loop.end_row[:pending], loop.end_s[:pending]))
    time_s, value = loop.end_s[:pending][order], loop.end_row[:pending][order]
    kinds = np.full(pending, Order.END, dtype=np.int64)
    if arrived < simulation.workload.num_jobs:
        time_s = np.append(time_s, simulation.workload.columns.submit_s[arrived])
        kinds, value = np.append(kinds, Order.ARRIVAL), np.append(value, -1)
    now = {
        "num_events": int(loop.at[kernel.EVENTS]),
        "num_passes": int(loop.at[kernel.PASSES]),
        "num_done": int(loop.at[kernel.ENDED]),
        "_next_batch": batch,
        "_arrived": arrived,
        "_absorbed": arrived,
        "now_s": float(loop.now_s[0]),
    }
    stand_at(simulation, own | now, time_s, kinds, value)


def new_loop(num_jobs: int) -> Loop:
    """A loop before its first event."""
    from shunter.scheduler.kernels.sorting import new_sorting
    from shunter.sim import rollout_kernel as kernel

    key = np.zeros(max(num_jobs, 1))
    return kernel.Loop(
        at=np.zeros(kernel.NUM_LOOP_ROWS, np.int64),
        now_s=np.zeros(1),
        end_s=np.zeros(num_jobs),
        end_row=np.zeros(num_jobs, np.int64),
        finished=np.zeros(num_jobs, np.int64),
        key=key,
        bits=key.view(np.int64),
        sorting=new_sorting(num_jobs),
    )


def jobs_of(workload: Workload, kind: int, simulation: Simulation | None = None) -> Jobs:
    """What the loop must know of the jobs; with a simulation also its predictions and what users have had."""
    from shunter.scheduler.kernels.estimates import no_estimates
    from shunter.scheduler.kernels.fairshare import no_usage
    from shunter.sim import rollout_kernel as kernel

    columns = workload.columns
    factor = columns.processors
    if kind == kernel.UNICEP:
        factor = np.log2(columns.processors + 1e-15) * columns.requested_s
    estimates = None if simulation is None else simulation.estimates
    # Copies: some of these may be written to and some not, and the loop would be compiled for each combination.
    return kernel.Jobs(
        submit_s=np.array(columns.submit_s),
        run_s=np.array(workload.run_s),
        factor=np.array(factor),
        request_s=np.array(columns.requested_s),
        estimates=estimates or no_estimates(),
        usage=no_usage()
        if simulation is None or simulation.ledger is None
        else usage_of(columns, simulation.options.settings.ordering, workload.capacity.processors, simulation.ledger),
    )


def usage_of(columns: JobColumns, chosen: ChosenOrdering, total_processors: float, ledger: Ledger) -> Usage:
    """What users have had, and what ``fairshare`` and ``multifactor`` weigh it with; the ledger's arrays, no copies."""
    from shunter.scheduler.kernels import fairshare as kernel

    weights = np.zeros(kernel.NUM_WEIGHTS)
    weights[kernel.HALF_LIFE_S] = ledger.half_life_s
    weights[kernel.TOTAL] = max(total_processors, 1.0)
    for place, name in enumerate(("age", "size", "fairshare", "qos", "partition")):
        weights[place] = chosen.parameters.get(name, 0.0)
    weights[kernel.MAX_AGE_S] = chosen.parameters.get("max_age_days", 1.0) * 86400.0
    return kernel.Usage(
        user=columns.user_idx,
        processors=columns.processors,
        priority=columns.priority,
        queue_idx=columns.queue_idx,
        usage_s=ledger.usage_s,
        held=ledger.held,
        since_s=ledger.since_s,
        now_s=np.zeros(len(ledger.usage_s)),
        weights=weights,
    )


class Rollout:
    """Windows of one workload, under a fixed score or many networks, without any set-up between them.

    Args:
        workload: All jobs of the log.
        score: (J,) scores where no network decides, lower first; zeros by default: by submission.
        backfill: ``none``, ``easy``, ``easy-noextra`` or ``easy-sjbf``.
        placement: As in ``simulate``.
    """

    def __init__(
        self,
        workload: Workload,
        backfill: str = "easy",
        placement: str = "first-fit",
        score: FloatArray | None = None,
    ) -> None:
        self.workload = workload
        self.state = ClusterState(
            capacity=workload.capacity,
            demand=workload.demand,
            columns=workload.columns,
            score=score,
            backfill=backfill,
            placement=placement,
            timed=False,
        )
        self.source = FeatureSource.of(workload.columns, workload.capacity.processors)
        self._past = ended_in_order(workload)
        self.loop = new_loop(workload.num_jobs)
        self._learned: Learned | None = None

    def starts(self, network: Network | None, first: IntArray, last: IntArray) -> FloatArray:
        """(J,) start times of the jobs in the windows [first, last), each from an empty cluster; NaN elsewhere.

        A network knows what the jobs before a window taught; see ``workload.with_past``.
        """
        from shunter.sim import rollout_kernel as kernel

        learned = None if network is None else self._unguarded(network)
        kind = kernel.STATIC if network is None else kernel.NETWORK
        jobs = jobs_of(self.workload, kind)
        kernel.roll_windows(
            self.state.packed, jobs, self.loop, learned, kind, *self.state.how, first, last, *self._past
        )
        starts: FloatArray = self.state.jobs_f[at.START_S]
        return starts

    def _unguarded(self, network: Network) -> Learned:
        """The network's own order: no guard. What does not depend on the network is made once."""
        from shunter.scheduler.kernels.learned import room_for

        if self._learned is None:
            ordering = ChosenOrdering(choose_ordering("learned").ordering, {}, KernelScorer(network))
            columns, total = self.workload.columns, self.workload.capacity.processors
            self._learned = LearnedOrder(ordering, columns, self.source, total).compiled
        assert self._learned is not None
        room = room_for(network, self.source.histories.users.shape[1])
        return self._learned._replace(network=network, room=room)


if __name__ == "__main__":
    warm_up_loop()
