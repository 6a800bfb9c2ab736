"""Static partitions against one shared pool with quotas: ``python examples/static_partitions_vs_shared_pool.py``.

The field's claim for sharing GPUs between teams: utilisation from 62 to 89 %, waiting −62 %, cost of useful work −60 %.
Here it is replayed on Philly, where every virtual cluster (the ``group`` of a job) either owns its nodes or is
guaranteed as many GPUs of one pool, borrows what others leave idle, and gives it back by preemption.

Rules, none of which looks at the weeks that are measured:

* The first five weeks are for calibration: the GPUs that each virtual cluster would have held, had nobody waited, on
  average over the last three of them. (Before, most virtual clusters are not in the log.)
* Nodes of 8 GPUs, so many that this demand would be ``load`` of them; shared out in proportion to demand, and at least
  what the largest gang seen so far needs. Several loads are tried.
* Measured are all full weeks that follow, ten, each on its own: replayed from an empty cluster with the week before it
  as warm-up, its jobs run to their ends. Intervals (95 %) resample the weeks, paired between the arms.
* A preempted job gets a minute to save its work, loses none, and needs five minutes to restart.
* Waiting includes waiting after a preemption. Cost is that of all nodes over the week, over the GPU-hours that jobs
  worked in it, restarts excluded: it does not depend on the makespan.

The log does not say what users asked for: EASY, SJF and SRTF know the true run times, in every arm alike; FCFS
needs none. Without the log a generated trace is used instead, and the report says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.energy import Downtimes, Placements, cost, energy_kwh
from shunter.scheduler.errors import ShunterError
from shunter.scheduler.fairness import finish_time_fairness, jain_index, served_shares
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.types import BoolArray, FloatArray, IntArray
from shunter.sim import simulate
from shunter.sim.compare import expanded_quantiles, window_draws
from shunter.sim.power import node_power, node_prices
from shunter.sim.report.formats import duration
from shunter.sim.workload import Defaults
from shunter.traces import read
from shunter.traces.clusters import load_cluster
from shunter.traces.generate import generate
from shunter.traces.tables import ClusterSpec, NodeGroup, Quota, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from shunter.sim.result import Result

DAY_S, HOUR_S = 86400.0, 3600.0
LOG = Path(__file__).resolve().parents[1] / ".." / "shared" / "traces" / "philly" / "philly_jobs.csv.gz"
GPUS_PER_NODE = 8
LOADS = (0.60, 0.75, 0.90, 1.10)
MAIN_LOAD = 0.75
RECLAIM = Preemption(("quota",), grace_s=60.0)
BY_POLICY = Preemption(("policy",), grace_s=60.0)
"""The shortest job first in its queue stops longer ones of any group: guarantees only order the queue then."""

RESTARTS = Defaults(restart_s=300.0)
CLAIM = {"utilisation": (0.62, 0.89), "wait_s": -0.62, "cost_per_useful_gpu_hour": -0.60}


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to run the cluster: partitions or a pool, and the policy."""

    name: str
    pool: bool
    policy: str = "fcfs"
    backfill: str = "none"
    quotas: bool = True
    preemption: Preemption = RECLAIM


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

# --- the jobs, and what each virtual cluster is given ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Study:
    """The jobs as arrays of shape (J,), and when what is measured."""

    trace: Trace
    note: str
    submit_s: FloatArray
    duration_s: FloatArray
    gpus: FloatArray
    group_idx: IntArray
    groups: Sequence[str]
    demand_from_s: float
    calibrated_s: float
    window_s: float
    num_windows: int

    @classmethod
    def of(cls, trace: Trace, note: str, *, demand_from_s: float, calibrated_s: float, window_s: float) -> Study:
        """Cut what follows the calibration into full windows."""
        jobs = trace.jobs
        group_idx, groups = jobs.codes("group")
        submit_s = jobs.floats("submit_s")
        return cls(
            trace=trace,
            note=note,
            submit_s=submit_s,
            duration_s=jobs.floats("duration_s"),
            gpus=jobs.floats("gpus") * jobs.ints("tasks"),
            group_idx=group_idx,
            groups=groups,
            demand_from_s=demand_from_s,
            calibrated_s=calibrated_s,
            window_s=window_s,
            num_windows=int((submit_s[-1] - calibrated_s) // window_s),
        )

    def windows(self, count: int = 0) -> list[tuple[float, float]]:
        """Begin and end of each measured window; the first ``count`` of them, 0 for all."""
        begins = [self.calibrated_s + k * self.window_s for k in range(count or self.num_windows)]
        return [(begin_s, begin_s + self.window_s) for begin_s in begins]

    def demand(self, from_s: float, until_s: float) -> FloatArray:
        """(V,) GPUs that each virtual cluster would hold on average if nobody ever waited."""
        ends_s = np.minimum(self.submit_s + self.duration_s, until_s)
        held_s = np.maximum(ends_s - np.maximum(self.submit_s, from_s), 0.0)
        return np.bincount(self.group_idx, self.gpus * held_s, len(self.groups)) / (until_s - from_s)

    def largest_gang(self, until_s: float) -> FloatArray:
        """(V,) GPUs of the largest gang that each virtual cluster has submitted so far; 0 for none."""
        known = self.submit_s < until_s
        largest = np.zeros(len(self.groups))
        np.maximum.at(largest, self.group_idx[known], self.gpus[known])
        return largest


def philly() -> Study:
    """The log beside the repository, or a generated stand-in with as many days of calibration as it can spare."""
    if LOG.is_file():
        trace = read(LOG)
        return Study.of(trace, "Philly", demand_from_s=14 * DAY_S, calibrated_s=35 * DAY_S, window_s=7 * DAY_S)
    trace = generate("gpu", jobs=12_000, seed=1, params={"nodes": 40, "load": 0.7})
    span_s = float(trace.jobs.floats("submit_s")[-1])
    note = f"{LOG.name} is not there: generated jobs instead, which say nothing of Philly"
    return Study.of(trace, note, demand_from_s=0.0, calibrated_s=0.3 * span_s, window_s=0.7 * span_s / 9.01)


def nodes_for(demand: FloatArray, largest: FloatArray, total: int) -> IntArray:
    """(V,) nodes by virtual cluster, ``total`` in all: in proportion to demand, above what its largest gang needs.

    Who has never submitted gets none. Largest remainders go first, ties to the first virtual cluster.

    Raises:
        ValueError: The largest gangs alone need more.
    """
    least = np.ceil(largest / GPUS_PER_NODE).astype(np.int64)
    if least.sum() > total:
        raise ValueError(f"{total} nodes are fewer than the {least.sum()} of the largest gangs")
    given = least.copy()
    for _ in range(total - int(least.sum())):  # one node after the other to whom its share lacks most
        lacking = demand / demand.sum() * total - given
        given[int(np.argmax(np.where(largest > 0, lacking, -np.inf)))] += 1
    return given


def clusters(study: Study, nodes: IntArray) -> dict[bool, ClusterSpec]:
    """The same nodes as partitions (False) and as a pool with quotas (True): Philly's servers of 8 GPUs in racks."""
    philly_spec = load_cluster("philly")
    node = next(group for group in philly_spec.groups if group.gpus == GPUS_PER_NODE)
    owners = {study.groups[v]: int(count) for v, count in enumerate(nodes) if count}
    owned = tuple(replace(node, name=name, count=count, owner=name) for name, count in owners.items())
    pooled: tuple[NodeGroup, ...] = (replace(node, name="node", count=int(nodes.sum())),)
    quotas = {name: Quota(guaranteed_gpus=float(count * GPUS_PER_NODE)) for name, count in owners.items()}
    types = {node.gpu_type or "": philly_spec.gpu_types[node.gpu_type or ""]}
    return {
        False: ClusterSpec("partitions", owned, gpu_types=types),
        True: ClusterSpec("pool", pooled, gpu_types=types, quotas=quotas),
    }


# --- replays ---------------------------------------------------------------------------------------------------------

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
        inside = (study.submit_s >= begin_s - study.window_s) & (study.submit_s < end_s)
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
            preemption=arm.preemption if arm.pool and arm.quotas else None,
            defaults=RESTARTS,
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


# --- what follows from them ------------------------------------------------------------------------------------------


def change(a: Measured, b: Measured, name: str) -> dict[str, Any]:
    """How a figure differs under ``b``, with its 95 % interval: in points for shares, else relative.

    None, instead of a number, where there is nothing to relate to: nobody waited, at all or in one of the resamplings.
    """
    weights = window_draws(len(a.sums["windows"]), np.random.default_rng(0))
    points = name in ("utilisation", "jain_fairness", "makespan_utilisation")

    def differs(draws: FloatArray | None) -> Any:
        before, after = a.figure(name, draws), b.figure(name, draws)
        if points:
            return after - before
        return after / before - 1.0 if np.all(before > 0) else None

    once, often = differs(None), None if weights is None else differs(weights)
    interval = None
    if weights is not None and often is not None:
        interval = [float(np.quantile(often, q)) for q in expanded_quantiles(weights.shape[1])]
    return {"difference" if points else "relative": None if once is None else float(once), "interval": interval}


@dataclass(frozen=True, slots=True)
class Smallest:
    """Partitions on ``total`` nodes, and a pool on ``nodes`` that waits no longer."""

    base: Measured
    total: int
    nodes: int
    pool: Measured


def fewest_nodes(
    bench: Bench, arm: Arm, nodes: Sequence[IntArray], bases: Mapping[str, Measured], full: Measured
) -> dict[str, Smallest]:
    """For each of several partitions, the smallest pool on which jobs wait no longer on average.

    By bisection to 3 % of the nodes, which takes it that more nodes never wait longer; the searches share replays.
    """
    total = int(nodes[0].sum())
    tried = {total: full}
    found = {}
    for name, base in bases.items():
        low, high = int(np.ceil(nodes[0].max() / 2)), total
        while high - low > max(1, total // 30):
            middle = (low + high) // 2
            if middle not in tried:
                tried[middle] = bench.run(arm, nodes, run_on=middle)
            low, high = (low, middle) if tried[middle].figure("wait_s") <= base.figure("wait_s") else (middle, high)
        found[name] = Smallest(base, total, high, tried[high])
    return found


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was measured; loads in ascending order."""

    study: Study
    loads: Mapping[float, Mapping[str, Any]]
    main_load: float
    arms: Mapping[str, Measured]
    sizings: Mapping[str, Mapping[str, Measured]]
    smallest: Mapping[str, Smallest]
    nodes: IntArray


def investigate(study: Study, *, quick: bool, progress: Callable[[str], None]) -> Findings:
    """Run all arms; ``quick``: partitions and the pool at one load on five weeks, without the rest."""
    bench = Bench(study, study.windows(5 if quick else 0), progress)
    known = study.demand(study.demand_from_s, study.calibrated_s), study.largest_gang(study.calibrated_s)
    loads: dict[float, dict[str, Any]] = {}
    arms: dict[str, Measured] = {}
    for load in (MAIN_LOAD,) if quick else LOADS:
        total = round(float(known[0].sum()) / load / GPUS_PER_NODE)
        nodes = nodes_for(*known, total)
        ladder = LADDER if load == MAIN_LOAD and not quick else SWEEP
        found = {arm.name: bench.run(arm, [nodes] * len(bench.windows)) for arm in ladder}
        offered = float(found[PARTITION_FCFS.name].figure("offered"))
        loads[load] = {"gpus": total * GPUS_PER_NODE, "offered": offered, "arms": found}
        if load == MAIN_LOAD:
            arms, main_nodes = found, nodes
    total = int(main_nodes.sum())
    sizings = {} if quick else dict(_sizings(bench, known[1], total))
    smallest = {}
    if not quick:
        bases = {arm.name: arms[arm.name] for arm in (PARTITION_FCFS, PARTITION_EASY)}
        bases[f"{PARTITION_EASY.name}, hindsight"] = sizings["hindsight"][PARTITION_EASY.name]
        smallest = fewest_nodes(bench, POOL_EASY, [main_nodes] * len(bench.windows), bases, arms[POOL_EASY.name])
    return Findings(study, loads, MAIN_LOAD, arms, sizings, smallest, main_nodes)


def _sizings(bench: Bench, largest: FloatArray, total: int) -> Iterator[tuple[str, dict[str, Measured]]]:
    """The partitions sized anew for every week: from the three weeks before its warm-up, and with hindsight."""
    study = bench.study
    for name, first, last in (("reviewed weekly", -4, -1), ("hindsight", 0, 1)):  # windows from the measured one
        spans = [(begin_s + first * study.window_s, begin_s + last * study.window_s) for begin_s, _ in bench.windows]
        nodes = [nodes_for(study.demand(*span), largest, total) for span in spans]
        yield name, {arm.name: bench.run(arm, nodes) for arm in (PARTITION_FCFS, PARTITION_EASY)}


# --- report ----------------------------------------------------------------------------------------------------------


def hours(seconds: float) -> str:
    """A duration for people."""
    return duration(seconds)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text, the first column to the left, the others to the right."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if c == 0 else cell.rjust(w) for c, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


HEAD = ("", "Util.", "Wait", "p95 wait", "JCT", "Jain", "FTF ρ", "$/GPU-h", "kWh/GPU-h", "Preempted")


def row_of(name: str, arm: Measured) -> tuple[str, ...]:
    """An arm's figures for people."""
    found = arm.figures()
    return (
        name,
        f"{found['utilisation']:.1%}",
        hours(found["wait_s"]),
        hours(found["p95_wait_s"]),
        hours(found["jct_s"]),
        f"{found['jain_fairness']:.3f}",
        f"{found['ftf_rho']:,.2f}",
        f"{found['cost_per_useful_gpu_hour']:.2f}",
        f"{found['energy_kwh_per_useful_gpu_hour']:.3f}",
        f"{found['preemptions_per_1000_jobs']:.1f} ‰",
    )


def shown(found: Mapping[str, Any]) -> str:
    """A change with its interval: per cent, or points for ratios."""
    value, unit = (found["difference"], " pt") if "difference" in found else (found["relative"], " %")
    if value is None:
        return "–"
    text = f"{100 * value:+,.1f}{unit}"
    if found["interval"] is None:
        return text
    return text + " ({:+,.1f} to {:+,.1f})".format(*(100 * bound for bound in found["interval"]))


CHANGES = (
    "utilisation",
    "wait_s",
    "p95_wait_s",
    "jct_s",
    "jain_fairness",
    "cost_per_useful_gpu_hour",
    "energy_kwh_per_useful_gpu_hour",
)


def report(findings: Findings) -> str:
    """Everything as text."""
    study, main_load = findings.study, findings.main_load
    at_main = findings.loads[main_load]
    first = findings.arms[PARTITION_FCFS.name]
    num_windows = len(first.sums["windows"])
    parts = [
        f"{study.note}: {len(study.submit_s):,} jobs; {num_windows} windows of {study.window_s / DAY_S:.1f} days after "
        f"{study.calibrated_s / DAY_S:.0f} days of calibration, {int(first.sums['jobs'].sum()):,} jobs measured, "
        f"{first.left_out} left out of every arm because their own partition cannot hold them.",
        "Nodes by virtual cluster: "
        + ", ".join(f"{study.groups[v]} {n}" for v, n in enumerate(findings.nodes) if n)
        + ".",
        f"\n{at_main['gpus']} GPUs: load {main_load:.0%} in calibration, {at_main['offered']:.0%} in the windows\n",
        table([HEAD, *(row_of(name, arm) for name, arm in findings.arms.items())]),
        f"\nChange against {PARTITION_FCFS.name} / {PARTITION_EASY.name}, 95 % interval over the windows\n",
        table([("", *(f"{name} …" for name in (PARTITION_FCFS.name, PARTITION_EASY.name))), *_changes(findings)]),
        "\nOther loads\n",
        table([("Load: calibration, windows; GPUs; arm", *HEAD[1:]), *_sweep(findings)]),
    ]
    if findings.sizings:
        rows = [
            row_of(f"{sizing}: {name}", arm) for sizing, arms in findings.sizings.items() for name, arm in arms.items()
        ]
        parts += ["\nPartitions sized otherwise, on as many nodes\n", table([HEAD, *rows])]
    if findings.smallest:
        rows = [_smallest_row(name, found) for name, found in findings.smallest.items()]
        head = ("The pool that waits no longer than", "GPUs", "fewer", "Wait", "Util.", "$/GPU-h", "change of $/GPU-h")
        parts += ["", table([head, *rows])]
    parts += [
        "\nWait by virtual cluster\n",
        table([("", "jobs", PARTITION_FCFS.name, PARTITION_EASY.name, POOL_EASY.name), *_by_group(findings)]),
    ]
    parts += ["", verdict(findings)]
    return "\n".join(parts)


def _changes(findings: Findings) -> Iterator[tuple[str, ...]]:
    bases = [findings.arms[arm.name] for arm in (PARTITION_FCFS, PARTITION_EASY)]
    for arm in SWEEP[1:]:
        for name in CHANGES:
            b = findings.arms[arm.name]
            cells = ["–" if base is b else shown(change(base, b, name)) for base in bases]
            yield f"{arm.name}: {name}", *cells


def _sweep(findings: Findings) -> Iterator[tuple[str, ...]]:
    for load, found in findings.loads.items():
        for arm in SWEEP:
            yield row_of(f"{load:.0%}, {found['offered']:.0%}; {found['gpus']}; {arm.name}", found["arms"][arm.name])


def _smallest_row(name: str, found: Smallest) -> tuple[str, ...]:
    return (
        name,
        f"{found.nodes * GPUS_PER_NODE} of {found.total * GPUS_PER_NODE}",
        f"{1 - found.nodes / found.total:.0%}",
        hours(found.pool.figure("wait_s")),
        f"{found.pool.figure('utilisation'):.1%}",
        f"{found.pool.figure('cost_per_useful_gpu_hour'):.2f}",
        shown(change(found.base, found.pool, "cost_per_useful_gpu_hour")),
    )


def _by_group(findings: Findings) -> Iterator[tuple[str, ...]]:
    arms = [findings.arms[arm.name].waits for arm in SWEEP]
    for v in np.flatnonzero(arms[0][0]):
        means = [hours(float(waits[1, v] / waits[0, v])) for waits in arms]
        yield findings.study.groups[int(v)], f"{int(arms[0][0, v]):,}", *means


def verdict(findings: Findings) -> str:
    """The claim beside what was found, at every load."""
    lines = [
        "The claim: utilisation 62 % to 89 %, waiting −62 %, cost of a useful GPU-hour −60 %. Found, pool with EASY:"
    ]
    for load, found in findings.loads.items():
        arms = found["arms"]
        for base in (PARTITION_FCFS, PARTITION_EASY):
            before, after = arms[base.name], arms[POOL_EASY.name]
            lines.append(
                f"  load {load:.0%} against {base.name}: utilisation {before.figure('utilisation'):.0%} to "
                f"{after.figure('utilisation'):.0%}, waiting {shown(change(before, after, 'wait_s'))}, cost "
                f"{shown(change(before, after, 'cost_per_useful_gpu_hour'))}"
            )
    for name, least in findings.smallest.items():
        lines.append(
            f"  the smallest pool that waits no longer than {name}: {1 - least.nodes / least.total:.0%} fewer GPUs, "
            f"utilisation {least.base.figure('utilisation'):.0%} to {least.pool.figure('utilisation'):.0%}, cost "
            f"{shown(change(least.base, least.pool, 'cost_per_useful_gpu_hour'))}"
        )
    return "\n".join(lines)


def as_json(findings: Findings) -> dict[str, Any]:
    """Everything as plain values."""
    base = {arm.name: findings.arms[arm.name] for arm in (PARTITION_FCFS, PARTITION_EASY)}
    pools = [name for name in findings.arms if name not in base]
    return {
        "trace": {
            "name": findings.study.trace.name,
            "sha256": findings.study.trace.sha256,
            "note": findings.study.note,
        },
        "claim": CLAIM,
        "windows": len(findings.arms[PARTITION_FCFS.name].sums["windows"]),
        "window_s": findings.study.window_s,
        "calibrated_s": findings.study.calibrated_s,
        "left_out": findings.arms[PARTITION_FCFS.name].left_out,
        "nodes": {findings.study.groups[v]: int(n) for v, n in enumerate(findings.nodes) if n},
        "main_load": findings.main_load,
        "arms": {name: arm.figures() for name, arm in findings.arms.items()},
        "changes": {
            f"{name} against {a}": {figure: change(base[a], findings.arms[name], figure) for figure in CHANGES}
            for a in base
            for name in (*pools, *(other for other in base if other != a))
        },
        "loads": [
            {
                "calibrated": load,
                "offered": found["offered"],
                "gpus": found["gpus"],
                "arms": {name: arm.figures() for name, arm in found["arms"].items()},
                "changes": {
                    f"{POOL_EASY.name} against {a}": {
                        figure: change(found["arms"][a], found["arms"][POOL_EASY.name], figure) for figure in CHANGES
                    }
                    for a in base
                },
            }
            for load, found in findings.loads.items()
        ],
        "sizings": {
            name: {label: arm.figures() for label, arm in arms.items()} for name, arms in findings.sizings.items()
        },
        "smallest_pool": {
            name: {"gpus_before": found.total * GPUS_PER_NODE, "gpus": found.nodes * GPUS_PER_NODE}
            | found.pool.figures()
            | {"change_of_cost": change(found.base, found.pool, "cost_per_useful_gpu_hour")}
            for name, found in findings.smallest.items()
        },
    }


def draw(findings: Findings, path: Path) -> None:
    """The figure: waiting and utilisation over the load, and completion times at the main one, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    colours = dict(zip((arm.name for arm in SWEEP), ("#D55E00", "#E69F00", "#0072B2"), strict=True))
    loads = [found["offered"] for found in findings.loads.values()]
    for name, colour in colours.items():
        for axes, figure_name, scale in ((left, "wait_s", HOUR_S), (middle, "utilisation", 0.01)):
            values = [found["arms"][name].figure(figure_name) / scale for found in findings.loads.values()]
            axes.plot([100 * load for load in loads], values, "o-", color=colour, label=name)
        times_h = np.sort(findings.arms[name].jct_s) / HOUR_S
        right.plot(np.maximum(times_h, 1 / 60), np.linspace(0, 100, len(times_h)), color=colour, label=name)
    _label(left, "Offered load in the measured weeks (%)", "Mean wait (h)", log_y=True)
    _label(middle, "Offered load in the measured weeks (%)", "GPUs held, measured weeks (%)")
    middle.plot(
        [100 * load for load in loads],
        [min(100 * load, 100.0) for load in loads],
        ":",
        color="0.5",
        zorder=0,
        label="offered",
    )
    middle.legend(frameon=False, fontsize=8)
    right.set_xscale("log")
    _label(right, f"Completion time at {findings.loads[findings.main_load]['gpus']} GPUs (h)", "Jobs (%)")
    left.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=200, metadata={"Software": None})


def _label(axes: Axes, x: str, y: str, *, log_y: bool = False) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if log_y:
        axes.set_yscale("log")


def tell(text: str) -> None:
    """What has been done, for those who wait."""
    sys.stderr.write(f"· {text}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and write its report; 0 when done, 2 when the log cannot be read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one load, three arms, five windows")
    parser.add_argument("--out", type=Path, help="folder for report.txt, figures.json and figure.png")
    asked = parser.parse_args(arguments)
    try:
        findings = investigate(philly(), quick=asked.quick, progress=tell)
    except ShunterError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    text = report(findings)
    sys.stdout.write(text + "\n")
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "report.txt").write_text(text + "\n")
        (asked.out / "figures.json").write_text(json.dumps(as_json(findings), indent=1, sort_keys=True) + "\n")
        draw(findings, asked.out / "figure.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
