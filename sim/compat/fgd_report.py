"""Results of ``fgd-openb`` runs as files: the curves and placements as tables, and a figure of the curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shunter.sim.report.figures import DOUBLE_COLUMN_IN, DPI, legend_above, line_style, new_figure, paper_style
from shunter.sim.run_folder import FIGURES_FOLDER, json_bytes, parquet_bytes, staged_folder, write_bytes

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from shunter.sim.compat import ProtocolRun

PANELS = (("allocated_pct", "Allocated GPUs (%)"), ("fragmented_pct", "Fragmented GPUs (%)"))


def save(runs: Sequence[ProtocolRun], out: Path, version: str) -> None:
    """Write the runs into ``out``, whole or not at all.

    ``curves.parquet`` has a row a policy and whole percent of arrived GPU demand, ``pods.parquet`` a row a policy
    and pod; beside them ``metrics.json`` by policy, ``manifest.json`` and ``figures/curves.png``.

    Raises:
        OutputError: The folder holds something that no run wrote, or it cannot be written.
    """
    first = runs[0]
    manifest = {
        "shunter": version,
        "protocol": first["protocol"],
        "trace": first["trace"],
        "cluster": {"name": first["cluster"]},
        "policies": [run["policy"] for run in runs],
        "seed": first["seed"],
    }
    with staged_folder(out) as folder:
        write_bytes(folder / "curves.parquet", parquet_bytes(stacked(runs, "curves")))
        write_bytes(folder / "pods.parquet", parquet_bytes(stacked(runs, "jobs")))
        write_bytes(folder / "metrics.json", json_bytes({run["policy"]: run["metrics"] for run in runs}))
        write_bytes(folder / "manifest.json", json_bytes(manifest))
        (folder / FIGURES_FOLDER).mkdir()
        with paper_style():
            figure = curves_figure(runs)
            figure.savefig(folder / FIGURES_FOLDER / "curves.png", dpi=DPI, metadata={"Software": None})


def stacked(runs: Sequence[ProtocolRun], table: str) -> pl.DataFrame:
    """One of the runs' tables, below each other, with the policy in front."""
    import polars as pl

    frames = [run["curves"] if table == "curves" else run["jobs"] for run in runs]
    return pl.concat(
        [frame.select(pl.lit(run["policy"]).alias("policy"), pl.all()) for run, frame in zip(runs, frames, strict=True)]
    )


def curves_figure(runs: Sequence[ProtocolRun]) -> Figure:
    """Allocated and fragmented GPUs by the GPU demand that has arrived, a line a policy; call in ``paper_style``."""
    figure, panels = new_figure(DOUBLE_COLUMN_IN, 4.4, rows=len(PANELS))
    for axes, (column, label) in zip(panels, PANELS, strict=True):
        for i, run in enumerate(runs):
            axes.plot(run["curves"]["arrived_pct"], run["curves"][column], label=run["policy"], **line_style(i))
        axes.set_ylabel(label)
    lowest = min(float(run["curves"]["allocated_pct"][-1]) for run in runs)
    panels[0].set_ylim(bottom=max(0.0, lowest // 10 * 10 - 20.0))  # below, all policies place all that has arrived
    panels[1].set_ylim(bottom=0)
    panels[-1].set_xlim(0, max(float(run["curves"]["arrived_pct"][-1]) for run in runs))
    panels[-1].set_xlabel("GPU demand that has arrived (% of the cluster)")
    legend_above(figure, panels[0], len(runs), 6)
    return figure
