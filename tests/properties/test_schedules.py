"""What holds of every schedule, whatever the ordering, the backfilling and the placement."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.policies import ORDERINGS
from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
from shunter.sim.engine import Options, Simulation
from shunter.sim.workload import Workload, prepare
from shunter.traces.tables import ClusterSpec, Trace, make_jobs, pool
from tests.examples import examples
from tests.properties.recorder import Recorder, fits, record
from tests.properties.strategies import MODES, PLACES, POLICIES, lanes, pools, traces

MANY = settings(max_examples=examples(50), deadline=None)
SOME = settings(max_examples=examples(30), deadline=None)

STATIC = sorted(name for name, ordering in ORDERINGS.items() if ordering.static)

choices = st.builds(
    Settings,
    ordering=st.sampled_from(POLICIES).map(choose_ordering),
    backfill=st.sampled_from(MODES),
    placement=st.sampled_from(PLACES),
    depth=st.sampled_from([0, 0, 0, 1, 3]),
)
options = st.builds(Options, settings=choices, ties=st.sampled_from(["instant", "per-event"]))
paced = st.builds(Options, settings=choices, interval_s=st.sampled_from([0.0, 1.0, 7.0, 50.0]))


@st.composite
def recorded(draw: st.DrawFn, how: st.SearchStrategy[Options]) -> Recorder:
    cluster, trace = draw(lanes())
    kill = draw(st.booleans())
    return record(prepare(trace, replace(cluster, kill_at_limit=kill), clairvoyant=draw(st.booleans())), draw(how))


def starts(workload: Workload, how: Options) -> list[float]:
    simulation = Simulation(workload, how)
    assert simulation.run()
    return simulation.state.jobs_f[at.START_S].tolist()


@MANY
@given(recorded(st.one_of(options, paced)))
def test_no_node_ever_gives_more_than_it_has(run: Recorder) -> None:
    units = run.workload.capacity.units
    demand = run.workload.demand
    for moment in {held.start_s for held in run.held}:
        used = np.zeros_like(units)
        for held in run.held:
            if held.start_s <= moment < held.end_s:
                for node, tasks in held.placement:
                    used[:, node] += tasks * demand.shapes[demand.shape_idx[held.row]]
        for resource, tracked in enumerate(run.workload.capacity.tracked):
            assert not tracked or (used[resource] <= units[resource]).all()


@MANY
@given(recorded(st.one_of(options, paced)))
def test_a_gang_starts_whole_and_never_before_its_submission(run: Recorder) -> None:
    for held in run.held:
        assert sum(tasks for _, tasks in held.placement) == run.workload.trace.jobs.ints("tasks")[held.row]
        assert all(tasks > 0 for _, tasks in held.placement)
        assert held.start_s >= run.workload.columns.submit_s[held.row]


@MANY
@given(recorded(st.one_of(options, paced)))
def test_every_job_runs_once_or_is_rejected(run: Recorder) -> None:
    rows = sorted(held.row for held in run.held)
    assert rows == np.flatnonzero(~run.workload.rejected).tolist()
    assert run.num_done == len(rows)
    last = run.snapshots[-1]
    assert len(last.rows) == 0
    np.testing.assert_array_equal(last.free_units(), last.capacity.units)


@MANY
@given(recorded(options))
def test_the_head_of_the_queue_never_fits_after_a_pass(run: Recorder) -> None:
    """Under conservative backfilling it may fit and yet wait for the reservation of another job."""
    assume(run.options.settings.backfill != "conservative")
    for snapshot in run.snapshots:
        if snapshot.num_waiting:
            assert not fits(snapshot, snapshot.num_running, snapshot.free_units())


@MANY
@given(recorded(paced))
def test_no_two_passes_are_closer_than_the_interval(run: Recorder) -> None:
    times = [snapshot.now_s for snapshot in run.snapshots]
    gaps = np.diff(times)
    assert (gaps >= run.options.interval_s).all()


@MANY
@given(st.data())
def test_killed_jobs_hold_their_nodes_for_the_request_and_no_longer(data: st.DataObject) -> None:
    """Killing at the limit is the schedule of jobs that would have ended there by themselves."""
    cluster, trace = data.draw(lanes())
    how = data.draw(options)
    limited = replace(cluster, kill_at_limit=True)
    frame = trace.jobs.frame
    ends_there = frame.with_columns(duration_s=np.minimum(frame["duration_s"], frame["requested_s"]))
    clipped = replace(trace, jobs=make_jobs(ends_there.to_dict(as_series=True)))
    workload = prepare(trace, limited)
    assert (workload.run_s <= workload.columns.requested_s).all()
    assert workload.killed.tolist() == (frame["duration_s"] > frame["requested_s"]).to_list()
    np.testing.assert_array_equal(starts(workload, how), starts(prepare(clipped, cluster), how))


@MANY
@given(st.data())
def test_a_queue_kept_sorted_equals_one_sorted_at_every_pass(data: st.DataObject) -> None:
    cluster, trace = data.draw(lanes())
    how = data.draw(options)
    static = choose_ordering(data.draw(st.sampled_from(STATIC)))
    resorted = ChosenOrdering(replace(static.ordering, static=False), static.parameters)
    workload = prepare(trace, cluster)
    kept = replace(how, settings=replace(how.settings, ordering=static))
    again = replace(how, settings=replace(how.settings, ordering=resorted))
    np.testing.assert_array_equal(starts(workload, kept), starts(workload, again))


@MANY
@given(st.data())
def test_a_pass_per_event_equals_one_per_instant_when_no_two_events_coincide(data: st.DataObject) -> None:
    cluster, trace = data.draw(lanes())
    frame = trace.jobs.frame
    rows = np.arange(len(frame))
    # Each job's own fraction of a second, in submission and in length, keeps apart what whole seconds bring together.
    apart = {
        "submit_s": frame["submit_s"].to_numpy() + rows / 64,
        "duration_s": frame["duration_s"].to_numpy() + (rows + 1) / 2**11,
        "requested_s": frame["requested_s"].to_numpy() + (rows + 1) / 2**18,
    }
    jobs = make_jobs({name: apart.get(name, frame[name]) for name in frame.columns})
    workload = prepare(replace(trace, jobs=jobs), cluster)
    chosen = data.draw(choices)
    run = record(workload, Options(chosen))
    moments = [*workload.columns.submit_s.tolist(), *(held.end_s for held in run.held)]
    assume(len(set(moments)) == len(moments))
    np.testing.assert_array_equal(run.state.jobs_f[at.START_S], starts(workload, Options(chosen, ties="per-event")))


@SOME
@given(st.data())
def test_a_depth_beyond_the_queue_changes_nothing(data: st.DataObject) -> None:
    cluster, trace = data.draw(lanes())
    chosen = data.draw(choices)
    workload = prepare(trace, cluster)
    unlimited = starts(workload, Options(replace(chosen, depth=0)))
    np.testing.assert_array_equal(starts(workload, Options(replace(chosen, depth=len(trace.jobs)))), unlimited)


@SOME
@given(st.data())
def test_one_processor_serves_one_job_at_a_time_without_a_gap(data: st.DataObject) -> None:
    cluster = pool(1)
    trace = data.draw(traces(cluster))
    frame = trace.jobs.frame.with_columns(tasks=np.ones(len(trace.jobs), dtype=np.int64))
    trace = replace(trace, jobs=make_jobs(frame.to_dict(as_series=True)))
    run = record(prepare(trace, cluster), Options(data.draw(choices)))
    ordered = sorted((held.start_s, held.end_s) for held in run.held)
    for (_, end_s), (next_s, _) in pairwise(ordered):
        assert next_s >= end_s
    submitted = [(float(run.workload.columns.submit_s[held.row]), held) for held in run.held]
    for submit_s, held in submitted:
        busy_s = sum(
            min(other.end_s, held.start_s) - max(other.start_s, submit_s)
            for _, other in submitted
            if other.end_s > submit_s and other.start_s < held.start_s
        )
        assert busy_s == held.start_s - submit_s


@SOME
@given(pools(), st.data())
def test_an_unlimited_cluster_starts_every_job_at_once(cluster: ClusterSpec, data: st.DataObject) -> None:
    trace: Trace = data.draw(traces(cluster))
    workload = prepare(trace, pool(1_000_000))
    assert starts(workload, data.draw(options)) == workload.columns.submit_s.tolist()
