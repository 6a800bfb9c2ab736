"""Task events of Google's cluster trace of 2011 (ClusterData2011_2): 13 columns without a heading, times in µs.

One task (job identifier, task index) becomes one job. Its run time is the sum over its attempts (from a schedule event
to the next evict, fail, finish, kill or lost event); its outcome is the last of these. Tasks whose submission or last
end lies outside the file are left out and counted. CPU and memory are shares of the largest machine, in the jobs and
in the cluster alike. Source: Reiss, Wilkes & Hellerstein, format + schema document, 2011 (rev. 2014).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import read_table
from shunter.traces.tables import Cleaning, ClusterSpec, NodeGroup, Trace

if TYPE_CHECKING:
    import polars as pl

COLUMNS = (
    "time",
    "missing_info",
    "job_id",
    "task_index",
    "machine_id",
    "event",
    "user",
    "scheduling_class",
    "priority",
    "cpu_request",
    "memory_request",
    "disk_request",
    "different_machines",
)
SUBMIT, SCHEDULE, EVICT, FAIL, FINISH, KILL, LOST = range(7)
LAST_EVENT = 8
END_EVENTS = (EVICT, FAIL, FINISH, KILL, LOST)
OUTCOMES = {FINISH: "completed", FAIL: "failed", KILL: "killed", EVICT: "killed", LOST: "failed"}
US = 1e-6
AFTER_THE_TRACE_US = float(2**63 - 1)
"""Time stamp of what happened after the end of the observation."""

MACHINES = (
    (6732, 0.50, 0.50),
    (3863, 0.50, 0.25),
    (1001, 0.50, 0.75),
    (795, 1.00, 1.00),
    (126, 0.25, 0.25),
    (52, 0.50, 0.12),
    (5, 0.50, 0.03),
    (5, 0.50, 0.97),
    (3, 1.00, 0.50),
    (1, 0.50, 0.06),
)
"""Machines by (number, CPUs, memory), normalised (Reiss et al., SoCC 2012, table 1)."""

CLUSTER = ClusterSpec(
    name="google-2011",
    groups=tuple(
        NodeGroup(name=f"machine-{i}", count=count, cpus=cpus, memory_gib=memory)
        for i, (count, cpus, memory) in enumerate(MACHINES)
    ),
)


def _tasks(events: pl.DataFrame) -> pl.DataFrame:
    """One row a task from its events in time order."""
    import polars as pl

    is_start, is_end = pl.col("event") == SCHEDULE, pl.col("event").is_in(END_EVENTS)
    task = ["job", "index"]
    attempts = events.filter(is_start | is_end).with_columns(
        started=pl.when(is_start).then(pl.col("time")).forward_fill().over(task),
        previous=pl.col("event").shift(1).over(task),
    )
    # Only an end that directly follows a start closes an attempt: a kill of a waiting task has no run time.
    closed = is_end & (pl.col("previous") == SCHEDULE)
    runs = attempts.group_by(task, maintain_order=True).agg(
        duration_s=(pl.col("time") - pl.col("started")).filter(closed).sum() * US,
        attempts=closed.sum(),
        first_start=pl.col("time").filter(is_start).first(),
        last=pl.col("event").last(),
    )
    known = events.group_by(task, maintain_order=True).agg(
        line=pl.col("line").first(),
        submit=pl.col("time").filter(pl.col("event") == SUBMIT).first(),
        cpus=pl.col("cpus").drop_nulls().first(),
        memory_gib=pl.col("memory_gib").drop_nulls().first(),
        user=pl.col("user").drop_nulls().first(),
        queue=pl.col("queue").first(),
        priority=pl.col("priority").drop_nulls().first(),
    )
    return known.join(runs, on=task, how="left", maintain_order="left")


def _read(source: Source) -> Trace:
    import polars as pl

    table = read_table(source, names=COLUMNS, quoted=False)
    kind = table.number("event", whole=True)
    table.flag(kind > LAST_EVENT, "event", f"expected an event from 0 to {LAST_EVENT}")
    events = pl.DataFrame(
        {
            "line": table.lines,
            "time": table.number("time"),
            "job": table.text("job_id", optional=False),
            "index": table.text("task_index", optional=False),
            "event": kind.set((kind > LAST_EVENT).fill_null(False), None).cast(pl.Int64),
            "user": table.text("user"),
            "queue": table.text("scheduling_class"),
            "priority": table.number("priority", optional=True),
            "cpus": table.number("cpu_request", optional=True),
            "memory_gib": table.number("memory_request", optional=True),
        }
    )
    keep, cleaning = table.settle()
    observed = pl.col("time") < AFTER_THE_TRACE_US
    tasks = _tasks(events.filter(keep).filter(observed).sort("time", maintain_order=True))
    counts = Cleaning(tasks.height, cleaning.dropped, bad_rows=cleaning.bad_rows)
    draft = Draft(source, tasks, counts)
    draft.drop(pl.col("submit").is_null() | (pl.col("submit") <= 0), "submitted before the trace begins")
    draft.drop(pl.col("first_start").is_null(), "never scheduled in the file")
    draft.drop(pl.col("last").is_in([SCHEDULE]), "still running at the end of the file")
    draft.drop_never_ran()
    draft.adjust(pl.col("attempts") > 1, "several attempts joined: run times added up")
    unknown = pl.col("cpus").is_null() | pl.col("memory_gib").is_null()
    draft.adjust(unknown, "resource request unknown: taken as 0", cpus=pl.col("cpus").fill_null(0.0))
    draft.frame = draft.frame.with_columns(
        job_id=pl.col("job") + "." + pl.col("index"),
        group=pl.col("job"),
        submit_s=pl.col("submit") * US,
        recorded_wait_s=(pl.col("first_start") - pl.col("submit")) * US,
        outcome=pl.col("last").replace_strict(OUTCOMES, default="completed", return_dtype=pl.String),
    )
    header = {"units_note": "CPU and memory are shares of the largest machine, not cores and GiB"}
    return draft.finish(format="google-2011-tasks", cluster=CLUSTER, header=header)


def _detect(head: Head) -> bool:
    row = re.compile(r"\d+,\d*,\d+,\d+,\d*,[0-8],[^,]*,[0-3]?,\d*,[^,]*,[^,]*,[^,]*,[01]?")
    return bool(head.lines) and all(row.fullmatch(line) for line in head.lines[:5])


FORMAT = Format("google-2011-tasks", "Google cluster trace 2011, task events", _detect, _read)
