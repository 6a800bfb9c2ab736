"""Tiresias' simulator input (Gu et al., NSDI 2019): ``job_id, num_gpu, submit_time, iterations, model_name, duration,
interval``, times in s.
"""

from __future__ import annotations

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import read_table
from shunter.traces.tables import Trace

COLUMNS = ("job_id", "num_gpu", "submit_time", "iterations", "model_name", "duration", "interval")


def _read(source: Source) -> Trace:
    table = read_table(source)
    table.require(*COLUMNS)
    draft = Draft.of(
        table,
        {
            "job_id": table.text("job_id", optional=False),
            "submit_s": table.number("submit_time"),
            "duration_s": table.number("duration"),
            "gpus_total": table.number("num_gpu"),
            "model_class": table.text("model_name"),
        },
    )
    draft.drop_never_ran()
    draft.gangs()
    return draft.finish(format="tiresias")


def _detect(head: Head) -> bool:
    return head.names() == frozenset(COLUMNS)


FORMAT = Format("tiresias", "Tiresias simulator input (job_id, num_gpu, submit_time, ...)", _detect, _read)
