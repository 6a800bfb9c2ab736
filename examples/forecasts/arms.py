"""Arms of a trial, and how they are compared: ratios to the first arm, with intervals of windows drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.types import FloatArray
from shunter.sim.compare import expanded_quantiles, window_draws

if TYPE_CHECKING:
    from shunter.sim.result import Result

WINDOWS = 20
"""Stretches of consecutive jobs that are drawn anew: each far longer than a backlog lives."""

DRAWS = 1_000

PREDICTED = "predicted"

TEST = 0.7
"""Share of a trace or series before the part that is judged: no forecaster has learned from what comes after."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measure of one arm.

    Attributes:
        value: Under the arm.
        ratio: Over the first arm's; NaN where that is 0.
        low: Lower end of the ratio's 95 % interval; NaN without one.
        high: Upper end.
    """

    value: float
    ratio: float = np.nan
    low: float = np.nan
    high: float = np.nan

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves 1 out."""
        return bool(self.high < 1 or self.low > 1)


@dataclass(frozen=True, slots=True)
class Over:
    """A forecast over something simpler than a forecast, in one measure."""

    control: str
    measure: str
    cell: Cell


@dataclass(frozen=True, slots=True)
class Trial:
    """Several arms on one log.

    Attributes:
        study: What was forecast, and what for.
        log: Where.
        arms: Names, the one without a forecast first.
        cells: Measure → one cell an arm.
        units: Measure → ``s``, ``ratio`` or another.
        over: What is predicted over what is looked up.
    """

    study: str
    log: str
    arms: tuple[str, ...]
    cells: dict[str, tuple[Cell, ...]]
    units: dict[str, str]
    over: tuple[Over, ...] = ()


def compared(values: Sequence[FloatArray], statistic: Callable[[FloatArray], float], *, seed: int = 0) -> list[Cell]:
    """A statistic of each arm's (J,) values in submit order, over that of the first.

    Windows of consecutive jobs are drawn anew, the same ones for all arms.
    """
    base = statistic(values[0])
    bounds = np.linspace(0, len(values[0]), WINDOWS + 1).astype(np.int64)[1:-1]
    weights = window_draws(WINDOWS, np.random.default_rng(seed))
    assert weights is not None
    drawn = weights[:DRAWS].astype(np.int64)

    def again(each: FloatArray) -> FloatArray:
        parts = np.split(each, bounds)
        chosen = [[parts[i] for i in np.repeat(np.arange(WINDOWS), times)] for times in drawn]
        return np.asarray([statistic(np.concatenate(pieces)) for pieces in chosen])

    firsts, found = again(values[0]), list[Cell]()
    for each in values:
        value = statistic(each)
        if base <= 0 or each is values[0]:
            found.append(Cell(value, value / base if base > 0 else np.nan))
            continue
        ratios = again(each)[firsts > 0] / firsts[firsts > 0]
        low, high = np.quantile(ratios, expanded_quantiles(WINDOWS)) if len(ratios) else (np.nan, np.nan)
        found.append(Cell(value, value / base, float(low), float(high)))
    return found


def p95(values: FloatArray) -> float:
    """95th percentile."""
    return float(np.quantile(values, 0.95))


def mean(values: FloatArray) -> float:
    """Mean."""
    return float(values.mean())


def columns(result: Result) -> dict[str, FloatArray]:
    """(J,) wait, bounded slowdown and time in the system of the jobs that ran, in submit order; NaN of the others."""
    jobs = result.jobs.sort("submit_s", maintain_order=True)
    submit_s, start_s, end_s, run_s = (
        jobs[name].cast(float).to_numpy() for name in ("submit_s", "start_s", "end_s", "duration_s")
    )
    return {
        "wait_s": start_s - submit_s,
        "jct_s": end_s - submit_s,
        "bsld": np.maximum(1.0, (end_s - submit_s) / np.maximum(run_s, 10.0)),
    }


def used(result: Result) -> FloatArray:
    """(WINDOWS,) share of the scarce resource in use in equal stretches between the first and the last submission."""
    jobs = result.jobs.drop_nulls("start_s")
    resource = "gpus" if jobs["gpus"].sum() else "cpus"
    submit_s, start_s, end_s, amount = (jobs[name].to_numpy() for name in ("submit_s", "start_s", "end_s", resource))
    edges = np.linspace(submit_s.min(), submit_s.max(), WINDOWS + 1)
    held = [float((amount * (np.clip(edge, start_s, end_s) - start_s)).sum()) for edge in edges]
    shares: FloatArray = np.diff(held) / (np.diff(edges) * (result.capacity(resource) or np.nan))
    return shares


def judged(
    study: str,
    log: str,
    runs: dict[str, Result],
    measures: Sequence[tuple[str, str, Callable[[FloatArray], float]]],
    *,
    subsets: dict[str, Any] | None = None,
) -> Trial:
    """A trial from replays of the same jobs.

    Args:
        study: What was forecast, and what for.
        log: Where.
        runs: Arm → replay; the one without a forecast first.
        measures: (column, what it is called, statistic); a column with ``@NAME`` behind is of that subset of jobs.
        subsets: Name → (J,) mask of jobs in submit order.
    """
    tables = {arm: columns(result) for arm, result in runs.items()}
    cells, units = dict[str, tuple[Cell, ...]](), dict[str, str]()
    over = list[Over]()
    controls = [arm for arm in list(runs)[1:] if arm not in {PREDICTED, "perfect", "actual"}]
    everybody = np.all([np.isfinite(table["wait_s"]) for table in tables.values()], axis=0)
    for column, label, statistic in measures:
        name, _, subset = column.partition("@")
        chosen = everybody & (subsets or {})[subset] if subset else everybody
        cells[label] = tuple(compared([table[name][chosen] for table in tables.values()], statistic))
        for control in controls:
            pair = [tables[arm][name][chosen] for arm in (control, PREDICTED)]
            over.append(Over(control, label, compared(pair, statistic)[1]))
        units[label] = "ratio" if name == "bsld" else "s"
    cells["utilisation"] = tuple(compared([used(result) for result in runs.values()], mean))
    units["utilisation"] = "share"
    return Trial(study, log, tuple(runs), cells, units, tuple(over))


def without_tables(result: Result) -> Result:
    """A result without its larger tables: there are dozens."""
    return replace(result, tables={})
