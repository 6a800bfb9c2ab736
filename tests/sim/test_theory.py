"""The engine against queueing theory, exact recursions and exhaustive search."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.policies import ORDERINGS
from shunter.scheduler.policies.registry import choose_ordering
from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.types import FloatArray
from shunter.sim.engine import Options, Simulation
from shunter.sim.workload import Workload, prepare
from shunter.traces.generate import generate
from shunter.traces.tables import Trace, make_jobs, pool
from tests.properties.strategies import MODES, POLICIES

MEAN_S = 100.0
SEEDS = range(24)
NUM_JOBS = 8000
WARM_UP = 1000
T_995 = 2.807
"""99.5 % point of Student's t with 23 degrees of freedom: a two-sided interval of 99 % over 24 seeds."""


def start_times(workload: Workload, how: Options) -> FloatArray:
    simulation = Simulation(workload, how)
    assert simulation.run()
    return simulation.state.jobs_f[at.START_S]


def mean_waits(**params: float | str) -> FloatArray:
    """Mean FCFS wait of each seed, without the jobs that found the system still filling up."""
    means = []
    for seed in SEEDS:
        trace = generate("poisson", jobs=NUM_JOBS, seed=seed, params={"mean": MEAN_S, **params})
        workload = prepare(trace, trace.cluster)
        wait_s = start_times(workload, Options()) - workload.columns.submit_s
        means.append(wait_s[WARM_UP:].mean())
    return np.asarray(means)


def erlang_c_wait_s(servers: int, load: float) -> float:
    """Mean wait of M/M/c: C(c, a) · s / (c − a) with a = c·load. Erlang, 1917; Kleinrock, Queueing Systems I, 3.5."""
    offered = servers * load
    below = sum(offered**k / math.factorial(k) for k in range(servers))
    top = offered**servers / math.factorial(servers) / (1 - load)
    return top / (below + top) * MEAN_S / (servers - offered)


def pollaczek_khinchine_wait_s(load: float, cv: float) -> float:
    """Mean wait of M/G/1: ρ·s·(1 + cv²) / (2(1 − ρ)). Kleinrock, Queueing Systems I, 5.6."""
    return load * MEAN_S * (1 + cv * cv) / (2 * (1 - load))


def test_formulas_agree_where_they_overlap() -> None:
    assert erlang_c_wait_s(1, 0.7) == pytest.approx(pollaczek_khinchine_wait_s(0.7, 1.0))
    assert erlang_c_wait_s(1, 0.5) == pytest.approx(100)  # ρ/(1 − ρ)·s
    assert erlang_c_wait_s(2, 0.5) == pytest.approx(100 / 3)  # C(2, 1) = 1/3, over 2 − 1


@pytest.mark.parametrize(
    ("params", "expected_s"),
    [
        ({"servers": 1, "load": 0.6}, erlang_c_wait_s(1, 0.6)),
        ({"servers": 4, "load": 0.7}, erlang_c_wait_s(4, 0.7)),
        ({"service": "deterministic", "load": 0.7}, pollaczek_khinchine_wait_s(0.7, 0.0)),
        ({"service": "hyperexponential", "cv": 2.0, "load": 0.5}, pollaczek_khinchine_wait_s(0.5, 2.0)),
    ],
    ids=["M/M/1", "M/M/4", "M/D/1", "M/H2/1"],
)
def test_mean_wait_lies_in_the_confidence_interval(params: dict[str, float | str], expected_s: float) -> None:
    means = mean_waits(**params)
    half_width_s = T_995 * means.std(ddof=1) / math.sqrt(len(means))
    assert abs(means.mean() - expected_s) <= half_width_s
    assert half_width_s < 0.1 * expected_s  # or the interval would say nothing


def test_one_processor_follows_lindleys_recursion_exactly() -> None:
    """Under FCFS a job starts when it is submitted or when the one before it ends: no rounding may creep in."""
    trace = generate("poisson", jobs=3000, seed=11, params={"load": 0.9})
    workload = prepare(trace, trace.cluster)
    free_s, expected = 0.0, []
    for submit_s, run_s in zip(workload.columns.submit_s.tolist(), workload.run_s.tolist(), strict=True):
        expected.append(max(submit_s, free_s))
        free_s = expected[-1] + run_s
    for backfill in MODES:
        chosen = Settings(choose_ordering("fcfs"), backfill)
        np.testing.assert_array_equal(start_times(workload, Options(chosen)), expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_saturated_processor_has_the_sum_of_run_times_as_makespan(policy: str) -> None:
    run_s = np.random.default_rng(7).integers(1, 1000, 200).astype(np.float64)
    jobs = make_jobs({"job_id": np.arange(200), "submit_s": np.zeros(200), "duration_s": run_s, "cpus": np.ones(200)})
    trace = Trace("saturated", jobs, pool(1))
    workload = prepare(trace, trace.cluster)
    assert (start_times(workload, Options(Settings(choose_ordering(policy)))) + run_s).max() == run_s.sum()


def test_deterministic_stream_is_plain_arithmetic() -> None:
    """A job of 25 s every 10 s on two processors: job i starts at 10·(i mod 2) + 25·(i div 2)."""
    trace = generate("deterministic", jobs=100, seed=0, params={"interval": 10, "duration": 25, "servers": 2})
    expected = [10.0 * (i % 2) + 25.0 * (i // 2) for i in range(100)]
    assert start_times(prepare(trace, trace.cluster), Options()).tolist() == expected


# --- exhaustive search -----------------------------------------------------------------------------------------------


def list_schedule(order: tuple[int, ...], run_s: list[float], needs: list[int], size: int) -> list[float]:
    """Starts if jobs of time 0 start in this order, each as soon as it fits and not before the one ahead of it.

    Among all schedules whose jobs start in this order it has the earliest start of every job: those that run at a time
    t are among those that would run at t in any other such schedule.
    """
    starts = [0.0] * len(order)
    now_s, free, ends = 0.0, size, []
    for row in order:
        while free < needs[row]:
            ends.sort()
            now_s, back = ends.pop(0)
            free += back
        starts[row] = now_s
        free -= needs[row]
        ends.append((now_s + run_s[row], needs[row]))
    return starts


@st.composite
def small_pools(draw: st.DrawFn) -> tuple[Workload, list[float], list[int], int]:
    """At most six jobs of time 0 with perfect requests on a pool."""
    size = draw(st.integers(1, 5))
    num_jobs = draw(st.integers(1, 6))
    run_s = [float(draw(st.integers(1, 9))) for _ in range(num_jobs)]
    needs = [draw(st.integers(1, size)) for _ in range(num_jobs)]
    jobs = make_jobs(
        {
            "job_id": list(range(num_jobs)),
            "submit_s": [0.0] * num_jobs,
            "duration_s": run_s,
            "requested_s": [run * draw(st.sampled_from([1, 2, 5])) for run in run_s],
            "tasks": needs,
            "cpus": [1.0] * num_jobs,
            "priority": [float(draw(st.integers(0, 2))) for _ in range(num_jobs)],
            "user": [draw(st.sampled_from(["ada", "bob"])) for _ in range(num_jobs)],
        }
    )
    cluster = pool(size)
    return prepare(Trace("small", jobs, cluster), cluster), run_s, needs, size


def values(starts: list[float], run_s: list[float]) -> tuple[float, float]:
    """Makespan and total completion time."""
    ends = [start + run for start, run in zip(starts, run_s, strict=True)]
    return max(ends), sum(ends)


def best_values(run_s: list[float], needs: list[int], size: int) -> tuple[float, float]:
    """Least makespan and least total completion time of any schedule without preemption: some order attains each."""

    def found() -> Iterator[tuple[float, float]]:
        for order in permutations(range(len(run_s))):
            yield values(list_schedule(order, run_s, needs, size), run_s)

    makespans, totals = zip(*found(), strict=True)
    return min(makespans), min(totals)


@settings(max_examples=40, deadline=None)
@given(small_pools())
def test_no_policy_and_no_backfilling_beats_the_best_of_all_orders(
    case: tuple[Workload, list[float], list[int], int],
) -> None:
    workload, run_s, needs, size = case
    makespan, total = best_values(run_s, needs, size)
    for policy in POLICIES:
        for backfill in MODES:
            starts = start_times(workload, Options(Settings(choose_ordering(policy), backfill))).tolist()
            mine = values(starts, run_s)
            assert mine[0] >= makespan
            assert mine[1] >= total


@settings(max_examples=60, deadline=None)
@given(small_pools(), st.sampled_from(sorted(name for name, ordering in ORDERINGS.items() if ordering.static)))
def test_a_static_ordering_without_backfilling_is_list_scheduling_in_its_order(
    case: tuple[Workload, list[float], list[int], int], policy: str
) -> None:
    workload, run_s, needs, size = case
    chosen = choose_ordering(policy)
    score = chosen.score(QueueView(0.0, workload.columns, float(size)))
    order = tuple(int(row) for row in np.argsort(score, kind="stable"))
    expected = list_schedule(order, run_s, needs, size)
    assert start_times(workload, Options(Settings(chosen))).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(small_pools())
def test_shortest_first_is_optimal_for_total_completion_time_of_unit_width_jobs(
    case: tuple[Workload, list[float], list[int], int],
) -> None:
    """SPT on identical machines. Conway, Maxwell & Miller, Theory of Scheduling, 1967."""
    workload, run_s, _, size = case
    narrow = workload.trace.jobs.frame.with_columns(tasks=np.ones(len(run_s), dtype=np.int64))
    trace = Trace("narrow", make_jobs(narrow.to_dict(as_series=True)), pool(size))
    starts = start_times(prepare(trace, trace.cluster), Options(Settings(choose_ordering("sjf-oracle")))).tolist()
    assert values(starts, run_s)[1] == best_values(run_s, [1] * len(run_s), size)[1]
