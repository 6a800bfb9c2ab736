"""Job lists of Gen-Parallel-Workloads (DIR-LAB): Helios, Philly, Theta, and SDSC 1995.

Columns ``u_id, user, gpu_num, cpu_num, node_num, interval, run_time, wall_time, new_status``, or for SDSC ``Job_Number,
Interval, Run_Time, Number_of_Allocated_Processors``. ``interval`` is the time since the job before (s), ``wall_time``
the requested time (s, 0 for none). The lists do not name their clusters; what can be told from the columns is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import RawTable, read_table
from shunter.traces.tables import ClusterSpec, Trace, pool

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("u_id", "user", "gpu_num", "cpu_num", "node_num", "interval", "run_time", "wall_time", "new_status")
SDSC_COLUMNS = ("Job_Number", "Interval", "Run_Time", "Number_of_Allocated_Processors")
OUTCOME_OF_STATUS = {"Pass": "completed", "Killed": "killed", "Failed": "failed"}

THETA_CPUS = 4392 * 64
"""Argonne's Theta: 4,392 nodes of one 64-core Xeon Phi (www.alcf.anl.gov/theta)."""

SDSC_PARAGON_CPUS = 400
"""Processors of SDSC's Paragon in the archive's logs of 1995 and 1996 (MaxProcs of SDSC-Par-1995-3.1)."""


def _submits(table: RawTable, column: str) -> pl.Series:
    """Submit times: intervals added up over all rows, so that leaving a row out moves nobody."""
    return table.number(column).fill_null(0.0).cum_sum()


def _read_modern(source: Source) -> Trace:
    import polars as pl

    table = read_table(source)
    table.require(*COLUMNS)
    requested = table.number("wall_time")
    draft = Draft.of(
        table,
        {
            "job_id": table.text("u_id", optional=False),
            "submit_s": _submits(table, "interval"),
            "duration_s": table.number("run_time"),
            "requested_s": requested.set(requested <= 0, None),
            "gpus_total": table.number("gpu_num"),
            "cpus_total": table.number("cpu_num"),
            "nodes": table.number("node_num"),
            "user": table.text("user"),
            "outcome": table.text("new_status").replace_strict(OUTCOME_OF_STATUS, default="completed"),
        },
    )
    draft.drop_never_ran()
    gpus = bool(draft.frame.select((pl.col("gpus_total") > 0).any()).item())
    draft.gangs()
    cluster: ClusterSpec | None = None
    if not gpus:  # an HPC log: one task a node, as its jobs take whole nodes
        per_node = (pl.col("nodes") > 0) & (pl.col("cpus_total") % pl.col("nodes") == 0)
        tasks = pl.when(per_node).then(pl.col("nodes")).otherwise(1.0)
        draft.frame = draft.frame.with_columns(tasks=tasks, cpus=pl.col("cpus_total") / tasks)
        whole_nodes = draft.frame.select((pl.col("cpus") == 64).all()).item()
        cluster = pool(THETA_CPUS) if whole_nodes else None
    return draft.finish(format="genparallel", cluster=cluster, resources=("gpus",) if gpus else ("cpus",))


def _read_sdsc(source: Source) -> Trace:
    import polars as pl

    table = read_table(source)
    table.require(*SDSC_COLUMNS)
    draft = Draft.of(
        table,
        {
            "job_id": table.text("Job_Number", optional=False),
            "submit_s": _submits(table, "Interval"),
            "duration_s": table.number("Run_Time", minimum=-1.0),
            "tasks": table.number("Number_of_Allocated_Processors", whole=True, minimum=-1.0),
            "cpus": 1.0,
        },
    )
    draft.drop_never_ran()
    draft.drop(pl.col("tasks") <= 0, "size not known")
    return draft.finish(format="genparallel", cluster=pool(SDSC_PARAGON_CPUS))


def _read(source: Source) -> Trace:
    return (_read_sdsc if Head.of(source.data).has(*SDSC_COLUMNS) else _read_modern)(source)


def _detect(head: Head) -> bool:
    return head.has(*COLUMNS) or head.has(*SDSC_COLUMNS)


FORMAT = Format("genparallel", "Gen-Parallel-Workloads lists (Helios, Philly, Theta, SDSC-95)", _detect, _read)
