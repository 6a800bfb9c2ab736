"""A live state with a store in memory and a clock that is moved by hand: what tests of single steps stand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from shunter.daemon.carrying import Carried, carry_out
from shunter.daemon.clock import ManualClock
from shunter.daemon.health_rules import LeaseRules
from shunter.daemon.jobs import End, Phase, Reason
from shunter.daemon.live import LiveJob, LiveState, Order, Step
from shunter.daemon.pb.common_pb2 import Dependency, JobSpec, Resources
from shunter.daemon.pb.nodes_pb2 import GpuDescription, NodeDescription
from shunter.daemon.planner import Decider, Question, Rules
from shunter.daemon.restore import restore
from shunter.daemon.snapshots import GroupRules, Snapshots
from shunter.daemon.specs import DEFAULT_QUEUES, complete
from shunter.daemon.steps.attempts import PartReport, report
from shunter.daemon.steps.evacuation import evacuate
from shunter.daemon.steps.jobs import release_due
from shunter.daemon.steps.nodes import heard, learn_from_ends, register, watch_silence
from shunter.daemon.steps.submit import Array, submit
from shunter.scheduler import choose_ordering
from tests.daemon.memory_store import MemoryStore

Result = TypeVar("Result")


def description(cpus: float = 8.0, gpus: int = 0, gpu_type: str = "") -> NodeDescription:
    found = [GpuDescription(index=i, uuid=f"GPU-{i}") for i in range(gpus)]
    return NodeDescription(cpus=cpus, gpus=found, gpu_type=gpu_type)


class World:
    """Every step is stored at once; `orders` collects what agents would be told."""

    def __init__(self, rules: Rules | None = None, groups: tuple[GroupRules, ...] = ()) -> None:
        self.store, self.clock, self.state = MemoryStore(), ManualClock(1000.0), LiveState(1)
        self.rules, self.leases = rules or Rules(), LeaseRules()
        self.snapshots = Snapshots(groups)
        self.decider = Decider(choose_ordering)
        self.orders: list[Order] = []
        self.left_out: dict[int, Reason] = {}

    def do(self, change: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        step = Step()
        result = change(self.state, step, self.clock.now_s(), *arguments, **named)
        self.keep(step)
        return result

    def keep(self, step: Step) -> None:
        assert self.store.write(step.change).exception() is None
        self.orders += step.orders
        for job in step.touched:
            self.snapshots.forget(job)

    def submit(self, owner: str = "ann", array: Array | None = None, **asked: Any) -> int:
        spec = JobSpec(command=["true"])
        per_task = {name: asked.pop(name) for name in ("cpus", "gpus", "memory_gib") if name in asked}
        after = asked.pop("after", {})
        for job, condition in after.items():
            spec.dependencies.append(Dependency(job=job, condition=condition))
        for name, value in asked.items():
            setattr(spec, name, value)
        spec.per_task.CopyFrom(Resources(**per_task))
        units = complete(spec, DEFAULT_QUEUES)
        ended = {job: int(now.state) for job, now in self.store.now.items() if now.state >= 5}
        return self.do(submit, owner, [(spec, units)], array=array, ended=ended)

    def node(self, name: str, held: dict[tuple[int, int], int] | None = None, **what: Any) -> None:
        self.do(
            register, name, description(**what), instance="i", state_id=f"of {name}", held=held or {}, rules=self.leases
        )

    def pass_time(self, seconds: float, *, silent: tuple[str, ...] = ()) -> None:
        """Time goes by; every node but the silent ones is heard at the end of it."""
        self.clock.advance(seconds)
        for node in list(self.state.nodes.values()):
            if node.name not in silent:
                self.do(heard, node, self.leases)
        self.tick()

    def tick(self) -> None:
        """What the leader looks after several times a second."""
        self.do(watch_silence, self.leases)
        self.do(learn_from_ends, self.leases)
        self.do(evacuate, self.leases)
        self.do(release_due)

    def decide(self) -> Carried | None:
        if not self.state.nodes or not self.state.waiting:
            return None
        view = self.snapshots.take(self.state, self.clock.now_s())
        self.left_out = {job: word for jobs, word in view.left_out for job in jobs.tolist()}
        if not view.snapshot.num_waiting:
            return None
        answer = self.decider.answer(Question(view.snapshot, view.usage_s, self.rules))
        step = Step()
        carried = carry_out(
            self.state, step, self.clock.now_s(), view, answer.plan, lambda j: self.snapshots.processors(self.state, j)
        )
        self.keep(step)
        return carried

    def says(self, node: str, job: int, phase: Phase, *, attempt: int | None = None, **more: Any) -> None:
        live = self.state.jobs.get(job)
        number = attempt if attempt is not None else live.attempts if live is not None else 1
        self.do(report, node, PartReport(job, number, phase, **more))

    def run(self, job: int, exit_code: int = 0) -> None:
        """Every part of a job's attempt starts, and ends with this code."""
        nodes = list(self.job(job).attempt.parts)  # type: ignore[union-attr]
        number = self.job(job).attempts
        for phase in (Phase.READY, Phase.STARTED):
            for node in nodes:
                self.says(node, job, phase, attempt=number)
        for node in nodes:
            self.says(node, job, Phase.ENDED, attempt=number, end=End.EXITED, exit_code=exit_code)

    def job(self, job: int) -> LiveJob:
        return self.state.jobs[job]

    def state_of(self, job: int) -> tuple[int, str]:
        """State and reason of a job, ended or not, as stored."""
        return self.store.now[job].state, self.store.now[job].reason

    def restarted(self) -> LiveState:
        return restore(self.store.load(), 1, self.clock.now_s())


def dump(state: LiveState) -> dict[str, Any]:
    """Everything that a restart has to rebuild, as plain values."""
    return {
        "jobs": {job.id: _job(job) for job in sorted(state.jobs.values(), key=lambda job: job.id)},
        "waiting": sorted(state.waiting),
        "active": sorted(state.active),
        "dependents": {job: sorted(waiting) for job, waiting in sorted(state.dependents.items()) if waiting},
        "array_active": dict(sorted(state.array_active.items())),
        "num_of_user": dict(sorted(state.num_of_user.items())),
        "usage": {name: (u.usage_s, u.held, u.since_s) for name, u in sorted(state.usage.items())},
        "histories": {
            name: {key: table[key] for key in sorted(table.rows) if any(table[key])}
            for name, table in (("users", state.histories.users), ("alike", state.histories.alike))
        },
        "nodes": {name: _node(node) for name, node in sorted(state.nodes.items())},
        "numbers": (state.last_event, state.last_job, state.last_registration),
    }


def _job(job: LiveJob) -> Any:
    attempt = job.attempt
    parts = None if attempt is None else list(attempt.parts.values())
    rest = None if attempt is None else (attempt.number, attempt.held, attempt.start_s, attempt.cause, attempt.stop_s)
    fixed = (job.owner, job.spec.SerializeToString(deterministic=True), job.submit_s, job.units)
    return (job.row(), fixed, job.array_id, job.array_index, job.array_limit, job.waits_for, parts, rest)


def _node(node: Any) -> Any:
    health = (node.health, node.reason, node.is_drained, node.drain_deadline_s, node.registration, node.instance)
    return (
        health,
        node.units,
        node.used,
        node.gpu_used,
        sorted(node.jobs),
        sorted(node.failed_gpus),
        node.memory,
        node.facts,
    )
