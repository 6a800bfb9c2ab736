"""Running jobs: real processes, over real sockets, with one agent for all of these tests."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.node.peer import ENDED, READY, STARTED, AgentProcess, Peer, alive, pb, wait_for

numbers = itertools.count(1)


class Node:
    """An agent and its peer."""

    def __init__(self, folder: Path) -> None:
        self.peer = Peer(lease_s=30.0)
        self.agent = AgentProcess(
            folder / "state", "--daemon", self.peer.address, "--gpus", "4", "--log-part-mib", "0.01"
        )

    def logs(self, job: int) -> str:
        parts = sorted(self.agent.state.glob(f"*/{job}.1/logs/*.log"))
        return "".join(part.read_text() for part in parts)

    def words(self, job: int, count: int = 1) -> list[str]:
        """What a job has written, once there are so many words."""
        return wait_for(lambda: len(found := self.logs(job).split()) >= count and found)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("node"))
    yield node
    assert node.agent.end() == 0, node.agent.log
    node.peer.close()


@pytest.fixture
def job() -> int:
    return next(numbers)


def test_an_exit_code_is_reported_with_what_was_used(node: Node, job: int) -> None:
    node.peer.assign(job, "sh", "-c", "exit 3")
    end = node.peer.await_report(job, ENDED)
    assert (end.end, end.exit_code, end.HasField("signal")) == (pb.Report.END_EXITED, 3, False)
    assert end.cpu_s > 0
    assert end.max_memory_gib > 0
    assert node.peer.await_report(job, STARTED).at_unix_s <= end.at_unix_s


def test_a_signal_is_reported(node: Node, job: int) -> None:
    node.peer.assign(job, "sh", "-c", "kill -SEGV $$")
    end = node.peer.await_report(job, ENDED)
    assert (end.end, end.signal, end.HasField("exit_code")) == (pb.Report.END_EXITED, signal.SIGSEGV, False)


@pytest.mark.parametrize(
    ("command", "spec", "says"),
    [
        (["no-such-program"], {}, "program 'no-such-program': No such file"),
        (["true"], {"working_directory": "/no/such"}, "working directory '/no/such': No such file"),
        (["true"], {"run_as": "nobody-of-that-name"}, "may not run under it"),
        (["true"], {"stop_signal": "SIGNONE"}, "there is no such signal"),
        ([], {}, "command"),
    ],
)
def test_what_cannot_be_started_says_why(node: Node, job: int, command: list[str], spec: dict, says: str) -> None:
    node.peer.assign(job, *command, spec=spec)
    end = node.peer.await_report(job, ENDED)
    assert end.end == pb.Report.END_NOT_STARTED
    assert says in end.message
    assert not node.peer.of(job, STARTED)


def test_no_shell_looks_at_the_command(node: Node, job: int) -> None:
    node.peer.assign(job, "printf", "%s|", "$HOME", "a b", ";exit", "*")
    node.peer.await_report(job, ENDED)
    assert node.logs(job) == "$HOME|a b|;exit|*|"


def test_the_environment_says_what_the_task_is(node: Node, job: int) -> None:
    node.peer.assign(
        job,
        "env",
        attempt=1,
        spec={"environment": {"COLOUR": "blue", "SHUNTER_TASK": "forged"}, "stop_signal": "usr1", "tasks": 4},
        placement={"node": "n1", "tasks": 2, "gpus": [0, 2]},
        gang=[{"node": "n0", "tasks": 2}, {"node": "n1", "tasks": 2}],
        first_rank=2,
        array_index=7,
    )
    node.peer.await_report(job, ENDED)
    folder = next(node.agent.state.glob(f"*/{job}.1/logs"))
    tasks = []
    for rank in (2, 3):
        lines = next(folder.glob(f"{rank}.*.log")).read_text().splitlines()
        tasks.append(dict(line.split("=", 1) for line in lines))
    expected = {
        "COLOUR": "blue",
        "SHUNTER_JOB_ID": str(job),
        "SHUNTER_ATTEMPT": "1",
        "SHUNTER_TASKS": "4",
        "SHUNTER_NODE": "n1",
        "SHUNTER_NODES": "n0,n1",
        "SHUNTER_ARRAY_INDEX": "7",
        "SHUNTER_CHECKPOINT_SIGNAL": "SIGUSR1",
    }
    for local, task in enumerate(tasks):
        assert expected.items() <= task.items()
        assert (task["SHUNTER_TASK"], task["SHUNTER_LOCAL_TASK"]) == (str(2 + local), str(local))
        assert task["CUDA_VISIBLE_DEVICES"] == str([0, 2][local])  # two GPUs dealt out to two tasks
        assert "AWS_SECRET" not in task
        assert task.keys().isdisjoint({"PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS"})  # nothing of the agent's own


def test_without_gpus_cuda_sees_none(node: Node, job: int) -> None:
    node.peer.assign(job, "sh", "-c", 'echo "[$CUDA_VISIBLE_DEVICES]"; pwd')
    node.peer.await_report(job, ENDED)
    assert node.logs(job).split() == ["[]", str(node.agent.state / "work" / str(job))]


def test_a_gang_starts_at_its_go(node: Node, job: int) -> None:
    node.peer.assign(job, "echo", "ran", wait_for_go=True)
    node.peer.await_report(job, READY)
    assert not node.peer.of(job, STARTED)
    assert node.logs(job) == ""
    node.peer.send(go=pb.Go(job=job, attempt=1, fencing_token=1))
    assert node.peer.await_report(job, ENDED).exit_code == 0


def test_a_gang_that_waits_can_be_stopped(node: Node, job: int) -> None:
    node.peer.assign(job, "echo", "ran", wait_for_go=True)
    node.peer.await_report(job, READY)
    node.peer.stop(job)
    assert node.peer.await_report(job, ENDED).end == pb.Report.END_STOPPED
    assert not node.peer.of(job, STARTED)


def test_one_failed_task_ends_the_others(node: Node, job: int) -> None:
    script = "if [ $SHUNTER_TASK = 1 ]; then exit 5; fi; sleep 1000"
    node.peer.assign(job, "sh", "-c", script, placement={"node": "n1", "tasks": 3})
    end = node.peer.await_report(job, ENDED)
    assert (end.end, end.exit_code) == (pb.Report.END_EXITED, 5)
    assert "task 1 failed" in end.message


def test_a_stop_asks_first(node: Node, job: int) -> None:
    node.peer.assign(
        job,
        "sh",
        "-c",
        "trap 'echo saved; exit 0' USR1; echo up; while :; do sleep 0.01; done",
        spec={"stop_signal": "SIGUSR1"},
    )
    node.words(job)
    node.peer.stop(job, grace_s=60.0)
    end = node.peer.await_report(job, ENDED)
    assert (end.end, end.exit_code) == (pb.Report.END_STOPPED, 0)
    assert node.logs(job).split()[-1] == "saved"


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:  # a daemon: nobody's child, in a session of its own, with an environment of its own
        code = "import os, time; print(os.getpid(), flush=True); time.sleep(900)"
        os.execve(sys.executable, [sys.executable, "-c", code], {})
    os._exit(0)
print(os.getpid(), flush=True)
time.sleep(1000)
"""


def test_after_the_grace_period_nothing_of_it_is_left(node: Node, job: int) -> None:
    node.peer.assign(job, sys.executable, "-c", STUBBORN)
    pids = [int(word) for word in node.words(job, 2)]
    assert all(map(alive, pids))
    node.peer.stop(job, grace_s=0.2)
    end = node.peer.await_report(job, ENDED)
    assert (end.end, end.signal) == (pb.Report.END_STOPPED, signal.SIGKILL)
    assert not any(map(alive, pids))


def test_what_a_task_leaves_behind_ends_with_it(node: Node, job: int) -> None:
    node.peer.assign(job, "sh", "-c", "setsid sleep 1000 & echo $!; exit 0")
    end = node.peer.await_report(job, ENDED)
    assert (end.end, end.exit_code) == (pb.Report.END_EXITED, 0)
    assert not alive(int(node.words(job)[0]))


def test_the_time_limit_ends_it(node: Node, job: int) -> None:
    node.peer.assign(job, "sleep", "1000", time_limit_s=0.2, grace_s=0.1)
    end = node.peer.await_report(job, ENDED)
    assert (end.end, end.signal) == (pb.Report.END_TIME_LIMIT, signal.SIGTERM)
    assert end.at_unix_s - node.peer.of(job, STARTED)[0].at_unix_s >= 0.2


def test_orders_may_come_twice(node: Node, job: int) -> None:
    node.peer.assign(job, "sh", "-c", "echo ran; sleep 0.3")
    node.peer.assign(job, "sh", "-c", "echo ran; sleep 0.3")
    node.peer.await_report(job, ENDED)
    node.peer.assign(job, "echo", "ran")  # it has ended, and was not forgotten
    wait_for(lambda: len(node.peer.of(job, ENDED)) > 1)
    node.peer.forget(job)
    wait_for((node.agent.state / "finished" / f"{job}.1").exists)
    count = len(node.peer.of(job, ENDED))
    node.peer.assign(job, "echo", "ran")  # it was forgotten: told again, not run again
    wait_for(lambda: len(node.peer.of(job, ENDED)) > count)
    assert node.logs(job).split() == ["ran"]
    assert len({report.at_unix_s for report in node.peer.of(job, ENDED)}) == 1


def test_a_stop_that_overtakes_its_assignment_prevents_it(node: Node, job: int) -> None:
    node.peer.stop(job)
    assert node.peer.await_report(job, ENDED).end == pb.Report.END_NOT_STARTED
    count = len(node.peer.of(job, ENDED))
    node.peer.assign(job, "echo", "ran")
    wait_for(lambda: len(node.peer.of(job, ENDED)) > count)
    assert node.logs(job) == ""
    assert not node.peer.of(job, STARTED)


def test_ends_are_repeated_until_they_are_forgotten(node: Node, job: int) -> None:
    node.peer.assign(job, "true")
    wait_for(lambda: len(node.peer.of(job, ENDED)) >= 2)
    assert len(node.peer.of(job, STARTED)) == 1  # its receipt has come
    node.peer.forget(job)
    wait_for((node.agent.state / "finished" / f"{job}.1").exists)


def test_an_order_of_a_leader_that_leads_no_more_is_not_taken(node: Node, job: int) -> None:
    node.peer.assign(job, "sleep", "1000")
    node.peer.await_report(job, STARTED)
    node.peer.stop(job, token=0)
    other = next(numbers)
    node.peer.assign(other, "true", fencing_token=0)
    third = next(numbers)
    node.peer.assign(third, "true")
    node.peer.await_report(third, ENDED)  # orders are carried out in their order
    assert not node.peer.of(job, ENDED)
    assert not node.peer.of(other, ENDED)
    node.peer.stop(job, grace_s=0)
    node.peer.await_report(job, ENDED)


def test_output_is_read_from_any_place_and_followed(node: Node, job: int) -> None:
    script = "echo one; while [ ! -e go-on ]; do sleep 0.01; done; echo two"
    node.peer.assign(job, "sh", "-c", script)
    node.words(job)
    node.peer.logs.clear()
    node.peer.send(log=pb.LogRequest(request=1, job=job, attempt=1, follow=True))
    wait_for(lambda: node.peer.logs)
    assert (node.peer.logs[0].data, node.peer.logs[0].offset) == (b"one\n", 0)
    (node.agent.state / "work" / str(job) / "go-on").touch()
    wait_for(lambda: any(reply.is_last for reply in node.peer.logs))
    assert [(reply.data, reply.offset) for reply in node.peer.logs] == [(b"one\n", 0), (b"two\n", 4), (b"", 0)]


def test_following_can_be_ended(node: Node, job: int) -> None:
    node.peer.assign(job, "sh", "-c", "echo one; sleep 1000")
    node.words(job)
    node.peer.logs.clear()
    node.peer.send(log=pb.LogRequest(request=5, job=job, attempt=1, follow=True))
    wait_for(lambda: node.peer.logs)
    node.peer.send(log=pb.LogRequest(request=5, job=job, attempt=1, cancel=True))
    node.peer.stop(job, grace_s=0)
    node.peer.await_report(job, ENDED)
    node.peer.send(log=pb.LogRequest(request=6, job=job, attempt=1))
    wait_for(lambda: any(reply.is_last for reply in node.peer.logs))
    assert [reply.request for reply in node.peer.logs if reply.is_last] == [6]


def test_old_output_is_removed_and_counted(node: Node, job: int) -> None:
    total = 100_000  # kept: 4 files of 0.01 MiB
    node.peer.assign(job, sys.executable, "-c", f"import sys; sys.stdout.write('0123456789' * {total // 10})")
    node.peer.await_report(job, ENDED)
    kept = node.logs(job)
    assert 3 * 10485 < len(kept) <= 4 * 10486
    node.peer.logs.clear()
    node.peer.send(log=pb.LogRequest(request=2, job=job, attempt=1))
    wait_for(lambda: any(reply.is_last for reply in node.peer.logs))
    replies = [reply for reply in node.peer.logs if not reply.is_last]
    assert replies[0].missing == replies[0].offset == total - len(kept)
    assert b"".join(reply.data for reply in replies).decode() == kept
    assert kept[0] == str(replies[0].offset % 10)  # offsets count from the beginning of the output
    node.peer.logs.clear()
    node.peer.send(log=pb.LogRequest(request=3, job=job, attempt=1, task=0, tail_bytes=7))
    wait_for(lambda: any(reply.is_last for reply in node.peer.logs))
    assert (node.peer.logs[0].data, node.peer.logs[0].missing) == (b"3456789", 0)


def test_reading_nothing_says_so(node: Node, job: int) -> None:
    node.peer.logs.clear()
    node.peer.send(log=pb.LogRequest(request=4, job=999_999, attempt=1))
    wait_for(lambda: any("no output" in reply.error for reply in node.peer.logs))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change to another account")
def test_jobs_run_under_the_account_that_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("accounts")
    folder.chmod(0o755)
    for parent in folder.parents:
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(parent.stat().st_mode | 0o011)
    peer = Peer(lease_s=30.0)
    agent = AgentProcess(folder / "state", "--daemon", peer.address, "--run-as", "nobody")
    try:
        peer.assign(1, "sh", "-c", "id -un; id -gn; pwd; touch mine; cat /proc/self/status | grep Groups")
        end = peer.await_report(1, ENDED)
        assert (end.end, end.exit_code) == (pb.Report.END_EXITED, 0), end
        text = next(agent.state.glob("*/1.1/logs/*")).read_text()
        assert text.split()[:2] == ["nobody", "nogroup"]
        assert re.search(r"Groups:\s*65534\s*$", text)
        peer.assign(2, "true", spec={"run_as": "daemon"})
        assert "may not run under it" in peer.await_report(2, ENDED).message
    finally:
        agent.end()
        peer.close()
