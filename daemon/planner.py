"""Where decisions are computed: in a process of their own, so that no RPC waits for one, and one that hangs is ended.

What goes there and comes back are values: ``Question`` and ``Answer``. An ordering travels as its name; the function
that knows names (built-in orderings, models) is handed in by whoever starts the daemon.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol

from shunter.daemon.errors import DaemonError
from shunter.scheduler import Plan, Settings, Snapshot, check_plan, choose_ordering, plan
from shunter.scheduler.policies.registry import ChosenOrdering
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.types import FloatArray

FindOrdering = Callable[[str], ChosenOrdering]
"""The ordering that a name of the configuration means; must be importable by its module and name."""


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
    """

    policy: str = "fcfs"
    backfill: str = "easy"
    placement: str = "best-fit"
    depth: int = 0
    locality_s: float = 0.0
    preempt: tuple[str, ...] = ()
    min_run_s: float = 60.0
    grace_s: float = 10.0


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
    """Answers questions, one at a time."""

    async def decide(self, question: Question) -> Answer:
        """The plan.

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
    settings = Settings(
        ordering=find(rules.policy),
        backfill=rules.backfill,
        placement=rules.placement,
        depth=rules.depth,
        locality_s=rules.locality_s,
    )
    preemption = Preemption(rules.preempt, rules.min_run_s, rules.grace_s) if rules.preempt else None
    return settings, preemption


class Decider:
    """Makes plans; settings are made once.

    Args:
        find: What names of orderings mean.
    """

    def __init__(self, find: FindOrdering) -> None:
        self._find = find
        self._known: dict[Rules, tuple[Settings, Preemption | None]] = {}

    def answer(self, question: Question) -> Answer:
        """The plan.

        Raises:
            PlannerError: The plan breaks a rule: a bug in a policy.
        """
        rules = question.rules
        if rules not in self._known:
            self._known[rules] = settings_of(rules, self._find)
        settings, preemption = self._known[rules]
        begun_s = time.perf_counter()
        made = plan(question.snapshot, settings, usage_s=question.usage_s, preemption=preemption)
        planned_s = time.perf_counter()
        problems = check_plan(question.snapshot, made)
        if problems:
            raise PlannerError("plan refused: " + "; ".join(problems[:3]))
        return Answer(made, planned_s - begun_s, time.perf_counter() - planned_s)


class ThreadPlanner:
    """Decides in a thread of this process: for tests and small clusters.

    Args:
        find: What names of orderings mean.
    """

    def __init__(self, find: FindOrdering = choose_ordering) -> None:
        self._decider = Decider(find)

    async def decide(self, question: Question) -> Answer:
        """See ``Planner``."""
        return await asyncio.to_thread(self._decider.answer, question)

    def close(self) -> None:
        """Nothing to let go of."""


class ProcessPlanner:
    """Decides in a process of its own, which is started anew when it has died or takes too long.

    Args:
        find: What names of orderings mean.
        limit_s: Longest that a decision may take; the first one may compile, and gets ``first_limit_s``.
        first_limit_s: For the first decision of a process.
    """

    def __init__(
        self, find: FindOrdering = choose_ordering, *, limit_s: float = 30.0, first_limit_s: float = 300.0
    ) -> None:
        self._find, self._limit_s, self._first_limit_s = find, limit_s, first_limit_s
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._is_warm = False

    async def decide(self, question: Question) -> Answer:
        """See ``Planner``."""
        return await asyncio.to_thread(self._exchange, question)

    def _exchange(self, question: Question) -> Answer:
        if self._process is None or not self._process.is_alive():
            self._start()
        assert self._pipe is not None
        limit_s = self._limit_s if self._is_warm else self._first_limit_s
        try:
            self._pipe.send_bytes(pickle.dumps(question, protocol=5))
            if not self._pipe.poll(limit_s):
                self.close()
                raise PlannerError(f"a decision took longer than {limit_s:g} s; its process was ended")
            answer: Answer | str = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            self.close()
            raise PlannerError(f"the deciding process ended: {error!r}") from error
        self._is_warm = True
        if isinstance(answer, str):
            raise PlannerError(answer)
        return answer

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._find), daemon=True, name="shunter-planner")
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


def _serve(pipe: Connection, find: FindOrdering) -> None:
    """Answer questions until the other side closes the pipe."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group; the daemon ends us itself
    decider = Decider(find)
    while True:
        try:
            question: Question = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer: Answer | str = decider.answer(question)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        try:
            pipe.send_bytes(pickle.dumps(answer, protocol=5))
        except OSError:
            return
