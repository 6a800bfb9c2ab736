"""A process that writes is killed at random moments: nothing acknowledged is lost, no change is there in part."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shunter.daemon.store.sql_store import open_store
from tests.daemon.store.conftest import Cluster

TOP = Path(__file__).parents[3]
WAIT_S = 60.0


def start(url: str, lease_s: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.daemon.store.writes_until_killed", url, str(lease_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TOP)


def killed_after(url: str, seconds: float) -> list[tuple[int, int]]:
    """Let a process write for some time, kill it, and tell what it was told is durable: (last, first) job."""
    child = start(url, 0.3)
    assert child.stdout is not None
    try:
        assert child.stdout.readline().startswith(b"leads ")
        time.sleep(seconds)
    finally:
        child.kill()
        left = child.stdout.read()
        child.stdout.close()
        child.wait(WAIT_S)
    lines = left.decode().split("\n")[:-1]  # the last one may have been cut off
    assert not any(line.startswith("refused") for line in lines), lines[-1]
    return [(int(last), int(first)) for last, first in (line.split() for line in lines)]


def check(url: str, acknowledged: dict[int, int]) -> None:
    """Every change that was acknowledged is there, and each that is there is whole."""
    store = open_store(url)
    found = store.load()
    there = {row.made.id for row in found.jobs}
    assert there == set(range(1, found.last_job + 1))
    for first, last in acknowledged.items():
        assert set(range(first, last + 1)) <= there
    assert whole_changes(found.last_job)
    assert [row.job for row in found.attempts] == sorted(there)
    assert all(row.now.version == row.made.id + 1000 for row in found.jobs)
    events = [row for page in range(0, found.last_job, 5000) for row in store.events(page, 5000)]
    assert [row.number for row in events] == sorted(there)
    sample = random.Random(0).sample(sorted(there), min(20, len(there)))
    assert all(store.repeated("ann", f"key-{number}") is not None for number in sample)
    store.close()


def whole_changes(last: int) -> bool:
    """Whether jobs 1 to ``last`` are whole changes of ``writes_until_killed``."""
    number = 1
    while number <= last:
        number += 1 + number % 5
    return number == last + 1


def rounds(url: str, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    acknowledged: dict[int, int] = {}
    for _ in range(kills):
        acknowledged |= {first: last for last, first in killed_after(url, draw.uniform(0.0, 0.15))}
        check(url, acknowledged)
    assert len(acknowledged) > kills


def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    rounds(f"sqlite:///{tmp_path}/s.db", 10, seed=1)


def test_kills_lose_nothing_with_postgresql(cluster: Cluster) -> None:
    rounds(cluster.new_database(), 3, seed=2)


@pytest.mark.slow
def test_many_kills_lose_nothing(url: str) -> None:
    rounds(url, 100, seed=int(os.environ.get("SEED", "3")))


def test_the_check_sees_a_torn_change() -> None:
    assert [last for last in range(12) if whole_changes(last)] == [0, 2, 6, 9, 10]
