"""Microsoft Philly's GPU jobs as preprocessed by the Pollux authors: timestamp, duration, num_gpus, gpu_time, cluster.

Source: Jeon et al., "Analysis of Large-Scale Multi-Tenant GPU Clusters for DNN Training Workloads", USENIX ATC 2019;
table by Qiao et al., OSDI 2021 (petuum/adaptdl). Time stamps are wall-clock times of the site without a zone and are
read as UTC. The list has no job identifiers: rows are numbered from 0 in file order, which is not that of time.
"""

from __future__ import annotations

from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.table import read_table
from shunter.traces.tables import Trace, pool

COLUMNS = ("timestamp", "duration", "num_gpus", "cluster")
PHILLY_GPUS = 2490
"""GPUs of the cluster in the time of the log (Jeon et al. 2019, section 2.3)."""

ZONE_NOTE = "time stamps without a zone, read as UTC"


def _read(source: Source) -> Trace:
    table = read_table(source)
    table.require(*COLUMNS)
    draft = Draft.of(
        table,
        {
            "submit_s": table.time("timestamp"),
            "duration_s": table.number("duration"),
            "gpus_total": table.number("num_gpus"),
            "group": table.text("cluster"),
        },
    )
    draft.number_rows()
    draft.drop_never_ran()
    draft.gangs()
    draft.rebase()
    header = {"zone_note": ZONE_NOTE}
    return draft.finish(format="philly-csv", cluster=pool(PHILLY_GPUS, resource="gpus"), header=header)


def _detect(head: Head) -> bool:
    return head.has(*COLUMNS)


FORMAT = Format("philly-csv", "Philly GPU jobs (timestamp, duration, num_gpus, cluster)", _detect, _read)
