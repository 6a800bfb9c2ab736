"""SURF's Lisa cluster as OpenDC has it: ``id, submission_time, duration`` (ms), ``cpu_count, cpu_capacity`` (MHz),
``mem_capacity`` (MB) and, added by the OpenDC authors and not observed, ``deferrable, deadline``.

Deadlines are kept, so a study may use them; the header says where they come from. Source: atlarge-research/opendc.
"""

from __future__ import annotations

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import read_table
from shunter.traces.tables import Trace

COLUMNS = ("id", "submission_time", "duration", "cpu_count", "cpu_capacity", "mem_capacity")
MS = 1e-3
MB_GIB = 1e6 / 2**30


def _read(source: Source) -> Trace:
    table = read_table(source)
    table.require(*COLUMNS)
    header = {}
    columns: dict[str, object] = {
        "job_id": table.text("id", optional=False),
        "submit_s": table.number("submission_time", scale=MS),
        "duration_s": table.number("duration", scale=MS),
        "tasks": 1,
        "cpus": table.number("cpu_count"),
        "memory_gib": table.number("mem_capacity", scale=MB_GIB),
    }
    if table.has("deadline"):
        columns["deadline_s"] = table.number("deadline", scale=MS, optional=True)
        header["deadline_note"] = "deadlines were added by the OpenDC authors, not observed"
    draft = Draft.of(table, columns)
    draft.drop_never_ran()
    draft.rebase()
    return draft.finish(format="surf-lisa", resources=("cpus",), header=header)


def _detect(head: Head) -> bool:
    return head.has(*COLUMNS)


FORMAT = Format("surf-lisa", "SURF Lisa tasks (OpenDC; ms)", _detect, _read)
