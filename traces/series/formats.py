"""The published load series that can be read, each told by its heading. Units are those of ``LoadSeries``.

Time stamps without a zone are read as they stand, on the source's own clock. Cells that are empty or ``nan`` are not
measured; anything else that is no finite number is a bad row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shunter.scheduler.errors import TraceError
from shunter.traces.compression import split_name
from shunter.traces.readers.base import Head, Source
from shunter.traces.readers.table import RawTable, read_table
from shunter.traces.series import native
from shunter.traces.series.base import NODE, STAMPS, TIME, Samples, SeriesFormat, samples, value

if TYPE_CHECKING:
    import polars as pl

HOUR_S = 3600.0
PERCENT = 0.01
KIB_GIB = 1.0 / 2**20
BYTE_GIB = 1.0 / 2**30

VENUS = ("time", "submit_job_all", "start_job_all", "end_job_all", "start_gpu_num", "end_gpu_num")
EARTH_FIRST = ("gpu_utilization", "running_gpu_num", "pending_gpu_num", "running_job_num", "pending_job_num")
GENAI = ("timestamp_anon", "value", "container_ip")
BITBRAINS = ("id", "timestamp", "cpu_count", "cpu_usage")
BITBRAINS_STEP_S, DURATION = 300.0, "duration"
CARBON = ("timestamp", "carbon_intensity")
SUPERCLOUD = ("Step", "Node", "EpochTime", "CPUUtilization", "RSS", "ReadMB", "WriteMB")

GENAI_KINDS: Mapping[str, tuple[str, str, float]] = {
    "gpu_duty_cycle": ("gpu_duty_cycle", "ratio", PERCENT),
    "gpu_memory_used_bytes": ("gpu_memory_used", "gib", BYTE_GIB),
    "queue_size": ("queue_size", "count", 1.0),
    "queue_rt": ("queue_rt", "s", 1e-3),
    "qps": ("qps", "requests/s", 1.0),
    "latency": ("latency", "s", 1e-3),
}
"""Part of the file's name → feature, unit and factor: the headings of these files are all the same."""


def _unit(feature: str) -> str:
    """Unit of a column of the Helios tables, told by its name."""
    return "ratio" if feature == "gpu_utilization" else "gpus" if "gpu_num" in feature else "jobs"


def _venus(source: Source) -> Samples:
    table = read_table(source)
    table.require(*VENUS)
    features = [name for name in table.frame.columns if name != "time"]
    columns = {name: value(table, name) for name in features}
    time = table.time("time", formats=STAMPS)
    node = (re.match(r"[A-Za-z]+", split_name(source.path)[0]) or ["venus"])[0].lower()
    units = {name: _unit(name) for name in features} | {"running_gpus": "gpus", "running_jobs": "jobs"}
    return samples(table, time, node, columns, units)


def _running(frame: pl.DataFrame) -> tuple[pl.DataFrame, Mapping[str, Any]]:
    """What runs at the end of each step, from starts minus ends since the first row.

    What ran before the first row is not told. It was at least what takes the sum's least value to 0, and that is what
    is taken: a constant, noted as ``running_before``. (Venus 2020-04 to 2020-07: 765 GPUs, and then at most 1,027 run
    at once, of 1,064 that there are.)
    """
    import polars as pl

    frame = frame.unique((TIME, NODE), keep="first", maintain_order=True).sort(NODE, TIME, maintain_order=True)
    pairs = {"running_gpus": ("start_gpu_num", "end_gpu_num"), "running_jobs": ("start_job_all", "end_job_all")}
    sums = {
        name: (pl.col(start) - pl.col(end)).fill_nan(0.0).fill_null(0.0).cum_sum().over(NODE)
        for name, (start, end) in pairs.items()
    }
    lifted = frame.with_columns(**sums)
    before = {name: -min(0.0, float(lifted[name].min() or 0.0)) for name in pairs}  # type: ignore[arg-type]
    lifted = lifted.with_columns(pl.col(name) + before[name] for name in pairs)
    others = [name for name in frame.columns if name not in (TIME, NODE)]
    return lifted.select(TIME, NODE, *pairs, *others), {"running_before": before}


def _earth(source: Source) -> Samples:
    table = read_table(source)
    table.require("time", *EARTH_FIRST)
    features = [*EARTH_FIRST, *(name for name in table.frame.columns if name not in ("time", *EARTH_FIRST))]
    columns = {name: value(table, name) for name in features}
    time = table.time("time", formats=STAMPS)
    return samples(table, time, virtual_cluster(source.path), columns, {name: _unit(name) for name in features})


def virtual_cluster(path: Path) -> str:
    """The virtual cluster in a file's name (``earth_sequence_vc3sl_2020-05``) or, as published, its folder's name."""
    stem = split_name(path)[0]
    for text in (stem, path.absolute().parent.name):
        found = re.search(r"(?:^|[_-])(vc[A-Za-z0-9]+)(?=[_.-]|$)", text)
        if found:
            return found[1]
    return stem


def _philly(source: Source) -> Samples:
    table = read_table(source)
    table.require("time", "active", "total")
    columns = {name: value(table, name) for name in ("active", "total")}
    return samples(table, table.time("time", formats=STAMPS), "philly", columns, dict.fromkeys(columns, "nodes"))


def _spot(source: Source) -> Samples:
    table = read_table(source)
    table.require("hour", "gpus_active_requested")
    units = {"gpus_active_requested": "gpus", "jobs_active": "jobs", "capacity_gpus": "gpus"}
    units |= {"demand_capacity_ratio": "ratio"}
    columns = {name: value(table, name) for name in units if table.has(name)}
    return samples(table, _hours(table, "hour"), "spot", columns, units, dated=False)


def _spot_models(source: Source) -> Samples:
    """One column a GPU model becomes one node a model."""
    import polars as pl

    table = read_table(source)
    models = [name for name in table.frame.columns if name != "hour"]
    if not models:
        raise TraceError(f"{source.path}:1: expected a column for each GPU model beside 'hour'")
    columns = {name: value(table, name) for name in models}
    wide = samples(table, _hours(table, "hour"), "", columns, {}, dated=False)
    long = wide.frame.drop(NODE).unpivot(index=TIME, variable_name=NODE, value_name="gpus_active_requested")
    frame = long.select(TIME, NODE, pl.col("gpus_active_requested"))
    return Samples(frame, {"gpus_active_requested": "gpus"}, wide.facts, dated=False)


def _spot_summary(source: Source) -> Samples:
    table = read_table(source)
    units = {"gpu_demand": "gpus", "jobs": "jobs", "gpu_seconds": "gpu-s"}
    table.require("submit_hour", *units)
    columns = {name: value(table, name) for name in units}
    return samples(table, _hours(table, "submit_hour"), "spot", columns, units, dated=False)


def _hours(table: RawTable, column: str) -> pl.Series:
    """Hours since a start that is not told, in seconds."""
    return table.number(column, scale=HOUR_S)


def _genai(source: Source) -> Samples:
    """Samples of one quantity by container; rows without a container are the service's."""
    import polars as pl

    table = read_table(source)
    table.require(*GENAI)
    stem = split_name(source.path)[0]
    named = (known for part, known in GENAI_KINDS.items() if part in stem)
    feature, unit, scale = next(named, (re.sub(r"(_data)?(_raw)?(_anon)?(_part\d+)?$", "", stem) or "value", "", 1.0))
    columns = {feature: value(table, "value", scale)}
    node = table.text("container_ip").fill_null("service")
    time = table.number("timestamp_anon")
    if table.has("request_type"):
        kind = table.text("request_type").fill_null("")
        node = pl.select(pl.when(node == "service").then(kind).otherwise(node)).to_series()
    # The dates were moved by an amount that is not told, so hours and weekdays are not to be relied on.
    return samples(table, time, node, columns, {feature: unit}, dated=False)


def _bitbrains(source: Source) -> Samples:
    """A row of OpenDC's files is a run of samples that were equal: ``duration`` says how long, up to the row's time."""
    table = read_table(source)
    table.require(*BITBRAINS)
    columns = {name: value(table, name) for name in ("cpu_usage", "cpu_count")}
    if runs := table.has(DURATION):
        columns[DURATION] = table.number(DURATION, scale=1e-3)
    node = table.text("id", optional=False)
    units = {"cpu_usage": "mhz", "cpu_count": "cpus"}
    found = samples(table, table.time("timestamp", formats=STAMPS), node, columns, units)
    return replace(found, frame=_unrolled(found.frame)) if runs else found


def _unrolled(frame: pl.DataFrame) -> pl.DataFrame:
    """As many rows as each stands for, evenly up to its time; none before the file's first time."""
    import polars as pl

    steps = (pl.col(DURATION) / BITBRAINS_STEP_S).round().clip(1.0)
    since = ((pl.col(TIME) - pl.col(TIME).min()) / BITBRAINS_STEP_S).floor() + 1.0
    rows = frame.with_columns(
        pl.int_ranges(1 - pl.min_horizontal(steps, since).cast(pl.Int64), 1).alias("back"),
        (pl.col(DURATION) / steps).alias("apart"),
    ).explode("back")
    return rows.with_columns(pl.col(TIME) + pl.col("back") * pl.col("apart")).drop(DURATION, "back", "apart")


def _marenostrum(source: Source) -> Samples:
    """No heading. The unit is not documented; the range is that of the machine's 48,896 cores."""
    table = read_table(source, names=("time", "busy_cores"))
    columns = {"busy_cores": value(table, "busy_cores")}
    return samples(table, table.time("time", formats=STAMPS), "marenostrum3", columns, {"busy_cores": "cpus"})


def _supercloud(source: Source) -> Samples:
    """The steps of a job run beside each other, so a node's load is their sum. 100 % is one core."""
    import polars as pl

    table = read_table(source)
    table.require(*SUPERCLOUD)
    scales = {"cpu_utilization": ("CPUUtilization", PERCENT), "rss": ("RSS", KIB_GIB)}
    scales |= {"read_mb": ("ReadMB", 1.0), "write_mb": ("WriteMB", 1.0)}
    columns = {name: value(table, column, scale) for name, (column, scale) in scales.items()}
    columns["step"] = table.text("Step", optional=False)
    units = {"cpu_utilization": "cpus", "rss": "gib", "read_mb": "mb", "write_mb": "mb"}
    found = samples(table, table.number("EpochTime"), table.text("Node", optional=False), columns, units)
    steps = found.frame.group_by(TIME, NODE, "step", maintain_order=True).agg(pl.col(*scales).mean())
    known = [pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name) for name in scales]
    frame = steps.group_by(TIME, NODE, maintain_order=True).agg(known)
    return Samples(frame, units, found.facts)


def _carbon(source: Source) -> Samples:
    """The carbon intensity of one grid's electricity."""
    table = read_table(source)
    table.require(*CARBON)
    columns = {"carbon_intensity": value(table, "carbon_intensity")}
    return samples(table, table.time("timestamp", formats=STAMPS), "grid", columns, {"carbon_intensity": "g/kWh"})


_STAMPED_NUMBER = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?,\s*([-+0-9.eE]+|nan|NaN)?\s*$")


def _is_marenostrum(head: Head) -> bool:
    return bool(head.lines) and all(_STAMPED_NUMBER.match(line) for line in head.lines[:5])


def _is_philly(head: Head) -> bool:
    return head.names() == {"time", "active", "total"}


def _is_spot_models(head: Head) -> bool:
    return bool(head.lines) and head.lines[0].startswith("hour,") and not head.has("gpus_active_requested")


FORMATS: tuple[SeriesFormat, ...] = (
    SeriesFormat("series-parquet", "this project's own load series", native.detect, native.read),
    SeriesFormat(
        "helios-throughput",
        "Helios: submissions, starts and ends per 10 min",
        lambda head: head.has(*VENUS),
        _venus,
        _running,
    ),
    SeriesFormat(
        "helios-sequence",
        "Helios: use and queue of a virtual cluster per minute",
        lambda head: head.has("time", *EARTH_FIRST),
        _earth,
    ),
    SeriesFormat("philly-nodes", "Philly: active and total nodes per minute", _is_philly, _philly),
    SeriesFormat(
        "spot-hourly",
        "Alibaba 2026 spot: GPUs asked for by active jobs per hour",
        lambda head: head.has("hour", "gpus_active_requested"),
        _spot,
    ),
    SeriesFormat(
        "spot-models", "Alibaba 2026 spot: GPUs asked for per hour and GPU model", _is_spot_models, _spot_models
    ),
    SeriesFormat(
        "spot-submissions",
        "Alibaba 2026 spot: submissions per hour",
        lambda head: head.has("submit_hour", "jobs", "gpu_seconds", "gpu_demand"),
        _spot_summary,
    ),
    SeriesFormat("genai-containers", "Alibaba 2026 GenAI: samples by container", lambda head: head.has(*GENAI), _genai),
    SeriesFormat(
        "bitbrains", "Bitbrains (GWA-T-12): CPU use of VMs per 5 min", lambda head: head.has(*BITBRAINS), _bitbrains
    ),
    SeriesFormat(
        "supercloud-cpu", "MIT SuperCloud: CPU use of a job per 10 s", lambda head: head.has(*SUPERCLOUD), _supercloud
    ),
    SeriesFormat(
        "carbon-intensity", "carbon intensity of a grid, g/kWh", lambda head: head.names() == set(CARBON), _carbon
    ),
    SeriesFormat("marenostrum", "MareNostrum 3: time and load, no heading", _is_marenostrum, _marenostrum),
    SeriesFormat(
        "series-csv", "time_s, node (optional) and a column for each feature", native.detect_csv, native.read_csv
    ),
)
