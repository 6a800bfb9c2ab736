"""Leadership: one at a time, tokens that only rise, and a late leader that is refused."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection

from shunter.daemon.errors import DaemonError, FencedError, StoreError
from shunter.daemon.store.lease import Lease, open_lease
from shunter.daemon.store.sql_store import open_store
from tests.daemon.store.conftest import Cluster
from tests.daemon.store.made import submission
from tests.daemon.store.test_crash import start, whole_changes

WAIT_S = 30.0


def acquired(lease: Lease, lease_s: float) -> int:
    """A token, as soon as there is one."""
    give_up = time.monotonic() + WAIT_S
    while (token := lease.acquire(lease_s)) is None:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return token


def test_the_second_is_told_who_leads_and_takes_over_after_release(url: str) -> None:
    first = open_lease(url, holder="a", address="here:1")
    second = open_lease(url, holder="b", address="here:2")
    assert second.current().holder == ""
    token = first.acquire(60.0)
    assert token is not None
    assert second.acquire(60.0) is None
    leader = second.current()
    assert (leader.holder, leader.address, leader.token) == ("a", "here:1", token)
    assert leader.left_s > 0
    first.renew(token, 60.0)
    first.release(token)
    assert second.current().left_s <= 0
    following = second.acquire(60.0)
    assert following is not None
    assert following > token
    with pytest.raises(FencedError):
        first.renew(token, 60.0)
    first.release(token)  # nothing happens: it is no longer its own
    assert first.acquire(60.0) is None
    second.close()
    first.close()


def test_the_lock_goes_with_the_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    child = start(url, 60.0)
    assert child.stdout is not None
    token = int(child.stdout.readline().split()[1])
    lease = open_lease(url, holder="b")
    assert lease.acquire(60.0) is None
    assert lease.current().holder == f"child-{child.pid}"
    child.kill()
    child.stdout.read()
    child.stdout.close()
    child.wait(WAIT_S)
    assert lease.acquire(60.0) == token + 1
    lease.close()


def test_a_lease_runs_out_by_the_clock_of_the_database_and_lasts_while_it_is_renewed(cluster: Cluster) -> None:
    url = cluster.new_database()
    first, second = open_lease(url, holder="a"), open_lease(url, holder="b")
    token = first.acquire(0.5)
    assert token is not None
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        first.renew(token, 0.5)
        assert second.acquire(0.5) is None
    began = time.monotonic()
    assert acquired(second, 60.0) == token + 1
    assert time.monotonic() - began > 0.3
    first.close()
    second.close()


def resumed(child: subprocess.Popen[bytes]) -> str:
    child.send_signal(signal.SIGCONT)
    assert child.stdout is not None
    last = child.stdout.read().decode().split("\n")[-2]
    child.stdout.close()
    child.wait(WAIT_S)
    return last


def test_a_leader_paused_past_its_lease_is_refused(cluster: Cluster) -> None:
    """It writes without a pause, so that it is stopped within a transaction as often as between two."""
    url = cluster.new_database()
    lease = open_lease(url, holder="b")
    child = start(url, 0.3)
    assert child.stdout is not None
    first_token = int(child.stdout.readline().split()[1])
    child.stdout.readline()
    child.send_signal(signal.SIGSTOP)
    token = acquired(lease, 60.0)
    assert token == first_token + 1
    store = open_store(url, token=token)
    before = store.load()
    assert whole_changes(before.last_job)
    number = before.last_job + 100_000
    store.write(submission(number)).result(WAIT_S)
    assert resumed(child).startswith("refused ")
    after = store.load()
    assert [row.made.id for row in after.jobs] == [*(row.made.id for row in before.jobs), number]
    store.close()
    lease.close()


class Rival(threading.Thread):
    """Takes over whenever it can, writes its token down, and pauses now and then past its lease."""

    def __init__(self, url: str, seed: int, until: float) -> None:
        super().__init__()
        self._url, self._until = url, until
        self._draw = random.Random(seed)
        self.name = f"rival-{seed}"
        self.refused = self.written = 0

    def run(self) -> None:
        lease = open_lease(self._url, holder=self.name)
        while time.monotonic() < self._until:
            token = lease.acquire(0.15)
            if token is None:
                time.sleep(self._draw.uniform(0, 0.01))
                continue
            try:
                self._write(token)
            except (FencedError, StoreError):
                self.refused += 1
        lease.close()

    def _write(self, token: int) -> None:
        store = open_store(self._url, token=token)
        try:
            while time.monotonic() < self._until:
                time.sleep(self._draw.choice((0, 0, 0.001, 0.02, 0.3)))
                store.do(lambda connection: self._note(connection, token))
                self.written += 1
        finally:
            store.close()

    def _note(self, connection: Connection, token: int) -> None:
        """The next number and the token; the number is this one's, or the transaction is refused."""
        connection.exec_driver_sql(
            "INSERT INTO events (number, at_s, kind, state, owner, message) "
            "SELECT COALESCE(MAX(number), 0) + 1, 0, %s, %s, '', '' FROM events",
            (self.name, token),
        )
        time.sleep(self._draw.choice((0, 0, 0.05)))


def contend(url: str, seconds: float, seed: int) -> None:
    open_lease(url, holder="maker").close()
    until = time.monotonic() + seconds
    rivals = [Rival(url, seed * 10 + number, until) for number in range(4)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    store = open_store(url)
    rows = store.events(0, 1_000_000)
    store.close()
    tokens = [row.state for row in rows]
    assert tokens == sorted(tokens)
    holders = {(row.state, row.kind) for row in rows}
    assert len(holders) == len(set(tokens)), "two wrote under one token"
    assert len(set(tokens)) > 3
    assert len(rows) == sum(rival.written for rival in rivals)
    assert sum(rival.refused for rival in rivals) > 0


def test_nobody_writes_under_a_lower_token_after_a_higher_one(cluster: Cluster) -> None:
    contend(cluster.new_database(), 2.5, seed=1)


@pytest.mark.slow
def test_nobody_does_for_a_minute(cluster: Cluster) -> None:
    contend(cluster.new_database(), 60.0, seed=2)


def test_a_leader_may_step_back_and_lead_again(cluster: Cluster) -> None:
    url = cluster.new_database()
    lease = open_lease(url, holder="a")
    token = acquired(lease, 60.0)
    store = open_store(url)
    store.lead(token)
    store.write(submission(1)).result(WAIT_S)
    store.follow()
    with pytest.raises(DaemonError):
        store.write(submission(2)).result(WAIT_S)
    lease.release(token)
    store.lead(acquired(lease, 60.0))
    store.write(submission(2)).result(WAIT_S)
    assert [row.made.id for row in store.load().jobs] == [1, 2]
    store.close()
    lease.close()
