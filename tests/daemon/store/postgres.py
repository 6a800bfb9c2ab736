"""A PostgreSQL cluster of the tests' own, in a temporary folder, on a socket there and a port of loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from sqlalchemy import create_engine

FOLDERS = Path("/usr/lib/postgresql")
WAIT_S = 30.0


def binaries() -> Path | None:
    """Folder of the newest PostgreSQL that is installed."""
    found = [folder / "bin" for folder in FOLDERS.glob("*") if (folder / "bin" / "postgres").exists()]
    return max(found, key=lambda folder: float(folder.parent.name), default=None)


def unavailable() -> str:
    """Why there can be no cluster; empty: there can."""
    if binaries() is None:
        return f"PostgreSQL is not installed below {FOLDERS} (scripts/install-debian-packages)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (extra postgres)"
    if os.getuid() == 0 and _server_user() is None:
        return "PostgreSQL refuses to run as root, and there is no user to run it as"
    return ""


def _server_user() -> str | None:
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    return None


class Cluster:
    """A running server; ``stop`` ends it and removes its folder."""

    def __init__(self) -> None:
        found = binaries()
        assert found is not None
        self._bin = found
        self.folder = Path(tempfile.mkdtemp(prefix="shunter-pg-"))
        self._as_user: list[str] = []
        if os.getuid() == 0:
            name = _server_user()
            assert name is not None
            shutil.chown(self.folder, name)
            self._as_user = ["setpriv", f"--reuid={name}", f"--regid={pwd.getpwnam(name).pw_gid}", "--clear-groups"]
        self.port = _free_port()
        self._used: list[str] = []
        self._free: list[str] = []
        self._server: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [*self._as_user, self._bin / "initdb", "-D", self.folder / "data", "-A", "trust", "-U", "shunter", "-N"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder}
        options |= {"max_connections": 60, "shared_buffers": "32MB", "log_min_messages": "fatal"}
        options |= {"fsync": "off"}  # servers are killed here, machines are not
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        log = (self.folder / "log").open("ab")
        with log:
            self._server = subprocess.Popen(
                [*self._as_user, self._bin / "postgres", "-D", self.folder / "data", *words],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        give_up = time.monotonic() + WAIT_S
        ask = [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ask, check=False).returncode:
            if time.monotonic() > give_up or self._server.poll() is not None:
                raise RuntimeError("PostgreSQL did not start: " + (self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)

    def kill(self) -> None:
        """End the server as a loss of power would; ``start`` recovers."""
        assert self._server is not None
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(WAIT_S)

    def stop(self) -> None:
        """End the server and remove everything."""
        self.kill()
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://shunter@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """URL of an empty database."""
        if self._free:
            name = self._free.pop()
            self._run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            self._run("DROP SCHEMA public CASCADE", name)
            self._run("CREATE SCHEMA public", name)
        else:
            name = f"test{len(self._used)}"  # none is free: all that there are were handed out
            self._run(f"CREATE DATABASE {name}")
        self._used.append(name)
        return self.url(name)

    def recycle(self) -> None:
        """Nobody needs the databases any more: making one takes longer than emptying it."""
        self._free += self._used
        self._used = []

    def _run(self, sql: str, database: str = "postgres") -> None:
        engine = create_engine(self.url(database), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(sql)
        engine.dispose()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
