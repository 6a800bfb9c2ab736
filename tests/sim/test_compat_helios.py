"""The Helios protocol: placement by hand, the event loops against a simulator that ticks every second, bad input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import ConfigError, TraceError, UsageError
from shunter.sim.compat import helios
from shunter.sim.compat.helios import HeliosJobs
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs, pool


def make_helios(rows, predicted=None):
    """Jobs of one virtual cluster from (submit, duration, gpus) rows."""
    submit, duration, gpus = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    ids = [str(i) for i in range(len(rows))]
    prediction = None if predicted is None else np.array(predicted, dtype=np.int64)
    return HeliosJobs("hand-made", ids, ["vc"] * len(rows), gpus, submit, duration, prediction)


# A simulator that ticks every second, written from the protocol's description with Python lists.


@dataclass
class Job:
    row: int
    submit: int
    gpus: int
    remaining: int
    duration: int
    predicted: int
    start: int = -1
    end: int = -1
    queued: int = 0
    preemptions: int = 0
    preempted_at: int = -1
    attained: int = 0
    priority: int | None = None
    running: bool = False
    pieces: tuple = ()


def consolidate(free, gpus):
    if sum(free) < gpus:
        return None
    if gpus <= 8:
        nodes = sorted((n for n in range(len(free)) if free[n] > 0), key=lambda n: free[n])
        return next(([(n, gpus)] for n in nodes if free[n] >= gpus), None)
    nodes = sorted(range(len(free)), key=lambda n: -free[n])
    whole, rest = divmod(gpus, 8)
    if any(free[n] != 8 for n in nodes[:whole]):
        return None
    pieces = [(n, 8) for n in nodes[:whole]]
    if rest:
        if len(nodes) == whole or free[nodes[whole]] < rest:
            return None
        pieces.append((nodes[whole], rest))
    return pieces


def place(free, job):
    pieces = consolidate(free, job.gpus)
    if pieces is None:
        return False
    for node, gpus in pieces:
        free[node] -= gpus
    job.pieces = tuple(pieces)
    return True


def release(free, job):
    for node, gpus in job.pieces:
        free[node] += gpus


def tick_to_completion(jobs, nodes, policy):
    free, queue, running, done, now = [8] * nodes, [], [], 0, 0
    while done < len(jobs):
        for job in [j for j in running if j.end == now]:
            release(free, job)
            running.remove(job)
            done += 1
        older = len(queue)
        queue += [j for j in jobs if j.submit == now]
        if policy == "qssf":
            queue.sort(key=lambda j: j.gpus)
            if older:
                for job in queue:
                    job.priority = job.predicted * job.gpus
                queue.sort(key=lambda j: j.priority)
        else:
            queue.sort(key=lambda j: j.submit if policy == "fifo" else j.duration)
        while queue and place(free, queue[0]):
            job = queue.pop(0)
            job.start, job.end, job.queued = now, now + job.duration, now - job.submit
            running.append(job)
        now += 1


def tick_preempting(jobs, nodes, policy):
    free, queue, running, done, now = [8] * nodes, [], [], 0, 0
    while done < len(jobs):
        for job in list(running):
            if job.remaining == 0:
                job.end, job.running = now, False
                release(free, job)
                running.remove(job)
                done += 1
            else:
                job.remaining -= 1
                job.attained += job.gpus
        queue += [j for j in jobs if j.submit == now]
        if policy == "srtf":
            candidates = sorted(queue + running, key=lambda j: j.remaining)
        elif now % 60 == 0:
            candidates = sorted(running + queue, key=lambda j: (j.attained > 18_000, j.submit))
        else:
            candidates = []
        quota, chosen, victims = 8 * nodes, [], []
        for job in candidates:
            if job.gpus <= quota:
                quota -= job.gpus
                if not job.running:
                    chosen.append(job)
            elif job.running:
                victims.append(job)
        for job in victims:
            job.preemptions += 1
            job.preempted_at, job.running = now, False
            job.remaining += 40 if job.gpus <= 8 else 60
            release(free, job)
            running.remove(job)
            queue.append(job)
        for job in chosen:
            if place(free, job):
                job.running = True
                job.queued += now - (job.submit if job.preemptions == 0 else job.preempted_at)
                job.start = now if job.start < 0 else job.start
                queue.remove(job)
                running.append(job)
        now += 1


def ticked(jobs, nodes, policy):
    rows = [
        Job(i, int(s), int(g), int(d), int(d), int(p))
        for i, (s, g, d, p) in enumerate(zip(jobs.submit_s, jobs.gpus, jobs.duration_s, jobs.predicted_s, strict=True))
    ]
    in_order = sorted(rows, key=lambda j: j.submit)
    (tick_preempting if policy in helios.PREEMPTIVE else tick_to_completion)(in_order, nodes, policy)
    return [(j.start, j.end, j.queued, j.preemptions) for j in rows]


def compiled(jobs, nodes, policy):
    run = helios.run(jobs, {"vc": nodes}, policy)
    columns = (run.start_s, run.end_s, run.queue_s, run.preemptions)
    return list(zip(*(column.tolist() for column in columns), strict=True))


sizes = st.sampled_from([1, 1, 2, 3, 4, 5, 8, 8, 9, 12, 16, 19, 24])
short_jobs = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 90), sizes), min_size=1, max_size=30)
long_jobs = st.lists(st.tuples(st.integers(0, 900), st.integers(1, 2600), sizes), min_size=1, max_size=12)


@pytest.mark.parametrize("policy", ["fifo", "sjf", "qssf", "srtf"])
@settings(max_examples=60, deadline=None)
@given(rows=short_jobs, nodes=st.integers(3, 5), seed=st.integers(0, 99))
def test_event_loop_equals_ticking(policy, rows, nodes, seed):
    predicted = np.random.default_rng(seed).integers(1, 90, len(rows))
    jobs = make_helios(rows, predicted)
    assert compiled(jobs, nodes, policy) == ticked(jobs, nodes, policy)


@settings(max_examples=25, deadline=None)
@given(rows=long_jobs, nodes=st.integers(3, 4))
def test_tiresias_equals_ticking(rows, nodes):
    """Long enough for jobs to pass 18,000 GPU-seconds: 8 GPUs do in 2,250 s, 24 in 750 s."""
    jobs = make_helios(rows, [1] * len(rows))
    assert compiled(jobs, nodes, "tiresias") == ticked(jobs, nodes, "tiresias")


# Semantics by hand, on one or two nodes of 8 GPUs.


def test_fifo_stops_at_the_first_that_does_not_fit():
    # Job 1 waits for 8 GPUs until 100; job 2 would fit and must not pass it.
    assert compiled(make_helios([(0, 100, 4), (1, 10, 8), (2, 5, 1)]), 1, "fifo") == [
        (0, 100, 0, 0),
        (100, 110, 99, 0),
        (110, 115, 108, 0),
    ]


def test_srtf_preempts_and_charges_overhead():
    # Job 0 would end at 101. At 50 (49 ticks of run done by 50: remaining 100 − 50 = 50) job 1, remaining 10, preempts
    # it: remaining 50 + 40 = 90. Job 1 ends at 50 + 10 + 1 = 61, job 0 goes on and ends at 61 + 90 + 1 = 152.
    assert compiled(make_helios([(0, 100, 8), (50, 10, 8)]), 1, "srtf") == [(0, 152, 11, 1), (50, 61, 0, 0)]


def test_tiresias_decides_on_full_minutes():
    assert compiled(make_helios([(1, 5, 1)]), 1, "tiresias") == [(60, 66, 59, 0)]


def test_qssf_ranks_jobs_that_came_to_an_empty_queue_one_tick_later():
    # At 0 neither has a priority: by GPUs, job 1 is first. It starts; job 0 needs 8 GPUs and waits until job 1's end.
    jobs = make_helios([(0, 10, 8), (0, 50, 4), (1, 7, 4)], predicted=[1, 99, 99])
    assert compiled(jobs, 1, "qssf") == [(50, 60, 50, 0), (0, 50, 0, 0), (60, 67, 59, 0)]


def test_consolidate_takes_the_fullest_node_and_whole_nodes():
    # Node 0 has 3 GPUs left and node 1 none: job 2 of 3 GPUs fits node 0 exactly, not the empty node 2.
    # Job 3 of 12 GPUs needs a wholly free node and 4 on another: only after job 0 has ended at 100.
    rows = [(0, 100, 5), (0, 200, 8), (1, 150, 3), (2, 10, 12)]
    assert [start for start, *_ in compiled(make_helios(rows), 3, "fifo")] == [0, 0, 1, 100]


def test_virtual_clusters_are_independent():
    jobs = HeliosJobs("two", ["a", "b"], ["x", "y"], np.array([8, 8]), np.array([0, 0]), np.array([5, 5]))
    run = helios.run(jobs, {"x": 1, "y": 1}, "fifo")
    assert run.start_s.tolist() == [0, 0]


# Input.


def canonical(**columns):
    jobs = {"job_id": ["1", "2"], "submit_s": [0.0, 4.0], "duration_s": [9.0, 7.0], "gpus": [8.0, 4.0]}
    cluster = ClusterSpec("two nodes", (NodeGroup("vc", 2, gpus=8.0),))
    return Trace("canonical", make_jobs(jobs | {"tasks": [2, 1], "group": ["vc", "vc"]} | columns), cluster)


def test_canonical_trace_gives_jobs_and_nodes():
    jobs = helios.from_trace(canonical())
    assert jobs.gpus.tolist() == [16, 4]
    assert jobs.nodes == {"vc": 2}
    assert jobs.predicted_s is None
    assert helios.run(jobs, jobs.nodes, "fifo").start_s.tolist() == [0, 9]
    requested = helios.from_trace(canonical(requested_s=[10.0, 6.5]))
    assert requested.predicted_s.tolist() == [10, 7]


def test_pool_is_no_virtual_cluster():
    assert helios.nodes_of(pool(64, resource="gpus")) == {}


def test_job_file(tmp_path):
    path = tmp_path / "x.jobs.csv"
    path.write_text("job_id,vc,gpu_num,submit_time,duration\n7,6e1,2,0,30\n")
    jobs = helios.load(path)
    assert (jobs.name, jobs.job_id, jobs.group, jobs.predicted_s) == ("x", ["7"], ["6e1"], None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("7,a,2,0,x", "column 'duration': expected a number in every row"),
        ("7,a,2,0,1.5", "column 'duration', data row 1: expected a whole number of at least 0, got 1.5"),
        ("7,a,2,-3,1", "column 'submit_time', data row 1: expected a whole number of at least 0, got -3"),
    ],
)
def test_bad_job_file(tmp_path, row, message):
    path = tmp_path / "x.csv"
    path.write_text(f"job_id,vc,gpu_num,submit_time,duration\n{row}\n")
    with pytest.raises(TraceError) as error:
        helios.load(path)
    assert str(error.value) == f"{path}: {message}"


def test_impossible_runs_are_refused():
    jobs = make_helios([(0, 5, 9)])
    with pytest.raises(TraceError, match="job 0 needs more GPUs than its virtual cluster has: 9 GPUs"):
        helios.run(jobs, {"vc": 1}, "srtf")
    with pytest.raises(TraceError, match="job 0 has run time 0 and never ends under fifo"):
        helios.run(make_helios([(0, 0, 1)]), {"vc": 1}, "fifo")
    assert compiled(make_helios([(0, 0, 1)]), 1, "srtf") == [(0, 1, 0, 0)]
    with pytest.raises(ConfigError, match="no nodes are given for 1 virtual clusters of 'hand-made', the first 'vc'"):
        helios.run(jobs, {"other": 1}, "fifo")
    with pytest.raises(UsageError, match="no policy 'tiresia'; did you mean 'tiresias'"):
        helios.run(jobs, {"vc": 2}, "tiresia")
    with pytest.raises(UsageError, match="qssf needs a predicted run time"):
        helios.run(jobs, {"vc": 2}, "qssf")
