"""Whole replays by rounds: stories worked out by hand, and what holds of every one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shunter.scheduler.elastic import amdahl_curve
from shunter.scheduler.errors import UsageError
from shunter.scheduler.preemption import Preemption
from shunter.sim.checkpoint import load_checkpoint, save_checkpoint
from shunter.sim.engine import Simulation
from shunter.sim.failures import FAIL, REPAIR, WHOLE_NODE, Outages
from shunter.sim.replay import options_for, simulate
from shunter.sim.result import Result
from shunter.sim.saving import arrays
from shunter.sim.workload import Defaults, prepare
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup, Quota
from shunter.traces.tables import Trace, make_jobs
from shunter.traces.throughputs import default_parallel_ratio

Row = tuple[Any, ...]


def gpus(count: int, nodes: int = 1) -> ClusterSpec:
    return ClusterSpec(name=f"{count}-gpus", groups=(NodeGroup("node", count=nodes, gpus=count / nodes),))


def two_types(fast: int = 1, slow: int = 1, **slow_speed: float) -> ClusterSpec:
    """A fast type on which every model runs at 1, and a slow one."""
    return ClusterSpec(
        name="two-types",
        groups=(
            NodeGroup("fast", count=fast, gpus=1, gpu_type="F"),
            NodeGroup("slow", count=slow, gpus=1, gpu_type="S"),
        ),
        gpu_types={"F": GpuType(), "S": GpuType(speed={"default": 1.0, **slow_speed})},
    )


def jobs(cluster: ClusterSpec, *rows: Row, columns: str = "job_id submit_s duration_s tasks model_class") -> Trace:
    names = columns.split()
    given_columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    full = {"gpus": [1.0] * len(rows), "cpus": [0.0] * len(rows), "tasks": [1] * len(rows)} | given_columns
    return Trace(name="story", jobs=make_jobs(full), cluster=cluster)


def attempts(result: Result) -> list[Row]:
    """(job, start, end, GPUs) of every attempt in the order of their starts."""
    table = result.tables["attempts"].sort("start_s", "job")
    names = result.jobs["job_id"].to_list()
    rows = table.select("job", "start_s", "end_s", "gpus").rows()
    return [(names[job], pytest.approx(start), pytest.approx(end), held) for job, start, end, held in rows]


def ends(result: Result) -> dict[str, float]:
    return dict(result.jobs.select("job_id", "end_s").rows())


# --- types of GPUs ---------------------------------------------------------------------------------------------------


def test_two_jobs_take_turns_on_one_gpu() -> None:
    """Equal shares: A, B, and at 200 s both have had theirs, so B goes on; A has its next at 300 s, restarted."""
    trace = jobs(gpus(1), ("A", 0, 200, 1, None), ("B", 0, 200, 1, None))
    run = simulate(trace, policy="het-las:round=100", defaults=Defaults(restart_s=10))
    assert attempts(run) == [("A", 0, 100, 1), ("B", 100, 300, 1), ("A", 300, 410, 1)]
    assert run.metrics["preemptions"] == 1


def test_three_jobs_get_a_third_of_the_rounds_each() -> None:
    trace = jobs(gpus(1), *((name, 0, 3000, 1, None) for name in "ABC"))
    held = simulate(trace, policy="het-las:round=100").tables["attempts"]
    for until_s in (900.0, 3000.0, 6000.0):
        had = [
            sum(min(end_s, until_s) - start_s for row, start_s, end_s in held.select("job", "start_s", "end_s").rows()
                if row == job and start_s < until_s)
            for job in range(3)
        ]  # fmt: skip
        assert max(had) - min(had) <= 100.0


@pytest.mark.parametrize("policy", ["het-las", "het-makespan"])
def test_each_job_runs_on_the_type_that_suits_it(policy: str) -> None:
    """FCFS gives the fast GPU to b, which does not need it; a then takes 100 / (1/4) = 400 s."""
    cluster = two_types(a=0.25)
    trace = jobs(cluster, ("b", 0, 100, 1, "b"), ("a", 0, 100, 1, "a"))
    assert ends(simulate(trace, policy="fcfs")) == {"b": 100, "a": 400}
    assert ends(simulate(trace, policy=policy)) == {"b": 100, "a": 100}


def test_the_makespan_policy_moves_the_long_job_to_the_fast_type() -> None:
    """At 0 s long is alone: fast. FCFS leaves short on slow for 400 s; here no job can end later than 300 s."""
    cluster = two_types(a=0.5)
    trace = jobs(cluster, ("short", 0, 100, 1, "a"), ("long", 0, 300, 1, "a"))
    assert simulate(trace, policy="fcfs").metrics["makespan_s"] == 600  # long on slow: 300 / (1/2)
    run = simulate(trace, policy="het-makespan:round=100")
    assert run.metrics["makespan_s"] == 300
    assert ends(run) == {"short": 200, "long": 300}


def test_an_arrival_takes_an_idle_gpu_at_once_and_no_other() -> None:
    trace = jobs(gpus(2), ("A", 0, 500, 1, None), ("B", 50, 500, 1, None), ("C", 60, 30, 1, None))
    run = simulate(trace, policy="het-las:round=360")
    assert attempts(run)[:2] == [("A", 0, pytest.approx(500), 1), ("B", 50, pytest.approx(360), 1)]
    assert attempts(run)[2] == ("C", 360, 390, 1)


def test_jobs_that_may_not_be_stopped_stay() -> None:
    trace = jobs(
        gpus(1),
        ("A", 0, 200, 1, False),
        ("B", 0, 200, 1, True),
        columns="job_id submit_s duration_s tasks preemptible",
    )
    assert attempts(simulate(trace, policy="het-las:round=100")) == [("A", 0, 200, 1), ("B", 200, 400, 1)]


def test_a_gang_that_is_scattered_waits_and_its_gpus_do_not() -> None:
    """Two nodes of 2 GPUs, single tasks of 2 GPUs: x and y leave one GPU free on each node, so g has to wait."""
    trace = jobs(
        gpus(4, nodes=2),
        ("x", 0, 150, 1, 1, False),
        ("y", 0, 150, 1, 1, False),
        ("g", 10, 50, 1, 2, True),
        columns="job_id submit_s duration_s tasks gpus preemptible",
    )
    assert attempts(simulate(trace, policy="het-las:round=100", placement="worst-fit"))[2] == ("g", 150, 200, 2)


def test_a_round_goes_around_a_node_that_is_down() -> None:
    cluster = gpus(2, nodes=2)
    none, whole = np.zeros(2, np.int64), np.full(2, WHOLE_NODE)
    outages = Outages(np.asarray([50.0, 120.0]), none, whole, np.asarray([FAIL, REPAIR]), none)
    trace = jobs(cluster, ("A", 0, 100, 1, None), ("B", 0, 300, 1, None))
    run = simulate(trace, policy="het-las:round=40", outages=outages, defaults=Defaults(checkpoint_s=0.0))
    assert set(run.jobs["state"]) == {"completed"}
    on_node_0 = run.tables["placements"].join(run.tables["attempts"], on=["job", "attempt"]).filter(node=0)
    assert not ((on_node_0["start_s"] < 120.0) & (on_node_0["end_s"] > 50.0)).any()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"backfill": "easy"}, "--backfill easy"),
        ({"preemption": Preemption(("policy",))}, "--preempt"),
        ({"interval_s": 5.0, "locality_s": 9.0}, "--interval or waiting for locality"),
    ],
)
def test_what_does_not_go_with_rounds_is_refused(options: dict[str, Any], named: str) -> None:
    trace = jobs(gpus(1), ("A", 0, 1, 1, None))
    with pytest.raises(UsageError, match=rf"policy 'het-las' decides by rounds .* does not go with {named}$"):
        simulate(trace, policy="het-las", **options)


def test_quotas_ties_and_empty_rounds_are_refused() -> None:
    trace = jobs(gpus(1), ("A", 0, 1, 1, None))
    shared = ClusterSpec(name="q", groups=trace.cluster.groups, quotas={"g": Quota(1)})
    with pytest.raises(UsageError, match="does not go with quotas"):
        simulate(trace, policy="elastic", cluster=shared)
    with pytest.raises(UsageError, match="per-event"):
        simulate(trace, policy="elastic", ties="per-event")
    with pytest.raises(UsageError, match="a round of 0 s is not longer than 0"):
        simulate(trace, policy="het-las:round=0")


def test_a_gang_larger_than_any_type_is_refused() -> None:
    trace = jobs(two_types(), ("ok", 0, 1, 1, None), ("wide", 0, 1, 2, None))
    with pytest.raises(UsageError, match=r"job 'wide' \(row 1\) and 0 others fit on no kind of cluster 'two-types'"):
        simulate(trace, policy="het-las")


# --- elastic jobs ----------------------------------------------------------------------------------------------------

ELASTIC = "job_id submit_s duration_s tasks min_gpus max_gpus"


def test_run_times_are_exact_under_resizes() -> None:
    """Amdahl's s(g) on 4 GPUs: A asked for 1 and has 4; B comes at 50 s and, at the round of 60 s, takes 2 of them.

    A has done 60 · s(4) s of work and restarts for 5 s, then goes on at s(2); B, which has done nothing yet, needs no
    restart. A ends first. At the next round B is old enough to grow: 5 s later it runs at s(4).
    """
    s = amdahl_curve(default_parallel_ratio(), 4)
    trace = jobs(gpus(4), ("A", 0, 400, 1, 1, 4), ("B", 50, 400, 1, 1, 4), columns=ELASTIC)
    run = simulate(trace, policy="elastic:round=20", defaults=Defaults(restart_s=5))
    a_ends_s = 65 + (400 - 60 * s[4]) / s[2]
    grows_s = 20 * np.ceil(a_ends_s / 20)
    b_ends_s = grows_s + 5 + (400 - (grows_s - 60) * s[2]) / s[4]
    assert attempts(run) == [
        ("A", 0, 60, 4),
        ("A", 60, a_ends_s, 2),
        ("B", 60, grows_s, 2),
        ("B", grows_s, b_ends_s, 4),
    ]
    assert run.metrics["allocation_ratio"] == pytest.approx(
        (240 + 2 * (a_ends_s - 60) + 2 * (grows_s - 60) + 4 * (b_ends_s - grows_s)) / 4 / b_ends_s
    )
    used = dict(run.timeline.select("time_s", "used_gpus").rows())
    assert [used[0.0], used[60.0], used[a_ends_s], used[grows_s]] == [4, 4, 2, 4]


def test_an_elastic_job_of_one_task_is_cut_into_gpus() -> None:
    """A task of 4 GPUs would fit on no node of 2: as an elastic job it runs on both."""
    trace = jobs(
        gpus(4, nodes=2), ("A", 0, 100, 1, 4.0, 1, 4), columns="job_id submit_s duration_s tasks gpus min_gpus max_gpus"
    )
    assert ends(simulate(trace, policy="elastic")) == {"A": pytest.approx(100)}
    assert simulate(trace, policy="fcfs").metrics["jobs_rejected"] == 1


def test_a_rigid_job_keeps_its_size_beside_elastic_ones() -> None:
    trace = jobs(gpus(4), ("R", 0, 100, 2, None, None), ("E", 0, 1000, 1, 1, 8), columns=ELASTIC)
    found = attempts(simulate(trace, policy="elastic"))
    assert found[0] == ("R", 0, 100, 2)
    assert found[1][3] == 2
    assert found[2][3] == 4


def test_a_fraction_of_a_gpu_cannot_be_elastic() -> None:
    trace = jobs(gpus(2), ("A", 0, 1, 0.5, 1), columns="job_id submit_s duration_s gpus min_gpus")
    with pytest.raises(UsageError, match=r"job 'A' \(row 0\) and 0 others have min_gpus .* 0\.5 GPUs a task"):
        simulate(trace, policy="elastic")
    assert ends(simulate(trace, policy="fcfs")) == {"A": 1}


# --- what holds of every replay --------------------------------------------------------------------------------------


@st.composite
def workloads(draw: st.DrawFn) -> Trace:
    """Two types of GPUs, nodes of two sizes; gangs, elastic jobs, jobs that share GPUs, and some that must not stop."""
    cluster = ClusterSpec(
        name="random",
        groups=(
            NodeGroup("f", count=draw(st.integers(1, 2)), cpus=8, gpus=4, gpu_type="F"),
            NodeGroup("s", count=draw(st.integers(1, 3)), cpus=4, gpus=2, gpu_type="S"),
        ),
        gpu_types={"F": GpuType(speed={"default": 2.0}), "S": GpuType(speed={"default": 1.0, "resnet": 0.5})},
    )
    rows = []
    for i in range(draw(st.integers(1, 10))):
        kind = draw(st.sampled_from(["rigid", "elastic", "shared", "cpus"]))
        tasks = draw(st.integers(1, 2))
        size = {"rigid": float(draw(st.integers(1, 2))), "elastic": 1.0, "shared": 0.5, "cpus": 0.0}[kind]
        rows.append(
            {
                "job_id": f"j{i}",
                "submit_s": float(draw(st.integers(0, 60))),
                "duration_s": float(draw(st.integers(1, 90))),
                "tasks": tasks if kind != "rigid" else 1,
                "gpus": size,
                "cpus": float(draw(st.integers(0, 1))) if kind != "cpus" else 1.0,
                "model_class": draw(st.sampled_from([None, "resnet", "bert"])),
                "min_gpus": tasks if kind == "elastic" else None,
                "max_gpus": tasks + draw(st.integers(0, 4)) if kind == "elastic" else None,
                "preemptible": draw(st.sampled_from([True, True, False])),
                "restart_s": float(draw(st.sampled_from([0, 3]))),
            }
        )
    return Trace(name="random", jobs=make_jobs({key: [row[key] for row in rows] for key in rows[0]}), cluster=cluster)


policies = st.sampled_from(["het-las:round=10", "het-makespan:round=7", "elastic:round=10", "elastic:round=3"])
SOME = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SOME
@given(workloads(), policies, st.booleans())
def test_no_gpu_is_held_twice_and_all_work_is_done(trace: Trace, policy: str, interference: bool) -> None:
    run = simulate(trace, policy=policy, interference=interference)
    again = simulate(trace, policy=policy, interference=interference)
    assert run.jobs.equals(again.jobs)
    assert (run.jobs["state"] == "completed").all()
    table = run.tables["attempts"]
    assert (table["work_s"].sum()) == pytest.approx(run.jobs["duration_s"].sum())
    held = run.tables["placements"].join(table.select("job", "attempt", "start_s", "end_s"), on=["job", "attempt"])
    for moment in table["start_s"].unique():
        now = held.filter((held["start_s"] <= moment) & (held["end_s"] > moment))
        sums = now.group_by("node", "gpu").agg(pl.col("gpus").sum())
        apart = sums.filter(sums["gpu"] >= 0)
        assert (apart["gpus"] <= 1.0 + 1e-9).all()
        for node, count in now.group_by("node").agg(pl.col("gpus").sum()).rows():
            assert count <= (4 if node < trace.cluster.groups[0].count else 2) + 1e-9


@SOME
@given(trace=workloads(), policy=policies, interference=st.booleans(), data=st.data())
def test_a_resumed_replay_by_rounds_equals_one_that_never_stopped(
    trace: Trace, policy: str, interference: bool, data: st.DataObject, tmp_path: Path
) -> None:
    options = options_for(trace.cluster, policy=policy, interference=interference)
    workload = prepare(trace, trace.cluster, elastic=options.settings.ordering.ordering.is_elastic)
    whole = Simulation(workload, options)
    assert whole.run()
    path, current = tmp_path / "run.checkpoint", Simulation(workload, options)
    while not current.run(lambda: True, every=data.draw(st.integers(1, 12))):
        save_checkpoint(path, current, {}, 0.0)
        current = Simulation(workload, options)
        load_checkpoint(path, current, {})
    for name, values in arrays(whole).items():
        np.testing.assert_array_equal(arrays(current)[name], values, err_msg=name)


def test_ends_of_attempts_that_were_stopped_make_no_pass() -> None:
    """LAS on one GPU: A stops for B, and A's former end at 100 s is no event, so B is not stopped there."""
    trace = jobs(gpus(1), ("A", 0, 100, 1, None), ("B", 10, 200, 1, None))
    run = simulate(trace, policy="las", preemption=Preemption(("policy",)))
    assert attempts(run) == [("A", 0, 10, 1), ("B", 10, 210, 1), ("A", 210, 300, 1)]
