"""Pods and nodes of the ``fgd-openb`` protocol, from the openb lists as they are.

The protocol needs no times, so the resampled lists without any are as good as the recorded one. Pods and nodes are in
order of their names: that is the order in which the authors' simulator shuffles and ranks them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import ConfigError, TraceError
from shunter.scheduler.types import UNITS_PER, IntArray

if TYPE_CHECKING:
    from shunter.traces.readers.table import RawTable
    from shunter.traces.tables import ClusterSpec

MEMORY_UNITS_PER_MIB = UNITS_PER[1] // 1024
WHOLE_GPU_MILLI = 1000
ANY_AMOUNT = 1 << 50
"""Of a resource that the cluster does not state: never a constraint."""

POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class FgdPods:
    """A list of pods, in order of their names.

    Attributes:
        name: Of the list.
        source: File, for messages.
        pod_names: (P,) names.
        shape_idx: (P,) row of the pod's shape.
        cpu_milli: (S,) of a shape.
        memory_kib: (S,)
        gpus: (S,) number of GPUs.
        share_milli: (S,) milli-GPU on each of them; 0 without GPUs.
        models: (S,) GPU models it may use, separated by ``|``; empty for any.
    """

    name: str
    source: str
    pod_names: tuple[str, ...]
    shape_idx: IntArray
    cpu_milli: IntArray
    memory_kib: IntArray
    gpus: IntArray
    share_milli: IntArray
    models: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pod_names)

    @property
    def demand_milli(self) -> IntArray:
        """(P,) milli-GPU that each pod asks for in all."""
        demand: IntArray = (self.gpus * self.share_milli)[self.shape_idx]
        return demand


@dataclass(frozen=True, slots=True)
class FgdNodes:
    """The nodes, in order of their names.

    Attributes:
        name: Of the cluster.
        node_names: (N,) names.
        cpu_milli: (N,)
        memory_kib: (N,)
        gpus: (N,) number of GPUs.
        models: (N,) GPU model; empty without GPUs.
    """

    name: str
    node_names: tuple[str, ...]
    cpu_milli: IntArray
    memory_kib: IntArray
    gpus: IntArray
    models: tuple[str, ...]

    @property
    def gpu_milli(self) -> int:
        """Milli-GPU of the cluster."""
        return int(self.gpus.sum()) * WHOLE_GPU_MILLI


def open_table(path: Path | str, columns: Iterable[str]) -> RawTable:
    """The cells of a list that has these columns."""
    from shunter.traces.compression import read_bytes
    from shunter.traces.readers.base import Source
    from shunter.traces.readers.table import read_table

    table = read_table(Source(Path(path), read_bytes(Path(path))))
    table.require(*columns)
    return table


def load(path: Path | str) -> FgdPods:
    """Pods from an openb list, with or without times.

    Raises:
        TraceError: A column is missing; a cell is no number; a pod asks for a number of GPUs that is not whole, for
            more of a GPU than there is, or for shares of several GPUs.
    """
    import polars as pl

    table = open_table(path, POD_COLUMNS)
    gpus, share = table.number("num_gpu", whole=True), table.number("gpu_milli", whole=True)
    table.flag((gpus == 1) & ((share < 1) | (share > WHOLE_GPU_MILLI)), "gpu_milli", "expected 1 to 1000 of one GPU")
    table.flag((gpus > 1) & (share != WHOLE_GPU_MILLI), "gpu_milli", "expected 1000 on each of several GPUs")
    frame = pl.DataFrame(
        {
            "name": table.text("name", optional=False),
            "cpu": table.number("cpu_milli", whole=True),
            "memory": table.number("memory_mib", whole=True) * MEMORY_UNITS_PER_MIB,
            "gpus": gpus,
            "share": share.set(gpus == 0, 0.0),
            "models": table.text("gpu_spec").fill_null("") if table.has("gpu_spec") else "",
        }
    )
    table.settle()
    frame = frame.sort("name").with_columns(
        models=pl.when(pl.col("gpus") > 0).then(pl.col("models").str.strip_chars("|")).otherwise(pl.lit(""))
    )
    keys = ["cpu", "memory", "gpus", "share", "models"]
    shapes = frame.select(keys).unique(maintain_order=True).with_row_index("shape")
    rows = frame.join(shapes, on=keys, how="left", maintain_order="left")["shape"]
    numbers = {key: shapes[key].cast(pl.Int64).to_numpy() for key in keys[:-1]}
    return FgdPods(
        name=Path(path).name.split(".")[0],
        source=str(path),
        pod_names=tuple(frame["name"]),
        shape_idx=rows.cast(pl.Int64).to_numpy(),
        cpu_milli=numbers["cpu"],
        memory_kib=numbers["memory"],
        gpus=numbers["gpus"],
        share_milli=numbers["share"],
        models=tuple(shapes["models"]),
    )


def is_node_list(path: Path | str) -> bool:
    """Whether there is such a file and it has the columns of a node list."""
    from shunter.traces.compression import read_bytes
    from shunter.traces.readers import openb
    from shunter.traces.readers.base import Head

    return Path(path).is_file() and openb.detect_nodes(Head.of(read_bytes(Path(path))))


def load_nodes(path: Path | str) -> FgdNodes:
    """Nodes from an openb node list.

    Raises:
        TraceError: A column is missing or a cell is no number.
    """
    import polars as pl

    table = open_table(path, NODE_COLUMNS)
    frame = pl.DataFrame(
        {
            "name": table.text("sn", optional=False),
            "cpu": table.number("cpu_milli", whole=True),
            "memory": table.number("memory_mib", whole=True) * MEMORY_UNITS_PER_MIB,
            "gpus": table.number("gpu", whole=True),
            "model": table.text("model").fill_null(""),
        }
    )
    table.settle()
    frame = frame.sort("name")
    return FgdNodes(
        name=Path(path).name.split(".")[0],
        node_names=tuple(frame["name"]),
        cpu_milli=frame["cpu"].cast(pl.Int64).to_numpy(),
        memory_kib=frame["memory"].cast(pl.Int64).to_numpy(),
        gpus=frame["gpus"].cast(pl.Int64).to_numpy(),
        models=tuple(frame["model"]),
    )


def nodes_of(cluster: ClusterSpec) -> FgdNodes:
    """Nodes of a cluster specification, group by group.

    Raises:
        ConfigError: A group has a number of GPUs that is not whole, or no node has a GPU.
    """
    problems = [
        f"groups.{group.name}.gpus: expected a whole number, got {group.gpus:g}"
        for group in cluster.groups
        if (group.gpus or 0) % 1
    ]
    if not any(group.gpus for group in cluster.groups):
        problems.append("groups: no node has a GPU")
    if problems:
        raise ConfigError(f"cluster {cluster.name!r}: " + "; ".join(problems))
    groups = [group for group in cluster.groups for _ in range(group.count)]

    def column(amounts: Iterable[float | None], units: int) -> IntArray:
        return np.array([ANY_AMOUNT if a is None else int(a * units) for a in amounts], dtype=np.int64)

    return FgdNodes(
        name=cluster.name,
        node_names=tuple(f"{g.name}-{i}" if g.count > 1 else g.name for g in cluster.groups for i in range(g.count)),
        cpu_milli=column((group.cpus for group in groups), UNITS_PER[0]),
        memory_kib=column((group.memory_gib for group in groups), UNITS_PER[1]),
        gpus=column((group.gpus or 0 for group in groups), 1),
        models=tuple(group.gpu_type or "" for group in groups),
    )


def may_use(models: str, model: str) -> bool:
    """Whether a pod that names ``models`` may use GPUs of ``model``."""
    wanted = [name for name in models.split("|") if name]
    return not wanted or model in wanted


def refuse_unknown_models(pods: FgdPods, nodes: FgdNodes) -> None:
    """Raise TraceError when a pod names GPU models of which no node has any."""
    have = set(nodes.models)
    bad = {s for s, models in enumerate(pods.models) if models and not any(may_use(models, model) for model in have)}
    if not bad:
        return
    rows = [row for row, shape in enumerate(pods.shape_idx) if int(shape) in bad]
    shown = "; ".join(
        f"{pods.pod_names[row]} asks for {pods.models[pods.shape_idx[row]]!r}" for row in rows[:SHOWN_PROBLEMS]
    )
    more = f"; and {len(rows) - SHOWN_PROBLEMS} more" if len(rows) > SHOWN_PROBLEMS else ""
    known = ", ".join(sorted(name for name in have if name)) or "none"
    raise TraceError(
        f"{pods.source}: column 'gpu_spec': {len(rows)} pods name GPU models that no node of {nodes.name!r} has "
        f"(it has {known}): {shown}{more}"
    )
