"""Where a daemon on this machine leaves the token for clients of the same user of the operating system.

A daemon that listens on a loopback address writes it when it starts and takes it away when it ends. Clients that were
given no token look here, so that ``shunter submit`` on the same machine needs no option. Nothing heavy is imported.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from shunter.daemon.security.files import read_private


def is_loopback(host: str) -> bool:
    """Whether a host of an address can be reached from this machine only."""
    bare = host.strip("[]")
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def offered_path(address: str) -> Path | None:
    """Where the token for an address lies; None where the address is not on this machine.

    All loopback names of a port share one file: a client that says ``localhost`` means the daemon on ``127.0.0.1``.
    """
    host, _, port = address.rpartition(":")
    if not is_loopback(host) or not port.isdecimal():
        return None
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    folder = Path(runtime) if runtime else Path.home() / ".cache"
    return folder / "shunter" / f"localhost_{int(port)}.token"


def find_token(address: str) -> str:
    """The token that a daemon at this address offers to this user; empty: none.

    Raises:
        ConfigError: There is one that others may read, or that belongs to somebody else.
    """
    path = offered_path(address)
    if path is None or not path.exists():
        return ""
    return read_private(path).decode("ascii", "replace").strip()
