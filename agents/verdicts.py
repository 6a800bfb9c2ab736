"""What an evaluation says: means with intervals, learned policies against the best heuristic, seeds, other traces.

Pure: from the windows' metrics and a seed to plain values, the same every time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shunter.agents.contenders import Contender
from shunter.agents.evaluation import Evaluation
from shunter.agents.replays import METRICS
from shunter.agents.statistics import (
    MARGIN,
    TEST_LEVEL,
    Draws,
    draw,
    paired_ratio,
    pooled_ratio,
    rank_seeds,
    verdict_of,
)
from shunter.scheduler.metrics import METRICS as DEFINITIONS
from shunter.scheduler.types import FloatArray
from shunter.sim.compare import LEVEL, REPLICATES

MAIN_METRIC = "avg_bounded_slowdown"
"""By this the best heuristic of the matrix is chosen, and seeds are ranked."""

POOLED = (MAIN_METRIC, "p95_bounded_slowdown", "avg_wait_s")
"""What is compared over all traces together."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One trace under one backfilling.

    Attributes:
        case: Position of the trace.
        backfill: Backfilling.
        contenders: Policies, in the order of the tables.
        values: Metric → (P, K) its value under each policy in each window that gives it under all: of a window with
            jobs of one user, say, nothing is known of fairness.
        jobs: (K,) jobs of every window.
    """

    case: int
    backfill: str
    contenders: tuple[Contender, ...]
    values: dict[str, FloatArray]
    jobs: FloatArray

    def best(self, metric: str) -> int | None:
        """Position of the heuristic with the best mean; None without heuristics."""
        means = self.values[metric].mean(axis=1)
        known = [i for i, c in enumerate(self.contenders) if c.kind == "heuristic"]
        if not known:
            return None
        return (min if less_is_better(metric) else max)(known, key=lambda i: float(means[i]))

    def same_as(self) -> list[int]:
        """(P,) position of the first heuristic that gave the same values in every window: itself or an earlier one.

        Orderings that read what a log does not say (priorities, deadlines) all come out as first come, first served.
        Learned policies and bounds stand for themselves.
        """
        stacked = np.concatenate([self.values[name] for name in self.values], axis=1)
        known: list[int] = []
        for i, contender in enumerate(self.contenders):
            equal = (j for j in range(i) if self.contenders[j].kind == "heuristic" == contender.kind)
            known.append(next((j for j in equal if np.array_equal(stacked[j], stacked[i])), i))
        return known


def less_is_better(metric: str) -> bool:
    """Direction of a metric."""
    return DEFINITIONS[metric].less_is_better is not False


def scores_of(evaluation: Evaluation) -> list[Scores]:
    """One for every trace and backfilling."""
    work, found = evaluation.work, []
    for case in range(len(work.cases)):
        for backfill in work.backfills:
            rows = [evaluation.windows[case, backfill, i] for i in range(len(work.contenders))]
            values = {}
            for name in METRICS:
                given = [k for k in range(len(rows[0])) if all(name in row[k] for row in rows)]
                if given:
                    values[name] = np.asarray([[row[k][name] for k in given] for row in rows])
            jobs = np.asarray([window["jobs"] for window in rows[0]])
            found.append(Scores(case, backfill, work.contenders, values, jobs))
    return found


def judge(
    evaluation: Evaluation,
    *,
    seed: int = 0,
    margin: float = MARGIN,
    seeds: bool = False,
    degeneracy: Mapping[tuple[int, str], list[dict[str, Any]]] | None = None,
    overlaps: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything that an evaluation says, as plain values.

    Args:
        evaluation: What was measured.
        seed: Of the resampling.
        margin: Ratios surely within 1 ± this are called equal.
        seeds: The learned policies are seeds of one training.
        degeneracy: What ``degeneracy.check_orders`` says of the learned policies.
        overlaps: What ``refuse_seen`` says and was allowed.
    """
    work = evaluation.work
    tables, every = [], scores_of(evaluation)
    for scores in every:
        table = table_of(evaluation, scores, seed=seed, margin=margin)
        checked = (degeneracy or {}).get((scores.case, scores.backfill), [])
        tables.append(table | {"degeneracy": checked})
    found: dict[str, Any] = {
        "protocol": work.protocol.to_dict(),
        "resampling": {
            "seed": seed,
            "replicates": REPLICATES,
            "level": LEVEL,
            "test_level": TEST_LEVEL,
            "margin": margin,
        },
        "policies": [
            {"policy": c.label, "kind": c.kind, "origin": c.origin, "sha256": c.sha256} for c in work.contenders
        ],
        "traces": tables,
        "matrix": matrix_of(tables, work.contenders),
        "pooled": pooled_of(every, consecutive=work.protocol.consecutive, seed=seed),
        "overlaps": list(overlaps),
    }
    if seeds:
        found["seeds"] = [seeds_of(table) for table in tables]
    return found


def table_of(evaluation: Evaluation, scores: Scores, *, seed: int, margin: float) -> dict[str, Any]:
    """One trace under one backfilling: policies × metrics, and every learned policy against the heuristics."""
    case = evaluation.work.cases[scores.case]
    consecutive = evaluation.work.protocol.consecutive
    numbers = {len(scores.jobs), *(values.shape[1] for values in scores.values.values())}
    draws = {number: draw(number, consecutive=consecutive, seed=seed) for number in numbers}
    same = scores.same_as()
    return {
        "trace": case.name,
        "sha256": case.period.sha256,
        "cluster": case.cluster.name,
        "period": {"first": case.period.first, "last": case.period.last},
        "backfill": scores.backfill,
        "windows": len(scores.jobs),
        "shakes": evaluation.work.protocol.shakes,
        "windows_drawn_together": draws[len(scores.jobs)].block,
        "jobs": int(scores.jobs.sum()),
        "has_requests": evaluation.work.default_request_s is not None
        or bool(case.trace.jobs.frame["requested_s"].count()),
        "policies": [
            {
                "policy": contender.label,
                "kind": contender.kind,
                "same_as": scores.contenders[same[i]].label if same[i] != i else None,
                "metrics": {
                    name: {
                        "mean": float(values[i].mean()),
                        "interval": draws[values.shape[1]].mean(values[i]),
                        "windows": values.shape[1],
                    }
                    for name, values in scores.values.items()
                },
            }
            for i, contender in enumerate(scores.contenders)
        ],
        "best_heuristic": {
            name: scores.contenders[best].label for name in scores.values if (best := scores.best(name)) is not None
        },
        "comparisons": [
            comparison(scores, i, j, name, draws[values.shape[1]], margin)
            for i, contender in enumerate(scores.contenders)
            if contender.kind == "learned"
            for name, values in scores.values.items()
            for j, other in enumerate(scores.contenders)
            if other.kind == "heuristic" and same[j] == j
        ],
    }


def comparison(scores: Scores, i: int, j: int, metric: str, draws: Draws, margin: float) -> dict[str, Any]:
    """Policy ``i`` against policy ``j`` by one metric."""
    values = scores.values[metric]
    found = paired_ratio(values[i], values[j], draws, less_is_better=less_is_better(metric), margin=margin)
    return {
        "policy": scores.contenders[i].label,
        "against": scores.contenders[j].label,
        "is_best": scores.best(metric) == j,
        "metric": metric,
        **asdict(found),
        "win_rate": found.win_rate,
    }


def seeds_of(table: dict[str, Any], metric: str = MAIN_METRIC) -> dict[str, Any]:
    """Worst, middle and best of the learned policies on one trace, by the mean of one metric."""
    learned = [row for row in table["policies"] if row["kind"] == "learned" and metric in row["metrics"]]
    means = [row["metrics"][metric]["mean"] for row in learned]
    if not means:
        return {}
    ranked = rank_seeds(means, less_is_better=less_is_better(metric))
    return {
        "trace": table["trace"],
        "backfill": table["backfill"],
        "metric": metric,
        "num": len(means),
        **{name: {"policy": learned[place]["policy"], "mean": means[place]} for name, place in asdict(ranked).items()},
    }


def matrix_of(
    tables: Sequence[dict[str, Any]], contenders: Sequence[Contender], metric: str = MAIN_METRIC
) -> dict[str, Any] | None:
    """Learned policies × traces: ratio to the best heuristic; None without learned policies.

    Ratios are of means; ``interval`` is that of the ratio.
    """
    learned = [c.label for c in contenders if c.kind == "learned"]
    if not learned:
        return None
    columns = [{"trace": table["trace"], "backfill": table["backfill"]} for table in tables]
    rows = []
    for label in learned:
        cells = []
        for table in tables:
            found = [c for c in table["comparisons"] if c["policy"] == label and c["metric"] == metric and c["is_best"]]
            cells.append({k: found[0][k] for k in ("against", "ratio", "interval", "verdict")} if found else None)
        rows.append({"policy": label, "cells": cells})
    return {"metric": metric, "columns": columns, "rows": rows}


def pooled_of(every: Sequence[Scores], *, consecutive: bool, seed: int) -> list[dict[str, Any]]:
    """Every learned policy against every heuristic that is fixed beforehand, over all traces; [] for one trace.

    ``ratio`` is the geometric mean over the traces of the ratios of means, so that every trace counts alike; windows
    are drawn anew within each trace. A trace with fewer windows than an interval needs leaves all without one.
    """
    found = []
    for backfill in dict.fromkeys(scores.backfill for scores in every):
        for metric in POOLED:
            given = [scores for scores in every if scores.backfill == backfill and metric in scores.values]
            if len(given) < 2:
                continue
            draws = [
                draw(scores.values[metric].shape[1], consecutive=consecutive, seed=seed + place)
                for place, scores in enumerate(given)
            ]
            for i, j in pairs_of(given[0].contenders):
                pairs = [(scores.values[metric][i], scores.values[metric][j]) for scores in given]
                ratio, interval = pooled_ratio(pairs, draws)
                found.append(
                    {
                        "backfill": backfill,
                        "metric": metric,
                        "policy": given[0].contenders[i].label,
                        "against": given[0].contenders[j].label,
                        "traces": len(given),
                        "ratio": ratio,
                        "interval": interval,
                        "verdict": verdict_of(interval, interval, less_is_better=less_is_better(metric), margin=0.0),
                    }
                )
    return found


def pairs_of(contenders: Sequence[Contender]) -> list[tuple[int, int]]:
    """Positions of every learned policy and heuristic."""
    return [
        (i, j)
        for i, mine in enumerate(contenders)
        for j, other in enumerate(contenders)
        if (mine.kind, other.kind) == ("learned", "heuristic")
    ]
