"""Two daemons on PostgreSQL: one leads, the other takes over, and an old leader can do nothing any more."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from shunter.daemon.pb import admin_pb2, admin_pb2_grpc, common_pb2, scheduler_pb2, scheduler_pb2_grpc
from tests.daemon.cluster import LiveCluster, wait_for
from tests.daemon.store.postgres import Cluster

TAKEOVER_S = 6.0
"""Within so many seconds of the leader's end the other one has to act."""


def status(cluster: LiveCluster) -> admin_pb2.PolicyStatusResponse:
    with cluster.channel() as channel:
        return admin_pb2_grpc.AdminStub(channel).PolicyStatus(admin_pb2.PolicyStatusRequest(), timeout=2)


def leads(cluster: LiveCluster) -> bool:
    try:
        return status(cluster).is_leader
    except grpc.RpcError:
        return False


def submit(cluster: LiveCluster, seconds: float, timeout_s: float = 5.0) -> int:
    spec = common_pb2.JobSpec(command=["/bin/sleep", str(seconds)], per_task=common_pb2.Resources(cpus=1))
    with cluster.channel() as channel:
        request = scheduler_pb2.SubmitRequest(spec=spec)
        return scheduler_pb2_grpc.SchedulerStub(channel).Submit(request, timeout=timeout_s).job


def job(cluster: LiveCluster, number: int) -> common_pb2.Job:
    with cluster.channel() as channel:
        return scheduler_pb2_grpc.SchedulerStub(channel).GetJob(scheduler_pb2.GetJobRequest(job=number), timeout=5)


@pytest.fixture
def pair(cluster: Cluster, tmp_path: Path) -> Iterator[tuple[LiveCluster, LiveCluster]]:
    """A leader and a standby on one database."""
    url = cluster.new_database()
    daemons = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        # Agents wait longer for a leader than it takes to find another one.
        leases = {"heartbeat_s": 0.5, "suspect_s": 8.0, "lease_s": 12.0, "margin_s": 1.0}
        daemons.append(LiveCluster(folder, {"store": url, "leases": leases}))
    first, second = daemons
    for daemon in daemons:
        daemon.agent_addresses = [first.address, second.address]
    try:
        first.start_daemon()
        wait_for(lambda: leads(first))
        second.start_daemon()
        yield first, second
    finally:
        for daemon in daemons:
            daemon.stop()


def test_the_standby_shows_what_is_stored_and_names_the_leader(pair: tuple[LiveCluster, LiveCluster]) -> None:
    leader, standby = pair
    number = submit(leader, 0)
    assert wait_for(lambda: job(standby, number).id == number)
    with pytest.raises(grpc.RpcError) as caught:
        submit(standby, 0)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(caught.value.trailing_metadata())["shunter-leader"] == leader.address


def test_the_standby_takes_over_when_the_leader_is_killed(pair: tuple[LiveCluster, LiveCluster]) -> None:
    leader, standby = pair
    leader.start_node("n1", cpus=2)
    runs = submit(leader, 20)
    wait_for(lambda: job(leader, runs).state == common_pb2.JOB_STATE_RUNNING)
    token = status(leader).fencing_token
    killed_s = time.monotonic()
    leader.kill_daemon()
    later = wait_for(lambda: try_to_submit(standby, 0), limit_s=20)
    assert time.monotonic() - killed_s <= TAKEOVER_S
    assert status(standby).fencing_token > token
    done = common_pb2.JOB_STATE_COMPLETED
    wait_for(lambda: job(standby, later).state == done)
    survivor = job(standby, runs)  # what ran goes on: its agent has come to the new leader
    assert (survivor.state, len(survivor.attempts)) == (common_pb2.JOB_STATE_RUNNING, 1)


def try_to_submit(cluster: LiveCluster, seconds: float) -> int:
    try:
        return submit(cluster, seconds, 1.0)
    except grpc.RpcError:
        return 0


def test_a_leader_that_was_paused_is_fenced(pair: tuple[LiveCluster, LiveCluster]) -> None:
    leader, standby = pair
    before = submit(leader, 0)
    os.kill(leader.daemon_pid, signal.SIGSTOP)
    try:
        later = wait_for(lambda: try_to_submit(standby, 0), limit_s=20)
    finally:
        os.kill(leader.daemon_pid, signal.SIGCONT)
    assert later > before
    with pytest.raises(grpc.RpcError) as caught:
        submit(leader, 0)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)
    assert wait_for(lambda: not leads(leader))
    assert leads(standby)
    newest = submit(standby, 0)
    assert newest == later + 1  # nothing of the old leader got between
    assert wait_for(lambda: job(leader, newest).id == newest)  # it follows now


def test_a_second_daemon_on_one_sqlite_file_is_refused(tmp_path: Path) -> None:
    import subprocess

    cluster = LiveCluster(tmp_path)
    try:
        cluster.start_daemon()
        other = subprocess.run(
            [sys.executable, "-m", "shunter", "daemon", "--listen", "127.0.0.1:0", "--state", str(cluster.state)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert other.returncode == 1
        assert "another daemon" in other.stderr
        assert "Traceback" not in other.stderr
    finally:
        cluster.stop()
