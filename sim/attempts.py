"""Attempts of jobs as a cluster recorded them, and the failures to be learned from them.

A job that needed several attempts failed, or was taken down, at the end of each but its last. Played back, every such
attempt ends after the recorded time of execution and the job is tried again; how long it waits for that, and how often,
is decided by ``scheduler.failover.next_retry``. ``sim.faults`` follows the jobs on their way there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.scheduler.types import FloatArray, IntArray
from shunter.traces.compression import read_bytes
from shunter.traces.readers.philly_attempts import TIME_FORMAT
from shunter.traces.readers.whole import refusal


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """Attempts of jobs as recorded. Rows of the (A,) arrays are attempts, by job and then by start.

    Attributes:
        job_id: (J,) identifiers.
        gpus: (J,) GPUs asked for; NaN where the log does not say.
        attempts: (J,) attempts that ended.
        job_idx: (A,) row of the job.
        length_s: (A,) from the attempt's start to its end.
        gap_s: (A,) from the end of the attempt before to this one's start; NaN for a first attempt.
    """

    job_id: tuple[str, ...]
    gpus: FloatArray
    attempts: IntArray
    job_idx: IntArray
    length_s: FloatArray
    gap_s: FloatArray

    def mean_gpu_time_to_failure_s(self) -> float:
        """GPU-seconds of execution for each attempt that another one followed: the reciprocal of the failure rate of
        a job per GPU; inf when every job needed one attempt.
        """
        failures = int((self.attempts - 1).clip(0).sum())
        gpu_s = float(np.nansum(self.length_s * self.gpus[self.job_idx]))
        return gpu_s / failures if failures else math.inf


@dataclass(frozen=True, slots=True)
class JobFailures:
    """Attempts that end by a failure of the job itself, sorted by job and attempt.

    Attributes:
        job_row: (F,) row of the job in the trace.
        attempt: (F,) number of the attempt, from 1.
        after_s: (F,) seconds of execution after which it fails.
        work_s: (J,) seconds of work of each job of the trace; NaN, or empty for all: as the trace says.
    """

    job_row: IntArray
    attempt: IntArray
    after_s: FloatArray
    work_s: FloatArray

    def window(self, start: int, count: int) -> JobFailures:
        """Those of the ``count`` jobs from row ``start`` on."""
        inside = (self.job_row >= start) & (self.job_row < start + count)
        work_s = self.work_s[start : start + count]
        return JobFailures(self.job_row[inside] - start, self.attempt[inside], self.after_s[inside], work_s)

    def __len__(self) -> int:
        return len(self.job_row)


def attempt_failures(path: Path) -> AttemptLog:
    """The attempts of every job of a Philly log in JSON (published or reduced form).

    Attempts without a start or an end are left out, as the trace reader does.

    Raises:
        TraceError: No JSON list of jobs; a job without an identifier, a time that cannot be read or an end before the
            start, with the number of the job and the attempt.

    Source: Jeon et al., Analysis of large-scale multi-tenant GPU clusters for DNN training workloads, USENIX ATC 2019.
    """
    problems: list[str] = []
    ids: list[str] = []
    gpus: list[float] = []
    counts: list[int] = []
    owner: list[int] = []
    starts: list[float] = []
    ends: list[float] = []
    for number, job in enumerate(_json_list(path), start=1):
        place = f"{path}:job {number}"
        name = job.get("id", job.get("jobid")) if isinstance(job, Mapping) else None
        if not isinstance(name, str):
            problems.append(f"{place}: expected an object with 'id' or 'jobid'")
            continue
        spans = sorted(_attempt_spans(job, place, problems))
        owner += [len(ids)] * len(spans)
        starts += [start for start, _ in spans]
        ends += [end for _, end in spans]
        ids.append(name)
        counts.append(len(spans))
        asked = job.get("num_gpus")
        gpus.append(float(asked) if isinstance(asked, int | float) else math.nan)
    if problems:
        raise refusal(problems)
    start_s, end_s, job_idx = np.asarray(starts), np.asarray(ends), np.asarray(owner, dtype=np.int64)
    is_first = np.append(True, job_idx[1:] != job_idx[:-1])[: len(job_idx)]
    gap_s = np.where(is_first, np.nan, start_s - np.append(0.0, end_s[:-1])[: len(job_idx)])
    return AttemptLog(tuple(ids), np.asarray(gpus), np.asarray(counts, np.int64), job_idx, end_s - start_s, gap_s)


def job_failures(log: AttemptLog, job_ids: Sequence[str]) -> JobFailures:
    """Every attempt that another one followed, for the jobs of a trace: it fails after the recorded length.

    The last attempt is no failure: how the job ended is the trace's ``outcome``. Its length is the job's work: what the
    job would have taken without failures, as a log without checkpoints tells it.

    Args:
        log: Recorded attempts.
        job_ids: (J,) identifiers of the trace's jobs, in row order; jobs that the log does not have never fail.
    """
    rows = {name: row for row, name in enumerate(job_ids)}
    row_of = np.asarray([rows.get(name, -1) for name in log.job_id], dtype=np.int64)
    first = np.cumsum(log.attempts) - log.attempts
    attempt = np.arange(len(log.job_idx), dtype=np.int64) - first[log.job_idx] + 1
    job_row = row_of[log.job_idx]
    keep = np.flatnonzero((job_row >= 0) & (attempt < log.attempts[log.job_idx]))
    keep = keep[np.lexsort((attempt[keep], job_row[keep]))]
    work_s = np.full(len(job_ids), np.nan)
    work_s[job_row[keep]] = log.length_s[(first + log.attempts - 1)[log.job_idx[keep]]]
    return JobFailures(job_row[keep], attempt[keep], log.length_s[keep], work_s)


def _json_list(path: Path) -> list[Any]:
    try:
        jobs = json.loads(read_bytes(path))
    except json.JSONDecodeError as problem:
        raise TraceError(f"{path}:{problem.lineno}:{problem.colno}: no valid JSON ({problem.msg})") from None
    except UnicodeDecodeError as problem:
        raise TraceError(f"{path}: no valid JSON (byte {problem.start} is not UTF-8)") from None
    if not isinstance(jobs, list) or not jobs:
        raise TraceError(f"{path}: expected a list of jobs")
    return jobs


def _attempt_spans(job: Mapping[str, Any], place: str, problems: list[str]) -> list[tuple[float, float]]:
    """(start, end) of each attempt of which both are known, as Unix seconds."""
    spans = []
    attempts = job.get("attempts")
    for number, attempt in enumerate(attempts if isinstance(attempts, list) else [], start=1):
        cells = [attempt.get(key) if isinstance(attempt, Mapping) else None for key in ("start_time", "end_time")]
        if not all(isinstance(cell, str) and cell not in ("", "None") for cell in cells):
            continue
        try:
            start_s, end_s = (datetime.strptime(f"{cell} +0000", f"{TIME_FORMAT} %z").timestamp() for cell in cells)
        except ValueError:
            problems.append(f"{place}: attempt {number}: expected times such as '2017-10-07 01:12:09', got {cells}")
            continue
        if end_s < start_s:
            problems.append(f"{place}: attempt {number}: ends before it starts ({cells[1]})")
        else:
            spans.append((start_s, end_s))
    return spans
