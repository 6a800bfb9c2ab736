"""A full disk: submissions are refused with the reason, nothing acknowledged is lost, and it goes on by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from shunter.daemon.pb import common_pb2, scheduler_pb2, scheduler_pb2_grpc
from tests.daemon.cluster import LiveCluster, wait_for


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "shunter", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs root and leave to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    cluster = LiveCluster(tmp_path)
    cluster.state = small_disk / "state"
    big = common_pb2.JobSpec(command=["/bin/true", "x" * 20_000], per_task=common_pb2.Resources(cpus=1))
    acknowledged = []
    try:
        cluster.start_daemon()
        with cluster.channel() as channel:
            stub = scheduler_pb2_grpc.SchedulerStub(channel)
            refusal = None
            for _ in range(2000):
                try:
                    acknowledged.append(stub.Submit(scheduler_pb2.SubmitRequest(spec=big), timeout=10).job)
                except grpc.RpcError as error:
                    refusal = error
                    break
            assert refusal is not None
            assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, refusal.details()
            assert "full" in refusal.details()
            wait_for(lambda: listed(stub) == sorted(acknowledged, reverse=True)[:1000])  # reading still works
            subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
            after = wait_for(lambda: try_to_submit(stub, big), limit_s=30)
            acknowledged.append(after)
            assert listed(stub) == sorted(acknowledged, reverse=True)[:1000]
        cluster.kill_daemon()
        cluster.start_daemon()
        with cluster.channel() as channel:
            assert listed(scheduler_pb2_grpc.SchedulerStub(channel)) == sorted(acknowledged, reverse=True)[:1000]
    finally:
        cluster.stop()


def listed(stub: scheduler_pb2_grpc.SchedulerStub) -> list[int]:
    return [job.id for job in stub.ListJobs(scheduler_pb2.ListJobsRequest(page_size=1000), timeout=10).jobs]


def try_to_submit(stub: scheduler_pb2_grpc.SchedulerStub, spec: common_pb2.JobSpec) -> int:
    try:
        return stub.Submit(scheduler_pb2.SubmitRequest(spec=spec), timeout=5).job
    except grpc.RpcError:
        return 0
