"""Capacity that is held for jobs to come: who waits, for how long, and that nobody waits for ever."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.decide import Settings
from shunter.scheduler.errors import UsageError
from shunter.scheduler.policies.registry import choose_ordering
from shunter.sim.engine import Options, Simulation
from shunter.sim.holding import Holding, arrivals, favoured_jobs, usual_quantile
from shunter.sim.replay import simulate
from shunter.sim.workload import prepare
from shunter.traces.tables import ClusterSpec, NodeGroup, Quota, Trace, make_jobs, pool
from tests.examples import examples
from tests.properties.strategies import lanes


def jobs(processors: int, *rows: tuple[Any, ...]) -> Trace:
    """Name, submission, duration, processors, priority."""
    names = ("job_id", "submit_s", "duration_s", "tasks", "priority")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return Trace("held", make_jobs(columns | {"cpus": [1.0] * len(rows)}), pool(processors))


def starts(trace: Trace, told: list[float], step_s: float = 100.0, **how: Any) -> dict[str, float]:
    favoured = trace.jobs.floats("priority") > 0
    run = simulate(trace, holding=Holding(favoured, step_s, np.asarray(told)), **how)
    return dict(run.jobs.select("job_id", "start_s").rows())


TRACE = jobs(4, ("long", 0.0, 1000.0, 3, 0.0), ("late", 10.0, 1000.0, 1, 0.0), ("urgent", 50.0, 20.0, 1, 1.0))


def test_what_is_told_is_held_until_it_comes() -> None:
    assert starts(TRACE, [0.0]) == {"long": 0, "late": 10, "urgent": 1000}
    assert starts(TRACE, [1.0]) == {"long": 0, "late": 70, "urgent": 50}  # nothing is held once the job has come


def test_what_does_not_come_is_let_go_at_the_end_of_the_step() -> None:
    """Two are told of, one comes: the other is held until the step ends."""
    trace = jobs(4, ("long", 0.0, 1000.0, 2, 0.0), ("late", 10.0, 1000.0, 1, 0.0), ("urgent", 50.0, 500.0, 1, 1.0))
    assert starts(trace, [2.0, 0.0]) == {"long": 0, "late": 100, "urgent": 50}


def test_the_largest_job_is_never_kept_out() -> None:
    trace = jobs(4, ("urgent", 0.0, 10.0, 1, 1.0), ("whole", 5.0, 50.0, 4, 0.0))
    assert starts(trace, [4.0] * 50) == {"urgent": 0, "whole": 10}


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_nobody_waits_for_ever_and_nothing_is_held_of_what_is_not_told(data: st.DataObject) -> None:
    cluster, trace = data.draw(lanes())
    workload = prepare(trace, cluster)
    favoured = np.asarray(data.draw(st.lists(st.booleans(), min_size=len(trace.jobs), max_size=len(trace.jobs))))
    told = np.asarray(data.draw(st.lists(st.floats(0, 20), min_size=1, max_size=6)))
    how = Options(
        Settings(choose_ordering(data.draw(st.sampled_from(["fcfs", "sjf", "wfp3"]))), "easy"),
        interval_s=data.draw(st.sampled_from([0.0, 7.0])),
    )
    held = Simulation(workload, how, holding=Holding(favoured, data.draw(st.sampled_from([3.0, 10.0, 50.0])), told))
    assert held.run()  # which checks that every job has ended
    how = replace(how, interval_s=0.0)  # the begin of a step makes a pass, from which the next interval counts
    none = Simulation(workload, how, holding=Holding(favoured, 10.0, np.zeros(len(told))))
    plain = Simulation(workload, how)
    assert none.run()
    assert plain.run()
    np.testing.assert_array_equal(none.state.jobs_f[3], plain.state.jobs_f[3])


def test_rules_for_whom() -> None:
    workload = prepare(TRACE, TRACE.cluster)
    assert favoured_jobs(workload, "short:30").tolist() == [False, False, True]
    assert favoured_jobs(workload, "priority:1").tolist() == [False, False, True]
    for rule, said in (
        ("short:1", "means no job"),
        ("short:9999", "means every job"),
        ("quick:5", "expected short:SECONDS"),
        ("short:", "expected short:SECONDS"),
        ("priority:nan", "expected short:SECONDS"),
    ):
        with pytest.raises(UsageError, match=said):
            favoured_jobs(workload, rule)


def test_arrivals_and_their_usual_quantile() -> None:
    workload = prepare(TRACE, TRACE.cluster)
    assert arrivals(workload, np.asarray([True, False, True]), 25.0).tolist() == [3, 0, 1]
    told = usual_quantile(np.asarray([0.0, 1.0, 2.0, 3.0, 9.0, 9.0]), 0.5, least=3)
    assert told.tolist() == [0, 0, 0, 1, 2, 2]


def test_quotas_and_bad_figures_are_refused() -> None:
    cluster = ClusterSpec("g", (NodeGroup("n", 2, gpus=2),), quotas={"ada": Quota(1.0)})
    frame = TRACE.jobs.frame.with_columns(gpus=1.0, cpus=0.0)
    trace = Trace("q", make_jobs(frame.to_dict(as_series=True)), cluster)
    favoured = np.asarray([False, False, True])
    with pytest.raises(UsageError, match="does not go with quotas"):
        simulate(trace, holding=Holding(favoured, 10.0, np.ones(3)))
    with pytest.raises(UsageError, match="for some of 2 jobs, but there are 3"):
        simulate(TRACE, holding=Holding(favoured[:2], 10.0, np.ones(3)))
    with pytest.raises(UsageError, match="expected finite numbers"):
        Holding(favoured, 10.0, np.asarray([-1.0]))
    with pytest.raises(UsageError, match="expected a positive number"):
        Holding(favoured, 0.0, np.ones(1))
