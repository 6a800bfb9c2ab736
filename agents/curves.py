"""The learning curve: how seeds came to stand against the best heuristics, as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from shunter.agents.seeds import Point


def learning_curve(curves: Mapping[int, Sequence[Point]], title: str) -> bytes:
    """A PNG: the metric on validation over the best heuristic's, and the share of training windows won, by decisions.

    Args:
        curves: By seed, its points.
        title: What was trained.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for number, (seed, points) in enumerate(curves.items()):
        steps = [point.steps for point in points]
        colour = f"C{number % 10}"
        above.plot(steps, np.exp([point.mean for point in points]), color=colour, label=f"seed {seed}, mean")
        above.plot(steps, np.exp([point.tail for point in points]), color=colour, ls=":", label=f"seed {seed}, p95")
        kept = min(range(len(points)), key=lambda i: points[i].cost)
        above.plot(steps[kept], np.exp(points[kept].mean), "o", color=colour)
        known = [(point.steps, point.wins) for point in points if point.wins is not None]
        below.plot([step for step, _ in known], [wins for _, wins in known], color=colour)
    above.axhline(1.0, color="0.5", lw=1)
    above.set_yscale("log")
    for which in (above.yaxis.set_major_formatter, above.yaxis.set_minor_formatter):
        which(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
    above.set_ylabel("validation: policy / best heuristic")
    above.set_title(title)
    above.legend(fontsize="small", ncols=min(3, len(curves)), loc="upper right")
    below.axhline(0.5, color="0.5", lw=1)
    below.set_ylim(0.0, 1.0)
    below.set_ylabel("training windows won")
    below.set_xlabel("decisions")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return file.getvalue()
