"""Chronus' deadline workloads (Gao et al., SoCC 2021): ``job_id, user, num_gpu, submit_time, iterations, model_name,
duration, interval, expect_time_list, expect_value_list, best_effort, job_type``.

Times are read as minutes, which the numbers and the simulator's 60-per-hour constant suggest; the source does not say.
``user`` is a virtual cluster. ``expect_time_list`` is the time from submission in which a job should end; where it
lists several, the first is the deadline. A best-effort job has none.
"""

from __future__ import annotations

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import read_table
from shunter.traces.tables import Trace

COLUMNS = ("job_id", "user", "num_gpu", "submit_time", "model_name", "duration", "expect_time_list", "best_effort")
MINUTE_S = 60.0


def _read(source: Source) -> Trace:
    import polars as pl

    table = read_table(source)
    table.require(*COLUMNS)
    submit = table.number("submit_time", scale=MINUTE_S)
    first = table.text("expect_time_list").str.extract(r"^([0-9.]+)", 1).cast(pl.Float64, strict=False) * MINUTE_S
    strict = table.number("best_effort") == 0
    draft = Draft.of(
        table,
        {
            "job_id": table.text("job_id", optional=False),
            "submit_s": submit,
            "duration_s": table.number("duration", scale=MINUTE_S),
            "deadline_s": (submit + first).set(~strict, None),
            "gpus_total": table.number("num_gpu"),
            "group": table.text("user"),
            "model_class": table.text("model_name"),
        },
    )
    draft.drop_never_ran()
    draft.gangs()
    return draft.finish(format="chronus", header={"units_note": "times read as minutes"})


def _detect(head: Head) -> bool:
    return head.has(*COLUMNS)


FORMAT = Format("chronus", "Chronus deadline workloads (minutes)", _detect, _read)
