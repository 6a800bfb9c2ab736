"""The logs that policies are compared on, and what every arm is told of their jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from examples.static_partitions.jobs import DAY_S, GPUS_PER_NODE, Study, philly
from shunter.scheduler.types import FloatArray
from shunter.traces import read
from shunter.traces.clusters import load_cluster
from shunter.traces.tables import ClusterSpec, Trace

HELIOS = Path(__file__).resolve().parents[2] / ".." / "shared" / "traces" / "helios" / "helios_15k_part1.csv.gz"

DEFAULT_REQUEST_S = DAY_S
"""The limit that jobs without a request would have been given: the logs say none. No job is stopped at it."""


def with_columns(trace: Trace, **columns: pl.Expr) -> Trace:
    """The trace with some columns replaced."""
    return replace(trace, jobs=replace(trace.jobs, frame=trace.jobs.frame.with_columns(**columns)))


def philly_by_cluster() -> Study:
    """Philly, or its stand-in. The log names no users: its virtual clusters stand for them in predictions."""
    study = philly()
    if study.trace.jobs.frame["user"].null_count() < len(study.trace.jobs):
        return study
    return replace(study, trace=with_columns(study.trace, user=pl.col("group")))


def helios() -> Study | None:
    """Ten thousand jobs of a Helios cluster: six days of calibration, six measured; None without the log.

    Each day is replayed with the six before it: most of the GPUs are held by jobs that run for days.
    """
    if not HELIOS.is_file():
        return None
    trace = with_columns(read(HELIOS), group=pl.lit("all"))
    study = Study.of(trace, "Helios", demand_from_s=2 * DAY_S, calibrated_s=6 * DAY_S, window_s=DAY_S)
    return replace(study, warm_up_s=6 * DAY_S)


def as_one(study: Study) -> Study:
    """The same jobs, of one group: where policies are compared, nobody owns nodes."""
    one = {"group_idx": np.zeros(len(study.submit_s), np.int64), "groups": ("all",)}
    return replace(study, trace=with_columns(study.trace, group=pl.lit("all")), **one)


def num_nodes(study: Study, load: float) -> int:
    """Nodes of 8 GPUs on which the demand of the calibration is ``load`` of all GPUs; no fewer than a gang needs."""
    demand: FloatArray = study.demand(study.demand_from_s, study.calibrated_s)
    largest = float(study.largest_gang(study.calibrated_s).max())
    return max(round(float(demand.sum()) / load / GPUS_PER_NODE), -(-int(largest) // GPUS_PER_NODE))


def pool(nodes: int) -> ClusterSpec:
    """One pool of Philly's servers of 8 GPUs, without quotas."""
    philly_spec = load_cluster("philly")
    node = next(group for group in philly_spec.groups if group.gpus == GPUS_PER_NODE)
    kind = node.gpu_type or ""
    groups = (replace(node, name="node", count=nodes),)
    return ClusterSpec("pool", groups, gpu_types={kind: philly_spec.gpu_types[kind]})
