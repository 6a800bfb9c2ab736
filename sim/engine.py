"""The replay engine: SimPy owns time, the decision core decides, this module carries events from one to the other.

An instant is all events at one time: ends, then failures and repairs, retries, arrivals, then exactly one scheduling
pass (``--ties per-event`` makes a pass after every event instead, arrivals before ends, as some published simulators
do).
There is no SimPy process per job: a job is an arrival, shared with all jobs of its instant, and an end for each of its
attempts, or its failure, each an event with a callback.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.errors import EngineError, UsageError, nearest
from shunter.scheduler.failover import next_retry
from shunter.scheduler.fairshare import Ledger
from shunter.scheduler.features import FeatureSource
from shunter.scheduler.learned import LearnedOrder, order_matters
from shunter.scheduler.policies.drf import dominant_shares
from shunter.scheduler.preemption import (
    Preemption,
    classes_first,
    keeps_classes,
    preempting_pass,
    progress_view,
    refuse_unranked,
)
from shunter.scheduler.snapshot import JobColumns, QueueView, Snapshot
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import BoolArray, FloatArray, IntArray
from shunter.sim.attempts import JobFailures
from shunter.sim.clock import Callbacks, EventClock, Order
from shunter.sim.estimates import estimates_of, note_stop, refuse_conservative
from shunter.sim.failures import Outages
from shunter.sim.faults import Faults
from shunter.sim.holding import Held, Holding
from shunter.sim.lifecycle import FAILED, PREEMPTED, Lifecycle
from shunter.sim.other_work import OtherWork
from shunter.sim.outages import FAILOVERS, Evacuation, close_and_open, move, refuse_unsuited
from shunter.sim.portfolio import Portfolio
from shunter.sim.rounds import Rounds, refuse_with_rounds
from shunter.sim.slowing import Slowing
from shunter.sim.workload import Workload

if TYPE_CHECKING:
    from shunter.scheduler.kernels.estimates import Estimates

TIES = ("instant", "per-event")

ASK_EVERY_S = 0.25
"""About how often a replay asks whether it should stop, and shows its progress."""

FIRST_GAP = 256
"""Events before it asks for the first time; the number then follows what events cost."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a replay runs.

    Attributes:
        settings: Ordering, backfilling, placement, depth.
        ties: ``instant`` for one pass an instant, ``per-event`` for one pass an event.
        interval_s: Shortest time between two passes; 0 makes a pass at every instant.
        preemption: When running jobs are stopped for waiting ones.
        max_retries: Failures after which a job is not tried again.
        retry_wait_s: Seconds that a job waits after its first failure before it is tried again; then twice as long.
        failover: ``requeue`` lets jobs that lose their nodes wait in the queue, ``move`` starts them ahead of it.
        blast_radius: Share of the running jobs, and of their GPUs, that may be on their way at once.
        explain_waits: Attribute every waiting second to a reason.
        placements: Note which nodes and GPUs every attempt held.
        seed: Of the random placement.
        interference: Jobs that share a GPU slow each other down.
    """

    settings: Settings = field(default_factory=Settings)
    ties: str = "instant"
    interval_s: float = 0.0
    preemption: Preemption = field(default_factory=Preemption)
    max_retries: int = 6
    retry_wait_s: float = 0.0
    failover: str = "requeue"
    blast_radius: float = 1.0
    explain_waits: bool = False
    placements: bool = False
    seed: int = 0
    interference: bool = False

    def __post_init__(self) -> None:
        if self.ties not in TIES:
            raise UsageError(f"unknown --ties {self.ties!r}{nearest(self.ties, list(TIES))}")
        if not (math.isfinite(self.interval_s) and self.interval_s >= 0):
            raise UsageError(f"interval {self.interval_s} is not a number of seconds of at least 0")
        if self.ties == "per-event" and self.interval_s:
            raise UsageError("--ties per-event makes a pass at every event: it does not go with --interval")
        if self.max_retries < 0:
            raise UsageError(f"retries {self.max_retries} is negative")
        if self.failover not in FAILOVERS:
            raise UsageError(f"unknown --failover {self.failover!r}{nearest(self.failover, list(FAILOVERS))}")
        if not 0 < self.blast_radius <= 1:
            raise UsageError(f"blast radius {self.blast_radius} is not a share above 0 and of at most 1")
        if not (math.isfinite(self.retry_wait_s) and self.retry_wait_s >= 0):
            raise UsageError(f"retry wait {self.retry_wait_s} is not a number of seconds of at least 0")
        refuse_unranked(self.preemption, self.settings.ordering)
        if self.preemption.rules and self.settings.backfill == "conservative":
            raise UsageError("--preempt does not go with conservative backfilling, which promises times")


class Simulation:
    """One replay that can be stopped between two instants, saved, and taken up again.

    Args:
        workload: Jobs and cluster as arrays.
        options: How to run.
        outages: Failures, drains and repairs of nodes and GPUs.
        faults: Attempts that fail by a fault of the job's own.
        other_work: How busy the nodes are with work that is not the scheduler's.
        holding: Capacity that is held for jobs to come.
    """

    def __init__(
        self,
        workload: Workload,
        options: Options,
        outages: Outages | None = None,
        faults: JobFailures | None = None,
        other_work: OtherWork | None = None,
        holding: Holding | None = None,
    ) -> None:
        if outages is not None and not len(outages):
            outages = None
        if faults is not None and not len(faults):
            faults = None
        if holding is not None:
            workload = holding.applied_to(workload)
        refuse_unsuited(workload, options, outages, faults)
        self.is_dynamic = bool(
            outages is not None
            or faults is not None
            or options.preemption.rules
            or options.placements
            or options.interference
            or other_work is not None
            or holding is not None
            or options.settings.ordering.ordering.rounds
            or workload.capacity.speeds is not None
        )
        if self.is_dynamic or workload.predicts:  # expected and attained times of jobs change
            workload = replace(workload, columns=workload.columns.take(np.arange(workload.num_jobs), frozen=False))
        self.workload = workload
        self.options = options
        self.outages = outages
        self.clock = EventClock()
        settings = options.settings
        ordering = settings.ordering.ordering
        everything = QueueView(0.0, workload.columns, workload.capacity.processors)
        self._strict = classes_first(options.preemption, settings.ordering, asked=settings.strict_classes)
        self._static = ordering.static and not self._strict
        score = settings.ordering.score(everything) if self._static else None
        self.state = ClusterState(
            capacity=workload.capacity,
            demand=workload.demand,
            columns=workload.columns,
            score=score,
            backfill=settings.backfill,
            placement=settings.placement,
            depth=settings.depth,
            locality_s=settings.locality_s,
            seed=options.seed,
            timed=self.is_dynamic,
            most_tasks=None if workload.elastic is None else workload.elastic.max_tasks,
            strict=keeps_classes(options.preemption, asked=settings.strict_classes),
        )
        self.estimates: Estimates | None = None
        if workload.predicts:
            refuse_conservative("tsafrir" if workload.model is None else workload.model, settings.backfill)
            self.estimates = estimates_of(workload, ordering.name)
        self.portfolio = Portfolio.of(workload, options, self.state)
        self.rounds: Rounds | None = None
        if ordering.rounds is not None:
            refuse_with_rounds(workload, options, self.state)
            self.rounds = Rounds.of(workload, settings.ordering)
        self.held = None if holding is None else Held(holding, workload)
        self.slowing = Slowing.of(workload, shares=options.interference, other_work=other_work)
        self.evacuation: Evacuation | None = None
        if outages is not None:
            num_nodes = workload.capacity.units.shape[1]
            self.evacuation = Evacuation.of(outages, options, num_nodes, workload.num_jobs)
        doomed = None if faults is None else Faults.of(faults, workload.num_jobs)
        self.lifecycle = Lifecycle.of(workload, doomed) if self.is_dynamic else None
        self.waits_s = np.zeros((at.NUM_WAITS, workload.num_jobs)) if options.explain_waits else None
        self.engine = "simpy"
        self.num_preemptions = 0
        self.num_events = 0
        self.num_passes = 0
        self.passes_put_off = 0
        self.num_done = 0
        self.ledger = Ledger.empty(workload.num_users) if ordering.needs_usage else None
        self.learned = self._learned_order() if ordering.needs_features else None
        self._run_s = [] if self.is_dynamic else workload.run_s.tolist()
        self._batch_times, self.batch_bounds = _batches(workload.columns.submit_s)
        self._batch_best = self._best_scores(score)
        self._num_accepted = workload.num_jobs - int(workload.rejected.sum())
        self._next_batch = 0
        self._absorbed = 0  # jobs of the trace that the state has taken in
        self._arrived = 0  # jobs of the trace that have been submitted
        self._finished = np.zeros(max(workload.num_jobs, 1), dtype=np.int64)
        self._num_finished = 0
        self._next_pass_s = math.inf  # time of the pass event that is already on the clock
        self._earliest_pass_s = -math.inf
        self._on_end: Callbacks = [self._end]
        self._on_arrival: Callbacks = [self._arrive]
        self._on_pass: Callbacks = [self._pass_event]
        self._on_stop: Callbacks = [self._stop_event]
        self._on_outage: Callbacks = [self._outage_event]
        self._on_fault: Callbacks = [self._fault_event]
        self._on_load: Callbacks = [self._load_event]
        self._on_retry: Callbacks = [self._retry_event]
        self._to_learn: list[int] = []  # rows that have ended at this instant, of which no prediction knows yet
        self._to_stop: list[tuple[int, int]] = []  # attempts to be stopped at this instant, and how they end
        self._to_retry: list[int] = []  # rows that may wait for nodes again from this instant on
        self._happened = False  # whether anything but a stale end stands at this instant
        self._next_outage = 0
        self._outages_now = 0  # outages of this instant that have not been carried out
        self._waits_since_s = 0.0
        self._load_step: int | None = None  # a step of other work that begins at this instant
        if other_work is not None and self._batch_times:
            step = other_work.step_at(self._batch_times[0])
            self.clock.at(min(other_work.begin_of(step), self._batch_times[0]), Order.LOAD, self._on_load, step)
        if outages is not None:
            self.clock.at(float(outages.time_s[0]), Order.OUTAGE, self._on_outage, 0)
        if self._batch_times:
            self.clock.at(self._batch_times[0], Order.ARRIVAL, self._on_arrival, None)

    @property
    def _may_leave_unsorted(self) -> bool:
        """Whether a queue of which no job fits needs no order: none is stopped, promised or told why it waits.

        The portfolio looks ahead when it is due, and has to be asked.
        """
        is_plain = (
            self.rounds is None
            and self.portfolio is None
            and not self.options.preemption.rules
            and self.waits_s is None
        )
        by_score = not self.options.settings.ordering.ordering.needs_shares  # those depend on the order before
        return is_plain and by_score and not self.state.counters[at.LISTED]

    def _learned_order(self) -> LearnedOrder:
        columns, total = self.workload.columns, self.workload.capacity.processors
        source = FeatureSource.of(columns, total, self.workload.past)
        return LearnedOrder(self.options.settings.ordering, columns, source, total, strict=self._strict)

    def _best_scores(self, score: FloatArray | None) -> list[float] | None:
        """Best score of each arrival batch; only where a blocked head may let a pass be left out."""
        if score is None or self.options.interval_s or self.options.settings.backfill != "none" or not len(score):
            return None
        if self.is_dynamic or self.waits_s is not None or self.state.counters[at.LISTED] or self.estimates is not None:
            return None
        entered = np.where(self.workload.rejected, np.inf, score)
        return np.minimum.reduceat(entered, self.batch_bounds[:-1]).tolist()  # type: ignore[no-any-return]

    # --- events ------------------------------------------------------------------------------------------------------

    def _arrive(self, _event: Any) -> None:
        self._happened = True
        self._next_batch += 1
        if self.estimates is not None:
            self._learn_ends()
            self._predict(self._arrived, self.batch_bounds[self._next_batch])
        self._arrived = self.batch_bounds[self._next_batch]
        if self._next_batch < len(self._batch_times):
            self.clock.at(self._batch_times[self._next_batch], Order.ARRIVAL, self._on_arrival, None)

    def _end(self, event: Any) -> None:
        row = event._value
        if self.lifecycle is not None:
            epoch, row = divmod(row, self.workload.num_jobs)
            if epoch != self.lifecycle.epoch[row]:
                return
            self._happened = True
        if self.estimates is not None:
            self._to_learn.append(row)
        self._finished[self._num_finished] = row
        self._num_finished += 1

    def _learn_ends(self) -> None:
        """Let predictions learn from the jobs that end at this instant, in the order of their rows."""
        if self._to_learn:
            assert self.estimates is not None
            for row in sorted(self._to_learn):
                self.state.learn_run(self.estimates, row, self.workload.run_s[row], self.clock._now)
            self._to_learn.clear()

    def _predict(self, first: int, last: int) -> None:
        """Predict the run times of jobs that are submitted now, and score them where the ordering reads these."""
        assert self.estimates is not None
        self.state.predict(self.estimates, first, last, self.clock._now)
        ordering = self.options.settings.ordering
        if self._static and ordering.ordering.uses_estimate:
            jobs = self.workload.columns.take(np.arange(first, last))
            view = QueueView(self.clock._now, jobs, self.workload.capacity.processors)
            self.state.jobs_f[at.SCORE, first:last] = ordering.score(view)

    def _stop_event(self, event: Any) -> None:
        assert self.lifecycle is not None
        epoch, row = divmod(event._value, self.workload.num_jobs)
        if epoch == self.lifecycle.epoch[row]:
            self._happened = True
            self._to_stop.append((event._value, PREEMPTED))

    def _fault_event(self, event: Any) -> None:
        assert self.lifecycle is not None
        epoch, row = divmod(event._value, self.workload.num_jobs)
        if epoch == self.lifecycle.epoch[row]:
            self._happened = True
            self._to_stop.append((event._value, FAILED))

    def _retry_event(self, event: Any) -> None:
        self._happened = True
        self._to_retry.append(event._value)

    def _outage_event(self, _event: Any) -> None:
        assert self.outages is not None
        self._happened = True
        self._outages_now += 1
        following = self._next_outage + self._outages_now
        if following < len(self.outages) and not self._all_done():
            self.clock.at(float(self.outages.time_s[following]), Order.OUTAGE, self._on_outage, following)

    def _load_event(self, event: Any) -> None:
        assert self.slowing is not None
        assert self.slowing.beside is not None
        self._happened = True
        self._load_step = event._value
        following = event._value + 1
        if not self._all_done():
            self.clock.at(self.slowing.beside.work.begin_of(following), Order.LOAD, self._on_load, following)

    def _all_done(self) -> bool:
        """Whether no job is left that an outage could touch."""
        return self._next_batch == len(self._batch_times) and self.num_done == self._num_accepted

    def _pass_event(self, _event: Any) -> None:
        self._happened = True
        self._next_pass_s = math.inf

    @property
    def backfilled(self) -> BoolArray:
        """(J,) jobs that started while one ahead of them in the queue waited."""
        flags: BoolArray = self.state.backfilled == 1
        return flags

    def snapshot(self, now_s: float) -> Snapshot:
        """What a policy may know now; with the histories of users where the ordering asks for them."""
        taken = self.state.snapshot(now_s)
        if self.learned is None:
            return taken
        return replace(taken, histories=self.learned.source.known_of(taken.rows))

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, should_stop: Callable[[], bool] | None = None, every: int | None = None) -> bool:
        """Run to the end, or until ``should_stop`` says so.

        It is asked between instants: every ``every`` events, by default about four times a second, whatever they cost.

        Returns:
            Whether the replay is complete.
        """
        clock = self.clock
        step = clock.step
        queue = clock._queue
        make_pass = self._pass if self.options.ties == "instant" else self._passes_per_event
        before = self.num_events
        count = 0
        gap = every or FIRST_GAP
        ask_at = gap
        asked_s = time.perf_counter()
        while queue:
            step()
            count += 1
            if queue and queue[0][0] <= clock._now:
                continue
            make_pass()
            if count >= ask_at:
                if every is None:
                    now_s = time.perf_counter()
                    factor = min(2.0, ASK_EVERY_S / max(now_s - asked_s, 1e-6))
                    gap, asked_s = max(1, int(gap * factor)), now_s
                ask_at = count + gap
                self.num_events = before + count  # a checkpoint may be written now
                if should_stop is not None and should_stop():
                    break
        self.num_events = before + count
        if not queue:
            self.check_complete()
        return not queue

    def check_complete(self) -> None:
        """Every job that entered has ended; anything else would be a wrong result that looks like a right one."""
        accepted = self._num_accepted
        if self.num_done != accepted:
            why = "please report this replay"
            if not self.state.node_i[at.OPEN].all() or self.state.lost_gpus.any():
                why = "nodes or GPUs that they need went away and never came back"
            raise EngineError(f"{accepted - self.num_done} of {accepted} jobs never ended: {why}")

    def close(self) -> None:
        """Let go of the callbacks: they refer back to the simulation, which would otherwise wait for the collector."""
        events = (self._on_end, self._on_arrival, self._on_pass, self._on_stop, self._on_outage, self._on_load)
        for callbacks in (*events, self._on_fault, self._on_retry):
            callbacks.clear()

    def _pass(self) -> None:
        """The one pass of an instant."""
        now_s = self.clock._now
        self._learn_ends()
        if self.lifecycle is not None and not self._happened:
            return  # only ends of attempts that have been stopped: a pass for them could stop others, without end
        self._happened = False
        if now_s < self._earliest_pass_s:
            self.passes_put_off += 1
            if self.is_dynamic:  # jobs end and nodes fail when they do, whenever the next decision is
                self._take_in(now_s, self._num_finished, self._arrived)
                self._slow_down(now_s)
                self.num_done += self._num_finished
                self._num_finished = 0
            self._wake_at(self._earliest_pass_s)
            return
        if self._num_finished == 0 and self._batch_best is not None and self._nothing_to_decide():
            return
        self._earliest_pass_s = now_s + self.options.interval_s
        self._decide(now_s, self._num_finished, self._arrived)
        self._num_finished = 0

    def _nothing_to_decide(self) -> bool:
        """Whether only jobs arrived that queue up behind a blocked head that nobody may overtake."""
        state = self.state
        if not state.counters[at.BLOCKED]:
            return False
        head = state.jobs_i[at.QUEUE, state.counters[at.QUEUE_LO]]
        return bool(self._batch_best[self._next_batch - 1] >= state.jobs_f[at.SCORE, head])  # type: ignore[index]

    def _decide(self, now_s: float, num_finished: int, arrived: int) -> None:
        state = self.state
        if self.is_dynamic:
            next_s = self._decide_dynamic(now_s, num_finished, arrived)
        elif self._static and self.waits_s is None and self.estimates is None:
            next_s = state.advance(now_s, self._finished, num_finished, self._absorbed, arrived)
        else:
            self._attribute_waits(now_s)
            self._account_ends(num_finished, now_s)
            self._account_arrivals(arrived)
            state.absorb(now_s, self._finished, num_finished, self._absorbed, arrived)
            if self.estimates is not None:
                state.correct(self.estimates, now_s)
            if not self._static:
                self._sort_queue(now_s)
            next_s = state.run_pass(now_s)
            self._note_reasons()
        self._absorbed = arrived
        self.num_passes += 1
        self.num_done += num_finished
        if state.num_started and not self.is_dynamic:
            self._start(now_s, state.num_started)
        if self.evacuation is not None and self.evacuation.has_room_for_more(state):
            next_s = now_s
        if next_s < math.inf:
            self._wake_at(next_s)

    def _start(self, now_s: float, num_started: int) -> None:
        started = self.state.started
        run_s = self._run_s
        put = self.clock.at
        # Most passes start one job at most, and a slice of one costs more than all else here.
        for row in (started.item(0),) if num_started == 1 else started[:num_started].tolist():
            put(now_s + run_s[row], 0, self._on_end, row)  # Order.END; the enum's lookup costs as much as the push
            if self.estimates is not None:
                self.state.note_start(self.estimates, row, now_s)
            if self.ledger is not None:
                self.ledger.change(self._user(row), self._processors(row), now_s)
        if self.learned is not None:
            self.learned.source.started(started[:num_started].tolist(), now_s)

    # --- attempts: jobs that are stopped, nodes that fail, speeds that differ -----------------------------------------

    def _decide_dynamic(self, now_s: float, num_finished: int, arrived: int) -> float:
        """Take in an instant in which jobs may also be stopped, and make its pass."""
        state, lifecycle = self.state, self.lifecycle
        assert lifecycle is not None
        self._take_in(now_s, num_finished, arrived)
        if self.estimates is not None:
            state.correct(self.estimates, now_s)
        if not self._static:
            self._sort_queue(now_s)
        settings, rules = self.options.settings, self.options.preemption
        if self.rounds is not None:
            next_s = self.rounds.make_pass(
                state,
                lifecycle,
                now_s,
                started=lambda row: self._begin([row], now_s),
                stopped=lambda row: self._preempt([row], now_s),
            )
        elif rules.rules:
            next_s = preempting_pass(
                state,
                rules,
                now_s,
                settings.ordering,
                self._usage(now_s),
                strict=settings.strict_classes,
                started=lambda rows: self._begin(rows, now_s),
                stopped=lambda rows: self._make_way(rows, now_s),
            )
        else:
            next_s = state.run_pass(now_s)
            self._begin(state.started[: state.num_started].tolist(), now_s)
        self._slow_down(now_s)
        self._note_reasons()
        return next_s

    def _take_in(self, now_s: float, num_finished: int, arrived: int) -> None:
        """Take in an instant: ends, stops, outages, arrivals."""
        state, lifecycle = self.state, self.lifecycle
        assert lifecycle is not None
        self._attribute_waits(now_s)
        self._account_ends(num_finished, now_s)
        if self.rounds is not None:
            self.rounds.account(state, now_s)
        for row in self._finished[:num_finished].tolist():
            lifecycle.finish(state, row, now_s)
            self._let_go(row)
        self._account_arrivals(arrived)
        away = self._outages_now or (self.evacuation is not None and self.evacuation.is_holding)
        if away or self._to_stop or self._to_retry:
            state.absorb(now_s, self._finished, num_finished, self._absorbed, self._absorbed)
            self._stop_attempts(now_s)
            if away:
                self._carry_out_outages(now_s)
            for row in self._to_retry:
                self._requeue(row, now_s)
            self._to_retry.clear()
            num_finished = 0
        state.absorb(now_s, self._finished, num_finished, self._absorbed, arrived)
        self._absorbed = arrived
        if self._load_step is not None:
            assert self.slowing is not None
            self.slowing.begin_step(state, self._load_step)
            self._load_step = None
            self._slow_down(now_s)
        if self.held is not None:
            self.held.set_limit(state, now_s)
            if not self._all_done():
                self._wake_at(self.held.next_step_s(now_s))

    def _begin(self, rows: Sequence[int], now_s: float) -> None:
        """Attempts of these jobs begin."""
        assert self.lifecycle is not None
        if self.learned is not None:
            self.learned.source.started(rows, now_s)
        for row in rows:
            if self.estimates is not None:
                self.state.note_start(self.estimates, row, now_s)
            end_s = self.lifecycle.begin(self.state, row, now_s)
            self._put_end(row, end_s)
            if self.slowing is not None:
                self.slowing.enter(self.state, row)
            if self.ledger is not None:
                self.ledger.change(self._user(row), self._processors(row), now_s)

    def _put_end(self, row: int, end_s: float) -> None:
        assert self.lifecycle is not None
        value = int(self.lifecycle.epoch[row]) * self.workload.num_jobs + row
        if self.lifecycle.is_doomed(row):
            self.clock.at(end_s, Order.FAULT, self._on_fault, value)
        else:
            self.clock.at(end_s, Order.END, self._on_end, value)

    def _let_go(self, row: int) -> None:
        if self.slowing is not None:
            self.slowing.leave(row)

    def _slow_down(self, now_s: float) -> None:
        """Give the jobs beside which there is more or less other work now their new speeds, and put their ends there.

        That is other jobs on the same GPU, and what is not the scheduler's on the same node.
        """
        if self.slowing is None:
            return
        assert self.lifecycle is not None
        for row, rate in self.slowing.changes(self.state):
            is_stopping = self.state.jobs_i[at.STOPPING, row] == 1
            stop_s = float(self.state.jobs_f[at.END_S, row])
            self.state.change_rate(row, rate, now_s)
            self.lifecycle.epoch[row] += 1
            self._put_end(row, self.lifecycle.end_of(self.state, row))
            if is_stopping:  # it gives back what it holds no later than before
                self.state.expect_end(row, stop_s)
                self._put_stop(row, stop_s)

    def _make_way(self, rows: Sequence[int], now_s: float) -> None:
        """Stop these jobs for the head of a queue, and put the queue in order again."""
        self._preempt(rows, now_s)
        if not self._static:
            self._sort_queue(now_s)

    def _preempt(self, rows: Sequence[int], now_s: float) -> None:
        """Stop these jobs for others: at once, or when they have had their grace period."""
        assert self.lifecycle is not None
        self.num_preemptions += len(rows)
        grace_s = self.options.preemption.grace_s
        for row in rows:
            if grace_s > 0:
                self.state.tell_to_stop(row, now_s + grace_s)
                self._put_stop(row, now_s + grace_s)
            else:
                self._stop(row, now_s, PREEMPTED)

    def _put_stop(self, row: int, stop_s: float) -> None:
        assert self.lifecycle is not None
        value = int(self.lifecycle.epoch[row]) * self.workload.num_jobs + row
        self.clock.at(stop_s, Order.STOP, self._on_stop, value)

    def _stop_attempts(self, now_s: float) -> None:
        """End the attempts whose grace period is over and those that fail, unless they have ended by now."""
        assert self.lifecycle is not None
        failed = False
        for value, ended in self._to_stop:
            epoch, row = divmod(value, self.workload.num_jobs)
            if epoch == self.lifecycle.epoch[row]:
                self._stop(row, now_s, ended)
                failed |= ended == FAILED
        self._to_stop.clear()
        if failed and self.options.settings.backfill == "conservative":
            self.state.rebuild_promises(now_s)

    def _stop(self, row: int, now_s: float, ended: int) -> None:
        """An attempt is over; the job waits again, unless it has failed too often."""
        assert self.lifecycle is not None
        kept_s = self.lifecycle.interrupt(self.state, row, now_s, ended)
        self.state.stop(row, now_s, kept_s=kept_s)
        if self.estimates is not None:
            note_stop(self.estimates, row)
            self.estimates.request_s[row] = max(self.estimates.request_s[row] - kept_s, at.OVERRUN_GRACE_S)
        self._let_go(row)
        if self.ledger is not None:
            self.ledger.change(self._user(row), -self._processors(row), now_s)
        if self.learned is not None:
            self.learned.source.stopped(row, now_s)
        if ended == PREEMPTED:
            self._requeue(row, now_s)
            return
        wait_s = next_retry(int(self.lifecycle.losses[row]), self.options.max_retries, self.options.retry_wait_s)
        if wait_s is None:
            self.lifecycle.give_up(row, now_s)
            self.num_done += 1
        elif wait_s > 0:
            self.clock.at(now_s + wait_s, Order.RETRY, self._on_retry, row)
            if self.waits_s is not None:
                self.waits_s[at.WAIT_FAILURE, row] += wait_s
        else:
            self._requeue(row, now_s)

    def _requeue(self, row: int, now_s: float) -> None:
        """A job that was stopped waits for nodes again."""
        score = 0.0
        if self._static:
            view = progress_view(self.state, np.asarray([row]), now_s, np.zeros(0))
            score = float(self.options.settings.ordering.score(view)[0])
        self.state.requeue(row, score, now_s)
        if self.learned is not None:
            self.learned.source.submitted([row])

    def _carry_out_outages(self, now_s: float) -> None:
        """The failures, drains and repairs of this instant."""
        assert self.outages is not None
        assert self.evacuation is not None
        first, last = self._next_outage, self._next_outage + self._outages_now
        self._next_outage, self._outages_now = last, 0
        leaving = self.evacuation.displaced(self.state, first, last, now_s)
        for job in leaving:
            self._stop(job.row, now_s, job.ended)
        close_and_open(self.state, self.outages, first, last)
        for job in leaving:
            if move(self.state, job.row, job.placement, now_s):
                self._begin([job.row], now_s)
        if self.options.settings.backfill == "conservative":
            self.state.rebuild_promises(now_s)

    # --- what jobs wait for -------------------------------------------------------------------------------------------

    def _attribute_waits(self, now_s: float) -> None:
        """Add the time since the last pass to what each job lacked."""
        if self.waits_s is None:
            return
        self.state.attribute_waits(now_s - self._waits_since_s, self.waits_s)
        self._waits_since_s = now_s

    def _note_reasons(self) -> None:
        if self.waits_s is not None:
            self.state.note_reasons()

    def _wake_at(self, time_s: float) -> None:
        if time_s < self._next_pass_s:
            self._next_pass_s = time_s
            self.clock.at(time_s, Order.PASS, self._on_pass, None)

    def _sort_queue(self, now_s: float) -> None:
        queue = self.state.queue
        if len(queue) < 2:
            return
        if self.learned is not None:
            self._follow_model(self.learned, now_s)
            return
        if self._may_leave_unsorted and not order_matters(self.state, may_stop=False):
            return
        columns: JobColumns = self.workload.columns
        waiting = columns.take(queue)
        if self.is_dynamic:
            waiting = replace(waiting, expected_s=waiting.expected_s + self.state.jobs_f[at.OVERHEAD_S, queue])
        view = QueueView(
            now_s,
            waiting,
            self.workload.capacity.processors,
            self._usage(now_s),
            self._dominant_shares(queue),
            num_others=len(self.state.running),
            loads=self._target_loads(queue),
        )
        ordering = self.options.settings.ordering
        if self.portfolio is not None:
            ordering = self.portfolio.ordering_at(self.state, view)
        scores = ordering.score(view)
        self.state.reorder(scores, view.jobs.priority if self._strict else None)

    def _follow_model(self, learned: LearnedOrder, now_s: float) -> None:
        if not order_matters(self.state, may_stop=bool(self.options.preemption.rules)):
            return
        if learned.guard.budget_s == math.inf:
            learned.score(self.state, now_s)
            learned.arrange(self.state, now_s)
            return
        begin_s = time.perf_counter()
        learned.score(self.state, now_s)
        learned.arrange(self.state, now_s, time.perf_counter() - begin_s)

    def _dominant_shares(self, queue: IntArray) -> FloatArray:
        if not self.options.settings.ordering.ordering.needs_shares:
            return np.zeros(0)
        running, demand = self.state.running, self.workload.demand
        rows = np.concatenate([running, queue])
        units = demand.tasks[rows, None] * demand.shapes[demand.shape_idx[rows]]
        return dominant_shares(self.workload.columns.take(rows), units, len(running), queue, self.workload.capacity)

    def _target_loads(self, queue: IntArray) -> FloatArray:
        needed = self.options.settings.ordering.ordering.needs_load
        return self.state.target_loads(queue) if needed else np.zeros(0)

    def _usage(self, now_s: float) -> FloatArray:
        return self.ledger.usage_at(now_s) if self.ledger is not None else np.zeros(0)

    def _account_ends(self, num_finished: int, now_s: float) -> None:
        if self.portfolio is not None and num_finished:
            self.portfolio.ended(self.state, self._finished[:num_finished].tolist(), now_s)
        if self.ledger is not None:
            for row in sorted(self._finished[:num_finished].tolist()):
                self.ledger.change(self._user(row), -self._processors(row), now_s)

        if self.learned is not None:
            self.learned.source.ended(self._finished[:num_finished].tolist(), self.workload.run_s, now_s)

    def _account_arrivals(self, arrived: int) -> None:
        if self.learned is not None:
            entered = np.flatnonzero(~self.workload.rejected[self._absorbed : arrived])
            self.learned.source.submitted((entered + self._absorbed).tolist())

    def _user(self, row: int) -> int:
        return int(self.workload.columns.user_idx[row])

    def _processors(self, row: int) -> float:
        return float(self.workload.columns.processors[row])

    def _passes_per_event(self) -> None:
        """A pass after every event of the instant: arrivals one by one, then ends one by one.

        Processors of a job whose *expected* end has come count as free at once, before its end has been handled.
        """
        now_s = self.clock._now
        self._learn_ends()
        state = self.state
        finished = self._finished[: self._num_finished].copy()
        self._num_finished = 0
        on_time = state.jobs_f[at.END_S, finished] <= now_s
        self._finished[: on_time.sum()] = finished[on_time]
        self._account_ends(int(on_time.sum()), now_s)
        state.absorb(now_s, self._finished, int(on_time.sum()), self._absorbed, self._absorbed)
        state.counters[at.RELEASED] = 0
        num_arrived = self._arrived - self._absorbed
        for arrived in range(self._absorbed + 1, self._arrived + 1):
            self._decide(now_s, 0, arrived)
        for row, released in zip(finished, on_time, strict=True):
            self._finished[0] = row
            state.counters[at.RELEASED] = 1
            self._decide(now_s, 0 if released else 1, self._absorbed)
            self.num_done += int(released)
        if not len(finished) and not num_arrived:
            self._decide(now_s, 0, self._absorbed)


def _batches(submit_s: FloatArray) -> tuple[array[float], array[int]]:
    """Distinct submit times, and the row bounds of the jobs submitted at each."""
    if not len(submit_s):
        return array("d"), array("q", [0])
    first = np.flatnonzero(np.append(True, submit_s[1:] != submit_s[:-1]))
    bounds = np.append(first, len(submit_s)).astype(np.int64)
    return array("d", submit_s[first].tobytes()), array("q", bounds.tobytes())
