"""The one entry to all protocols, and the program that compares them with golden results."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from shunter.scheduler.errors import TraceError, UsageError
from shunter.sim.compat import PROTOCOLS, check, helios, load_source, run_protocol
from shunter.traces.tables import Trace, make_jobs, pool

LOG = """; MaxNodes: 4
; MaxProcs: 4
1 0 -1 100 4 -1 -1 4 100 -1 1 3 -1 7 1 1 -1 -1
2 10 -1 50 2 -1 -1 2 50 -1 1 -1 -1 7 1 1 -1 -1
3 20 -1 5 2 -1 -1 2 5 -1 1 3 -1 7 1 1 -1 -1
"""


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "small.swf"
    path.write_text(LOG)
    return path


def test_rlscheduler_run(log):
    run = run_protocol("rlscheduler", log, policy="fcfs")
    assert run["jobs"].select("job_id", "start_s", "wait_s", "start_order", "user").rows() == [
        ("1", 0.0, 0.0, 0, "3"),
        ("2", 100.0, 90.0, 1, None),
        ("3", 100.0, 80.0, 2, "3"),
    ]
    assert run["backfill"] == "none"
    metrics = run["metrics"]
    assert metrics["avg_wait_s"] == pytest.approx(170 / 3)
    assert metrics["avg_jct_s"] == pytest.approx((100 + 140 + 85) / 3)
    assert metrics["avg_slowdown"] == pytest.approx((1 + 140 / 50 + 85 / 5) / 3)
    assert metrics["avg_bounded_slowdown"] == pytest.approx((1 + 140 / 50 + 85 / 10) / 3)
    assert (metrics["max_wait_s"], metrics["makespan_s"], metrics["last_start_rel"]) == (90, 150, 100)


def test_windows_and_loaded_sources(log):
    loaded = load_source("rlscheduler", log)
    run = run_protocol("rlscheduler", loaded, policy="sjf", backfill="easy-noextra", window=(1, 2))
    assert run["jobs"]["job_id"].to_list() == ["2", "3"]
    assert run["window"] == (1, 2)
    with pytest.raises(UsageError, match="another protocol has loaded"):
        run_protocol("helios", loaded, policy="fifo")


def test_trace_of_an_swf_log_is_read_again(log):
    jobs = make_jobs({"job_id": ["1"], "submit_s": [0.0], "duration_s": [1.0]})
    trace = Trace("small", jobs, pool(4), source=str(log), format="swf")
    assert len(load_source("rlscheduler", trace)) == 3
    with pytest.raises(UsageError, match="needs an SWF file; trace 'made' is 'lublin99'"):
        load_source("rlscheduler", Trace("made", jobs, pool(4), format="lublin99"))


def test_helios_run():
    ones = np.ones(3, dtype=np.int64)
    jobs = helios.HeliosJobs("x", ["a", "b", "c"], ["v"] * 3, 8 * ones, 0 * ones, 30 * ones)
    run = run_protocol("helios", jobs, policy="fifo", nodes={"v": 1}, window=(1, 2))
    assert run["jobs"].select("job_id", "start_s", "end_s").rows() == [("b", 0.0, 30.0), ("c", 30.0, 60.0)]
    assert run["metrics"]["avg_jct_s"] == 45
    assert run["metrics"]["makespan_s"] == 60
    with pytest.raises(TraceError, match="window 2:2 does not lie inside 'x', which has 3 jobs"):
        run_protocol("helios", jobs, policy="fifo", nodes={"v": 1}, window=(2, 2))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rlschedular", {"policy": "fcfs"}, "unknown protocol 'rlschedular'; did you mean 'rlscheduler'?"),
        ("rlscheduler", {"policy": "f11"}, "protocol rlscheduler has no policy 'f11'; did you mean 'f1'?"),
        (
            "rlscheduler",
            {"policy": "f1", "backfill": "easy"},
            "protocol rlscheduler has no backfilling 'easy'; did you mean 'easy-noextra'?",
        ),
    ],
)
def test_unknown_names(log, name, options, message):
    with pytest.raises(UsageError) as error:
        run_protocol(name, log, **options)
    assert str(error.value) == message


def test_protocols_describe_themselves():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.policies
        assert protocol.backfills[0] == "none"


def test_importing_loads_nothing_heavy():
    code = "import sys, shunter.sim.compat.check; print('numba' in sys.modules, 'polars' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def golden_folder(tmp_path, start_of_second):
    """A folder in the form of the golden Helios results, with one virtual cluster of one node and two jobs."""
    lucid = tmp_path / "golden" / "lucid"
    lucid.mkdir(parents=True)
    header = "job_id,vc,gpu_num,submit_time,duration,qssf_predicted_duration,fifo_start,fifo_end"
    rows = ["1,v,8,0,30,30,0,30", f"2,v,8,5,10,10,{start_of_second},{start_of_second + 10}"]
    (lucid / "small.jobs.csv.gz").write_text("\n".join([header, *rows]) + "\n")
    (lucid / "summary.csv").write_text("dataset,vc,nodes,policy\nsmall,v,1,fifo\n")
    return lucid.parent


def test_check_prints_one_line_a_folder(tmp_path, capsys):
    assert check.main([str(golden_folder(tmp_path, 30))]) == 0
    assert capsys.readouterr().out == "lucid: 5 runs compared, 5 equal, largest difference 0\n"


def test_check_reports_what_differs(tmp_path, capsys):
    folder = golden_folder(tmp_path, 33)
    assert check.main([str(folder)]) == 1
    assert capsys.readouterr().out == (
        "lucid: 5 runs compared, 4 equal, largest difference 3\n  not equal: small.jobs.csv.gz fifo v\n"
    )
    assert check.main([str(folder), "--json"]) == 1
    [part] = json.loads(capsys.readouterr().out)
    assert (part["compared"], part["equal"], part["largest_difference"]) == (5, 4, 3.0)


def test_check_needs_golden_results(tmp_path, capsys):
    assert check.main([str(tmp_path)]) == 2
    assert "holds neither rlscheduler/ nor lucid/" in capsys.readouterr().err
