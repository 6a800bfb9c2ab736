"""``simulate --node-load`` and ``--hold-for`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shunter.cli.hold import Hold
from shunter.scheduler.errors import UsageError
from shunter.traces.tables import Trace, make_jobs, pool
from tests.e2e.conftest import Shunter


@pytest.fixture
def loads(tmp_path: Path) -> Path:
    """Two nodes: the first is busy in the first hour, the second in the second, and so on for two days."""
    path = tmp_path / "loads.csv"
    rows = [(600 * i, node, 0.9 if (i // 6) % 2 == node else 0.1) for i in range(288) for node in (0, 1)]
    path.write_text("time_s,node,cpu_utilisation\n" + "".join(f"{t},node-{n},{v}\n" for t, n, v in rows))
    return path


def replayed(shunter: Shunter, *options: object) -> dict[str, float]:
    ran = shunter("simulate", "demo:gpu", "--cluster", "2x8", "--quiet", "--json", *options)
    assert ran.code == 0, ran.err
    found: dict[str, float] = json.loads(ran.out)["runs"][0]["metrics"]
    return found


def test_other_work_slows_jobs_and_knowing_of_it_helps(shunter: Shunter, loads: Path) -> None:
    how = ("--backfill", "easy", "--placement", "least-loaded", "--window", "0:60")
    idle = replayed(shunter, *how)
    busy = {
        told: replayed(shunter, *how, "--node-load", loads, "--load-forecast", told)["avg_jct_s"]
        for told in ("none", "present", "usual", "learned", "perfect")
    }
    assert idle["avg_jct_s"] < min(busy.values())
    assert busy["present"] != busy["none"]
    ordered = replayed(shunter, *how, "--policy", "predicted-load", "--node-load", loads)
    assert ordered["jobs_completed"] == 60


def test_capacity_is_held_for_short_jobs(shunter: Shunter, tmp_path: Path) -> None:
    how = ("--backfill", "easy", "--window", "0:200")
    plain = replayed(shunter, *how)
    for forecast in ("usual", "learned", "perfect", "2"):
        held = replayed(
            shunter, *how, "--hold-for", "short:600", "--hold-forecast", forecast, "--out", tmp_path / forecast
        )
        assert held["jobs_completed"] == plain["jobs_completed"]
    manifest = json.loads((tmp_path / "2" / "manifest.json").read_text())
    assert manifest["settings"]["holding"]["told_by"] == "2"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--load-forecast", "perfect"), "--load-forecast needs the loads that are to be forecast: give --node-load"),
        (("--load-forecast", "presnt"), "unknown --load-forecast 'presnt'"),
        (("--node-load", "LOADS", "--cluster", "3x8"), "loads of 2 nodes, but cluster '3x8 gpus' has 3"),
        (("--node-load", "nowhere.csv"), "nowhere.csv"),
        (("--node-load", "MHZ"), "has to be a share of it, 0 to 1"),
        (("--node-load", "LOADS", "--load-forecast", "model:nowhere"), "nowhere"),
        (("--hold-for", "quick:5"), "expected short:SECONDS or priority:LEAST"),
        (("--hold-for", "short:0"), "means no job"),
        (("--hold-for", "short:600", "--hold-forecast", "crystal ball"), "expected usual, perfect, learned"),
        (("--hold-for", "short:600", "--hold-level", "1.5"), "--hold-level 1.5: expected a share between 0 and 1"),
        (("--hold-for", "short:600", "--hold-step", "0"), "--hold-step 0.0: expected a positive number"),
        (("--hold-for", "short:600", "--hold-forecast", "learned", "--hold-level", "0.8"), "one of 0.1, 0.5, 0.9"),
        (("--hold-for", "short:600", "--backfill", "conservative"), "does not go with quotas"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    options: tuple[str, ...], said: str, shunter: Shunter, loads: Path, tmp_path: Path
) -> None:
    mhz = tmp_path / "mhz.csv"
    mhz.write_text(loads.read_text().replace("0.9", "2400"))
    named = {"LOADS": loads, "MHZ": mhz}
    given = [named.get(option, option) for option in options]
    cluster = () if "--cluster" in options else ("--cluster", "2x8")
    ran = shunter("simulate", "demo:gpu", "--window", "0:50", "--quiet", *cluster, *given)
    assert ran.code == 2
    assert said in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


def test_short_jobs_are_told_by_the_default_request_where_there_is_none() -> None:
    """Run times, which nobody knows at submission, say nothing then."""
    jobs = {"job_id": ["a", "b"], "submit_s": [0.0, 5.0], "duration_s": [60.0, 9000.0], "cpus": [1.0, 1.0]}
    trace = Trace("no requests", make_jobs(jobs), pool(2))
    by_run_time = Hold("short:600").resolve(trace, trace.cluster, None)
    assert by_run_time is not None
    assert by_run_time.favoured.tolist() == [True, False]
    with pytest.raises(UsageError, match="means no job"):
        Hold("short:600").resolve(trace, trace.cluster, None, default_request_s=86_400.0)
