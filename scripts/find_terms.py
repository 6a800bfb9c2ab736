"""Search for the terms of ``foresight`` (``agents/settings.yaml``) and print them as YAML.

To be run as ``python -m scripts.find_terms``, from the root of the project.

On shaken copies of the training and validation periods of the four logs that the policy which ships is trained on, with
the regression as it is, by covariance matrix adaptation over the weights of the features below. The test periods and
all other logs stay unseen. Takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from cmaes import CMA

from scripts.train_shipped import LOGS, SETTINGS
from shunter.agents.foresight import averaged, composed, fit_means, look, shares_of
from shunter.agents.lessons import lessons_of
from shunter.agents.objective import Ground
from shunter.agents.search import GroundTrial
from shunter.agents.settings import Budget, ForesightSettings, load_settings
from shunter.agents.training import Order, materials_of
from shunter.scheduler.errors import ShunterError
from shunter.scheduler.kernels.network import Network
from shunter.scheduler.types import FloatArray
from shunter.traces import read

STEPS = {
    "log_until_free": 1.0,
    "log_wait": 1.5,
    "user_day": 2.0,
    "user_week": 2.0,
    "user_running": 2.0,
    "user_waiting": 1.0,
    "user_last_run": 2.0,
    "alike_known": 0.7,
    "log_slowdown": 1.0,
    "age": 0.5,
    "relative_age": 0.5,
    "size": 1.5,
    "log_size": 1.0,
    "spare": 0.5,
    "since_ended": 0.7,
}
"""Features whose weights are sought, with weights that matter."""

PULL = 0.01
"""Cost of a squared weight, in steps: what does not matter stays at 0."""

SHAKES, LENGTH, WARM_UP = 3, 4096 + 1000, 1000
SHARES = {LOGS[3]: 0.5}
"""Of a log in the cost, 1 unless said: CERIT-SC has a queue in a few weeks only."""

_TRIALS: list[tuple[float, GroundTrial]] = []
_HEADS: list[tuple[Network, Network]] = []


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path("../shared/traces/swf"), help="folder with the SWF logs")
    parser.add_argument("--generations", type=int, default=35)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    missing = [name for name in LOGS if not (asked.logs / name).exists()]
    if missing:
        print(f"{asked.logs}: the logs are not there ({', '.join(missing)}); give their folder with --logs")
        sys.exit(2)
    names = list(STEPS)
    optimiser = CMA(mean=np.zeros(len(names)), sigma=0.5, seed=asked.seed, population_size=12)
    with ProcessPoolExecutor(asked.workers, initializer=prepare, initargs=(asked.logs, asked.seed)) as pool:
        for generation in range(1, asked.generations + 1):
            candidates = [optimiser.ask() for _ in range(optimiser.population_size)]
            costs = list(pool.map(cost, candidates))
            optimiser.tell(list(zip(candidates, costs, strict=True)))
            print(f"generation {generation}: median {np.median(costs):+.3f}", file=sys.stderr, flush=True)
    for name, weight in terms_of(optimiser.mean).items():
        print(f"{name}: {weight:.1f}")


def prepare(logs: Path, seed: int) -> None:
    """Regress, and replay the heuristics on every log: once in each process."""
    settings = load_settings(SETTINGS).with_values(
        {"curriculum.generated_share": 0.0, "curriculum.loads": (1.0,), "curriculum.until": (1.0,)}
    )
    traces = [read(logs / name, skip_bad=True) for name in LOGS]
    order = Order([(t, t.cluster) for t in traces], settings, Budget.parse("1steps"), (seed,), Path())
    material, _ = materials_of(order)
    glimpses = look(lessons_of(material, settings, 0, seed), settings, seed=seed)
    for number, share in enumerate(shares_of(settings.foresight, settings.network.hidden)):
        _HEADS.append(fit_means(glimpses, settings.foresight, share, seed=seed + number))
    for name, each in zip(LOGS, material, strict=True):
        ground = Ground.of(
            each.trace,
            each.cluster,
            (0, each.validation[1]),
            length=min(LENGTH, each.validation[1]),
            most=100,
            warm_up=WARM_UP,
            shakes=SHAKES,
            heuristics=("saf", "smallest", "f3", "multifactor", "fairshare"),
        )
        _TRIALS.append((SHARES.get(name, 1.0), GroundTrial.of(ground)))


def terms_of(steps: Sequence[float] | FloatArray) -> dict[str, float]:
    """Weights from numbers of steps."""
    return {name: float(step) * STEPS[name] for name, step in zip(STEPS, steps, strict=True)}


def cost(steps: FloatArray) -> float:
    """What the score with these terms reaches on all logs; less is better."""
    asked: ForesightSettings = load_settings(SETTINGS).foresight.model_copy(update={"terms": terms_of(steps)})
    network = averaged([composed(heads, asked) for heads in _HEADS])
    shares = [share for share, _ in _TRIALS]
    reached = [trial.gain(network).cost for _, trial in _TRIALS]
    return float(np.average(reached, weights=shares)) + PULL * float(np.square(steps).sum())


if __name__ == "__main__":
    try:
        main()
    except ShunterError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        sys.exit(2)
