"""Stores for tests: each test of ``url`` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shunter.daemon.store.lease import Lease, open_lease
from shunter.daemon.store.sql_store import SqlStore, open_store
from tests.daemon.store.postgres import Cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shunter.db"
    started: Cluster = request.getfixturevalue("cluster")
    return started.new_database()


@dataclass
class Led:
    """A store with its lease."""

    url: str
    lease: Lease
    store: SqlStore

    def close(self) -> None:
        self.store.close()
        if self.store.token is not None:
            self.lease.release(self.store.token)
        self.lease.close()


def lead(url: str, holder: str = "tests") -> Led:
    lease = open_lease(url, holder=holder, address="here:1")
    token = lease.acquire(60.0)
    assert token is not None
    return Led(url, lease, open_store(url, token=token))


@pytest.fixture
def leading() -> Iterator[Callable[[str], Led]]:
    opened: list[Led] = []

    def open_led(url: str) -> Led:
        opened.append(lead(url))
        return opened[-1]

    yield open_led
    for led in opened:
        led.close()


@pytest.fixture
def store(url: str, leading: Callable[[str], Led]) -> SqlStore:
    return leading(url).store
