"""A decision that nobody asked for, so that compiled code is loaded, or compiled, before the first one that matters."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shunter.daemon.live import LiveState, Step
from shunter.daemon.pb.common_pb2 import JobSpec, Resources
from shunter.daemon.pb.nodes_pb2 import GpuDescription, NodeDescription
from shunter.daemon.planner import Question, Rules
from shunter.daemon.snapshots import Snapshots
from shunter.daemon.specs import DEFAULT_QUEUES, complete
from shunter.daemon.steps.nodes import register
from shunter.daemon.steps.submit import submit

if TYPE_CHECKING:
    from shunter.daemon.health_rules import LeaseRules
    from shunter.daemon.planner import Decider

NOW_S = 1000.0


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Decide for a pretended cluster with GPUs, and for one without.

    Attributes:
        rules: How decisions are made.
        leases: Of nodes.
    """

    rules: Rules
    leases: LeaseRules

    def work(self, decider: Decider) -> float:
        """Seconds that it took."""
        begun_s = time.perf_counter()
        for gpus in (0, 2):
            decider.answer(self._question(gpus))
        return time.perf_counter() - begun_s

    def _question(self, gpus: int) -> Question:
        state, step, snapshots = LiveState(1), Step(), Snapshots()
        found = [GpuDescription(index=i) for i in range(gpus)]
        what = NodeDescription(cpus=4, memory_gib=8, gpus=found)
        register(state, step, NOW_S, "n", what, instance="", state_id="", held={}, rules=self.leases)
        for tasks in (1, 1, 4):
            spec = JobSpec(command=["true"], tasks=tasks, per_task=Resources(cpus=2, memory_gib=1, gpus=min(gpus, 1)))
            submit(state, step, NOW_S, "nobody", [(spec, complete(spec, DEFAULT_QUEUES))])
        view = snapshots.take(state, NOW_S + 1, with_histories=bool(self.rules.model))
        return Question(view.snapshot, view.usage_s, self.rules)
