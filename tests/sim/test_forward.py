"""A snapshot rolled forward under true run times gives the schedule that the replay gives, if nobody else comes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.errors import UsageError
from shunter.scheduler.policies.registry import choose_ordering
from shunter.sim.engine import Options, Simulation
from shunter.sim.forward import Forward, Recent
from shunter.sim.workload import prepare
from tests.examples import examples
from tests.networks import by_network, linear
from tests.properties.strategies import lanes

SDSC = Path(__file__).parents[3] / "shared/traces/swf/SDSC-SP2-1998-4.2-cln.swf.gz"


def stopped_at(simulation: Simulation, now_s: float) -> float:
    """Run until the first instant from ``now_s`` on is over; returns it."""
    simulation.run(lambda: simulation.clock._now >= now_s, every=1)
    return simulation.clock._now


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_under_true_run_times_it_is_the_replay(data: st.DataObject) -> None:
    """All jobs have been submitted when it looks."""
    cluster, trace = data.draw(lanes(max_jobs=20, overruns=False))
    policy = data.draw(st.sampled_from(["fcfs", "sjf", "saf", "wfp3", "unicep"]))
    backfill = data.draw(st.sampled_from(["none", "easy", "easy-noextra", "easy-sjbf"]))
    workload = prepare(trace, cluster)
    simulation = Simulation(workload, Options(Settings(choose_ordering(policy), backfill)))
    now_s = stopped_at(simulation, float(workload.columns.submit_s.max()))
    snapshot = simulation.snapshot(now_s)
    forward = Forward(snapshot, simulation.options.settings)
    found = forward.starts(workload.run_s[snapshot.rows])
    simulation.run()
    expected = simulation.state.jobs_f[at.START_S, snapshot.rows[snapshot.num_running :]]
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_jobs_that_come_again_are_those_that_come(data: st.DataObject) -> None:
    """The recent jobs, as early as they came, are submitted later: the replay of a log with both halves the same."""
    cluster, trace = data.draw(lanes(max_jobs=12, overruns=False))
    frame = trace.jobs.frame
    second = frame.with_columns(submit_s=frame["submit_s"] + 100.0, job_id=frame["job_id"] + "b")
    twice = replace(trace, jobs=replace(trace.jobs, frame=frame.extend(second)))
    workload = prepare(twice, cluster)
    simulation = Simulation(workload, Options(Settings(choose_ordering("fcfs"), "easy")))
    last_s = float(workload.columns.submit_s[: len(second)].max())
    now_s = stopped_at(simulation, last_s)
    snapshot = simulation.snapshot(now_s)
    rows = np.flatnonzero(~workload.rejected[: len(second)])
    recent = Recent(workload.columns.take(rows), workload.demand.tasks[rows], workload.demand.shape_idx[rows])
    forward = Forward(snapshot, simulation.options.settings, recent=recent)
    run_s = workload.run_s[np.concatenate([snapshot.rows, rows])]
    found = forward.starts(run_s, np.arange(len(rows)), 100.0)
    simulation.run()
    expected = simulation.state.jobs_f[at.START_S, snapshot.rows[snapshot.num_running :]]
    np.testing.assert_array_equal(found, expected)


def test_under_a_model_it_keeps_the_order_of_the_present() -> None:
    """Longest request first, from a network; nobody else comes."""
    if not SDSC.exists():
        pytest.skip(f"{SDSC.name} is not beside the checkout")
    from shunter.traces.read import read

    trace = read(SDSC).window(0, 800)
    workload = prepare(trace, trace.cluster)
    simulation = Simulation(workload, Options(Settings(by_network(linear(log_request=-1.0)), "easy")))
    now_s = stopped_at(simulation, float(workload.columns.submit_s[-1]))
    snapshot = simulation.snapshot(now_s)
    found = Forward(snapshot, simulation.options.settings).starts(workload.run_s[snapshot.rows])
    simulation.run()
    np.testing.assert_array_equal(found, simulation.state.jobs_f[at.START_S, snapshot.rows[snapshot.num_running :]])


def test_what_it_does_not_know_is_refused() -> None:
    from shunter.traces.generate import generate

    trace = generate("poisson", jobs=5, seed=1)
    simulation = Simulation(prepare(trace, trace.cluster), Options(Settings(backfill="conservative")))
    with pytest.raises(UsageError, match="conservative"):
        Forward(simulation.snapshot(0.0), simulation.options.settings)
