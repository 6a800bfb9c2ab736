"""ElasticFlow's traces (Gu et al., ASPLOS 2023): ``job_id, submit_time, real_iteration, model_name, ddl, batch_size,
num_gpu, real_duration, duration, iteration``; seconds, ``ddl`` on the trace's clock.
"""

from __future__ import annotations

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import read_table
from shunter.traces.tables import Trace

COLUMNS = ("job_id", "submit_time", "model_name", "ddl", "num_gpu", "duration")


def _read(source: Source) -> Trace:
    table = read_table(source)
    table.require(*COLUMNS)
    draft = Draft.of(
        table,
        {
            "job_id": table.text("job_id", optional=False),
            "submit_s": table.number("submit_time"),
            "duration_s": table.number("duration"),
            "deadline_s": table.number("ddl", optional=True, missing=("inf",)),
            "gpus_total": table.number("num_gpu"),
            "model_class": table.text("model_name"),
        },
    )
    draft.drop_never_ran()
    draft.gangs()
    return draft.finish(format="elasticflow")


def _detect(head: Head) -> bool:
    return head.has(*COLUMNS)


FORMAT = Format("elasticflow", "ElasticFlow traces (deadlines, elastic jobs)", _detect, _read)
