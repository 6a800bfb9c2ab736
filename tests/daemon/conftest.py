"""What several parts of the daemon's tests start: a server of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.daemon.store.postgres import Cluster, unavailable


@pytest.fixture(scope="session")
def server() -> Iterator[Cluster]:
    reason = unavailable()
    if reason:
        pytest.skip(reason)
    started = Cluster()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def cluster(server: Cluster) -> Iterator[Cluster]:
    """The server; databases that a test asked for are emptied for the next one."""
    yield server
    server.recycle()
