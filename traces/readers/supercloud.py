"""MIT SuperCloud's Slurm accounting log (Samsi et al., HPEC 2021): Slurm's database columns with numeric states and
trackable resources (``1`` CPUs, ``2`` memory in MB, ``4`` nodes, ``5`` billing, ``1002`` GPUs).

A job has one task per node and takes what was allocated: the request names totals that the scheduler then spread.
Identifiers that lost precision in the source, and so are not unique, are replaced by row numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import RawTable, read_table
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace

if TYPE_CHECKING:
    import polars as pl

COLUMNS = (
    "id_job",
    "id_user",
    "nodes_alloc",
    "cpus_req",
    "partition",
    "state",
    "timelimit",
    "time_submit",
    "time_start",
    "time_end",
    "tres_alloc",
    "tres_req",
)
NO_LIMIT_MIN = 4294967295  # Slurm's INFINITE as an unsigned 32-bit number
OUTCOMES = {3: "completed", 4: "killed", 5: "failed", 6: "killed", 7: "failed", 11: "failed"}
"""Slurm's job states: complete, cancelled, failed, timeout, node failure, out of memory."""

CLUSTER = ClusterSpec(
    name="supercloud",
    groups=(
        NodeGroup(name="xeon-g6", count=224, cpus=40.0, memory_gib=384.0, gpus=2.0, gpu_type="V100"),
        NodeGroup(name="xeon-p8", count=480, cpus=48.0, memory_gib=192.0, gpus=0.0),
    ),
)
"""224 nodes of two V100 and 480 CPU nodes (Samsi et al. 2021, section II)."""


def _resource(table: RawTable, column: str, code: str) -> pl.Series:
    """Amount of one trackable resource; null where the cell does not name it."""
    import polars as pl

    return table.text(column).str.extract(rf"(?:^|,){code}=(\d+)", 1).cast(pl.Float64)


def _identifiers(table: RawTable) -> pl.Series | None:
    """Slurm's job identifiers, or None where they were stored as rounded floats and repeat."""
    cells = table.text("id_job", optional=False)
    return cells if cells.is_unique().all() else None


def _read(source: Source) -> Trace:
    import polars as pl

    table = read_table(source)
    table.require(*COLUMNS)
    nodes = _resource(table, "tres_alloc", "4").fill_null(table.number("nodes_alloc"))
    cpus = _resource(table, "tres_alloc", "1").fill_null(table.number("cpus_req"))
    limit = table.number("timelimit")
    submit, start, end = table.number("time_submit"), table.number("time_start"), table.number("time_end")
    names = _identifiers(table)
    draft = Draft.of(
        table,
        {
            "job_id": names if names is not None else "",
            "submit_s": submit,
            "duration_s": end - start,
            "recorded_wait_s": start - submit,
            "requested_s": limit.set((limit >= NO_LIMIT_MIN) | (limit <= 0), None) * 60.0,
            "tasks": nodes,
            "cpus": cpus / nodes,
            "memory_gib": _resource(table, "tres_alloc", "2").fill_null(0.0) / 1024.0 / nodes,
            "gpus": _resource(table, "tres_alloc", "1002").fill_null(0.0) / nodes,
            "user": table.text("id_user"),
            "group": table.text("job_type") if table.has("job_type") else None,
            "queue": table.text("partition"),
            "priority": table.number("priority", optional=True) if table.has("priority") else 0.0,
            "outcome": table.number("state").replace_strict(OUTCOMES, default="completed", return_dtype=pl.String),
        },
    )
    if names is None:
        draft.number_rows()
        draft.adjusted["identifiers repeat: replaced by row numbers"] = draft.frame.height
    draft.drop(pl.col("duration_s").is_null() | (pl.col("recorded_wait_s") < 0), "never started")
    draft.drop_never_ran()
    draft.drop((pl.col("tasks") < 1).fill_null(True), "size not known")
    uneven = pl.col("gpus") != pl.col("gpus").ceil()
    draft.adjust(uneven, "GPUs spread unevenly: rounded up per node", gpus=pl.col("gpus").ceil())
    draft.rebase()
    return draft.finish(format="supercloud", cluster=CLUSTER)


def _detect(head: Head) -> bool:
    return head.has(*COLUMNS)


FORMAT = Format("supercloud", "MIT SuperCloud Slurm log", _detect, _read)
