"""GPU job lists of the Helios and Lucid simulators (Venus, Saturn, Earth, Uranus, and Philly in the same form).

Columns ``job_id, vc, gpu_num, submit_time, duration`` and, where present, ``user, cpu_num, node_num, state, start_time,
queue``. ``submit_time`` is either seconds or a time stamp. A virtual cluster becomes the job's group.
Source: Hu et al., SC 2021 (HeliosData) and ASPLOS 2023 (Lucid), S-Lab-System-Group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.philly_csv import ZONE_NOTE
from shunter.traces.readers.table import RawTable, read_table
from shunter.traces.tables import Trace

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("job_id", "vc", "gpu_num", "submit_time", "duration")
STATE_OUTCOMES = {
    "COMPLETED": "completed",
    "FAILED": "failed",
    "NODE_FAIL": "failed",
    "OUT_OF_MEMORY": "failed",
    "CANCELLED": "killed",
    "TIMEOUT": "killed",
    "Pass": "completed",
    "Failed": "failed",
    "Killed": "killed",
}


def _outcomes(table: RawTable) -> pl.Series | str:
    if not table.has("state"):
        return "completed"
    first_word = table.text("state").str.extract(r"^(\S+)", 1)
    return first_word.replace_strict(STATE_OUTCOMES, default="completed")


def _read(source: Source) -> Trace:
    import polars as pl

    table = read_table(source)
    table.require(*COLUMNS)
    columns: dict[str, object] = {
        "job_id": table.text("job_id", optional=False),
        "submit_s": table.time("submit_time"),
        "duration_s": table.number("duration"),
        "gpus_total": table.number("gpu_num"),
        "group": table.text("vc"),
        "outcome": _outcomes(table),
    }
    if table.has("cpu_num"):
        columns["cpus_total"] = table.number("cpu_num", optional=True)
    if table.has("user"):
        columns["user"] = table.text("user")
    if table.has("queue"):
        columns["recorded_wait_s"] = table.number("queue", optional=True)
    stamped = table.text("submit_time").cast(pl.Float64, strict=False).null_count() > 0
    draft = Draft.of(table, columns)
    draft.drop_never_ran()
    draft.gangs()
    header = {}
    if stamped:
        draft.rebase()
        header["zone_note"] = ZONE_NOTE
    return draft.finish(format="lucid", header=header)


def _detect(head: Head) -> bool:
    return head.has(*COLUMNS)


FORMAT = Format("lucid", "Helios/Lucid simulator lists (job_id, vc, gpu_num, submit_time, duration)", _detect, _read)
