"""Table of how well fitted models resemble their logs: ``python -m shunter.traces.generate.quality TRACE…``.

Every figure is the mean over ``SEEDS`` draws with as many jobs as the log has; see ``compare`` for what they mean.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from shunter.traces.generate import fit
from shunter.traces.generate.compare import compare
from shunter.traces.tables import Trace

SEEDS = range(5)
DISTANCES = ("ks_size", "ks_duration", "ks_gap", "hour_correlation")
PAIRS = ("lag1_gap", "lag1_duration", "lag1_size", "load")


def quality_row(trace: Trace) -> str:
    """A Markdown row: distances, then log → model for each pair, and the range of the model's load over the seeds."""
    model = fit(trace)
    runs = [compare(trace, model.generate(len(trace.jobs), seed)) for seed in SEEDS]
    mean = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    cells = [trace.name, f"{len(trace.jobs):,}", *(f"{mean[name]:.3f}" for name in DISTANCES)]
    cells += [f"{mean[f'{name}_real']:.2f} → {mean[f'{name}_generated']:.2f}" for name in PAIRS]
    loads = [run["load_generated"] for run in runs]
    return "| " + " | ".join([*cells, f"{min(loads):.2f} … {max(loads):.2f}"]) + " |"


def main(paths: Sequence[str]) -> None:
    """Print the table of the given trace files."""
    from shunter.traces.read import read

    names = ["log", "jobs", *DISTANCES, *PAIRS, "load range"]
    sys.stdout.write("| " + " | ".join(names) + " |\n|" + " --- |" * len(names) + "\n")
    for path in paths:
        sys.stdout.write(quality_row(read(path)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
