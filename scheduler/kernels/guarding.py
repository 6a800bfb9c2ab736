"""The rules under which a learned order is followed, on plain arrays; ``scheduler.guard`` says what they are for."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.sorting import Sorting, sort_queue
from shunter.scheduler.types import FloatArray, Int, IntArray

# Why an order is not the learned one, and the rows of Rules.counts
FOLLOWED = 0
NOT_FINITE = 1  # a feature or a score
OUTSIDE = 2  # too many features outside the range seen in training
SLOW = 3  # inference took too long too often
STARVING = 4  # orders of any kind in which jobs that had waited too long came first
OVERRUNS = 5  # times in a row that inference took too long
PAUSED = 6  # orders to come that do without it
NUM_COUNTS = 7


class Rules(NamedTuple):
    """The guard's rules for a fixed list of jobs.

    Attributes:
        late_after_s: (J,) wait from which on a job may go first; inf for never.
        work_s: (J,) seconds in which the whole cluster could do the job, by its request.
        drains: (1,) a job goes first once it has waited so many times as long as all that wait would take the cluster.
        fallback: (J,) scores of the heuristic that decides where the network may not.
        priority: (J,) classes, higher before lower.
        keeps_classes: (1,) whether these come before everything else.
        low: (F,) least value of each feature seen in training.
        high: (F,) largest value.
        most_outside: (1,) share of values outside that range from which on the order is not followed; inf: any.
        counts: (NUM_COUNTS,) orders by what became of them.
    """

    late_after_s: FloatArray
    work_s: FloatArray
    drains: FloatArray
    fallback: FloatArray
    priority: FloatArray
    keeps_classes: IntArray
    low: FloatArray
    high: FloatArray
    most_outside: FloatArray
    counts: IntArray


@compiled
def verdict(rules: Rules, scores: FloatArray, num_outside: Int, num_values: Int, num_unknown: Int) -> Int:
    """What becomes of a learned order; see ``FOLLOWED`` and the numbers after it.

    Args:
        rules: The rules.
        scores: (Q,) scores.
        num_outside: Features outside the range seen in training.
        num_values: Features in all.
        num_unknown: Features that are no finite numbers.
    """
    if rules.counts[PAUSED] > 0:
        return np.int64(SLOW)
    for i in range(len(scores)):
        if not np.isfinite(scores[i]):
            return np.int64(NOT_FINITE)
    if num_unknown > 0:
        return np.int64(NOT_FINITE)
    if num_outside > rules.most_outside[0] * num_values:
        return np.int64(OUTSIDE)
    return np.int64(FOLLOWED)


@compiled
def first_late(rules: Rules, submit_s: FloatArray, now_s: float, rows: IntArray) -> Int:
    """Place in ``rows`` (Q,), which ascend, of the job that has waited longest of those that waited too long; or −1."""
    queued_s = 0.0
    for i in range(len(rows)):
        queued_s += rules.work_s[rows[i]]
    for i in range(len(rows)):
        if now_s - submit_s[rows[i]] >= max(rules.late_after_s[rows[i]], rules.drains[0] * queued_s):
            return np.int64(i)
    return np.int64(-1)


@compiled
def arrange(
    rules: Rules,
    reason: Int,
    submit_s: FloatArray,
    now_s: float,
    rows: IntArray,
    key: FloatArray,
    sorting: Sorting,
    bits_of: IntArray,
) -> None:
    """Put ``rows`` (Q,), which ascend, in the order of ``key`` (Q,), or of the heuristic's scores, within the rules."""
    late = first_late(rules, submit_s, now_s, rows)
    for i in range(len(rows)):
        score = key[i] if reason == FOLLOWED else rules.fallback[rows[i]]
        key[i] = 0.0 if np.isnan(score) else score
    rules.counts[reason] += 1
    if late >= 0:
        key[late] = -np.inf
        rules.counts[STARVING] += 1
    if rules.counts[PAUSED] > 0:
        rules.counts[PAUSED] -= 1
    sort_queue(key, rows, sorting, bits_of, False)
    if rules.keeps_classes[0] == 1:
        for i in range(len(rows)):
            key[i] = -rules.priority[rows[i]]
        sort_queue(key, rows, sorting, bits_of, False)


@compiled
def note_elapsed(rules: Rules, elapsed_s: float, budget_s: float, most_overruns: Int, pause: Int) -> None:
    """Count an inference that took longer than its budget; after too many in a row ``pause`` orders do without."""
    rules.counts[OVERRUNS] = rules.counts[OVERRUNS] + 1 if elapsed_s > budget_s else 0
    if rules.counts[OVERRUNS] >= most_overruns:
        rules.counts[OVERRUNS] = 0
        rules.counts[PAUSED] = pause
