"""Orderings of the policies that decide by rounds: what comes first where their shares are equal, or do not say."""

from __future__ import annotations

from collections.abc import Mapping

from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.types import FloatArray

Parameters = Mapping[str, float]

GAVEL_ROUND = {"round": 360.0}
"""Seconds between two rounds: Gavel's."""

SIA_ROUND = {"round": 60.0}
"""Seconds between two rounds: Pollux's and Sia's."""


def het_las(view: QueueView, _: Parameters) -> FloatArray:
    """By rounds: max–min fair shares of effective throughput over GPU types. Narayanan et al., Gavel, OSDI 2020.

    Least attained service first where shares are equal, and on GPUs that would stay idle until the next round.
    """
    return view.jobs.attained_s


def het_makespan(view: QueueView, _: Parameters) -> FloatArray:
    """By rounds: the shares of GPU types under which the last job ends first. Narayanan et al., Gavel, OSDI 2020.

    Longest expected remaining time first where shares are equal, and on GPUs that would stay idle.
    """
    return -view.jobs.expected_s


def elastic(view: QueueView, _: Parameters) -> FloatArray:
    """By rounds: GPUs of elastic jobs by marginal gain. After Qiao et al., Pollux, OSDI 2021; Sia, SOSP 2023.

    Every job gets its minimum, in the order of submission, the rest goes where one more GPU adds most speed.
    """
    return view.jobs.submit_s
