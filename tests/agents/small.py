"""A training that takes a second: short episodes, a small network, little to validate on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from shunter.agents.settings import Settings, load_settings
from shunter.traces.generate import generate

if TYPE_CHECKING:
    from pathlib import Path

    from shunter.agents.training import Order
    from shunter.traces.tables import Trace

SMALL = {
    "network.hidden": (8, 4),
    "windows.jobs": 32,
    "windows.warm_jobs": 8,
    "windows.visible": 16,
    "curriculum.loads": (1.0, 1.2),
    "curriculum.until": (0.5, 1.0),
    "curriculum.generated_share": 0.5,
    "curriculum.generated_jobs": 100,
    "imitation.teacher": "auto",
    "imitation.decisions": 100,
    "imitation.epochs": 1,
    "ppo.environments": 4,
    "ppo.steps": 16,
    "ppo.batch": 32,
    "ppo.epochs": 2,
    "ppo.learning_rate": 0.02,
    "selection.every": 1,
    "selection.windows": 1,
    "selection.shakes": 1,
    "selection.jobs": 80,
    "selection.warm_up": 8,
}


@cache
def small_settings() -> Settings:
    """Hyper-parameters of a small training."""
    return load_settings().with_values(SMALL)


@cache
def small_trace(jobs: int = 500) -> Trace:
    """A busy machine of 64 processors, with users and requests."""
    drawn = generate(
        "lublin99", jobs=jobs, seed=7, params={"cpus": 64, "load": 1.0, "users": 8, "estimates": "tsafrir"}
    )
    return replace(drawn, name="small")


def small_order(out: Path, *, steps: int = 256, **others: object) -> Order:
    """A training of a few rounds."""
    from shunter.agents.settings import Budget
    from shunter.agents.training import Order

    trace = small_trace()
    settings = others.pop("settings", small_settings())
    return Order([(trace, trace.cluster)], settings, Budget(steps=steps), seeds=[0], out=out, **others)  # type: ignore[arg-type]
