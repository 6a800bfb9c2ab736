"""Who is stopped for whom, when, and what it costs; worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shunter.scheduler.decide import Settings, check_plan, plan
from shunter.scheduler.errors import UsageError
from shunter.scheduler.plans import Plan, Preempt, Start
from shunter.scheduler.policies.registry import choose_ordering
from shunter.scheduler.preemption import Preemption
from shunter.sim.engine import Options, Simulation
from shunter.sim.replay import simulate
from shunter.sim.result import Result
from shunter.sim.workload import Defaults, prepare
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup, Quota
from shunter.traces.tables import Trace, make_jobs
from tests.scheduler.cases import NOTHING, table

ONE = ClusterSpec("one", (NodeGroup("n", 1, cpus=8.0, gpus=1.0),))
FOUR = ClusterSpec("four", (NodeGroup("n", 1, cpus=8.0, gpus=4.0),))
SRTF = {"policy": "srtf", "preemption": Preemption(("policy",))}


def replay(text: str, cluster: ClusterSpec = ONE, **options: Any) -> Result:
    return simulate(table(text, cluster), details=True, **options)


def attempts(result: Result) -> dict[str, list[tuple[float, float, str]]]:
    """Job → (start, end, how it ended) of its attempts."""
    names = result.jobs["job_id"].to_list()
    found: dict[str, list[tuple[float, float, str]]] = {name: [] for name in names}
    for row in result.tables["attempts"].sort("job", "attempt").to_dicts():
        found[names[row["job"]]].append((row["start_s"], row["end_s"], row["ended"]))
    return found


LONG_SHORT = """
    job submit runs gpus cpus
    a   0      100  1    1
    b   20     10   1    1
"""


def test_srtf_stops_the_job_with_more_left() -> None:
    """At 20 s a has 80 s left and b needs 10 s. a loses nothing: it saved its work when it was told to stop."""
    result = replay(LONG_SHORT, **SRTF)
    assert attempts(result) == {"a": [(0, 20, "preempted"), (30, 110, "completed")], "b": [(20, 30, "completed")]}
    assert result.jobs["requeued_s"].to_list() == [10, 0]
    assert result.metrics["preemptions"] == 1
    assert result.metrics["lost_gpu_s"] == 0
    assert attempts(replay(LONG_SHORT, policy="srtf"))["b"] == [(100, 110, "completed")]


def test_srtf_leaves_a_job_that_has_less_left() -> None:
    """At 95 s a has 5 s left."""
    assert attempts(replay(LONG_SHORT.replace("20  ", "95  "), **SRTF))["b"] == [(100, 110, "completed")]


def test_a_job_is_left_alone_for_its_minimum_run_time_and_not_longer() -> None:
    """b comes at 20 s, when a has run for less than 25 s; at 25 s, though nothing else happens then, a is stopped."""
    rules = Preemption(("policy",), min_run_s=25.0)
    result = replay(LONG_SHORT, policy="srtf", preemption=rules)
    assert attempts(result) == {"a": [(0, 25, "preempted"), (35, 110, "completed")], "b": [(25, 35, "completed")]}


def test_a_restart_takes_its_overhead_and_does_no_work_in_it() -> None:
    """a's second attempt: 3 s of restart, then the 80 s that were left."""
    result = replay(LONG_SHORT, **SRTF, defaults=Defaults(restart_s=3.0))
    assert attempts(result)["a"] == [(0, 20, "preempted"), (30, 113, "completed")]
    again = result.tables["attempts"].row(2, named=True)
    assert (again["overhead_s"], again["work_s"], again["rate"]) == (3, 80, 1)
    assert result.metrics["lost_gpu_s"] == 3


def test_the_restart_counts_as_time_that_is_left() -> None:
    """a and b make way for shorter ones; each comes back with 2 s of restart before what it had left."""
    text = """
        job submit runs gpus cpus
        a   0      100  1    1
        b   20     30   1    1
        c   25     24   1    1
    """
    # At 20 s b (30 s) stops a; at 25 s c needs 24 s and b has 25 s left: c goes first. At 49 s b needs 2 + 25 s.
    result = replay(text, **SRTF, defaults=Defaults(restart_s=2.0))
    assert attempts(result) == {
        "a": [(0, 20, "preempted"), (76, 158, "completed")],
        "b": [(20, 25, "preempted"), (49, 76, "completed")],
        "c": [(25, 49, "completed")],
    }


CLASSES = """
    job submit runs gpus cpus priority
    a   0      100  1    1    0
    b   20     10   1    1    1
"""


def test_a_grace_period_lets_the_job_save_its_work() -> None:
    """a goes on until 25 s, has saved 25 s of work by then, and b starts."""
    result = replay(CLASSES, preemption=Preemption(("priority",), grace_s=5.0))
    assert attempts(result) == {"a": [(0, 25, "preempted"), (35, 110, "completed")], "b": [(25, 35, "completed")]}
    assert result.tables["attempts"]["work_s"].to_list() == [25, 10, 75]


def test_a_job_that_ends_inside_its_grace_period_is_done() -> None:
    result = replay(CLASSES.replace("100", "22 "), preemption=Preemption(("priority",), grace_s=5.0))
    assert attempts(result) == {"a": [(0, 22, "completed")], "b": [(22, 32, "completed")]}


def test_a_job_that_ends_with_its_grace_period_is_done_once() -> None:
    result = replay(CLASSES.replace("100", "25 "), preemption=Preemption(("priority",), grace_s=5.0))
    assert attempts(result) == {"a": [(0, 25, "completed")], "b": [(25, 35, "completed")]}


@pytest.mark.parametrize("policy", ["fcfs", "sjf", "priority", "wfp3"])
def test_a_class_stops_the_lower_ones_and_comes_first_in_the_queue(policy: str) -> None:
    """h, behind w in the queue, is of a higher class: it passes w, stops a, and a cannot return before it."""
    text = """
        job submit runs gpus cpus priority
        a   0      40   1    1    0
        w   5      50   1    1    0
        h   10     10   1    1    1
    """
    result = replay(text, policy=policy, preemption=Preemption(("priority",)))
    found = attempts(result)
    assert found["h"] == [(10, 20, "completed")]
    assert found["a"][0] == (0, 10, "preempted")
    assert max(end_s for runs in found.values() for _, end_s, _ in runs) == 100


@pytest.mark.parametrize("grace_s", [0.0, 5.0])
@pytest.mark.parametrize("rules", [("policy", "priority"), ("priority", "policy"), ("quota", "policy", "priority")])
def test_rules_that_disagree_come_to_an_end(rules: tuple[str, ...], grace_s: float) -> None:
    """h, of the higher class, is the longer one: SRTF alone would take a, the class h. Classes are strict."""
    text = """
        job submit runs gpus cpus priority group
        a   0      40   1    1    0        red
        h   10     90   1    1    1        green
        b   12     5    1    1    0        red
    """
    quotas = {"red": Quota(0.0), "green": Quota(0.0)}
    result = replay(text, replace(ONE, quotas=quotas), policy="srtf", preemption=Preemption(rules, grace_s=grace_s))
    assert attempts(result)["h"] == [(10 + grace_s, 100 + grace_s, "completed")]
    assert result.jobs["state"].to_list() == ["completed"] * 3


def test_tiresias_stops_jobs_of_a_lower_queue_only() -> None:
    """Queues change at 10 GPU-seconds. b and c stop what has had more; at 30 s b is in a's queue and stays."""
    text = """
        job submit runs gpus cpus
        a   0      100  1    1
        b   20     30   1    1
        c   45     5    1    1
    """
    policy = "tiresias:first=10,second=1000,third=2000"
    result = replay(text, policy=policy, preemption=Preemption(("policy",)))
    assert attempts(result) == {
        "a": [(0, 20, "preempted"), (50, 130, "completed")],
        "b": [(20, 45, "preempted"), (130, 135, "completed")],
        "c": [(45, 50, "completed")],
    }


def test_tiresias_stops_a_job_when_it_falls_into_the_next_queue() -> None:
    """a, on two GPUs, has had 60 GPU-seconds at 30 s, between two events, and makes way for b then."""
    text = """
        job submit runs tasks gpus cpus
        a   0      100  2     1    1
        b   10     30   2     1    1
    """
    policy = "tiresias:first=60,second=1000,third=2000"
    cluster = ClusterSpec("two", (NodeGroup("n", 1, cpus=8.0, gpus=2.0),))
    result = replay(text, cluster, policy=policy, preemption=Preemption(("policy",)))
    assert attempts(result) == {"a": [(0, 30, "preempted"), (60, 130, "completed")], "b": [(30, 60, "completed")]}


def test_no_more_jobs_are_stopped_than_needed() -> None:
    """h needs 2 GPUs. a (1 GPU, most left) would be given up first, but b's three are needed, and enough."""
    text = """
        job submit runs gpus cpus
        a   0      100  1    1
        b   0      90   3    1
        h   10     10   2    1
    """
    result = replay(text, FOUR, **SRTF)
    assert attempts(result)["a"] == [(0, 100, "completed")]
    assert attempts(result)["b"] == [(0, 10, "preempted"), (20, 100, "completed")]
    assert attempts(result)["h"] == [(10, 20, "completed")]


def test_a_whole_gpu_is_freed_by_stopping_both_jobs_that_share_it() -> None:
    """Neither a nor b alone frees a GPU for h; together they do. Both have more left than h."""
    text = """
        job submit runs gpus cpus
        a   0      100  0.5  1
        b   0      90   0.5  1
        h   10     20   1    1
    """
    assert attempts(replay(text, **SRTF)) == {
        "a": [(0, 10, "preempted"), (30, 120, "completed")],
        "b": [(0, 10, "preempted"), (30, 110, "completed")],
        "h": [(10, 30, "completed")],
    }


def test_a_group_gives_what_it_borrowed_where_it_helps() -> None:
    """red may lose two of its four. The latest two, r4 and r3, lie on different nodes; g needs both GPUs of one."""
    text = """
        job submit runs gpus cpus group
        r1  0      99   1    1    red
        r2  1      99   1    1    red
        r3  2      99   1    1    red
        r4  3      99   1    1    red
        g   10     20   2    1    green
    """
    quotas = {"red": Quota(2.0), "green": Quota(2.0)}
    cluster = ClusterSpec("two", (NodeGroup("n", 2, cpus=8.0, gpus=2.0),), quotas=quotas)
    found = attempts(replay(text, cluster, placement="worst-fit", preemption=Preemption(("quota",))))
    assert {name for name, runs in found.items() if runs[0][2] == "preempted"} == {"r2", "r4"}
    assert found["g"] == [(10, 30, "completed")]


def test_a_group_that_is_giving_back_already_is_not_asked_for_its_guarantee() -> None:
    """red holds 3, of which 2 are its own, and is giving back r3. g2 comes first by then, and needs one more: x's."""
    text = """
        job submit runs gpus cpus group preemptible
        r1  0      99   1    1    red   1
        r2  1      99   1    1    red   1
        r3  2      99   1    1    red   1
        x   0      40   1    1    -     0
        g1  10     20   1    1    green 1
        g2  11     5    2    1    green 1
    """
    trace = table(
        text.replace("preemptible", "priority"), replace(FOUR, quotas={"red": Quota(2.0), "green": Quota(2.0)})
    )
    marked = trace.jobs.frame.with_columns(preemptible=trace.jobs.frame["priority"] == 1)
    fixed = Trace("fixed", make_jobs(marked.to_dict(as_series=True)), trace.cluster)
    found = attempts(simulate(fixed, policy="sjf", details=True, preemption=Preemption(("quota",), grace_s=5.0)))
    assert found["r3"][0] == (2, 15, "preempted")
    assert found["r1"] == [(0, 99, "completed")]
    assert found["r2"] == [(1, 100, "completed")]
    assert found["g2"] == [(40, 45, "completed")]


def test_nobody_is_stopped_in_vain() -> None:
    """h needs an h100; stopping a, on the v100, would not help, and b there has less left than h."""
    cluster = ClusterSpec(
        "types",
        (
            NodeGroup("v", 1, cpus=8.0, gpus=1.0, gpu_type="v100"),
            NodeGroup("h", 1, cpus=8.0, gpus=1.0, gpu_type="h100"),
        ),
        gpu_types={"v100": GpuType(), "h100": GpuType()},
    )
    text = """
        job submit runs gpus cpus gpu_type
        a   0      100  1    1    v100
        b   0      20   1    1    h100
        h   10     15   1    1    h100
    """
    result = replay(text, cluster, **SRTF)
    assert attempts(result) == {
        "a": [(0, 100, "completed")],
        "b": [(0, 20, "completed")],
        "h": [(20, 35, "completed")],
    }


def test_jobs_that_are_not_preemptible_are_left_alone() -> None:
    trace = table(LONG_SHORT + "c 20 90 1 1", ONE)
    marked = trace.jobs.frame.with_columns(preemptible=trace.jobs.frame["job_id"] == "c")
    fixed = Trace("fixed", make_jobs(marked.to_dict(as_series=True)), ONE)
    result = simulate(fixed, details=True, **SRTF)
    assert attempts(result)["a"] == [(0, 100, "completed")]


def test_a_borrower_does_not_stop_what_another_group_is_guaranteed() -> None:
    """r2 (5 s) would borrow: it may stop r1 of its own group, which has less left than g1, but not g1."""
    text = """
        job submit runs gpus cpus group
        g1  0      200  1    1    green
        r1  0      100  1    1    red
        r2  10     5    1    1    red
    """
    cluster = ClusterSpec(
        "two", (NodeGroup("n", 1, cpus=8.0, gpus=2.0),), quotas={"red": Quota(1.0), "green": Quota(1.0)}
    )
    result = replay(text, cluster, **SRTF)
    assert attempts(result) == {
        "g1": [(0, 200, "completed")],
        "r1": [(0, 10, "preempted"), (15, 105, "completed")],
        "r2": [(10, 15, "completed")],
    }


def test_a_job_for_which_others_were_stopped_does_not_wait_for_locality() -> None:
    """x and y take a GPU of each node; h's two tasks stop the longer two of the four, one on each node."""
    cluster = ClusterSpec("apart", (NodeGroup("n", 2, cpus=8.0, gpus=2.0, rack_size=1),))
    text = """
        job submit runs tasks gpus cpus
        x   0      50   1     1    1
        y   0      90   1     1    1
        z   0      90   1     1    1
        w   0      50   1     1    1
        h   10     45   2     1    1
    """
    how = {**SRTF, "placement": "worst-fit", "locality_s": 1000.0}
    result = replay(text, cluster, **how)
    assert attempts(result)["h"] == [(10, 55, "completed")]


# --- plans -----------------------------------------------------------------------------------------------------------


def running_a() -> Any:
    """At 20 s: a runs since 0 s on the only GPU, b waits."""
    chosen = Settings(choose_ordering("srtf"))
    state = Simulation(prepare(table(LONG_SHORT, ONE), ONE), Options(chosen)).state
    state.absorb(0.0, NOTHING, 0, 0, 1)
    state.run_pass(0.0)
    state.absorb(20.0, NOTHING, 0, 1, 2)
    return state.snapshot(20.0), chosen


def test_a_plan_says_whom_to_stop_and_what_to_start_then() -> None:
    snapshot, chosen = running_a()
    proposed = plan(snapshot, chosen, preemption=Preemption(("policy",)))
    assert proposed.preemptions == (Preempt(0, 20.0),)
    assert [start.row for start in proposed.starts] == [1]
    assert check_plan(snapshot, proposed) == []
    later = plan(snapshot, chosen, preemption=Preemption(("policy",), grace_s=5.0))
    assert (later.preemptions, later.starts) == ((Preempt(0, 25.0),), ())
    assert plan(snapshot, chosen).preemptions == ()


def test_check_plan_finds_what_cannot_be_stopped() -> None:
    snapshot, _ = running_a()
    start = (Start(1, ((0, 1),)),)
    too_early = Plan(0, starts=start, preemptions=(Preempt(0, 25.0),))
    assert check_plan(snapshot, too_early) == ["row 1 does not fit on node 0"]
    twice = Plan(0, preemptions=(Preempt(0, 20.0), Preempt(0, 20.0), Preempt(1, 20.0)))
    assert check_plan(snapshot, twice) == [
        "row 0 does not run, or is stopped twice",
        "row 1 does not run, or is stopped twice",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rules": ("polcy",)}, "unknown preemption rule 'polcy'; did you mean 'policy'?"),
        ({"min_run_s": -1.0}, "minimum run time -1.0 is not a number of seconds of at least 0"),
        ({"grace_s": float("inf")}, "grace period inf is not a number of seconds of at least 0"),
    ],
)
def test_rules_that_do_not_exist(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        Preemption(**arguments)
    assert str(error.value) == message


def test_preemption_does_not_go_with_promises() -> None:
    with pytest.raises(UsageError, match="--preempt does not go with conservative backfilling"):
        replay(LONG_SHORT, backfill="conservative", preemption=Preemption(("policy",)))
