"""The engine on hand-computed cases: what it does when, and what its options mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shunter.scheduler import layout as at
from shunter.scheduler.errors import TraceError, UsageError
from shunter.sim.clock import EventClock, Order
from shunter.sim.engine import Options, Simulation
from shunter.sim.workload import capacity_of, prepare
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs, pool
from tests.properties.recorder import record
from tests.properties.test_twin import Witness, starts_of
from tests.scheduler.cases import settings, starts, table


def test_fcfs_waits_for_the_head() -> None:
    """b needs both processors and so waits for a; c could run beside a but may not overtake."""
    text = """
        job submit runs tasks
        a   0      10   1
        b   1      5    2
        c   2      3    1
    """
    assert starts(table(text, pool(2))) == {"a": 0, "b": 10, "c": 15}


def test_ends_are_taken_in_before_arrivals_and_one_pass_decides() -> None:
    """At 10 s a ends and both c and d arrive: one pass sees them all, and SJF takes the shortest."""
    text = """
        job submit runs tasks
        a   0      10   1
        c   10     50   1
        d   10     20   1
    """
    trace = table(text, pool(1))
    assert starts(trace, policy="sjf") == {"a": 0, "d": 10, "c": 30}
    run = record(prepare(trace, trace.cluster), Options(settings("sjf")))
    assert [snapshot.now_s for snapshot in run.snapshots] == [0, 10, 30, 80]


def test_per_event_decides_after_every_arrival() -> None:
    """The same instant, event by event: a's expected end has come, so c starts before d has even arrived."""
    text = """
        job submit runs tasks
        a   0      10   1
        c   10     50   1
        d   10     20   1
    """
    assert starts(table(text, pool(1)), policy="sjf", ties="per-event") == {"a": 0, "c": 10, "d": 60}


def test_per_event_frees_an_overrun_job_only_at_its_end() -> None:
    """a's request ends at 4 s, a itself at 10 s: c, which arrives at 6 s, has to wait for that."""
    text = """
        job submit runs asks tasks
        a   0      10   4    1
        c   6      5    5    1
    """
    assert starts(table(text, pool(1)), ties="per-event") == {"a": 0, "c": 10}


def test_interval_puts_passes_off() -> None:
    """Passes at 0, 10 and 20 s: b arrives at 3 s and starts at 10 s; a ends at 12 s, so c (at 4 s) starts at 20 s."""
    text = """
        job submit runs tasks
        a   0      12   1
        b   3      30   1
        c   4      5    1
    """
    trace = table(text, pool(2))
    assert starts(trace, interval_s=10.0) == {"a": 0, "b": 10, "c": 20}
    run = record(prepare(trace, trace.cluster), Options(settings(), interval_s=10.0))
    assert run.passes_put_off > 0
    assert all(gap >= 10 for gap in np.diff([snapshot.now_s for snapshot in run.snapshots]))


def test_overrun_goes_on_unless_jobs_are_killed_at_their_limit() -> None:
    text = """
        job submit runs asks tasks
        a   0      10   4    1
        b   0      5    5    1
    """
    assert starts(table(text, pool(1))) == {"a": 0, "b": 10}
    assert starts(table(text, pool(1, kill_at_limit=True))) == {"a": 0, "b": 4}


def test_job_larger_than_the_cluster_is_rejected_and_blocks_nobody() -> None:
    text = """
        job submit runs tasks
        a   0      10   3
        b   0      5    1
    """
    assert starts(table(text, pool(2))) == {"a": None, "b": 0}


def test_job_of_no_length_ends_where_it_starts() -> None:
    """a and b run one after the other within the same second, though there is one processor."""
    text = """
        job submit runs tasks
        a   5      0    1
        b   5      0    1
        c   5      3    1
    """
    for backfill in ("none", "easy", "conservative"):
        assert starts(table(text, pool(1)), backfill=backfill) == {"a": 5, "b": 5, "c": 5}


def test_dynamic_order_is_worked_out_again_at_every_pass() -> None:
    """WFP3, −(wait/request)³·n. At 10 s: b −(9/100)³·1 = −0.0007, c −(8/2)³ = −64 → c. At 20 s only b is left.

    At 1 s, with nothing waited, all scores are 0: an order fixed at submission would have been b, c.
    """
    text = """
        job submit runs asks tasks
        a   0      10   10   1
        b   1      100  100  1
        c   2      10   2    1
    """
    assert starts(table(text, pool(1)), policy="wfp3") == {"a": 0, "c": 10, "b": 20}


def test_wfp3_overtakes_as_waits_grow() -> None:
    """After a: b (waited 90 of 1000) is behind c (waited 50 of 100); d (at 210 s waited 10 of 10) beats b at 250 s.

    250 s: b −(240/1000)³ = −0.0138, d −(50/10)³ = −125.
    """
    text = """
        job submit runs asks tasks
        a   0      100  100  1
        b   10     1000 1000 1
        c   50     150  100  1
        d   200    5    10   1
    """
    assert starts(table(text, pool(1)), policy="wfp3") == {"a": 0, "c": 100, "d": 250, "b": 255}


def test_fair_share_turns_to_whoever_had_less() -> None:
    """ada runs first; when her job ends she has 100 processor-seconds and bob none, so bob's later job goes first.

    At 150 s bob has about 50 and ada about 100 (a week's half-life takes away little): bob again, then ada.
    """
    text = """
        job submit runs tasks user
        a1  0      100  1     ada
        a2  1      10   1     ada
        b1  2      50   1     bob
        b2  3      20   1     bob
    """
    assert starts(table(text, pool(1)), policy="fairshare") == {"a1": 0, "b1": 100, "b2": 150, "a2": 170}


def test_an_overtaking_start_is_counted_as_backfilled() -> None:
    text = """
        job submit runs tasks
        a   0      10   1
        b   0      5    2
        c   0      3    1
    """
    trace = table(text, pool(2))
    simulation = Simulation(prepare(trace, trace.cluster), Options(settings(backfill="easy")))
    assert simulation.run()
    assert simulation.backfilled.tolist() == [False, False, True]


def test_run_can_be_stopped_and_taken_up_again() -> None:
    text = "job submit runs tasks\n" + "\n".join(f"j{i} {i} 7 1" for i in range(50))
    trace = table(text, pool(3))
    workload = prepare(trace, trace.cluster)
    whole, pieces = Simulation(workload, Options()), Simulation(workload, Options())
    assert whole.run()
    stops = 0
    while not pieces.run(lambda: True, every=1):
        stops += 1
    assert stops > 40
    np.testing.assert_array_equal(pieces.state.jobs_f[at.START_S], whole.state.jobs_f[at.START_S])
    assert pieces.num_events == whole.num_events


def test_events_of_an_instant_come_in_order() -> None:
    clock, seen = EventClock(), []
    note = [lambda event: seen.append((clock.now, event.value))]
    for order in (Order.PASS, Order.ARRIVAL, Order.END, Order.OUTAGE, Order.STOP):
        clock.at(0.1 + 0.2, order, note, order.name)
    clock.at(0.25, Order.PASS, note, "before")
    assert clock.pending[0] == (0.25, Order.PASS, "before")
    while clock.pending:
        clock.step()
    assert [value for _, value in seen] == ["before", "END", "STOP", "OUTAGE", "ARRIVAL", "PASS"]
    assert {time_s for time_s, _ in seen} == {0.25, 0.1 + 0.2}  # exactly the times asked for
    assert clock.instant_is_over


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ties": "instants"}, "unknown --ties 'instants'; did you mean 'instant'?"),
        ({"interval_s": -1.0}, "interval -1.0 is not a number of seconds of at least 0"),
        ({"interval_s": math.inf}, "interval inf is not a number of seconds of at least 0"),
        (
            {"ties": "per-event", "interval_s": 5.0},
            "--ties per-event makes a pass at every event: it does not go with --interval",
        ),
    ],
)
def test_options_that_do_not_exist(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        Options(**options)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_no_jobs_is_an_error() -> None:
    empty = Trace("empty", make_jobs({"job_id": [], "submit_s": [], "duration_s": []}), pool(1))
    with pytest.raises(TraceError, match="empty: no jobs to replay"):
        prepare(empty, empty.cluster)


def test_workload_of_a_log_without_requests_and_users() -> None:
    text = """
        job submit runs asks tasks user queue
        a   0      10   -    2     -    -
        b   0      5    8    1     bob  long
        c   0      9    8    1     ada  short
    """
    workload = prepare(table(text, pool(4, kill_at_limit=True)), pool(4, kill_at_limit=True))
    assert workload.columns.requested_s.tolist() == [10, 8, 8]
    assert workload.run_s.tolist() == [10, 5, 8]
    assert workload.killed.tolist() == [False, False, True]
    assert workload.columns.user_idx.tolist() == [-1, 1, 0]
    assert workload.columns.queue_idx.tolist() == [-1, 0, 1]
    assert workload.columns.processors.tolist() == [2, 1, 1]
    clairvoyant = prepare(workload.trace, workload.cluster, clairvoyant=True)
    assert clairvoyant.columns.expected_s.tolist() == [10, 5, 8]


def test_gpus_are_the_processors_of_a_gpu_cluster() -> None:
    cluster = ClusterSpec("gpu", (NodeGroup("g", 2, cpus=32.0, gpus=4.0), NodeGroup("c", 1, cpus=64.0)))
    text = """
        job submit runs tasks cpus gpus
        a   0      10   2     8    1.0
        b   0      10   1     4    0.5
    """
    workload = prepare(table(text, cluster), cluster)
    assert workload.columns.processors.tolist() == [2, 0.5]
    capacity = capacity_of(cluster)
    assert capacity.tracked == (True, False, True)
    assert capacity.units[0].tolist() == [32_000, 32_000, 64_000]


@pytest.mark.parametrize("nodes", [1, 8, 3000])
@pytest.mark.parametrize("placement", ["first-fit", "best-fit", "worst-fit", "packed"])
@pytest.mark.parametrize("backfill", ["none", "easy", "conservative"])
def test_a_job_that_needs_nothing_starts_at_once_on_any_number_of_nodes(
    nodes: int, placement: str, backfill: str
) -> None:
    """a asks for CPUs where only GPUs are counted; b takes a GPU."""
    cluster = ClusterSpec("gpus only", (NodeGroup("g", nodes, gpus=1.0),))
    text = """
        job submit runs tasks cpus gpus
        a   0      1    5     4    0
        b   1      1    1     0    1
    """
    assert starts(table(text, cluster), placement=placement, backfill=backfill) == {"a": 0, "b": 1}


def test_an_arrival_that_the_interval_put_off_is_not_forgotten() -> None:
    """b is the blocked head. c may pass it under SJF and is seen at 10 s, although the latest arrival, d, may not."""
    text = """
        job submit runs tasks
        a   0      100  1
        b   0      150  2
        c   3      10   1
        d   5      200  1
    """
    assert starts(table(text, pool(2)), policy="sjf", interval_s=10.0)["c"] == 10


def test_conservative_with_an_interval_equals_its_twin() -> None:
    """A job that starts later than promised, because its pass was put off, also ends later in the profile."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        n = int(rng.integers(2, 12))
        rows = ""
        for i in range(n):
            runs = rng.choice([1, 2, 5, 13, 30])
            rows += f"j{i} {rng.integers(0, 30)} {runs} {runs * rng.choice([1, 4])} {rng.integers(1, 8)}\n"
        trace = table("job submit runs asks tasks\n" + rows, pool(8))
        workload, how = prepare(trace, trace.cluster), Options(settings("fcfs", "conservative"), interval_s=20.0)
        np.testing.assert_array_equal(starts_of(Simulation(workload, how)), starts_of(Witness(workload, how)))
