"""The RLScheduler protocol: loading rules, semantics by hand, the compiled loop against its plain twin, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler import scores
from shunter.scheduler.errors import TraceError, UsageError
from shunter.sim.compat import rls_plain, rlscheduler
from shunter.sim.compat.rls_env import RlsEnv
from shunter.sim.compat.rlscheduler import RlsJobs, RlsTrace


def make_trace(rows, nodes=4, procs=None):
    """A trace from (submit, run, requested, processors) rows; job numbers count from 1."""
    submit, run, requested, size = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    procs = procs or nodes
    unknown = np.full(len(rows), -1)
    number = np.arange(1, len(rows) + 1)
    taken = np.ceil(size / (procs / nodes)).astype(np.int64)
    jobs = RlsJobs(number, submit, run, requested, size, taken, unknown, unknown, unknown, unknown)
    maxima = {"run": int(run.max()), "memory": 0, "user": 0, "group": 0, "executable": 0}
    return RlsTrace("hand-made", jobs, nodes, procs, maxima, len(rows))


def starts(trace, policy="fcfs", *, backfill=False):
    run = rlscheduler.run(trace, 0, len(trace), policy, backfill)
    return run.start_s.tolist(), (run.order + 1).tolist()


# Semantics by hand. Machine of 4 nodes.


def test_a_choice_binds_while_it_waits():
    # Job 1 holds all nodes until 100. At t=0 the queue then runs dry, so the clock moves to 10, where job 2 joins and
    # is chosen. Job 3, shorter, joins at 20 while job 2 waits, and does not take its place.
    trace = make_trace([(0, 100, 100, 4), (10, 50, 50, 4), (20, 5, 5, 4)])
    assert starts(trace, "sjf") == ([0, 100, 150], [1, 2, 3])


def test_arrivals_go_before_completions_one_at_a_time():
    # Job 2 waits from 0 for job 1's end at 100. Jobs 3 and 4 arrive at 100 too: both join before the completion, and
    # are compared once job 2 has started.
    trace = make_trace([(0, 100, 100, 4), (0, 10, 10, 4), (100, 9, 9, 4), (100, 3, 3, 4)])
    assert starts(trace, "sjf") == ([0, 100, 113, 110], [1, 2, 4, 3])


def test_jobs_that_have_arrived_may_be_unseen():
    # At 100 job 2 starts; job 3 arrived at 100 and joined. Job 4 arrived at 105, when nobody waited: at 100 the queue
    # still holds job 3, which fits, and starts first although job 4 would be better later.
    trace = make_trace([(0, 100, 100, 4), (0, 50, 50, 2), (100, 40, 40, 2), (105, 1, 1, 2)])
    assert starts(trace, "sjf") == ([0, 100, 100, 140], [1, 2, 3, 4])


def test_backfilled_jobs_end_strictly_before_the_reservation():
    # Job 2 waits for 4 nodes until job 1's request ends at 100. Job 3 would end at 10+90 = 100: not before. Job 4 would
    # end at 99: starts at 10, when it joins.
    trace = make_trace([(0, 100, 100, 3), (0, 10, 10, 4), (10, 90, 90, 1), (10, 89, 89, 1)])
    assert starts(trace, backfill=True) == ([0, 100, 110, 10], [1, 4, 2, 3])


def test_reservation_uses_requests_and_waiting_uses_ends():
    # Job 1 requests 1000 s and ends after 100. Job 2's reservation is at 1000, so job 3 (500 s) is backfilled at 0, and
    # job 2 starts only when that ends: the published rule protects nobody from a loose request.
    trace = make_trace([(0, 100, 1000, 3), (0, 10, 10, 4), (0, 500, 500, 1)])
    assert starts(trace, backfill=True) == ([0, 500, 0], [1, 3, 2])


def test_window_ends_with_its_last_start():
    # Two jobs of 2 of 4 processors each: work 2·10 + 2·100 = 220; the last start is at 50, so the denominator is 50·4.
    run = rlscheduler.run(make_trace([(0, 10, 10, 2), (50, 100, 100, 2)]), 0, 2, "fcfs", backfill=False)
    assert run.metrics["util_rls"] == pytest.approx(1.1)
    assert run.metrics["last_start_rel"] == 50
    assert run.metrics["makespan"] == 150
    lone = rlscheduler.run(make_trace([(7, 10, 10, 2)]), 0, 1, "fcfs", backfill=False)
    assert "util_rls" not in lone.metrics  # all started at the first submission: nothing to divide by


def test_nodes_are_whole():
    # 3 nodes of 5/3 processors: 2 processors take ceil(2 / 1.667) = 2 nodes, so two such jobs do not run together.
    trace = make_trace([(0, 10, 10, 2), (0, 10, 10, 2)], nodes=3, procs=5)
    assert trace.jobs.nodes.tolist() == [2, 2]
    assert starts(trace)[0] == [0, 10]


# The compiled loop against its plain twin.

jobs_strategy = st.lists(
    st.tuples(
        st.integers(0, 12),  # submit: many ties, and not in the order of the numbers
        st.integers(1, 9),
        st.integers(0, 9),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=40,
)


def plain_run(trace, policy, backfill):
    jobs = trace.jobs
    requested, procs, submit = (values.tolist() for values in (jobs.requested_s, jobs.procs, jobs.submit_s))
    if policy in rlscheduler.STATIC_SCORES:
        keys = list(zip(*(key.tolist() for key in rlscheduler.STATIC_SCORES[policy](jobs)), strict=True))
    score = wfp3 if policy == "wfp3" else unicep

    def key(row, now):
        if policy in rlscheduler.STATIC_SCORES:
            return keys[row]
        return score(now - submit[row], requested[row], procs[row])

    return rls_plain.replay(rlscheduler.empty_machine(trace, jobs), key, backfill=backfill)


def wfp3(wait, requested, procs):
    """As the compiled loop computes it, to the last bit: ties must end alike."""
    if requested == 0:
        return -math.inf if wait > 0 and procs > 0 else 0.0
    return -((wait / requested) ** 3.0) * procs


def unicep(wait, requested, procs):
    divisor = math.log2(procs + 1e-15) * requested
    return -(wait + 1e-15) / divisor if divisor else -math.inf


@pytest.mark.parametrize("backfill", [False, True])
@pytest.mark.parametrize("policy", rlscheduler.POLICIES)
@settings(max_examples=60, deadline=None)
@given(rows=jobs_strategy, nodes=st.integers(5, 7))
def test_compiled_loop_equals_plain_twin(policy, backfill, rows, nodes):
    trace = make_trace(rows, nodes=nodes)
    run = rlscheduler.run(trace, 0, len(trace), policy, backfill)
    start_s, order = plain_run(trace, policy, backfill)
    assert run.order.tolist() == order.tolist()
    assert run.start_s.tolist() == start_s.tolist()


@settings(max_examples=60, deadline=None)
@given(rows=jobs_strategy, backfill=st.booleans())
def test_capacity_is_never_exceeded_and_nobody_starts_early(rows, backfill):
    trace = make_trace(rows, nodes=5)
    run = rlscheduler.run(trace, 0, len(trace), "f1", backfill)
    jobs = trace.jobs
    assert (run.start_s >= jobs.submit_s).all()
    assert sorted(run.order.tolist()) == list(range(len(rows)))
    for now in range(int(run.start_s.max()) + 1):
        running = (run.start_s <= now) & (now < run.start_s + jobs.run_s)
        assert jobs.nodes[running].sum() <= 5


def test_large_queues_take_the_merging_sorts():
    generator = np.random.default_rng(3)
    columns = (generator.integers(0, 50, 400), *(generator.integers(1, 60, 400) for _ in range(2)))
    sizes = generator.integers(1, 5, 400)
    trace = make_trace([*zip(*(c.tolist() for c in columns), sizes.tolist(), strict=True)], nodes=40)
    for policy in rlscheduler.POLICIES:
        run = rlscheduler.run(trace, 0, 400, policy, backfill=True)
        start_s, order = plain_run(trace, policy, backfill=True)
        assert (run.order.tolist(), run.start_s.tolist()) == (order.tolist(), start_s.tolist())


def test_scores_of_the_compiled_loop_are_those_of_the_core():
    from shunter.sim.compat import rls_kernel

    for wait, requested, procs in [(0, 5, 3), (7, 5, 3), (7, 0, 3), (0, 0, 3), (7, 5, 1), (7, 5, 0), (7, -2, 4)]:
        arguments = np.array([requested], float), np.array([procs], float), np.zeros(1)
        for kind, score in ((rls_kernel.WFP3, scores.wfp3), (rls_kernel.UNICEP, scores.unicep)):
            ours = rls_kernel.wait_score(kind, float(wait), float(requested), float(procs))
            assert ours == pytest.approx(score(*arguments, float(wait))[0], rel=1e-12)


def test_a_score_that_is_no_number_is_left_to_list_sort():
    # A negative request (run time unknown as well) has no square root: F2 of job 2 is NaN, as in the original.
    trace = make_trace([(1, 100, 100, 4), (2, 10, -1, 4), (3, 10, 10, 4)])
    assert np.isnan(rlscheduler.STATIC_SCORES["f2"](trace.jobs)[0][1])
    assert starts(trace, "f2")[0] == [1, 101, 111]


# Loading.

HEADER = "; MaxNodes: 4 (of 6; two are down)\n; MaxProcs: 8\n"


def swf_line(*fields):
    """A line from its job number, submit, run, allocated processors, requested processors and requested time."""
    number, submit, run, allocated, requested_procs, requested = fields
    return f"{number} {submit} -1 {run} {allocated} -1 -1 {requested_procs} {requested} -1 1 3 -1 7 1 1 -1 -1\n"


def write_log(tmp_path, *lines, header=HEADER):
    path = tmp_path / "log.swf"
    path.write_text(header + "".join(lines))
    return path


def test_loading_rules(tmp_path):
    path = write_log(
        tmp_path,
        swf_line(3, 30, 50, 3, -1, -1),  # request unknown: the run time
        swf_line(1, 0, 9, 1, 2, 60),  # the larger of allocated and requested
        swf_line(2, 20, 0, 1, 1, 60),  # dropped
        swf_line(4, 40, -1, 1, 1, -1),  # run unknown: 10 s, but the request becomes −1 first
    )
    trace = rlscheduler.load(path)
    jobs = trace.jobs
    assert jobs.number.tolist() == [1, 3, 4]
    assert jobs.run_s.tolist() == [9, 50, 10]
    assert jobs.requested_s.tolist() == [60, 50, -1]
    assert jobs.procs.tolist() == [2, 3, 1]
    assert jobs.nodes.tolist() == [1, 2, 1]
    assert (trace.num_nodes, trace.max_procs, trace.lines, trace.name) == (4, 8, 4, "log")
    assert trace.maxima == {"run": 50, "memory": 0, "user": 3, "group": 0, "executable": 7}


@pytest.mark.parametrize(
    ("header", "size"), [("; MaxNodes: 4\n", (4, 4)), ("; MaxProcs: 8\n", (8, 8)), (HEADER, (4, 8))]
)
def test_machine_size(tmp_path, header, size):
    trace = rlscheduler.load(write_log(tmp_path, swf_line(1, 0, 9, 1, 1, 60), header=header))
    assert (trace.num_nodes, trace.max_procs) == size


def test_log_without_size_is_refused(tmp_path):
    with pytest.raises(TraceError, match="neither MaxNodes nor MaxProcs"):
        rlscheduler.load(write_log(tmp_path, swf_line(1, 0, 9, 1, 1, 60), header="; Version: 2.2\n"))


def test_fraction_is_refused_with_its_place(tmp_path):
    with pytest.raises(TraceError, match=r"log\.swf:4:2: submit_s: .* got 1\.5"):
        rlscheduler.load(write_log(tmp_path, swf_line(1, 0, 9, 1, 1, 60), swf_line(2, 1.5, 9, 1, 1, 60)))


def test_job_larger_than_the_machine_is_refused(tmp_path):
    trace = rlscheduler.load(write_log(tmp_path, swf_line(1, 0, 9, 1, 1, 60), swf_line(2, 5, 9, 9, 9, 60)))
    with pytest.raises(TraceError, match=r"job 2 \(row 1\) needs 9 processors; expected at most the machine's 8"):
        rlscheduler.run(trace, 0, 2, "fcfs", backfill=False)
    assert rlscheduler.run(trace, 0, 1, "fcfs", backfill=False).start_s.tolist() == [0]


def test_job_without_processors_is_refused():
    # On one-processor nodes −1 processors are −1 nodes, which the original cannot release.
    with pytest.raises(TraceError, match="needs -1 processors"):
        starts(make_trace([(0, 10, 10, -1)]))


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 0), (0, 3), (2, 1)])
def test_window_outside_the_log_is_refused(start, length):
    with pytest.raises(TraceError, match="does not lie inside 'hand-made', which has 2 jobs"):
        rlscheduler.run(make_trace([(0, 1, 1, 1), (0, 1, 1, 1)]), start, length, "fcfs", backfill=False)


def test_unknown_policy_names_the_nearest():
    with pytest.raises(UsageError, match="no policy 'wfp'; did you mean 'wfp3'"):
        rlscheduler.run(make_trace([(0, 1, 1, 1)]), 0, 1, "wfp", backfill=False)


def test_published_starts():
    published = [1981, 2756, 4299, 8850, 3316, 2714, 5228, 7762, 4022, 7085]
    assert rlscheduler.published_starts(1, 10_000, 1024, 10) == published
    with pytest.raises(UsageError, match="need more than 2049 jobs"):
        rlscheduler.published_starts(1, 2000, 1024, 10)


# The learning environment.


def test_environment_pads_and_refuses_empty_rows():
    env = RlsEnv(make_trace([(0, 50, 100, 4), (43200, 10, 20, 2)]), backfill=False)
    first = env.reset(0, 2)
    assert first.shape == (128, 8)
    assert first[0].tolist() == [0.0, 0.99999, 0.99999, 1.0, 1.0, 1.0, 1.0, 0.99999]
    assert first[1].tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    with pytest.raises(UsageError, match="action 1 shows no job"):
        env.step(1)
    observation, reward, terminated = env.step(0)
    assert observation[0].tolist() == [0.0, 0.4, 0.5, 1.0, 1.0, 1.0, 1.0, 0.99999]
    assert (reward, terminated) == (0.0, False)
    assert env.step(0) == (None, -1.0, True)
    assert env.result().start_s.tolist() == [0, 43200]


@settings(max_examples=30, deadline=None)
@given(rows=jobs_strategy, backfill=st.booleans())
def test_choosing_the_first_submitted_is_fcfs(rows, backfill):
    trace = make_trace(sorted(rows), nodes=5)
    env = RlsEnv(trace, backfill=backfill)
    env.reset(0, len(trace))
    while not env.step(0).terminated:
        pass
    expected = rlscheduler.run(trace, 0, len(trace), "fcfs", backfill)
    assert env.result().start_s.tolist() == expected.start_s.tolist()
    assert env.result().metrics == expected.metrics


def test_deep_queue_shows_shortest_and_smallest_in_turn():
    # 130 jobs behind a full machine: requests fall and sizes rise with the row. The shortest is the last row, 131. The
    # smallest are rows 2 to 51, of one processor, and as all were submitted at once they keep the order of the sort
    # before, by request: 51 first.
    rows = [(0, 10, 10, 4), (0, 10, 10_000, 4)] + [(0, 5, 1000 - i, 1 + i // 50) for i in range(130)]
    env = RlsEnv(make_trace(rows), backfill=False)
    env.reset(0, len(rows))
    env.step(0)
    env.step(env.visible.index(1))  # waits for job 1, and all the others join before that ends
    assert len(env.machine.queue) == 130
    assert env.visible[:4] == [131, 51, 130, 50]
    assert len(set(env.visible)) == 128
