"""The one-second-tick GPU-cluster simulator of Helios (SC'21) and Lucid (ASPLOS'23), reached event by event.

Owns the protocol's input and metrics; its rules are in ``helios_kernel``. Every virtual cluster is simulated on its
own, on nodes of 8 GPUs, with the placer ``consolidate``. Differences from the engine that matter when reading results:

* A run of *d* seconds takes *d* + 1 under SRTF and Tiresias, in every attempt.
* A preemption costs 40 s of run time, 60 s for a job of more than 8 GPUs; nothing is lost otherwise.
* FIFO, SJF and QSSF never let a job pass one that does not fit.

Sources: Hu, Sun, Yan, Wen & Zhang, "Characterization and prediction of deep learning workloads in large-scale GPU
datacenters", SC'21 (QSSF); Gu et al., "Tiresias", NSDI'19; Hu et al., "Lucid", ASPLOS'23.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shunter.scheduler.errors import ConfigError, TraceError, UsageError, nearest
from shunter.scheduler.types import FloatArray, IntArray
from shunter.traces.tables import ClusterSpec, Trace

GPUS_PER_NODE = 8
BOUND_S = 10
"""Run times below this count as this in the bounded slowdown."""

POLICIES = ("fifo", "sjf", "qssf", "srtf", "tiresias")
PREEMPTIVE = ("srtf", "tiresias")

JOB_FILE_COLUMNS = ("job_id", "vc", "gpu_num", "submit_time", "duration")
"""Columns that make a CSV file a job file of this protocol; ``qssf_predicted_duration`` may stand beside them."""

NO_GROUP = "default"
"""Virtual cluster of a job without a group."""


@dataclass(frozen=True, slots=True)
class HeliosJobs:
    """What the protocol needs to know of jobs; rows of equal submit time go in the order given.

    Attributes:
        name: Short name of the trace.
        job_id: J identifiers.
        group: J names of virtual clusters.
        gpus: (J,) GPUs over the gang.
        submit_s: (J,) submit times, whole seconds.
        duration_s: (J,) run times, whole seconds.
        predicted_s: (J,) run times predicted for QSSF; None when there are none.
        nodes: Virtual cluster to its number of nodes, where the source says.
    """

    name: str
    job_id: Sequence[str]
    group: Sequence[str]
    gpus: IntArray
    submit_s: IntArray
    duration_s: IntArray
    predicted_s: IntArray | None = None
    nodes: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.job_id)


@dataclass(frozen=True, slots=True)
class HeliosRun:
    """What became of each job, (J,) int64 in the order of the input.

    Attributes:
        start_s: First start.
        end_s: Last end.
        queue_s: First start − submit, plus the time from each preemption to the next start.
        preemptions: Number of preemptions.
    """

    start_s: IntArray
    end_s: IntArray
    queue_s: IntArray
    preemptions: IntArray


def load(path: Path | str) -> HeliosJobs:
    """Jobs from a CSV file with ``JOB_FILE_COLUMNS``, or from any trace that ``shunter.traces`` reads.

    Raises:
        TraceError: The file cannot be read, or a time or number of GPUs is not whole.
    """
    from shunter.traces.compression import read_bytes
    from shunter.traces.read import read

    data = read_bytes(Path(path))
    columns = data[: data.find(b"\n")].decode("utf-8", errors="replace").strip().split(",")
    if set(JOB_FILE_COLUMNS) <= set(columns):
        return read_job_file(Path(path), data)
    return from_trace(read(path))


def read_job_file(path: Path, data: bytes) -> HeliosJobs:
    """Jobs from the unpacked bytes of a CSV file with ``JOB_FILE_COLUMNS``; see ``load``."""
    import polars as pl

    try:
        frame = pl.read_csv(data, schema_overrides={"job_id": pl.String(), "vc": pl.String()})
    except pl.exceptions.PolarsError as error:
        raise TraceError(f"{path}: not a CSV file of jobs: {str(error).splitlines()[0]}") from error
    numbers = {}
    for name in (*JOB_FILE_COLUMNS[2:], "qssf_predicted_duration"):
        if name in frame.columns:
            if not frame[name].dtype.is_numeric() or frame[name].null_count():
                raise TraceError(f"{path}: column {name!r}: expected a number in every row")
            numbers[name] = whole(frame[name].to_numpy(), f"{path}: column {name!r}, data row")
    return HeliosJobs(
        name=path.name.split(".")[0],
        job_id=frame["job_id"].to_list(),
        group=frame["vc"].fill_null(NO_GROUP).to_list(),
        gpus=numbers["gpu_num"],
        submit_s=numbers["submit_time"],
        duration_s=numbers["duration"],
        predicted_s=numbers.get("qssf_predicted_duration"),
    )


def from_trace(trace: Trace) -> HeliosJobs:
    """Jobs of a canonical trace; ``requested_s``, where every job has it, is QSSF's prediction.

    Node groups of 8 GPUs give the nodes of the virtual cluster that they are named after.

    Raises:
        TraceError: A time or a gang's number of GPUs is not whole.
    """
    jobs = trace.jobs
    requested = jobs.floats("requested_s")
    known = len(jobs) > 0 and not np.isnan(requested).any()
    place = f"{trace.name}: "
    return HeliosJobs(
        name=trace.name,
        job_id=jobs.frame["job_id"].to_list(),
        group=jobs.frame["group"].fill_null(NO_GROUP).to_list(),
        gpus=whole(jobs.floats("gpus") * jobs.ints("tasks"), f"{place}GPUs of job in row"),
        submit_s=whole(jobs.floats("submit_s"), f"{place}submit time of job in row"),
        duration_s=whole(jobs.floats("duration_s"), f"{place}run time of job in row"),
        predicted_s=whole(np.ceil(requested), f"{place}requested time of job in row") if known else None,
        nodes=nodes_of(trace.cluster),
    )


def nodes_of(cluster: ClusterSpec) -> dict[str, int]:
    """Nodes per virtual cluster from the groups of 8-GPU nodes, each named after its virtual cluster."""
    nodes: dict[str, int] = {}
    for group in cluster.groups:
        if group.gpus == GPUS_PER_NODE:
            nodes[group.name] = nodes.get(group.name, 0) + group.count
    return nodes


def whole(values: FloatArray | IntArray, what: str) -> IntArray:
    """``values`` as int64, (J,).

    Raises:
        TraceError: One is not a whole number of at least 0; the message is ``what`` and its row, counted from 1.
    """
    bad = ~((values >= 0) & (values == np.floor(values)))
    if bad.any():
        row = int(np.argmax(bad))
        raise TraceError(f"{what} {row + 1}: expected a whole number of at least 0, got {values[row]:g}")
    return np.array(values, dtype=np.int64)


def run(jobs: HeliosJobs, nodes: Mapping[str, int], policy: str) -> HeliosRun:
    """Simulate each virtual cluster on its own.

    Args:
        jobs: The jobs.
        nodes: Virtual cluster to its number of 8-GPU nodes.
        policy: One of ``POLICIES``.

    Raises:
        UsageError: Unknown policy, or QSSF without predictions.
        ConfigError: A virtual cluster of the jobs has no nodes.
        TraceError: A job can never run, or never ends: it needs more GPUs than its virtual cluster has, or has run
            time 0 under a policy that ends jobs at start + run time.
    """
    check(jobs, nodes, policy)
    result = HeliosRun(*(np.zeros(len(jobs), dtype=np.int64) for _ in range(4)))
    names, code = np.unique(np.asarray(jobs.group, dtype=np.str_), return_inverse=True)
    for group, name in enumerate(names):
        rows = np.flatnonzero(code == group)
        rows = rows[np.argsort(jobs.submit_s[rows], kind="stable")]
        run_group(jobs, rows, nodes[str(name)], policy, result)
    return result


def warm_up() -> None:
    """Compile both loops, or load them from the disk cache, so that the next run measures the replay alone."""
    one = np.ones(1, dtype=np.int64)
    for policy in ("fifo", "srtf"):
        run(HeliosJobs("one job", ["1"], ["one"], one, one, one), {"one": 1}, policy)


def check(jobs: HeliosJobs, nodes: Mapping[str, int], policy: str) -> None:
    """Raise what ``run`` documents."""
    if policy not in POLICIES:
        raise UsageError(f"protocol helios has no policy {policy!r}{nearest(policy, list(POLICIES))}")
    if policy == "qssf" and jobs.predicted_s is None:
        raise UsageError(f"policy qssf needs a predicted run time for every job; {jobs.name!r} has none")
    missing = sorted(set(jobs.group) - set(nodes))
    if missing:
        raise ConfigError(
            f"no nodes are given for {len(missing)} virtual clusters of {jobs.name!r}, the first {missing[0]!r}; "
            f"expected a node group of {GPUS_PER_NODE}-GPU nodes with that name"
        )
    capacity = np.asarray([nodes[name] for name in jobs.group], dtype=np.int64) * GPUS_PER_NODE
    for bad, reason in (
        (jobs.gpus > capacity, "needs more GPUs than its virtual cluster has"),
        ((jobs.duration_s < 1) & (policy not in PREEMPTIVE), f"has run time 0 and never ends under {policy}"),
    ):
        if bad.any():
            row = int(np.argmax(bad))
            raise TraceError(
                f"{jobs.name}: job {jobs.job_id[row]} {reason}: {jobs.gpus[row]} GPUs for {jobs.duration_s[row]} s "
                f"on the {capacity[row]} GPUs of {jobs.group[row]!r}"
            )


def run_group(jobs: HeliosJobs, rows: IntArray, num_nodes: int, policy: str, result: HeliosRun) -> None:
    """Simulate one virtual cluster, whose jobs are ``rows`` in order of submission, into ``result``."""
    from shunter.sim.compat import helios_kernel as kernel

    submit, duration, gpus = jobs.submit_s[rows], jobs.duration_s[rows], jobs.gpus[rows]
    demand = kernel.Jobs(submit, duration, gpus)
    if policy in PREEMPTIVE:
        state = kernel.run_preempting(demand, num_nodes, policy == "tiresias")
    else:
        key = submit if policy == "fifo" else duration
        if policy == "qssf" and jobs.predicted_s is not None:
            key = jobs.predicted_s[rows] * gpus
        state = kernel.run_to_completion(demand, key, num_nodes, policy == "qssf")
    result.start_s[rows], result.end_s[rows] = state.start, state.end
    result.queue_s[rows], result.preemptions[rows] = state.queued, state.preemptions


def metrics(jobs: HeliosJobs, result: HeliosRun) -> dict[str, float]:
    """Metrics under the project's names; ``avg_queue`` is the protocol's own: waiting over all attempts, s."""
    wait = (result.start_s - jobs.submit_s).astype(np.float64)
    jct = (result.end_s - jobs.submit_s).astype(np.float64)
    duration = jobs.duration_s.astype(np.float64)
    values = {
        "avg_wait_s": float(wait.mean()),
        "max_wait_s": float(wait.max()),
        "avg_jct_s": float(jct.mean()),
        "avg_bounded_slowdown": float(np.maximum(1.0, jct / np.maximum(duration, BOUND_S)).mean()),
        "makespan_s": float(result.end_s.max() - jobs.submit_s.min()),
        "preemptions": float(result.preemptions.sum()),
        "jobs_completed": float(len(jobs)),
        "avg_queue": float(result.queue_s.mean()),
    }
    if (duration > 0).all():
        values["avg_slowdown"] = float((jct / duration).mean())
    return values
