"""Run times that decisions count with: predictions from a user's last jobs, and requests that the log does not have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.durations import FEATURES, RunModel
from shunter.scheduler.errors import UsageError
from shunter.scheduler.kernels.durations import COUNT, RUNNING, STARTS_S, WAITING
from shunter.scheduler.kernels.estimates import STEPS_S, learn_run
from shunter.scheduler.kernels.forest import Forest
from shunter.scheduler.policies.registry import choose_ordering
from shunter.scheduler.preemption import Preemption
from shunter.sim.engine import Options, Simulation
from shunter.sim.estimates import estimates_of, which_estimates
from shunter.sim.rollout import run_compiled, why_not
from shunter.sim.workload import prepare, with_past
from shunter.traces.generate import generate
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs, pool
from tests.scheduler.cases import starts, table

# Ada's a and b take 10 s and 30 s: her next job is expected to take 20 s.
HISTORY = """
    job submit runs asks tasks user
    a   0      10   1000 1     ada
    b   0      30   1000 1     ada
"""


def test_the_mean_of_the_last_two_jobs_lets_a_third_overtake() -> None:
    """d's shadow time is 300 s. e asks for 1000 s, but Ada's jobs take 20 s: it ends before, by 120 s."""
    text = """
    c   100    200  200  6     bob
    d   100    50   50   8     bob
    e   100    15   1000 4     ada
    """
    trace = table(HISTORY.rstrip() + text, pool(10))
    assert starts(trace, backfill="easy")["e"] == 350
    assert starts(trace, backfill="easy", estimates="tsafrir")["e"] == 100


def test_one_job_is_no_history_and_unknown_users_have_none() -> None:
    """Of Ada's two jobs only a has ended by 20 s, and nobody knows whose f and g are."""
    text = """
    f   0      1    1000 1     -
    g   0      1    1000 1     -
    c   20     200  200  6     bob
    d   20     50   50   8     bob
    e   20     15   1000 3     ada
    h   20     15   1000 3     -
    """
    found = starts(table(HISTORY.rstrip() + text, pool(10)), backfill="easy", estimates="tsafrir")
    assert (found["e"], found["h"]) == (270, 270)


def test_no_prediction_exceeds_the_request() -> None:
    """e is expected to take its 15 s, not 20 s: it ends by the shadow time of 115 s."""
    text = """
    c   100    15   15   6     bob
    d   100    50   50   8     bob
    e   100    15   15   4     ada
    """
    assert starts(table(HISTORY.rstrip() + text, pool(10)), backfill="easy", estimates="tsafrir")["e"] == 100


def test_a_job_that_passes_its_prediction_gets_more_time() -> None:
    """r is expected to end at 120 s, then at 120 + 60, then at 180 + 300 s.

    At 110 s k would end at 160 s, after h's shadow time. At 130 s, when m arrives, that is 180 s, when k would end.
    At 200 s it is 480 s, and n ends before.
    """
    assert STEPS_S[:2] == (60, 300)
    text = """
    r   100    400  1000 6     ada
    h   100    50   50   8     bob
    k   110    50   50   4     bob
    m   130    50   50   8     bob
    n   200    250  250  4     bob
    """
    found = starts(table(HISTORY.rstrip() + text, pool(10)), backfill="easy", estimates="tsafrir")
    assert (found["r"], found["k"], found["n"], found["h"]) == (100, 130, 200, 500)


def test_a_prediction_is_made_at_submission_and_orders_the_queue() -> None:
    """At 50 s Ada's e is expected to take 20 s and bob's d its 60 s. By 200 s c has shown that hers may take 100 s."""
    text = """
    c   40     100  1000 10    ada
    d   50     60   60   10    bob
    e   50     90   1000 10    ada
    """
    trace = table(HISTORY.rstrip() + text, pool(10))
    assert starts(trace, policy="sjf-predicted") == {"a": 0, "b": 0, "c": 40, "d": 140, "e": 200}
    predicted = starts(trace, policy="sjf-predicted", estimates="tsafrir")
    assert (predicted["e"], predicted["d"]) == (140, 230)
    assert starts(trace, policy="sjf", estimates="tsafrir")["d"] == 140  # reads the request


def test_of_jobs_that_end_at_once_the_later_row_is_the_later() -> None:
    rows = [(0, 5.0), (1, 7.0), (2, 9.0)]
    jobs = {"job_id": list("abc"), "submit_s": [0.0] * 3, "duration_s": [1.0] * 3, "cpus": [1.0] * 3, "user": ["u"] * 3}
    trace = Trace("t", make_jobs(jobs), pool(4))
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]):
        known = estimates_of(prepare(trace, trace.cluster, estimates="tsafrir"), "fcfs")
        for row, run_s in (rows[i] for i in order):
            learn_run(known, row, run_s, 10.0)
        assert known.run_s[:, 1].tolist() == [7.0, 9.0]


@st.composite
def workloads(draw: st.DrawFn) -> Trace:
    """Small traces of three users with ties and loose requests, long enough to pass predictions more than once."""
    count = draw(st.integers(1, 25))
    cells = (st.integers(0, 6), st.integers(1, 12), st.integers(1, 20), st.integers(1, 3), st.integers(0, 3))
    numbers = draw(st.lists(st.tuples(*cells), min_size=count, max_size=count))
    columns = np.asarray(numbers, dtype=np.float64).T
    jobs = make_jobs(
        {
            "job_id": [str(i) for i in range(count)],
            "submit_s": np.cumsum(columns[0]) * 20,
            "duration_s": columns[1] * 50,
            "requested_s": columns[2] * 50,
            "tasks": columns[3].astype(np.int64),
            "cpus": np.full(count, 2.0),
            "user": [None if user == 3 else f"u{user:.0f}" for user in columns[4]],
        }
    )
    return Trace("drawn", jobs, ClusterSpec("c", (NodeGroup("n", draw(st.sampled_from([1, 3])), cpus=6.0),)))


POLICIES = ("fcfs", "sjf", "sjf-predicted", "srtf", "wfp3")


def small_model(expected: float = 0.9) -> RunModel:
    """A predictor that goes by the typical run time, by what runs, and by what was just submitted."""
    at = {name: place for place, (name, _) in enumerate(FEATURES)}
    forest = Forest(
        feature=np.asarray([at["who_elapsed"], 0, 0, at["alike_recent"], 0, 0, at["who_waiting"], 0, 0]),
        threshold=np.asarray([-1.0, 0, 0, 0.4, 0, 0, 0.6, 0, 0]),
        left=np.asarray([1, 1, 2, 4, 4, 5, 7, 7, 8]),
        right=np.asarray([2, 1, 2, 5, 4, 5, 8, 7, 8]),
        missing_left=np.asarray([1, 0, 0, 0, 0, 0, 0, 0, 0]),
        value=np.asarray([0, -1.0, -0.2, 0, -0.5, 0.3, 0, 0.1, 0.9]),
        roots=np.asarray([0, 3, 6]),
        first=np.asarray([0, 1, 3]),
    )
    return RunModel(forest, (0.1, 0.9), expected, window=5, rate=0.05)


ESTIMATES = ("tsafrir", small_model(), small_model(0.1))


@settings(max_examples=90)
@given(
    workloads(),
    st.sampled_from(POLICIES),
    st.sampled_from(["easy", "easy-sjbf", "easy-noextra", "none"]),
    st.sampled_from(ESTIMATES),
)
def test_both_engines_start_every_job_alike(trace: Trace, policy: str, backfill: str, known: str | RunModel) -> None:
    """Also the engine that keeps note of attempts, which has another way through an instant."""
    workload = prepare(trace, trace.cluster, estimates=known)
    options = Options(Settings(choose_ordering(policy), backfill))
    reference, compiled = Simulation(workload, options), Simulation(workload, options)
    noted = Simulation(workload, replace(options, placements=True))
    assert why_not(compiled) is None
    assert reference.run()
    assert noted.run()
    assert run_compiled(compiled)
    for other in (noted, compiled):
        np.testing.assert_array_equal(reference.state.jobs_f[at.START_S], other.state.jobs_f[at.START_S])
    np.testing.assert_array_equal(reference.workload.columns.expected_s, compiled.workload.columns.expected_s)


@settings(max_examples=60)
@given(workloads(), st.sampled_from(POLICIES), st.sampled_from(ESTIMATES), st.data())
def test_nothing_is_known_of_jobs_that_have_not_ended(
    trace: Trace, policy: str, known: str | RunModel, data: st.DataObject
) -> None:
    """Another run time of one job changes no start before that job could have ended under either."""
    row = data.draw(st.integers(0, len(trace.jobs) - 1))
    run_s = trace.jobs.floats("duration_s").copy()
    other = run_s.copy()
    other[row] = data.draw(st.integers(1, 12)) * 50
    found = []
    for durations in (run_s, other):
        frame = trace.jobs.frame.with_columns(duration_s=durations)
        changed = replace(trace, jobs=replace(trace.jobs, frame=frame))
        simulation = Simulation(
            prepare(changed, trace.cluster, estimates=known), Options(Settings(choose_ordering(policy), "easy"))
        )
        simulation.run()
        found.append(simulation.state.jobs_f[at.START_S].copy())
    first_end_s = found[0][row] + min(run_s[row], other[row])
    before = (found[0] < first_end_s) | (found[1] < first_end_s)
    np.testing.assert_array_equal(found[0][before], found[1][before])


@pytest.mark.parametrize("known", ["tsafrir", small_model()])
def test_stopped_and_taken_up(monkeypatch: pytest.MonkeyPatch, tmp_path, known: str | RunModel) -> None:
    from shunter.sim.checkpoint import load_checkpoint, save_checkpoint

    monkeypatch.setattr("shunter.sim.rollout.FIRST_BUDGET", 40)
    trace = generate("gpu", jobs=400, seed=2)
    workload = prepare(trace, trace.cluster, estimates=known, default_request_s=7200.0)
    options = Options(Settings(choose_ordering("sjf-predicted"), "easy"))
    whole, pieces = Simulation(workload, options), Simulation(workload, options)
    whole.run()
    complete, turns = False, 0
    while not complete:
        turns += 1
        complete = run_compiled(pieces, lambda: True) if turns % 2 else pieces.run(lambda: True, every=50)
        if turns == 3:
            save_checkpoint(tmp_path / "c", pieces, {}, 0.0)
            pieces = Simulation(workload, options)
            load_checkpoint(tmp_path / "c", pieces, {})
    assert turns > 3
    np.testing.assert_array_equal(whole.state.jobs_f[at.START_S], pieces.state.jobs_f[at.START_S])


def test_a_model_is_not_told_the_run_time_of_a_job_without_a_request() -> None:
    """Reservations count with the prediction even where the request is missing; the same job twice, long and short."""
    found = []
    for runs in (10, 5000):
        text = f"""
        job submit runs   asks tasks
        a   0      {runs} -    4
        b   1      50     50   4
        """
        trace = table(text, pool(4))
        simulation = Simulation(prepare(trace, trace.cluster, estimates=small_model()), Options())
        simulation.run()
        assert simulation.estimates is not None
        found.append(simulation.estimates.forecasts.raw[0].copy())
    np.testing.assert_array_equal(found[0], found[1])


def test_a_window_knows_what_ended_before_it() -> None:
    """The same predictions as in one replay of all jobs, where every job starts when it is submitted."""
    count = 40
    random = np.random.default_rng(1)
    jobs = make_jobs(
        {
            "job_id": [str(i) for i in range(count)],
            "submit_s": np.arange(count) * 100.0,
            "duration_s": random.integers(1, 90, count).astype(float),
            "requested_s": np.full(count, 1000.0),
            "cpus": np.ones(count),
            "user": [f"u{i % 3}" for i in range(count)],
        }
    )
    trace = Trace("drawn", jobs, pool(100))
    chosen = choose_ordering("fcfs")
    whole = Simulation(prepare(trace, trace.cluster, estimates=small_model()), Options(Settings(chosen, "easy")))
    whole.run()
    part = prepare(trace.window(25, 15), trace.cluster, estimates=small_model())
    window = Simulation(with_past(part, trace, 25, ordering=chosen.ordering), Options(Settings(chosen, "easy")))
    window.run()
    assert whole.estimates is not None
    assert window.estimates is not None
    np.testing.assert_array_equal(whole.estimates.forecasts.raw[25:], window.estimates.forecasts.raw)


@pytest.mark.parametrize("rules", [(), ("policy",)])
def test_histories_lose_nobody(rules: tuple[str, ...]) -> None:
    """When all jobs have ended nobody counts as running or waiting, though some were stopped on the way."""
    trace = generate("gpu", jobs=300, seed=4)
    workload = prepare(trace, trace.cluster, estimates=small_model(), default_request_s=7200.0)
    options = Options(Settings(choose_ordering("srtf"), "easy"), preemption=Preemption(rules))
    simulation = Simulation(workload, options)
    simulation.run()
    assert simulation.estimates is not None
    histories = simulation.estimates.forecasts.histories
    assert bool(simulation.num_preemptions) == bool(rules)
    assert not histories.of[:, [RUNNING, WAITING, STARTS_S]].any()
    assert np.isnan(histories.started_s).all()
    assert histories.of[:, COUNT].max() == (~workload.rejected).sum()


def test_a_default_request_hides_the_run_time() -> None:
    """b's and c's requests are missing: SJF would know that c is shorter. With 100 s for both, b goes first."""
    text = """
    job submit runs asks tasks
    a   0      10   10   4
    b   1      90   -    4
    c   2      20   -    4
    """
    trace = table(text, pool(4))
    assert starts(trace, policy="sjf")["c"] == 10
    assert starts(trace, policy="sjf", default_request_s=100.0)["b"] == 10
    workload = prepare(trace, replace(trace.cluster, kill_at_limit=True), default_request_s=50.0)
    assert workload.columns.requested_s.tolist() == [10, 50, 50]
    assert not workload.killed.any()  # nobody set b a limit of 50 s
    with pytest.raises(UsageError, match="default request -1"):
        prepare(trace, trace.cluster, default_request_s=-1.0)


def test_what_does_not_go_together_is_refused() -> None:
    assert which_estimates("request", True) == which_estimates("actual", False) == "actual"
    with pytest.raises(UsageError, match="did you mean 'tsafrir'"):
        which_estimates("tsafir", False)
    with pytest.raises(UsageError, match="does not go with --estimates tsafrir"):
        which_estimates("tsafrir", True)
    with pytest.raises(UsageError, match="conservative"):
        starts(table(HISTORY, pool(4)), backfill="conservative", estimates="tsafrir")
    with pytest.raises(UsageError, match="slack is known only once a job is submitted"):
        starts(table(HISTORY, pool(4)), policy="slack", estimates="tsafrir", engine="compiled")
