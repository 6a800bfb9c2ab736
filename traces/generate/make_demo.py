"""Writes the demo traces of the package: ``python -m shunter.traces.generate.make_demo [FOLDER]``.

The result is the same byte for byte with the same versions of NumPy and polars, so a test can tell whether the files
in the package are what this script makes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shunter.traces.generate import generate
from shunter.traces.tables import Trace
from shunter.traces.write import write


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a demo trace is generated."""

    model: str
    jobs: int
    seed: int
    params: Mapping[str, float | str]


RECIPES: Mapping[str, Recipe] = {
    "hpc": Recipe(
        model="lublin99",
        jobs=3000,
        seed=7,
        params={"cpus": 128, "load": 0.85, "estimates": "tsafrir", "users": 40, "user_zipf": 1.2},
    ),
    "gpu": Recipe(
        model="gpu",
        jobs=3000,
        seed=7,
        params={"nodes": 16, "gpus_per_node": 8, "load": 0.85, "max_run": 72, "groups": 5, "users": 60},
    ),
}


def make_demo(name: str) -> Trace:
    """The demo trace of a recipe."""
    recipe = RECIPES[name]
    trace = generate(recipe.model, jobs=recipe.jobs, seed=recipe.seed, params=recipe.params)
    return replace(trace, name=f"demo-{name}")


def main(arguments: Sequence[str]) -> None:
    """Write every demo trace into the folder given, by default the package's own."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[1] / "data"
    for name in RECIPES:
        write(make_demo(name), folder / f"{name}.parquet")


if __name__ == "__main__":
    main(sys.argv[1:])
