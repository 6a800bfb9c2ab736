"""Search for the weights of the policy: ``python -m examples.headline.train``; writes ``policy.json``.

A score linear in the features, by covariance matrix adaptation on compiled replays (``shunter.agents.search``), from
the run time that histories lead to expect. On the calibration weeks only: stretches of the first four fifths of their
jobs, on pools of several sizes. The seed that does best on the last fifth is kept. The aim is the mean completion time
and the 95th percentile of the wait, against the best of FCFS, shortest predicted job first and smallest job first on
the same stretches.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from examples.headline.jobs import DEFAULT_REQUEST_S, helios, num_nodes, philly_by_cluster, pool
from examples.static_partitions.jobs import Study
from shunter.agents.linear import network_of, weights_of
from shunter.agents.objective import Ground
from shunter.agents.search import GroundTrial, Plan, Search

POLICY = Path(__file__).with_name("policy.json")
LOADS = (0.9, 1.1)
CHOICE_LOADS = (1.2, 1.5)
"""Demand of the calibration over the GPUs of the pools to search and to choose on: where jobs wait."""

START = {"log_expected": 2.0}
"""Where searches begin: the run time that the histories lead to expect."""

HEURISTICS = ("fcfs", "sjf-predicted", "smallest")
TRAINED_ON = 0.8
"""Share of the calibration's jobs to search on; the rest chooses among seeds."""


def grounds(study: Study, *, chooses: bool = False) -> Iterator[Ground]:
    """Stretches of the calibration's jobs: to search on, or to choose among seeds."""
    known = int(np.searchsorted(study.submit_s, study.calibrated_s))
    middle = int(TRAINED_ON * known)
    begin, end = (middle, known) if chooses else (0, middle)
    for load in CHOICE_LOADS if chooses else LOADS:
        yield Ground.of(
            study.trace,
            pool(num_nodes(study, load)),
            (begin, end),
            length=1500,
            most=6,
            warm_up=min(300, (end - begin) // 4),
            metric="avg_jct_s",
            heuristics=HEURISTICS,
            estimates="tsafrir",
            default_request_s=DEFAULT_REQUEST_S,
        )


def tell(seed: int, search: Search) -> None:
    """Progress, now and then."""
    if search.generation % 5 == 0:
        sys.stderr.write(f"· seed {seed}, generation {search.generation}: {np.mean(search.costs[-5:]):+.3f}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Search with every seed, keep the best, write the weights; 0 when done."""
    parser = argparse.ArgumentParser(prog="python -m examples.headline.train", description="Train the GPU policy.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--generations", type=int, default=30)
    parser.add_argument("--out", type=Path, default=POLICY)
    asked = parser.parse_args(arguments)
    studies = [study for study in (philly_by_cluster(), helios()) if study is not None]
    searched = [ground for study in studies for ground in grounds(study)]
    judges = [GroundTrial.of(ground) for study in studies for ground in grounds(study, chooses=True)]
    found = []
    for seed in range(asked.seeds):
        begin_s = time.perf_counter()
        search = Search.begin(Plan(seed=seed, generations=asked.generations, population=12), network_of(START))
        search.run([GroundTrial.of(ground) for ground in searched], after=partial(tell, seed))
        gains = [judge.gain(search.network) for judge in judges]
        cost = float(np.mean([gain.cost for gain in gains]))
        sys.stderr.write(f"· seed {seed}: {cost:+.3f} after {time.perf_counter() - begin_s:.0f} s\n")
        weights = {name: round(weight, 6) for name, weight in weights_of(search.network).items()}
        logs = [[round(gain.mean, 4), round(gain.tail, 4)] for gain in gains]
        found.append({"seed": seed, "cost": round(cost, 4), "mean_and_tail": logs, "weights": weights})
    best = min(found, key=lambda each: float(str(each["cost"])))
    document = {
        "trained_on": [{"trace": s.trace.name, "sha256": s.trace.sha256, "until_s": s.calibrated_s} for s in studies],
        "generations": asked.generations,
        "weights": best["weights"],
        "seed": best["seed"],
        "seeds": found,
    }
    asked.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
