"""Rounds as pure functions: who gets which class, rounds in the proportions of the shares, sizes of elastic jobs."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.elastic import amdahl_curve
from shunter.scheduler.heterogeneity import round_assignment
from shunter.scheduler.rounds import (
    WAITS,
    Elastic,
    RoundView,
    elastic_round,
    het_las_round,
    het_makespan_round,
    received_rounds,
    restart_factor,
)
from shunter.scheduler.types import IntArray


def view(speed: list[list[float]], capacity: list[int], **given: Any) -> RoundView:
    """Single-GPU jobs that wait and of which nothing is known but their speeds, unless said."""
    num, kinds = len(speed), len(capacity)
    columns: dict[str, Any] = {
        "round_s": 100.0,
        "tasks": np.ones(num, np.int64),
        "task_units": np.full(num, 1000),
        "class_idx": np.full(num, WAITS),
        "left_s": np.full(num, 100.0),
        "age_s": np.zeros(num),
        "restarts": np.zeros(num, np.int64),
        "restart_s": np.zeros(num),
        "lag_s": np.zeros((num, kinds)),
        "elastic": None,
    }
    arrays = {name: value if value is None else np.asarray(value) for name, value in (columns | given).items()}
    arrays |= {name: given[name] for name in ("elastic", "round_s") if name in given}
    return RoundView(speed=np.asarray(speed, np.float64), capacity=np.asarray(capacity) * 1000, **arrays)


def test_the_job_that_profits_from_the_fast_type_has_it() -> None:
    """b runs alike on both types, so its level is 1 whatever it gets; a has 1 / ((1 + 1/4) / 2) = 1.6 on the fast."""
    target = het_las_round(view([[1.0, 1.0], [1.0, 0.25]], [1, 1]))
    assert target.class_idx.tolist() == [1, 0]
    np.testing.assert_allclose(target.share, [[0, 1], [1, 0]], atol=1e-6)


def test_makespan_gives_the_fast_type_to_the_long_job() -> None:
    """Work 300 and 100, speeds 1 and 1/2: alone on its type each, the long job ends at 300 on the fast one."""
    chosen = het_makespan_round(view([[1.0, 0.5], [1.0, 0.5]], [1, 1], left_s=[300.0, 100.0])).class_idx
    assert chosen.tolist() == [0, 1]


def test_jobs_beyond_the_program_only_fill() -> None:
    target = het_las_round(view([[1.0]] * 600, [600]))
    assert (target.class_idx == 0).all()
    assert (target.share[:512] == 1.0).all()
    assert (target.share[512:] == 0.0).all()


@pytest.mark.parametrize(
    ("shares", "rounds", "had"),
    [([0.75, 0.25], 40, [30, 10]), ([0.5, 0.3, 0.2], 100, [50, 30, 20]), ([0.5, 0.5], 12, [6, 6])],
)
def test_rounds_come_in_the_proportions_of_the_shares(shares: list[float], rounds: int, had: list[int]) -> None:
    share = np.asarray(shares)[:, None]
    lag_s, counts, running = np.zeros_like(share), np.zeros(len(shares), np.int64), np.full(len(shares), WAITS)
    ones = np.ones(len(shares), np.int64)
    for _ in range(rounds):
        running = round_assignment(share, received_rounds(share, lag_s, 100.0), ones, np.ones(1, np.int64), running)
        lag_s += 100.0 * (share - (running == 0)[:, None])
        counts += running == 0
    assert abs(counts - had).max() <= 1


# --- elastic jobs ----------------------------------------------------------------------------------------------------


def sizes(least: list[int], most: list[int], *ratios: float) -> Elastic:
    """Jobs with Amdahl curves of their own; they asked for their minimum."""
    curves = np.stack([amdahl_curve(ratio, max(most)) for ratio in ratios])
    return Elastic(np.asarray(least), np.asarray(most), np.arange(len(least)), curves, np.asarray(least))


def test_all_gpus_go_where_one_more_adds_most() -> None:
    """Speed-ups of p = 1 are 1, 2, 3, …; of p = 1/2 they are 1, 4/3, 3/2: the second job gets its minimum only."""
    target = elastic_round(view([[1.0], [1.0]], [4], elastic=sizes([1, 1], [8, 8], 1.0, 0.5)))
    assert target.tasks.tolist() == [3, 1]
    assert target.class_idx.tolist() == [0, 0]


def test_a_job_that_does_not_fit_waits() -> None:
    target = elastic_round(view([[1.0]] * 3, [4], elastic=sizes([3, 2, 1], [3, 2, 1], 0.9, 0.9, 0.9)))
    assert target.class_idx.tolist() == [0, WAITS, 0]


def test_the_restart_factor_is_the_one_of_sia() -> None:
    """Age 100 s, 2 restarts of 30 s: (100 − 60) / 130; a job without overhead moves freely."""
    given_view = view([[1.0]] * 3, [4], age_s=[100.0, 10.0, 5.0], restarts=[2, 1, 0], restart_s=[30.0, 30.0, 0.0])
    np.testing.assert_allclose(restart_factor(given_view), [40 / 130, 0.0, 1.0])


def test_a_young_job_does_not_grow_and_an_old_one_does() -> None:
    """From 2 GPUs to 4 doubles the speed of p = 1: worth it when the factor exceeds 1/2, at an age above 30 s."""
    how: dict[str, Any] = {"tasks": [2], "class_idx": [0], "restart_s": [30.0], "elastic": sizes([1], [4], 1.0)}
    assert elastic_round(view([[1.0]], [4], age_s=[30.0], **how)).tasks.tolist() == [2]
    assert elastic_round(view([[1.0]], [4], age_s=[30.1], **how)).tasks.tolist() == [4]


def test_a_running_job_gives_way_to_one_that_waits() -> None:
    how: dict[str, Any] = {"tasks": [4, 1], "class_idx": [0, WAITS], "restart_s": [30.0, 30.0], "age_s": [1.0, 0.0]}
    target = elastic_round(view([[1.0], [1.0]], [4], elastic=sizes([1, 1], [4, 4], 1.0, 1.0), **how))
    assert target.class_idx.tolist() == [0, 0]
    assert target.tasks.sum() == 4
    assert target.tasks.min() >= 1


def brute_force(elastic: Elastic, gpus: int) -> float:
    """The largest sum of speed-ups over all divisions that give everyone its minimum."""
    options = [range(low, high + 1) for low, high in zip(elastic.min_tasks, elastic.max_tasks, strict=True)]
    return max(
        sum(elastic.curves[i][tasks] for i, tasks in enumerate(division))
        for division in product(*options)
        if sum(division) <= gpus
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 2), st.integers(0, 4), st.floats(0.0, 1.0)), min_size=1, max_size=4), st.data()
)
def test_shares_equal_brute_force(jobs: list[tuple[int, int, float]], data: st.DataObject) -> None:
    elastic = sizes([low for low, _, _ in jobs], [low + more for low, more, _ in jobs], *(p for _, _, p in jobs))
    gpus = data.draw(st.integers(int(elastic.min_tasks.sum()), 14))
    target = elastic_round(view([[1.0]] * len(jobs), [gpus], elastic=elastic))
    speed = sum(elastic.curves[i][tasks] for i, tasks in enumerate(target.tasks))
    assert speed == pytest.approx(brute_force(elastic, gpus))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_round_takes_more_than_there_is_or_runs_a_job_where_it_cannot(data: st.DataObject) -> None:
    num, kinds = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 3))
    capacity = data.draw(st.lists(st.integers(0, 6), min_size=kinds, max_size=kinds))
    least: IntArray = np.asarray(data.draw(st.lists(st.integers(1, 3), min_size=num, max_size=num)))
    most = least + data.draw(st.integers(0, 4))
    rates = st.lists(st.sampled_from([0.0, 0.25, 1.0, 2.0]), min_size=kinds, max_size=kinds)
    speed = np.asarray([data.draw(rates) for _ in range(num)])
    speed[least[:, None] > np.asarray(capacity)[None, :]] = 0.0
    now, left = np.full(num, WAITS), np.asarray(capacity)
    for job in range(num):
        kind = data.draw(st.integers(0, kinds - 1))
        if data.draw(st.booleans()) and speed[job, kind] > 0 and least[job] <= left[kind]:
            now[job] = kind
            left[kind] -= least[job]
    elastic = sizes(least.tolist(), most.tolist(), *[0.9] * num)
    how: dict[str, Any] = {
        "tasks": least,
        "class_idx": now,
        "restart_s": np.full(num, 5.0),
        "age_s": np.full(num, 50.0),
    }
    for decide in (het_las_round, het_makespan_round, elastic_round):
        seen = view(speed.tolist(), capacity, elastic=elastic, **how)
        target = decide(seen)
        runs = target.class_idx != WAITS
        assert (seen.speed[runs, target.class_idx[runs]] > 0).all()
        held = np.bincount(target.class_idx[runs], target.tasks[runs], kinds)
        assert (held <= capacity).all()
        assert ((elastic.min_tasks <= target.tasks) & (target.tasks <= elastic.max_tasks))[runs].all()
        again = decide(seen)
        assert (again.class_idx == target.class_idx).all()
        for job in np.flatnonzero(~runs):  # nobody waits beside a class that is idle and large enough
            idle = (np.asarray(capacity) - held >= least[job]) & (seen.speed[job] > 0)
            assert not idle.any()
