"""Gavel's allocations: hand-solved cases, closed forms, properties, and rounds that approach the allocation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.heterogeneity import (
    effective_throughput,
    het_las,
    het_makespan,
    makespan_s,
    round_assignment,
)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_one_type_is_split_evenly() -> None:
    allocation = het_las(np.ones((4, 1)), ints(1, 1, 1, 1), ints(2))
    assert allocation[:, 0].tolist() == pytest.approx([0.5] * 4)


def test_a_gang_gets_time_in_inverse_proportion_to_its_gpus() -> None:
    # Time t for the gang of 2 and 2t for the single job: 2·t + 2t = 2 GPUs, so t = 1/2 and the single job always runs.
    allocation = het_las(np.ones((2, 1)), ints(2, 1), ints(2))
    assert allocation[:, 0].tolist() == pytest.approx([0.5, 1.0])


def test_weights_scale_shares() -> None:
    # Three times the weight, three times the time: 3/4 and 1/4 of the GPU.
    allocation = het_las(np.ones((2, 1)), ints(1, 1), ints(1), np.array([3.0, 1.0]))
    assert allocation[:, 0].tolist() == pytest.approx([0.75, 0.25])


def test_types_go_to_those_who_profit() -> None:
    # One GPU of each type. Job 0 is 4 times as fast on the first, job 1 twice as fast. On average over the types they
    # run at 5/2 and 3/2. Job 1 may use the second type alone at 1 / (3/2) = 2/3, job 0 the first alone at 4 / (5/2) =
    # 1.6; with the share x of the first type given to job 1 (which then leaves the second to job 0 for x):
    # (2x + (1 − x)) / 1.5 = (4(1 − x) + x) / 2.5 → 2.5(1 + x) = 1.5(4 − 3x) → x = 3.5/7 = 1/2: both at 1 — the equal
    # split is already the best for the worst-off.
    speeds = np.array([[4.0, 1.0], [2.0, 1.0]])
    throughput = effective_throughput(het_las(speeds, ints(1, 1), ints(1, 1)), speeds)
    assert throughput.tolist() == pytest.approx([2.5, 1.5])
    # With job 1 indifferent (1, 1) it leaves the first type alone: job 0 at 4 / 2.5 = 1.6, job 1 at 1.
    speeds = np.array([[4.0, 1.0], [1.0, 1.0]])
    allocation = het_las(speeds, ints(1, 1), ints(1, 1))
    assert allocation == pytest.approx(np.eye(2))


def test_later_levels_help_those_who_are_not_in_the_way() -> None:
    # Jobs 0 and 1 fit only the single GPU of type 0 (half the time each); job 2 has type 1 for itself, and all of it.
    speeds = np.array([[1.0, np.nan], [1.0, 0.0], [np.nan, 1.0]])
    allocation = het_las(speeds, ints(1, 1, 1), ints(1, 1))
    assert allocation == pytest.approx(np.array([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]]))


def test_gangs_larger_than_a_type_do_not_use_it() -> None:
    allocation = het_las(np.ones((2, 2)), ints(4, 16), ints(4, 2))
    assert allocation[0].tolist() == pytest.approx([1.0, 0.0])
    assert allocation[1].tolist() == [0.0, 0.0]
    assert het_las(np.zeros((0, 2)), ints(), ints(4, 2)).shape == (0, 2)


def test_makespan_of_two_jobs() -> None:
    # 100 s and 50 s of work; the second type runs job 0 at half speed and job 1 at full speed. Job 0 alone on the first
    # type needs 100 s, job 1 on the second 50 s: nothing can be faster than 100 s.
    speeds, work_s = np.array([[1.0, 0.5], [1.0, 1.0]]), np.array([100.0, 50.0])
    allocation = het_makespan(speeds, ints(1, 1), ints(1, 1), work_s)
    assert makespan_s(allocation, speeds, work_s) == pytest.approx(100.0)


def test_makespan_of_equal_jobs_is_work_over_speed() -> None:
    # 6 jobs of 100 s on 2 fast and 2 half-fast GPUs: all 6 · 100 s of work at 2 + 1 = 3 s a second take 200 s.
    speeds, work_s = np.tile([1.0, 0.5], (6, 1)), np.full(6, 100.0)
    allocation = het_makespan(speeds, np.ones(6, np.int64), ints(2, 2), work_s)
    assert makespan_s(allocation, speeds, work_s) == pytest.approx(200.0)


def test_makespan_with_very_different_jobs() -> None:
    speeds, work_s = np.ones((3, 1)), np.array([1e7, 1.0, 1e-3])
    allocation = het_makespan(speeds, ints(1, 1, 1), ints(1), work_s)
    assert makespan_s(allocation, speeds, work_s) == pytest.approx(work_s.sum(), rel=1e-4)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    jobs, kinds = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    values = draw(st.lists(st.floats(0.05, 4.0), min_size=jobs * kinds, max_size=jobs * kinds))
    gpus = draw(st.lists(st.integers(1, 4), min_size=jobs, max_size=jobs))
    capacity = draw(st.lists(st.integers(4, 8), min_size=kinds, max_size=kinds))
    return np.array(values).reshape(jobs, kinds), np.array(gpus), np.array(capacity)


@settings(max_examples=40, deadline=None)
@given(clusters())
def test_bounds_hold_and_the_worst_off_has_at_least_the_equal_split(
    cluster: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    speeds, gpus, capacity = cluster
    allocation = het_las(speeds, gpus, capacity)
    assert np.all(allocation >= 0)
    assert np.all(allocation.sum(axis=1) <= 1 + 1e-9)
    assert np.all(gpus @ allocation <= capacity + 1e-6)
    # Every job gets the same number of GPU-seconds on every type, as far as one job can use them.
    split = capacity[None, :] / len(gpus) / gpus[:, None]
    split = split / np.maximum(split.sum(axis=1, keepdims=True), 1.0)
    equal = speeds @ (capacity / capacity.sum())

    def worst(shares: np.ndarray) -> float:
        return float(np.min(gpus * effective_throughput(shares, speeds) / equal))

    assert worst(allocation) >= worst(split) * (1 - 1e-6)


@settings(max_examples=25, deadline=None)
@given(clusters())
def test_no_grid_allocation_has_a_shorter_makespan(cluster: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    speeds, gpus, capacity = cluster
    work_s = 10.0 * gpus
    best = makespan_s(het_makespan(speeds, gpus, capacity, work_s), speeds, work_s)
    rng = np.random.default_rng(1)
    for _ in range(50):
        shares = rng.dirichlet(np.ones(len(capacity)), size=len(gpus))
        shares /= max(1.0, float(np.max(gpus @ shares / capacity)))
        assert best <= makespan_s(shares, speeds, work_s) * (1 + 1e-6)


def test_rounds_approach_the_allocation() -> None:
    # Three jobs of one GPU, one GPU of each of three types.
    allocation = np.array([[0.6, 0.4, 0.0], [0.2, 0.6, 0.2], [0.2, 0.0, 0.8]])
    received, running = np.zeros((3, 3)), np.full(3, -1)
    for _ in range(500):
        running = round_assignment(allocation, received, ints(1, 1, 1), ints(1, 1, 1), running)
        received[np.flatnonzero(running >= 0), running[running >= 0]] += 1
    assert received / 500 == pytest.approx(allocation, abs=0.02)


def test_rounds_keep_running_jobs_where_they_are() -> None:
    allocation, received = np.full((2, 2), 0.5), np.ones((2, 2))
    assert round_assignment(allocation, received, ints(1, 1), ints(1, 1), ints(1, 0)).tolist() == [1, 0]
    assert round_assignment(allocation, received, ints(1, 1), ints(1, 1), ints(0, 1)).tolist() == [0, 1]


def test_rounds_fill_up_only_where_a_pair_may_run() -> None:
    allocation, received = np.array([[1.0, 0.0], [0.0, 0.0]]), np.zeros((2, 2))
    free = ints(-1, -1)
    assert round_assignment(allocation, received, ints(1, 1), ints(1, 1), free).tolist() == [0, -1]
    usable = np.array([[True, True], [True, True]])
    assert round_assignment(allocation, received, ints(1, 1), ints(1, 1), free, usable).tolist() == [0, 1]


@settings(max_examples=40, deadline=None)
@given(clusters(), st.integers(0, 1000))
def test_rounds_never_exceed_a_type(cluster: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int) -> None:
    speeds, gpus, capacity = cluster
    rng = np.random.default_rng(seed)
    received = rng.integers(0, 4, speeds.shape).astype(float)
    chosen = round_assignment(rng.random(speeds.shape), received, gpus, capacity, np.full(len(gpus), -1))
    for kind, limit in enumerate(capacity):
        assert gpus[chosen == kind].sum() <= limit
    # Nobody is left out who would still fit.
    left = capacity - np.array([gpus[chosen == kind].sum() for kind in range(len(capacity))])
    assert not np.any(gpus[chosen < 0][:, None] <= left[None, :])


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        het_las(np.ones((2, 1)), ints(1), ints(1))
    with pytest.raises(ValueError, match="at least 1 GPU"):
        het_las(np.ones((1, 1)), ints(0), ints(1))
    with pytest.raises(ValueError, match="weight"):
        het_las(np.ones((1, 1)), ints(1), ints(1), np.zeros(1))
    with pytest.raises(ValueError, match="work"):
        het_makespan(np.ones((1, 1)), ints(1), ints(1), np.zeros(1))
