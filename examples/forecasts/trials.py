"""The trials: run times, start order and placement by load, held capacity, scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from examples.forecasts.arms import TEST, Cell, Trial, judged, mean, p95, without_tables
from examples.forecasts.series import Tell, Work, shares, told_of
from shunter.cli.node_load import filled
from shunter.scheduler.scaling import ScalingRule
from shunter.scheduler.types import FloatArray
from shunter.sim.holding import Holding, arrival_series, arrivals, favoured_jobs, usual_quantile
from shunter.sim.other_work import AHEAD, OtherWork, foreseen, last_known, usual
from shunter.sim.replay import simulate
from shunter.sim.scaling import Scaled, ahead_of, as_before, replay_scaling
from shunter.sim.workload import prepare
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup
from shunter.traces.read import read
from shunter.traces.series_readers import read_series

if TYPE_CHECKING:
    from shunter.sim.result import Result
    from shunter.traces.tables import Trace

TRACES = Path(__file__).resolve().parents[2] / ".." / "shared" / "traces"
QUICK_JOBS = 1_500

WAITS: tuple[Any, ...] = (
    ("wait_s", "mean wait", mean),
    ("wait_s", "p95 wait", p95),
    ("bsld", "mean bounded slowdown", mean),
)
STAYS: tuple[Any, ...] = (("jct_s", "mean JCT", mean), ("wait_s", "mean wait", mean), ("jct_s", "p95 JCT", p95))


@dataclass(frozen=True, slots=True)
class Log:
    """A trace and what it is replayed on.

    Attributes:
        name: What tables call it.
        file: Below ``TRACES``.
        cluster: Nodes; None: the trace's own cluster.
        default_request_s: Of jobs without a request.
    """

    name: str
    file: str
    cluster: NodeGroup | None = None
    default_request_s: float | None = None

    def opened(self, cluster: NodeGroup | None = None) -> tuple[Trace, ClusterSpec]:
        """The trace and its cluster."""
        trace = read(TRACES / self.file, skip_bad=True)
        nodes = cluster or self.cluster
        return trace, trace.cluster if nodes is None else ClusterSpec(nodes.name, (nodes,))


SDSC = Log("SDSC-SP2", "swf/SDSC-SP2-1998-4.2-cln.swf.gz")
CTC = Log("CTC-SP2", "swf/CTC-SP2-1996-3.1-cln.swf.gz")
KTH = Log("KTH-SP2", "swf/KTH-SP2-1996-2.1-cln.swf.gz")
PHILLY = Log("Philly", "philly/philly_jobs.csv.gz", NodeGroup("28 nodes of 8 GPUs", 28, gpus=8), 86_400.0)


def last_part(trace: Trace, quick: bool, most: int | None = None, *, by_time: bool = False) -> tuple[int, int]:
    """The last 30 % of the jobs, or those of the last 30 % of the time; at most so many of them: as a window."""
    submit_s = trace.jobs.floats("submit_s")
    first = int(np.searchsorted(submit_s, TEST * submit_s[-1]) if by_time else TEST * len(submit_s))
    count = min(len(submit_s) - first, most or len(submit_s))
    return first, min(count, QUICK_JOBS) if quick else count


def run_times(work: Work, tell: Tell, *, quick: bool) -> list[Trial]:
    """Predicted run times under EASY: reservations, and the order of ``sjf-predicted``."""
    from shunter.cli.policies import find_estimates

    del work
    found = []
    for log in (SDSC, CTC, KTH, PHILLY):
        trace, cluster = log.opened()
        for policy in ("fcfs", "sjf-predicted"):
            runs: dict[str, Result] = {}
            for arm, estimates in (("request", "request"), ("predicted", "learned"), ("actual", "actual")):
                tell(f"{log.name}: {policy} with EASY, run times: {arm}")
                runs[arm] = without_tables(
                    simulate(
                        trace,
                        policy=policy,
                        backfill="easy",
                        cluster=cluster,
                        window=last_part(trace, quick),
                        estimates=find_estimates(estimates),
                        default_request_s=log.default_request_s,
                        details=False,
                    )
                )
            found.append(judged(f"run times, {policy}", log.name, runs, WAITS))
    return found


@dataclass(frozen=True, slots=True)
class Busy:
    """Jobs beside recorded other work: one node of the series for each node of the cluster."""

    log: Log
    cluster: NodeGroup
    series: str
    name: str


BUSY_JOBS = 5_000
"""Jobs of such a replay: every step of the load changes the speed of most running jobs."""

BUSY = (
    Busy(SDSC, NodeGroup("32 nodes of 4 CPUs", 32, cpus=4), "bitbrains/bitbrains_small_cpu.csv.gz", "Bitbrains"),
    Busy(KTH, NodeGroup("25 nodes of 4 CPUs", 25, cpus=4), "bitbrains/bitbrains_small_cpu.csv.gz", "Bitbrains"),
    Busy(
        PHILLY,
        NodeGroup("28 nodes of 8 GPUs", 28, gpus=8),
        "alibaba-genai-2026/pod_gpu_duty_cycle_anon_part1.csv.gz",
        "GPU duty cycle",
    ),
)


def node_loads(busy: Busy, num_nodes: int, first_s: float, work: Work, tell: Tell) -> dict[str, OtherWork]:
    """Arm → what is told of the nodes' other work in the last 30 % of the series; the loads are the same in all."""
    series = shares(read_series(TRACES / busy.series, skip_bad=True), busy.name)
    told = np.nan_to_num(told_of(series, work, tell)[..., 1].mean(axis=2), nan=0.0)
    load = filled(np.asarray(series.values[..., 0], dtype=np.float64))
    cut, nodes = int(TEST * len(load)), slice(0, num_nodes)
    arms = {
        "not told": np.zeros_like(load),
        "last step": last_known(load),
        "usual": usual(load),
        "predicted": np.maximum(told, 0.0),
        "perfect": foreseen(load),
    }
    return {
        arm: OtherWork(first_s, series.step_s, load[cut:, nodes], told[cut:, nodes], arm) for arm, told in arms.items()
    }


def placement_by_load(work: Work, tell: Tell, *, quick: bool) -> list[Trial]:
    """Jobs go to the nodes that are predicted least busy."""
    return _by_load(work, tell, "placement by load", "fcfs", quick=quick)


def order_by_load(work: Work, tell: Tell, *, quick: bool) -> list[Trial]:
    """The queue goes by priority over predicted load, too."""
    return _by_load(work, tell, "order and placement by load", "predicted-load", quick=quick)


def _by_load(work: Work, tell: Tell, study: str, policy: str, *, quick: bool) -> list[Trial]:
    found = []
    for busy in BUSY:
        trace, cluster = busy.log.opened(busy.cluster)
        window = last_part(trace, quick, BUSY_JOBS)
        first_s = float(trace.jobs.floats("submit_s")[window[0]])
        runs: dict[str, Result] = {}
        for arm, other in node_loads(busy, cluster.num_nodes, first_s, work, tell).items():
            tell(f"{busy.log.name} beside {busy.name}: {policy}, load {arm}")
            runs[arm] = without_tables(
                simulate(
                    trace,
                    policy="fcfs" if arm == "not told" else policy,
                    backfill="easy",
                    placement="least-loaded",
                    cluster=cluster,
                    window=window,
                    default_request_s=busy.log.default_request_s,
                    other_work=other,
                    details=False,
                )
            )
        found.append(judged(study, f"{busy.log.name} / {busy.name}", runs, STAYS))
    return found


HOLD_STEP_S = 600.0
SHORT = "short:3600"


def held_capacity(work: Work, tell: Tell, *, quick: bool) -> list[Trial]:
    """Capacity is held for short jobs that are expected in the next ten minutes."""
    found = []
    for log in (SDSC, CTC, KTH):
        trace, cluster = log.opened()
        window = last_part(trace, quick, by_time=True)  # arrivals are forecast by their times
        workload = prepare(trace, cluster)
        favoured = favoured_jobs(workload, SHORT)
        asked = arrivals(workload, favoured, HOLD_STEP_S)
        series = arrival_series(trace, asked, HOLD_STEP_S)
        told = np.maximum(np.nan_to_num(told_of(series, work, tell)[:, 0, 0], nan=0.0), 0.0)
        submit_s = workload.columns.submit_s
        before = asked[: int(submit_s[window[0]] // HOLD_STEP_S)]
        always = float(np.quantile(before, 0.9))
        arms = {
            "always the same": np.full_like(asked, always),
            "usual": usual_quantile(asked, 0.9),
            "predicted": told[:, 2],
            "perfect": asked,
        }
        short = favoured[window[0] : sum(window)]
        runs: dict[str, Result] = {}
        for arm, units in ({"none held": None, "sjf, none held": None} | arms).items():
            tell(f"{log.name}: held for short jobs: {arm}")
            runs[arm] = without_tables(
                simulate(
                    trace,
                    policy="sjf" if arm.startswith("sjf") else "fcfs",
                    backfill="easy",
                    window=window,
                    holding=None if units is None else Holding(short, HOLD_STEP_S, units, arm),
                    details=False,
                )
            )
        measures = (
            ("wait_s@short", "mean wait, short", mean),
            ("wait_s@short", "p95 wait, short", p95),
            ("wait_s@others", "mean wait, others", mean),
        )
        found.append(
            judged("held for short jobs", log.name, runs, measures, subsets={"short": short, "others": ~short})
        )
    return found


@dataclass(frozen=True, slots=True)
class Demand:
    """A recorded demand, and how many steps capacity takes to come."""

    name: str
    file: str
    lead: int


DEMANDS = (
    Demand("spot demand, 2 h", "alibaba-spot-2026/hourly_concurrency_part1.csv.gz", 2),
    Demand("Venus, 20 min", "helios/venus_throughput_10min_2020-04_07.csv.gz", 2),
    Demand("Philly nodes, 4 min", "philly/philly_node_sequence_part1.csv.gz", 4),
    Demand("MareNostrum, 6 min", "marenostrum3", 4),
)

UNMET = 0.005
"""Share of the demand that may go unmet: each rule gets the least headroom that kept to it on validation."""

HEADROOMS = np.concatenate([np.arange(0.8, 1.3, 0.01), np.arange(1.3, 3.0, 0.1)])


def scaling_ahead(work: Work, tell: Tell, *, quick: bool) -> list[Trial]:
    """Capacity follows the demand: by the last step, by the forecast, and by what will be."""
    found = []
    for wanted in DEMANDS[: 1 if quick else None]:
        series = read_series(TRACES / wanted.file, skip_bad=True)
        series = series.select(features=series.features[:1], nodes=series.nodes[:1])
        told = told_of(series, work, tell)[:, 0]
        demand = filled(np.asarray(series.values[..., 0], dtype=np.float64))[:, 0]
        arms = {
            "always the same": np.ones((len(demand), AHEAD)),
            "last step": as_before(demand, AHEAD),
            "predicted (median)": told[..., 1],
            "predicted (0.9)": told[..., 2],
            "perfect": ahead_of(demand, AHEAD),
        }
        tell(f"scaling {wanted.name}")
        found.append(_scaled(wanted, demand, arms))
    return found


def _scaled(wanted: Demand, demand: FloatArray, arms: dict[str, FloatArray]) -> Trial:
    """Headroom from the validation part, figures from the last 30 %; ratios are over following the last step."""
    first, cut = int(0.6 * len(demand)), int(TEST * len(demand))
    runs: dict[str, Scaled] = {}
    for arm, told in arms.items():
        scales = HEADROOMS * (demand[first:cut].mean() if arm == "always the same" else 1.0)
        headroom = next(
            (
                scale
                for scale in scales
                if replay_scaling(demand[first:cut], told[first:cut], ScalingRule(wanted.lead, scale)).unmet_share(
                    demand[first:cut]
                )
                <= UNMET
            ),
            scales[-1],
        )
        runs[arm] = replay_scaling(demand[cut:], told[cut:], ScalingRule(wanted.lead, float(headroom)))
    order = ["last step", *(arm for arm in runs if arm != "last step")]
    test = demand[cut:]
    paid = _ratios([runs[arm].paid for arm in order])
    unmet = tuple(Cell(100 * runs[arm].unmet_share(test)) for arm in order)
    used = tuple(Cell(float(np.minimum(test, runs[arm].capacity).sum() / runs[arm].paid.sum())) for arm in order)
    return Trial(
        "scaling",
        wanted.name,
        tuple(order),
        {"mean units paid for": paid, "unmet": unmet, "utilisation": used},
        {"mean units paid for": "units", "unmet": "%", "utilisation": "share"},
    )


def _ratios(values: Sequence[FloatArray]) -> tuple[Cell, ...]:
    from examples.forecasts.arms import compared

    return tuple(compared(list(values), mean))


STUDIES = {
    "run-times": run_times,
    "placement": placement_by_load,
    "order": order_by_load,
    "hold": held_capacity,
    "scaling": scaling_ahead,
}
