"""The engine against whole-trace replays of other simulators: the start of every job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.policies.registry import choose_ordering
from shunter.sim.compat import check
from shunter.sim.engine import Options, Simulation
from shunter.sim.workload import prepare
from shunter.traces.read import read
from shunter.traces.tables import JobTable, Trace, pool

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
GOLDEN = SHARED / "golden" / "swf-replay"
LOG = SHARED / "traces" / "swf" / "SDSC-SP2-1998-4.2-cln.swf.gz"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden results lie outside the repository")
@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("sdsc-sp2-first20000-tiefree-ms.pyss.csv.gz", 4),
        ("sdsc-sp2-first20000.pyss.csv.gz", 4),
        ("sdsc-sp2-first20000.accasim.csv.gz", 2),
    ],
)
def test_every_start_is_equal(name: str, runs: int) -> None:
    result = check.summarise("swf-replay", name, check.whole_trace(GOLDEN / name))
    assert result.unequal == ()
    assert (result.compared, result.equal, result.largest_difference) == (runs, runs, 0.0)


@pytest.fixture(scope="module")
def sdsc_sp2() -> Trace:
    """The whole log as pyss reads it: no job runs longer than it asked for."""
    trace = read(LOG)
    asked_s = pl.col("requested_s").fill_null(pl.col("duration_s"))
    frame = trace.jobs.frame.with_columns(duration_s=pl.min_horizontal("duration_s", asked_s))
    return replace(trace, jobs=JobTable(frame))


@pytest.mark.skipif(not LOG.is_file(), reason="the archive's logs lie outside the repository")
@pytest.mark.parametrize(
    ("backfill", "mean_wait_s"), [("none", 1_536_403.1), ("easy", 20_503.2), ("conservative", 21_921.0)]
)
def test_mean_waits_of_the_whole_log(sdsc_sp2: Trace, backfill: str, mean_wait_s: float) -> None:
    """54,034 valid jobs, run = min(run, estimate), a pass after every event."""
    workload = prepare(sdsc_sp2, pool(128))
    assert workload.num_jobs == 54_034
    simulation = Simulation(workload, Options(Settings(choose_ordering("fcfs"), backfill), ties="per-event"))
    assert simulation.run()
    wait_s = simulation.state.jobs_f[at.START_S] - workload.columns.submit_s
    assert wait_s.mean() == pytest.approx(mean_wait_s, abs=0.05)  # printed to one decimal
