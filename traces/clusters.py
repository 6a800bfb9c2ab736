"""Cluster specifications as a person writes them: a short text, a ready cluster's name, a YAML file, or a node list.

Accepted texts: ``128`` or ``cpus=128`` (a pool of CPUs), ``64gpus`` or ``gpus=64`` (a pool of GPUs), ``1000x8`` or
``1000x8gpus`` (nodes × GPUs of each), ``100x64cpus`` (nodes × CPUs of each), a name in ``specs.READY``. Anything else
is a file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shunter.scheduler.errors import ConfigError, nearest
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup, Quota, pool
from shunter.traces.compression import read_bytes, write_atomically
from shunter.traces.specs import READY, ready_path

EXAMPLES = "128, 64gpus, 1000x8gpus, 100x64cpus, a YAML file or an openb node list"

_POOL = re.compile(r"(?:(cpus|gpus)\s*=\s*)?(\d+)\s*(cpus?|gpus?)?")
_NODES = re.compile(r"(\d+)\s*[x×]\s*(\d+)\s*(cpus?|gpus?)?")


def load_cluster(text: str | Path) -> ClusterSpec:
    """A cluster from a short text, a ready cluster's name, a YAML file or a node list; see the module's text.

    Raises:
        ConfigError: Not a specification; lists every problem of a file with its path.
        TraceError: A node list with a bad cell.
    """
    name = str(text).strip().lower()
    spec = _from_text(name)
    if spec is not None:
        return spec
    if name in READY:
        return _from_file(ready_path(name))
    path = Path(text)
    if not path.exists():
        hint = nearest(name, list(READY))
        if "did you mean" not in hint:
            hint = f"; expected {EXAMPLES}"
        raise ConfigError(f"cluster {str(text)!r} is no size, no ready cluster ({', '.join(READY)}) and no file{hint}")
    if path.is_dir():
        raise ConfigError(f"cluster {str(text)!r} is a folder; expected {EXAMPLES}")
    return _from_file(path)


def _from_text(text: str) -> ClusterSpec | None:
    """A cluster from a short text; None when the text is no size, so that it may be a file's name."""
    if found := _POOL.fullmatch(text):
        before, size, after = found.groups()
        kind = before or _plural(after) or "cpus"
        if before and after and before != _plural(after):
            raise ConfigError(f"cluster {text!r} names two resources; expected {EXAMPLES}")
        return pool(_positive(text, size), resource=kind)
    if found := _NODES.fullmatch(text):
        count, amount, unit = found.groups()
        kind = _plural(unit) or "gpus"
        amounts: dict[str, Any] = {kind: float(_positive(text, amount))}
        group = NodeGroup(name="node", count=_positive(text, count), **amounts)
        return ClusterSpec(name=f"{count}x{amount} {kind}", groups=(group,))
    return None


def _plural(unit: str | None) -> str | None:
    return f"{unit.removesuffix('s')}s" if unit else None


def _positive(text: str, digits: str) -> int:
    if int(digits) < 1:
        raise ConfigError(f"cluster {text!r} has nothing to run on; expected a number above 0")
    return int(digits)


def _from_file(path: Path) -> ClusterSpec:
    """A cluster from a YAML file or a node list, told apart by the first line."""
    from shunter.traces.readers import openb
    from shunter.traces.readers.base import Head, Source

    data = read_bytes(path)
    if openb.detect_nodes(Head.of(data)):
        return openb.read_nodes(Source(path, data))
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise ConfigError(f"{path}: no cluster file; expected {EXAMPLES}")
    from shunter.traces.schemas import ClusterFile, load_yaml

    content = load_yaml(path, ClusterFile)
    try:
        return content.spec(default_name=path.stem)
    except ConfigError as problem:
        raise ConfigError(f"{path}: {problem}") from None


def save_cluster(spec: ClusterSpec, path: Path) -> None:
    """Write a specification as YAML that ``load_cluster`` reads back; what has its default value is left out.

    Raises:
        OutputError: The file cannot be written.
    """
    import yaml

    content = {"name": spec.name, "kill_at_limit": spec.kill_at_limit} | _changed(spec)
    write_atomically(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


def _changed(part: NodeGroup | GpuType | Quota | ClusterSpec) -> dict[str, Any]:
    """The fields of a part of which the value is not the default; parts within it likewise."""
    kept: dict[str, Any] = {}
    for entry in dataclasses.fields(part):
        value, default = getattr(part, entry.name), entry.default
        if entry.default_factory is not dataclasses.MISSING:
            default = entry.default_factory()
        if value != default:
            kept[entry.name] = _plain(value)
    return kept


def _plain(value: Any) -> Any:
    """A field's value as YAML has it."""
    if isinstance(value, NodeGroup | GpuType | Quota):
        return _changed(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
