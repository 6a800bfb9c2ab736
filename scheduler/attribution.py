"""Which feature moved a job under a learned order: what its score loses when one feature is set to the queue's mean.

For a linear model the changes are exact and add up to the difference from a job that is average in everything. For a
network each is exact for its own question and they need not add up, as features act together: the method of
Robnik-Šikonja and Kononenko, "Explaining classifications for individual instances", IEEE TKDE 20(5), 2008, with a mean
in place of the average over values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shunter.scheduler.features import FEATURES
from shunter.scheduler.learned import KernelScorer
from shunter.scheduler.policies.registry import Scorer
from shunter.scheduler.types import FloatArray


@dataclass(frozen=True, slots=True)
class Contribution:
    """One feature of one job.

    Attributes:
        feature: Its name.
        value: Of the job.
        mean: Of the queue.
        change: Of the score, against the mean; below 0 is forward.
    """

    feature: str
    value: float
    mean: float
    change: float


def contributions(scorer: Scorer, features: FloatArray, job: int) -> list[Contribution]:
    """What moved one job, the strongest first.

    Args:
        scorer: The model.
        features: (Q, F) of the queue.
        job: Which of them.
    """
    mean = features.mean(axis=0)
    count = features.shape[1]
    if isinstance(scorer, KernelScorer):  # which looks at each job by itself
        rows = np.repeat(features[job : job + 1], count + 1, axis=0)
        rows[np.arange(count), np.arange(count)] = mean
        scores = scorer(rows)
    else:
        scores = np.empty(count + 1)
        for i in range(count + 1):
            queue = features.copy()
            if i < count:
                queue[job, i] = mean[i]
            scores[i] = scorer(queue)[job]
    change = scores[-1] - scores[:-1]
    strongest = np.argsort(-np.abs(change), kind="stable")
    return [
        Contribution(FEATURES[i].name, float(features[job, i]), float(mean[i]), float(change[i]))
        for i in strongest.tolist()
        if change[i] != 0.0
    ]
