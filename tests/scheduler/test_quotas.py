"""Static partitions, quotas and the power cap; worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shunter.scheduler.decide import Settings, check_plan, plan
from shunter.scheduler.plans import Plan, Reason, Start
from shunter.scheduler.preemption import Preemption
from shunter.sim.replay import simulate
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup, Quota
from tests.scheduler.cases import starts, table, waiting_state

PARTS = ClusterSpec(
    "parts",
    (
        NodeGroup("r", 1, cpus=8.0, gpus=2.0, owner="red"),
        NodeGroup("g", 1, cpus=8.0, gpus=2.0, owner="green"),
        NodeGroup("all", 1, cpus=8.0, gpus=1.0),
    ),
)


@pytest.mark.parametrize("backfill", ["none", "easy"])
def test_the_head_of_one_partition_blocks_nobody_in_another(backfill: str) -> None:
    """red's second job waits for its own nodes; green's later one starts at once; blue has the common node."""
    text = """
        job submit runs gpus cpus group
        r1  0      10   2    1    red
        r2  1      10   2    1    red
        g1  2      10   2    1    green
        b1  3      10   1    1    blue
        b2  4      10   1    1    -
        r3  5      90   1    1    red
    """
    found = starts(table(text, PARTS), backfill=backfill)
    assert found == {"r1": 0, "r2": 10, "g1": 2, "b1": 3, "b2": 13, "r3": 20}


def test_a_job_too_large_for_its_partition_is_rejected() -> None:
    text = """
        job submit runs gpus cpus tasks group
        r1  0      10   1    1    3     red
        b1  0      10   2    1    1     blue
    """
    assert starts(table(text, PARTS)) == {"r1": None, "b1": None}


def four_gpus(**changes: object) -> ClusterSpec:
    quotas = {"red": Quota(2.0, 3.0), "green": Quota(2.0)}
    cluster = ClusterSpec("four", (NodeGroup("n", 4, cpus=8.0, gpus=1.0),), quotas=quotas)
    return replace(cluster, **changes)  # type: ignore[arg-type]


def test_jobs_inside_their_guarantee_come_first_then_those_that_borrow() -> None:
    """At 10 s all is free. In order of arrival: r1 and r2 are red's guarantee, g1 is green's; then r3 borrows."""
    text = """
        job submit runs gpus cpus tasks group
        x   0      10   1    1    4     -
        r1  1      10   1    1    1     red
        r2  2      20   1    1    1     red
        r3  3      10   1    1    1     red
        g1  4      10   1    1    1     green
        g2  5      10   1    1    1     green
    """
    found = starts(table(text, four_gpus()))
    assert found == {"x": 0, "r1": 10, "r2": 10, "g1": 10, "g2": 10, "r3": 20}


def test_borrowing_goes_up_to_the_limit_and_blocks_only_the_own_group() -> None:
    """red borrows one GPU (limit 3) and no fourth; green's g1, behind r4 in the queue, takes the last."""
    text = """
        job submit runs gpus cpus tasks group
        r1  0      10   1    1    1     red
        r2  0      20   1    1    1     red
        r3  0      30   1    1    1     red
        r4  0      10   1    1    1     red
        g1  1      50   1    1    1     green
    """
    assert starts(table(text, four_gpus())) == {"r1": 0, "r2": 0, "r3": 0, "r4": 10, "g1": 1}
    result = simulate(table(text, four_gpus()), details=True)
    r4 = result.jobs.row(3, named=True)
    assert (r4["wait_quota_s"], r4["wait_s"]) == (10, 10)


def test_without_borrowing_the_guarantee_is_the_limit() -> None:
    text = """
        job submit runs gpus cpus tasks group
        r1  0      10   1    1    2     red
        r2  0      10   1    1    1     red
        r3  0      10   1    1    3     red
    """
    assert starts(table(text, four_gpus(borrowing=False))) == {"r1": 0, "r2": 10, "r3": None}


def test_easy_inside_a_group_does_not_delay_its_job_that_is_over_the_limit() -> None:
    """r1 and r2 hold 2 of red's 3; r3 asks for 2 and waits for r2, due at 20 s. r4 ends by then, r5 does not.

    Of the limit of 3, r1's GPU and r3's two leave nothing at 20 s, so r5, which would end at 21 s, waits for r3.
    """
    text = """
        job submit runs gpus cpus tasks group
        r1  0      100  1    1    1     red
        r2  0      20   1    1    1     red
        r3  1      10   1    1    2     red
        r4  2      18   1    1    1     red
        r5  2      19   1    1    1     red
    """
    assert starts(table(text, four_gpus()), backfill="easy") == {"r1": 0, "r2": 0, "r3": 20, "r4": 2, "r5": 30}
    assert starts(table(text, four_gpus())) == {"r1": 0, "r2": 0, "r3": 20, "r4": 30, "r5": 30}


def test_what_does_not_fit_anywhere_does_not_count_against_the_limit() -> None:
    """red may hold 3. Behind the head b4, r2 (3 GPUs on one node) fits nowhere; r3 starts at once and ends by 50 s."""
    cluster = ClusterSpec("two", (NodeGroup("n", 2, cpus=8.0, gpus=4.0),), quotas={"red": Quota(0.0, 3.0)})
    text = """
        job submit runs gpus cpus group
        b1  0      50   2    1    -
        b2  0      50   2    1    -
        b3  0      50   2    1    -
        b4  1      10   4    1    -
        r2  2      10   3    1    red
        r3  3      40   1    1    red
    """
    # b3 lies on the second node, which has 2 GPUs left; b4 (a whole node) may start at 50 s.
    found = starts(table(text, cluster), backfill="easy")
    assert (found["b4"], found["r3"]) == (50, 3)


def test_what_the_head_asks_for_counts_against_the_limit() -> None:
    """red may hold 3, and its r2 (3 GPUs of a node) is the head: r3 may not pass it, though it would end in time."""
    cluster = ClusterSpec("two", (NodeGroup("n", 2, cpus=8.0, gpus=4.0),), quotas={"red": Quota(0.0, 3.0)})
    text = """
        job submit runs gpus cpus group
        x1  0      50   2    1    -
        x2  0      50   2    1    -
        x3  0      50   2    1    -
        r2  2      10   3    1    red
        r3  3      40   1    1    red
    """
    assert starts(table(text, cluster), backfill="easy")["r3"] == 60


def test_what_is_borrowed_is_shared_by_weight() -> None:
    """At 10 s six GPUs are free and nobody has a guarantee: red, of weight 2, gets two for each one of green's.

    In the order of arrival red's four would come first and green's two would follow. By turns: r1 and g1 (nobody has
    anything; ties by arrival), then red has 1/2 and green 1/1: r2; red has 2/2, as green: r3 (before g2); then g2, r4.
    With five GPUs r4 is left out, without weights g2 is.
    """
    text = """
        job submit runs gpus cpus tasks group
        x   0      10   1    1    5     -
        r1  1      10   1    1    1     red
        r2  2      10   1    1    1     red
        r3  3      10   1    1    1     red
        r4  4      10   1    1    1     red
        g1  5      10   1    1    1     green
        g2  6      10   1    1    1     green
    """
    nodes = (NodeGroup("n", 5, cpus=8.0, gpus=1.0),)
    shared = ClusterSpec("five", nodes, quotas={"red": Quota(0.0, weight=2.0), "green": Quota(0.0)})
    assert starts(table(text, shared)) == {"x": 0, "r1": 10, "r2": 10, "r3": 10, "r4": 20, "g1": 10, "g2": 10}
    plain = ClusterSpec("five", nodes, quotas={"red": Quota(0.0), "green": Quota(0.0)})
    assert starts(table(text, plain)) == {"x": 0, "r1": 10, "r2": 10, "r3": 10, "r4": 10, "g1": 10, "g2": 20}


def test_a_guarantee_is_not_borrowed_and_jobs_without_a_quota_take_turns_as_one_group() -> None:
    """At 10 s five GPUs are free. g1 is green's own. Then, by turns from nothing: r1, a, g2 (1 of weight 1 each), b."""
    text = """
        job submit runs gpus cpus tasks group
        x   0      10   1    1    5     -
        r1  1      10   1    1    1     red
        r2  2      10   1    1    1     red
        r3  3      10   1    1    1     red
        a   4      10   1    1    1     -
        b   5      10   1    1    1     none
        g1  6      10   1    1    1     green
        g2  7      10   1    1    1     green
    """
    nodes = (NodeGroup("n", 5, cpus=8.0, gpus=1.0),)
    quotas = {"red": Quota(0.0, weight=1.0), "green": Quota(1.0, weight=1.0)}
    found = starts(table(text, ClusterSpec("five", nodes, quotas=quotas)))
    # After g1, r1, a and g2 one GPU is left: all have borrowed 1, and r2 is the first of them.
    assert {name for name, start_s in found.items() if start_s == 10} == {"g1", "r1", "a", "g2", "r2"}


def test_reclaiming_stops_borrowers_and_leaves_each_group_its_guarantee() -> None:
    """red holds 3, one borrowed; green's two come back to it: one is free, the other is taken from red's latest."""
    text = """
        job submit runs gpus cpus tasks group
        r1  0      50   1    1    1     red
        r2  1      50   1    1    1     red
        r3  2      50   1    1    1     red
        g1  3      20   1    1    1     green
        g2  4      20   1    1    1     green
        g3  5      20   1    1    1     green
    """
    trace = table(text, four_gpus())
    assert starts(trace)["g2"] == 23
    result = simulate(trace, preemption=Preemption(("quota",)), details=True)
    assert result.jobs["start_s"].to_list() == [0, 1, 2, 3, 4, 23]
    stopped = result.tables["attempts"].filter(result.tables["attempts"]["ended"] == "preempted").to_dicts()
    assert [(row["job"], row["start_s"], row["end_s"], row["work_s"], row["lost_s"]) for row in stopped] == [
        (2, 2, 4, 2, 0)
    ]
    # At 23 s g1 ends and g3 is inside green's guarantee, so it is first; r3 borrows the GPU that g2 leaves at 24 s.
    assert result.jobs["end_s"].to_list() == [50, 51, 72, 23, 24, 43]


# --- the power cap ---------------------------------------------------------------------------------------------------


def capped(watts: float) -> ClusterSpec:
    """Four GPUs of 100 W when busy, 20 W idle, on a node of 50 W: 130 W idle, 80 W for each GPU in use."""
    group = NodeGroup("n", 1, cpus=8.0, gpus=4.0, gpu_type="x", idle_w=50.0, peak_w=50.0)
    return ClusterSpec("capped", (group,), gpu_types={"x": GpuType(idle_w=20.0, peak_w=100.0)}, power_cap_w=watts)


def test_the_power_cap_holds_jobs_back() -> None:
    """130 W idle and 80 W a GPU: under 300 W two GPUs may be busy, although four are there.

    From 0 to 10 s c lacks watts and d waits for its turn behind c; from 10 to 20 s d lacks them.
    """
    text = """
        job submit runs gpus cpus
        a   0      10   1    1
        b   0      20   1    1
        c   0      10   1    1
        d   0      10   1    1
    """
    trace = table(text, capped(300.0))
    result = simulate(trace, details=True)
    assert result.jobs["start_s"].to_list() == [0, 0, 10, 20]
    assert result.jobs["wait_quota_s"].to_list() == [0, 0, 10, 10]
    assert result.jobs["wait_queue_s"].to_list() == [0, 0, 0, 10]
    assert starts(table(text, capped(1000.0))) == {"a": 0, "b": 0, "c": 0, "d": 0}


HUNGRY = """
    job submit runs gpus cpus
    a   0      20   2    1
    b   1      10   3    1
    c   2      18   1    1
    d   3      40   1    1
    e   3      19   1    1
    f   4      10   1    1
"""


def test_a_job_that_lacks_watts_is_not_overtaken_by_what_would_delay_it() -> None:
    """Three GPUs may be busy. b (3) gets its watts at 20 s. c ends by then; d and e do not, and take turns after b.

    At 30 s b ends, and d, e and f start. Without backfilling c waits for b, too, and f for the end of d, e or c.
    """
    trace = table(HUNGRY, capped(130.0 + 3 * 80.0))
    assert starts(trace, backfill="easy") == {"a": 0, "b": 20, "c": 2, "d": 30, "e": 30, "f": 30}
    assert starts(trace) == {"a": 0, "b": 20, "c": 30, "d": 30, "e": 30, "f": 48}


def test_what_the_head_leaves_of_the_watts_may_be_used_beyond_its_start() -> None:
    """b needs 2 of 3 busy GPUs and waits for a. One is left beside it: d takes it and e, as long, no more."""
    trace = table(HUNGRY.replace("10   3    1", "10   2    1"), capped(130.0 + 3 * 80.0))
    # c holds the third GPU from 2 to 20 s, so at 20 s two are free for b and one for d; e and f follow b at 30 s.
    assert starts(trace, backfill="easy") == {"a": 0, "b": 20, "c": 2, "d": 20, "e": 30, "f": 30}


def test_a_head_that_lacks_watts_is_not_delayed_by_other_partitions() -> None:
    """Three GPUs may be busy in all. red's r2 (3 GPUs) waits for the watts of r1 until 20 s; g1 would delay it."""
    kinds = {"x": GpuType(idle_w=20.0, peak_w=100.0)}
    group = NodeGroup("r", 1, cpus=8.0, gpus=3.0, gpu_type="x", owner="red")
    cluster = ClusterSpec(
        "parts", (group, replace(group, name="g", owner="green")), gpu_types=kinds, power_cap_w=120 + 3 * 80.0
    )
    text = """
        job submit runs gpus cpus group
        r1  0      20   1    1    red
        r2  1      10   3    1    red
        g1  2      30   1    1    green
        g2  3      10   1    1    green
    """
    found = starts(table(text, cluster), backfill="easy")
    assert found == {"r1": 0, "r2": 20, "g1": 30, "g2": 3}


def test_a_job_that_needs_more_than_the_cap_is_rejected() -> None:
    text = """
        job submit runs gpus cpus
        a   0      10   3    1
        b   0      20   2    1
        c   0      10   5    1
    """
    trace = table(text, capped(300.0))
    assert starts(trace) == {"a": None, "b": 0, "c": None}
    reasons = simulate(trace).jobs["reason"].to_list()
    assert reasons == ["draws more than the power cap allows", None, "needs more than the cluster 'capped' has"]


# --- plans -----------------------------------------------------------------------------------------------------------


def test_reasons_of_a_plan_name_the_quota() -> None:
    text = """
        job submit runs gpus cpus tasks group
        r1  0      10   1    1    3     red
        r2  0      10   1    1    1     red
    """
    cluster = four_gpus()
    state = waiting_state(table(text, cluster), Settings())
    proposed = plan(state.snapshot(0.0), Settings())
    assert [start.row for start in proposed.starts] == [0]
    assert proposed.skipped == ((1, Reason.OVER_QUOTA),)


def test_check_plan_finds_what_is_over_a_limit() -> None:
    text = """
        job submit runs gpus cpus tasks group
        r1  0      10   1    1    3     red
        r2  0      10   1    1    1     red
    """
    snapshot = waiting_state(table(text, four_gpus()), Settings()).snapshot(0.0)
    starts_both = (Start(0, ((0, 1), (1, 1), (2, 1))), Start(1, ((3, 1),)))
    assert check_plan(snapshot, Plan(0, starts_both[:1])) == []
    assert check_plan(snapshot, Plan(0, starts_both)) == ["row 1 is over the limit of group 'red'"]


def test_check_plan_finds_what_is_over_the_power_cap() -> None:
    snapshot = waiting_state(table("job submit runs gpus cpus\na 0 9 2 1\nb 0 9 1 1", capped(300.0)), Settings())
    both = (Start(0, ((0, 1),)), Start(1, ((0, 1),)))
    assert check_plan(snapshot.snapshot(0.0), Plan(0, both)) == ["row 1 is over the power cap"]


def test_orderings_decide_among_those_that_borrow() -> None:
    """At 10 s r2 (80 s) would borrow, and g2 (5 s) has no quota: under SJF g2 goes first, under FCFS r2."""
    text = """
        job submit runs gpus cpus tasks group
        x   0      10   1    1    1     -
        r1  0      99   1    1    2     red
        g1  0      99   1    1    1     green
        r2  1      80   1    1    1     red
        g2  2      5    1    1    1     -
    """
    assert starts(table(text, four_gpus()), policy="sjf")["g2"] == 10
    assert starts(table(text, four_gpus()))["r2"] == 10
