"""What decisions count with as a job's run time: the request, a prediction, or the truth (``--estimates``).

A trained predictor is a value, ``scheduler.durations.RunModel``, that is handed in wherever a name may stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.durations import Recorded, RunModel, run_facts
from shunter.scheduler.errors import UsageError, nearest
from shunter.traces.submissions import submissions

if TYPE_CHECKING:
    from shunter.scheduler.features import Past
    from shunter.scheduler.kernels.estimates import Estimates
    from shunter.scheduler.kernels.forecasts import Forecasts
    from shunter.scheduler.types import FloatArray, IntArray
    from shunter.sim.workload import Workload

ESTIMATES = ("request", "tsafrir", "actual")

BY_ESTIMATE = ("sjf-predicted", "srtf")
"""Orderings whose score is the prediction itself, which the compiled loop fills in at submission."""


def which_estimates(estimates: str | RunModel, clairvoyant: bool) -> str:
    """One of ``ESTIMATES``, or the name of a model; ``clairvoyant`` is another way to say ``actual``.

    Raises:
        UsageError: An unknown name, or both with different meanings.
    """
    name = estimates.name if isinstance(estimates, RunModel) else estimates
    if isinstance(estimates, str) and estimates not in ESTIMATES:
        raise UsageError(f"unknown --estimates {estimates!r}{nearest(estimates, list(ESTIMATES))}")
    if not clairvoyant:
        return name
    if is_prediction(estimates):
        raise UsageError(f"--clairvoyant means --estimates actual: it does not go with --estimates {name}")
    return "actual"


def is_prediction(estimates: str | RunModel) -> bool:
    """Whether decisions count with what is predicted at submission."""
    return isinstance(estimates, RunModel) or estimates == "tsafrir"


def check_default_request(default_request_s: float | None) -> None:
    """Raise UsageError unless it is a number of seconds above 0, or None."""
    if default_request_s is not None and not (np.isfinite(default_request_s) and default_request_s > 0):
        raise UsageError(f"default request {default_request_s} is not a number of seconds above 0")


def refuse_conservative(estimates: str | RunModel, backfill: str) -> None:
    """Raise UsageError: conservative backfilling promises times, which a prediction that grows would break."""
    if is_prediction(estimates) and backfill == "conservative":
        raise UsageError(
            f"--estimates {which_estimates(estimates, False)} does not go with conservative backfilling, which "
            "promises times by run times that stay; use easy or easy-sjbf"
        )


def estimates_of(workload: Workload, ordering: str) -> Estimates:
    """What is known of users before the first job; ``expected_s`` is the workload's own column, to be writeable."""
    from shunter.scheduler.kernels.estimates import Estimates

    columns = workload.columns
    user = np.maximum(columns.user_idx, -1) + 1
    users = (2, workload.num_users + 1)
    forecasts = forecasts_of(workload)
    known = Estimates(
        user=user,
        request_s=columns.requested_s.copy() if workload.model is None else forecasts.most_s.copy(),
        expected_s=columns.expected_s,
        corrections=np.zeros(workload.num_jobs, np.int64),
        run_s=np.full(users, np.nan),
        ended_s=np.full(users, np.nan),
        row=np.zeros(users, np.int64),
        scores=np.asarray([int(ordering in BY_ESTIMATE)]),
        forecasts=forecasts,
    )
    if workload.past is not None:
        learn_past_runs(known, workload.past)
    return known


def learn_past_runs(known: Estimates, past: Past) -> None:
    """Take in the last two jobs of each user that had ended before the first one here; their rows are below 0."""
    last = len(past) - 1 - np.arange(len(past))  # backwards
    for place in (1, 0):
        user = past.user_idx[last] + 1
        named, first = np.unique(user, return_index=True)
        first = first[named > 0]
        rows = last[first]
        column = past.user_idx[rows] + 1
        known.run_s[place, column], known.ended_s[place, column] = past.run_s[rows], past.end_s[rows]
        known.row[place, column] = rows - len(past)
        last = np.delete(last, first)


def forecasts_of(workload: Workload) -> Forecasts:
    """The workload's model before the first job, with what the trace's earlier jobs taught it; see ``with_past``."""
    from shunter.scheduler.kernels.durations import RUNNING, STARTS_S, WAITING
    from shunter.scheduler.kernels.forecasts import no_forecasts

    if workload.model is None:
        return no_forecasts()
    earlier = workload.earlier
    rejected = workload.rejected
    trace, first = workload.trace, 0
    if earlier is not None:
        trace, first = earlier.trace, len(earlier.run_s)
        rejected = np.concatenate([earlier.rejected, rejected])
    jobs = submissions(trace, workload.default_request_s)
    facts = run_facts(jobs)
    facts.keys[rejected] = 0  # they never run: nobody hears of them
    forecasts = workload.model.forecasts(facts)
    if earlier is None:
        return forecasts
    before = jobs.take(slice(0, first))
    schedule = Recorded(before, before.submit_s, earlier.run_s)
    told = np.empty((first, len(workload.model.levels)))
    schedule.watch(forecasts, until_s=float(jobs.submit_s[first]), quantiles=told)
    forecasts.histories.of[:, [RUNNING, STARTS_S, WAITING]] = 0.0  # the cluster begins empty
    own = {name: np.array(values[first:]) for name, values in facts._asdict().items()}
    histories = forecasts.histories._replace(started_s=np.full(len(jobs) - first, np.nan))
    return forecasts._replace(
        facts=facts._replace(**own),
        histories=histories,
        raw=np.full((len(jobs) - first, len(workload.model.levels)), np.nan),
        most_s=forecasts.most_s[first:].copy(),
    )


def note_stop(estimates: Estimates, row: int) -> None:
    """A running job was stopped and has not ended."""
    from shunter.scheduler.kernels.durations import run_stopped

    if len(estimates.forecasts.levels):
        run_stopped(estimates.forecasts.facts, estimates.forecasts.histories, row)


def estimate_arrays(estimates: Estimates) -> dict[str, FloatArray | IntArray]:
    """The arrays that change during a run, by name, for a checkpoint."""
    own = {name: values for name, values in estimates._asdict().items() if name != "forecasts"}
    forecasts = estimates.forecasts
    changing = ("shift", "lift", "beyond", "ordered", "seen", "raw")
    own |= {f"forecasts_{name}": getattr(forecasts, name) for name in changing}
    return own | {
        "forecasts_histories": forecasts.histories.of,
        "forecasts_started_s": forecasts.histories.started_s,
    }
