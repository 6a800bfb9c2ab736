"""A schedule does not depend on where the clock begins or on the units of processors and time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.decide import Settings
from shunter.scheduler.policies import ORDERINGS
from shunter.scheduler.policies.registry import choose_ordering
from shunter.sim.engine import Options
from shunter.sim.workload import prepare
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs
from tests.examples import examples
from tests.properties.recorder import Held, record
from tests.properties.strategies import MODES, PLACES, POLICIES, lanes, node_clusters, pools, traces

READS_THE_CLOCK = {"f1", "f2", "f3", "f4"}
"""The logarithm of the submit time is part of the score, so a later beginning of the log changes the order."""

HAS_A_SCALE_OF_PROCESSORS = {"f1", "f2", "f3", "f4", "unicep"}
"""Processors are weighed against time, or stand in a logarithm."""

HAS_A_SCALE_OF_TIME = {"f1", "f2", "f3", "f4", "unicep", "fairshare", "multifactor"}
"""Logarithms, UNICEP's 1e-15 s, and the half-life and largest age in days."""

FEW = settings(max_examples=examples(8), deadline=None)


def changed(trace: Trace, **columns: object) -> Trace:
    frame = trace.jobs.frame
    return replace(trace, jobs=make_jobs({name: columns.get(name, frame[name]) for name in frame.columns}))


def schedule(trace: Trace, cluster: ClusterSpec, chosen: Settings, ties: str = "instant") -> list[Held]:
    """Starts, ends and nodes in the order in which the jobs started."""
    return record(prepare(trace, cluster), Options(chosen, ties=ties)).held


def choice(data: st.DataObject, policy: str) -> Settings:
    return Settings(choose_ordering(policy), data.draw(st.sampled_from(MODES)), data.draw(st.sampled_from(PLACES)))


def policies_without(excluded: set[str]) -> list[str]:
    assert excluded <= set(ORDERINGS)
    return [name for name in ORDERINGS if name not in excluded and name in POLICIES]


@pytest.mark.parametrize("policy", policies_without(READS_THE_CLOCK))
@FEW
@given(data=st.data())
def test_a_later_beginning_shifts_every_start(policy: str, data: st.DataObject) -> None:
    cluster, trace = data.draw(lanes())
    by_s = float(data.draw(st.integers(1, 10**9)))
    chosen, ties = choice(data, policy), data.draw(st.sampled_from(["instant", "per-event"]))
    later = schedule(changed(trace, submit_s=trace.jobs.frame["submit_s"] + by_s), cluster, chosen, ties)
    assert later == [
        replace(held, start_s=held.start_s + by_s, end_s=held.end_s + by_s)
        for held in schedule(trace, cluster, chosen, ties)
    ]


@pytest.mark.parametrize("policy", policies_without(HAS_A_SCALE_OF_PROCESSORS))
@FEW
@given(data=st.data())
def test_more_processors_for_jobs_and_pool_alike_change_nothing(policy: str, data: st.DataObject) -> None:
    cluster = data.draw(pools())
    trace = data.draw(traces(cluster))
    factor = data.draw(st.sampled_from([2, 4, 64]))  # powers of two, so that WFP3's products keep their ties
    wide = replace(cluster, groups=(replace(cluster.groups[0], cpus=cluster.groups[0].cpus * factor),))  # type: ignore[operator]
    chosen = choice(data, policy)
    wider = schedule(changed(trace, tasks=trace.jobs.frame["tasks"] * factor), wide, chosen)
    assert wider == [
        replace(held, placement=tuple((node, tasks * factor) for node, tasks in held.placement))
        for held in schedule(trace, cluster, chosen)
    ]


def grown(group: NodeGroup, factor: int) -> NodeGroup:
    return replace(
        group,
        cpus=(group.cpus or 0) * factor,
        memory_gib=(group.memory_gib or 0) * factor,
        gpus=(group.gpus or 0) * factor,
    )


@pytest.mark.parametrize("policy", policies_without(HAS_A_SCALE_OF_PROCESSORS))
@FEW
@given(data=st.data())
def test_larger_nodes_and_tasks_change_nothing(policy: str, data: st.DataObject) -> None:
    cluster = data.draw(node_clusters())
    trace = data.draw(traces(cluster))
    factor = data.draw(st.sampled_from([2, 8]))
    frame = trace.jobs.frame
    large = changed(trace, **{name: frame[name] * factor for name in ("cpus", "memory_gib", "gpus")})
    larger = replace(cluster, groups=tuple(grown(group, factor) for group in cluster.groups))
    chosen = choice(data, policy)
    assert schedule(large, larger, chosen) == schedule(trace, cluster, chosen)


@pytest.mark.parametrize("policy", policies_without(HAS_A_SCALE_OF_TIME))
@FEW
@given(data=st.data())
def test_another_unit_of_time_scales_every_start(policy: str, data: st.DataObject) -> None:
    """Conservative backfilling puts off the end of a job that overran by at least a minute: no overruns there."""
    chosen = choice(data, policy)
    cluster, trace = data.draw(lanes(overruns=chosen.backfill != "conservative"))
    factor = 2.0 ** data.draw(st.integers(-12, 12))
    frame = trace.jobs.frame
    scaled = changed(trace, **{name: frame[name] * factor for name in ("submit_s", "duration_s", "requested_s")})
    assert schedule(scaled, cluster, chosen) == [
        replace(held, start_s=held.start_s * factor, end_s=held.end_s * factor)
        for held in schedule(trace, cluster, chosen)
    ]


@pytest.mark.parametrize("policy", ["fcfs", "sjf", "saf"])
@FEW
@given(data=st.data())
def test_names_of_jobs_and_users_do_not_matter(policy: str, data: st.DataObject) -> None:
    cluster, trace = data.draw(lanes())
    chosen = choice(data, policy)
    names = [f"{number:04d}" for number in np.arange(len(trace.jobs))[::-1]]
    assert schedule(changed(trace, job_id=names, user=names), cluster, chosen) == schedule(trace, cluster, chosen)
