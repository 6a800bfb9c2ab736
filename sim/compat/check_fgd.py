"""Compare ``fgd-openb`` with the recorded runs of the authors' simulator; ``check`` prints the outcome.

Each run of a seed is compared by its curves, point by point: a unit of the last printed decimal is allowed, because a
mean may lie on the border between two. ``random`` draws other numbers here, so its means over the seeds are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shunter.sim.compat import fgd, fgd_bellman, fgd_files
from shunter.sim.compat.fgd import FgdRun
from shunter.sim.compat.fgd_files import FgdNodes, FgdPods

if TYPE_CHECKING:
    import polars as pl

POLICY_OF = {
    "01-Random": "random",
    "02-DotProd": "dot-product",
    "03-GpuClustering": "clustering",
    "04-GpuPacking": "packing",
    "05-BestFit": "best-fit",
    "06-FGD": "fgd",
}
"""Policy of a recorded run → this project's name."""

LAST_DECIMAL_PCT = 0.0100001
"""A unit of the second decimal, to which the curves are printed."""

MEAN_PCT = 0.3
"""Largest difference of means over ten seeds, percentage points, where the random numbers are not the same."""

HALF_CENT_MILLI = 0.0050001
"""Half a unit of the second decimal, to which the fragmentation after each event is printed."""

EVENT_FILE = "fgd_default_seed42_events.csv.gz"
NODE_LIST = "openb_node_list_gpu_node.csv.gz"
EVENTS = ("openb_pod_list_default", "fgd", 42)
"""Workload, policy and seed of the recorded events."""

ALLOCATED, FRAGMENTED = "gpu_alloc_pct.csv.gz", "gpu_frag_pct_of_total.csv.gz"
AT_PCT = 100

Outcome = tuple[str, bool, float]


@dataclass(frozen=True, slots=True)
class Cell:
    """One policy on one workload: means over the seeds, in percent of the cluster's GPUs.

    Attributes:
        workload: Name of the list of pods.
        policy: Name of the policy.
        seeds: Number of seeds.
        equal: Runs whose curves are equal, point by point.
        largest: Largest difference of a point of a run.
        allocated: Ours and theirs when as much has been asked for as there is.
        fragmented: As ``allocated``, of fragmented GPUs.
        mean_difference: Largest difference of the mean curves, over all points of both.
    """

    workload: str
    policy: str
    seeds: int
    equal: int
    largest: float
    allocated: tuple[float, float]
    fragmented: tuple[float, float]
    mean_difference: float

    @property
    def difference_at_full(self) -> float:
        """Difference of the means at 100 %, the larger of allocation's and fragmentation's."""
        return max(abs(ours - theirs) for ours, theirs in (self.allocated, self.fragmented))


def events(folder: Path, lists: Path) -> Iterator[Outcome]:
    """The recorded run, event by event: accounted for by both measures of fragmentation, and repeated."""
    workload, policy, seed = EVENTS
    pods, nodes = fgd_files.load(lists / f"{workload}.csv.gz"), fgd_files.load_nodes(lists / NODE_LIST)
    golden = read_events(folder, pods, nodes)
    run = fgd.run(pods, nodes, policy, seed)
    same = all(np.array_equal(getattr(run, name), getattr(golden, name)) for name in ("pod", "cloned", "node", "holds"))
    for name, ours in (
        ("accounting", fgd.account(pods, nodes, golden.pod, golden.node, golden.holds)),
        ("placements", run),
    ):
        same = same or name == "accounting"
        same_amounts = np.array_equal(ours.arrived_milli, golden.arrived_milli) and np.array_equal(
            ours.used_milli, golden.used_milli
        )
        off = float(np.abs(ours.fragmented_milli - golden.fragmented_milli).max())
        yield f"{workload} {policy} seed {seed} {name}", same and same_amounts and off <= HALF_CENT_MILLI, off
    off = loss_difference(folder, lists)
    yield f"{workload} {policy} seed {seed} loss in the end", off <= HALF_CENT_MILLI, off


def loss_difference(folder: Path, lists: Path, *, events: int = 0) -> float:
    """Largest difference of the loss in the end (``fgd_bellman``) after the first ``events`` events, or all of them."""
    import polars as pl

    workload, _, seed = EVENTS
    pods, nodes = fgd_files.load(lists / f"{workload}.csv.gz"), fgd_files.load_nodes(lists / NODE_LIST)
    theirs = pl.read_csv(folder / EVENT_FILE)["frag_bellman"].to_list()[: events or None]
    order = fgd.draw(pods, nodes, seed)[2]
    ours = fgd_bellman.losses(pods, nodes, read_events(folder, pods, nodes), order)
    return max(abs(after - float(recorded)) for after, recorded in zip(ours, theirs, strict=False))


def read_events(folder: Path, pods: FgdPods, nodes: FgdNodes) -> FgdRun:
    """The recorded events of one run."""
    import polars as pl

    frame = pl.read_csv(folder / EVENT_FILE, schema_overrides={"gpu_index": pl.String})
    row_of_pod = {name: row for row, name in enumerate(pods.pod_names)}
    row_of_node = {name: row for row, name in enumerate(nodes.node_names)}
    holds = np.zeros((len(frame), int(nodes.gpus.max())), dtype=np.bool_)
    for row, index in enumerate(frame["gpu_index"]):
        holds[row, [int(gpu) for gpu in index.split("-")] if index else []] = True
    return FgdRun(
        pod=np.array([row_of_pod[name] for name in frame["spec_of"]]),
        cloned=frame["cloned"].to_numpy() == 1,
        node=np.array([-1 if name is None else row_of_node[name] for name in frame["node"]]),
        holds=holds,
        arrived_milli=frame["arrived_milli"].to_numpy(),
        used_milli=frame["used_milli"].to_numpy(),
        fragmented_milli=frame["frag_origin"].to_numpy(),
        total_milli=nodes.gpu_milli,
    )


def cells(folder: Path, lists: Path, *, workloads: tuple[str, ...] = (), seeds: int = 0) -> Iterator[Cell]:
    """Every recorded policy and workload.

    Args:
        folder: Golden folder.
        lists: Folder of the lists of pods and nodes.
        workloads: Only these; none: all.
        seeds: Only the first so many seeds; 0: all.
    """
    import polars as pl

    nodes = fgd_files.load_nodes(lists / NODE_LIST)
    tables = [pl.read_csv(folder / name) for name in (ALLOCATED, FRAGMENTED)]
    for workload in workloads or tuple(tables[0]["workload"].unique(maintain_order=True)):
        pods = fgd_files.load(lists / f"{workload}.csv.gz")
        for theirs, policy in POLICY_OF.items():
            wanted = (pl.col("workload") == workload) & (pl.col("sc_policy") == theirs)
            recorded = [table.filter(wanted).sort("seed")[: seeds or None] for table in tables]
            runs = [fgd.run(pods, nodes, policy, seed) for seed in recorded[0]["seed"]]
            yield compare_cell(workload, policy, runs, recorded)


def compare_cell(workload: str, policy: str, runs: list[FgdRun], recorded: list[pl.DataFrame]) -> Cell:
    """The runs of one policy on one workload beside the recorded allocation and fragmentation."""
    import polars as pl

    curves = [[run.allocation_curve() for run in runs], [run.fragmentation_curve() for run in runs]]
    percents = [column for column in recorded[0].columns if column.isdigit()]
    # (2, seeds, points); a point that a run has not reached is NaN, in both
    ours = np.array([[[curve.get(int(p), np.nan) for p in percents] for curve in kind] for kind in curves])
    theirs = np.array([table.select(percents).cast(pl.Float64).to_numpy() for table in recorded])
    off = np.where(np.isnan(ours) & np.isnan(theirs), 0.0, np.abs(ours - theirs))
    off = np.where(np.isnan(off), np.inf, off)
    means = ours.mean(axis=1), theirs.mean(axis=1)
    at = percents.index(str(AT_PCT))
    return Cell(
        workload=workload,
        policy=policy,
        seeds=len(runs),
        equal=int((off.max(axis=(0, 2)) <= LAST_DECIMAL_PCT).sum()),
        largest=float(off.max()),
        allocated=(float(means[0][0, at]), float(means[1][0, at])),
        fragmented=(float(means[0][1, at]), float(means[1][1, at])),
        mean_difference=float(np.nanmax(np.abs(means[0] - means[1]))),
    )


def outcomes(found: list[Cell]) -> Iterator[Outcome]:
    """One outcome a policy and workload: every run equal, or for ``random`` the means at 100 % close enough."""
    for cell in found:
        name = f"{cell.workload} {cell.policy}, {cell.seeds} seeds"
        if cell.policy == "random":
            yield name, cell.difference_at_full <= MEAN_PCT, cell.difference_at_full
        else:
            yield name, cell.equal == cell.seeds, cell.largest


def table(found: list[Cell]) -> str:
    """Ours beside theirs, one line a workload and policy."""
    both = "ours / theirs"
    lines = [
        f"{'workload':27} {'policy':12} {'equal':>6} {'allocated at 100 %':>19} {'fragmented at 100 %':>20} curves",
        f"{'':27} {'':12} {'runs':>6} {both:>19} {both:>20} differ",
    ]
    lines += [
        f"{cell.workload:27} {cell.policy:12} {f'{cell.equal}/{cell.seeds}':>6} "
        f"{'{:.2f} / {:.2f}'.format(*cell.allocated):>19} {'{:.2f} / {:.2f}'.format(*cell.fragmented):>20} "
        f"{cell.mean_difference:6.3f}"
        for cell in found
    ]
    return "\n".join(lines) + "\n"
