"""Ordering a queue by a model: features, scores and sorting, as a replay or a live cluster does it in one pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import Record, Target, Timing
from benchmarks.workloads import Setup

if TYPE_CHECKING:
    from shunter.scheduler.learned import LearnedOrder
    from shunter.scheduler.state import ClusterState

LENGTHS = {1_000: 0.0003, 10_000: 0.002, 100_000: 0.020}
"""Waiting jobs → seconds that ordering them may take."""

HIDDEN = (32, 16)
RUNNING, USERS, FINISHED = 400, 300, 5_000
CALLS = 20


def inference(setup: Setup) -> Iterator[Record]:
    """Ordering queues of 1,000, 10,000 and 100,000 jobs by a network with two hidden layers, from shuffled queues."""
    for wanted, at_most in LENGTHS.items():
        jobs = setup.jobs(wanted)
        state, learned = waiting(jobs, setup.seed)
        pairs = order_again(state, learned, CALLS * setup.repeat)
        yield Record(
            "inference",
            f"{wanted} waiting jobs",
            timing=Timing.of(pairs),
            jobs=jobs,
            targets=(Target("wall_s", at_most=at_most),),
            facts={"hidden": list(HIDDEN), "features": len(learned.rules.low), "running": RUNNING, "users": USERS},
        )


def waiting(jobs: int, seed: int) -> tuple[ClusterState, LearnedOrder]:
    """A full pool of CPUs with so many jobs waiting, of users of whom something is known, and an order by a network."""
    from shunter.scheduler.capacity import Capacity
    from shunter.scheduler.features import FeatureSource
    from shunter.scheduler.guard import Seen
    from shunter.scheduler.kernels.network import new_network
    from shunter.scheduler.learned import KernelScorer, LearnedOrder
    from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
    from shunter.scheduler.snapshot import JobColumns
    from shunter.scheduler.state import ClusterState
    from shunter.scheduler.types import ResourceDemand

    draw = np.random.default_rng(seed)
    count = RUNNING + jobs
    size = draw.choice([1, 2, 4, 8, 32], count)
    request_s = np.ceil(draw.lognormal(8.0, 1.5, count) / 300.0) * 300.0
    submit_s = np.concatenate([np.zeros(RUNNING), np.sort(draw.uniform(1.0, 3e5, jobs))])
    total = int(size[:RUNNING].sum()) + 4
    columns = JobColumns.of(
        submit_s,
        requested_s=request_s,
        expected_s=request_s,
        processors=size.astype(np.float64),
        user_idx=draw.integers(0, USERS, count),
    )
    state = ClusterState(
        capacity=Capacity(np.asarray([[1000 * total], [0], [0]]), (True, False, False)),
        demand=ResourceDemand(size.astype(np.int64), np.zeros(count, np.int64), np.asarray([[1000, 0, 0]])),
        columns=columns,
        score=None,
        backfill="easy",
        placement="first-fit",
        timed=False,
    )
    state.absorb(0.0, np.zeros(0, np.int64), 0, 0, RUNNING)
    state.run_pass(0.0)
    state.absorb(3e5, np.zeros(0, np.int64), 0, RUNNING, count)
    features = choose_ordering("learned")
    num_features = FeatureSource.of(columns, total).matrix(state, 3e5).shape[1]
    first, second = HIDDEN
    network = new_network(
        draw.normal(size=num_features),
        draw.normal(size=(first, num_features)),
        draw.normal(size=first),
        draw.normal(size=(second, first)),
        draw.normal(size=second),
        draw.normal(size=second),
    )
    source = FeatureSource.of(columns, float(total))
    done = draw.integers(0, count, FINISHED).tolist()
    for row in done:
        source.submitted([row])
        source.started([row], 0.0)
        source.ended([row], request_s * 0.4, 1e5)
    source.submitted(range(count))
    source.started(range(RUNNING), 1e5)
    wide = Seen(np.full(num_features, -100.0), np.full(num_features, 100.0))
    chosen = ChosenOrdering(features.ordering, features.parameters, KernelScorer(network), wide)
    return state, LearnedOrder(chosen, columns, source, float(total))


def order_again(state: ClusterState, learned: LearnedOrder, calls: int) -> list[tuple[float, float]]:
    """(wall, CPU) seconds of each of several orders, a second apart, from a queue shuffled before each."""
    draw = np.random.default_rng(0)
    pairs = []
    for i in range(calls + 1):
        draw.shuffle(state.queue)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        learned.score(state, 3e5 + i)
        learned.arrange(state, 3e5 + i)
        pairs.append((time.perf_counter() - wall_s, time.process_time() - cpu_s))
    return pairs[1:]  # the first one compiles
