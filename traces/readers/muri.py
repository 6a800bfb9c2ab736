"""Muri's traces (Zhao et al., SIGCOMM 2022): ``job_id, num_gpu, submit_time, iterations, model_name, batch_size,
duration, interval, iteration_time, resource_time_*, priority``, all times in ms. Arrivals, GPU counts and durations
come from Philly; models were assigned at random.
"""

from __future__ import annotations

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import read_table
from shunter.traces.tables import Trace

COLUMNS = ("job_id", "num_gpu", "submit_time", "model_name", "duration", "iteration_time", "resource_time_0")
MS = 1e-3


def _read(source: Source) -> Trace:
    table = read_table(source)
    table.require(*COLUMNS)
    draft = Draft.of(
        table,
        {
            "job_id": table.text("job_id", optional=False),
            "submit_s": table.number("submit_time", scale=MS),
            "duration_s": table.number("duration", scale=MS),
            "gpus_total": table.number("num_gpu"),
            "model_class": table.text("model_name"),
            "priority": table.number("priority", optional=True) if table.has("priority") else 0.0,
        },
    )
    draft.drop_never_ran()
    draft.gangs()
    return draft.finish(format="muri")


def _detect(head: Head) -> bool:
    return head.has(*COLUMNS)


FORMAT = Format("muri", "Muri traces (ms; model, iteration and resource times)", _detect, _read)
