"""Jobs are submitted while everything is killed: nothing that was acknowledged is lost, and nothing runs twice.

Each job takes a lock of its own while it runs, which the kernel gives back when the last of its processes has gone: an
attempt that finds it taken runs beside another one, and says so.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest

from shunter.daemon.pb import common_pb2, scheduler_pb2, scheduler_pb2_grpc
from tests.daemon.cluster import LiveCluster, wait_for, with_no_error
from tests.daemon.cutting import CuttingRelay

PROGRAM = """
import fcntl, os, sys, time
folder, seconds = sys.argv[1], float(sys.argv[2])
job, attempt, task = (os.environ["SHUNTER_" + name] for name in ("JOB_ID", "ATTEMPT", "TASK"))
def say(word):
    out = os.open(folder + "/said", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(out, f"{word} {job} {attempt} {task}\\n".encode())
    os.close(out)
lock = os.open(f"{folder}/lock.{job}.{task}", os.O_RDWR | os.O_CREAT, 0o644)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    say("OVERLAP")
say("begin")
time.sleep(seconds)
say("done")
"""

FINAL = {
    common_pb2.JOB_STATE_COMPLETED,
    common_pb2.JOB_STATE_FAILED,
    common_pb2.JOB_STATE_CANCELLED,
    common_pb2.JOB_STATE_TIMED_OUT,
}


class Submitter(threading.Thread):
    """Submits one job after the other, each under a key of its own until it is acknowledged."""

    def __init__(self, cluster: LiveCluster, relay: CuttingRelay, name: str, program: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self.cluster, self.relay, self.user, self.program = cluster, relay, name, program
        self.random = random.Random(seed)
        self.acknowledged: dict[str, int] = {}
        self.over = threading.Event()

    def run(self) -> None:
        with self.cluster.channel(self.relay.address) as channel:
            stub = scheduler_pb2_grpc.SchedulerStub(channel)
            while not self.over.is_set():
                key = f"{self.user}-{len(self.acknowledged)}"
                request = self.request(key)
                while key not in self.acknowledged:
                    try:
                        self.acknowledged[key] = stub.Submit(request, timeout=3).job
                    except grpc.RpcError:
                        time.sleep(0.05)
                    if self.over.is_set():
                        return
                time.sleep(self.random.uniform(0.02, 0.15))

    def request(self, key: str) -> scheduler_pb2.SubmitRequest:
        seconds = self.random.choice([0.0, 0.1, 0.5, 1.5])
        folder = str(self.program.parent)
        command = [sys.executable, "-S", "-E", str(self.program), folder, str(seconds)]
        tasks = self.random.choice([1, 1, 1, 3])
        spec = common_pb2.JobSpec(
            command=command, tasks=tasks, per_task=common_pb2.Resources(cpus=1), time_limit_s=60, max_retries=0
        )
        return scheduler_pb2.SubmitRequest(spec=spec, idempotency_key=key)


def events_of(cluster: LiveCluster) -> list[common_pb2.Event]:
    """All events from the first."""
    found: list[common_pb2.Event] = []
    with cluster.channel() as channel:
        stub = scheduler_pb2_grpc.SchedulerStub(channel)
        for told in stub.Watch(scheduler_pb2.WatchRequest(after=0), timeout=30):
            found += told.events
            with_all = stub.ListJobs(scheduler_pb2.ListJobsRequest(page_size=1), timeout=5).jobs
            if not with_all or told.up_to >= max(job.version for job in all_jobs(cluster)):
                break
    return found


def all_jobs(cluster: LiveCluster) -> list[common_pb2.Job]:
    found: list[common_pb2.Job] = []
    with cluster.channel() as channel:
        stub = scheduler_pb2_grpc.SchedulerStub(channel)
        token = ""
        while True:
            page = stub.ListJobs(scheduler_pb2.ListJobsRequest(page_size=1000, page_token=token), timeout=10)
            found += page.jobs
            token = page.next_page_token
            if not token:
                return found


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_everything_is_killed_at_random_moments(tmp_path: Path, kills: int) -> None:
    seed = int(os.environ.get("FAULT_SEED", "1"))
    chance = random.Random(seed)
    cluster = LiveCluster(tmp_path)
    relay = CuttingRelay(cluster.address)
    cluster.agent_addresses = [relay.address]
    program = tmp_path / "job.py"
    program.write_text(PROGRAM)
    submitters = [Submitter(cluster, relay, f"user{i}", program, seed + i) for i in range(2)]
    try:
        cluster.start_daemon()
        for node in ("n1", "n2", "n3"):
            cluster.start_node(node, cpus=4)
        for submitter in submitters:
            submitter.start()
        wreak_havoc(cluster, relay, chance, kills)
        for submitter in submitters:
            submitter.over.set()
            submitter.join(10)
        settle(cluster)
        judge(cluster, submitters, tmp_path, kills)
    finally:
        for submitter in submitters:
            submitter.over.set()
        cluster.stop()
        relay.close()


def wreak_havoc(cluster: LiveCluster, relay: CuttingRelay, chance: random.Random, kills: int) -> None:
    """Kill the daemon so many times; between two kills agents are killed, paused or crashed, connections are cut."""
    for _ in range(kills):
        time.sleep(chance.uniform(0.0, 2.0))
        what = chance.choice(["nothing", "cut", "agent", "pause", "crash"])
        node = chance.choice(["n1", "n2", "n3"])
        if what == "cut":
            relay.cut()
        elif what == "agent":
            cluster.kill_node(node)
            cluster.start_node(node, cpus=4)
        elif what == "crash":
            cluster.crash_node(node)
            cluster.start_node(node, cpus=4)
        elif what == "pause":
            pid = cluster.node_pid(node)
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(chance.uniform(0.2, 4.0), with_no_error, (os.kill, pid, signal.SIGCONT)).start()
        time.sleep(chance.uniform(0.0, 0.5))
        cluster.kill_daemon()
        cluster.start_daemon(wait=chance.random() < 0.85)


def settle(cluster: LiveCluster) -> None:
    """Wait until every job has ended."""
    wait_for(cluster.is_serving)

    def is_done() -> bool:
        try:
            return all(job.state in FINAL for job in all_jobs(cluster))
        except grpc.RpcError:
            return False

    wait_for(is_done, limit_s=90, step_s=0.3)


def judge(cluster: LiveCluster, submitters: list[Submitter], folder: Path, kills: int) -> None:
    said = [line.split() for line in (folder / "said").read_text().splitlines()]
    assert not [words for words in said if words[0] == "OVERLAP"]
    jobs = {job.id: job for job in all_jobs(cluster)}
    acknowledged = [job for submitter in submitters for job in submitter.acknowledged.values()]
    assert len(acknowledged) == len(set(acknowledged)) > kills
    assert set(acknowledged) <= set(jobs)
    assert len(jobs) - len(acknowledged) <= len(submitters)  # the last of each may not have been answered
    events = events_of(cluster)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    ends = Counter(event.job for event in events if event.kind == "ended")
    assert ends == dict.fromkeys(jobs, 1)
    done = {(int(job), int(attempt)): 0 for word, job, attempt, _ in said if word == "done"}
    for word, number, attempt, _ in said:
        if word == "done":
            done[int(number), int(attempt)] += 1
    begun = Counter((number, attempt, task) for word, number, attempt, task in said if word == "begin")
    assert max(begun.values()) == 1, "one attempt was started twice"
    for job in jobs.values():
        if job.state == common_pb2.JOB_STATE_COMPLETED:
            assert done.get((job.id, job.attempts[-1].number)) == job.spec.tasks
        else:
            assert job.attempts, "no user cancelled anything, and no limit was reached"
            assert job.state == common_pb2.JOB_STATE_FAILED
    failed = [job for job in jobs.values() if job.state != common_pb2.JOB_STATE_COMPLETED]
    assert not failed, [(job.id, job.reason, job.attempts[-1].message) for job in failed][:5]
