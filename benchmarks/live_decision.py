"""One decision of a live scheduler: ``plan`` and ``check_plan`` on a snapshot of 1,000 full nodes and a long queue.

GPUs are told apart, as the daemon has them. Nothing is carried out, so every call decides the same; the clock moves on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import Record, Target, Timing
from benchmarks.workloads import Setup

if TYPE_CHECKING:
    from shunter.scheduler.decide import Settings
    from shunter.scheduler.plans import Plan
    from shunter.scheduler.snapshot import Snapshot
    from shunter.scheduler.types import FloatArray, IntArray

NODES, NODE_GPUS, WAITING = 1_000, 8, 10_000
USERS, GROUPS, CLASSES = 200, 8, 3
FREE_SHARE = 0.01
"""Of the GPUs: the cluster is nearly full."""

PLAN_MS, CHECK_MS = 20.0, 3.0
CALLS = 25
SIZES, SHARES = (1, 2, 4, 8), {"few": (0.1, 0.1, 0.2, 0.6), "many": (0.95, 0.03, 0.01, 0.01)}
"""GPUs of running jobs, and their shares where few long gangs run (about 1,400) or many small jobs (about 7,000)."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way of deciding."""

    policy: str = "fcfs"
    backfill: str = "easy"
    running: str = "many"
    plain: bool = False
    strict: bool = False

    @property
    def label(self) -> str:
        """What sets it apart."""
        parts = [self.policy, self.backfill, f"{self.running} running"]
        parts += ["one class, no quotas"] * self.plain + ["strict classes"] * self.strict
        return ", ".join(parts)


CASES = (
    Case(),
    Case(running="few"),
    Case("multifactor"),
    Case("learned"),
    Case("learned", running="few"),
    Case("learned", plain=True),
    Case(plain=True),
    Case(plain=True, backfill="conservative"),
    Case("learned", plain=True, backfill="conservative"),
)


def live(setup: Setup) -> Iterator[Record]:
    """A decision with 10,000 waiting jobs on 1,000 nodes of 8 GPUs: ``plan`` and ``check_plan``, p50 and p99.

    The yardstick is one ordering of as many rows by NumPy, in the same rounds: what any decision has to do.
    """
    waiting = setup.jobs(WAITING)
    for case in CASES:
        snapshot = busy_snapshot(waiting, setup.seed, running=case.running, plain=case.plain)
        if case.backfill == "conservative":
            snapshot = _promised(snapshot, settings_of(case))
        yield _record(case, snapshot, setup)


def _record(case: Case, snapshot: Snapshot, setup: Setup) -> Record:
    from shunter.scheduler.decide import check_plan, plan

    settings = settings_of(case)
    draw = np.random.default_rng(setup.seed)
    usage_s = draw.uniform(0.0, 1e6, USERS)
    scores = draw.random(len(snapshot.rows))
    plans: list[tuple[float, float]] = []
    checks: list[tuple[float, float]] = []
    sorts: list[tuple[float, float]] = []
    proposed: list[Plan] = []
    for call in range(CALLS * setup.repeat + 1):
        later = replace(snapshot, now_s=snapshot.now_s + call)

        def decide(at: Snapshot = later) -> None:
            proposed[:] = [plan(at, settings, usage_s=usage_s)]

        def check(at: Snapshot = later) -> None:
            if problems := check_plan(at, proposed[0]):
                raise RuntimeError(f"a plan that may not be carried out: {problems}")

        plans.append(_timed(decide))
        checks.append(_timed(check))
        sorts.append(_timed(lambda: np.lexsort((snapshot.rows, scores))))
    plans, checks = plans[1:], checks[1:]  # the first calls compile
    return Record(
        "live",
        case.label,
        timing=Timing.of(plans),
        jobs=snapshot.num_waiting,
        yardstick=Timing.of(sorts[1:]),
        targets=(Target("plan_p99_ms", at_most=PLAN_MS), Target("check_p99_ms", at_most=CHECK_MS)),
        figures={
            "plan_p50_ms": _milliseconds(plans, 50),
            "plan_p99_ms": _milliseconds(plans, 99),
            "plan_cpu_p50_ms": float(np.median([cpu_s for _, cpu_s in plans])) * 1e3,
            "check_p50_ms": _milliseconds(checks, 50),
            "check_p99_ms": _milliseconds(checks, 99),
            "starts": len(proposed[0].starts),
        },
        facts={
            "nodes": NODES,
            "running": snapshot.num_running,
            "policy": case.policy,
            "backfill": case.backfill,
            "shapes": len(snapshot.demand.shapes),
        },
    )


def _promised(snapshot: Snapshot, settings: Settings) -> Snapshot:
    """The snapshot a pass later, when whoever waits has a promise: no promises to so many are made at once live."""
    from shunter.scheduler.decide import plan
    from shunter.scheduler.plans import Reserves

    found = plan(snapshot, settings).reservations
    assert isinstance(found, Reserves)
    waiting = snapshot.rows[snapshot.num_running :]
    reserved_s = np.full(waiting.max() + 1, np.nan)
    reserved_s[found.rows] = found.start_s
    return replace(snapshot, reserved_s=reserved_s[waiting])


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    work()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def _milliseconds(pairs: list[tuple[float, float]], percent: float) -> float:
    return float(np.percentile([wall_s for wall_s, _ in pairs], percent)) * 1e3


def settings_of(case: Case) -> Settings:
    """The settings; the learned order is that of the model that ships."""
    from shunter.agents.bundle import load_bundle, shipped
    from shunter.scheduler.decide import Settings
    from shunter.scheduler.policies.registry import choose_ordering

    learned = case.policy == "learned"
    chosen = load_bundle(shipped("learned")).ordering() if learned else choose_ordering(case.policy)
    return Settings(chosen, case.backfill, "topology")


def busy_snapshot(waiting: int, seed: int, *, running: str = "many", plain: bool = False) -> Snapshot:
    """Nodes of three classes on which hardly a GPU is free, groups with quotas and weights, and a queue.

    Args:
        waiting: Jobs in the queue.
        seed: Of what is drawn.
        running: ``few`` or ``many`` jobs run, see ``SHARES``.
        plain: One class of nodes and no quotas.
    """
    from shunter.scheduler.capacity import Capacity, Quotas
    from shunter.scheduler.snapshot import JobColumns, JobHistories, Snapshot
    from shunter.scheduler.types import ResourceDemand

    draw = np.random.default_rng(seed)
    held, node, bits = _filled(draw, running)
    count = len(held) + waiting
    gpus = np.concatenate([held, draw.choice(SIZES, waiting, p=(0.5, 0.2, 0.15, 0.15))])
    tasks = np.ones(count, np.int64)
    tasks[len(held) :][draw.random(waiting) < 0.1] = 2
    kind = draw.integers(0, 4, count)  # CPUs and memory of a GPU, and which classes may run it
    allowed = np.asarray([[True] * 3, [True, False, True], [False, True, True], [True] * 3])
    node_class = np.arange(NODES) * CLASSES // NODES
    kind[: len(held)] = np.where(allowed[kind[: len(held)], node_class[node]], kind[: len(held)], 0)
    shapes = np.asarray([[g * 1000 * (2 + k), g * (8 + 4 * k) << 20, g * 1000] for g in SIZES for k in range(4)])
    demand = ResourceDemand(
        tasks,
        np.searchsorted(SIZES, gpus) * 4 + kind,
        shapes,
        class_ok=None if plain else np.asarray([allowed[k] for _ in SIZES for k in range(4)]),
    )
    request_s = np.ceil(draw.lognormal(9.0, 1.2, count) / 300.0) * 300.0
    now_s = 30 * 86400.0
    submit_s = np.concatenate([np.zeros(len(held)), np.sort(draw.uniform(now_s - 2 * 86400.0, now_s, waiting))])
    columns = JobColumns.of(
        submit_s,
        requested_s=request_s,
        expected_s=request_s,
        processors=gpus * tasks * 1.0,
        priority=draw.integers(0, 3, count) * 1.0,
        user_idx=draw.integers(0, USERS, count),
        group_idx=np.full(count, -1) if plain else draw.integers(0, GROUPS, count),
    )
    started_s = now_s - draw.uniform(0.0, 1.0, len(held)) * request_s[: len(held)]
    total = NODES * NODE_GPUS * 1000
    quotas = Quotas(
        tuple(f"group{i}" for i in range(GROUPS)),
        np.full(GROUPS, total // (2 * GROUPS)),
        np.full(GROUPS, total // 2),
        np.arange(1.0, GROUPS + 1.0),
    )
    capacity = Capacity(
        np.asarray([[48_000] * NODES, [256 << 20] * NODES, [1000 * NODE_GPUS] * NODES]),
        (True, True, True),
        gpus=np.full(NODES, NODE_GPUS),
        node_class=None if plain else node_class,
        domains=np.stack([np.arange(NODES) // size for size in (8, 32, NODES)]),
        quotas=None if plain else quotas,
        can_close=True,
    )
    return Snapshot(
        version=1,
        now_s=now_s,
        rows=np.arange(count),
        num_running=len(held),
        columns=columns,
        demand=demand,
        capacity=capacity,
        started_s=started_s,
        expected_end_s=started_s + request_s[: len(held)],
        alloc_job=np.arange(len(held)),
        alloc_node=node,
        alloc_tasks=np.ones(len(held), np.int64),
        reserved_s=np.full(waiting, np.nan),
        released=True,
        alloc_gpus=bits,
        alloc_slice=np.full(len(held), -1),
        closed=np.zeros(NODES, dtype=np.bool_),
        lost_gpus=np.zeros(NODES, np.int64),
        entered_s=submit_s[len(held) :].copy(),
        overhead_s=np.zeros(count),
        rate=np.ones(len(held)),
        since_s=started_s.copy(),
        done_s=np.zeros(len(held)),
        stopping=np.zeros(len(held), dtype=np.bool_),
        drawn=0,
        seed=0,
        node_load=np.zeros(NODES),
        histories=_histories(draw, columns.user_idx, JobHistories),
    )


def _filled(draw: np.random.Generator, running: str) -> tuple[IntArray, IntArray, IntArray]:
    """GPUs, node and GPU bits of running jobs that leave next to nothing free."""
    held, nodes, bits = list[int](), list[int](), list[int]()
    for node in range(NODES):
        free = NODE_GPUS - int(draw.random() < FREE_SHARE * NODE_GPUS)
        while free > 0:
            size = int(draw.choice(SIZES, p=SHARES[running]))
            size = min(size, 1 << (free.bit_length() - 1))
            held.append(size)
            nodes.append(node)
            bits.append((1 << size) - 1 << (free - size))
            free -= size
    return np.asarray(held), np.asarray(nodes), np.asarray(bits)


def _histories(draw: np.random.Generator, user: IntArray, make: Callable[[FloatArray, FloatArray], object]) -> object:
    """Something is known of every user: what hundreds of finished jobs have taught."""
    from shunter.scheduler.features import FeatureSource
    from shunter.scheduler.snapshot import JobColumns

    done = JobColumns.of(
        np.zeros(4 * USERS),
        requested_s=np.full(4 * USERS, 7200.0),
        user_idx=np.arange(4 * USERS) % USERS,
    )
    source = FeatureSource.of(done, float(NODES * NODE_GPUS))
    rows = range(4 * USERS)
    source.submitted(rows)
    source.started(rows, 0.0)
    source.ended(rows, draw.lognormal(7.5, 1.0, 4 * USERS), 29 * 86400.0)
    known = source.known_of(np.arange(USERS))
    return make(known.users[:, user], known.alike[:, user])
