"""What is left of jobs when an agent, a shim, a disk or the daemon goes away: nothing lost, nothing doubled."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shunter.daemon.node.shim import processes, records
from shunter.daemon.node.shim.lease import boot_id
from shunter.daemon.node.shim.processes import start_time
from tests.daemon.node.peer import ENDED, READY, STARTED, AgentProcess, Peer, alive, pb, wait_for

Agents = Callable[..., AgentProcess]
Peers = Callable[..., Peer]


def words(agent: AgentProcess, job: int, count: int = 1) -> list[str]:
    """What a job has written, once there are so many words."""

    def found() -> list[str]:
        return "".join(path.read_text() for path in sorted(agent.state.glob(f"*/{job}.1/logs/*.log"))).split()

    return wait_for(lambda: len(text := found()) >= count and text)


def shim_of(agent: AgentProcess, job: int) -> int:
    told = records.Records(str(agent.state / "attempts" / f"{job}.1" / "records"))
    try:
        return int(wait_for(lambda: told.read(records.SHIM))["pid"])
    finally:
        told.close()


def test_an_agent_that_is_killed_finds_its_jobs_again(peers: Peers, agents: Agents) -> None:
    peer = peers(lease_s=20.0)
    agent = agents("--daemon", peer.address)
    peer.assign(1, "sh", "-c", "echo $$; while [ ! -e go-on ]; do sleep 0.01; done; exit 4")
    peer.assign(2, "sh", "-c", "echo $$; while [ ! -e go-on ]; do sleep 0.01; done; exit 5")
    peer.assign(3, "echo", "gang", wait_for_go=True)
    for job, phase in ((1, STARTED), (2, STARTED), (3, READY)):
        peer.await_report(job, phase)
    pids = [words(agent, job)[0] for job in (1, 2)]
    agent.kill()
    (agent.state / "work/1/go-on").touch()  # ends while there is no agent
    wait_for(lambda: not alive(int(pids[0])))
    agent.start()
    wait_for(lambda: len(peer.registrations) == 2)
    held = {(one.job, one.attempt): one.phase for one in peer.registrations[1].held}
    assert held.pop((1, 1)) in ("started", "ended")
    assert held == {(2, 1): "started", (3, 1): "ready"}
    assert peer.await_report(1, ENDED).exit_code == 4
    assert alive(int(pids[1]))
    peer.send(go=pb.Go(job=3, attempt=1, fencing_token=1))
    (agent.state / "work/2/go-on").touch()
    assert peer.await_report(2, ENDED).exit_code == 5
    assert peer.await_report(3, ENDED).exit_code == 0
    for job in (1, 2, 3):  # one start and one end of each, however often they were told
        for phase in (STARTED, ENDED):
            assert len({report.at_unix_s for report in peer.of(job, phase)}) == 1
    assert [words(agent, job)[0] for job in (1, 2)] == pids


def test_an_agent_that_is_told_to_end_leaves_its_jobs(peers: Peers, agents: Agents) -> None:
    peer = peers(lease_s=20.0)
    agent = agents("--daemon", peer.address)
    peer.assign(1, "sh", "-c", "echo $$; while [ ! -e go-on ]; do sleep 0.01; done")
    pid = int(words(agent, 1)[0])
    assert agent.end() == 0
    assert "1 jobs go on; their lease ends in" in agent.log
    assert alive(pid)
    agent.start()
    (agent.state / "work/1/go-on").touch()
    assert peer.await_report(1, ENDED).end == pb.Report.END_EXITED


def test_an_agent_can_take_its_jobs_with_it(peers: Peers, agents: Agents) -> None:
    peer = peers(lease_s=20.0)
    agent = agents("--daemon", peer.address, "--stop-jobs")
    peer.assign(1, "sleep", "1000")
    peer.await_report(1, STARTED)
    assert agent.end() == 0
    assert peer.await_report(1, ENDED).end == pb.Report.END_STOPPED


def test_when_a_shim_is_killed_nothing_of_its_job_is_left(peers: Peers, agents: Agents) -> None:
    peer = peers(lease_s=20.0)
    agent = agents("--daemon", peer.address)
    peer.assign(1, "sh", "-c", "setsid sh -c 'echo $$; sleep 1000' & echo $$; sleep 1000; true")
    pids = [int(word) for word in words(agent, 1, 2)]
    os.kill(shim_of(agent, 1), signal.SIGKILL)
    end = peer.await_report(1, ENDED)
    assert (end.end, end.message) == (pb.Report.END_LOST, "its shim was killed")
    assert not any(map(alive, pids))


def test_so_it_is_when_the_agent_was_dead_too(peers: Peers, agents: Agents) -> None:
    peer = peers(lease_s=20.0)
    agent = agents("--daemon", peer.address)
    peer.assign(1, "sh", "-c", "setsid sh -c 'echo $$; sleep 1000' & echo $$; sleep 1000; true")
    pids = [int(word) for word in words(agent, 1, 2)]
    agent.kill()
    os.kill(shim_of(agent, 1), signal.SIGKILL)
    agent.start()
    assert peer.await_report(1, ENDED).end == pb.Report.END_LOST
    assert not any(map(alive, pids))


def test_a_machine_that_was_started_anew_has_lost_its_jobs(peers: Peers, agents: Agents) -> None:
    peer = peers(lease_s=20.0)
    agent = agents("--daemon", peer.address)
    peer.assign(1, "sleep", "1000")
    peer.await_report(1, STARTED)
    agent.kill()
    shim = shim_of(agent, 1)
    started = start_time(shim)
    os.kill(shim, signal.SIGKILL)
    told = records.Records(str(agent.state / "attempts/1.1/records"))
    told.write(records.SHIM, pid=os.getpid(), start=started, boot="another" + boot_id()[7:])
    told.close()
    agent.start()
    end = peer.await_report(1, ENDED)
    assert (end.end, end.message) == (pb.Report.END_LOST, "the machine was started anew")


def test_another_process_with_the_shims_number_is_not_taken_for_it(peers: Peers, agents: Agents) -> None:
    peer = peers(lease_s=20.0)
    agent = agents("--daemon", peer.address)
    peer.assign(1, "sleep", "1000")
    peer.await_report(1, STARTED)
    agent.kill()
    os.kill(shim_of(agent, 1), signal.SIGKILL)
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        told = records.Records(str(agent.state / "attempts/1.1/records"))
        told.write(records.SHIM, pid=bystander.pid, start=1, boot=boot_id())
        told.close()
        agent.start()
        assert peer.await_report(1, ENDED).end == pb.Report.END_LOST
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_second_agent_with_the_same_folder_is_refused(peers: Peers, agents: Agents) -> None:
    peer = peers()
    agent = agents("--daemon", peer.address)
    wait_for(lambda: peer.registrations)
    second = subprocess.run(
        [sys.executable, "-m", "shunter", "node", "--daemon", peer.address, "--name", "x", "--state", str(agent.state)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert "another agent runs with it" in second.stderr


@contextlib.contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A file system of so many KiB."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    if os.geteuid() != 0 or libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, f"size={kib}k".encode()) != 0:
        pytest.skip("needs the right to mount")
    try:
        yield folder
    finally:
        libc.umount2(str(folder).encode(), 2)


def test_on_a_full_disk_ends_are_told_and_starts_refused(tmp_path: Path, peers: Peers, agents: Agents) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        peer = peers(lease_s=20.0)
        agent = agents("--daemon", peer.address, state="disk/state")
        # Its own output fills the disk.
        peer.assign(1, "sh", "-c", "head -c 400000 /dev/zero; while [ ! -e go-on ]; do sleep 0.01; done; exit 6")
        peer.await_report(1, STARTED)
        wait_for(lambda: os.statvfs(disk).f_bavail == 0)
        peer.assign(2, "true")
        end = peer.await_report(2, ENDED)
        assert (end.end, "No space left" in end.message) == (pb.Report.END_NOT_STARTED, True)
        agent.kill()
        work = agent.state / "work/1"
        wait_for(work.exists)
        os.mknod(work / "go-on")  # needs no room
        wait_for(lambda: not alive(shim_of(agent, 1)))
        agent.start()
        assert peer.await_report(1, ENDED).exit_code == 6
        agent.end()


def test_records_are_written_where_files_must_not_grow(tmp_path: Path) -> None:
    told = records.Records(str(tmp_path / "records"), create=True)
    size = (tmp_path / "records").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        told.write(records.ENDED, end="exited", exit_code=1, message="x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found = told.read(records.ENDED)
    assert found is not None
    assert (found["end"], found["exit_code"], set(found["message"])) == ("exited", "1", {"x"})
    assert told.read(records.STARTED) is None
    told.close()


def test_a_record_that_is_half_written_is_none(tmp_path: Path) -> None:
    path = tmp_path / "records"
    told = records.Records(str(path), create=True)
    told.write(records.STARTED, at=1.5, message="two\nlines")
    assert told.read(records.STARTED) == {"at": "1.5", "message": "two lines"}
    data = bytearray(path.read_bytes())
    data[records.STARTED * records.SLOT_BYTES + 12] ^= 1
    path.write_bytes(data)
    assert told.read(records.STARTED) is None
    told.close()


def test_descendants_are_found_without_the_kernels_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 1000 & wait"])
    try:
        found = wait_for(lambda: len(pids := processes.descendants(os.getpid())) >= 2 and pids)
        monkeypatch.setattr(processes, "HAS_CHILDREN", False)
        assert set(processes.descendants(os.getpid())) == set(found)
        assert child.pid in found
    finally:
        processes.kill_all(processes.descendants(child.pid))
        child.kill()
        child.wait()


def test_a_shim_costs_little(peers: Peers, agents: Agents) -> None:
    peer = peers(lease_s=20.0)
    agent = agents("--daemon", peer.address)
    peer.assign(1, "sleep", "1000")
    peer.await_report(1, STARTED)
    status = Path(f"/proc/{shim_of(agent, 1)}/status").read_text()
    assert int(status.split("VmRSS:")[1].split()[0]) < 14 * 1024
    peer.stop(1, grace_s=0)
    peer.await_report(1, ENDED)


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_agents_killed_at_any_moment_lose_and_double_nothing(
    tmp_path: Path, peers: Peers, agents: Agents, kills: int
) -> None:
    ran = tmp_path / "ran"
    ran.mkdir()
    draw = random.Random(6)
    peer = peers(lease_s=30.0)
    agent = agents("--daemon", peer.address)
    jobs: list[int] = []
    before = 0
    for round_ in range(kills + 1):
        wait_for(lambda number=before: peer.sessions > number)
        known = {one.job for one in peer.registrations[-1].held}
        again = [job for job in jobs if job not in known and not peer.of(job, ENDED)]
        new = list(range(len(jobs) + 1, len(jobs) + 9))
        jobs += new
        for job in again + new:  # what the agent does not hold is ordered again, as the daemon would
            peer.assign(job, "sh", "-c", f"echo $$ >> {ran}/{job}; sleep 0.1")
        if round_ < kills:
            time.sleep(draw.uniform(0.0, 0.15))  # the moment of the kill: any
            agent.kill()
            before = peer.sessions
            agent.start()
    lost = 0
    for job in jobs:
        end = peer.await_report(job, ENDED)
        times = len((ran / str(job)).read_text().split()) if (ran / str(job)).exists() else 0
        assert times <= 1, f"job {job} ran {times} times"
        lost += times == 0
        assert (end.end == pb.Report.END_EXITED) == (times == 1), f"job {job}: {end}"
        assert len({report.at_unix_s for report in peer.of(job, ENDED)}) == 1
    assert lost <= kills  # only one whose start the kill has cut in two
    assert len({one.state_id for one in peer.registrations}) == 1
    assert len({one.instance for one in peer.registrations}) == kills + 1
