"""What autoscaling would have done on a recorded demand: capacity by step, what is paid for, what is not met."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.scaling import ScalingRule, scaled
from shunter.scheduler.types import FloatArray


@dataclass(frozen=True, eq=False)
class Scaled:
    """What came of a rule.

    Attributes:
        capacity: (T,) units in service in each step.
        paid: (T,) units that are paid for: those in service and those on their way.
        unmet: (T,) demand beyond the capacity.
    """

    capacity: FloatArray
    paid: FloatArray
    unmet: FloatArray

    def unmet_share(self, demand: FloatArray) -> float:
        """Demand that was not met, over all demand."""
        return float(self.unmet.sum() / demand.sum()) if demand.sum() > 0 else 0.0


def replay_scaling(demand: FloatArray, told: FloatArray, rule: ScalingRule) -> Scaled:
    """Follow a rule over a recorded demand.

    Args:
        demand: (T,) units asked for in each step.
        told: (T, H) what is predicted when each step begins, of it and the steps after it; NaN counts as no demand.
        rule: Lead and headroom. The first step begins with what it wants.

    Raises:
        UsageError: The tables do not fit together.
    """
    if told.ndim != 2 or len(told) != len(demand) or not told.shape[1]:
        raise UsageError(f"predictions of shape {told.shape} for a demand of {len(demand)} steps")
    told = np.nan_to_num(told, nan=0.0)
    capacity, paid = np.empty(len(demand)), np.empty(len(demand))
    coming = np.zeros(rule.lead)
    there = 0.0
    for t in range(len(demand)):
        if t > 0 and rule.lead:
            there += coming[0]
            coming = np.append(coming[1:], 0.0)
        there, order = scaled(there, coming, told[t], rule)
        if rule.lead and t > 0:
            coming[-1] += order
        else:
            there += order
        capacity[t], paid[t] = there, there + coming.sum()
    return Scaled(capacity, paid, np.maximum(demand - capacity, 0.0))


def ahead_of(demand: FloatArray, steps: int) -> FloatArray:
    """(T, H) what a perfect forecast tells: the demand of this step and those after it, the last one going on."""
    rows = np.minimum(np.arange(len(demand))[:, None] + np.arange(steps), len(demand) - 1)
    found: FloatArray = demand[rows]
    return found


def as_before(demand: FloatArray, steps: int) -> FloatArray:
    """(T, H) what a reactive rule goes by: the demand of the step before, at first that of the first step."""
    before = np.append(demand[:1], demand[:-1])
    return np.repeat(before[:, None], steps, axis=1)
