"""When a forecaster no longer fits: against persistence, against its training, and what to do about it.

Two tests, both on the last day. The loads themselves are compared with those of training by the population stability
index of one-step changes and of levels; errors with those on validation by a cumulative sum (Page, Biometrika 1954).
Either one raises an event that says to train anew. Apart from that, node by node: while the network's recent error is
above that of persistence, persistence answers.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.predictors.scaling import bent

if TYPE_CHECKING:
    import numpy.typing as npt

    from shunter.predictors.scaling import NodeScales
    from shunter.scheduler.types import BoolArray, FloatArray, IntArray

PSI_LIMIT = 0.25
"""From here on a shift is called large (Siddiqi, Credit Risk Scorecards, 2006)."""

BINS = 10
LEAST_SHARE = 1e-3
"""Of a bin: an empty one would make the index infinite."""

SLACK, ALARM = 0.5, 40.0
"""Mean errors that may be above validation's by so much without end; what is above is summed up to the alarm."""

LEAST_POINTS = 200
"""Values of the last day below which no index is computed."""

MARGIN = 1.0
"""Persistence takes over while its recent error is below the network's divided by this."""

LEAST_JUDGED = 24
"""Forecasts of a node that must have been judged before persistence takes over."""


class Drift(enum.Enum):
    """What has changed; after each, training anew is what helps."""

    CHANGES = "one-step changes are distributed otherwise than in training"
    LEVELS = "levels are distributed otherwise than in training"
    ERRORS = "errors have grown beyond those of validation"


@dataclass(frozen=True)
class Reference:
    """How loads and errors were when the network was trained.

    Attributes:
        changes: Inner edges of the bins of bent one-step changes over the node's usual step.
        change_shares: Of the bins.
        levels: Inner edges of the bins of the place in the node's range.
        level_shares: Of the bins.
        error: Mean absolute error on validation, over the node's usual step.
    """

    changes: tuple[float, ...]
    change_shares: tuple[float, ...]
    levels: tuple[float, ...]
    level_shares: tuple[float, ...]
    error: float

    @classmethod
    def fit(cls, values: npt.NDArray[np.floating], scales: NodeScales, error: float) -> Reference:
        """From the (T, N) loads of training and validation."""
        changes, levels = told(values, scales)
        edges = [_edges(changes), _edges(levels)]
        shares = [shares_of(found, np.asarray(edge)) for found, edge in zip((changes, levels), edges, strict=True)]
        return cls(edges[0], tuple(shares[0].tolist()), edges[1], tuple(shares[1].tolist()), float(error))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Reference:
        """From a card."""
        lists = {name: tuple(document[name]) for name in ("changes", "change_shares", "levels", "level_shares")}
        return cls(**lists, error=float(document["error"]))

    def indices(self, values: npt.NDArray[np.floating], scales: NodeScales) -> tuple[float, float]:
        """Population stability index of the changes and the levels of (T, N) recent loads; 0 where there are few."""
        return self.indices_of(*self.counts(values, scales))

    def counts(self, values: npt.NDArray[np.floating], scales: NodeScales) -> tuple[IntArray, IntArray]:
        """How many changes and levels of (T, N) loads fall into each bin."""
        changes, levels = told(values, scales)
        return counts_of(changes, np.asarray(self.changes)), counts_of(levels, np.asarray(self.levels))

    def indices_of(self, changes: IntArray, levels: IntArray) -> tuple[float, float]:
        """The same of what has been counted."""
        if min(changes.sum(), levels.sum()) < LEAST_POINTS:
            return 0.0, 0.0
        return (
            stability(np.asarray(self.change_shares), changes / changes.sum()),
            stability(np.asarray(self.level_shares), levels / levels.sum()),
        )


@dataclass(frozen=True)
class Tally:
    """Into which bins the loads of the last day fell, all nodes together: (P, bins) counts, oldest step first.

    Counts instead of the loads: a step then costs the same whatever a day holds, in time as in memory.
    """

    changes: IntArray
    levels: IntArray

    @classmethod
    def begin(cls, reference: Reference | None) -> Tally:
        """Nothing counted yet."""
        bins = (1, 1) if reference is None else (len(reference.change_shares), len(reference.level_shares))
        return cls(np.zeros((0, bins[0]), np.int64), np.zeros((0, bins[1]), np.int64))

    def __len__(self) -> int:
        return len(self.changes)

    def counting(
        self, reference: Reference, before: FloatArray, now: FloatArray, scales: NodeScales, most: int
    ) -> Tally:
        """With the step from some (N,) loads to the next ones; at most so many steps are kept."""
        changes, _ = reference.counts(np.stack([before, now]), scales)
        _, levels = reference.counts(now[None], scales)
        return Tally(
            np.concatenate([self.changes, changes[None]])[-most:], np.concatenate([self.levels, levels[None]])[-most:]
        )

    def indices(self, reference: Reference) -> tuple[float, float]:
        """Population stability index of changes and of levels."""
        return reference.indices_of(self.changes.sum(axis=0), self.levels.sum(axis=0))


def told(values: npt.NDArray[np.floating], scales: NodeScales) -> tuple[FloatArray, FloatArray]:
    """Bent changes and levels of (T, N) loads, all nodes together, without gaps."""
    wide = values.astype(np.float64)
    changes = bent(np.diff(wide, axis=0) / scales.unit()[:, 0])
    span = np.maximum(scales.high - scales.low, scales.unit())[:, 0]
    levels = (wide - scales.low[:, 0]) / span
    return changes[np.isfinite(changes)], levels[np.isfinite(levels)]


def _edges(values: FloatArray) -> tuple[float, ...]:
    """Inner edges of bins of about the same share; fewer where many values are the same."""
    if not len(values):
        return ()
    cuts = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    return tuple(cuts.tolist())


def counts_of(values: FloatArray, edges: FloatArray) -> IntArray:
    """Values in each bin; a value on an edge belongs to the lower bin."""
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).astype(np.int64)


def shares_of(values: FloatArray, edges: FloatArray) -> FloatArray:
    """Share of values in each bin."""
    found: FloatArray = counts_of(values, edges) / max(1, len(values))
    return found


def stability(expected: FloatArray, found: FloatArray) -> float:
    """Population stability index: Σ (found − expected) · ln(found / expected)."""
    one, other = np.maximum(expected, LEAST_SHARE), np.maximum(found, LEAST_SHARE)
    return float(((other - one) * np.log(other / one)).sum())


@dataclass(frozen=True)
class Guard:
    """Recent errors, node by node; row i is node i.

    Attributes:
        mine: (N,) running mean of the network's absolute error, all steps together.
        theirs: (N,) that of persistence on the same forecasts.
        judged: (N,) forecasts that went into them.
        grown: Cumulative sum of what errors were above validation's.
    """

    mine: FloatArray
    theirs: FloatArray
    judged: FloatArray
    grown: float = 0.0

    @classmethod
    def begin(cls, num_nodes: int) -> Guard:
        """Nothing judged yet: the network is believed."""
        return cls(np.zeros(num_nodes), np.zeros(num_nodes), np.zeros(num_nodes))

    def learn(
        self, mine: FloatArray, theirs: FloatArray, *, day_points: float, usual: FloatArray, expected: float
    ) -> Guard:
        """Take note of (N,) mean absolute errors, NaN where nothing could be judged.

        Args:
            mine: Of the network.
            theirs: Of persistence.
            day_points: Points of a day: errors are forgotten as fast as a day passes.
            usual: (N,) usual step of the nodes.
            expected: Error on validation, over the usual step.
        """
        known = np.isfinite(mine) & np.isfinite(theirs)
        judged = self.judged + known
        weight = np.maximum(1.0 / np.maximum(judged, 1), 1.0 / max(day_points, 1.0))
        grown = self.grown
        if known.any() and expected > 0:
            ratio = min(float((mine[known] / usual[known]).mean()) / expected, 10.0)
            grown = max(0.0, grown + ratio - 1.0 - SLACK)
        return replace(
            self,
            mine=np.where(known, self.mine + weight * (np.where(known, mine, 0.0) - self.mine), self.mine),
            theirs=np.where(known, self.theirs + weight * (np.where(known, theirs, 0.0) - self.theirs), self.theirs),
            judged=judged,
            grown=grown,
        )

    def losing(self) -> BoolArray:
        """(N,) nodes for which persistence answers."""
        return (self.judged >= LEAST_JUDGED) & (self.mine > self.theirs * MARGIN)
