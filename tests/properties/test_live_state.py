"""The live state under whatever may happen: a restart rebuilds it exactly, nothing is held twice, nothing is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shunter.daemon.errors import InvalidError
from shunter.daemon.jobs import End, JobState, Phase
from shunter.daemon.live import WHOLE_GPU
from shunter.daemon.pb.common_pb2 import Dependency
from shunter.daemon.steps.jobs import cancel, reprioritise
from shunter.daemon.steps.nodes import drain, resume
from shunter.daemon.steps.submit import Array
from tests.daemon.world import World, dump

NODES = ("n1", "n2", "n3")
CONDITIONS = (Dependency.CONDITION_AFTER_OK, Dependency.CONDITION_AFTER_ANY)


class LiveStateMachine(RuleBasedStateMachine):
    """Users, agents, time and failures in any order."""

    @initialize(gpus=st.integers(0, 2))
    def begin(self, gpus: int) -> None:
        self.world = World()
        self.gpus = gpus
        for name in NODES[:2]:
            self.world.node(name, cpus=3, gpus=gpus)
        self.lives: dict[tuple[int, str], int] = {}  # (job, node) → attempt that its agent may be running

    # --- users -------------------------------------------------------------------------------------------------------

    @rule(
        owner=st.sampled_from(["ann", "bob"]),
        tasks=st.integers(1, 4),
        gpus=st.sampled_from([0, 0, 0.5, 1]),
        retries=st.integers(0, 1),
        more=st.sampled_from([{}, {"checkpoint_interval_s": 5.0}, {"no_requeue": True}, {"retry_backoff_s": 3.0}]),
        begins_in=st.sampled_from([0, 0, 4]),
        after=st.lists(st.tuples(st.integers(1, 12), st.sampled_from(CONDITIONS)), max_size=2),
        array=st.sampled_from([None, None, Array(range(3), 1)]),
    )
    def submit(
        self,
        owner: str,
        tasks: int,
        gpus: float,
        retries: int,
        more: dict[str, Any],
        begins_in: int,
        after: list[tuple[int, int]],
        array: Array | None,
    ) -> None:
        begin_s = self.world.clock.now_s() + begins_in if begins_in else 0.0
        try:
            self.world.submit(
                owner,
                array,
                tasks=tasks,
                gpus=gpus if self.gpus else 0,
                cpus=1,
                max_retries=retries,
                begin_unix_s=begin_s,
                after=dict(after),
                **more,
            )
        except InvalidError:
            if not after:
                raise

    @precondition(lambda self: self.world.state.jobs)
    @rule(data=st.data(), priority=st.integers(-2, 2))
    def change(self, data: st.DataObject, priority: int) -> None:
        job = self.world.job(data.draw(st.sampled_from(sorted(self.world.state.jobs))))
        if priority:
            self.world.do(reprioritise, job, priority)
        else:
            self.world.do(cancel, job)

    # --- decisions and agents ----------------------------------------------------------------------------------------

    @rule()
    def decide(self) -> None:
        carried = self.world.decide()
        for job in carried.started if carried else ():
            assert job.attempt is not None
            for node in job.attempt.parts:
                assert (job.id, node) not in self.lives, "the part of an earlier attempt may still run there"
            assert not [key for key in self.lives if key[0] == job.id], "an earlier attempt may still run"
            self.lives |= {(job.id, node): job.attempt.number for node in job.attempt.parts}

    @precondition(lambda self: self.lives)
    @rule(
        data=st.data(),
        phase=st.sampled_from([Phase.READY, Phase.STARTED, Phase.ENDED]),
        end=st.sampled_from([End.EXITED, End.EXITED, End.STOPPED, End.NOT_STARTED, End.LOST, End.TIME_LIMIT]),
        code=st.sampled_from([0, 0, 1]),
    )
    def reports(self, data: st.DataObject, phase: Phase, end: End, code: int) -> None:
        """An agent says something of what it may run: in order, again, or too late."""
        job, node = data.draw(st.sampled_from(sorted(self.lives)))
        attempt = self.lives[job, node]
        if phase is Phase.ENDED:
            del self.lives[job, node]
            self.world.says(node, job, phase, attempt=attempt, end=end, exit_code=code if end is End.EXITED else None)
        else:
            self.world.says(node, job, phase, attempt=attempt)

    @rule(job=st.integers(1, 12), node=st.sampled_from(NODES), attempt=st.integers(1, 3))
    def says_something_old(self, job: int, node: str, attempt: int) -> None:
        """Reports of attempts that nobody runs there change nothing."""
        if self.lives.get((job, node)) != attempt and node in self.world.state.nodes:
            before = dump(self.world.state)
            self.world.says(node, job, Phase.ENDED, attempt=attempt, end=End.EXITED, exit_code=0)
            assert dump(self.world.state) == before

    # --- nodes and time ----------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NODES), forgets=st.booleans())
    def registers(self, name: str, forgets: bool) -> None:
        held = {(job, n): Phase.STARTED for (job, node), n in self.lives.items() if node == name}
        if forgets:
            held = {}
        self.world.node(name, held=held, cpus=3, gpus=self.gpus)

    @rule(name=st.sampled_from(NODES[:2]), drained=st.booleans())
    def operator(self, name: str, drained: bool) -> None:
        node = self.world.state.nodes[name]
        if drained:
            self.world.do(drain, node, "work", None)
        else:
            self.world.do(resume, node)

    @rule(seconds=st.sampled_from([1, 5, 10]), silent=st.sets(st.sampled_from(NODES)))
    def time_passes(self, seconds: int, silent: set[str]) -> None:
        before = {name: node.heard_s for name, node in self.world.state.nodes.items()}
        self.world.pass_time(seconds, silent=tuple(silent))
        now_s = self.world.clock.now_s()
        for key in list(self.lives):  # what the daemon gives away, the agent's lease has ended
            job, node = key
            live = self.world.state.jobs.get(job)
            part = None if live is None or live.attempt is None else live.attempt.parts.get(node)
            is_gone = part is None or part.phase is Phase.ENDED or live.attempt.number != self.lives[key]  # type: ignore[union-attr]
            if is_gone:
                silence_s = now_s - before[node] if node in silent else None
                was_forgotten = node not in silent
                assert was_forgotten or (silence_s is not None and silence_s >= self.world.leases.fence_s)
                del self.lives[key]

    @rule()
    def daemon_restarts(self) -> None:
        self.world.state = self.world.restarted()
        self.world.snapshots = type(self.world.snapshots)()

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def a_restart_rebuilds_the_state_exactly(self) -> None:
        assert dump(self.world.restarted()) == dump(self.world.state)

    @invariant()
    def nothing_is_held_twice(self) -> None:
        for node in self.world.state.nodes.values():
            cpus = sum(job.attempt.parts[node.name].tasks for job in node.jobs.values() if job.attempt)
            assert node.used[0] == 1000 * cpus <= node.units[0]
            assert all(0 <= held <= WHOLE_GPU for held in node.gpu_used)
            assert sum(node.gpu_used) == node.used[2] <= node.units[2]

    @invariant()
    def no_job_is_lost(self) -> None:
        ended = {job for job, row in self.world.store.now.items() if JobState(row.state).is_final}
        assert set(self.world.store.made) == ended | set(self.world.state.jobs)
        assert not ended & set(self.world.state.jobs)

    @invariant()
    def every_job_is_somewhere(self) -> None:
        state = self.world.state
        for job in state.jobs.values():
            held_back = bool(job.waits_for) or job.eligible_s > 0
            assert (job.id in state.active) == (job.state is not JobState.PENDING)
            assert job.id in state.active or job.id in state.waiting or held_back


TestLiveState = LiveStateMachine.TestCase
TestLiveState.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
