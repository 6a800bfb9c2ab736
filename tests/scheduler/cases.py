"""Workloads written as small tables, and short ways to ask what happens to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from shunter.scheduler.decide import Settings
from shunter.scheduler.policies.registry import choose_ordering
from shunter.scheduler.snapshot import JobColumns
from shunter.scheduler.state import ClusterState
from shunter.sim.engine import Options, Simulation
from shunter.sim.replay import simulate
from shunter.sim.workload import prepare
from shunter.traces.tables import ClusterSpec, Trace, job_schema, make_jobs

COLUMN_OF = {"job": "job_id", "submit": "submit_s", "runs": "duration_s", "asks": "requested_s"}
NOTHING = np.zeros(0, dtype=np.int64)


def table(text: str, cluster: ClusterSpec, *, name: str = "table") -> Trace:
    """A trace from lines of cells below a line of names; ``-`` is a missing value, and a task has 1 CPU if unsaid."""
    header, *lines = [line.split() for line in text.strip().splitlines()]
    names = [COLUMN_OF.get(column, column) for column in header]
    schema = job_schema()
    columns: dict[str, list[Any]] = {
        column: [cell(line[i], numeric=schema[column].is_numeric()) for line in lines] for i, column in enumerate(names)
    }
    if not {"cpus", "gpus"} & set(columns):
        columns["cpus"] = [1.0] * len(lines)
    return Trace(name=name, jobs=make_jobs(columns), cluster=cluster)


def cell(text: str, *, numeric: bool) -> Any:
    if text == "-":
        return None
    return float(text) if numeric else text


def starts(trace: Trace, **options: Any) -> dict[str, float]:
    """Job → start under ``simulate``'s options."""
    jobs = simulate(trace, **options).jobs
    return dict(zip(jobs["job_id"].to_list(), jobs["start_s"].to_list(), strict=True))


def settings(policy: str = "fcfs", backfill: str = "none", placement: str = "first-fit", depth: int = 0) -> Settings:
    return Settings(choose_ordering(policy), backfill, placement, depth)


def waiting_state(trace: Trace, chosen: Settings, now_s: float = 0.0) -> ClusterState:
    """A state in which all jobs of the trace have been submitted and nothing has been decided."""
    workload = prepare(trace, trace.cluster)
    state = Simulation(workload, Options(chosen)).state
    state.absorb(now_s, NOTHING, 0, 0, workload.num_jobs)
    return state


def columns(num_jobs: int, **given: Any) -> JobColumns:
    """Job columns; what is not given is 1 (times, processors), 0 (priority, service had) or −1 (user, queue)."""
    return JobColumns.of(np.asarray(given.pop("submit_s", np.zeros(num_jobs)), dtype=np.float64), **given)
