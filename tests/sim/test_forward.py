"""A snapshot rolled forward under true run times and arrivals gives the schedule that the replay gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.errors import UsageError
from shunter.scheduler.guard import PARAMETERS
from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
from shunter.scheduler.snapshot import Snapshot
from shunter.scheduler.start_times import Recent
from shunter.scheduler.types import FloatArray
from shunter.sim.engine import Options, Simulation
from shunter.sim.forward import Forward
from shunter.sim.workload import prepare
from tests.examples import examples
from tests.networks import by_network, drawn_network
from tests.properties.strategies import lanes

SDSC = Path(__file__).parents[3] / "shared/traces/swf/SDSC-SP2-1998-4.2-cln.swf.gz"

GUARDED = {**PARAMETERS, "bound_h": 0.002, "bound_requests": 1.0, "bound_drains": 0.0}
"""A bound that small random queues reach: 7 s or the request."""


def stopped_at(simulation: Simulation, now_s: float) -> float:
    """Run until the first instant from ``now_s`` on is over; returns it."""
    simulation.run(lambda: simulation.clock._now >= now_s, every=1)
    return simulation.clock._now


ORDERINGS = ("fcfs", "sjf", "f1", "wfp3", "unicep", "fairshare", "multifactor", "learned")


def ordering_of(data: st.DataObject, name: str) -> ChosenOrdering:
    if name != "learned":
        return choose_ordering(name)
    network = drawn_network(data.draw(st.integers(0, 20)))
    return by_network(network, data.draw(st.sampled_from([{}, GUARDED])))


def looked_at(simulation: Simulation, snapshot: Snapshot, **more: Any) -> FloatArray:
    """Starts of the waiting jobs by a roll with the run times and the arrivals that the replay will have."""
    workload = simulation.workload
    to_come = (workload.columns.submit_s > snapshot.now_s) & ~workload.rejected
    rows = np.flatnonzero(to_come)
    known = None if simulation.learned is None else simulation.learned.source.known_of(rows)
    recent = Recent(workload.columns.take(rows), workload.demand.tasks[rows], workload.demand.shape_idx[rows], known)
    forward = Forward(snapshot, simulation.options.settings, ledger=simulation.ledger, recent=recent, **more)
    assert forward.remade
    run_s = workload.run_s[np.concatenate([snapshot.rows, rows])]
    return forward.starts(run_s, np.arange(len(rows)), workload.columns.submit_s[rows])


def expected_of(simulation: Simulation, snapshot: Snapshot) -> FloatArray:
    starts: FloatArray = simulation.state.jobs_f[at.START_S, snapshot.rows[snapshot.num_running :]]
    return starts


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_under_true_run_times_and_arrivals_it_is_the_replay(data: st.DataObject) -> None:
    """Looked at when an instant is over, with jobs yet to come, whether orders stay or change."""
    cluster, trace = data.draw(lanes(max_jobs=20))
    ordering = ordering_of(data, data.draw(st.sampled_from(ORDERINGS)))
    backfill = data.draw(st.sampled_from(["none", "easy", "easy-noextra", "easy-sjbf"]))
    workload = prepare(trace, cluster)
    simulation = Simulation(workload, Options(Settings(ordering, backfill)))
    now_s = stopped_at(simulation, float(data.draw(st.integers(0, 40))))
    snapshot = simulation.snapshot(now_s)
    found = looked_at(simulation, snapshot, passed=True)
    if simulation.clock.pending:
        simulation.run()
    np.testing.assert_array_equal(found, expected_of(simulation, snapshot))


class Looking(Simulation):
    """A simulation that is looked at before the passes from a time on in which its queue is put in order."""

    from_s = 0.0
    seen: list[tuple[Snapshot, FloatArray]]

    def _sort_queue(self, now_s: float) -> None:
        if now_s >= self.from_s and len(self.seen) < 3:
            snapshot = self.snapshot(now_s)
            self.seen.append((snapshot, looked_at(self, snapshot)))
        super()._sort_queue(now_s)


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_it_makes_the_pass_of_the_present_as_the_replay_does(data: st.DataObject) -> None:
    """Looked at before a pass, under orders that change."""
    cluster, trace = data.draw(lanes(max_jobs=20))
    ordering = ordering_of(data, data.draw(st.sampled_from(ORDERINGS[3:])))
    simulation = Looking(
        prepare(trace, cluster), Options(Settings(ordering, data.draw(st.sampled_from(["none", "easy"]))))
    )
    simulation.seen, simulation.from_s = [], float(data.draw(st.integers(0, 40)))
    simulation.run()
    for snapshot, found in simulation.seen:
        np.testing.assert_array_equal(found, expected_of(simulation, snapshot))


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
    found = forward.starts(run_s, np.arange(len(rows)), workload.columns.submit_s[rows] + 100.0)
    simulation.run()
    expected = simulation.state.jobs_f[at.START_S, snapshot.rows[snapshot.num_running :]]
    np.testing.assert_array_equal(found, expected)


def test_under_the_model_that_ships_it_is_the_replay() -> None:
    """Whole queues of a log, with features, network and guard; a roll that keeps the present order is another one."""
    if not SDSC.exists():
        pytest.skip(f"{SDSC.name} is not beside the checkout")
    from shunter.agents.bundle import load_bundle, shipped
    from shunter.traces.read import read

    trace = read(SDSC).window(0, 3000)
    simulation = Simulation(
        prepare(trace, trace.cluster), Options(Settings(load_bundle(shipped("learned")).ordering(), "easy"))
    )
    looks, kept = [], []
    for day in (21, 26):
        snapshot = simulation.snapshot(stopped_at(simulation, day * 86400.0))
        looks.append((snapshot, looked_at(simulation, snapshot, passed=True)))
        present = Forward(snapshot, simulation.options.settings, passed=True, remake=False)
        assert not present.remade
        kept.append(present.starts(simulation.workload.run_s[snapshot.rows]))
    simulation.run()
    for snapshot, found in looks:
        np.testing.assert_array_equal(found, expected_of(simulation, snapshot))
    assert any((a != found).any() for a, (_, found) in zip(kept, looks, strict=True))


def test_what_it_does_not_know_is_refused() -> None:
    from shunter.traces.generate import generate

    trace = generate("poisson", jobs=5, seed=1)
    simulation = Simulation(prepare(trace, trace.cluster), Options(Settings(backfill="conservative")))
    with pytest.raises(UsageError, match="conservative"):
        Forward(simulation.snapshot(0.0), simulation.options.settings)
