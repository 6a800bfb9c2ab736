"""Microsoft Philly's job log with every attempt, as JSON.

Two shapes are read: the published ``cluster_job_log`` (``jobid, status, vc, user, submitted_time, attempts`` whose
``detail`` lists the GPUs of each server) and the reduced one (``id, num_gpus, runtime, submitted_time, attempts``).

A job's run time is the sum over its attempts, which is what the cluster had to serve; its recorded wait is the first
attempt's start minus the submission. Source: Jeon et al., USENIX ATC 2019; msr-fiddle/philly-traces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import Draft
from shunter.traces.readers.philly_csv import PHILLY_GPUS, ZONE_NOTE
from shunter.traces.readers.table import RawTable
from shunter.traces.tables import BadRow, Trace, pool

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
OUTCOME_OF_STATUS = {"Pass": "completed", "Killed": "killed", "Failed": "failed"}
JOINED = "several attempts joined: run times added up"


def _records(source: Source) -> list[Any]:
    try:
        records = json.loads(source.data)
    except json.JSONDecodeError as problem:
        raise TraceError(f"{source.path}:{problem.lineno}:{problem.colno}: no valid JSON ({problem.msg})") from None
    except UnicodeDecodeError as problem:
        raise TraceError(f"{source.path}: no valid JSON (byte {problem.start} is not UTF-8)") from None
    if not isinstance(records, list) or not records:
        raise TraceError(f"{source.path}: expected a list of jobs")
    return records


def _ended(attempts: list[Any]) -> list[Mapping[str, Any]]:
    """Attempts with both times known; the published log writes ``None`` or the text ``None`` for the others."""
    return [a for a in attempts if isinstance(a, Mapping) and _time(a, "start_time") and _time(a, "end_time")]


def _time(attempt: Mapping[str, Any], key: str) -> str | None:
    value = attempt.get(key)
    return value if isinstance(value, str) and value not in ("", "None") else None


def _gpus(job: Mapping[str, Any], attempts: list[Mapping[str, Any]]) -> object:
    """GPUs asked for, or held by the last attempt."""
    if "num_gpus" in job:
        return job["num_gpus"]
    details = [a.get("detail") or [] for a in attempts]
    return sum(len(server.get("gpus", [])) for server in details[-1]) if details else 0


def _row(job: Mapping[str, Any]) -> list[str | None]:
    """One job as cells: id, submission, first start, run times of the attempts, GPUs, user, group, status, attempts."""
    attempts = job.get("attempts")
    ended = _ended(attempts if isinstance(attempts, list) else [])
    text = [job.get("id", job.get("jobid")), job.get("submitted_time"), _gpus(job, ended)]
    names = [job.get("user"), job.get("vc"), job.get("status")]
    starts = [_time(a, "start_time") for a in ended]
    return [
        *(None if value is None else str(value) for value in (*text, *names)),
        starts[0] if starts else None,
        str(len(ended)),
    ]


def _spans(source: Source, records: list[Mapping[str, Any]]) -> tuple[RawTable, Any]:
    """Attempts of all jobs as one table of times, and the job that each belongs to."""
    import polars as pl

    pairs = [
        (row, a["start_time"], a["end_time"])
        for row, job in enumerate(records)
        for a in _ended(job["attempts"] if isinstance(job.get("attempts"), list) else [])
    ]
    owner = np.asarray([row for row, _, _ in pairs], dtype=np.int64)
    frame = pl.DataFrame(
        {"start_time": [a for _, a, _ in pairs], "end_time": [b for _, _, b in pairs]},
        schema={"start_time": pl.String, "end_time": pl.String},
    )
    return RawTable(source, frame, owner + 1, [], len(pairs)), owner


def _read(source: Source) -> Trace:
    import polars as pl

    records = _records(source)
    jobs = [record for record in records if isinstance(record, Mapping)]
    bad = [BadRow(i + 1, 1, "expected a job object", type(r).__name__) for i, r in enumerate(records) if r not in jobs]
    names = ["id", "submitted_time", "num_gpus", "user", "vc", "status", "start_time", "attempts"]
    frame = pl.DataFrame([_row(job) for job in jobs], schema=dict.fromkeys(names, pl.String), orient="row")
    lines = np.arange(1, len(jobs) + 1, dtype=np.int64)  # JSON has no rows: jobs are counted instead of lines
    table = RawTable(source, frame, lines, bad, len(records))
    spans, owner = _spans(source, jobs)
    lengths = (spans.time("end_time") - spans.time("start_time")).fill_null(0.0)
    spans.flag(lengths < 0, "end_time", "expected an end after the start")
    spans.settle()
    run_s = np.bincount(owner, weights=np.maximum(lengths.to_numpy(), 0.0), minlength=len(jobs))
    submit = table.time("submitted_time", formats=(TIME_FORMAT,))
    draft = Draft.of(
        table,
        {
            "job_id": table.text("id", optional=False),
            "submit_s": submit,
            "duration_s": pl.Series(run_s),
            "gpus_total": table.number("num_gpus"),
            "user": table.text("user"),
            "group": table.text("vc"),
            "outcome": table.text("status").replace_strict(OUTCOME_OF_STATUS, default="completed"),
            "recorded_wait_s": (table.time("start_time", formats=(TIME_FORMAT,), optional=True) - submit).clip(0.0),
            "attempts": table.number("attempts"),
        },
    )
    draft.drop_never_ran()
    draft.gangs()
    draft.adjust(pl.col("attempts") > 1, JOINED)
    draft.rebase()
    header = {"zone_note": ZONE_NOTE}
    return draft.finish(format="philly-attempts", cluster=pool(PHILLY_GPUS, resource="gpus"), header=header)


def _detect(head: Head) -> bool:
    return head.data.lstrip()[:1] == b"[" and b'"attempts"' in head.data and b'"submitted_time"' in head.data


FORMAT = Format("philly-attempts", "Philly job log with attempts (JSON)", _detect, _read)
