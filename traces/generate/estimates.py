"""User estimates of run times (requested times) for workload models that have none.

Real estimates are modal: about twenty round values serve nine jobs in ten, a good part of the jobs asks for the
maximum, and run time over estimate is spread roughly evenly between 0 and 1 (Tsafrir, Etsion & Feitelson, "Modeling
user runtime estimates", JSSPP 2005, LNCS 3834). ``tsafrir`` here is a plain model with these three properties; it is
not the authors' program, which also fits the ranks of the popular values.
"""

from __future__ import annotations

import numpy as np

from shunter.scheduler.types import FloatArray
from shunter.traces.generate.params import Parameter, Values

MINUTE_S = 60.0
HOUR_S = 3600.0
HEAD_S = np.array(
    [5 * MINUTE_S, 10 * MINUTE_S, 15 * MINUTE_S, 20 * MINUTE_S, 30 * MINUTE_S, 45 * MINUTE_S]
    + [hours * HOUR_S for hours in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 24, 36, 48, 72)]
)
"""The popular round values: those that lead the lists of the archive logs studied in the paper."""
TAIL_SHARE = 0.11
"""Share of jobs with an unpopular value; the paper's twenty head values cover 89 % of the jobs."""
TAIL_GRID_S = 5 * MINUTE_S

ESTIMATE_PARAMETERS = (
    Parameter(
        "estimates",
        "none",
        "-",
        "user estimates: none, exact, uniform (between 1 and 1+badness times the run time) "
        "or tsafrir (modal, after Tsafrir, Etsion & Feitelson 2005)",
        choices=("none", "exact", "uniform", "tsafrir"),
    ),
    Parameter(
        "badness", 4.0, "-", "spread of uniform estimates (the f of the f-model of Mu'alem & Feitelson)", low=0.0
    ),
    Parameter("max_estimate", 48.0, "h", "greatest estimate that tsafrir gives to a job that is not longer", low=0.1),
    Parameter("max_share", 0.1, "-", "share of jobs that ask for max_estimate under tsafrir", low=0.0, high=1.0),
    Parameter("overrun_share", 0.0, "-", "share of jobs whose estimate lies below the run time", low=0.0, high=1.0),
)


def requested_times(duration_s: FloatArray, values: Values, rng: np.random.Generator) -> FloatArray | None:
    """(J,) requested seconds for (J,) run times, or None for ``estimates=none``; see ``ESTIMATE_PARAMETERS``."""
    kind = values.word("estimates")
    if kind == "none":
        return None
    if kind == "exact":
        requested = np.maximum(duration_s, 1.0)
    elif kind == "uniform":
        factor = 1.0 + values.number("badness") * rng.random(len(duration_s))
        requested = np.maximum(np.ceil(duration_s * factor), 1.0)
    else:
        requested = modal(duration_s, values.number("max_estimate") * HOUR_S, values.number("max_share"), rng)
    over = rng.random(len(duration_s)) < values.number("overrun_share")
    short = np.maximum(np.floor(duration_s * rng.uniform(0.5, 1.0, len(duration_s))), 1.0)
    return np.where(over & (short < duration_s), short, requested)


def modal(duration_s: FloatArray, max_s: float, max_share: float, rng: np.random.Generator) -> FloatArray:
    """(J,) modal estimates, never below the run time.

    The run time is divided by a uniform accuracy and rounded up to the next popular value (a multiple of five minutes
    for the tail), at most ``max_s``; a job longer than that asks for the next multiple of five minutes.
    """
    n = len(duration_s)
    head = np.unique(np.append(HEAD_S[max_s > HEAD_S], max_s))
    accuracy = 1.0 - rng.random(n)
    target = np.minimum(duration_s / accuracy, max_s)
    popular = head[np.minimum(np.searchsorted(head, target), len(head) - 1)]
    five = np.maximum(np.ceil(target / TAIL_GRID_S) * TAIL_GRID_S, TAIL_GRID_S)
    requested = np.where(rng.random(n) < TAIL_SHARE, np.minimum(five, max_s), popular)
    requested = np.where(rng.random(n) < max_share, max_s, requested)
    longer = np.maximum(np.ceil(duration_s / TAIL_GRID_S) * TAIL_GRID_S, TAIL_GRID_S)
    return np.where(requested < duration_s, longer, requested)
