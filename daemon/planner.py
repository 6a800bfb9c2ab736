"""Where decisions are computed: in a process of their own, so that no RPC waits for one, and one that hangs is ended.

What goes there are requests, such as ``Question``, and what comes back are values, such as ``Answer``. An ordering
travels as its name; the functions that know names (built-in orderings, models) and that estimate starts are handed in
by whoever starts the daemon. A learned order is one more name: a process that hangs in it is ended like any other.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

from shunter.daemon.errors import DaemonError
from shunter.scheduler import Plan, Settings, Snapshot, check_plan, choose_ordering, plan
from shunter.scheduler.errors import ShunterError, UsageError
from shunter.scheduler.policies.registry import ChosenOrdering
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.recording import encode
from shunter.scheduler.start_times import TellStarts
from shunter.scheduler.types import FloatArray

FindOrdering = Callable[[str], ChosenOrdering]
"""The ordering that a name of the configuration means; must be importable by its module and name."""

MOST_KNOWN = 4
"""Rules whose settings, with their models, are kept."""
MOST_KEPT_BYTES = 256 << 20
"""Of kept decisions; those of ten thousand waiting jobs take 1 MB each."""


class PlannerError(DaemonError):
    """A decision could not be computed: the process ended, took too long, or the policy failed."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How decisions are made; see ``scheduler.Settings`` and ``scheduler.preemption``.

    Attributes:
        policy: Ordering, as on the command line.
        backfill: Backfilling.
        placement: Placement.
        depth: Waiting jobs behind the head that a pass looks at; 0: all.
        locality_s: Longest wait for a placement nearer together.
        preempt: Rules of preemption; none: never.
        min_run_s: A job is left alone for so long.
        grace_s: Time to save work.
        strict_classes: Jobs of a higher priority come first, whatever the ordering.
        model: Learned order, with settings of its guard; empty: ``policy`` decides, else only where the guard says so.
        model_sha256: What the model's file has to be.
    """

    policy: str = "fcfs"
    backfill: str = "easy"
    placement: str = "best-fit"
    depth: int = 0
    locality_s: float = 0.0
    preempt: tuple[str, ...] = ()
    min_run_s: float = 60.0
    grace_s: float = 10.0
    strict_classes: bool = True
    model: str = ""
    model_sha256: str = ""


Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Request(Protocol[Result_co]):
    """Something to be worked out away from the event loop; a value, importable by its class."""

    def work(self, decider: Decider) -> Result_co:
        """The answer."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What a decision is made from.

    Attributes:
        snapshot: What is known.
        usage_s: (U,) decayed usage of users.
        rules: How to decide.
    """

    snapshot: Snapshot
    usage_s: FloatArray
    rules: Rules

    def work(self, decider: Decider) -> Answer:
        """The plan."""
        return decider.answer(self)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model that can be used.

    Attributes:
        label: What it is called.
        sha256: Of its file.
    """

    label: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """Load a model, compile what it needs and score one job; its text as in ``Rules.model``."""

    model: str

    def work(self, decider: Decider) -> ModelFacts:
        """See ``Request``."""
        from shunter.scheduler.learned import warm_up

        chosen = decider.find(self.model)
        if not chosen.ordering.needs_features:
            raise UsageError(f"{self.model!r} is no model but an ordering: name it as the policy")
        if chosen.scorer is None:
            raise UsageError(f"no model is known by the name {self.model!r}")
        warm_up(chosen)
        return ModelFacts(chosen.label, chosen.model_sha256)


@dataclass(frozen=True, slots=True)
class Answer:
    """A plan, and how long it took.

    Attributes:
        plan: Checked.
        plan_s: Seconds to make it.
        check_s: Seconds to check it.
    """

    plan: Plan
    plan_s: float
    check_s: float


class Planner(Protocol):
    """Answers requests, one at a time."""

    async def ask(self, request: Request[Result], limit_s: float | None = None) -> Result:
        """The answer; for a ``Question`` its plan.

        Args:
            request: What is asked.
            limit_s: Longest that it may take; None: as long as the planner allows.

        Raises:
            PlannerError: There is none.
        """
        ...

    def close(self) -> None:
        """Let go of the process."""
        ...


def settings_of(rules: Rules, find: FindOrdering) -> tuple[Settings, Preemption | None]:
    """The core's settings.

    Raises:
        UsageError: A name that does not exist.
    """
    ordering = find(rules.policy)
    if rules.model:
        ordering = replace(find(rules.model), fallback=rules.policy if _can_stand_in(ordering) else "fcfs")
        if ordering.model_sha256 != rules.model_sha256:
            raise UsageError(f"model {rules.model!r} is not the one that was taken into use: its file has changed")
    settings = Settings(
        ordering=ordering,
        backfill=rules.backfill,
        placement=rules.placement,
        depth=rules.depth,
        locality_s=rules.locality_s,
        strict_classes=rules.strict_classes,
    )
    preemption = Preemption(rules.preempt, rules.min_run_s, rules.grace_s) if rules.preempt else None
    return settings, preemption


def _can_stand_in(ordering: ChosenOrdering) -> bool:
    """Whether an ordering can decide where a guard does not follow a model: it goes by what never changes of a job."""
    own = ordering.ordering
    asks = own.needs_usage or own.needs_shares or own.needs_load or own.needs_features or own.rounds is not None
    return own.static and not asks


class Decider:
    """Makes plans; settings are made once.

    Args:
        find: What names of orderings mean.
        tell_starts: Estimates starts; None: nobody does.
        keep: Decisions that are kept as bytes, the last ones.
    """

    def __init__(self, find: FindOrdering, tell_starts: TellStarts | None = None, keep: int = 0) -> None:
        self.find, self.tell_starts = find, tell_starts
        self._known: dict[Rules, tuple[Settings, Preemption | None]] = {}
        self.records: deque[bytes] = deque(maxlen=keep)
        self.num_kept = 0
        self._kept_bytes = 0
        self._unkept: tuple[Question, Plan] | None = None

    def settings(self, rules: Rules) -> tuple[Settings, Preemption | None]:
        """The core's settings; the last models are kept loaded."""
        if rules not in self._known:
            while len(self._known) >= MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[rules] = settings_of(rules, self.find)
        return self._known[rules]

    def keep(self) -> None:
        """Keep the last decision; called when its answer is on its way, so that nobody waits for it."""
        if self._unkept is None or self.records.maxlen == 0:
            return
        (question, made), self._unkept = self._unkept, None
        settings, preemption = self.settings(question.rules)
        record = encode(question.snapshot, settings, question.usage_s, preemption, made)
        if len(self.records) == self.records.maxlen:
            self._kept_bytes -= len(self.records.popleft())
        self.records.append(record)
        self.num_kept += 1
        self._kept_bytes += len(record)
        while len(self.records) > 1 and self._kept_bytes > MOST_KEPT_BYTES:
            self._kept_bytes -= len(self.records.popleft())

    def answer(self, question: Question) -> Answer:
        """The plan.

        Raises:
            PlannerError: The plan breaks a rule: a bug in a policy.
        """
        settings, preemption = self.settings(question.rules)
        begun_s = time.perf_counter()
        made = plan(question.snapshot, settings, usage_s=question.usage_s, preemption=preemption)
        planned_s = time.perf_counter()
        problems = check_plan(question.snapshot, made)
        if problems:
            raise PlannerError("plan refused: " + "; ".join(problems[:3]))
        self._unkept = question, made
        return Answer(made, planned_s - begun_s, time.perf_counter() - planned_s)


class ThreadPlanner:
    """Decides in a thread of this process: for tests and small clusters.

    Args:
        find: What names of orderings mean.
        tell_starts: Estimates starts.
        keep: Decisions that are kept.
    """

    def __init__(
        self, find: FindOrdering = choose_ordering, tell_starts: TellStarts | None = None, keep: int = 0
    ) -> None:
        self._decider = Decider(find, tell_starts, keep)
        self._one_at_a_time = asyncio.Lock()

    async def ask(self, request: Request[Result], limit_s: float | None = None) -> Result:
        """See ``Planner``."""
        del limit_s
        async with self._one_at_a_time:
            try:
                answer = await asyncio.to_thread(request.work, self._decider)
            except ShunterError as error:
                raise PlannerError(str(error)) from error
            await asyncio.to_thread(self._decider.keep)
            return answer

    def close(self) -> None:
        """Nothing to let go of."""


class ProcessPlanner:
    """Decides in a process of its own, which is started anew when it has died or takes too long.

    Args:
        find: What names of orderings mean.
        limit_s: Longest that a decision may take; the first one may compile, and gets ``first_limit_s``.
        first_limit_s: For the first decision of a process.
        tell_starts: Estimates starts; importable by its module and name, as ``find``.
        keep: Decisions that are kept; those of a process that was ended are lost.
    """

    def __init__(
        self,
        find: FindOrdering = choose_ordering,
        *,
        limit_s: float = 30.0,
        first_limit_s: float = 300.0,
        tell_starts: TellStarts | None = None,
        keep: int = 0,
    ) -> None:
        self._made_of = find, tell_starts, keep
        self._limit_s, self._first_limit_s = limit_s, first_limit_s
        self._one_at_a_time = asyncio.Lock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._is_warm = False

    async def ask(self, request: Request[Result], limit_s: float | None = None) -> Result:
        """See ``Planner``; a process whose answer nobody waits for any more is ended."""
        async with self._one_at_a_time:
            exchange = asyncio.ensure_future(asyncio.to_thread(self._exchange, request, limit_s))
            try:
                answer: Result = await asyncio.shield(exchange)
            except asyncio.CancelledError:
                if self._process is not None:
                    self._process.kill()  # the pipe then ends, and with it the thread
                await asyncio.gather(exchange, return_exceptions=True)
                raise
            return answer

    def _exchange(self, request: Request[Any], limit_s: float | None) -> Any:
        if self._process is None or not self._process.is_alive():
            self._start()
        assert self._pipe is not None
        if limit_s is None:
            limit_s = self._limit_s if self._is_warm else self._first_limit_s
        try:
            self._pipe.send_bytes(pickle.dumps(request, protocol=5))
            if not self._pipe.poll(limit_s):
                self.close()
                raise PlannerError(f"a decision took longer than {limit_s:g} s; its process was ended")
            answer, problem = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            self.close()
            raise PlannerError(f"the deciding process ended: {error!r}") from error
        self._is_warm = True
        if problem:
            raise PlannerError(problem)
        return answer

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, *self._made_of), daemon=True, name="shunter-planner"
        )
        self._process.start()
        theirs.close()
        self._pipe, self._is_warm = ours, False

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._pipe, self._process = None, None


def _serve(pipe: Connection, find: FindOrdering, tell_starts: TellStarts | None, keep: int) -> None:
    """Answer requests until the other side closes the pipe."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group; the daemon ends us itself
    decider = Decider(find, tell_starts, keep)
    while True:
        try:
            request: Request[Any] = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer, problem = request.work(decider), ""
        except ShunterError as error:
            answer, problem = None, str(error)
        except Exception as error:  # a model's runtime may raise anything
            answer, problem = None, f"{type(error).__name__}: {error}"
        try:
            pipe.send_bytes(pickle.dumps((answer, problem), protocol=5))
        except OSError:
            return
        decider.keep()
