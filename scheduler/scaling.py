"""How much capacity to order, from what is predicted of the demand: pure functions, for planning and for the daemon.

Capacity that is ordered comes some steps later; what is not needed goes at once. So the demand that counts is that of
the time until an order made in the next step would have come: less now, and nobody can make up for it.
Source of the rule: Gandhi et al., AutoScale, ACM TOCS 30(4), 2012 (look-ahead against set-up time).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import FloatArray


@dataclass(frozen=True, slots=True)
class ScalingRule:
    """How orders follow from predictions.

    Attributes:
        lead: Steps from an order until the capacity is there; 0: at once.
        headroom: Capacity that is wanted over the predicted demand.
        least: Units that are always kept.
        most: Units that there can be; inf: any.
    """

    lead: int = 1
    headroom: float = 1.0
    least: float = 0.0
    most: float = np.inf

    def __post_init__(self) -> None:
        if self.lead < 0:
            raise UsageError(f"lead of {self.lead} steps: expected a number of at least 0")
        if not (np.isfinite(self.headroom) and self.headroom > 0):
            raise UsageError(f"headroom {self.headroom!r}: expected a number above 0")
        if not 0 <= self.least <= self.most:
            raise UsageError(f"between {self.least:g} and {self.most:g} units: expected 0 ≤ least ≤ most")


def wanted_units(told: FloatArray, rule: ScalingRule) -> float:
    """Whole units that should be there or on their way now.

    Args:
        told: (H,) predicted demand of the present step and those after it; the last one stands for all later ones.
        rule: Lead and headroom.
    """
    until = min(rule.lead + 1, len(told))
    wanted = np.ceil(rule.headroom * float(np.max(told[:until])) - 1e-9)
    return float(np.clip(wanted, rule.least, rule.most))


def scaled(there: float, coming: FloatArray, told: FloatArray, rule: ScalingRule) -> tuple[float, float]:
    """One decision: units that stay of those that are there, and units to order; either nothing goes or nothing comes.

    Args:
        there: Units in service.
        coming: (lead,) units on their way, the next to come first; they cannot be sent back.
        told: (H,) predicted demand of the present step and those after it.
        rule: Lead and headroom.
    """
    wanted = wanted_units(told, rule)
    total = there + float(coming.sum())
    if wanted >= total:
        return there, wanted - total
    return min(there, wanted), 0.0
