"""Alibaba's GPU-sharing cluster of 2023 (openb): pods, and the nodes they ran on.

Pods: ``name, cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec, qos, pod_phase, creation_time, deletion_time,
scheduled_time`` (s). A pod with one GPU may take a share of it (``gpu_milli``). A pod's run time is deletion minus
scheduling; one that was never scheduled is left out. The resampled lists without times are no replayable trace.
Nodes: ``sn, cpu_milli, memory_mib, gpu, model``. Source: Weng et al., USENIX ATC 2023; alibaba/clusterdata.
"""

from __future__ import annotations

from pathlib import Path

from shunter.scheduler.errors import TraceError
from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import read_table
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, pool

POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
TIME_COLUMNS = ("creation_time", "deletion_time", "scheduled_time")
NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
OPENB_GPUS = 6212
"""GPUs of the 1,213 GPU nodes (Weng et al. 2023, section 2)."""

OUTCOME_OF_PHASE = {"Running": "completed", "Succeeded": "completed", "Failed": "failed", "Pending": "killed"}
"""A pod that was deleted while it ran is a service that was no longer needed."""


def _read(source: Source) -> Trace:
    import polars as pl

    table = read_table(source)
    table.require(*POD_COLUMNS)
    if not all(table.has(name) for name in TIME_COLUMNS):
        raise TraceError(
            f"{source.path}:1: a list of pod sizes without times ({', '.join(TIME_COLUMNS)}), "
            "which cannot be replayed; the openb_pod_list_default list has them"
        )
    submit = table.time("creation_time")
    scheduled = table.time("scheduled_time", optional=True)
    gpus, share = table.number("num_gpu", whole=True), table.number("gpu_milli") / 1000.0
    draft = Draft.of(
        table,
        {
            "job_id": table.text("name", optional=False),
            "submit_s": submit,
            "duration_s": table.time("deletion_time", optional=True) - scheduled,
            "recorded_wait_s": scheduled - submit,
            "cpus_total": table.number("cpu_milli") / 1000.0,
            "memory_gib": table.number("memory_mib") / 1024.0,
            "gpus_total": gpus.zip_with(gpus != 1, share),
            "gpu_type": table.text("gpu_spec") if table.has("gpu_spec") else None,
            "queue": table.text("qos") if table.has("qos") else None,
            "outcome": table.text("pod_phase").replace_strict(OUTCOME_OF_PHASE, default="completed")
            if table.has("pod_phase")
            else "completed",
        },
    )
    draft.drop(pl.col("recorded_wait_s").is_null(), "never scheduled")
    draft.drop(pl.col("duration_s").is_null(), "no deletion time: still running at the end")
    draft.drop_never_ran()
    draft.gangs()
    draft.frame = draft.frame.with_columns(memory_gib=pl.col("memory_gib") / pl.col("tasks"))
    header: dict[str, str] = {}
    if source.cluster is None:
        header["cluster_note"] = "a pool of the documented GPUs; give the node list as cluster for placement by node"
    return draft.finish(format="openb", cluster=pool(OPENB_GPUS, resource="gpus", name="openb"), header=header)


def read_nodes(source: Source) -> ClusterSpec:
    """A cluster from a node list; equal nodes form one group, in order of first appearance.

    Raises:
        TraceError: A column is missing or a cell is no number.
    """
    import polars as pl

    table = read_table(source)
    table.require(*NODE_COLUMNS)
    frame = pl.DataFrame(
        {
            "cpus": table.number("cpu_milli") / 1000.0,
            "memory_gib": table.number("memory_mib") / 1024.0,
            "gpus": table.number("gpu"),
            "gpu_type": table.text("model"),
        }
    )
    keep, _ = table.settle()
    counted = frame.filter(keep).group_by(pl.all(), maintain_order=True).len("count")
    groups = tuple(
        NodeGroup(
            name=f"{row['gpu_type'] or 'cpu'}-{i}",
            count=row["count"],
            cpus=row["cpus"],
            memory_gib=row["memory_gib"],
            gpus=row["gpus"],
            gpu_type=row["gpu_type"],
        )
        for i, row in enumerate(counted.iter_rows(named=True))
    )
    return ClusterSpec(name=Path(source.path).name.split(".")[0], groups=groups)


def detect_nodes(head: Head) -> bool:
    """True for a node list."""
    return head.has(*NODE_COLUMNS)


def _detect(head: Head) -> bool:
    return head.has(*POD_COLUMNS)


FORMAT = Format("openb", "Alibaba openb 2023 pods (GPU sharing)", _detect, _read)
