"""Backfilling on ten processors, every reservation worked out by hand.

The situation is that of Mu'alem & Feitelson (IEEE TPDS 12(6), 2001): one job runs, the head of the queue is too wide
for what is left, narrow jobs behind it want the idle processors.
"""

from __future__ import annotations

import pytest

from shunter.scheduler.decide import Settings, plan
from shunter.scheduler.layout import CUT_SHORT
from shunter.scheduler.plans import Extend, Plan, Reason
from shunter.sim.engine import Options, Simulation
from shunter.sim.workload import prepare
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, pool
from tests.scheduler.cases import settings, starts, table, waiting_state

# a holds 6 of 10 until 100 s; the head b needs 8, so its shadow time is 100 s, and 10 − 8 = 2 processors are extra.
BLOCKED = """
    job submit runs asks tasks
    a   0      100  100  6
    b   0      50   50   8
"""


def first_plan(text: str, chosen: Settings, cluster: ClusterSpec | None = None) -> Plan:
    state = waiting_state(table(text, cluster or pool(10)), chosen)
    return plan(state.snapshot(0.0), chosen)


def started(text: str, chosen: Settings) -> str:
    """Rows started at 0 s, as letters, with a star behind those that overtook a waiting job."""
    return " ".join("abcdefgh"[start.row] + "*" * start.backfilled for start in first_plan(text, chosen).starts)


@pytest.mark.parametrize(
    ("backfill", "candidate", "expected"),
    [
        ("none", "c 0 10 10 1", "a"),
        ("easy", "c 0 90 90 4", "a c*"),  # ends before the shadow time
        ("easy", "c 0 99 100 4", "a c*"),  # ends at the shadow time, by its request
        ("easy", "c 0 10 101 4", "a"),  # ends in time, but does not say so
        ("easy", "c 0 500 500 2", "a c*"),  # as wide as the extra processors
        ("easy", "c 0 500 500 3", "a"),  # one too many
        ("easy", "c 0 10 10 5", "a"),  # only 4 are idle
        ("easy-noextra", "c 0 99 99 4", "a c*"),
        ("easy-noextra", "c 0 100 100 4", "a"),  # must end strictly before the shadow time
        ("easy-noextra", "c 0 500 500 1", "a"),  # extra processors are not used
        ("conservative", "c 0 500 500 2", "a c*"),
        ("conservative", "c 0 500 500 3", "a"),
    ],
)
def test_who_may_overtake_the_head(backfill: str, candidate: str, expected: str) -> None:
    assert started(BLOCKED + candidate, settings(backfill=backfill)) == expected


def test_extra_processors_are_used_once() -> None:
    """c takes the two extra processors; d would need them too, e ends at the shadow time and needs none."""
    text = BLOCKED + "c 0 500 500 2\nd 0 500 500 1\ne 0 100 100 2"
    assert started(text, settings(backfill="easy")) == "a c* e*"


def test_sjbf_tries_the_shortest_candidate_first() -> None:
    """c and d both fit into the 4 idle processors until the shadow time, but not together."""
    text = BLOCKED + "c 0 90 90 4\nd 0 40 40 3"
    assert started(text, settings(backfill="easy")) == "a c*"
    assert started(text, settings(backfill="easy-sjbf")) == "a d*"


def test_depth_is_the_number_of_candidates_behind_the_head() -> None:
    text = BLOCKED + "c 0 10 10 5\nd 0 10 10 1\ne 0 10 10 1"
    assert started(text, settings(backfill="easy")) == "a d* e*"
    assert started(text, settings(backfill="easy", depth=1)) == "a"
    assert started(text, settings(backfill="easy", depth=2)) == "a d*"


def test_head_starts_at_the_shadow_time() -> None:
    found = starts(table(BLOCKED + "c 0 500 500 2\nd 0 90 90 2", pool(10)), backfill="easy")
    assert found == {"a": 0, "c": 0, "d": 0, "b": 100}


def test_all_jobs_that_end_at_the_shadow_time_count_as_extra() -> None:
    """The head needs one of a's and c's processors only, yet both end at 100 s: 10 − 5 = 5 are extra then."""
    text = """
        job submit runs asks tasks
        a   0      100  100  3
        b   0      100  100  3
        c   0      50   50   5
        d   0      500  500  4
    """
    assert started(text, settings(backfill="easy")) == "a b d*"


def test_overdue_jobs_count_as_free_at_once_for_the_shadow_time() -> None:
    """a runs 40 s past its request. At 30 s its expected end (20 s) is past, so the shadow time is now: nobody passes.

    At 0 s c (asks for 25 s) does not fit before 20 s and is no extra job either: 10 − 8 = 2 < 3.
    """
    text = """
        job submit runs asks tasks
        a   0      60   20   6
        b   0      50   50   8
        c   0      10   25   3
        d   30     1    1    3
    """
    assert starts(table(text, pool(10)), backfill="easy") == {"a": 0, "b": 60, "c": 110, "d": 110}


CONSERVATIVE = """
    job submit runs asks tasks
    a   0      60   100  6
    b   0      50   50   8
    c   0      120  120  4
    d   0      500  500  2
    e   0      300  300  2
"""


def test_conservative_reserves_for_everybody() -> None:
    """b: 100 s, after a. c: 4 free until 100 s, then 2: 150 s. d: 2 are free for ever. e: 0 free from 100 to 150 s."""
    proposed = first_plan(CONSERVATIVE, settings(backfill="conservative"))
    assert [(start.row, start.backfilled) for start in proposed.starts] == [(0, False), (3, True)]
    assert [(promise.row, promise.start_s) for promise in proposed.reservations] == [(1, 100), (2, 150), (4, 150)]
    assert proposed.next_pass_s == 100
    assert proposed.skipped == ((1, Reason.NO_CAPACITY), (2, Reason.NO_CAPACITY), (4, Reason.WOULD_DELAY))


def test_conservative_compresses_when_a_job_ends_early() -> None:
    """a ends at 60 s: 8 are free, b moves from 100 to 60 s, and c and e from 150 s to b's new end, 110 s."""
    found = starts(table(CONSERVATIVE, pool(10)), backfill="conservative")
    assert found == {"a": 0, "d": 0, "b": 60, "c": 110, "e": 110}


def test_conservative_puts_off_an_overrun_job() -> None:
    """b is due at 20 s, but a runs on: its end is expected a minute later. At 50 s it does end, and b moves up."""
    text = """
        job submit runs asks tasks
        a   0      50   20   6
        b   0      30   30   8
    """
    trace = table(text, pool(10))
    assert starts(trace, backfill="conservative") == {"a": 0, "b": 50}
    state = waiting_state(trace, settings(backfill="conservative"))
    state.run_pass(0.0)
    proposed = plan(state.snapshot(20.0), settings(backfill="conservative"))
    assert proposed.extensions == (Extend(0, 80.0),)
    assert [(promise.row, promise.start_s) for promise in proposed.reservations] == [(1, 80.0)]


def test_easy_on_nodes_keeps_the_nodes_of_the_head() -> None:
    """Two nodes of 4: a holds node 0 until 100 s, the head b needs both; c (4 on node 1) may stay until then only."""
    nodes = ClusterSpec("two nodes", (NodeGroup("n", 2, cpus=4.0),))
    text = """
        job submit runs asks tasks
        a   0      100  100  4
        b   0      50   50   5
        c   0      {0}  {0}  2
    """
    # At 100 s first-fit gives b node 0 whole and 1 of node 1: 3 of node 1 are extra, so two may stay for ever.
    assert len(first_plan(text.format(500), settings(backfill="easy"), nodes).starts) == 2
    # Worst-fit gives b 3 of node 0 and 2 of node 1: two of node 1 remain.
    assert len(first_plan(text.format(500), settings(backfill="easy", placement="worst-fit"), nodes).starts) == 2
    wide = text.replace("{0}  2", "{0}  4")
    assert len(first_plan(wide.format(500), settings(backfill="easy"), nodes).starts) == 1
    assert len(first_plan(wide.format(100), settings(backfill="easy"), nodes).starts) == 2


def test_reasons() -> None:
    text = BLOCKED + "c 0 500 500 3\nd 0 500 500 3"
    assert first_plan(text, settings()).skipped == (
        (1, Reason.NO_CAPACITY),
        (2, Reason.BEHIND_HEAD),
        (3, Reason.BEHIND_HEAD),
    )
    assert first_plan(text, settings(backfill="easy", depth=1)).skipped == (
        (1, Reason.NO_CAPACITY),
        (2, Reason.WOULD_DELAY),
        (3, Reason.BEYOND_DEPTH),
    )


@pytest.mark.parametrize("backfill", ["easy", "conservative"])
def test_clairvoyant_reservations_count_with_actual_run_times(backfill: str) -> None:
    """b can start at 60 s, when a ends. c runs no longer than that, but its request says 300 s."""
    text = """
        job submit runs asks tasks
        a   0      60   200  6
        b   0      50   50   8
        c   0      60   300  4
    """
    trace: Trace = table(text, pool(10))
    assert starts(trace, backfill=backfill) == {"a": 0, "b": 60, "c": 110}
    assert starts(trace, backfill=backfill, clairvoyant=True) == {"a": 0, "b": 60, "c": 0}


def test_passes_that_the_depth_cut_short_are_counted() -> None:
    trace = table(BLOCKED + "c 0 10 10 5\nd 0 10 10 1", pool(10))
    simulation = Simulation(prepare(trace, trace.cluster), Options(settings(backfill="easy", depth=1)))
    assert simulation.run()
    assert simulation.state.counters[CUT_SHORT] == 1  # at 0 s c and d wait behind b; at 100 s only one is left
