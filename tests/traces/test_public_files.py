"""Every public job list beside the repository reads whole: jobs kept + rows dropped and counted = rows of the file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from shunter.scheduler.errors import TraceError
from shunter.traces.read import read
from shunter.traces.readers.registry import FORMATS

EXPECTED = {
    "philly/philly_jobs.csv.gz": "philly-csv",
    "philly/philly_jobs_attempts.json.gz": "philly-attempts",
    "philly/philly_15k_genparallel.csv.gz": "genparallel",
    "helios/helios_15k_part1.csv.gz": "genparallel",
    "hpc-genparallel/theta_15k.csv.gz": "genparallel",
    "hpc-genparallel/SDSC_95.csv.gz": "genparallel",
    "mit-supercloud/slurm_log_part1.csv.gz": "supercloud",
    "alibaba-openb-2023/openb_pod_list_default.csv.gz": "openb",
    "alibaba-openb-2023/openb_pod_list_gpuspec33.csv.gz": "openb",
    "alibaba-pai-2020-derived/case_5000_all_10_ddl.csv.gz": "pai-derived",
    "alibaba-batch-2017-derived/cloudsimpy_jobs.csv.gz": "alibaba-batch-2017",
    "muri/trace1.csv.gz": "muri",
    "chronus/trace_job_Philly_SLO.csv.gz": "chronus",
    "chronus/trace_job_Philly_MIX1.csv.gz": "chronus",
    "elasticflow/philly_103959.csv.gz": "elasticflow",
    "surf-lisa/surf_tasks_2022-07_2022-09.csv.gz": "surf-lisa",
    "swf/LLNL-Atlas-2006-2.1-cln.swf.gz": "swf",
    "swf/NASA-iPSC-1993-3.1-cln.swf.gz": "swf",
    "swf/METACENTRUM-2009-2.swf.gz": "swf",
    "swf/LCG-2005-1.swf.gz": "swf",
    "swf/SDSC-Par-1996-3.1-cln.swf.gz": "swf",
}


@pytest.fixture(scope="module")
def rows(shared: Path) -> dict[str, int]:
    with (shared / "MANIFEST.csv").open(newline="") as file:
        return {row["file"]: int(row["rows"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_public_file_reads_whole(shared: Path, rows: dict[str, int], name: str) -> None:
    trace = read(shared / name)
    assert trace.format == EXPECTED[name]
    assert trace.cleaning.rows_read == rows[name]
    assert len(trace.jobs) + trace.cleaning.rows_dropped == rows[name]
    assert len(trace.jobs) > 0.8 * rows[name]
    assert trace.jobs.frame["submit_s"].is_sorted()


def test_google_task_events(shared: Path) -> None:
    trace = read(shared / "google-2011" / "task_events_part-00000-of-00500.csv.gz")
    # 201,491 submit events of 190,926 tasks; those of time 0 were there before.
    assert trace.cleaning.rows_read == 190_926
    assert len(trace.jobs) + trace.cleaning.rows_dropped == 190_926


def test_shockwave_file(shared: Path) -> None:
    path = next((shared / "shockwave").glob("460_*"))
    assert len(read(path).jobs) == 460


def test_files_that_are_no_job_lists_are_refused_in_one_line(shared: Path) -> None:
    names = [
        "alibaba-openb-2023/openb_pod_list_multigpu20.csv.gz",
        "alibaba-openb-2023/openb_node_list_all_node.csv.gz",
        "gavel/msr_seed0.tar.gz",
        "helios/venus_vc_config.csv.gz",
        "mit-supercloud/cpu_timeseries_one_job.csv.gz",
        "splitwise/perf_model.csv.gz",
        "mooncake/conversation_trace.jsonl.gz",
    ]
    for name in names:
        with pytest.raises(TraceError) as caught:
            read(shared / name)
        assert "\n" not in str(caught.value)
        assert str(shared / name) in str(caught.value)


def test_lucid_form_of_philly(shared: Path) -> None:
    path = shared.parent / "golden" / "lucid" / "philly-week1-published-nodes.jobs.csv.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    trace = read(path)
    assert trace.format == "lucid"
    assert trace.jobs.frame["group"].n_unique() == 8


def test_names_of_formats_are_unique() -> None:
    names = [entry.name for entry in FORMATS]
    assert len(set(names)) == len(names)
