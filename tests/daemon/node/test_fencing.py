"""The lease: who may keep running, and who must end, when nobody answers."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shunter.daemon.node.session import all_refuse
from shunter.daemon.node.shim.lease import LeaseFile, now_s
from tests.daemon.node.peer import ENDED, STARTED, AgentProcess, Peer, alive, pb, wait_for
from tests.daemon.node.test_survival import words

Agents = Callable[..., AgentProcess]
Peers = Callable[..., Peer]
LEASE_S = 1.0


def running(peer: Peer, agent: AgentProcess) -> int:
    """Start a job that hears no signals, with a daemonised process in it; returns the latter's number."""
    peer.assign(1, "sh", "-c", "trap '' TERM; setsid sh -c 'echo $$; sleep 1000' & sleep 1000; true")
    peer.await_report(1, STARTED)
    return int(words(agent, 1)[0])


def ended_within(pid: int, limit_s: float, since_s: float) -> None:
    wait_for(lambda: not alive(pid))
    assert now_s() - since_s < limit_s


def test_silence_ends_jobs_within_the_lease_and_a_second(peers: Peers, agents: Agents) -> None:
    peer = peers(lease_s=LEASE_S)
    agent = agents("--daemon", peer.address)
    pid = running(peer, agent)
    wait_for(lambda: peer.heartbeats > 12)  # alive for longer than a lease
    assert alive(pid)
    peer.answers = False
    ended_within(pid, LEASE_S + 1.0, now_s())
    peer.answers = True
    end = peer.await_report(1, ENDED)
    assert (end.end, end.message) == (pb.Report.END_FENCED, "the node's lease ran out")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_so_do_jobs_whose_agent_is_dead_or_stands_still(peers: Peers, agents: Agents, number: int) -> None:
    peer = peers(lease_s=LEASE_S)
    agent = agents("--daemon", peer.address)
    pid = running(peer, agent)
    agent.signal(number)
    ended_within(pid, LEASE_S + 1.0, now_s())
    if number == signal.SIGSTOP:
        agent.signal(signal.SIGCONT)
    else:
        agent.process.wait()
        agent.start()
    assert peer.await_report(1, ENDED).end == pb.Report.END_FENCED


def test_a_daemon_that_is_down_ends_nobodys_jobs(peers: Peers, agents: Agents) -> None:
    peer = peers(lease_s=LEASE_S)
    agent = agents("--daemon", peer.address)
    pid = running(peer, agent)
    port = peer.port
    peer.close()
    until = time.monotonic() + 2.5 * LEASE_S
    while time.monotonic() < until:  # connections are refused for longer than two leases
        assert alive(pid), agent.log
        time.sleep(0.05)
    second = peers(lease_s=LEASE_S, port=port)
    wait_for(lambda: second.registrations)
    assert [(one.job, one.phase) for one in second.registrations[0].held] == [(1, "started")]
    second.stop(1, grace_s=0)
    assert second.await_report(1, ENDED).end == pb.Report.END_STOPPED


def test_one_address_that_hangs_is_enough_to_end_them(peers: Peers, agents: Agents) -> None:
    with socket.socket() as silent:  # takes connections, says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        peer = peers(lease_s=LEASE_S)
        agent = agents("--daemon", peer.address, "--daemon", f"127.0.0.1:{silent.getsockname()[1]}")
        pid = running(peer, agent)
        peer.close()
        ended_within(pid, LEASE_S + 1.5, now_s())


def test_a_leader_that_leads_no_more_renews_nothing(peers: Peers, agents: Agents) -> None:
    new, old = peers(lease_s=LEASE_S, token=7), peers(lease_s=LEASE_S, token=6)
    agent = agents("--daemon", new.address, "--daemon", old.address)
    wait_for(lambda: new.registrations)
    pid = running(new, agent)
    new.answers = False
    ended_within(pid, LEASE_S + 1.5, now_s())
    wait_for(lambda: old.registrations)  # it was asked, and its answer thrown away
    agent.kill()
    agent.start()  # the token is kept over a restart
    count = len(old.registrations)
    wait_for(lambda: len(old.registrations) > count)
    assert old.sessions == 0
    new.answers = True
    assert new.await_report(1, ENDED).end == pb.Report.END_FENCED


def test_the_agent_goes_where_the_leader_is(peers: Peers, agents: Agents) -> None:
    leader, other = peers(), peers()
    other.leader = leader.address
    agent = agents("--daemon", other.address)
    wait_for(lambda: leader.registrations)
    leader.hang_up()
    wait_for(lambda: len(leader.registrations) == 2)  # registers anew after each session
    assert leader.registrations[0].instance == leader.registrations[1].instance
    assert agent.process.poll() is None


def test_a_token_travels_with_every_call(tmp_path: Path, peers: Peers, agents: Agents) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    peer = peers()
    agent = agents("--daemon", peer.address, "--token-file", str(tmp_path / "token"))
    peer.assign(1, "true")
    peer.await_report(1, ENDED)
    wait_for(lambda: peer.samples)
    assert {call["authorization"] for call in peer.metadata} == {"Bearer s3cret"}
    assert len(peer.metadata) == 3  # Register, Session, Telemetry
    assert "s3cret" not in agent.log


def test_only_refusals_everywhere_count_as_refused() -> None:
    with socket.socket() as used, socket.socket() as free:
        used.bind(("127.0.0.1", 0))
        used.listen()
        free.bind(("127.0.0.1", 0))
        closed, open_ = (f"127.0.0.1:{place.getsockname()[1]}" for place in (free, used))
        assert asyncio.run(all_refuse([closed]))
        assert not asyncio.run(all_refuse([closed, open_]))
        assert not asyncio.run(all_refuse(["no-such-host.invalid:1"]))


def test_a_lease_never_shrinks(tmp_path: Path) -> None:
    lease, reader = LeaseFile(str(tmp_path / "lease"), create=True), LeaseFile(str(tmp_path / "lease"))
    assert reader.has_run_out  # there was none yet
    lease.renew(now_s(), 100.0)
    first = reader.deadline_s
    assert not reader.has_run_out
    lease.renew(now_s() - 50.0, 100.0)  # the answer to an older heartbeat
    assert reader.deadline_s == first
    again = LeaseFile(str(tmp_path / "lease"), create=True)
    assert again.deadline_s == first  # the same boot
    for one in (lease, reader, again):
        one.close()
