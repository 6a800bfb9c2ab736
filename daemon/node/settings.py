"""What the agent of a node can be told, from a file and from flags. All problems are named at once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from shunter.scheduler.errors import ConfigError, nearest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):([0-9]{1,5})")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Attributes have the names of the flags and of the keys in a file.

    Attributes:
        daemon: Addresses ``HOST:PORT`` of the daemons; the agent finds the one that leads.
        name: Of the node, unique in the cluster.
        state: Folder for everything that must outlive the agent, on a local disk.
        cpus: CPUs to offer; None: as many as the agent may use.
        memory_gib: Memory to offer (GiB); None: all.
        gpus: GPUs to offer; None: those that NVML finds.
        gpu_type: Type of the GPUs; None: as NVML calls the first.
        rack: Where the node stands.
        zone: Where the rack stands.
        run_as: Account that jobs run under; None: the account of the user's own name.
        accounts: Accounts that a job may name (``run_as``) beside its user's own and the one above.
        allow_root: Jobs may run as root.
        token_file: File with the token that the daemon knows the agent by.
        ca: Certificates of those who may sign the daemon's.
        cert: The agent's own certificate.
        key: Its private key.
        sample_s: Seconds between two samples of telemetry; None: as the daemon says.
        stop_jobs: When the agent is told to end, it ends its jobs first.
        log_part_mib: Size of a file of a task's output (MiB).
        log_parts: How many of these are kept for a task.
        keep_days: Output of attempts that have ended, and jobs' own folders, are kept for so long.
        log_level: debug, info, warning or error.
    """

    daemon: tuple[str, ...]
    name: str
    state: Path
    cpus: float | None = None
    memory_gib: float | None = None
    gpus: int | None = None
    gpu_type: str | None = None
    rack: str = ""
    zone: str = ""
    run_as: str | None = None
    accounts: tuple[str, ...] = ()
    allow_root: bool = False
    token_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    sample_s: float | None = None
    stop_jobs: bool = False
    log_part_mib: float = 16.0
    log_parts: int = 4
    keep_days: float = 7.0
    log_level: str = "info"


KEYS = tuple(field.name for field in fields(NodeSettings))
LISTS, PATHS, FLAGS = ("daemon", "accounts"), ("state", "token_file", "ca", "cert", "key"), ("allow_root", "stop_jobs")
TEXTS = ("name", "gpu_type", "rack", "zone", "run_as", "log_level")
LIMITS = {  # least and most
    "cpus": (0.001, 1e6),
    "memory_gib": (0.001, 1e7),
    "gpus": (0, 1024),
    "sample_s": (0.01, 3600.0),
    "log_part_mib": (0.001, 1e6),
    "log_parts": (2, 1000),
    "keep_days": (0.0, 3650.0),
}
WHOLE = ("gpus", "log_parts")


def read_settings(file: Path | None, flags: Mapping[str, Any]) -> NodeSettings:
    """Settings from flags, over those of a file, over the defaults.

    Args:
        file: YAML with the names of the flags as keys; None: there is none.
        flags: What was given on the command line; None and empty lists were not.

    Raises:
        ConfigError: What cannot be used, all of it.
    """
    given = dict(_from_file(file)) if file is not None else {}
    given |= {name: value for name, value in flags.items() if value is not None and value not in ([], ())}
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in KEYS:
            problems.append(f"{name}: there is no such key{nearest(str(name), list(KEYS))}")
            continue
        try:
            values[name] = _value(name, value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    problems += [f"{name}: is needed" for name in ("daemon", "name", "state") if name not in given]
    problems += _together(values)
    if problems:
        raise ConfigError("node: " + "; ".join(problems))
    return NodeSettings(**values)


def _from_file(file: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: {' '.join(str(error).split())}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: expected keys and values, found {type(document).__name__}")
    return {str(name).replace("-", "_"): value for name, value in document.items()}


def _value(name: str, value: Any) -> Any:
    if name in LISTS:
        items = [value] if isinstance(value, str) else value
        if (
            not isinstance(items, list | tuple)
            or not items
            or not all(isinstance(item, str) and item for item in items)
        ):
            raise ValueError(f"expected a list of texts, got {value!r}")
        return tuple(items)
    if name in FLAGS:
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false, got {value!r}")
        return value
    if name in LIMITS:
        return _number(name, value)
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"expected a text, got {value!r}")
    return Path(value) if name in PATHS else str(value)


def _number(name: str, value: Any) -> float | int:
    least, most = LIMITS[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a number, got {value!r}")
    if name in WHOLE and value != int(value):
        raise ValueError(f"expected a whole number, got {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{value!r} is not between {least} and {most}")
    return int(value) if name in WHOLE else float(value)


def _together(values: Mapping[str, Any]) -> list[str]:
    problems = []
    if "name" in values and not NAME.fullmatch(values["name"]):
        problems.append(f"name: {values['name']!r} is not made of letters, digits, '.', '_' and '-' (at most 63)")
    for address in values.get("daemon", ()):
        match = ADDRESS.fullmatch(address)
        if match is None or not 0 < int(match[2]) < 65536:
            problems.append(f"daemon: {address!r} is not HOST:PORT")
    level = values.get("log_level", "info")
    if level not in LOG_LEVELS:
        problems.append(f"log_level: {level!r} is none of {', '.join(LOG_LEVELS)}")
    if ("cert" in values) != ("key" in values):
        problems.append("cert, key: one is of no use without the other")
    if "cert" in values and "ca" not in values:
        problems.append("cert: needs the daemon's ca")
    return problems
