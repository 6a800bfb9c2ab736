"""The arms of the study, and what each does in the measured windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from examples.static_partitions.jobs import GPUS_PER_NODE, Study, clusters, nodes_for
from shunter.scheduler.energy import Downtimes, Placements, cost, energy_kwh
from shunter.scheduler.fairness import finish_time_fairness, jain_index, served_shares
from shunter.scheduler.policies.registry import ChosenOrdering
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.types import BoolArray, FloatArray, IntArray
from shunter.sim import simulate
from shunter.sim.power import node_power, node_prices
from shunter.sim.workload import Defaults
from shunter.traces.tables import ClusterSpec, Trace

if TYPE_CHECKING:
    from shunter.sim.result import Result

HOUR_S = 3600.0
RECLAIM = Preemption(("quota",), grace_s=60.0)
BY_POLICY = Preemption(("policy",), grace_s=60.0)
"""The shortest job first in its queue stops longer ones of any group: guarantees only order the queue then."""

RESTARTS = Defaults(restart_s=300.0)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to run the cluster: partitions or a pool, the policy, and what it is told of run times."""

    name: str
    pool: bool
    policy: str | ChosenOrdering = "fcfs"
    backfill: str = "none"
    quotas: bool = True
    preemption: Preemption = RECLAIM
    estimates: str = "request"
    default_request_s: float | None = None
    restarts: Defaults = RESTARTS

    @property
    def stops_jobs(self) -> bool:
        """Whether it preempts: only in a pool, and to reclaim a guarantee only where there are guarantees."""
        return self.pool and (self.quotas or self.preemption.rules != RECLAIM.rules)


PARTITION_FCFS = Arm("partitions, FCFS", pool=False)
PARTITION_EASY = Arm("partitions, EASY", pool=False, backfill="easy")
POOL_EASY = Arm("pool with quotas, EASY", pool=True, backfill="easy")
LADDER = (
    PARTITION_FCFS,
    PARTITION_EASY,
    Arm("pool with quotas, FCFS", pool=True),
    POOL_EASY,
    Arm("pool with quotas, SJF + EASY", pool=True, policy="sjf", backfill="easy"),
    Arm("pool, SRTF that preempts", pool=True, policy="srtf", backfill="easy", preemption=BY_POLICY),
    Arm("pool without quotas, EASY", pool=True, backfill="easy", quotas=False),
)
SWEEP = (PARTITION_FCFS, PARTITION_EASY, POOL_EASY)


RATIOS = {
    "offered": ("offered_gpu_s", "available_gpu_s"),
    "utilisation": ("held_gpu_s", "available_gpu_s"),
    "wait_s": ("wait_s", "jobs"),
    "p95_wait_s": ("p95_wait_s", "windows"),
    "jct_s": ("jct_s", "jobs"),
    "ftf_rho": ("ftf_rho", "jobs"),
    "jain_fairness": ("jain_fairness", "windows"),
    "cost_per_useful_gpu_hour": ("cost", "useful_gpu_h"),
    "energy_kwh_per_useful_gpu_hour": ("energy_kwh", "useful_gpu_h"),
    "preemptions_per_1000_jobs": ("preemptions", "kilojobs"),
    "makespan_utilisation": ("makespan_utilisation", "windows"),
}
"""Each figure is a sum over the windows over another: what a bootstrap of windows can resample."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What an arm did in the measured windows.

    Attributes:
        sums: Quantity to its value in each window, (K,).
        waits: By virtual cluster, (jobs, seconds waited) over all windows.
        left_out: Jobs that no arm ran, because they do not fit into their virtual cluster's own nodes.
    """

    sums: Mapping[str, FloatArray]
    waits: FloatArray
    jct_s: FloatArray
    left_out: int

    def figure(self, name: str, weights: FloatArray | None = None) -> Any:
        """A figure of ``RATIOS``; with (B, K) weights, of each resampling, (B,)."""
        above, below = (self.sums[part] for part in RATIOS[name])
        return above.sum() / below.sum() if weights is None else (weights @ above) / (weights @ below)

    def figures(self) -> dict[str, float]:
        """All of them."""
        return {name: float(self.figure(name)) for name in RATIOS}


@dataclass(slots=True)
class Bench:
    """Runs arms on the study's windows, and says how long that took."""

    study: Study
    windows: list[tuple[float, float]]
    progress: Callable[[str], None]
    seconds: list[float] = field(default_factory=list)

    def run(self, arm: Arm, nodes: Sequence[IntArray], run_on: int | None = None) -> Measured:
        """Measure an arm.

        Args:
            arm: How to run.
            nodes: Nodes by virtual cluster in each window; what does not fit there is left out.
            run_on: Nodes of the pool, if not as many as in ``nodes``: guarantees shrink in proportion.
        """
        rows = [self._window(arm, window, own, run_on) for window, own in zip(self.windows, nodes, strict=True)]
        names = [name for name in rows[0] if name not in ("waits", "jcts", "left_out")]
        what = arm.name if run_on is None else f"{arm.name} on {run_on} nodes"
        self.progress(f"{what}: {sum(self.seconds):.1f} s")
        self.seconds.clear()
        return Measured(
            sums={name: np.asarray([row[name] for row in rows]) for name in names},
            waits=np.sum([row["waits"] for row in rows], axis=0),
            jct_s=np.concatenate([row["jcts"] for row in rows]),
            left_out=sum(row["left_out"] for row in rows),
        )

    def _window(self, arm: Arm, window: tuple[float, float], own: IntArray, run_on: int | None) -> dict[str, Any]:
        study, (begin_s, end_s) = self.study, window
        warm_up_s = study.window_s if study.warm_up_s is None else study.warm_up_s
        inside = (study.submit_s >= begin_s - warm_up_s) & (study.submit_s < end_s)
        fits = study.gpus <= own[study.group_idx] * GPUS_PER_NODE
        given = own if run_on is None else nodes_for(own.astype(np.float64), (own > 0).astype(np.float64), run_on)
        cluster = clusters(study, given)[arm.pool]
        if not arm.quotas:
            cluster = replace(cluster, quotas={})
        result = simulate(
            _only(study.trace, inside & fits),
            policy=arm.policy,
            backfill=arm.backfill,
            placement="topology",
            cluster=cluster,
            preemption=arm.preemption if arm.stops_jobs else None,
            estimates=arm.estimates,
            default_request_s=arm.default_request_s,
            defaults=arm.restarts,
            details=False,
        )
        self.seconds.append(result.wall_s)
        rows = np.flatnonzero(inside & fits)
        left_out = int(((study.submit_s >= begin_s) & (study.submit_s < end_s) & ~fits).sum())
        return _measure(study, result, rows, window, cluster) | {"left_out": left_out}


def _only(trace: Trace, keep: BoolArray) -> Trace:
    """The trace with some of its jobs."""
    import polars as pl

    return replace(trace, jobs=replace(trace.jobs, frame=trace.jobs.frame.filter(pl.Series(keep))))


def _measure(
    study: Study, result: Result, rows: IntArray, window: tuple[float, float], cluster: ClusterSpec
) -> dict[str, Any]:
    """Everything that ``RATIOS`` needs of one window, and who waited."""
    begin_s, end_s = window
    jobs, size, group_idx = result.jobs, study.gpus[rows], study.group_idx[rows]
    submit_s, done_s = jobs["submit_s"].to_numpy(), jobs["end_s"].to_numpy()
    wait_s = jobs["wait_s"].to_numpy() + (jobs["requeued_s"].to_numpy() if "requeued_s" in jobs.columns else 0.0)
    jct_s, run_s = done_s - submit_s, study.duration_s[rows]
    rho = finish_time_fairness(submit_s, done_s, run_s, size, cluster.total("gpus") or 0.0, group_idx=group_idx)
    mine = submit_s >= begin_s
    job, from_s, until_s, overhead_s = _attempts(result)
    amount = size[job]

    def gpu_s(since_s: FloatArray) -> float:
        return float((amount * np.maximum(np.minimum(until_s, end_s) - np.maximum(since_s, begin_s), 0.0)).sum())

    power, prices = node_power(cluster), node_prices(cluster)
    assert power is not None
    assert prices is not None
    # All nodes are alike and the model is linear: on which node a GPU is held makes no difference to the sum.
    held = Placements(job, np.zeros(len(job), np.int64), from_s, until_s, np.zeros(len(job)), amount)
    return {
        "windows": 1.0,
        "jobs": float(mine.sum()),
        "kilojobs": float(mine.sum()) / 1000.0,
        "offered_gpu_s": float(
            (size * np.maximum(np.minimum(submit_s + run_s, end_s) - np.maximum(submit_s, begin_s), 0)).sum()
        ),
        "held_gpu_s": gpu_s(from_s),
        "available_gpu_s": (cluster.total("gpus") or 0.0) * (end_s - begin_s),
        "makespan_utilisation": result.metrics["utilisation"],
        "wait_s": float(wait_s[mine].sum()),
        "p95_wait_s": float(np.percentile(wait_s[mine], 95)),
        "jct_s": float(jct_s[mine].sum()),
        "ftf_rho": float(np.nansum(rho[mine])),
        "jain_fairness": jain_index(served_shares(group_idx[mine], (size * run_s)[mine], (size * jct_s)[mine])),
        "useful_gpu_h": gpu_s(from_s + overhead_s) / HOUR_S,
        "cost": cost(*prices, Downtimes.none(), begin_s, end_s).total,
        "energy_kwh": energy_kwh(power, held, Downtimes.none(), begin_s, end_s)[0],
        "preemptions": result.metrics.get("preemptions", 0.0),
        "waits": np.stack(
            [np.bincount(group_idx[mine], w, len(study.groups)) for w in (np.ones(mine.sum()), wait_s[mine])]
        ),
        "jcts": jct_s[mine],
    }


def _attempts(result: Result) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Row of the job, begin, end and restart overhead of every attempt."""
    if "attempts" in result.tables:
        table = result.tables["attempts"]
        return tuple(table[name].to_numpy() for name in ("job", "start_s", "end_s", "overhead_s"))  # type: ignore[return-value]
    start_s, end_s = result.jobs["start_s"].to_numpy(), result.jobs["end_s"].to_numpy()
    return np.arange(len(start_s)), start_s, end_s, np.zeros(len(start_s))
