"""Modes: who decides, what is counted and told, and what a restart keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shunter.cli.policies import find_live_policy
from shunter.daemon.clock import ManualClock
from shunter.daemon.errors import ConflictError, InvalidError
from shunter.daemon.jobs import End, Phase
from shunter.daemon.leader import Conduct, Leader
from shunter.daemon.pb.common_pb2 import JobSpec, Resources
from shunter.daemon.planner import Planner, ProcessPlanner, ThreadPlanner
from shunter.daemon.policies import Mode, ModelRules
from shunter.daemon.specs import DEFAULT_QUEUES, complete
from shunter.daemon.steps.attempts import PartReport, report
from shunter.daemon.steps.nodes import LeaseRules, register
from shunter.daemon.steps.submit import submit
from shunter.scheduler import choose_ordering
from shunter.scheduler.policies.registry import ChosenOrdering
from shunter.scheduler.types import FloatArray
from tests.daemon.memory_store import MemoryStore
from tests.daemon.world import description
from tests.networks import by_network, linear


def longest_first() -> ChosenOrdering:
    """A model: the longest request comes first; nothing is outside what it has seen."""
    return replace(by_network(linear(log_request=-1.0)), model="longest", model_sha256="f" * 64)


def hangs_over_two(features: FloatArray) -> FloatArray:
    """Scores one job, and never comes back from two."""
    while len(features) > 1:
        time.sleep(1)
    return np.zeros(len(features))


def find(text: str) -> ChosenOrdering:
    if text.startswith("longest"):
        return longest_first()
    if text.startswith("hangs"):
        return replace(by_network(hangs_over_two), model="hangs", model_sha256="f" * 64)
    return choose_ordering(text)


class Story:
    """A leader over a store in memory; decisions are made one by one."""

    def __init__(self, planner: Planner, models: ModelRules, store: MemoryStore | None = None) -> None:
        self.store, self.clock = store or MemoryStore(), ManualClock(1000.0)
        self.conduct = Conduct(models=models)
        self.leader = Leader(self.store, self.clock, planner, self.conduct)
        self.leader.load()

    async def node(self) -> None:
        await self.leader.perform(
            register, "n1", description(cpus=8), instance="i", state_id="s", held={}, rules=LeaseRules()
        )

    async def job(self, owner: str, limit_s: float, cpus: float = 8.0) -> int:
        spec = JobSpec(command=["true"], time_limit_s=limit_s, per_task=Resources(cpus=cpus))
        return await self.leader.perform(submit, owner, [(spec, complete(spec, DEFAULT_QUEUES))])

    async def end(self, job: int) -> None:
        for phase, end in ((Phase.STARTED, None), (Phase.ENDED, End.EXITED)):
            number = self.leader.state.jobs[job].attempts
            await self.leader.perform(report, "n1", PartReport(job, number, phase, end, 0 if end else None))

    def events(self, kind: str) -> list[str]:
        return [event.message for event in self.store.event_rows if event.kind == kind]

    @property
    def active(self) -> list[int]:
        return sorted(self.leader.state.active)


def told(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def rules(mode: Mode, model: str = "longest", **more: Any) -> ModelRules:
    return ModelRules(mode, model, **more)


def test_active_follows_the_model_and_heuristic_does_not() -> None:
    async def story(mode: Mode) -> list[int]:
        told = Story(ThreadPlanner(find), rules(mode))
        await told.node()
        await told.job("ann", 10)
        await told.job("bob", 100)
        await told.leader.decide()
        assert told.leader.policy_counts.decisions == {mode: 1}
        return told.active

    assert asyncio.run(story(Mode.HEURISTIC)) == [1]
    assert asyncio.run(story(Mode.SHADOW)) == [1]
    assert asyncio.run(story(Mode.ACTIVE)) == [2]


def test_shadow_compares_and_acts_on_neither() -> None:
    """Both orders start one of two jobs: none is the same, and the one pair stands the other way round."""

    async def story() -> None:
        told = Story(ThreadPlanner(find), rules(Mode.SHADOW))
        await told.node()
        await told.job("ann", 10)
        await told.job("bob", 100)
        await told.leader.decide()
        counts = told.leader.policy_counts
        assert told.active == [1]
        assert (counts.compared, counts.equal_starts, counts.tau) == (1, 0.0, -1.0)
        assert counts.regret == pytest.approx((1 + 1.1) / 2 - (1 + 11) / 2)  # the heuristic's was the better one
        assert counts.orders == {"followed": 1}

    told(story)


def test_what_an_operator_sets_outlives_the_process_until_the_configuration_says_something_new() -> None:
    async def story() -> None:
        first = Story(ThreadPlanner(find), rules(Mode.HEURISTIC))
        policies = first.leader.policies
        chosen = replace(policies.choice, mode=Mode.ACTIVE, sha256=await policies.checked("longest"))
        await first.leader.perform(policies.choose, chosen, "mode")
        again = Story(ThreadPlanner(find), rules(Mode.HEURISTIC), first.store)
        assert again.leader.policies.choice.mode is Mode.ACTIVE
        assert again.leader.policies.choice.sha256 == "f" * 64
        told_anew = Story(ThreadPlanner(find), rules(Mode.SHADOW), first.store)
        assert told_anew.leader.policies.choice.mode is Mode.SHADOW
        assert first.events("policy-changed") == ["mode"]

    told(story)


def test_a_model_that_does_not_fit_is_refused_and_the_present_one_stays() -> None:
    async def story() -> None:
        told = Story(ThreadPlanner(find_live_policy), rules(Mode.ACTIVE, "learned"))
        for model, what in (("model:/nowhere", "nowhere"), ("fcfs", "no model"), ("no-such-name", "no-such-name")):
            with pytest.raises(InvalidError, match=what):
                await told.leader.policies.checked(model)
        assert told.leader.policies.choice.model == "learned"
        with pytest.raises(ConflictError, match="no earlier model"):
            told.leader.policies.rolled_back()

    told(story)


def test_a_file_that_changed_is_not_followed() -> None:
    async def story() -> None:
        told = Story(ThreadPlanner(find), rules(Mode.ACTIVE))
        await told.leader.perform(
            told.leader.policies.choose, replace(told.leader.policies.choice, sha256="0" * 64), "promoted"
        )
        await told.node()
        await told.job("ann", 10)
        await told.job("bob", 100)
        await told.leader.decide()
        assert told.active == [1]
        assert told.leader.policy_counts.fallbacks == {"failed": 1}
        assert "not the one that was taken into use" in told.events("policy-fallback")[0]

    told(story)


def test_a_fallback_is_told_once_and_its_end_once() -> None:
    """Every decision counts as slow: after three the heuristic makes two, then the model is asked again."""

    async def story() -> None:
        told = Story(ThreadPlanner(find), rules(Mode.ACTIVE, budget_s=0.0, pause=2))
        await told.node()
        await told.job("zoe", 10)
        for i in range(1, 8):
            await told.job("ann", 20 + i)
            await told.leader.decide()
            for job in told.active:
                await told.end(job)
        counts = told.leader.policy_counts
        assert counts.fallbacks == {"slow": 2}
        assert counts.orders == {"followed": 5}
        assert told.events("policy-fallback") == ["slow"]
        assert told.events("policy-followed") == [""]

    told(story)


def test_a_hung_model_is_ended_and_the_pass_is_the_heuristics() -> None:
    async def story() -> None:
        planner = ProcessPlanner(find, limit_s=30)
        try:
            told = Story(planner, rules(Mode.ACTIVE, "hangs", limit_s=0.2))
            await told.node()
            await told.job("ann", 10)
            await told.job("bob", 100)
            await told.leader.decide()
            assert told.active == [1]
            assert told.leader.policy_counts.fallbacks == {"failed": 1}
            assert "took longer than 0.2 s" in told.events("policy-fallback")[0]
        finally:
            planner.close()

    told(story)
