"""The arms: from static partitions to the learned policy, and the policies beside it on one pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from examples.headline.jobs import DEFAULT_REQUEST_S
from examples.static_partitions.replays import BY_POLICY, Arm
from shunter.agents.linear import network_of, read_weights
from shunter.scheduler.learned import KernelScorer
from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
from shunter.scheduler.preemption import Preemption
from shunter.sim.workload import Defaults

POLICY = Path(__file__).with_name("policy.json")

FREELY = {"preemption": Preemption(("policy",)), "restarts": Defaults()}
"""Stopping and going on again cost nothing: a bound for those that preempt."""


def told(name: str, policy: str | ChosenOrdering = "fcfs", backfill: str = "easy", **rest: object) -> Arm:
    """An arm that knows run times only as predictions and the default request."""
    arm = Arm(name, pool=True, policy=policy, backfill=backfill)
    return replace(arm, estimates="tsafrir", default_request_s=DEFAULT_REQUEST_S, **rest)  # type: ignore[arg-type]


def learned(path: Path = POLICY) -> ChosenOrdering:
    """The ordering by the weights of a file; its guard's settings are the defaults.

    Raises:
        BundleError: The file cannot be used.
    """
    scorer = KernelScorer(network_of(read_weights(path)))
    return replace(choose_ordering("learned"), scorer=scorer, model="learned")


PARTITION_FCFS = told("partitions, FCFS", backfill="none", pool=False)
PARTITION_EASY = told("partitions, EASY", pool=False)
POOL_EASY = told("pool with quotas, EASY")
POOL_SJF = told("pool with quotas, SJF predicted", "sjf-predicted")


def ladder() -> tuple[Arm, ...]:
    """From what there is to what is proposed."""
    policy = learned()
    return (
        PARTITION_FCFS,
        PARTITION_EASY,
        POOL_EASY,
        POOL_SJF,
        told("pool with quotas, learned", policy),
        told("pool without quotas, learned", policy, quotas=False),
    )


def policies(*, preempting: bool = True) -> tuple[Arm, ...]:
    """Orderings on one pool without quotas; those that preempt with their costs, and LAS without."""
    stay = (
        ("FIFO", "fcfs", "none"),
        ("FIFO, EASY", "fcfs", "easy"),
        ("LAS, EASY", "las", "easy"),
        ("Tiresias, EASY", "tiresias", "easy"),
        ("SJF predicted, EASY", "sjf-predicted", "easy"),
        ("smallest first, EASY", "smallest", "easy"),
        ("learned, EASY", learned(), "easy"),
    )
    arms = [told(name, policy, backfill, quotas=False) for name, policy, backfill in stay]
    if preempting:
        stop = {"SRTF predicted, preempts": "srtf", "LAS, preempts": "las", "Tiresias, preempts": "tiresias"}
        arms += [told(name, policy, quotas=False, preemption=BY_POLICY) for name, policy in stop.items()]
        arms.append(told("LAS, preempts at no cost", "las", quotas=False, **FREELY))
    return tuple(arms)
