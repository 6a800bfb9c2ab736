"""Published priority formulas on arrays: the lower the score, the earlier the job.

Owns the arithmetic only; who sorts, and how ties end, is the caller's business. Every function takes float64 arrays of
one shape (J,): requested time in seconds, processors, and submit time in seconds since the log's start, and returns a
new array of that shape. Inputs outside a formula's domain get the value that each docstring states, never NaN, so that
a sort by score is always well defined.

Sources: F1–F4 are the four best functions of Carastan-Santos & de Camargo, "Obtaining dynamic scheduling policies with
simulation and machine learning", SC'17. WFP3 and UNICEP are from Tang, Lan, Desai & Buettner, "Fault-aware,
utility-based job scheduling on Blue Gene/P systems", CLUSTER 2009. The operations are written in the order in which
RLScheduler (Zhang et al., SC'20) evaluates them, so that equal inputs give equal bits.
"""

from __future__ import annotations

import numpy as np

from shunter.scheduler.types import FloatArray

SMALLEST_ARGUMENT = 0.1
"""What F1 puts in place of a time that is not positive, as RLScheduler does: ``log10(0.1) = -1``."""


def f1(requested_s: FloatArray, processors: FloatArray, submit_s: FloatArray) -> FloatArray:
    """``log10(r)·n + 870·log10(s)``; an ``r`` or ``s`` that is not positive counts as 0.1."""
    requested: FloatArray = np.where(requested_s > 0, requested_s, SMALLEST_ARGUMENT)
    submit: FloatArray = np.where(submit_s > 0, submit_s, SMALLEST_ARGUMENT)
    score: FloatArray = np.log10(requested) * processors + 870 * np.log10(submit)
    return score


def f2(requested_s: FloatArray, processors: FloatArray, submit_s: FloatArray) -> FloatArray:
    """``sqrt(r)·n + 25600·log10(s)``; a negative ``r`` counts as 0, an ``s`` that is not positive gives −inf."""
    return np.sqrt(np.maximum(requested_s, 0.0)) * processors + 25600 * log10_or_first(submit_s)


def f3(requested_s: FloatArray, processors: FloatArray, submit_s: FloatArray) -> FloatArray:
    """``r·n + 6860000·log10(s)``; an ``s`` that is not positive gives −inf."""
    return requested_s * processors + 6860000 * log10_or_first(submit_s)


def f4(requested_s: FloatArray, processors: FloatArray, submit_s: FloatArray) -> FloatArray:
    """``r·sqrt(n) + 530000·log10(s)``; a negative ``n`` counts as 0, an ``s`` that is not positive gives −inf."""
    return sqrt_area(requested_s, processors) + 530000 * log10_or_first(submit_s)


def sqrt_area(requested_s: FloatArray, processors: FloatArray) -> FloatArray:
    """``r·sqrt(n)``, F4 without its term in the submit time; a negative ``n`` counts as 0."""
    return requested_s * np.sqrt(np.maximum(processors, 0.0))


def wfp3(requested_s: FloatArray, processors: FloatArray, submit_s: FloatArray, now_s: float) -> FloatArray:
    """``−(w/r)³·n`` with the waiting time ``w = now − s``.

    A request of 0 is infinitely short: its job is first as soon as it waits, and has score 0 before.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        score = -np.power((now_s - submit_s) / requested_s, 3) * processors
    return np.where(np.isnan(score), 0.0, score)


def unicep(requested_s: FloatArray, processors: FloatArray, submit_s: FloatArray, now_s: float) -> FloatArray:
    """``−w / (log2(n)·r)`` with the waiting time ``w = now − s``.

    RLScheduler adds 1e-15 to ``w`` and to ``n``: a one-processor job then has a large score instead of a division by
    zero, so that waiting one-processor jobs are first. A negative ``n`` gives score 0, a request of 0 as in ``wfp3``.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        score = -((now_s - submit_s) + 1e-15) / (np.log2(processors + 1e-15) * requested_s)
    return np.where(np.isnan(score), 0.0, score)


def log10_or_first(submit_s: FloatArray) -> FloatArray:
    """``log10(s)``, and −inf for an ``s`` that is not positive: the log's very first jobs go first."""
    with np.errstate(divide="ignore"):
        return np.log10(np.maximum(submit_s, 0.0))
