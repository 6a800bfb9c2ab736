"""The Helios protocol against the recorded results of the original simulator: every job of every virtual cluster."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from shunter.sim.compat import check, helios

GOLDEN = Path(__file__).resolve().parents[2] / ".." / "shared" / "golden" / "lucid"
FILES = {"philly-week1-published-nodes": 8, "philly-2weeks-tight": 6}

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden results lie outside the repository")


@pytest.mark.parametrize(("name", "groups"), FILES.items())
def test_every_job_is_equal(name, groups):
    path = GOLDEN / f"{name}.jobs.csv.gz"
    result = check.summarise("lucid", name, check.virtual_clusters(path, check.nodes_of(path)))
    runs = groups * len(helios.POLICIES)
    assert result.unequal == ()
    assert (result.compared, result.equal, result.largest_difference) == (runs, runs, 0.0)


@pytest.mark.parametrize("name", FILES)
def test_summaries_are_equal(name):
    """Means, preemptions and makespans per virtual cluster, as printed to four decimals."""
    path = GOLDEN / f"{name}.jobs.csv.gz"
    jobs, nodes = helios.load(path), check.nodes_of(path)
    with (GOLDEN / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == name]
    runs = {policy: helios.run(jobs, nodes, policy) for policy in helios.POLICIES}
    for row in rows:
        run = runs[row["policy"]]
        mine = [i for i, group in enumerate(jobs.group) if group == row["vc"]]
        assert len(mine) == int(row["jobs"])
        assert (run.end_s - jobs.submit_s)[mine].mean() == pytest.approx(float(row["avg_jct"]), abs=1e-4)
        assert run.queue_s[mine].mean() == pytest.approx(float(row["avg_queue"]), abs=1e-4)
        assert run.preemptions[mine].sum() == int(row["preempts"])
