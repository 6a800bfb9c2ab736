"""What came of the trials, as text, plain values and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from examples.forecasts.arms import WINDOWS, Cell, Trial


def value_text(value: float, unit: str) -> str:
    """A value in its unit."""
    if unit == "share":
        return f"{value:.1%}"
    if unit == "%":
        return f"{value:.2f} %"
    if unit == "s":
        return f"{value / 3600:.2f} h" if value >= 3600 else f"{value / 60:.1f} min"
    return f"{value:,.1f}"


def cell_text(cell: Cell, unit: str) -> str:
    """A value, its ratio and interval; a star where the interval leaves 1 out."""
    text = value_text(cell.value, unit)
    if np.isfinite(cell.low):
        text += f"  {ratio_text(cell)}{'' if cell.is_sure else ' '}"
    return text


def ratio_text(cell: Cell) -> str:
    """A ratio with its interval; a star where the interval leaves 1 out."""
    return f"{cell.ratio:.2f} ({cell.low:.2f}–{cell.high:.2f}){'*' if cell.is_sure else ''}"


def report(trials: Sequence[Trial]) -> str:
    """Tables, a block a trial."""
    lines = []
    for trial in trials:
        lines.append(f"{trial.study}: {trial.log}")
        width = max(len(arm) for arm in trial.arms)
        rows = [["", *trial.cells]]
        for i, arm in enumerate(trial.arms):
            rows.append([arm.ljust(width), *(cell_text(cells[i], trial.units[k]) for k, cells in trial.cells.items())])
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines += [
            "  " + "   ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        for control in dict.fromkeys(each.control for each in trial.over):
            pairs = [f"{each.measure} {ratio_text(each.cell)}" for each in trial.over if each.control == control]
            lines.append(f"  predicted over {control}: {', '.join(pairs)}")
        lines.append("")
    lines.append(f"Ratios are over the first row; in brackets 95 % intervals of {WINDOWS} windows, * where 1 is out.")
    lines.append("Utilisation is that between the first and the last submission.")
    return "\n".join(lines)


def as_json(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Plain values; null where there is no number."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return value if np.isfinite(value) else None
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return [plain(asdict(trial)) for trial in trials]


def draw(trials: Sequence[Trial], path: Path) -> None:
    """Ratios of each trial's first measure, arm by arm, with their intervals."""
    from matplotlib.figure import Figure

    rows = sum(len(trial.arms) + 1 for trial in trials)
    figure = Figure(figsize=(9, 0.16 * rows + 0.8), layout="constrained")
    axes = figure.add_subplot()
    names, place = list[str](), 0
    ticks = list[int]()
    for trial in trials:
        measure = next(iter(trial.cells))
        for i, (arm, cell) in enumerate(zip(trial.arms, trial.cells[measure], strict=True)):
            if i == 0:
                names.append(f"{trial.log} — {trial.study}, {measure}: {arm}")
            else:
                names.append(arm)
            colour = "0.6" if i == 0 else "tab:green" if cell.high < 1 else "tab:red" if cell.low > 1 else "tab:blue"
            if np.isfinite(cell.low):
                axes.plot([cell.low, cell.high], [place, place], color=colour, lw=3, alpha=0.5)
            axes.plot(cell.ratio, place, "o", color=colour)
            ticks.append(place)
            place += 1
        place += 1
    axes.axvline(1.0, color="0.4", lw=0.8)
    axes.set_yticks(ticks, names, fontsize=7)
    axes.set_ylim(place - 0.5, -1)
    axes.set_xscale("log")
    axes.set_xticks([0.05, 0.1, 0.25, 0.5, 1, 2], ["0.05", "0.1", "0.25", "0.5", "1", "2"])
    axes.minorticks_off()
    axes.set_xlabel("over the same without a forecast (less is better)")
    figure.savefig(path, dpi=130)
