"""The leading daemon's core: the live state, the store behind it, and the one loop that decides.

The state in memory is ahead of the store by what is being written; nothing of it is shown to anybody before it is
durable: replies, orders to agents and told events wait for it. When the store fails, memory is thrown away and made
anew from the store, as a restart would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from shunter.daemon.carrying import carry_out
from shunter.daemon.errors import FencedError, NotLeaderError, StoreError
from shunter.daemon.health_rules import LeaseRules
from shunter.daemon.jobs import Reason
from shunter.daemon.live import LiveState, Order, Step
from shunter.daemon.past import past_of, recently_ended
from shunter.daemon.planner import Answer, Planner, PlannerError, Question, Rules
from shunter.daemon.policies import Mode, ModelRules, Policies, PolicyCounts
from shunter.daemon.ports import Clock, Store
from shunter.daemon.restore import restore
from shunter.daemon.snapshots import GroupRules, LeftOut, Snapshots, View
from shunter.daemon.specs import DEFAULT_QUEUES, QueueRules
from shunter.daemon.steps.evacuation import evacuate
from shunter.daemon.steps.jobs import release_due
from shunter.daemon.steps.nodes import learn_from_ends, watch_silence
from shunter.daemon.store.rows import EventRow
from shunter.daemon.warming import WarmUp
from shunter.scheduler.errors import ShunterError
from shunter.scheduler.start_times import Past

log = structlog.get_logger("shunter.daemon")
Result = TypeVar("Result")
LONGEST_SLEEP_S = 60.0
RECOVERY_S = 0.5
"""Between two tries to write to a store that has failed."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """What the configuration says of the leader's work.

    Attributes:
        rules: How decisions are made.
        queues: By name.
        models: Of learned orders.
        groups: Quotas; of queues where ``by_queue``.
        by_queue: Weights belong to queues.
        leases: Of nodes, and what is concluded from other signs of their health.
        queue_depth: Waiting jobs that a decision is told of, at most.
        min_interval_s: From the end of a decision to the beginning of the next; what happens meanwhile is decided
            together.
        tick_s: How often silent nodes are looked for.
    """

    rules: Rules = field(default_factory=Rules)
    queues: dict[str, QueueRules] = field(default_factory=lambda: dict(DEFAULT_QUEUES))
    models: ModelRules = field(default_factory=ModelRules)
    groups: tuple[GroupRules, ...] = ()
    by_queue: bool = False
    leases: LeaseRules = field(default_factory=LeaseRules)
    queue_depth: int = 10_000
    min_interval_s: float = 0.02
    tick_s: float = 0.25

    def snapshots(self) -> Snapshots:
        """What makes snapshots by these rules."""
        return Snapshots(self.groups, self.queue_depth, by_queue=self.by_queue)


@dataclass(slots=True)
class Decision:
    """The last decision: for explanations and the record.

    Attributes:
        view: What it was told.
        question: The whole question.
        answer: The plan.
        at_s: When it was carried out.
    """

    view: View
    question: Question
    answer: Answer
    at_s: float


Listener = Callable[[Sequence[EventRow]], None]
SendOrder = Callable[[Order], None]


class Leader:
    """Holds the state and carries out what is asked of it, one step at a time, on one event loop.

    Args:
        store: For reading, until a term begins.
        clock: Time.
        planner: Decides.
        conduct: Configuration; may be replaced at any time.
        asker: Answers questions about jobs, so that decisions do not wait for them; None: the planner does.
    """

    def __init__(
        self, store: Store, clock: Clock, planner: Planner, conduct: Conduct, asker: Planner | None = None
    ) -> None:
        self.store, self.clock, self.planner, self.conduct = store, clock, planner, conduct
        self.asker = asker or planner
        self.token = 0
        self.state = LiveState(0)
        self.snapshots = conduct.snapshots()
        self.policies = Policies(planner, conduct.models, self._tell)
        self.listeners: list[Listener] = []
        self.send_order: SendOrder = lambda _: None
        self.on_reload: Callable[[], None] = lambda: None
        self.decision: Decision | None = None
        self.failure: ShunterError | None = NotLeaderError("this daemon does not lead yet")
        self.on_stage: Callable[[str, float], None] = lambda _stage, _seconds: None
        self.on_guard: Callable[[Sequence[str]], None] = lambda _words: None
        self.figures: dict[str, Callable[[], Mapping[tuple[str, ...], float] | None]] = {
            "shunter_evictions_held": lambda: {(): float(len(self.state.held.jobs))}
        }
        """Series of ``metrics_table`` that somebody else knows: values by labels, None while there are none."""
        self.figures["shunter_shadow_regret_ratio"] = self.policies.counts.cost_ratio
        self.counts: dict[str, int] = {"decisions": 0, "refused": 0, "planner_failures": 0, "reloads": 0}
        self._loop = asyncio.get_running_loop()
        self.deposed: asyncio.Future[BaseException] = self._loop.create_future()
        self._decided = (-1, -1)
        self._left_out: list[LeftOut] = []
        self._words: dict[int, Reason] | None = {}
        self._wake = asyncio.Event()
        self._next_pass_s = float("inf")
        self._tasks: list[asyncio.Task[None]] = []

    # --- terms -------------------------------------------------------------------------------------------------------

    @property
    def leads(self) -> bool:
        """Whether this daemon decides."""
        return bool(self._tasks)

    def lead(self, store: Store, token: int) -> None:
        """Begin a term: load the state and decide, until ``deposed`` is set or ``step_down`` is called.

        Args:
            store: Writes with ``token``.
            token: Fencing token of the term.
        """
        self.store, self.token = store, token
        store.deliver_by(self._loop.call_soon_threadsafe)
        self.deposed = self._loop.create_future()
        self.load()
        for work in (self._decide_forever(), self._tick_forever()):
            task = asyncio.create_task(work)
            task.add_done_callback(self._task_ended)
            self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("leader-failed", exc_info=error)
            self._depose(error)

    def _depose(self, error: BaseException) -> None:
        if not self.deposed.done():
            self.deposed.set_result(error)

    async def step_down(self, address: str = "") -> None:
        """End the term: nothing is decided or taken in any more; what was asked for is still stored.

        Args:
            address: Of the daemon that leads now, where it is known.
        """
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.failure = NotLeaderError("this daemon does not lead", address)
        self.on_reload()

    def follow(self, store: Store, address: str) -> None:
        """Another daemon leads; ``show`` tells what it has stored.

        Args:
            store: For reading.
            address: Of the daemon that leads; empty: nobody knows.
        """
        self.store = store
        self.failure = NotLeaderError("this daemon does not lead", address)

    def show(self, state: LiveState) -> None:
        """Show a state that another daemon has stored."""
        self.state = state
        self.policies.load(state.settings)

    def load(self) -> None:
        """Make the state anew from the store."""
        self.state = restore(self.store.load(), self.token, self.clock.now_s())
        self.snapshots = self.conduct.snapshots()
        self.state.histories.ended.extend(recently_ended(self.store, self.snapshots, self.state))
        self.policies.load(self.state.settings)
        self.failure = None
        self.decision = None
        self._left_out, self._words = [], {}
        self.wake()
        log.info("state-loaded", jobs=len(self.state.jobs), nodes=len(self.state.nodes), token=self.token)

    async def warm_up(self) -> None:
        """Have the deciding process load what it needs, or compile it, before the first decision."""
        try:
            rules = self.policies.learned_rules(self.conduct.rules) or self.conduct.rules
            seconds = await self.planner.ask(WarmUp(rules, self.conduct.leases))
            log.info("decisions-ready", seconds=round(seconds, 1))
        except PlannerError as error:
            log.warning("not-warmed-up", error=str(error))

    def apply(self, conduct: Conduct) -> None:
        """Go on with another configuration."""
        self.conduct = conduct
        for job in self.state.jobs.values():
            self.snapshots.forget(job)
        self.snapshots = conduct.snapshots()
        self.policies.apply(conduct.models)
        self.wake()

    def wake(self) -> None:
        """Something has happened after which a decision may be different."""
        self._wake.set()

    # --- steps -------------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """Who decides: a word of ``policies.Mode``."""
        return self.policies.choice.mode

    @property
    def policy_counts(self) -> PolicyCounts:
        """What became of decisions; for metrics."""
        return self.policies.counts

    def _tell(self, change: Callable[[LiveState, Step, float], None]) -> None:
        if self.failure is None:
            step = Step()
            change(self.state, step, self.clock.now_s())
            self.write(step)

    def refuse_when_failed(self) -> None:
        """Raise what the store has failed with, while it has not recovered."""
        if self.failure is not None:
            raise self.failure

    @asynccontextmanager
    async def step(self) -> AsyncIterator[tuple[LiveState, Step, float]]:
        """A step: what is done inside is stored together, and has been when the context ends.

        Raises:
            StoreError: It could not be stored; nothing of it has happened.
        """
        self.refuse_when_failed()
        step = Step()
        yield self.state, step, self.clock.now_s()
        await self.write(step)

    def write(self, step: Step) -> asyncio.Future[None]:
        """Store what a step has changed; its consequences follow when that is done."""
        if step.wakes:
            self.wake()
        for job in step.touched:
            self.snapshots.forget(job)
        done: asyncio.Future[None] = self._loop.create_future()
        state = self.state
        change = step.change
        if not (change.events or change.updates or change.nodes or change.attempts or change.jobs or change.settings):
            self._written(step)
            done.set_result(None)
            return done
        self.store.put(change, lambda failure: self._finish(state, step, done, failure))
        return done

    def _finish(self, state: LiveState, step: Step, done: asyncio.Future[None], error: BaseException | None) -> None:
        if error is None:
            self._written(step)
            if not done.done():
                done.set_result(None)
            return
        if state is self.state and self.failure is None:
            self._failed(error)
        if not done.done():
            done.set_exception(error)
            done.exception()  # a step that nobody waits for must not be reported as forgotten

    def _written(self, step: Step) -> None:
        for order in step.orders:
            self.send_order(order)
        if step.change.events:
            for listener in self.listeners:
                listener(step.change.events)

    def _failed(self, error: BaseException) -> None:
        """The store failed: memory is ahead of it and worth nothing any more."""
        log.error("store-failed", error=str(error))
        if not isinstance(error, StoreError):
            self.failure = NotLeaderError("this daemon leads no more")
            self._depose(error)
            return
        self.failure = error
        self.on_reload()
        self._tasks.append(asyncio.create_task(self._recover()))

    async def _recover(self) -> None:
        while True:
            await asyncio.sleep(RECOVERY_S)
            try:
                await asyncio.to_thread(self.store.recover)
            except FencedError as error:
                self._depose(error)
                return
            except StoreError as error:
                self.failure = error
                continue
            self.load()
            self.counts["reloads"] += 1
            self.on_reload()
            log.warning("store-recovered")
            return

    # --- time --------------------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(self.conduct.tick_s)
            if self.failure is not None:
                continue
            step, now_s = Step(), self.clock.now_s()
            watch_silence(self.state, step, now_s, self.conduct.leases)
            learn_from_ends(self.state, step, now_s, self.conduct.leases)
            evacuate(self.state, step, now_s, self.conduct.leases)
            release_due(self.state, step, now_s)
            self.write(step)

    # --- decisions ---------------------------------------------------------------------------------------------------

    async def _decide_forever(self) -> None:
        while True:
            wait_s = min(max(self._next_pass_s - self.clock.now_s(), 0.0), LONGEST_SLEEP_S)
            try:
                await asyncio.wait_for(self._wake.wait(), wait_s)
            except TimeoutError:
                self._next_pass_s = float("inf")
            self._wake.clear()
            if self.failure is None and self.state.waiting and self.state.nodes:
                await self.decide()
            await asyncio.sleep(self.conduct.min_interval_s)

    @property
    def is_settled(self) -> bool:
        """Whether everything that has happened has been decided on."""
        return self._decided == _stage_of(self.state)

    def present(self, now_s: float) -> tuple[Question, Past]:
        """What an estimate of starts is made from, now. The state has a node."""
        rules = self.conduct.rules
        if self.policies.choice.mode is Mode.ACTIVE:
            rules = self.policies.learned_rules(rules) or rules
        view = self.snapshots.take(self.state, now_s, closed_queues=self._closed(), with_histories=bool(rules.model))
        return Question(view.snapshot, view.usage_s, rules), past_of(self.state, self.snapshots)

    def _closed(self) -> frozenset[str]:
        return frozenset(name for name, queue in self.conduct.queues.items() if not queue.is_open)

    async def decide(self) -> None:
        """One decision, from the snapshot to what follows."""
        state, conduct = self.state, self.conduct
        closed, learns = self._closed(), self.policies.asks_histories
        begun_s = time.perf_counter()
        view = self.snapshots.take(state, self.clock.now_s(), closed_queues=closed, with_histories=learns)
        self.on_stage("snapshot", time.perf_counter() - begun_s)
        self._left_out, self._words = view.left_out, None
        if not view.snapshot.num_waiting:
            self._decided = _stage_of(state)
            return
        question = Question(view.snapshot, view.usage_s, conduct.rules)
        try:
            question, answer = await self.policies.decide(question)
        except PlannerError as error:
            self.counts["planner_failures"] += 1
            log.error("decision-failed", error=str(error))
            await asyncio.sleep(1.0)
            self.wake()
            return
        if state is not self.state or self.failure is not None:
            return
        self.on_stage("plan", answer.plan_s)
        self.on_stage("check", answer.check_s)
        if answer.plan.guard:
            self.on_guard(answer.plan.guard)
        self._carry_out(view, question, answer)
        await self.policies.compare(question, answer)

    def _carry_out(self, view: View, question: Question, answer: Answer) -> None:
        step, state, now_s = Step(), self.state, self.clock.now_s()
        begun_s = time.perf_counter()
        carried = carry_out(state, step, now_s, view, answer.plan, lambda job: self.snapshots.processors(state, job))
        if carried.refused:
            self.counts["refused"] += 1
            log.info("plan-refused", why=carried.refused)
            self.wake()
            return
        self.on_stage("commit", time.perf_counter() - begun_s)
        self.counts["decisions"] += 1
        self._decided = _stage_of(state)
        state.released = False
        self._next_pass_s = answer.plan.next_pass_s
        self.decision = Decision(view, question, answer, now_s)
        self._words = None
        begun_s = time.perf_counter()
        self.write(step).add_done_callback(lambda _: self.on_stage("store", time.perf_counter() - begun_s))

    def why(self, job: int) -> Reason:
        """The last decision's word on why a job waits; NEW: it has not been looked at."""
        if self._words is None:  # ten thousand words are put together when somebody asks, not at every decision
            skipped = self.decision.answer.plan.skipped if self.decision is not None else ()
            self._words = {row: Reason(reason.value) for row, reason in skipped}
            for jobs, word in self._left_out:
                self._words |= dict.fromkeys(jobs.tolist(), word)
        return self._words.get(job, Reason.NEW)

    # --- for services ------------------------------------------------------------------------------------------------

    async def perform(self, change: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """Carry out a function of ``daemon.steps`` as one durable step; returns what it returns."""
        self.refuse_when_failed()
        step = Step()
        result = change(self.state, step, self.clock.now_s(), *arguments, **named)
        await self.write(step)
        return result


def _stage_of(state: LiveState) -> tuple[int, int]:
    """Differs when something has happened that a decision may answer."""
    return state.version, state.last_job
