"""The estimator as the daemon is handed it: plain values in, an answer with a reason to every question."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shunter.cli.start_times import CalibratedStarts, tell_starts
from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
from shunter.scheduler.snapshot import Snapshot
from shunter.scheduler.start_times import Past, Recent, TellStarts, Told
from shunter.sim.engine import Options, Simulation
from shunter.sim.workload import prepare
from shunter.traces.tables import Trace, make_jobs, pool
from tests.networks import by_network, linear

TELL: TellStarts = tell_starts
NOW_S = 1000.0


def asked(ordering: ChosenOrdering, backfill: str = "easy") -> tuple[Simulation, Snapshot, Past]:
    """40 jobs of two users on 4 processors, one submitted every 50 s; each asks for more than it takes."""
    count = 40
    columns = {
        "job_id": [str(i) for i in range(count)],
        "submit_s": 50.0 * np.arange(count),
        "duration_s": 100.0 + 10.0 * (np.arange(count) % 7),
        "requested_s": np.full(count, 260.0),
        "tasks": 1 + np.arange(count) % 3,
        "cpus": np.ones(count),
        "user": ["ada" if i % 2 else "bob" for i in range(count)],
    }
    trace = Trace("forty", make_jobs(columns), pool(4))
    workload = prepare(trace, trace.cluster, can_close=True)
    simulation = Simulation(workload, Options(Settings(ordering, backfill)))
    simulation.run(lambda: simulation.clock._now >= NOW_S, every=1)
    snapshot = simulation.snapshot(simulation.clock._now)
    known = workload.columns
    end_s = simulation.state.jobs_f[at.START_S] + workload.run_s
    ended = np.flatnonzero(end_s <= snapshot.now_s)
    rows = np.flatnonzero(known.submit_s <= snapshot.now_s)
    histories = None if simulation.learned is None else simulation.learned.source.known_of(rows)
    recent = Recent(known.take(rows), workload.demand.tasks[rows], workload.demand.shape_idx[rows], histories)
    past = Past(
        known.user_idx[ended],
        known.requested_s[ended],
        known.processors[ended],
        workload.run_s[ended],
        recent,
        simulation.ledger,
    )
    return simulation, snapshot, past


@pytest.mark.parametrize("name", ["fcfs", "wfp3", "multifactor", "learned"])
def test_everybody_who_waits_is_told_a_time_and_an_interval(name: str) -> None:
    ordering = by_network(linear(log_request=1.0)) if name == "learned" else choose_ordering(name)
    simulation, snapshot, past = asked(ordering)
    assert snapshot.num_waiting >= 5
    found = TELL(snapshot, past, simulation.options.settings, 3)
    assert found.told == (Told.ESTIMATED,) * snapshot.num_waiting
    assert (snapshot.now_s <= found.low_s).all()
    assert (found.low_s <= found.median_s).all()
    assert (found.median_s <= found.high_s).all()
    assert (found.low_s < found.high_s).any()
    again = TELL(snapshot, past, simulation.options.settings, 3)
    np.testing.assert_array_equal(found.median_s, again.median_s)
    other = TELL(snapshot, past, simulation.options.settings, 4)
    assert (found.median_s != other.median_s).any()


def test_before_a_job_has_ended_requests_are_all_that_is_known() -> None:
    simulation, snapshot, past = asked(choose_ordering("fcfs"))
    found = TELL(snapshot, Past(recent=past.recent), simulation.options.settings, 0)
    assert set(found.told) == {Told.BY_REQUEST}
    known = TELL(snapshot, past, simulation.options.settings, 0)
    assert (known.median_s < found.median_s).any()  # jobs run for less than they ask for


def test_an_order_that_no_roll_can_make_is_kept_and_said_to_be() -> None:
    simulation, snapshot, past = asked(by_network(lambda features: features[:, 0]))
    found = TELL(snapshot, past, simulation.options.settings, 0)
    assert set(found.told) == {Told.ORDER_KEPT}
    assert np.isfinite(found.median_s).all()


def test_what_never_starts_has_no_time() -> None:
    simulation, snapshot, past = asked(choose_ordering("fcfs"))
    closed = replace(snapshot, closed=np.ones(1, bool))
    found = TELL(closed, past, simulation.options.settings, 0)
    assert set(found.told) == {Told.NEVER}
    assert np.isnan(found.median_s).all()


def test_rules_that_a_roll_does_not_know_are_an_answer() -> None:
    _, snapshot, past = asked(choose_ordering("fcfs"))
    found = TELL(snapshot, past, Settings(backfill="conservative"), 0)
    assert set(found.told) == {Told.UNSUPPORTED}
    assert "conservative" in found.why
    assert np.isnan(found.median_s).all()
    fairshare = TELL(snapshot, past, Settings(choose_ordering("fairshare")), 0)
    assert "what users have had" in fairshare.why
    learned = TELL(snapshot, past, Settings(by_network(linear(log_request=1.0))), 0)
    assert "what is known of users" in learned.why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"snapshot": {"now_s": np.nan}}, "the present is no time"),
        ({"snapshot": {"num_running": 99}}, "more running jobs than jobs"),
        ({"past": {"run_s": np.asarray([-1.0])}}, "differs in length"),
        ({"past": {"run_s": "negative"}}, "run time of an ended job"),
        ({"past": {"requested_s": "negative"}}, "request of an ended job"),
        ({"columns": {"requested_s": "negative"}}, "request of the snapshot"),
        ({"recent": {"shape_idx": "negative"}}, "shape that the snapshot does not have"),
        ({"recent": {"tasks": np.ones(2, np.int64)}}, "recent jobs differs in length"),
    ],
)
def test_a_question_that_makes_no_sense_is_answered(change: dict[str, dict[str, Any]], why: str) -> None:
    simulation, snapshot, past = asked(choose_ordering("fcfs"))
    assert past.recent is not None

    def changed(whole: Any, values: dict[str, Any]) -> Any:
        return replace(
            whole, **{k: -1 - abs(getattr(whole, k)) if isinstance(v, str) else v for k, v in values.items()}
        )

    snapshot = changed(snapshot, change.get("snapshot", {}))
    snapshot = replace(snapshot, columns=changed(snapshot.columns, change.get("columns", {})))
    past = changed(past, change.get("past", {}))
    past = replace(past, recent=changed(past.recent, change.get("recent", {})))
    found = TELL(snapshot, past, simulation.options.settings, 0)
    assert set(found.told) <= {Told.BAD_INPUT}
    assert why in found.why
    assert np.isnan(found.median_s).all()


def test_intervals_learn_from_what_became_of_earlier_ones() -> None:
    """Jobs start long after they were told to: the next intervals reach further, medians stay."""
    simulation, snapshot, past = asked(choose_ordering("fcfs"))
    calibrated = CalibratedStarts()
    plain = tell_starts(snapshot, past, simulation.options.settings, 3)
    first = calibrated(snapshot, past, simulation.options.settings, 3)
    np.testing.assert_array_equal(first.median_s, plain.median_s)
    waiting = snapshot.rows[snapshot.num_running :].tolist()
    for _ in range(5):  # the same jobs again and again, as if they had just been asked for
        calibrated(snapshot, past, simulation.options.settings, 3)
    for row in waiting:
        calibrated.started(row, snapshot.now_s + 1e5)
    found = calibrated(snapshot, past, simulation.options.settings, 3)
    np.testing.assert_array_equal(found.median_s, plain.median_s)
    assert (found.high_s > first.high_s).all()
    assert (found.low_s <= found.median_s).all()
    earlier = replace(snapshot, now_s=snapshot.now_s - 1.0)
    assert set(calibrated(earlier, past, simulation.options.settings, 3).told) == {Told.BAD_INPUT}
