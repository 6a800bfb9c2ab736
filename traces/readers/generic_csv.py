"""Any other table, told by a YAML file which column is what; or the canonical columns under their own names.

The mapping's keys are described by ``shunter.traces.schemas.ColumnMapping`` and in docs/reference/trace-formats.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shunter.scheduler.errors import TraceError
from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.swf import PLAUSIBLE_EPOCH_S
from shunter.traces.readers.table import RawTable, read_table
from shunter.traces.tables import OUTCOMES, Trace, job_schema

if TYPE_CHECKING:
    import polars as pl

    from shunter.traces.schemas import Column, ColumnMapping

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0}
CLOCKS = ("submit_s", "start_s", "end_s", "deadline_s")
TEXTS = ("job_id", "gpu_type", "user", "group", "queue", "model_class", "outcome", "gpu_profile")
WHOLE = ("tasks", "min_gpus", "max_gpus")
NEEDED = ("job_id", "submit_s", "duration_s")
TRUE, FALSE = ("true", "True", "TRUE", "1", "yes"), ("false", "False", "FALSE", "0", "no")


def _value(table: RawTable, name: str, rule: Column) -> pl.Series:
    """One canonical column from the file's."""
    required = name in NEEDED or name == "interval_s"
    missing = tuple(rule.missing)
    if name in TEXTS:
        cells = table.text(rule.column, optional=name != "job_id", missing=missing)
        return cells.replace(rule.values) if rule.values else cells
    if name == "preemptible":
        return _truth(table, rule.column, missing)
    if rule.format is not None:
        return table.time(rule.column, formats=(rule.format,), optional=not required, missing=missing)
    scale = rule.scale if rule.scale is not None else SECONDS[rule.unit or "s"]
    minimum = None if name in ("priority", "deadline_s") else 0.0
    if name in CLOCKS and rule.unit is None and rule.scale is None:
        return table.time(rule.column, optional=not required, missing=missing)
    whole = name in WHOLE
    return table.number(rule.column, scale=scale, minimum=minimum, optional=not required, missing=missing, whole=whole)


def _truth(table: RawTable, column: str, missing: tuple[str, ...]) -> pl.Series:
    """Cells that say yes or no."""
    cells = table.text(column, missing=missing)
    yes, no = cells.is_in(TRUE), cells.is_in(FALSE)
    table.flag(cells.is_not_null() & ~yes & ~no, column, "expected true or false")
    return yes.set(cells.is_null(), None)


def _derive(columns: dict[str, pl.Series | object]) -> dict[str, object]:
    """Canonical times from the start and end of a run and from intervals between submissions."""
    import polars as pl

    interval = columns.pop("interval_s", None)
    if isinstance(interval, pl.Series):
        columns["submit_s"] = interval.fill_null(0.0).cum_sum()
    start, end = columns.pop("start_s", None), columns.pop("end_s", None)
    submit = columns.get("submit_s")
    if isinstance(start, pl.Series) and isinstance(end, pl.Series):
        columns.setdefault("duration_s", end - start)
    if isinstance(start, pl.Series) and isinstance(submit, pl.Series):
        columns.setdefault("recorded_wait_s", (start - submit).clip(0.0))
    return columns


def _draft(source: Source, mapping: ColumnMapping) -> Draft:
    """The file's rows in canonical columns, before any rule is applied."""
    import polars as pl

    table = read_table(source, separator=mapping.separator or _separator(source))
    table.require(*dict.fromkeys(rule.column for rule in mapping.columns.values()))
    columns: dict[str, object] = {name: _value(table, name, rule) for name, rule in mapping.columns.items()}
    columns |= mapping.constants
    if isinstance(outcome := columns.get("outcome"), pl.Series):
        place = mapping.columns["outcome"].column
        table.flag(~outcome.is_in(OUTCOMES), place, f"expected one of {', '.join(OUTCOMES)}")
    draft = Draft.of(table, _derive(columns))
    if "job_id" not in columns:
        draft.number_rows()
    return draft


def _read_mapped(source: Source, mapping: ColumnMapping, *, clean: bool) -> Trace:
    """A trace under a mapping; ``clean`` leaves out jobs that never ran, which a canonical table may hold."""
    import polars as pl

    draft = _draft(source, mapping)
    if clean:
        draft.drop_never_ran()
    columns = draft.frame.columns
    if "gpus_total" in columns:
        draft.gangs()
    elif "cpus_total" in columns:
        draft.frame = draft.frame.with_columns(cpus=pl.col("cpus_total") / _tasks(draft))
    if "requested_s" in columns:
        none = pl.lit(None, dtype=pl.Float64)
        draft.adjust(pl.col("requested_s") <= 0, "requested time unknown (0 or less)", requested_s=none)
    _start(draft, mapping)
    cluster = None
    if mapping.cluster is not None:
        from shunter.traces.clusters import load_cluster

        cluster = load_cluster(mapping.cluster)
    resources = [kind for kind in ("cpus", "gpus") if _uses(draft, kind)] or ["cpus"]
    return draft.finish(format="csv", cluster=cluster, resources=resources, name=mapping.name)


def _uses(draft: Draft, kind: str) -> bool:
    """True when any job takes some of a resource."""
    import polars as pl

    return kind in draft.frame.columns and float(draft.frame[kind].cast(pl.Float64).sum()) > 0


def _tasks(draft: Draft) -> pl.Expr:
    """Tasks of each job, 1 where the mapping does not say."""
    import polars as pl

    return pl.col("tasks") if "tasks" in draft.frame.columns else pl.lit(1)


def _start(draft: Draft, mapping: ColumnMapping) -> None:
    """Count from the first submission where the times were time stamps or Unix seconds."""
    rule = mapping.columns.get("submit_s")
    stamped = rule is not None and rule.format is not None
    first = draft.frame["submit_s"].min() if draft.frame.height else None
    if stamped or (isinstance(first, float) and PLAUSIBLE_EPOCH_S[0] <= first < PLAUSIBLE_EPOCH_S[1]):
        draft.rebase()


def _separator(source: Source) -> str:
    """The most frequent of the usual separators in the first line."""
    first = Head.of(source.data).lines[0]
    return max(",;\t|", key=first.count)


def _read(source: Source) -> Trace:
    from shunter.traces.schemas import canonical_mapping, load_mapping

    if source.mapping is not None:
        return _read_mapped(source, load_mapping(source.mapping), clean=True)
    head = Head.of(source.data)
    names = head.names(_separator(source)) if head.lines else frozenset()
    if not set(NEEDED) <= names:
        have = ", ".join(sorted(names)[:20])
        raise TraceError(
            f"{source.path}:1: columns {', '.join(n for n in NEEDED if n not in names)} missing; give a column "
            f"mapping with --mapping FILE.yaml (the file has: {have})"
        )
    known = [name for name in job_schema() if name in names]
    return _read_mapped(source, canonical_mapping(known), clean=False)


def _detect(head: Head) -> bool:
    """One of this project's own time columns is enough: a file that lacks another is then told which."""
    return head.has("submit_s") or head.has("duration_s")


FORMAT = Format("csv", "any CSV with a column mapping (--mapping), or with the canonical columns", _detect, _read)
