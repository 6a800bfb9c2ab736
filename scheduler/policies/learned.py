"""Order by a model that was handed in."""

from __future__ import annotations

from collections.abc import Mapping

from shunter.scheduler.errors import UsageError
from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.types import FloatArray


def learned(view: QueueView, _: Mapping[str, float]) -> FloatArray:
    """A trained network's score of features of the job, its user and the queue. This project, model bundles.

    The parameters are the guard's: who has waited `bound_h` hours, `bound_requests` times the request and
    `bound_drains` times as long as the cluster would need for the whole queue goes first, one at a time; with
    `classes=1` priorities come before everything; where more than the share `outside` of the features lies
    outside the range seen in training, or inference takes more than `budget_ms` (0 for any) `overruns` times in a row,
    the order of `fallback` (a name, fcfs unless said) decides; in the latter case for `pause` passes. 0 switches a rule
    off. `--policy model:FOLDER` takes any bundle, with the same parameters.
    """
    raise UsageError(f"policy 'learned' needs a model to order {len(view.jobs)} jobs")
