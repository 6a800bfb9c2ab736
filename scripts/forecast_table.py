"""The tables of docs/reference/forecasts.md from folders of ``shunter train forecaster``.

``python -m scripts.forecast_table RUN…`` prints them as Markdown, a section each for MASE, errors relative to
persistence, and coverage.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ORDER = ("persistence", "ewma", "linear-ar", "lightgbm", "lstm")


def row(*cells: object) -> str:
    """A line of a table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def errors(runs: dict[str, dict[str, Any]], name: str) -> list[str]:
    """One error of all forecasters by series and step."""
    lines = [row("series", "forecaster", *range(1, 6), "mean"), row(*["---"] * 8)]
    for series, document in runs.items():
        for forecaster in ORDER:
            values = document["errors"].get(forecaster, {}).get(name)
            if values:
                shown = f"**{forecaster}**" if forecaster == "lstm" else forecaster
                mean = sum(values) / len(values)
                lines.append(row(series, shown, *(f"{value:.3f}" for value in values), f"{mean:.3f}"))
    return lines


def coverage(runs: dict[str, dict[str, Any]]) -> list[str]:
    """Coverage of the 80 % interval before and after calibration."""
    heads = ("series", "raw, all steps", "calibrated, 1", "2", "3", "4", "5", "with a width", "of those")
    lines = [row(*heads), row(*["---"] * len(heads))]
    for series, document in runs.items():
        raw = document["errors"]["lstm"]["coverage"]
        found = document["calibrated"]
        share = sum(found["share_with_width"]) / len(found["share_with_width"])
        cells = [f"{value:.1%}" for value in found["coverage"]]
        those = [value for value in found["coverage_with_width"] if value is not None]
        cells += [f"{share:.0%}", f"{sum(those) / len(those):.1%}" if those else ""]
        lines.append(row(series, f"{sum(raw) / len(raw):.1%}", *cells))
    return lines


def surely(runs: dict[str, dict[str, Any]]) -> list[str]:
    """On which steps the network is surely ahead of each other forecaster, or behind."""
    lines = [row("series", *ORDER[:-1]), row(*["---"] * 5)]
    for series, document in runs.items():
        cells = []
        for name in ORDER[:-1]:
            found = document["against"].get(name)
            signs = "" if found is None else "".join(map(_sign, found["low"], found["high"]))
            cells.append(f"`{signs}`" if signs else "")
        lines.append(row(series, *cells))
    return lines


def _sign(low: float, high: float) -> str:
    return "+" if high < 0 else "-" if low > 0 else "="


def main(folders: list[str]) -> None:
    """Print the tables."""
    runs = {Path(name).name: json.loads((Path(name) / "evaluation.json").read_text()) for name in folders}
    for title, lines in (
        ("MASE", errors(runs, "mase")),
        ("Error over that of persistence", errors(runs, "relative")),
        ("Coverage", coverage(runs)),
        ("Surely ahead", surely(runs)),
    ):
        print("\n".join([f"\n### {title}\n", *lines]))


if __name__ == "__main__":
    main(sys.argv[1:])
