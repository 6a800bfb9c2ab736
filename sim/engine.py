"""The replay engine: SimPy owns time, the decision core decides, this module carries events from one to the other.

An instant is all events at one time: ends, then arrivals, then exactly one scheduling pass (``--ties per-event`` makes
a pass after every event instead, arrivals before ends, as some published simulators do). There is no SimPy process per
job: a job is an arrival, shared with all jobs of its instant, and an end, each an event with a callback.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.errors import EngineError, UsageError, nearest
from shunter.scheduler.fairshare import Ledger
from shunter.scheduler.snapshot import JobColumns, QueueView
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import BoolArray, FloatArray
from shunter.sim.clock import Callbacks, EventClock, Order
from shunter.sim.workload import Workload

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
    """

    settings: Settings = field(default_factory=Settings)
    ties: str = "instant"
    interval_s: float = 0.0

    def __post_init__(self) -> None:
        if self.ties not in TIES:
            raise UsageError(f"unknown --ties {self.ties!r}{nearest(self.ties, list(TIES))}")
        if not (math.isfinite(self.interval_s) and self.interval_s >= 0):
            raise UsageError(f"interval {self.interval_s} is not a number of seconds of at least 0")
        if self.ties == "per-event" and self.interval_s:
            raise UsageError("--ties per-event makes a pass at every event: it does not go with --interval")


class Simulation:
    """One replay that can be stopped between two instants, saved, and taken up again.

    Args:
        workload: Jobs and cluster as arrays.
        options: How to run.
    """

    def __init__(self, workload: Workload, options: Options) -> None:
        self.workload = workload
        self.options = options
        self.clock = EventClock()
        settings = options.settings
        ordering = settings.ordering.ordering
        everything = QueueView(0.0, workload.columns, workload.capacity.processors)
        self._static = ordering.static
        score = settings.ordering.score(everything) if self._static else None
        self.state = ClusterState(
            capacity=workload.capacity,
            demand=workload.demand,
            columns=workload.columns,
            score=score,
            backfill=settings.backfill,
            placement=settings.placement,
            depth=settings.depth,
        )
        self.num_events = 0
        self.num_passes = 0
        self.passes_put_off = 0
        self.num_done = 0
        self.ledger = Ledger.empty(workload.num_users) if ordering.needs_usage else None
        self._run_s = workload.run_s.tolist()
        self._batch_times, self._batch_bounds = _batches(workload.columns.submit_s)
        self._batch_best = self._best_scores(score)
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
        if self._batch_times:
            self.clock.at(self._batch_times[0], Order.ARRIVAL, self._on_arrival, None)

    def _best_scores(self, score: FloatArray | None) -> list[float] | None:
        """Best score of each arrival batch; only where a blocked head may let a pass be left out."""
        if score is None or self.options.interval_s or self.options.settings.backfill != "none" or not len(score):
            return None
        entered = np.where(self.workload.rejected, np.inf, score)
        return np.minimum.reduceat(entered, self._batch_bounds[:-1]).tolist()  # type: ignore[no-any-return]

    # --- events ------------------------------------------------------------------------------------------------------

    def _arrive(self, _event: Any) -> None:
        self._next_batch += 1
        self._arrived = self._batch_bounds[self._next_batch]
        if self._next_batch < len(self._batch_times):
            self.clock.at(self._batch_times[self._next_batch], Order.ARRIVAL, self._on_arrival, None)

    def _end(self, event: Any) -> None:
        self._finished[self._num_finished] = event._value
        self._num_finished += 1

    def _pass_event(self, _event: Any) -> None:
        self._next_pass_s = math.inf

    @property
    def backfilled(self) -> BoolArray:
        """(J,) jobs that started while one ahead of them in the queue waited."""
        flags: BoolArray = self.state.backfilled == 1
        return flags

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
            self._check_complete()
        return not queue

    def _check_complete(self) -> None:
        """Every job that entered has ended; anything else would be a wrong result that looks like a right one."""
        accepted = self.workload.num_jobs - int(self.workload.rejected.sum())
        if self.num_done != accepted:
            raise EngineError(f"{accepted - self.num_done} of {accepted} jobs never ran: please report this replay")

    def close(self) -> None:
        """Let go of the callbacks: they refer back to the simulation, which would otherwise wait for the collector."""
        for callbacks in (self._on_end, self._on_arrival, self._on_pass):
            callbacks.clear()

    def _pass(self) -> None:
        """The one pass of an instant."""
        now_s = self.clock._now
        if now_s < self._earliest_pass_s:
            self.passes_put_off += 1
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
        if self._static:
            next_s = state.advance(now_s, self._finished, num_finished, self._absorbed, arrived)
        else:
            self._account_ends(num_finished, now_s)
            state.absorb(now_s, self._finished, num_finished, self._absorbed, arrived)
            self._sort_queue(now_s)
            next_s = state.run_pass(now_s)
        self._absorbed = arrived
        self.num_passes += 1
        self.num_done += num_finished
        num_started = state.num_started
        if num_started:
            self._start(now_s, num_started)
        if next_s < math.inf:
            self._wake_at(next_s)

    def _start(self, now_s: float, num_started: int) -> None:
        started = self.state.started
        run_s = self._run_s
        put = self.clock.at
        # Most passes start one job at most, and a slice of one costs more than all else here.
        for row in (started.item(0),) if num_started == 1 else started[:num_started].tolist():
            put(now_s + run_s[row], 0, self._on_end, row)  # Order.END; the enum's lookup costs as much as the push
            if self.ledger is not None:
                self.ledger.change(self._user(row), self._processors(row), now_s)

    def _wake_at(self, time_s: float) -> None:
        if time_s < self._next_pass_s:
            self._next_pass_s = time_s
            self.clock.at(time_s, Order.PASS, self._on_pass, None)

    def _sort_queue(self, now_s: float) -> None:
        queue = self.state.queue
        if len(queue) < 2:
            return
        columns: JobColumns = self.workload.columns
        usage_s = self.ledger.usage_at(now_s) if self.ledger is not None else np.zeros(0)
        view = QueueView(now_s, columns.take(queue), self.workload.capacity.processors, usage_s)
        self.state.reorder(self.options.settings.ordering.score(view))

    def _account_ends(self, num_finished: int, now_s: float) -> None:
        if self.ledger is not None:
            for row in self._finished[:num_finished].tolist():
                self.ledger.change(self._user(row), -self._processors(row), now_s)

    def _user(self, row: int) -> int:
        return int(self.workload.columns.user_idx[row])

    def _processors(self, row: int) -> float:
        return float(self.workload.columns.processors[row])

    def _passes_per_event(self) -> None:
        """A pass after every event of the instant: arrivals one by one, then ends one by one.

        Processors of a job whose *expected* end has come count as free at once, before its end has been handled.
        """
        now_s = self.clock._now
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

    # --- saving ------------------------------------------------------------------------------------------------------

    COUNTS = ("num_events", "num_passes", "passes_put_off", "num_done", "_next_batch", "_absorbed", "_arrived")

    def counts(self) -> dict[str, int | float | list[int]]:
        """The engine's own numbers, for a checkpoint."""
        own: dict[str, int | float | list[int]] = {name: getattr(self, name) for name in self.COUNTS}
        own["now_s"] = float(self.clock.now)
        own["next_pass_s"] = self._next_pass_s
        own["earliest_pass_s"] = self._earliest_pass_s
        own["finished"] = self._finished[: self._num_finished].tolist()
        return own

    def restore(self, counts: dict[str, Any], arrays: dict[str, Any]) -> None:
        """Stand where a saved simulation of the same workload and options stood."""
        for name in self.COUNTS:
            setattr(self, name, counts[name])
        self._next_pass_s = counts["next_pass_s"]
        self._earliest_pass_s = counts["earliest_pass_s"]
        self._num_finished = len(counts["finished"])
        self._finished[: self._num_finished] = counts["finished"]
        self.state.restore(arrays)
        if self.ledger is not None:
            for name in ("usage_s", "held", "since_s"):
                getattr(self.ledger, name)[:] = arrays[f"ledger_{name}"]
        self.clock = EventClock(initial_time=counts["now_s"])
        kinds: dict[Order, Callbacks]
        kinds = {Order.END: self._on_end, Order.ARRIVAL: self._on_arrival, Order.PASS: self._on_pass}
        for time_s, order, value in zip(
            arrays["pending_time"].tolist(),
            arrays["pending_order"].tolist(),
            arrays["pending_value"].tolist(),
            strict=True,
        ):
            self.clock.at(time_s, order, kinds[Order(order)], value)


def _batches(submit_s: FloatArray) -> tuple[list[float], list[int]]:
    """Distinct submit times, and the row bounds of the jobs submitted at each."""
    if not len(submit_s):
        return [], [0]
    first = np.flatnonzero(np.append(True, submit_s[1:] != submit_s[:-1]))
    return submit_s[first].tolist(), [*first.tolist(), len(submit_s)]


def timed_run(simulation: Simulation, should_stop: Callable[[], bool] | None = None) -> tuple[bool, float]:
    """Run, and say whether it is complete and how many seconds it took."""
    begin = time.perf_counter()
    complete = simulation.run(should_stop)
    return complete, time.perf_counter() - begin
