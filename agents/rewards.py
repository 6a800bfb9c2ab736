"""What an environment rewards: one number for an episode, given bit by bit as jobs start.

The undiscounted sum of an episode's rewards is the weighted sum of its metrics, with a minus sign where less is better:
exactly what the metric says of the jobs that count, up to rounding. Each start is rewarded with its own share of a
mean, and with the change that it makes to what is no mean; nothing is held back until the end.

**Shaping.** With ``shaping`` the reward of a step becomes r + γΦ(s′) − Φ(s), which changes no optimal policy (Ng,
Harada & Russell, Policy invariance under reward transformations, ICML 1999). The potential Φ is minus what the waiting
jobs have lost so far: the sum over those that count of wait / max(request, 10 s) for ``bsld``, and of the wait for
``wait`` and ``jct``, over the number of jobs that count and times their weights. It is 0 at the end, so an undiscounted
return only moves by −Φ of the first state. A loss is then felt while a job waits and not only when it starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shunter.scheduler.energy import HOUR_S, J_PER_KWH
from shunter.scheduler.errors import UsageError, nearest
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.power import node_power, node_prices
from shunter.sim.workload import Workload

USER_VARIANCE = "user_slowdown_variance"
REST_ENERGY = "rest_energy_kwh"


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that can be rewarded.

    Attributes:
        metric: Name of the episode's metric, as in ``info["metrics"]``.
        sign: −1 where less is better.
        meaning: One line for people.
    """

    metric: str
    sign: float
    meaning: str


TERMS: Mapping[str, Term] = {
    "bsld": Term("avg_bounded_slowdown", -1.0, "mean bounded slowdown"),
    "wait": Term("avg_wait_s", -1.0, "mean wait, in seconds"),
    "jct": Term("avg_jct_s", -1.0, "mean time from submission to end, in seconds"),
    "makespan": Term("makespan_s", -1.0, "first submission to last end, in seconds"),
    "utilisation": Term("utilisation", 1.0, "processor-seconds of work over those available until the last end"),
    "fairness": Term(
        USER_VARIANCE,
        -1.0,
        "mean squared deviation of the users' mean bounded slowdowns from the mean over users, after Klusáček & "
        "Rudová, Performance and fairness for users in parallel job scheduling, JSSPP 2012",
    ),
    "cost": Term("cost_total", -1.0, "price of the nodes until the last end"),
    "energy": Term(
        REST_ENERGY,
        -1.0,
        "energy of the idle nodes until the last end, in kWh; what is held adds the same in any order",
    ),
}
"""Name → what is rewarded."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A reward on one cluster, as the compiled step reads it.

    Attributes:
        slowdown: Of the mean bounded slowdown.
        wait_s: Of the mean wait.
        jct_s: Of the mean run time, which no decision changes.
        fairness: Of the users' variance.
        span_s: Of the seconds until the last end.
        use: Of the utilisation.
    """

    slowdown: float
    wait_s: float
    jct_s: float
    fairness: float
    span_s: float
    use: float


@dataclass(frozen=True, slots=True)
class Reward:
    """A weighted sum of terms.

    Attributes:
        weights: Name in ``TERMS`` → weight.
    """

    weights: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Reward:
        """The reward that ``NAME`` or ``WEIGHT*NAME+…`` means.

        Raises:
            UsageError: An unknown name (the message suggests the nearest), or a weight that is not positive.
        """
        weights: dict[str, float] = {}
        for part in text.split("+"):
            match = re.fullmatch(r"\s*(?:([0-9.eE-]+)\s*\*\s*)?([a-z_]+)\s*", part)
            if match is None:
                raise UsageError(f"reward {text!r}: {part.strip()!r} is not of the form NAME or WEIGHT*NAME")
            weight, name = match.groups()
            if name not in TERMS:
                raise UsageError(f"reward {text!r}: unknown name {name!r}{nearest(name, list(TERMS))}")
            try:
                value = float(weight or 1.0)
            except ValueError:
                value = np.nan
            if not (np.isfinite(value) and value > 0):
                raise UsageError(f"reward {text!r}: weight {weight!r} of {name} is not a positive number")
            weights[name] = weights.get(name, 0.0) + value
        return cls(weights)

    def of(self, metrics: Mapping[str, float]) -> float:
        """The undiscounted return of an episode with these metrics."""
        return sum(weight * TERMS[name].sign * metrics[TERMS[name].metric] for name, weight in self.weights.items())

    def on(self, workload: Workload | None) -> Weights:
        """The weights for one cluster; None: nothing is known of its prices and power.

        Raises:
            UsageError: The cluster's specification does not say what the nodes cost or draw.
        """
        weight = self.weights.get
        span = weight("makespan", 0.0)
        for name, rate in (("cost", price_per_s), ("energy", rest_kwh_per_s)):
            if weight(name, 0.0):
                per_s = None if workload is None else rate(workload)
                if per_s is None:
                    cluster = "of a published protocol" if workload is None else repr(workload.cluster.name)
                    raise UsageError(
                        f"reward {name!r}: cluster {cluster} does not say what every node "
                        f"{'costs (price_per_h)' if name == 'cost' else 'draws (idle_w, peak_w)'}"
                    )
                span += weight(name, 0.0) * per_s
        return Weights(
            slowdown=weight("bsld", 0.0),
            wait_s=weight("wait", 0.0) + weight("jct", 0.0),
            jct_s=weight("jct", 0.0),
            fairness=weight("fairness", 0.0),
            span_s=span,
            use=weight("utilisation", 0.0),
        )


def price_per_s(workload: Workload) -> float | None:
    """Price of all nodes for a second; None when it is not stated."""
    prices = node_prices(workload.cluster)
    return None if prices is None else float(prices[0].sum()) / HOUR_S


def rest_kwh_per_s(workload: Workload) -> float | None:
    """Energy of all nodes at rest in a second; None when their power is not stated."""
    power = node_power(workload.cluster)
    return None if power is None else float(power.at_rest_w.sum()) / J_PER_KWH


def user_variance(slowdown: FloatArray, user_idx: IntArray) -> float:
    """Mean squared deviation of the users' mean slowdowns from the mean over users; jobs of nobody are one user's.

    Args:
        slowdown: (J,) bounded slowdowns.
        user_idx: (J,) users.
    """
    user = np.unique(user_idx, return_inverse=True)[1].reshape(-1)
    means = np.bincount(user, weights=slowdown) / np.bincount(user)
    return float(means.var())
