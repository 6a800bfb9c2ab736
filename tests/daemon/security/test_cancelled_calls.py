"""Calls that their callers cancel: the daemon goes on, and its audit log says who it was."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shunter.daemon.security.discovery import find_token
from tests.daemon.cluster import LiveCluster
from tests.daemon.simulated import SimulatedAgent, description


def test_sessions_that_are_cancelled_while_they_are_told_something_end_nothing_else(tmp_path: Path) -> None:
    """Asking gRPC for the peer of a call that was gone ended the daemon with a signal."""

    async def come_and_go() -> None:
        for _ in range(3):
            agents = [
                SimulatedAgent(cluster.address, f"n{i}", description(4), lambda _: 0.05, exit_code=lambda _: 0)
                for i in range(16)
            ]
            for agent in agents:
                agent.token = find_token(cluster.address)
                agent.start()
            async with asyncio.timeout(60):
                while not all(agent.sessions for agent in agents):
                    await asyncio.sleep(0.02)
            await asyncio.gather(*(agent.stop() for agent in agents))

    cluster = LiveCluster(tmp_path)
    try:
        cluster.start_daemon()
        asyncio.run(come_and_go())
        assert cluster.is_serving()
        said = (cluster.state / "audit.jsonl").read_text()
        assert "127.0.0.1" in said or "ipv4" in said
        assert cluster.kill_daemon(15) == 0
    finally:
        cluster.stop()
