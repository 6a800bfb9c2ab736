"""How good a node is for one task, and which of its GPUs the task takes.

Each placement gives every node on which the task fits 0 to 100 points; the task goes to the node with the most, the
lowest row among equals. A task asks for CPUs, memory, and either whole GPUs or a share of one GPU. Whole GPUs are the
first unused ones; the GPU for a share is chosen by the placement.

Sources: packing, clustering, dot-product (Tetris, SIGCOMM 2014) and best-fit as compared in Weng et al., USENIX ATC
2023, section 6.1; fgd is theirs.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.fragmentation import (
    WHOLE_GPU,
    Typical,
    count_gpu,
    count_gpus,
    counted_fragmentation,
    fragmentation,
    gradient_points,
)
from shunter.scheduler.layout import BEST_FIT, CLUSTERING, DOT_PRODUCT, FGD, FIRST_FIT, PACKING, RANDOM, WORST_FIT
from shunter.scheduler.types import BoolArray, FloatArray, Int, IntArray

CODE_OF = {
    "first-fit": FIRST_FIT,
    "best-fit": BEST_FIT,
    "worst-fit": WORST_FIT,
    "dot-product": DOT_PRODUCT,
    "packing": PACKING,
    "clustering": CLUSTERING,
    "fgd": FGD,
    "random": RANDOM,
}
"""Name of a placement → its code."""

DOES_NOT_FIT = -1.0
"""Score of a node on which the task does not fit."""

FIRST_GPU_ITEM = 1 << 40
"""What ``random`` draws for GPU g of a node is item 2^40 + g of the decision; lower items are nodes."""


class Nodes(NamedTuple):
    """What is free on the nodes.

    Attributes:
        free_cpu: (N,) milli-CPU.
        free_memory: (N,) KiB.
        free_gpu: (N, G) milli-GPU of each GPU.
        num_gpus: (N,) GPUs of the node; columns of ``free_gpu`` from there on are unused.
        node_class: (N,) column of the tables of allowed classes.
        kinds: (N, G + 1) running tasks by kind: column 0 those with a share of a GPU, column g those with g GPUs.
        fragmentation: (N,) present fragmentation of the node, milli-GPU; only fgd reads it.
    """

    free_cpu: IntArray
    free_memory: IntArray
    free_gpu: IntArray
    num_gpus: IntArray
    node_class: IntArray
    kinds: IntArray
    fragmentation: FloatArray


class Tasks(NamedTuple):
    """What tasks ask for, by shape.

    Attributes:
        cpu: (S,) milli-CPU.
        memory: (S,) KiB.
        share: (S,) milli-GPU on each of its GPUs: 1000 for whole GPUs, less for a share of one; 0 without GPUs.
        gpus: (S,) number of GPUs.
        allowed: (S, C) whether a task may use nodes of a class.
    """

    cpu: IntArray
    memory: IntArray
    share: IntArray
    gpus: IntArray
    allowed: BoolArray | IntArray


class Scoring(NamedTuple):
    """What the scores are measured against.

    Attributes:
        max_cpu: Milli-CPU of the largest node, to which CPUs are set in proportion.
        max_gpu: Milli-GPU of the largest node.
        whole_points: Whether fgd takes the first of GPUs whose points differ after the decimal point only.
        seed: Seed of ``random``.
        typical: The tasks that stand for the workload; only fgd reads them.
        scratch: (G,) milli-GPU.
    """

    max_cpu: float
    max_gpu: float
    whole_points: bool
    seed: int
    typical: Typical
    scratch: IntArray


@compiled
def fits(nodes: Nodes, tasks: Tasks, node: Int, shape: Int) -> bool:
    """Whether a task can start on a node now. Cost: O(G)."""
    if nodes.free_cpu[node] < tasks.cpu[shape] or nodes.free_memory[node] < tasks.memory[shape]:
        return False
    wanted = tasks.gpus[shape]
    if wanted == 0:
        return True
    if not tasks.allowed[shape, nodes.node_class[node]]:
        return False
    for g in range(nodes.num_gpus[node]):
        if nodes.free_gpu[node, g] >= tasks.share[shape]:
            wanted -= 1
            if wanted == 0:
                return True
    return False


@compiled
def node_score(
    nodes: Nodes, tasks: Tasks, node: Int, shape: Int, placement: Int, using: Scoring, decision: Int
) -> float:
    """Points of a node for a task under a placement, 0 to 100; −1 when it does not fit.

    Args:
        nodes: What is free.
        tasks: What is asked for.
        node: Row of the node.
        shape: Row of the task.
        placement: One of the codes in ``CODE_OF``.
        using: What scores are measured against.
        decision: Number of the decision, from which ``random`` draws.

    Cost: O(G); fgd O(G (L + T)).
    """
    if not fits(nodes, tasks, node, shape):
        return DOES_NOT_FIT
    if placement == BEST_FIT:
        return 100.0 * (1.0 - left_over(nodes, tasks, node, shape, using))
    if placement == WORST_FIT:
        return 100.0 * left_over(nodes, tasks, node, shape, using)
    if placement == DOT_PRODUCT:
        return 100.0 * (1.0 - alignment(nodes, tasks, node, shape, using))
    if placement == PACKING:
        return packing_points(nodes, tasks, node, shape)
    if placement == CLUSTERING:
        return clustering_points(nodes, tasks, node, shape, using)
    if placement == FGD:
        return fgd_points(nodes, tasks, node, shape, using)
    if placement == RANDOM:
        return 100.0 * drawn(using.seed, decision, node)
    return 0.0


@compiled
def idle_gpu(nodes: Nodes, node: Int) -> Int:
    """Free milli-GPU of a node over all its GPUs."""
    total = 0
    for g in range(nodes.num_gpus[node]):
        total += nodes.free_gpu[node, g]
    return total


@compiled
def left_over(nodes: Nodes, tasks: Tasks, node: Int, shape: Int, using: Scoring) -> float:
    """Mean of the CPU and GPU capacity that the task would leave free, as shares of the largest node: 0 to 1."""
    cpu = float(nodes.free_cpu[node]) - float(tasks.cpu[shape])
    gpu = float(idle_gpu(nodes, node)) - float(tasks.share[shape] * tasks.gpus[shape])
    return cpu / using.max_cpu * 0.5 + gpu / using.max_gpu * 0.5


@compiled
def alignment(nodes: Nodes, tasks: Tasks, node: Int, shape: Int, using: Scoring) -> float:
    """Mean product of what is free and what is asked for, as shares of the largest node: 0 to 1."""
    cpu = float(nodes.free_cpu[node]) / using.max_cpu * (float(tasks.cpu[shape]) / using.max_cpu)
    asked = float(tasks.share[shape] * tasks.gpus[shape]) / using.max_gpu
    return (cpu + float(idle_gpu(nodes, node)) / using.max_gpu * asked) / 2.0


@compiled
def packing_points(nodes: Nodes, tasks: Tasks, node: Int, shape: Int) -> float:
    """Points of packing: GPUs in use first, then unused GPUs of nodes in use, then unused nodes.

    100 less a tenth of the percentage free on the GPU that is shared; at most 50 when unused GPUs are taken, less one
    for each; at most 33 on an unused node, less one for each of its GPUs. Without GPUs 0.
    """
    wanted = tasks.gpus[shape]
    if wanted == 0:
        return 0.0
    unused = 0
    for g in range(nodes.num_gpus[node]):
        if nodes.free_gpu[node, g] == WHOLE_GPU:
            unused += 1
    if unused == nodes.num_gpus[node]:
        return float(max(33 - unused, unused))
    gpu = tightest_gpu(nodes, node, tasks.share[shape])
    if nodes.free_gpu[node, gpu] == WHOLE_GPU:
        return float(max(50 - wanted, 33))
    return float(max(100 - nodes.free_gpu[node, gpu] * 100 // WHOLE_GPU // 10, 50))


@compiled
def clustering_points(nodes: Nodes, tasks: Tasks, node: Int, shape: Int, using: Scoring) -> float:
    """Points of clustering: nodes that run tasks of this kind only, then with others, then idle ones, then the rest.

    25 points for each step, and within a step more the fewer GPUs are free. Without GPUs 0.
    """
    if tasks.gpus[shape] == 0:
        return 0.0
    kinds = 0
    for kind in range(nodes.kinds.shape[1]):
        if nodes.kinds[node, kind] > 0:
            kinds += 1
    step = 0
    if nodes.kinds[node, kind_of(tasks, shape)] > 0:
        step = 3 if kinds == 1 else 2
    elif kinds == 0:
        step = 1
    return 25.0 * step + 25.0 * (using.max_gpu - idle_gpu(nodes, node)) / using.max_gpu


@compiled
def kind_of(tasks: Tasks, shape: Int) -> Int:
    """Column of ``Nodes.kinds`` for a task with GPUs: 0 for a share of one, else how many."""
    return 0 if tasks.share[shape] < WHOLE_GPU else tasks.gpus[shape]


@compiled
def fgd_points(nodes: Nodes, tasks: Tasks, node: Int, shape: Int, using: Scoring) -> float:
    """Points of fragmentation gradient descent, with the GPU that gives a share the most. Cost: O(G (L + T))."""
    if 0 < tasks.share[shape] < WHOLE_GPU:
        return steepest_gpu(nodes, tasks, node, shape, using)[1]
    wanted = tasks.gpus[shape]
    for g in range(nodes.num_gpus[node]):
        using.scratch[g] = nodes.free_gpu[node, g]
        if wanted > 0 and using.scratch[g] == WHOLE_GPU:
            using.scratch[g] = 0
            wanted -= 1
    idle = count_gpus(using.typical, using.scratch, nodes.num_gpus[node])
    return points_after(nodes, tasks, node, shape, idle, using)


@compiled
def points_after(nodes: Nodes, tasks: Tasks, node: Int, shape: Int, idle: Int, using: Scoring) -> float:
    """Points of fgd when the task leaves the GPUs as counted, with ``idle`` milli-GPU free."""
    free_cpu = nodes.free_cpu[node] - tasks.cpu[shape]
    after = counted_fragmentation(using.typical, free_cpu, idle, nodes.node_class[node])
    return gradient_points(nodes.fragmentation[node], after)


@compiled
def steepest_gpu(nodes: Nodes, tasks: Tasks, node: Int, shape: Int, using: Scoring) -> tuple[Int, float]:
    """The GPU with the most points of fgd for a share, the first among equals, and its points; −1 when none fits."""
    for g in range(nodes.num_gpus[node]):
        using.scratch[g] = nodes.free_gpu[node, g]
    share = tasks.share[shape]
    idle = count_gpus(using.typical, using.scratch, nodes.num_gpus[node]) - share
    best = -1
    most = 0.0
    for gpu in range(nodes.num_gpus[node]):
        free = nodes.free_gpu[node, gpu]
        if free < share or seen_before(nodes, node, gpu):
            continue
        count_gpu(using.typical, free, -1)
        count_gpu(using.typical, free - share, 1)
        points = points_after(nodes, tasks, node, shape, idle, using)
        count_gpu(using.typical, free - share, -1)
        count_gpu(using.typical, free, 1)
        if using.whole_points:
            points = np.floor(points)
        if best < 0 or points > most:
            best = gpu
            most = points
    return best, most


@compiled
def seen_before(nodes: Nodes, node: Int, gpu: Int) -> bool:
    """Whether a GPU before this one has as much free."""
    first = 0
    while nodes.free_gpu[node, first] != nodes.free_gpu[node, gpu]:
        first += 1
    return bool(first < gpu)


@compiled
def tightest_gpu(nodes: Nodes, node: Int, share: Int) -> Int:
    """The first GPU with the least free that is enough for a share; −1 when none is."""
    best = -1
    for g in range(nodes.num_gpus[node]):
        if nodes.free_gpu[node, g] >= share and (best < 0 or nodes.free_gpu[node, g] < nodes.free_gpu[node, best]):
            best = g
    return best


@compiled
def choose_gpus(
    nodes: Nodes,
    tasks: Tasks,
    node: Int,
    shape: Int,
    placement: Int,
    using: Scoring,
    decision: Int,
    chosen: IntArray,
) -> Int:
    """Which GPUs a task takes of a node on which it fits, into ``chosen`` (G,); returns how many.

    The other arguments are those of ``node_score``.
    """
    share = tasks.share[shape]
    if share == 0:
        return 0
    if share < WHOLE_GPU:
        if placement == FGD:
            chosen[0] = steepest_gpu(nodes, tasks, node, shape, using)[0]
        elif placement in (FIRST_FIT, WORST_FIT, RANDOM):
            chosen[0] = other_gpu(nodes, node, share, placement, using, decision)
        else:
            chosen[0] = tightest_gpu(nodes, node, share)
        return 1
    count = 0
    for g in range(nodes.num_gpus[node]):
        if count < tasks.gpus[shape] and nodes.free_gpu[node, g] == WHOLE_GPU:
            chosen[count] = g
            count += 1
    return count


@compiled
def other_gpu(nodes: Nodes, node: Int, share: Int, placement: Int, using: Scoring, decision: Int) -> Int:
    """The GPU for a share under first-fit, worst-fit and random."""
    best = -1
    most = 0.0
    for g in range(nodes.num_gpus[node]):
        if nodes.free_gpu[node, g] < share:
            continue
        points = 0.0
        if placement == WORST_FIT:
            points = float(nodes.free_gpu[node, g])
        elif placement == RANDOM:
            points = drawn(using.seed, decision, FIRST_GPU_ITEM + g)
        if best < 0 or points > most:
            best = g
            most = points
    return best


@compiled
def hold(nodes: Nodes, tasks: Tasks, node: Int, shape: Int, chosen: IntArray, count: Int, sign: Int) -> None:
    """Take (``sign`` 1) or give back (−1) what a task holds on a node and on its ``count`` chosen GPUs.

    ``nodes.fragmentation`` is left as it is; see ``refresh``.
    """
    nodes.free_cpu[node] -= sign * tasks.cpu[shape]
    nodes.free_memory[node] -= sign * tasks.memory[shape]
    for i in range(count):
        nodes.free_gpu[node, chosen[i]] -= sign * tasks.share[shape]
    if count > 0:
        nodes.kinds[node, kind_of(tasks, shape)] += sign


@compiled
def refresh(nodes: Nodes, node: Int, using: Scoring) -> None:
    """Work out ``nodes.fragmentation`` of a node anew. Cost: O(L G + T)."""
    for g in range(nodes.num_gpus[node]):
        using.scratch[g] = nodes.free_gpu[node, g]
    nodes.fragmentation[node] = fragmentation(
        using.typical, nodes.free_cpu[node], using.scratch, nodes.num_gpus[node], nodes.node_class[node]
    )


@compiled
def drawn(seed: Int, decision: Int, item: Int) -> float:
    """A number in [0, 1) from a seed, a decision and an item: always the same one, without a hidden state.

    Source: the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
    """
    mixed = np.uint64(0)
    for word in (np.uint64(seed), np.uint64(decision), np.uint64(item)):
        mixed = (mixed ^ word) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return float(mixed >> np.uint64(11)) * (1.0 / (1 << 53))
