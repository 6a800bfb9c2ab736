"""Shockwave's traces (Zheng et al., NSDI 2023): 12 tab-separated fields without a heading, among them job type, scale
factor (GPUs), priority, service level (−1 for none), duration (s) and arrival time (s).
"""

from __future__ import annotations

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import read_table
from shunter.traces.tables import Trace

COLUMNS = (
    "job_type",
    "command",
    "working_directory",
    "steps_argument",
    "needs_data_dir",
    "total_steps",
    "scale_factor",
    "mode",
    "priority",
    "slo",
    "duration",
    "arrival",
)
MODES = ("static", "accordion", "gns")


def _read(source: Source) -> Trace:
    table = read_table(source, separator="\t", names=COLUMNS, quoted=False)
    draft = Draft.of(
        table,
        {
            "submit_s": table.number("arrival"),
            "duration_s": table.number("duration"),
            "gpus_total": table.number("scale_factor"),
            "model_class": table.text("job_type"),
            "priority": table.number("priority", minimum=None),
        },
    )
    draft.number_rows()
    draft.drop_never_ran()
    draft.gangs()
    return draft.finish(format="shockwave")


def _detect(head: Head) -> bool:
    rows = [line.split("\t") for line in head.lines[:5]]
    return bool(rows) and all(len(row) == len(COLUMNS) and row[7] in MODES for row in rows)


FORMAT = Format("shockwave", "Shockwave traces (tab-separated, 12 fields)", _detect, _read)
