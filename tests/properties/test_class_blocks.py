"""The order in which a pass with quotas tries jobs, against the same written out in plain Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.capacity import Capacity, Quotas
from shunter.scheduler.kernels.lanes import list_lane, sort_by_lane
from shunter.scheduler.snapshot import JobColumns
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import ResourceDemand
from tests.examples import examples

SOME = settings(max_examples=examples(100), deadline=None)
GROUPS = 3


@SOME
@given(st.data())
def test_in_each_class_first_what_is_guaranteed_then_by_weight(data: st.DataObject) -> None:
    """All jobs wait; classes never mix, and without strict classes all jobs are of one."""
    count = data.draw(st.integers(1, 12))
    several = st.lists(st.integers(0, 2), min_size=count, max_size=count)
    priority, group, tasks = data.draw(several), [g - 1 for g in data.draw(several)], data.draw(several)
    sizes = [1 + each for each in tasks]
    guaranteed = [data.draw(st.integers(0, 4)) for _ in range(GROUPS)]
    weight = [float(data.draw(st.integers(1, 3))) for _ in range(GROUPS)]
    is_weighted, strict = data.draw(st.booleans()), data.draw(st.booleans())
    limits = np.full(GROUPS, 1000_000)
    units = np.asarray(guaranteed) * 1000
    quotas = Quotas(("a", "b", "c"), units, limits, np.asarray(weight) if is_weighted else None)
    state = ClusterState(
        capacity=Capacity(np.asarray([[100_000], [0], [0]]), (True, False, False), quotas=quotas),
        demand=ResourceDemand(np.asarray(sizes), np.zeros(count, np.int64), np.asarray([[1000, 0, 0]])),
        columns=JobColumns.of(np.zeros(count), priority=np.asarray(priority, float), group_idx=np.asarray(group)),
        score=np.asarray([-p for p in priority], float) if strict else np.zeros(count),
        backfill="easy",
        placement="first-fit",
        strict=strict,
    )
    state.absorb(0.0, np.zeros(1, np.int64), 0, 0, count)
    sort_by_lane(state.packed)
    assert list_lane(state.packed, 0, count) == count
    found = state.jobs_i[at.LIST, :count].tolist()
    classes = priority if strict else [0] * count
    assert found == in_order(classes, group, sizes, guaranteed, weight if is_weighted else None)


def in_order(
    classes: list[int], group: list[int], sizes: list[int], guaranteed: list[int], weight: list[float] | None
) -> list[int]:
    """One job after the other is appended, by the definitions."""
    order: list[int] = []
    has = [0] * GROUPS
    others, over = 0, set[int]()
    for one_class in sorted(set(classes), reverse=True):
        rest = []
        for job in [j for j in range(len(classes)) if classes[j] == one_class]:
            g = group[job]
            if g >= 0 and g not in over and has[g] + sizes[job] <= guaranteed[g]:
                has[g] += sizes[job]
                order.append(job)
            else:
                over.add(g)
                rest.append(job)
        while rest:
            job = rest[0]
            if weight:
                had = {g: max(has[g] - guaranteed[g], 0) / weight[g] for g in range(GROUPS)} | {-1: others}
                job = min(rest, key=lambda j: (had[group[j]], j))
                if group[job] >= 0:
                    has[group[job]] += sizes[job]
                else:
                    others += sizes[job]
            rest.remove(job)
            order.append(job)
    return order
