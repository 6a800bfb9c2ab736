"""Slurm accounting as printed by ``sacct --parsable2`` (or ``--parsable``), with any set of columns that suffices.

Needed: ``JobID``, ``Submit``, and a run time (``ElapsedRaw``, ``Elapsed``, or ``Start`` and ``End``). Used where there:
``Timelimit``/``TimelimitRaw``, ``AllocTRES``, ``ReqTRES``, ``NNodes``/``AllocNodes``/``ReqNodes``, ``AllocCPUS``/
``NCPUS``/``ReqCPUS``, ``ReqMem``, ``User``, ``Account``, ``Partition``, ``State``, ``Priority``. A good command is::

    sacct --allusers --parsable2 --duplicates --starttime=2024-01-01 --format=JobID,User,Account,Partition,\
    Priority,Submit,Start,End,ElapsedRaw,TimelimitRaw,NNodes,NCPUS,ReqMem,ReqTRES,AllocTRES,State

A job takes what was allocated, which is what it kept from others; a GPU type is a constraint only where it was
requested. A job has one task per node. Source: man sacct, Slurm 23.11.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shunter.scheduler.errors import TraceError
from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.philly_csv import ZONE_NOTE
from shunter.traces.readers.table import RawTable, read_table
from shunter.traces.tables import Trace

if TYPE_CHECKING:
    import polars as pl

UNKNOWN = ("Unknown", "None", "N/A", "INVALID", "None assigned", "(null)")
NO_LIMIT = (*UNKNOWN, "UNLIMITED", "Partition_Limit", "INFINITE", "NOT_SET")
FAILED_STATES = ("FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL")
KILLED_STATES = ("CANCELLED", "TIMEOUT", "PREEMPTED", "DEADLINE", "REQUEUED", "REVOKED", "STOPPED")
WAITING_STATES = ("PENDING", "CONFIGURING", "SPECIAL_EXIT", "RESV_DEL_HOLD", "REQUEUE_HOLD", "REQUEUE_FED")
RUNNING_STATES = ("RUNNING", "COMPLETING", "SUSPENDED", "RESIZING", "SIGNALING", "STAGE_OUT")

CLOCK = r"^(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)$"  # [days-[hours:]]minutes:seconds
GIB_PER = {"K": 1024.0**-2, "M": 1024.0**-1, "G": 1.0, "T": 1024.0, "P": 1024.0**2, "": 1024.0**-1}
"""GiB in one of sacct's memory units; a number without a unit is MiB."""


def _nothing(table: RawTable) -> pl.Series:
    import polars as pl

    return pl.Series([None], dtype=pl.Float64).new_from_index(0, len(table.lines))


def _clock(table: RawTable, column: str, missing: tuple[str, ...]) -> pl.Series:
    """Seconds in cells of the form ``[DD-[HH:]]MM:SS``; other text is a defect."""
    import polars as pl

    cells = table.text(column, missing=missing)
    parts = [cells.str.extract(CLOCK, group).cast(pl.Float64).fill_null(0.0) for group in (1, 2, 3, 4)]
    total = parts[0] * 86400 + parts[1] * 3600 + parts[2] * 60 + parts[3]
    fits = cells.str.contains(CLOCK)
    table.flag(~fits, column, "expected a time such as 1-02:03:04")
    return total.set(~fits.fill_null(False), None)


def _limit(table: RawTable) -> pl.Series:
    """Requested time in s; null for none. ``TimelimitRaw`` is in minutes."""
    if table.has("TimelimitRaw"):
        limit = table.number("TimelimitRaw", scale=60.0, optional=True, missing=NO_LIMIT)
    elif table.has("Timelimit"):
        limit = _clock(table, "Timelimit", NO_LIMIT)
    else:
        return _nothing(table)
    return limit.set((limit <= 0).fill_null(False), None)


def _time(table: RawTable, column: str) -> pl.Series:
    return table.time(column, optional=True, missing=UNKNOWN) if table.has(column) else _nothing(table)


def _run_time(table: RawTable) -> pl.Series:
    if table.has("ElapsedRaw"):
        return table.number("ElapsedRaw", optional=True, missing=UNKNOWN)
    if table.has("Elapsed"):
        return _clock(table, "Elapsed", UNKNOWN)
    if table.has("Start") and table.has("End"):
        return _time(table, "End") - _time(table, "Start")
    raise TraceError(f"{table.source.path}:1: a run time is needed: add ElapsedRaw to sacct's --format")


def _first_number(table: RawTable, *columns: str) -> pl.Series:
    """The first of these columns that the file has, row by row the first that is known and positive."""
    found = _nothing(table)
    for column in columns:
        if table.has(column):
            values = table.number(column, optional=True, missing=UNKNOWN)
            found = found.fill_null(values.set((values <= 0).fill_null(False), None))
    return found


def _tres(table: RawTable, pattern: str) -> pl.Series:
    """The number (with its unit, as text) that follows ``pattern=`` in AllocTRES, else in ReqTRES."""
    import polars as pl

    found = pl.Series([None], dtype=pl.String).new_from_index(0, len(table.lines))
    for column in ("AllocTRES", "ReqTRES"):
        if table.has(column):
            found = found.fill_null(table.text(column).str.extract(rf"(?:^|,){pattern}=([0-9.]+[KMGTP]?)", 1))
    return found


def _gib(amounts: pl.Series) -> pl.Series:
    """Text such as ``16G`` or ``4000M`` as GiB."""
    import polars as pl

    value = amounts.str.extract(r"^([0-9.]+)", 1).cast(pl.Float64, strict=False)
    unit = amounts.str.extract(r"^[0-9.]+([KMGTP]?)", 1)
    return value * unit.replace_strict(GIB_PER, default=None, return_dtype=pl.Float64)


def _gpus(table: RawTable) -> pl.Series:
    """GPUs of the job: ``gres/gpu=n``, or the sum over typed entries where the untyped one is absent."""
    import polars as pl

    total = _tres(table, "gres/gpu").cast(pl.Float64, strict=False)
    for column in ("AllocTRES", "ReqTRES"):
        if table.has(column):
            typed = table.text(column).str.extract_all(r"gres/gpu:[^=,]+=\d+")
            counts = typed.list.eval(pl.element().str.extract(r"=(\d+)$", 1).cast(pl.Float64)).list.sum()
            total = total.fill_null(counts.set((counts <= 0).fill_null(False), None))
    return total.fill_null(0.0)


def _memory(table: RawTable, nodes: pl.Series, cpus: pl.Series) -> pl.Series:
    """Memory of the whole job in GiB; older ``ReqMem`` ends in ``n`` (per node) or ``c`` (per CPU)."""
    memory = _gib(_tres(table, "mem"))
    if table.has("ReqMem"):
        cells = table.text("ReqMem", missing=UNKNOWN)
        amount, per = _gib(cells), cells.str.extract(r"([nc])$", 1).fill_null("")
        amount = amount.zip_with(per != "n", amount * nodes).zip_with(per != "c", amount * cpus)
        memory = memory.fill_null(amount)
    return memory.fill_null(0.0)


def _columns(table: RawTable) -> dict[str, object]:
    """Everything the draft needs, as whole-file columns."""
    import polars as pl

    def optional(column: str) -> pl.Series | None:
        return table.text(column, missing=UNKNOWN) if table.has(column) else None

    nodes = _tres(table, "node").cast(pl.Float64, strict=False)
    nodes = nodes.fill_null(_first_number(table, "AllocNodes", "NNodes", "ReqNodes")).fill_null(1.0)
    cpus = _tres(table, "cpu").cast(pl.Float64, strict=False)
    cpus = cpus.fill_null(_first_number(table, "AllocCPUS", "NCPUS", "ReqCPUS"))
    submit, start = _time(table, "Submit"), _time(table, "Start")
    requested = optional("ReqTRES")
    return {
        "job_id": table.text("JobID", optional=False),
        "submit_s": submit,
        "started": start.is_not_null() if table.has("Start") else True,
        "recorded_wait_s": (start - submit).clip(0.0),
        "duration_s": _run_time(table),
        "requested_s": _limit(table),
        "nodes": nodes,
        "cpus_total": cpus,
        "gpus_total": _gpus(table),
        "memory_total": _memory(table, nodes, cpus.fill_null(1.0)),
        "gpu_type": requested.str.extract(r"gres/gpu:([^=,]+)=", 1) if requested is not None else None,
        "user": optional("User"),
        "group": optional("Account"),
        "queue": optional("Partition"),
        "priority": table.number("Priority", optional=True, missing=UNKNOWN) if table.has("Priority") else 0.0,
        "state": optional("State"),
    }


def _spread(draft: Draft) -> None:
    """One task per node where everything divides evenly; else one per GPU, or one per CPU, rounding CPUs up."""
    import polars as pl

    nodes, cpus, gpus = pl.col("nodes"), pl.col("cpus_total"), pl.col("gpus_total")
    even = (cpus % nodes == 0) & (gpus % nodes == 0)
    by_node = even | ((gpus > 0) & (gpus % nodes == 0))
    tasks = pl.when(by_node).then(nodes).when(gpus > 0).then(gpus).otherwise(cpus)
    uneven = int(draft.frame.select((~even).sum()).item())
    if uneven:
        draft.adjusted["resources spread unevenly over nodes: tasks of equal size, CPUs rounded up"] += uneven
    draft.frame = draft.frame.with_columns(tasks=tasks).with_columns(
        cpus=(cpus / pl.col("tasks")).ceil(),
        gpus=gpus / pl.col("tasks"),
        memory_gib=pl.col("memory_total") / pl.col("tasks"),
    )


def _select_jobs(draft: Draft) -> None:
    """Leave out steps and jobs that never ran, and give every run of a requeued job a name of its own."""
    import polars as pl

    state = pl.col("state").str.extract(r"^(\S+)", 1).str.strip_chars_end("+")
    draft.frame = draft.frame.with_columns(state=state)
    draft.drop(pl.col("job_id").str.contains(".", literal=True), "job step (.batch, .extern, .0 ...)")
    draft.drop(pl.col("state").is_in(WAITING_STATES) | ~pl.col("started"), "never started")
    draft.drop(pl.col("state").is_in(RUNNING_STATES), "still running when the log was taken")
    draft.drop(pl.col("submit_s").is_null(), "submit time unknown")
    draft.drop_never_ran()
    draft.drop(pl.col("cpus_total").is_null() & (pl.col("gpus_total") <= 0), "size not known")
    draft.adjust(pl.col("job_id").str.contains("+", literal=True), "component of a heterogeneous job: a job of its own")
    run = pl.col("job_id").cum_count().over("job_id")
    renamed = pl.col("job_id") + "#" + run.cast(pl.String)
    draft.adjust(run > 1, "further run of a requeued job: a job of its own", job_id=renamed)


def _outcome() -> pl.Expr:
    import polars as pl

    state = pl.col("state")
    return (
        pl.when(state.is_in(FAILED_STATES))
        .then(pl.lit("failed"))
        .when(state.is_in(KILLED_STATES))
        .then(pl.lit("killed"))
        .otherwise(pl.lit("completed"))
    )


def _read(source: Source) -> Trace:
    import polars as pl

    first = source.data[: source.data.find(b"\n")] if b"\n" in source.data else source.data
    if first.rstrip(b"\r").endswith(b"|"):  # --parsable ends every line with a separator
        source = _without_last_separator(source)
    table = read_table(source, separator="|", quoted=False)
    table.require("JobID", "Submit")
    draft = Draft.of(table, _columns(table))
    _select_jobs(draft)
    draft.frame = draft.frame.with_columns(
        outcome=_outcome(), cpus_total=pl.col("cpus_total").fill_null(0.0), nodes=pl.col("nodes").clip(1.0)
    )
    _spread(draft)
    draft.rebase()
    header = {"zone_note": ZONE_NOTE}
    return draft.finish(format="sacct", resources=("cpus", "gpus"), header=header)


def _without_last_separator(source: Source) -> Source:
    data = (source.data.replace(b"\r\n", b"\n").rstrip() + b"\n").replace(b"|\n", b"\n")
    return replace(source, data=data)


def _detect(head: Head) -> bool:
    return head.has("JobID", "Submit", separator="|") or head.has("JobID", "State", separator="|")


FORMAT = Format("sacct", "Slurm accounting, sacct --parsable2", _detect, _read)
