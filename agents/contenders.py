"""Who is judged: heuristics and controls of the registry, bounds, and learned policies from their bundles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shunter.agents.protocols import Protocol
from shunter.scheduler.errors import UsageError
from shunter.traces.periods import Period, seen_by

if TYPE_CHECKING:
    from shunter.agents.bundle import Bundle
    from shunter.scheduler.types import IntArray
    from shunter.sim.compat.rlscheduler import RlsTrace

Kind = Literal["heuristic", "bound", "learned"]

PREEMPTS = "+preempt"
"""Behind the name of an ordering: it also stops running jobs, as LAS and Tiresias are meant to."""

PREDICTS = "+tsafrir"
"""Behind the name of an ordering: reservations count with predicted run times (``simulate --estimates tsafrir``)."""

PREDICTING = ("fcfs" + PREDICTS, "sjf-predicted" + PREDICTS)
"""Controls beside the registry's: EASY and SJF with predicted run times, as Tsafrir, Etsion & Feitelson proposed."""

ORIGINS = {"general": "general", "as-published": "as published"}
"""What a card's ``trained_on`` is called in tables."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy that is judged.

    Attributes:
        label: What tables call it.
        kind: ``heuristic``; ``bound`` for one that is told what nobody can know; ``learned``.
        policy: Name in the registry, with parameters; of a learned one the bundle's folder.
        preempts: Running jobs that the ordering ranks behind are stopped for waiting ones.
        predicts: Decisions count with predicted run times instead of requests.
        sha256: Content hash of a bundle; empty for others.
        origin: Of a learned one: ``general``, or ``as published`` where it was trained on the jobs it is tested on.
        seen: Periods that a learned one was trained and chosen on.
    """

    label: str
    kind: Kind
    policy: str
    preempts: bool = False
    predicts: bool = False
    sha256: str = ""
    origin: str = ""
    seen: tuple[Period, ...] = ()

    @property
    def identity(self) -> str:
        """What tells it apart from every other: a bundle's content, wherever it lies."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return self.policy + PREEMPTS * self.preempts + PREDICTS * self.predicts

    def may_have_seen(self, protocol: Protocol) -> bool:
        """Whether it may be judged on jobs that it has seen: as published, under the protocol that is published so."""
        return protocol.name == "rlscheduler" and self.origin == ORIGINS["as-published"]


def heuristics(protocol: Protocol, backfills: Sequence[str], chosen: Sequence[str] | None = None) -> list[Contender]:
    """The heuristics and controls that learned policies are set against, and the bounds.

    Orderings that decide by rounds who runs where are left out unless chosen: they are schedulers of their own, which
    no backfilling goes with.

    Args:
        protocol: Under which they run.
        backfills: Backfillings that each has to go with.
        chosen: Names, with parameters, and ``PREEMPTS`` or ``PREDICTS`` behind them; by default all of the registry
            and those that are ``PREDICTING``.

    Raises:
        UsageError: An unknown name.
    """
    from shunter.scheduler.policies import ORDERINGS, choose_ordering
    from shunter.sim.compat import rlscheduler

    if protocol.name == "rlscheduler":
        for name in chosen or ():
            rlscheduler.check_policy(name)
        return [Contender(name, "heuristic", name) for name in dict.fromkeys(chosen or rlscheduler.POLICIES)]
    every = [name for name, ordering in ORDERINGS.items() if ordering.rounds is None and not ordering.needs_features]
    if "conservative" not in backfills:
        every += PREDICTING
    found = []
    for name in dict.fromkeys(chosen or every):
        predicts, preempts = name.endswith(PREDICTS), name.removesuffix(PREDICTS).endswith(PREEMPTS)
        policy = name.removesuffix(PREDICTS).removesuffix(PREEMPTS)
        ordering = choose_ordering(policy)
        if ordering.ordering.needs_features:
            raise UsageError(f"policy {name!r} is a model's: name its bundle before the traces, not with --policy")
        if ordering.ordering.rounds is not None and set(backfills) != {"none"}:
            raise UsageError(f"policy {name!r} decides by rounds: it goes with --backfill none only")
        kind: Kind = "bound" if ordering.ordering.needs_oracle else "heuristic"
        label = ordering.label + PREEMPTS * preempts + PREDICTS * predicts
        found.append(Contender(label, kind, policy, preempts, predicts))
    return found


def learned(folder: Path, label: str, protocol: Protocol) -> Contender:
    """A learned policy.

    Args:
        folder: Its bundle.
        label: What tables call it.
        protocol: Under which it runs.

    Raises:
        BundleError: The bundle cannot be used, or its card does not say what it was trained on.
        UsageError: Its network cannot run under the protocol.
    """
    from shunter.agents.bundle import load_bundle
    from shunter.traces.bundles import CARD

    bundle = load_bundle(folder)
    card = bundle.card
    if protocol.name == "rlscheduler" and bundle.network() is None:
        raise UsageError(
            f"{folder}: protocol rlscheduler runs compiled networks only, and this one's kind is {card.kind}"
        )
    # What decides about a schedule: the network, and the range of features by which the guard trusts it.
    behaviour = json.dumps([card.model_sha256, card.kind, list(card.low), list(card.high)])
    return Contender(
        label=label,
        kind="learned",
        policy=str(folder.resolve()),
        sha256=hashlib.sha256(behaviour.encode()).hexdigest(),
        origin=ORIGINS[card.trained_on],
        seen=seen_by(card.traces, str(folder / CARD)),
    )


def published_starts(bundle: Bundle, trace: RlsTrace, first: int, count: int, backfill: bool) -> IntArray:
    """(J,) start times of a window of protocol rlscheduler under a learned policy, on the log's clock."""
    from shunter.sim.compat.rls_learned import RlsRollout

    network = bundle.network()
    assert network is not None  # ``learned`` refuses others
    starts: IntArray = RlsRollout(trace, backfill).starts(network, [first], count)[0]
    return starts
