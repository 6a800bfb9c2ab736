"""Gavel's traces (Narayanan et al., OSDI 2020): tab-separated without a heading, in two forms. With 7 fields: job type,
command, steps argument, needs data, total steps, arrival time (s), scale factor (GPUs). With 10: job type, command,
working directory, steps argument, needs data, total steps, scale factor, priority, service level, arrival time.

A trace gives steps, not durations. The duration is total steps / (steps/s of that job type on that many V100), from
the packaged throughput table. Where it has no measurement of a gang size, the rate is extrapolated (see
``Throughputs.rate``) and the row is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shunter.scheduler.errors import TraceError
from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import RawTable, read_table
from shunter.traces.tables import Trace
from shunter.traces.throughputs import packaged_throughputs

if TYPE_CHECKING:
    import polars as pl

SIMULATED = ("job_type", "command", "steps_argument", "needs_data_dir", "total_steps", "arrival", "scale_factor")
PHYSICAL = (
    "job_type",
    "command",
    "working_directory",
    "steps_argument",
    "needs_data_dir",
    "total_steps",
    "scale_factor",
    "priority",
    "slo",
    "arrival",
)
FORMS = {len(names): names for names in (SIMULATED, PHYSICAL)}
EXTRAPOLATED = "no throughput was measured on that many GPUs: extrapolated"


def _read(source: Source) -> Trace:
    import polars as pl

    names = _form(Head.of(source.data))
    if names is None:
        raise TraceError(f"{source.path}:1: expected Gavel's 7 or 10 tab-separated fields")
    table = read_table(source, separator="\t", names=names, quoted=False)
    duration_s, extrapolated = _durations(table)
    draft = Draft.of(
        table,
        {
            "submit_s": table.number("arrival"),
            "duration_s": duration_s,
            "extrapolated": extrapolated,
            "gpus_total": table.number("scale_factor", whole=True),
            "model_class": table.text("job_type"),
            "priority": table.number("priority", minimum=None) if table.has("priority") else 0.0,
        },
    )
    draft.number_rows()
    draft.adjust(pl.col("extrapolated"), EXTRAPOLATED, duration_s=pl.col("duration_s"))
    draft.drop_never_ran()
    draft.gangs()
    return draft.finish(format="gavel", header={"reference_gpu": "v100"})


def _durations(table: RawTable) -> tuple[pl.Series, pl.Series]:
    """Run times on V100 in seconds, and whether their rate was extrapolated; unknown job types are noted as bad."""
    import polars as pl

    measured = packaged_throughputs("gavel")
    job_type = table.text("job_type", optional=False)
    table.flag(~job_type.is_in(list(measured.models)), "job_type", "expected a job type of Gavel's throughput table")
    steps, gpus = table.number("total_steps"), table.number("scale_factor", minimum=1.0, whole=True)
    pairs = pl.DataFrame({"model": job_type, "gpus": gpus}).unique()
    known = pairs.filter(pl.col("model").is_in(list(measured.models)) & pl.col("gpus").is_not_null())
    rates = [measured.rate(model, size) for model, size in known.iter_rows()]
    known = known.with_columns(
        pl.Series("rate", [rate for rate, _ in rates], dtype=pl.Float64),
        pl.Series("extrapolated", [not is_measured for _, is_measured in rates], dtype=pl.Boolean),
    )
    rows = pl.DataFrame({"model": job_type, "gpus": gpus, "steps": steps})
    rows = rows.join(known, on=["model", "gpus"], how="left", maintain_order="left")
    return rows["steps"] / rows["rate"], rows["extrapolated"].fill_null(False)


def _form(head: Head) -> tuple[str, ...] | None:
    """The names of the fields, if the first lines are Gavel's."""
    rows = [line.split("\t") for line in head.lines[:5]]
    names = FORMS.get(len(rows[0])) if rows else None
    if names is None:
        return None
    steps, data = names.index("steps_argument"), names.index("needs_data_dir")
    fits = all(len(row) == len(names) and row[steps].startswith("-") and row[data] in ("0", "1") for row in rows)
    return names if fits else None


def _detect(head: Head) -> bool:
    return _form(head) is not None


FORMAT = Format("gavel", "Gavel traces (tab-separated, 7 or 10 fields)", _detect, _read)
