"""Backfilling keeps its promises, as long as no job runs longer than it asked for."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.policies.registry import choose_ordering
from shunter.sim.engine import Options
from shunter.sim.workload import prepare
from tests.examples import examples
from tests.properties.recorder import Recorder, earliest_by_requests, record
from tests.properties.strategies import PLACES, POLICIES, lanes, pools, traces

EASY_MODES = ["easy", "easy-noextra", "easy-sjbf"]
MANY = settings(max_examples=examples(60), deadline=None)


@MANY
@given(st.data())
def test_easy_never_delays_the_reservation_of_the_head(data: st.DataObject) -> None:
    """The shadow time of a blocked head, at any pass, is an upper bound of its start."""
    cluster, trace = data.draw(lanes(overruns=False))
    chosen = Settings(
        choose_ordering("fcfs"),
        data.draw(st.sampled_from(EASY_MODES)),
        data.draw(st.sampled_from(PLACES)),
        depth=data.draw(st.sampled_from([0, 0, 2])),
    )
    run = record(prepare(trace, cluster), Options(chosen))
    start_s = run.state.jobs_f[at.START_S]
    for snapshot in run.snapshots:
        if snapshot.num_waiting:
            head = snapshot.num_running
            assert start_s[snapshot.rows[head]] <= earliest_by_requests(snapshot, head)


@MANY
@given(st.data())
def test_easy_starts_the_head_no_later_than_without_backfilling_from_there_on(data: st.DataObject) -> None:
    """The first job that has to wait starts exactly when it would if nobody were allowed to overtake it."""
    cluster, trace = data.draw(lanes(overruns=False))
    workload = prepare(trace, cluster, clairvoyant=True)
    plain = record(workload, Options(Settings(choose_ordering("fcfs"))))
    easy = record(workload, Options(Settings(choose_ordering("fcfs"), "easy")))
    blocked = [int(s.rows[s.num_running]) for s in plain.snapshots if s.num_waiting]
    if blocked:
        first = blocked[0]
        assert easy.state.jobs_f[at.START_S, first] == plain.state.jobs_f[at.START_S, first]


@st.composite
def conservative(draw: st.DrawFn) -> Recorder:
    cluster = draw(pools())
    trace = draw(traces(cluster, overruns=False))
    chosen = Settings(choose_ordering(draw(st.sampled_from(POLICIES))), "conservative")
    return record(prepare(trace, cluster, clairvoyant=draw(st.booleans())), Options(chosen))


def promises(run: Recorder) -> dict[int, list[float]]:
    """What each job was promised at every pass at whose end it still waited."""
    found: dict[int, list[float]] = {}
    for snapshot in run.snapshots:
        waiting = snapshot.rows[snapshot.num_running :].tolist()
        for row, reserved_s in zip(waiting, snapshot.reserved_s.tolist(), strict=True):
            found.setdefault(row, []).append(reserved_s)
    return found


@MANY
@given(conservative())
def test_conservative_promises_never_move_back_and_are_kept(run: Recorder) -> None:
    start_s = run.state.jobs_f[at.START_S]
    for row, promised in promises(run).items():
        assert all(math.isfinite(reserved_s) for reserved_s in promised)
        assert (np.diff(promised) <= 0).all()
        assert start_s[row] <= promised[-1]


@MANY
@given(conservative())
def test_nobody_but_new_jobs_waits_without_a_promise_that_lies_ahead(run: Recorder) -> None:
    for snapshot in run.snapshots:
        assert (snapshot.reserved_s > snapshot.now_s).all()


@MANY
@given(conservative())
def test_conservative_promises_fit_together(run: Recorder) -> None:
    """Running jobs until they said they end, and waiting ones at their promises, never need more than there is."""
    total = run.workload.capacity.units[run.workload.capacity.scarce].sum()
    for snapshot in run.snapshots:
        begins = [snapshot.now_s] * snapshot.num_running + snapshot.reserved_s.tolist()
        lengths = snapshot.columns.expected_s[snapshot.num_running :]
        ends = [*snapshot.expected_end_s.tolist(), *(snapshot.reserved_s + lengths).tolist()]
        shapes = snapshot.demand.shapes[snapshot.demand.shape_idx, run.workload.capacity.scarce]
        needs = snapshot.demand.tasks * shapes
        for moment in set(begins):
            assert sum(n for a, b, n in zip(begins, ends, needs, strict=True) if a <= moment < b) <= total


@MANY
@given(st.data())
def test_conservative_with_perfect_requests_starts_every_job_at_its_first_promise_under_fcfs(
    data: st.DataObject,
) -> None:
    """Nothing ends early, so nothing is compressed: what was promised at submission is what happens."""
    cluster = data.draw(pools())
    trace = data.draw(traces(cluster, overruns=False))
    run = record(prepare(trace, cluster, clairvoyant=True), Options(Settings(choose_ordering("fcfs"), "conservative")))
    for row, promised in promises(run).items():
        assert set(promised) == {run.state.jobs_f[at.START_S, row]}
