"""Workloads of Pollux (Qiao et al., OSDI 2021) and Sia (Subramanya et al., SOSP 2023): ``name, time, application,
num_replicas, batch_size``; seconds.

A workload gives a training, not its duration. The duration is steps of the training at that batch size / (steps/s on
``num_replicas`` T4, packed), both from the authors' measurements (``data/training.yaml``); between two measured numbers
of GPUs the time of a step is interpolated. A batch size or a number of GPUs without measurements is refused. Jobs are
elastic: from one GPU up to the largest number measured at that batch size.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray
from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import RawTable, read_table
from shunter.traces.tables import Trace
from shunter.traces.throughputs import load_yaml

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("name", "time", "application", "num_replicas", "batch_size")


@lru_cache(maxsize=1)
def _trainings() -> Mapping[str, Any]:
    content: Mapping[str, Any] = load_yaml("training.yaml")
    return content


def _measured(application: str, batch: float) -> tuple[IntArray, FloatArray] | None:
    """(P,) numbers of GPUs and (P,) seconds of the whole training on them; None for an unknown batch size."""
    content = _trainings()
    training = content["applications"][application].get(int(batch))
    if training is None:
        return None
    points = [(gpus, rate) for gpus, rate in zip(content["gpus"], training["steps_per_s"], strict=True) if rate]
    gpus, rates = np.array(points, dtype=np.float64).T
    return gpus.astype(np.int64), training["iterations"] / rates


def _read(source: Source) -> Trace:
    table = read_table(source)
    table.require(*COLUMNS)
    duration_s, max_gpus = _durations(table)
    draft = Draft.of(
        table,
        {
            "job_id": table.text("name", optional=False),
            "submit_s": table.number("time"),
            "duration_s": duration_s,
            "gpus_total": table.number("num_replicas", minimum=1.0, whole=True),
            "model_class": table.text("application"),
            "min_gpus": 1,
            "max_gpus": max_gpus,
        },
    )
    draft.gangs()
    return draft.finish(format="pollux", header={"reference_gpu": "t4"})


def _durations(table: RawTable) -> tuple[pl.Series, pl.Series]:
    """Run times on T4 in seconds, and the largest useful numbers of GPUs; what was not measured is noted as bad."""
    import polars as pl

    applications = list(_trainings()["applications"])
    application = table.text("application", optional=False)
    batch = table.number("batch_size", minimum=1.0, whole=True)
    gpus = table.number("num_replicas", minimum=1.0, whole=True)
    table.flag(~application.is_in(applications), "application", f"expected one of {', '.join(applications)}")
    kinds = pl.DataFrame({"application": application, "batch": batch, "gpus": gpus}).unique().drop_nulls()
    found: list[tuple[float | None, int | None]] = []
    for name, size, count in kinds.iter_rows():
        measured = _measured(name, size) if name in applications else None
        if measured is None:
            found.append((None, None))
            continue
        sizes, seconds = measured
        found.append((float(np.interp(count, sizes, seconds)) if count <= sizes[-1] else None, int(sizes[-1])))
    kinds = kinds.with_columns(
        pl.Series("duration_s", [seconds for seconds, _ in found], dtype=pl.Float64),
        pl.Series("max_gpus", [largest for _, largest in found], dtype=pl.Int64),
    )
    rows = pl.DataFrame({"application": application, "batch": batch, "gpus": gpus})
    rows = rows.join(kinds, on=["application", "batch", "gpus"], how="left", maintain_order="left")
    known = application.is_in(applications)
    table.flag(known & rows["max_gpus"].is_null(), "batch_size", "expected a batch size that was measured")
    too_many = rows["max_gpus"].is_not_null() & rows["duration_s"].is_null()
    table.flag(too_many, "num_replicas", "expected a number of GPUs that was measured at this batch size")
    return rows["duration_s"], rows["max_gpus"]


def _detect(head: Head) -> bool:
    return head.has(*COLUMNS)


FORMAT = Format("pollux", "Pollux and Sia workloads (application, replicas, batch size)", _detect, _read)
