"""Compiled loops of the ``fgd-openb`` protocol: pods arrive one by one and never leave.

Scores are cut to whole points, and the node of the lowest row wins among equals: the caller orders the nodes by their
rank. A pod's scores are kept by its shape and worked out anew only for nodes that have changed since.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import allocating, compiled
from shunter.scheduler.kernels.scoring import (
    DOES_NOT_FIT,
    Nodes,
    Scoring,
    Tasks,
    choose_gpus,
    hold,
    node_score,
    refresh,
)
from shunter.scheduler.layout import RANDOM
from shunter.scheduler.types import BoolArray, FloatArray, Int, IntArray


class Inflation(NamedTuple):
    """What happened, pod by pod.

    Attributes:
        node: (P,) row of the node; −1 where the pod was dropped.
        holds: (P, G) whether the pod holds GPU g of its node.
        used: (P,) allocated milli-GPU of the cluster after the pod.
        fragmented: (P,) fragmented milli-GPU of the cluster after the pod.
    """

    node: IntArray
    holds: BoolArray
    used: IntArray
    fragmented: FloatArray


@allocating
def inflate(nodes: Nodes, tasks: Tasks, arrivals: IntArray, placement: Int, using: Scoring) -> Inflation:
    """Place pods of the shapes ``arrivals`` (P,) one after another; ``nodes`` is changed."""
    num_nodes, most_gpus = nodes.free_gpu.shape
    count = len(arrivals)
    done = Inflation(
        np.full(count, -1, dtype=np.int64),
        np.zeros((count, most_gpus), dtype=np.bool_),
        np.zeros(count, dtype=np.int64),
        np.zeros(count, dtype=np.float64),
    )
    scores = np.zeros((len(tasks.cpu), num_nodes), dtype=np.int8)
    scored_at = np.full(len(tasks.cpu), -1, dtype=np.int64)
    changed_at = np.full(num_nodes, -1, dtype=np.int64)
    chosen = np.zeros(most_gpus, dtype=np.int64)
    for node in range(num_nodes):
        refresh(nodes, node, using)
    for pod in range(count):
        shape = arrivals[pod]
        target = best_node(nodes, tasks, shape, placement, using, pod, scores[shape], scored_at[shape], changed_at)
        scored_at[shape] = pod
        if target >= 0:
            gpus = choose_gpus(nodes, tasks, target, shape, placement, using, pod, chosen)
            hold(nodes, tasks, target, shape, chosen, gpus, 1)
            refresh(nodes, target, using)
            changed_at[target] = pod
            for i in range(gpus):
                done.holds[pod, chosen[i]] = True
        account(done, pod, target, tasks.share[shape] * tasks.gpus[shape], nodes.fragmentation)
    return done


@compiled
def best_node(
    nodes: Nodes,
    tasks: Tasks,
    shape: Int,
    placement: Int,
    using: Scoring,
    pod: Int,
    scores: IntArray,
    scored_at: Int,
    changed_at: IntArray,
) -> Int:
    """The lowest node with the most points; −1 when the pod fits nowhere. Brings ``scores`` (N,) up to date.

    Scores of a shape are taken before the pod is placed: a change by pod k comes after the scores of pod k.
    """
    if placement == RANDOM:
        return random_node(nodes, tasks, shape, using, pod)
    best = -1
    most = -1
    for node in range(len(scores)):
        if changed_at[node] >= scored_at:
            points = node_score(nodes, tasks, node, shape, placement, using, pod)
            scores[node] = np.int8(np.floor(points))
        if scores[node] > most:
            best = node
            most = scores[node]
    return best


@compiled
def random_node(nodes: Nodes, tasks: Tasks, shape: Int, using: Scoring, pod: Int) -> Int:
    """Any of the nodes on which a pod fits, each as likely; −1 when there is none."""
    best = -1
    most = DOES_NOT_FIT
    for node in range(len(nodes.free_cpu)):
        points = node_score(nodes, tasks, node, shape, RANDOM, using, pod)
        if points > most:
            best = node
            most = points
    return best


@allocating
def replay(
    nodes: Nodes, tasks: Tasks, arrivals: IntArray, node: IntArray, holds: BoolArray, using: Scoring
) -> Inflation:
    """Account for placements made elsewhere: ``node`` (P,), −1 where a pod was dropped, and ``holds`` (P, G)."""
    count = len(arrivals)
    used, fragmented = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.float64)
    done = Inflation(node.copy(), holds.copy(), used, fragmented)
    chosen = np.zeros(holds.shape[1], dtype=np.int64)
    for n in range(len(nodes.free_cpu)):
        refresh(nodes, n, using)
    for pod in range(count):
        if node[pod] >= 0:
            gpus = 0
            for g in range(holds.shape[1]):
                if holds[pod, g]:
                    chosen[gpus] = g
                    gpus += 1
            hold(nodes, tasks, node[pod], arrivals[pod], chosen, gpus, 1)
            refresh(nodes, node[pod], using)
        account(done, pod, node[pod], tasks.share[arrivals[pod]] * tasks.gpus[arrivals[pod]], nodes.fragmentation)
    return done


@compiled
def account(done: Inflation, pod: Int, node: Int, milli: Int, fragmentation: FloatArray) -> None:
    """Write down what became of a pod that asks for ``milli`` of GPU."""
    done.node[pod] = node
    done.used[pod] = done.used[pod - 1] if pod > 0 else 0
    if node >= 0:
        done.used[pod] += milli
    total = 0.0
    for n in range(len(fragmentation)):
        total += fragmentation[n]
    done.fragmented[pod] = total
