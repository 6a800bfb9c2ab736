"""What a trace says of its jobs when they are submitted, and the schedule that it recorded: for predicted run times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.durations import Recorded, Submissions
from shunter.scheduler.errors import TraceError

if TYPE_CHECKING:
    from shunter.scheduler.types import FloatArray
    from shunter.traces.tables import Trace


def submissions(trace: Trace, default_request_s: float | None = None) -> Submissions:
    """What is known of each job at its submission; a request that is missing stays so, unless a default is given."""
    jobs = trace.jobs
    tasks = jobs.ints("tasks").astype(np.float64)
    submit_s = jobs.floats("submit_s")
    return Submissions(
        submit_s=submit_s,
        request_s=jobs.floats("requested_s", np.nan if default_request_s is None else default_request_s),
        cpus=tasks * jobs.floats("cpus"),
        gpus=tasks * jobs.floats("gpus"),
        user=jobs.codes("user")[0],
        group=jobs.codes("group")[0],
        queue=jobs.codes("queue")[0],
        clock_s=submit_s + (np.nan if trace.start_unix_s is None else trace.start_unix_s),
    )


def recorded(trace: Trace, start_s: FloatArray | None = None) -> Recorded:
    """The schedule of a trace's jobs.

    Args:
        trace: The jobs.
        start_s: (J,) when they started, of a replay for example. Default: what the log says that they waited; a job of
            which it says nothing counts as started when it was submitted.

    Raises:
        TraceError: A job starts before it was submitted, or never.
    """
    jobs = submissions(trace)
    if start_s is None:
        start_s = jobs.submit_s + trace.jobs.floats("recorded_wait_s", 0.0)
    try:
        return Recorded(jobs, start_s, trace.jobs.floats("duration_s"))
    except ValueError as error:
        raise TraceError(f"{trace.name}: {error}") from None


def waits_known(trace: Trace) -> float:
    """Share of the jobs of which the log says how long they waited."""
    known = trace.jobs.frame["recorded_wait_s"].is_not_null().mean()
    return float(known) if isinstance(known, float) else 0.0
