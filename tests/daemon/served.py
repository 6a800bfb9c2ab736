"""A daemon in a process of its own, on a port of its own, with a folder that goes away with it."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

START_LIMIT_S = 120.0


@asynccontextmanager
async def daemon(**settings: Any) -> AsyncIterator[str]:
    """Address of a daemon in another process; with settings that differ from the defaults."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="shunter-daemon-") as folder:
        process = context.Process(target=_serve, args=(theirs, folder, settings))
        process.start()
        try:
            if not await asyncio.to_thread(ours.poll, START_LIMIT_S):
                raise RuntimeError(f"the daemon did not listen within {START_LIMIT_S:g} s")
            yield ours.recv()
        finally:
            process.terminate()
            await asyncio.to_thread(process.join, 20.0)
            if process.is_alive():
                process.kill()


def _serve(pipe: Connection, folder: str, settings: dict[str, Any]) -> None:
    from shunter.daemon.config import checked
    from shunter.daemon.logs import set_up_logs
    from shunter.daemon.planner import ProcessPlanner
    from shunter.daemon.run import Daemon, Parts
    from shunter.daemon.service.access import OpenAccess

    set_up_logs("text")
    parts = Parts(
        config=checked({"listen": "127.0.0.1:0", **settings}, "the settings given"),
        config_path=None,
        overrides={},
        state_dir=Path(folder),
        planner=ProcessPlanner(),
        access=OpenAccess("tester"),
        on_listening=pipe.send,
    )

    async def serve() -> None:
        await Daemon(parts).run()

    asyncio.run(serve())


async def until(holds: Callable[[], bool], limit_s: float) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: It did not hold in time.
    """
    deadline_s = asyncio.get_running_loop().time() + limit_s
    while not holds():
        if asyncio.get_running_loop().time() > deadline_s:
            raise TimeoutError(f"waited longer than {limit_s:g} s")
        await asyncio.sleep(0.01)
