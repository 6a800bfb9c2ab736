"""Batch tasks of Alibaba's 2017 trace as CloudSimPy has them: ``submit_time, duration, cpu, memory, job_id, task_id,
instances_num, disk``; ``cpu`` in cores and ``memory`` as a share of a machine's, both per instance.

A task with *n* instances becomes one gang of *n* tasks (the source does not say when each instance ran). As the memory
has no unit, the cluster's nodes have a memory of 1. Source: alibaba/clusterdata v2017; FC-Li/CloudSimPy.
"""

from __future__ import annotations

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import read_table
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace

COLUMNS = ("submit_time", "duration", "cpu", "memory", "job_id", "task_id", "instances_num")
CLUSTER = ClusterSpec(name="alibaba-2017", groups=(NodeGroup(name="machine", count=1313, cpus=64.0, memory_gib=1.0),))
"""1,313 machines of 64 cores (Lu et al., "Imbalance in the cloud", IEEE BigData 2017); memory normalised to 1."""


def _read(source: Source) -> Trace:
    import polars as pl

    table = read_table(source)
    table.require(*COLUMNS)
    job, task = table.text("job_id", optional=False), table.text("task_id", optional=False)
    draft = Draft.of(
        table,
        {
            "job_id": job + "." + task,
            "submit_s": table.number("submit_time"),
            "duration_s": table.number("duration"),
            "tasks": table.number("instances_num", whole=True),
            "cpus": table.number("cpu"),
            "memory_gib": table.number("memory"),
            "group": job,
        },
    )
    draft.drop_never_ran()
    draft.drop(pl.col("tasks") < 1, "no instances")
    header = {"units_note": "memory is a share of one machine's, not GiB"}
    return draft.finish(format="alibaba-batch-2017", cluster=CLUSTER, header=header)


def _detect(head: Head) -> bool:
    return head.has(*COLUMNS)


FORMAT = Format("alibaba-batch-2017", "Alibaba 2017 batch tasks (CloudSimPy list)", _detect, _read)
