"""Replays under a network: the engine, the compiled loop and ``plan`` start the same jobs, and the guard holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings, plan
from shunter.scheduler.errors import UsageError
from shunter.scheduler.guard import PARAMETERS
from shunter.scheduler.kernels.features import HISTORY_RUNNING, HISTORY_WAITING
from shunter.scheduler.learned import KernelScorer
from shunter.scheduler.plans import Plan
from shunter.scheduler.preemption import Preemption
from shunter.sim.engine import Options, Simulation
from shunter.sim.failures import FAIL, REPAIR, Outages
from shunter.sim.replay import Interrupted, simulate
from shunter.sim.rollout import Rollout, run_compiled, why_not
from shunter.sim.workload import prepare
from shunter.traces.generate import generate
from shunter.traces.read import read
from shunter.traces.tables import Trace, pool
from tests.networks import by_network, drawn_network, linear, nothing_is_usual
from tests.properties.strategies import MODES, lanes, pools, traces

SDSC = Path(__file__).parents[2].parent / "shared" / "traces" / "swf" / "SDSC-SP2-1998-4.2-cln.swf.gz"

GUARDED = {**PARAMETERS, "bound_h": 0.002, "bound_requests": 1.0, "bound_drains": 0.0}
"""A bound that small random queues reach: 7 s or the request."""


def starts(simulation: Simulation) -> list[float]:
    assert simulation.run()
    return simulation.state.jobs_f[at.START_S].tolist()


def options(data: st.DataObject, backfills: list[str]) -> Options:
    network = drawn_network(data.draw(st.integers(0, 50)))
    parameters = data.draw(st.sampled_from([{}, GUARDED, {**GUARDED, "classes": 1.0}]))
    seen = data.draw(st.sampled_from([None, nothing_is_usual()]))
    fallback = data.draw(st.sampled_from(["fcfs", "largest"]))
    ordering = by_network(network, parameters, seen=seen, fallback=fallback)
    return Options(Settings(ordering, data.draw(st.sampled_from(backfills)), depth=data.draw(st.sampled_from([0, 2]))))


@settings(max_examples=60)
@given(st.data())
def test_engine_and_loop_start_every_job_at_the_same_time(data: st.DataObject) -> None:
    cluster, trace = data.draw(lanes(max_jobs=25))
    how = options(data, ["none", "easy", "easy-noextra", "easy-sjbf"])
    workload = prepare(trace, cluster)
    reference, compiled = Simulation(workload, how), Simulation(workload, how)
    assert why_not(compiled) is None
    assert reference.run()
    assert run_compiled(compiled)
    np.testing.assert_array_equal(reference.state.jobs_f[at.START_S], compiled.state.jobs_f[at.START_S])
    assert reference.learned is not None
    assert compiled.learned is not None
    for name, values in reference.learned.arrays().items():
        np.testing.assert_array_equal(values, compiled.learned.arrays()[name])


class Witness(Simulation):
    """A simulation that asks ``plan`` for every decision before it makes it, and compares who starts."""

    proposed = Plan(0)
    num_orders = 0

    def _sort_queue(self, now_s: float) -> None:
        self.proposed = plan(self.snapshot(now_s), self.options.settings)
        self.num_orders += bool(self.proposed.guard)
        super()._sort_queue(now_s)

    def _start(self, now_s: float, num_started: int) -> None:
        assert [start.row for start in self.proposed.starts] == self.state.started[:num_started].tolist()
        super()._start(now_s, num_started)


@settings(max_examples=40)
@given(st.data())
def test_a_plan_from_a_snapshot_starts_what_the_engine_starts(data: st.DataObject) -> None:
    cluster, trace = data.draw(lanes(max_jobs=20))
    how = options(data, MODES)
    workload = prepare(trace, cluster)
    witness = Witness(workload, how)
    assert starts(witness) == pytest.approx(starts(Simulation(workload, how)), abs=0, nan_ok=True)
    assert witness.learned is not None
    reasons = witness.learned.counts
    assert witness.num_orders == sum(reasons[name] for name in reasons if name != "starving")


def test_a_plan_needs_to_know_of_users() -> None:
    trace = generate("poisson", jobs=5, seed=1)
    simulation = Simulation(prepare(trace, trace.cluster), Options(Settings(by_network(linear(size=1.0)))))
    with pytest.raises(UsageError, match="what is known of users"):
        plan(simulation.state.snapshot(0.0), simulation.options.settings)


def sdsc(jobs: int) -> Trace:
    if not SDSC.exists():
        pytest.skip(f"{SDSC.name} is not beside the checkout")
    return read(SDSC).window(0, jobs)


@pytest.mark.parametrize("backfill", ["none", "easy", "easy-sjbf"])
def test_on_a_recorded_log(backfill: str) -> None:
    trace = sdsc(3000)
    for ordering in (by_network(drawn_network(2)), by_network(drawn_network(2), PARAMETERS, seen=nothing_is_usual())):
        runs = [simulate(trace, policy=ordering, backfill=backfill, engine=engine) for engine in ("simpy", "auto")]
        assert [run.manifest["engine"] for run in runs] == ["simpy", "compiled"]
        assert runs[0].jobs.equals(runs[1].jobs)
        assert runs[0].manifest["guard"] == runs[1].manifest["guard"]
    workload = prepare(trace, trace.cluster)
    alone = Rollout(workload, backfill).starts(drawn_network(2), np.array([0]), np.array([workload.num_jobs]))
    run = simulate(trace, policy=by_network(drawn_network(2)), backfill=backfill)
    np.testing.assert_array_equal(alone, run.jobs["start_s"].to_numpy())


def test_stopped_and_taken_up_by_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shunter.sim.rollout.FIRST_BUDGET", 40)
    trace = generate("poisson", jobs=500, seed=2, params={"servers": 4, "load": 0.95})
    workload = prepare(trace, trace.cluster)
    how = Options(Settings(by_network(drawn_network(4), GUARDED), "easy"))
    whole, pieces = Simulation(workload, how), Simulation(workload, how)
    whole.run()
    complete, turns = False, 0
    while not complete:
        turns += 1
        complete = run_compiled(pieces, lambda: True) if turns % 2 else pieces.run(lambda: True, every=50)
    assert turns > 8
    np.testing.assert_array_equal(whole.state.jobs_f[at.START_S], pieces.state.jobs_f[at.START_S])
    assert whole.learned is not None
    assert pieces.learned is not None
    assert whole.learned.counts == pieces.learned.counts


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_resumed_from_a_file_it_ends_as_if_never_stopped(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shunter.sim.rollout.FIRST_BUDGET", 100)
    monkeypatch.setattr("shunter.sim.engine.FIRST_GAP", 100)
    trace = generate("lublin99", jobs=800, seed=9)
    how: dict[str, Any] = {"policy": by_network(drawn_network(6), GUARDED), "backfill": "easy", "engine": engine}
    whole = simulate(trace, **how)
    file = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        simulate(trace, **how, checkpoint=file, should_stop=lambda: True)
    other = replace(how["policy"], model_sha256="another")
    with pytest.raises(UsageError, match="different: model"):
        simulate(trace, **(how | {"policy": other}), checkpoint=file, resume=True)
    resumed = simulate(trace, **how, checkpoint=file, resume=True)
    assert resumed.jobs.equals(whole.jobs)
    assert json.dumps(resumed.manifest) == json.dumps(whole.manifest)


# --- the guard in replays --------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.data())
def test_nobody_is_overtaken_beyond_the_bound(data: st.DataObject) -> None:
    """Without backfilling: no job starts while the one that has been late longest goes on waiting."""
    cluster = data.draw(pools())
    trace = data.draw(traces(cluster, max_jobs=25))
    workload = prepare(trace, cluster)
    how = Options(Settings(by_network(drawn_network(data.draw(st.integers(0, 50))), GUARDED)))
    start_s = np.asarray(starts(Simulation(workload, how)))
    submit_s = workload.columns.submit_s
    bound_s = np.maximum(3600.0 * GUARDED["bound_h"], workload.columns.requested_s)
    rows = np.flatnonzero(~np.isnan(start_s))
    for now_s in np.unique(start_s[rows]):
        waited = (submit_s[rows] <= now_s) & (start_s[rows] >= now_s)
        late = rows[waited & (now_s - submit_s[rows] >= bound_s[rows])]
        assert not len(late) or start_s[late[0]] == now_s


def test_the_heuristic_decides_where_features_are_unusual() -> None:
    trace = generate("lublin99", jobs=600, seed=3)
    ordering = by_network(drawn_network(1), {"outside": 0.25}, seen=nothing_is_usual(), fallback="smallest")
    run = simulate(trace, policy=ordering, backfill="easy")
    assert run.jobs["start_s"].equals(simulate(trace, policy="smallest", backfill="easy").jobs["start_s"])
    assert run.manifest["guard"]["outside"] > 0 == run.manifest["guard"]["followed"]


def test_the_heuristic_decides_where_a_request_is_no_number() -> None:
    trace = generate("lublin99", jobs=100, seed=3)
    workload = prepare(trace, trace.cluster)
    for engine in (Simulation.run, run_compiled):
        simulation = Simulation(workload, Options(Settings(by_network(drawn_network(1)), "easy")))
        assert simulation.learned is not None
        simulation.learned.source.facts.log_request[:] = np.nan
        assert engine(simulation)
        assert simulation.learned.counts["not_finite"] > 0 == simulation.learned.counts["followed"]


def test_inference_that_is_slower_than_its_budget_pauses() -> None:
    trace = generate("lublin99", jobs=600, seed=3)
    ordering = by_network(drawn_network(1), {"budget_ms": 1e-6, "overruns": 2, "pause": 5})
    run = simulate(trace, policy=ordering, backfill="easy")
    counts = run.manifest["guard"]
    assert run.manifest["engine"] == "simpy"
    assert counts["followed"] >= 4
    assert abs(counts["slow"] - counts["followed"] // 2 * 5) <= 5
    with pytest.raises(UsageError, match="time of inference is measured"):
        simulate(trace, policy=ordering, engine="compiled")


# --- what only the engine does ---------------------------------------------------------------------------------------


def test_another_model_is_replayed_by_the_engine() -> None:
    """A function that the core does not know gives the same replay as the same network compiled."""
    trace = generate("lublin99", jobs=300, seed=3)
    network = KernelScorer(drawn_network(1))
    run = simulate(trace, policy=by_network(network.__call__), backfill="easy")
    assert run.manifest["engine"] == "simpy"
    assert run.jobs.equals(simulate(trace, policy=by_network(drawn_network(1)), backfill="easy").jobs)
    with pytest.raises(UsageError, match="no small network"):
        simulate(trace, policy=by_network(network.__call__), engine="compiled")


class Bookkeeper(Simulation):
    """A simulation that counts at every order what its histories say of who waits and runs now."""

    num_orders = 0

    def _follow_model(self, learned: Any, now_s: float) -> None:
        user = learned.source.facts.user
        size = learned.source.histories.users.shape[1]
        running, queue = self.state.running, self.state.queue
        held = np.bincount(user[running], self.workload.columns.processors[running], size)
        np.testing.assert_allclose(learned.source.histories.users[HISTORY_RUNNING], held, atol=1e-9)
        waiting = np.bincount(user[queue], minlength=size)
        np.testing.assert_array_equal(learned.source.histories.users[HISTORY_WAITING], waiting)
        self.num_orders += 1
        super()._follow_model(learned, now_s)


@settings(max_examples=40)
@given(st.data())
def test_histories_tell_who_waits_and_runs_whatever_happens_to_jobs(data: st.DataObject) -> None:
    """Under preemption, failures of nodes, retries, passes at intervals and per event."""
    cluster, trace = data.draw(lanes(max_jobs=20))
    way = data.draw(st.sampled_from(["preempt", "fail", "interval", "per-event", "details"]))
    ordering = Settings(by_network(drawn_network(1)), "easy")
    how = {
        "preempt": Options(
            ordering, preemption=Preemption(("priority",), grace_s=data.draw(st.sampled_from([0.0, 3.0])))
        ),
        "fail": Options(ordering, retry_wait_s=data.draw(st.sampled_from([0.0, 4.0]))),
        "interval": Options(ordering, interval_s=7.0),
        "per-event": Options(ordering, ties="per-event"),
        "details": Options(ordering, explain_waits=True, placements=True),
    }[way]
    outages = None
    if way == "fail":
        times = np.asarray([6.0, 9.0, 30.0, 33.0])
        whole, node = np.full(4, -1), np.zeros(4, np.int64)
        outages = Outages(times, node, whole, np.asarray([FAIL, REPAIR, FAIL, REPAIR]), np.zeros(4, np.int64))
    workload = prepare(trace, cluster, can_close=outages is not None)
    simulation = Bookkeeper(workload, how, outages)
    assert simulation.run()
    if way == "details":
        plain = starts(Simulation(workload, Options(ordering)))
        np.testing.assert_array_equal(simulation.state.jobs_f[at.START_S], plain)


def test_preemption_by_policy_needs_ranks_of_running_jobs() -> None:
    with pytest.raises(UsageError, match="ranks running jobs"):
        Options(Settings(by_network(linear(size=1.0))), preemption=Preemption(("policy",)))


def test_classes_come_first_under_preemption_by_priority() -> None:
    """Two jobs wait for one processor: the one of the higher class starts first, whatever the score."""
    from shunter.traces.tables import make_jobs

    jobs = make_jobs(
        {
            "job_id": ["running", "low", "high"],
            "submit_s": [0.0, 1.0, 2.0],
            "duration_s": [10.0, 5.0, 5.0],
            "requested_s": [10.0, 5.0, 6.0],
            "cpus": [1.0, 1.0, 1.0],
            "priority": [2.0, 1.0, 2.0],
        }
    )
    trace = Trace("classes", jobs, pool(1))
    shortest = by_network(linear(log_request=1.0))
    assert simulate(trace, policy=shortest).jobs["start_s"].to_list() == [0.0, 10.0, 15.0]
    kept = simulate(trace, policy=shortest, preemption=Preemption(("priority",)))
    assert kept.jobs["start_s"].to_list() == [0.0, 15.0, 10.0]
    classes = by_network(linear(log_request=1.0), {"classes": 1.0})
    assert simulate(trace, policy=classes).jobs["start_s"].to_list() == [0.0, 15.0, 10.0]
