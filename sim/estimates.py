"""What decisions count with as a job's run time: the request, a prediction, or the truth (``--estimates``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import UsageError, nearest

if TYPE_CHECKING:
    from shunter.scheduler.features import Past
    from shunter.scheduler.kernels.estimates import Estimates
    from shunter.sim.workload import Workload

ESTIMATES = ("request", "tsafrir", "actual")

BY_ESTIMATE = ("sjf-predicted", "srtf")
"""Orderings whose score is the prediction itself, which the compiled loop fills in at submission."""


def which_estimates(estimates: str, clairvoyant: bool) -> str:
    """One of ``ESTIMATES``; ``clairvoyant`` is another way to say ``actual``.

    Raises:
        UsageError: An unknown name, or both with different meanings.
    """
    if estimates not in ESTIMATES:
        raise UsageError(f"unknown --estimates {estimates!r}{nearest(estimates, list(ESTIMATES))}")
    if not clairvoyant:
        return estimates
    if estimates == "tsafrir":
        raise UsageError("--clairvoyant means --estimates actual: it does not go with --estimates tsafrir")
    return "actual"


def check_default_request(default_request_s: float | None) -> None:
    """Raise UsageError unless it is a number of seconds above 0, or None."""
    if default_request_s is not None and not (np.isfinite(default_request_s) and default_request_s > 0):
        raise UsageError(f"default request {default_request_s} is not a number of seconds above 0")


def refuse_conservative(estimates: str, backfill: str) -> None:
    """Raise UsageError: conservative backfilling promises times, which a prediction that grows would break."""
    if estimates == "tsafrir" and backfill == "conservative":
        raise UsageError(
            "--estimates tsafrir does not go with conservative backfilling, which promises times by run times that "
            "stay; use easy or easy-sjbf"
        )


def estimates_of(workload: Workload, ordering: str) -> Estimates:
    """What is known of users before the first job; ``expected_s`` is the workload's own column, to be writeable."""
    from shunter.scheduler.kernels.estimates import Estimates

    columns = workload.columns
    user = np.maximum(columns.user_idx, -1) + 1
    users = (2, workload.num_users + 1)
    known = Estimates(
        user=user,
        request_s=columns.requested_s.copy(),
        expected_s=columns.expected_s,
        corrections=np.zeros(workload.num_jobs, np.int64),
        run_s=np.full(users, np.nan),
        ended_s=np.full(users, np.nan),
        row=np.zeros(users, np.int64),
        scores=np.asarray([int(ordering in BY_ESTIMATE)]),
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
