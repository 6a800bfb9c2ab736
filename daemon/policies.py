"""Which order decides: the heuristic's, or a model's beside it (shadow) or in its place (active).

What an operator has set is stored and outlives the process; the configuration says what holds until then, and again
once it says something new. Where a model cannot be asked, takes too long, or its guard does not follow it, the
heuristic decides: told once when it begins and once when it ends, and counted each time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from shunter.daemon.comparing import Comparison
from shunter.daemon.errors import ConflictError, InvalidError
from shunter.daemon.planner import Answer, ModelCheck, Planner, PlannerError, Question, Rules
from shunter.daemon.store.rows import SettingRow

if TYPE_CHECKING:
    from shunter.daemon.live import LiveState, Step

log = structlog.get_logger("shunter.daemon")
SETTING = "policy"
LOADING_S = 60.0
"""Longest that loading a model and what it needs may take."""


class Mode(StrEnum):
    """Who decides."""

    HEURISTIC = "heuristic"
    SHADOW = "shadow"  # the heuristic; the learned order is computed beside it and compared
    ACTIVE = "active"  # the learned order, under its guard


@dataclass(frozen=True, slots=True)
class ModelRules:
    """What the configuration says of learned orders.

    Attributes:
        mode: Who decides.
        model: ``learned``, ``model:FOLDER`` or a name of the registry.
        guard: Settings of the guard, ``key=value,…``.
        limit_s: Longest that a decision by a model may take; then the process is ended.
        budget_s: A decision that takes longer counts as slow; inf: none does.
        overruns: After so many slow or failed ones in a row …
        pause: … so many decisions are the heuristic's. After so many failed ones the model is not asked again until an
            operator says so.
    """

    mode: Mode = Mode.HEURISTIC
    model: str = "learned"
    guard: str = ""
    limit_s: float = 5.0
    budget_s: float = float("inf")
    overruns: int = 3
    pause: int = 100


@dataclass(frozen=True, slots=True)
class Choice:
    """What holds now, as it is stored.

    Attributes:
        mode: Who decides.
        model: In use; in mode heuristic the one that would be.
        sha256: Of its file; empty: not loaded yet.
        before: Models that were in use before, the last one last.
        configured: Mode and model of the configuration when this was set.
    """

    mode: Mode
    model: str
    sha256: str = ""
    before: tuple[str, ...] = ()
    configured: tuple[str, str] = ("", "")

    def to_json(self) -> str:
        """For the store."""
        return json.dumps([self.mode, self.model, self.sha256, self.before, self.configured])

    @classmethod
    def of_json(cls, text: str) -> Choice:
        """From the store."""
        mode, model, sha256, before, configured = json.loads(text)
        return cls(Mode(mode), model, sha256, tuple(before), (configured[0], configured[1]))


@dataclass(slots=True)
class PolicyCounts:
    """What became of decisions, since the process began.

    Attributes:
        decisions: By the mode that they were made in.
        orders: Learned orders by what became of them: names of ``scheduler.guard.REASONS``.
        fallbacks: Decisions of mode active that the heuristic made, by reason: ``failed``, ``slow``, or the guard's.
        compared: Decisions of mode shadow in which both orders were made and could differ.
        failed: Comparisons that could not be made.
        equal_starts: Sum of the shares of equal starts (jobs that both start, over jobs that either does).
        tau: Sum of Kendall's τ of both orders.
        regret: Sum of the estimated regrets; see ``daemon.comparing``.
        cost: Sums of the slowdowns that regret is the difference of: the heuristic's, and the model's.
    """

    decisions: Counter[str] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    failed: int = 0
    equal_starts: float = 0.0
    tau: float = 0.0
    regret: float = 0.0
    cost: tuple[float, float] = (0.0, 0.0)

    def cost_ratio(self) -> dict[tuple[str, ...], float] | None:
        """What the learned order would have cost over the one followed, in mode shadow; None before it is known."""
        followed, other = self.cost
        return {(): other / followed} if followed else None


Perform = Callable[["Callable[[LiveState, Step, float], None]"], None]
"""Carries out a step that nobody waits for."""


class Policies:
    """Chooses who decides, and remembers it.

    Args:
        planner: Decides.
        rules: Of the configuration.
        tell: Carries out the step of an event.
    """

    def __init__(self, planner: Planner, rules: ModelRules, tell: Perform) -> None:
        self.planner, self.rules, self._tell = planner, rules, tell
        self.counts = PolicyCounts()
        self.choice = self._configured()
        self._paused = self._slow = self._failures = 0
        self._is_loaded = False
        self.fallback = ""
        """Why the heuristic decides in mode active; empty: the model does."""

    # --- what holds --------------------------------------------------------------------------------------------------

    def _configured(self) -> Choice:
        rules = self.rules
        return Choice(rules.mode, rules.model, configured=(rules.mode, rules.model))

    def load(self, settings: dict[str, str]) -> None:
        """Take over what was stored, unless the configuration says something new."""
        stored = Choice.of_json(settings[SETTING]) if SETTING in settings else None
        configured = self._configured()
        self.choice = stored if stored is not None and stored.configured == configured.configured else configured
        self._begin_anew()

    def apply(self, rules: ModelRules) -> None:
        """Another configuration; the model is looked at anew."""
        changed = (rules.mode, rules.model) != (self.rules.mode, self.rules.model)
        self.rules = rules
        self.choice = self._configured() if changed else replace(self.choice, sha256="")
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._paused = self._slow = self._failures = 0
        self._is_loaded = False
        self.fallback = ""

    @property
    def asks_histories(self) -> bool:
        """Whether a decision needs what is known of users."""
        return self.choice.mode is not Mode.HEURISTIC

    def model_text(self, model: str = "") -> str:
        """A model with the settings of its guard."""
        name = model or self.choice.model
        return f"{name}:{self.rules.guard}" if self.rules.guard else name

    # --- deciding ----------------------------------------------------------------------------------------------------

    def learned_rules(self, rules: Rules) -> Rules | None:
        """Rules with the model that is in use; None where none is, or none is loaded."""
        if self.choice.mode is Mode.HEURISTIC or not self.choice.sha256:
            return None
        return replace(rules, model=self.model_text(), model_sha256=self.choice.sha256)

    def _learned(self, question: Question) -> Question:
        return replace(question, rules=self.learned_rules(question.rules) or question.rules)

    async def decide(self, question: Question) -> tuple[Question, Answer]:
        """The plan of the mode, with the question that it answers: the learned order's, or the heuristic's.

        Raises:
            PlannerError: Not even the heuristic could decide.
        """
        self.counts.decisions[self.choice.mode] += 1
        if self.choice.mode is Mode.ACTIVE:
            asked = await self._decide_by_model(question)
            if asked is not None:
                return asked
        heuristic = replace(question, snapshot=replace(question.snapshot, histories=None))
        answer = await self.planner.ask(heuristic)
        return (question if self.choice.mode is Mode.SHADOW else heuristic), answer

    async def _decide_by_model(self, question: Question) -> tuple[Question, Answer] | None:
        """None: the heuristic has to decide."""
        if self._failures >= self.rules.overruns or self._paused:
            self._paused = max(self._paused - 1, 0)
            self._fall_back("failed" if self._failures else "slow")
            return None
        try:
            await self._load_model()
            learned = self._learned(question)
            answer = await self.planner.ask(learned, self.rules.limit_s)
        except PlannerError as error:
            self._failed()
            self._paused = self.rules.pause
            self._fall_back("failed", str(error))
            return None
        self._failures = 0
        self._slow = self._slow + 1 if answer.plan_s > self.rules.budget_s else 0
        if self._slow >= self.rules.overruns:
            self._slow, self._paused = 0, self.rules.pause
        self._note_guard(answer.plan.guard)
        return learned, answer

    async def _load_model(self) -> None:
        """See that the model is there, loaded and compiled, before a decision is timed.

        Raises:
            PlannerError: It is not, or not the one that was taken into use.
        """
        if self._is_loaded:
            return
        choice = self.choice
        facts = await self.planner.ask(ModelCheck(self.model_text()), LOADING_S)
        if self.choice is not choice:
            return
        if choice.sha256 and choice.sha256 != facts.sha256:
            raise PlannerError(f"the file of model {choice.model!r} is not the one that was taken into use")
        self.choice, self._is_loaded = replace(choice, sha256=facts.sha256), True

    def _failed(self) -> None:
        self._failures += 1
        self._is_loaded = False  # the process may be another one

    def _note_guard(self, guard: tuple[str, ...]) -> None:
        if not guard:
            return  # the order made no difference
        self.counts.orders.update(guard)
        if guard[0] == "followed":
            self._say("")
        else:
            self.counts.fallbacks[guard[0]] += 1
            self._say(guard[0])

    def _fall_back(self, reason: str, message: str = "") -> None:
        self.counts.fallbacks[reason] += 1
        self._say(reason, message)

    def _say(self, reason: str, message: str = "") -> None:
        """An event when who decides changes."""
        if reason == self.fallback:
            return
        self.fallback = reason
        kind = "policy-fallback" if reason else "policy-followed"
        log.warning(kind, reason=reason, error=message)
        told = f"{reason}: {message}" if message else reason

        def tell(state: LiveState, step: Step, now_s: float) -> None:
            step.event(state, now_s, kind, message=told[:500])

        self._tell(tell)

    async def compare(self, question: Question, answer: Answer) -> None:
        """In mode shadow: make the learned order beside the heuristic's plan, and count how they differ."""
        if self.choice.mode is not Mode.SHADOW or self._failures >= self.rules.overruns:
            return
        if question.snapshot.histories is None:
            return  # the mode has changed since it was taken
        try:
            await self._load_model()
            compared = await self.planner.ask(
                Comparison(question, self._learned(question).rules, answer.plan), self.rules.limit_s
            )
        except PlannerError as error:
            self.counts.failed += 1
            self._failed()
            self._say("failed", str(error))
            return
        self._failures = 0
        if not compared.guard:
            return
        counts = self.counts
        self._say("" if compared.guard[0] == "followed" else compared.guard[0])
        counts.orders.update(compared.guard)
        counts.compared += 1
        counts.equal_starts += compared.equal_starts
        counts.tau += compared.tau
        counts.regret += compared.regret
        counts.cost = (counts.cost[0] + compared.cost, counts.cost[1] + compared.cost - compared.regret)

    # --- what operators do -------------------------------------------------------------------------------------------

    async def checked(self, model: str) -> str:
        """The SHA-256 of a model that can be used.

        Raises:
            InvalidError: It cannot; the present one stays.
        """
        try:
            return (await self.planner.ask(ModelCheck(self.model_text(model)), LOADING_S)).sha256
        except PlannerError as error:
            raise InvalidError(f"model {model!r} cannot be used: {error}") from error

    def choose(self, state: LiveState, step: Step, now_s: float, choice: Choice, message: str) -> None:
        """A step: another choice holds from now on, and after a restart."""
        choice = replace(choice, configured=self._configured().configured)
        row = SettingRow(SETTING, choice.to_json())
        state.settings[SETTING] = row.value
        step.change.settings.append(row)
        step.event(state, now_s, "policy-changed", message=message)
        step.wakes = True
        self.choice = choice
        self._begin_anew()

    def rolled_back(self) -> Choice:
        """The choice with the model before.

        Raises:
            ConflictError: There is none.
        """
        if not self.choice.before:
            raise ConflictError("there is no earlier model to go back to")
        *rest, model = self.choice.before
        return replace(self.choice, model=model, sha256="", before=tuple(rest))
