"""Dominant shares: the example of the paper, and what the order of the queue makes of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.capacity import Capacity, Quotas
from shunter.scheduler.policies.drf import dominant_shares
from shunter.sim.replay import simulate
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup, Quota
from shunter.traces.tables import Trace, make_jobs
from tests.scheduler.cases import columns

PAPER = ClusterSpec(name="paper", groups=(NodeGroup("node", count=1, cpus=9, memory_gib=18),))
"""Ghodsi et al., NSDI 2011, section 4.1: 9 CPUs and 18 GB."""


def tasks(cluster: ClusterSpec, *rows: tuple[str, float, float], column: str = "user") -> Trace:
    """Jobs of 100 s, all submitted at once: who, CPUs, GiB."""
    who, cpus, memory = zip(*rows, strict=True)
    given: dict[str, Any] = {"cpus": cpus, "memory_gib": memory, column: who}
    given |= {"job_id": [f"j{i}" for i in range(len(rows))], "submit_s": [0.0] * len(rows)}
    return Trace(name="drf", jobs=make_jobs(given | {"duration_s": [100.0] * len(rows)}), cluster=cluster)


def started_first(trace: Trace, column: str = "user", **options: Any) -> Counter[str]:
    run = simulate(trace, policy="drf", **options)
    return Counter(run.jobs.filter(start_s=0.0)[column].to_list())


def test_the_example_of_the_paper() -> None:
    """Tasks of A take 1 CPU and 4 GB, tasks of B 3 CPUs and 1 GB: A runs three, B two, both with a share of 2/3."""
    trace = tasks(PAPER, *[("A", 1.0, 4.0)] * 6, *[("B", 3.0, 1.0)] * 6)
    assert started_first(trace) == {"A": 3, "B": 2}
    assert Counter(simulate(trace, policy="fcfs").jobs.filter(start_s=0.0)["user"].to_list()) == {"A": 4}


def test_what_runs_already_counts() -> None:
    """A holds 4/9 of the CPUs, B 12/18 of the memory: A's next comes first, at 8/9 B's."""
    jobs = columns(4, submit_s=[0, 0, 1, 2], user_idx=[0, 1, 1, 0])
    units = np.asarray([[4000, 0, 0], [0, 12 << 20, 0], [1000, 1 << 20, 0], [4000, 0, 0]])
    capacity = Capacity(np.asarray([[9000], [18 << 20], [0]]), (True, True, False))
    shares = dominant_shares(jobs, units, 2, np.asarray([2, 3]), capacity)
    np.testing.assert_allclose(shares, [12 / 18, 4 / 9])


def test_jobs_ahead_of_the_own_group_count_as_held_and_others_do_not() -> None:
    jobs = columns(5, user_idx=[0, 1, 0, 1, -1])
    units = np.full((5, 3), [3000, 0, 0])
    capacity = Capacity(np.asarray([[9000], [1], [0]]), (True, False, False))
    shares = dominant_shares(jobs, units, 0, np.asarray([4, 0, 2, 3, 1]), capacity)
    # In the order of submission: user 1, user 0, user 1, nobody's, user 0.
    np.testing.assert_allclose(shares, [1 / 3, 0, 0, 1 / 3, 0])


def test_ties_are_first_come_first_served_whatever_came_before() -> None:
    """Shares are worked out in whole units, so equal ones are equal: 0.1 CPUs three times are no more than 0.3."""
    jobs = columns(5, user_idx=[0, 0, 0, 0, 1])
    units = np.asarray([[100, 0, 0]] * 4 + [[300, 0, 0]])
    capacity = Capacity(np.asarray([[7000], [0], [0]]), (True, False, False))
    others = columns(3, user_idx=[0, 1, 1])
    first = dominant_shares(jobs, units, 0, np.arange(5), capacity)[3]
    second = dominant_shares(others, units[[0, 4, 4]], 2, np.arange(1), capacity)[0]
    assert first == second == 300 / 7000


def test_a_guarantee_weighs() -> None:
    """Guarantees of 6 and 2 of 8 GPUs: three jobs of a for one of b."""
    groups = (NodeGroup("node", count=1, gpus=8),)
    cluster = ClusterSpec(name="quotas", groups=groups, quotas={"a": Quota(6), "b": Quota(2)})
    given: dict[str, Any] = {"group": ["b", "a"] * 8, "gpus": [1.0] * 16, "cpus": [0.0] * 16, "duration_s": [9.0] * 16}
    given |= {"job_id": [f"j{i}" for i in range(16)], "submit_s": [0.0] * 16}
    trace = Trace(name="drf", jobs=make_jobs(given), cluster=cluster)
    assert started_first(trace, "group") == {"a": 6, "b": 2}
    assert started_first(trace, "group", cluster=replace(cluster, quotas={})) == {"a": 4, "b": 4}


def test_weights_by_hand() -> None:
    """Shares 2/8 over weights 4/8, 1/8 (one GPU for a guarantee of 0) and 1/8 (no quota): 1/2, 2 and 2."""
    jobs = columns(6, group_idx=[0, 1, -1, 0, 1, -1], user_idx=[0, 0, 0, 0, 0, 0])
    units = np.asarray([[0, 0, 2000]] * 6)
    capacity = Capacity(np.asarray([[0], [0], [8000]]), (False, False, True))
    quotas = Quotas(("a", "b"), np.asarray([4000, 0]), np.asarray([8000, 8000]))
    shares = dominant_shares(jobs, units, 3, np.arange(3), replace(capacity, quotas=quotas))
    np.testing.assert_allclose(shares, [0.5, 2.0, 2.0])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20),
    st.integers(0, 6),
)
def test_one_sort_is_progressive_filling(jobs: list[tuple[int, int, int]], running: int) -> None:
    """Against the algorithm as the paper tells it: again and again the user with the least share takes its next job."""
    user = np.asarray([job[0] for job in jobs], dtype=np.int64)
    units = np.asarray([(cpus, memory, 0) for _, cpus, memory in jobs], dtype=np.int64)
    running = min(running, len(jobs))
    capacity = Capacity(np.asarray([[40], [60], [0]]), (True, True, False))
    filled = {u: units[:running][user[:running] == u].sum(axis=0) for u in range(4)}
    queues = {u: [row for row in range(running, len(jobs)) if user[row] == u] for u in range(4)}
    expected = []
    while any(queues.values()):
        share = {u: max(held[0] / 40, held[1] / 60) for u, held in filled.items()}
        chosen = min((u for u in range(4) if queues[u]), key=lambda u: (share[u], queues[u][0]))
        expected.append(queues[chosen].pop(0))
        filled[chosen] = filled[chosen] + units[expected[-1]]
    waiting = np.arange(running, len(jobs))
    shares = dominant_shares(columns(len(jobs), user_idx=user), units, running, waiting, capacity)
    assert waiting[np.lexsort((waiting, shares))].tolist() == expected
