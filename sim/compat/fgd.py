"""Inflation runs of the FGD paper: pods arrive one by one until they ask for 130 % of the cluster's GPUs.

The list of pods is shuffled with the seed; pods drawn from it are put behind until all together ask for ``ratio`` times
the cluster (a longer list is thinned out instead). Nobody leaves; a pod that fits nowhere is dropped. Allocation and
fragmentation are written down after every pod, and read off by the GPU demand that has arrived.

The numbers drawn are those of the authors' simulator (kubernetes-scheduler-simulator, in Go), as is its rule for nodes
of equal score: a permutation of the nodes, drawn with the seed, ranks them. So a run repeats theirs pod by pod, but for
``random``, which in theirs depends on the timing of threads. docs/reference/protocols.md says how closely it matches.
Source: Weng et al., USENIX ATC 2023.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import TraceError, UsageError, nearest
from shunter.scheduler.types import BoolArray, FloatArray, IntArray
from shunter.sim.compat.fgd_files import WHOLE_GPU_MILLI, FgdNodes, FgdPods, may_use, refuse_unknown_models
from shunter.sim.compat.go_random import GoRandom

if TYPE_CHECKING:
    from shunter.scheduler.kernels.fragmentation import Typical
    from shunter.scheduler.kernels.scoring import Nodes, Scoring, Tasks

POLICIES = ("fgd", "best-fit", "dot-product", "packing", "clustering", "random")
TUNING_RATIO = 1.3
"""GPU demand that arrives, relative to the cluster."""

POPULARITY = 0.95
"""Typical pods are the most frequent ones that together make up this share of the list."""

MAX_CPU_MILLI = 128_000
MAX_GPU_MILLI = 8_000
"""Largest node of openb, which the authors' scores are measured against."""

DRAWN_BY_WATCHES = 10
"""Numbers that the scheduler of the authors' simulator draws, for its time-outs, before it ranks the nodes."""


@dataclass(frozen=True, slots=True)
class FgdRun:
    """What happened, pod by pod in order of arrival.

    Attributes:
        pod: (E,) row of the pod, or of the one that it is a copy of.
        cloned: (E,) whether it is a copy.
        node: (E,) row of the node; −1 where the pod was dropped.
        holds: (E, G) GPUs of the node that it holds.
        arrived_milli: (E,) milli-GPU that has been asked for, this pod's included.
        used_milli: (E,) milli-GPU allocated after the pod.
        fragmented_milli: (E,) milli-GPU fragmented after the pod.
        total_milli: Milli-GPU of the cluster.
    """

    pod: IntArray
    cloned: BoolArray
    node: IntArray
    holds: BoolArray
    arrived_milli: IntArray
    used_milli: IntArray
    fragmented_milli: FloatArray
    total_milli: int

    @property
    def gpus(self) -> int:
        """GPUs of the cluster."""
        return self.total_milli // WHOLE_GPU_MILLI

    def allocation_curve(self) -> dict[int, float]:
        """Allocated GPUs (% of the cluster) by the GPU demand that has arrived (whole % of the cluster).

        Each point is the mean over the pods after which the demand rounds to it; where there is none, over those of its
        neighbours. Rounded as in the authors' tables: to two decimals, before the mean and after it.
        """
        values = np.array([round(milli / self.gpus / 10, 2) for milli in self.used_milli.tolist()])
        return {percent: round(mean, 2) for percent, mean in self._means(values).items()}

    def fragmentation_curve(self) -> dict[int, float]:
        """As ``allocation_curve``, of fragmented GPUs."""
        means = self._means(np.round(self.fragmented_milli, 2))
        return {percent: round(100 * mean / 1000 / self.gpus, 2) for percent, mean in means.items()}

    def _means(self, values: FloatArray) -> dict[int, float]:
        arrived = np.round(self.arrived_milli / self.gpus / 10)
        means: dict[int, float] = {}
        for percent in range(int(arrived[-1]) + 1):
            first, last = np.searchsorted(arrived, [percent, percent + 1])
            if first == last:
                first, last = np.searchsorted(arrived, [percent - 1, percent + 2])
            if first < last:
                means[percent] = float(values[first:last].mean())
        return means


def allowed_table(specs: Sequence[str], classes: Sequence[str]) -> BoolArray:
    """(S, C) whether a pod that names the models ``specs[s]`` may use GPUs of model ``classes[c]``."""
    table = [[may_use(models, model) for model in classes] for models in specs]
    return np.array(table, dtype=np.bool_).reshape(len(specs), len(classes))


def typical_pods(pods: FgdPods, classes: Sequence[str]) -> Typical:
    """The most frequent pods (CPU, GPUs, share, models) up to ``POPULARITY`` of the list; the weights sum to 1."""
    from shunter.scheduler.kernels.fragmentation import make_typical

    keys = list(zip(pods.cpu_milli.tolist(), pods.share_milli.tolist(), pods.gpus.tolist(), pods.models, strict=True))
    counted = Counter(keys[shape] for shape in pods.shape_idx)
    ranked = sorted(((count, key) for key, count in counted.items()), reverse=True)
    total = float(len(pods))
    covered, kept = 0.0, 0
    while covered < POPULARITY * 100 * total / 100.0:
        covered += ranked[kept][0]
        kept += 1
    ranked = ranked[:kept]
    whole = kept == len(counted)
    cpu, share, gpus, models = zip(*(key for _, key in ranked), strict=True)
    weight = [count / total if whole else count / total / (covered / total) for count, _ in ranked]
    return make_typical(
        cpu=np.array(cpu, dtype=np.int64),
        share=np.array(share, dtype=np.int64),
        gpus=np.array(gpus, dtype=np.int64),
        weight=np.array(weight, dtype=np.float64),
        allowed=allowed_table(models, classes),
    )


def arrivals(pods: FgdPods, total_milli: int, ratio: float, random: GoRandom) -> tuple[IntArray, int]:
    """Rows of the pods that arrive, and how many of them, at the end, are copies.

    Args:
        pods: The list.
        total_milli: Milli-GPU of the cluster.
        ratio: GPU demand that is to arrive, relative to it.
        random: Drawn from: the shuffle, then one number for each pod that is added or taken away.

    Raises:
        TraceError: No pod asks for a GPU.
    """
    demand = pods.demand_milli.tolist()
    share = pods.share_milli[pods.shape_idx].tolist()
    asked, wanted = sum(demand), ratio * total_milli
    if asked == 0:
        raise TraceError(f"{pods.source}: no pod asks for a GPU")
    order = list(range(len(pods)))
    random.shuffle(order)
    while asked > wanted:
        asked -= demand[order.pop(random.intn(len(order)))]
    if len(order) < len(pods) or asked == wanted:
        return np.array(order, dtype=np.int64), 0
    while True:
        row = random.intn(len(pods))
        if asked + share[row] > wanted:  # one GPU's share, not the pod's whole demand, as in the authors' simulator
            return np.array(order, dtype=np.int64), len(order) - len(pods)
        asked += demand[row]
        order.append(row)


def draw(pods: FgdPods, nodes: FgdNodes, seed: int, ratio: float = TUNING_RATIO) -> tuple[IntArray, int, IntArray]:
    """What chance decides in a run: ``arrivals``, and the rows of the nodes in order of their ranks."""
    random = GoRandom(seed)
    random.int63()  # the authors' simulator draws one number for its log
    rows, copies = arrivals(pods, nodes.gpu_milli, ratio, random)
    for _ in range(DRAWN_BY_WATCHES):
        random.int63()
    return rows, copies, np.argsort(random.perm(len(nodes.node_names)))


def run(
    pods: FgdPods,
    nodes: FgdNodes,
    policy: str,
    seed: int,
    *,
    ratio: float = TUNING_RATIO,
    typical: Typical | None = None,
) -> FgdRun:
    """One inflation run.

    Args:
        pods: The list of pods.
        nodes: The cluster.
        policy: One of ``POLICIES``.
        seed: Of the order of arrival, the copies and the ranks of the nodes.
        ratio: GPU demand that arrives, relative to the cluster.
        typical: Typical pods that fragmentation is measured against; None: those of ``pods``.

    Raises:
        UsageError: Unknown policy.
        TraceError: A pod names GPU models of which no node has any, or no pod asks for a GPU.
    """
    from shunter.scheduler.kernels.scoring import CODE_OF
    from shunter.sim.compat import fgd_kernel

    if policy not in POLICIES:
        raise UsageError(f"protocol fgd-openb has no policy {policy!r}{nearest(policy, list(POLICIES))}")
    refuse_unknown_models(pods, nodes)
    rows, copies, by_rank = draw(pods, nodes, seed, ratio)
    state, tasks, scoring = tables(pods, nodes, by_rank, seed, typical)
    done = fgd_kernel.inflate(state, tasks, pods.shape_idx[rows], CODE_OF[policy], scoring)
    return FgdRun(
        pod=rows,
        cloned=np.arange(len(rows)) >= len(rows) - copies,
        node=np.where(done.node >= 0, by_rank[done.node], -1),
        holds=done.holds,
        arrived_milli=np.cumsum(pods.demand_milli[rows]),
        used_milli=done.used,
        fragmented_milli=done.fragmented,
        total_milli=nodes.gpu_milli,
    )


def account(pods: FgdPods, nodes: FgdNodes, rows: IntArray, node: IntArray, holds: BoolArray) -> FgdRun:
    """Allocation and fragmentation after every pod when the placements were made elsewhere.

    Args:
        pods: The list of pods.
        nodes: The cluster.
        rows: (E,) rows of the pods in order of arrival.
        node: (E,) row of the node; −1 where the pod was dropped.
        holds: (E, G) GPUs of the node that it holds.
    """
    from shunter.sim.compat import fgd_kernel

    state, tasks, scoring = tables(pods, nodes, np.arange(len(nodes.node_names)), 0, None)
    done = fgd_kernel.replay(state, tasks, pods.shape_idx[rows], node, holds, scoring)
    arrived = np.cumsum(pods.demand_milli[rows])
    cloned = np.zeros(len(rows), dtype=np.bool_)
    return FgdRun(rows, cloned, node, holds, arrived, done.used, done.fragmented, nodes.gpu_milli)


def tables(
    pods: FgdPods, nodes: FgdNodes, order: IntArray, seed: int, typical: Typical | None
) -> tuple[Nodes, Tasks, Scoring]:
    """What the kernels work on: the empty nodes in ``order``, the shapes of the pods, what scores are set against."""
    from shunter.scheduler.kernels.scoring import Nodes, Scoring, Tasks

    classes = sorted(set(nodes.models))
    gpus = nodes.gpus[order]
    most = max(1, int(gpus.max()))
    free_gpu = np.where(np.arange(most) < gpus[:, None], WHOLE_GPU_MILLI, 0).astype(np.int64)
    state = Nodes(
        free_cpu=nodes.cpu_milli[order],
        free_memory=nodes.memory_kib[order],
        free_gpu=free_gpu,
        num_gpus=gpus,
        node_class=np.searchsorted(classes, np.array(nodes.models)[order]).astype(np.int64),
        kinds=np.zeros((len(order), most + 1), dtype=np.int64),
        fragmentation=np.zeros(len(order)),
    )
    tasks = Tasks(
        cpu=np.array(pods.cpu_milli),
        memory=np.array(pods.memory_kib),
        share=np.array(pods.share_milli),
        gpus=np.array(pods.gpus),
        allowed=allowed_table(pods.models, classes),
    )
    scoring = Scoring(
        max_cpu=float(max(MAX_CPU_MILLI, nodes.cpu_milli.max())),
        max_gpu=float(max(MAX_GPU_MILLI, int(gpus.max()) * WHOLE_GPU_MILLI)),
        whole_points=True,
        seed=seed,
        typical=typical_pods(pods, classes) if typical is None else typical,
        scratch=np.zeros(most, dtype=np.int64),
    )
    return state, tasks, scoring


def warm_up() -> None:
    """Compile the loops, or load them from the disk cache, so that the next run measures the run alone."""
    one = np.ones(1, dtype=np.int64)
    pods = FgdPods("one pod", "one pod", ("pod",), one - 1, one, one, one, one * WHOLE_GPU_MILLI, ("",))
    run(pods, FgdNodes("one node", ("node",), one, one, one, ("",)), "fgd", 0)
