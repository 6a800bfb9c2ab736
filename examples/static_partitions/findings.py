"""What follows from the replays: changes with their intervals, smallest pools, everything that was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from examples.static_partitions.jobs import GPUS_PER_NODE, Study, nodes_for
from examples.static_partitions.replays import (
    LADDER,
    PARTITION_EASY,
    PARTITION_FCFS,
    POOL_EASY,
    SWEEP,
    Arm,
    Bench,
    Measured,
)
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.compare import expanded_quantiles, window_draws

LOADS = (0.60, 0.75, 0.90, 1.10)
MAIN_LOAD = 0.75


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
