"""What happens to jobs, told step by step; times in the comments."""

from __future__ import annotations

import pytest

from shunter.daemon.errors import InvalidError
from shunter.daemon.jobs import End, JobState, Phase, Reason
from shunter.daemon.live import Order
from shunter.daemon.pb.common_pb2 import Dependency
from shunter.daemon.steps.jobs import cancel, reprioritise
from shunter.daemon.steps.nodes import drain
from shunter.daemon.steps.submit import Array
from tests.daemon.world import World, dump

OK, ANY = Dependency.CONDITION_AFTER_OK, Dependency.CONDITION_AFTER_ANY
PENDING, STARTING, RUNNING, STOPPING = JobState.PENDING, JobState.STARTING, JobState.RUNNING, JobState.STOPPING


def test_a_job_runs_and_completes() -> None:
    world = World()
    world.node("n1")
    job = world.submit(cpus=4)
    world.decide()
    assert world.job(job).state is STARTING
    assert world.orders == [Order("n1", "assign", job, 1)]
    world.says("n1", job, Phase.STARTED)
    assert world.job(job).state is RUNNING
    world.clock.advance(7)
    world.says("n1", job, Phase.ENDED, end=End.EXITED, exit_code=0)
    assert world.state_of(job) == (JobState.COMPLETED, Reason.COMPLETED)
    assert world.store.now[job].exit_code == 0
    assert world.store.now[job].attained_s == 28  # 4 CPUs for 7 s
    assert world.orders[-1] == Order("n1", "forget", job, 1)
    assert [event.kind for event in world.store.event_rows] == [
        "node-registered", "submitted", "assigned", "started", "ended",
    ]  # fmt: skip


def test_a_gang_goes_only_when_every_part_is_ready() -> None:
    world = World()
    world.node("n1", cpus=2)
    world.node("n2", cpus=2)
    job = world.submit(tasks=4)
    world.decide()
    world.orders.clear()
    world.says("n1", job, Phase.READY)
    assert [order.kind for order in world.orders] == ["receipt"]
    world.says("n2", job, Phase.READY)
    assert sorted((o.kind, o.node) for o in world.orders[1:]) == [("go", "n1"), ("go", "n2"), ("receipt", "n2")]
    world.says("n1", job, Phase.STARTED)
    assert world.job(job).state is STARTING
    world.says("n2", job, Phase.STARTED)
    assert world.job(job).state is RUNNING


def test_when_one_part_of_a_gang_fails_the_others_are_stopped_and_the_job_is_tried_again() -> None:
    world = World()
    world.node("n1", cpus=2)
    world.node("n2", cpus=2)
    job = world.submit(tasks=4, max_retries=1, retry_backoff_s=30)
    world.decide()
    for node in ("n1", "n2"):
        world.says(node, job, Phase.READY)
        world.says(node, job, Phase.STARTED)
    world.says("n1", job, Phase.ENDED, end=End.EXITED, exit_code=3)
    assert world.job(job).state is STOPPING
    assert world.orders[-1].kind == "forget"
    assert [o for o in world.orders if o.kind == "stop"] == [Order("n2", "stop", job, 1, 10.0, Reason.FAILED)]
    world.says("n2", job, Phase.ENDED, end=End.STOPPED, signal=15)
    assert (world.job(job).state, world.job(job).reason) == (PENDING, Reason.BACKOFF)
    world.decide()
    assert world.job(job).state is PENDING
    world.pass_time(30)  # the back-off is over
    world.decide()
    assert (world.job(job).state, world.job(job).attempts) == (STARTING, 2)
    world.run(job, exit_code=3)
    assert world.state_of(job) == (JobState.FAILED, Reason.FAILED)
    assert world.store.now[job].exit_code == 3


def test_a_silent_node_is_suspected_then_fenced_and_only_then_its_job_runs_elsewhere() -> None:
    world = World()
    world.node("n1", cpus=1)
    world.node("n2", cpus=1)
    job = world.submit()
    world.decide()
    first = next(iter(world.job(job).attempt.parts))  # type: ignore[union-attr]
    world.says(first, job, Phase.STARTED)
    world.pass_time(7, silent=(first,))
    assert world.state.nodes[first].health == "suspect"
    assert world.job(job).state is RUNNING
    world.pass_time(2.9, silent=(first,))  # 9.9 s of 10
    assert world.job(job).state is RUNNING
    world.pass_time(0.1, silent=(first,))
    assert world.state.nodes[first].health == "failed"
    assert (world.job(job).state, world.job(job).reason) == (PENDING, Reason.NODE_FAILED)
    world.decide()
    assert list(world.job(job).attempt.parts) != [first]  # type: ignore[union-attr]
    world.orders.clear()
    world.says(first, job, Phase.ENDED, attempt=1, end=End.FENCED)  # its agent comes back
    assert world.orders == [Order(first, "forget", job, 1, reason=Reason.LOST)]
    assert world.job(job).state is STARTING


def test_a_node_that_comes_back_serves_its_probation() -> None:
    world = World()
    world.node("n1")
    world.pass_time(10, silent=("n1",))
    world.node("n1")
    assert world.state.nodes["n1"].health == "recovering"
    job = world.submit()
    world.decide()
    assert world.job(job).state is PENDING
    world.pass_time(10)
    assert world.state.nodes["n1"].health == "healthy"
    world.decide()
    assert world.job(job).state is STARTING


def test_an_agent_that_forgot_what_it_held_gets_it_fenced_and_one_that_never_had_it_gets_it_again() -> None:
    world = World()
    world.node("n1", cpus=2)
    held, lost = world.submit(), world.submit()
    world.decide()
    world.says("n1", held, Phase.STARTED)
    world.says("n1", lost, Phase.STARTED)
    world.node("n1", held={(held, 1): Phase.STARTED}, cpus=2)
    world.pass_time(9.9)
    assert world.job(lost).state is RUNNING
    world.pass_time(0.1)
    assert world.job(held).state is RUNNING
    assert (world.job(lost).state, world.job(lost).reason) == (PENDING, Reason.NODE_FAILED)


def test_what_an_agent_holds_and_should_not_is_stopped() -> None:
    world = World()
    world.node("n1")
    world.orders.clear()
    world.node("n1", held={(7, 1): Phase.STARTED, (8, 1): Phase.ENDED})
    assert [(o.kind, o.job) for o in world.orders] == [("stop", 7)]


def test_dependencies() -> None:
    world = World()
    world.node("n1", cpus=1)
    first = world.submit()
    after_ok, after_any = world.submit(after={first: OK}), world.submit(after={first: ANY})
    chained = world.submit(after={after_ok: OK})
    world.decide()
    assert world.job(after_ok).reason is Reason.DEPENDENCY
    world.run(first, exit_code=1)
    assert world.state_of(after_ok) == (JobState.CANCELLED, Reason.DEPENDENCY_FAILED)
    assert world.state_of(chained) == (JobState.CANCELLED, Reason.DEPENDENCY_FAILED)
    world.decide()
    assert world.job(after_any).state is STARTING
    with pytest.raises(InvalidError, match="should have completed and is failed"):
        world.submit(after={first: OK})
    with pytest.raises(InvalidError, match="there is no job 999"):
        world.submit(after={999: ANY})
    world.run(after_any)
    late = world.submit(after={after_any: OK, first: ANY})
    world.decide()
    assert world.job(late).state is STARTING


def test_an_array_runs_so_many_at_a_time() -> None:
    world = World()
    world.node("n1", cpus=8)
    first = world.submit(array=Array(range(10, 50, 10), max_running=2))
    world.decide()
    assert [world.job(first + i).state for i in range(4)] == [STARTING, STARTING, PENDING, PENDING]
    assert world.left_out[first + 2] is Reason.ARRAY_LIMIT
    assert [world.job(first + i).array_index for i in range(4)] == [10, 20, 30, 40]
    world.run(first)
    world.decide()
    assert [world.job(first + i).state for i in range(1, 4)] == [STARTING, STARTING, PENDING]


def test_cancelling() -> None:
    world = World()
    world.node("n1", cpus=1)
    runs, waits = world.submit(), world.submit()
    world.decide()
    world.says("n1", runs, Phase.STARTED)
    world.do(cancel, world.job(waits))
    assert world.state_of(waits) == (JobState.CANCELLED, Reason.CANCELLED)
    world.do(cancel, world.job(runs))
    world.do(cancel, world.job(runs))  # a second time changes nothing
    assert [o.kind for o in world.orders].count("stop") == 1
    world.says("n1", runs, Phase.ENDED, end=End.STOPPED, signal=15)
    assert world.state_of(runs) == (JobState.CANCELLED, Reason.CANCELLED)
    assert world.store.now[runs].exit_code == 143


def test_a_job_that_completes_while_it_is_told_to_stop_has_completed() -> None:
    world = World()
    world.node("n1", cpus=1)
    job = world.submit()
    world.decide()
    world.says("n1", job, Phase.STARTED)
    world.do(cancel, world.job(job))
    world.says("n1", job, Phase.ENDED, end=End.EXITED, exit_code=0)
    assert world.state_of(job) == (JobState.COMPLETED, Reason.COMPLETED)


def test_what_is_too_large_waits_without_holding_up_others() -> None:
    world = World()
    world.node("n1", cpus=2)
    large, small = world.submit(cpus=4), world.submit(cpus=1)
    world.decide()
    assert (world.job(large).state, world.left_out[large]) == (PENDING, Reason.NEVER_FITS)
    assert world.job(small).state is STARTING
    world.node("n2", cpus=8)
    world.decide()
    assert world.job(large).state is STARTING


def test_a_drained_node_gets_nothing_new() -> None:
    world = World()
    world.node("n1", cpus=2)
    first = world.submit()
    world.decide()
    assert world.do(drain, world.state.nodes["n1"], "disk", None) == [first]
    second = world.submit()
    world.decide()
    assert world.job(second).state is PENDING


def test_checkpoints_keep_work_over_a_failure() -> None:
    world = World()
    world.node("n1", cpus=1)
    job = world.submit(checkpoint_interval_s=60.0)
    world.decide()
    world.says("n1", job, Phase.STARTED)
    for _ in range(50):
        world.pass_time(3)  # 150 s of work, two whole intervals
    world.pass_time(10, silent=("n1",))
    assert world.job(job).work_kept_s == 120
    assert dump(world.restarted()) == dump(world.state)


def test_a_queue_longer_than_the_tables_that_hold_it() -> None:
    world = World()
    world.node("n1", cpus=3)
    first = world.submit(array=Array(range(3000)))
    world.decide()
    assert sorted(world.state.active) == [first, first + 1, first + 2]
    for job in range(first, first + 3):
        world.run(job)
    world.decide()
    assert sorted(world.state.active) == [first + 3, first + 4, first + 5]


def test_gpus_are_told_apart_and_shared() -> None:
    world = World()
    world.node("n1", cpus=8, gpus=2)
    whole, half, other_half = world.submit(gpus=1), world.submit(gpus=0.5), world.submit(gpus=0.5)
    too_many = world.submit(gpus=0.25)
    world.decide()
    held = [world.job(j).attempt.parts["n1"].gpus for j in (whole, half, other_half)]  # type: ignore[union-attr]
    assert held[1] == held[2] != held[0]
    assert world.job(too_many).state is PENDING
    assert world.state.nodes["n1"].gpu_used == [1000, 1000]


def test_another_priority_survives_a_restart() -> None:
    world = World()
    job = world.submit()
    world.do(reprioritise, world.job(job), 7)
    assert world.restarted().jobs[job].priority == 7


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tasks": -1}, "tasks: -1 is not between"),
        ({"gpus": 1.5}, "per_task: 1.5 GPUs"),
        ({"gpus": -1}, "per_task"),
        ({"cpus": float("nan")}, "per_task"),
        ({"time_limit_s": -5.0}, "time_limit_s: -5"),
        ({"time_limit_s": float("inf")}, "time_limit_s: inf"),
        ({"queue": "defualt"}, "did you mean 'default'"),
        ({"priority": 5000}, "priority: 5000"),
        ({"name": "a\nb"}, "name: "),
        ({"working_directory": "there"}, "no absolute path"),
        ({"stop_signal": "SIGKILL"}, "stop_signal: 'SIGKILL' is none of"),
        ({"begin_unix_s": float("inf")}, "begin_unix_s"),
        ({"max_retries": -1}, "max_retries"),
    ],
)
def test_what_cannot_be_is_refused_with_field_and_value(asked: dict[str, object], message: str) -> None:
    world = World()
    with pytest.raises(InvalidError) as caught:
        world.submit(**asked)
    assert message in str(caught.value)
    assert not world.state.jobs
    assert not world.store.event_rows
