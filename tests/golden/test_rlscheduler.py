"""The RLScheduler protocol against the recorded results of the original simulator: every window, start and step."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.sim.compat import check, rlscheduler

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
GOLDEN = SHARED / "golden" / "rlscheduler"

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden results lie outside the repository")


@pytest.fixture(scope="module")
def logs() -> check.Logs:
    return check.Logs(SHARED / "traces" / "swf")


@pytest.mark.parametrize(
    ("part", "runs"),
    [(check.windows, 2412), (check.start_times, 170), (check.trajectories, 12), (check.published, 40)],
    ids=["windows", "start_times", "trajectories", "published"],
)
def test_every_run_is_equal(part, runs, logs):
    result = check.summarise("rlscheduler", part.__name__, part(GOLDEN, logs))
    assert result.unequal == ()
    assert (result.compared, result.equal) == (runs, runs)
    assert result.largest_difference <= check.RELATIVE


def test_loaded_sizes_are_those_recorded(logs):
    for golden in check.read_json(GOLDEN / "traces.json"):
        trace = logs(golden["trace"])
        assert len(trace) == golden["jobs_loaded"]
        assert trace.lines == golden["data_lines"]
        assert (trace.num_nodes, trace.max_procs) == (golden["max_nodes"], golden["max_procs"])
        assert trace.procs_per_node == golden["procs_per_node"]
        assert trace.maxima["run"] == golden["max_exec_time"]


def test_controls_that_the_published_tables_leave_out(logs):
    """Mean bounded slowdown of the ten published windows with backfilling, to the printed digit."""
    for name, jobs, policy, mean in (
        ("lublin_256", None, "saf", 54.0),
        ("lublin_256", None, "sqrt-area", 53.3),
        ("SDSC-SP2-1998-4.2-cln", 10_000, "largest", 475),
    ):
        trace = logs(name)
        starts = rlscheduler.published_starts(1, jobs or len(trace), 1024, 10)
        runs = [rlscheduler.run(trace, start, 1024, policy, backfill=True) for start in starts]
        found = sum(run.metrics["avg_bsld"] for run in runs) / len(runs)
        assert round(found, 1 if mean < 100 else None) == mean, (name, policy, found)


def test_true_waiting_time_beats_the_published_formulas(logs):
    """The published WFP3 and UNICEP never see a wait; without backfilling the true one makes both better."""
    trace = logs("SDSC-SP2-1998-4.2-cln")
    starts = rlscheduler.published_starts(1, 10_000, 1024, 10)
    mean = {}
    for policy in ("wfp3", "wfp3-published", "unicep", "unicep-published"):
        runs = [rlscheduler.run(trace, start, 1024, policy, backfill=False) for start in starts]
        mean[policy] = sum(run.metrics["avg_bsld"] for run in runs) / len(runs)
    assert mean["wfp3"] < mean["wfp3-published"]
    assert mean["unicep"] < mean["unicep-published"]
