"""Train the forecaster of load that ships, and judge it on series that it learned from and on others.

Reads public load series from a folder laid out as ``--traces`` says; without them this says so and does nothing. Writes
``load/`` (the bundle) and ``load.json`` (the tables of docs/reference/forecasts.md); ``--ship`` puts the bundle into
the package.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shunter.predictors.bundle import CARD, MODEL, shipped_folder, write_forecaster
from shunter.predictors.general import GeneralOrder, train_general
from shunter.predictors.judging import Parts, baselines, judge_series
from shunter.predictors.load import LoadForecaster
from shunter.predictors.training import Plan
from shunter.scheduler.errors import ShunterError
from shunter.traces.load_series import LoadSeries
from shunter.traces.series_readers import read_series


@dataclass(frozen=True)
class Place:
    """Where a series lies.

    Attributes:
        files: A pattern.
        feature: What is forecast.
        source: The cluster that was measured: who learned from one of its series is no stranger to the others.
        licence: Of the data.
    """

    files: str
    feature: str
    source: str
    licence: str


SERIES = {
    "earth": Place("helios/earth_sequence_*.csv.gz", "gpu_utilization", "Helios Earth", "CC-BY-4.0"),
    "philly": Place("philly/philly_node_sequence_*.csv.gz", "active", "Philly", "CC-BY-4.0"),
    "spot": Place("alibaba-spot-2026/hourly_concurrency_part*.csv.gz", "gpus_active_requested", "Alibaba spot", "MIT"),
    "spot-models": Place(
        "alibaba-spot-2026/hourly_concurrency_top_models_*.csv.gz", "gpus_active_requested", "Alibaba spot", "MIT"
    ),
    "bitbrains": Place("bitbrains/bitbrains_small_cpu.csv.gz", "cpu_usage", "Bitbrains", "MIT"),
    "venus": Place("helios/venus_throughput_10min_*.csv.gz", "running_gpus", "Helios Venus", "not for commerce"),
    "duty": Place(
        "alibaba-genai-2026/pod_gpu_duty_cycle_*.csv.gz", "gpu_duty_cycle", "Alibaba GenAI", "CC-BY-4.0, for research"
    ),
    "marenostrum": Place("marenostrum3/monthTraces_*.csv.gz", "busy_cores", "MareNostrum 3", "none stated"),
    "supercloud": Place(
        "mit-supercloud/cpu_timeseries_one_job.csv.gz", "cpu_utilization", "MIT SuperCloud", "none stated"
    ),
}

SHIPS_WITH = ("earth", "philly", "spot", "spot-models", "bitbrains")
"""What the forecaster that ships learns from: licences that allow it. The others stay whole."""

PLAN = Plan(heaviest=3.0)
"""As ``shunter train forecaster``, but that wild windows weigh less. Chosen on the validation parts."""


def main() -> None:
    """Train, judge, and ship if asked to."""
    asked = arguments()
    missing = [place.files for place in SERIES.values() if not list(asked.traces.glob(place.files))]
    if missing:
        print(f"{asked.traces}: the series are not there ({', '.join(missing)}); give their folder with --traces")
        sys.exit(2)
    series = {name: opened(asked.traces, place, name) for name, place in SERIES.items()}
    forecaster, onnx = made([series[name] for name in SHIPS_WITH], asked.seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, Any]] = {}
    strangers: dict[tuple[str, ...], LoadForecaster] = {}
    for name, one in {} if asked.only_ship else series.items():
        others = tuple(other for other in SHIPS_WITH if SERIES[other].source != SERIES[name].source)
        if others == SHIPS_WITH:
            strangers[others] = forecaster
        elif others not in strangers:
            strangers[others] = made([series[other] for other in others], asked.seed)[0]
        table[name] = {"stranger": judged(one, strangers[others])}
        if name in SHIPS_WITH:
            table[name]["own"] = judged(one, forecaster)
        print(name, *(line(kind, found) for kind, found in table[name].items()), sep="\n  ", flush=True)
        (asked.out / "load.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    folder = asked.out / "load"
    card = replace(forecaster.card, evaluation={name: brief(row) for name, row in table.items()})
    write_forecaster(folder, onnx, card)
    print(f"{folder}: {len(onnx) / 1000:.0f} kB, {card.notes}")
    if asked.ship:
        place = shipped_folder()
        place.mkdir(exist_ok=True)
        for file in (CARD, MODEL):
            shutil.copyfile(folder / file, place / file)
        print(f"{place}: {sum((place / file).stat().st_size for file in (CARD, MODEL)) / 1000:.0f} kB")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, default=Path("../shared/traces"), help="folder with helios/, philly/, …")
    parser.add_argument("--out", type=Path, default=Path("trained"), help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="the first of three")
    parser.add_argument("--only-ship", action="store_true", help="no tables, only the bundle")
    parser.add_argument("--ship", action="store_true", help="put the bundle into the package")
    return parser.parse_args()


def opened(folder: Path, place: Place, name: str) -> LoadSeries:
    """One of the series, of one feature, under its short name."""
    found = read_series(sorted(folder.glob(place.files)), skip_bad=True)
    return replace(found.select(features=[place.feature]), name=name)


def made(series: Sequence[LoadSeries], seed: int, plan: Plan = PLAN, **more: Any) -> tuple[LoadForecaster, bytes]:
    """A forecaster that learned from some series together, and its network."""
    order = GeneralOrder(series, plan, seeds=range(seed, seed + 3), command="make train-load", **more)
    card, onnx, _ = train_general(order)
    return LoadForecaster(card, onnx), onnx


def judged(series: LoadSeries, forecaster: LoadForecaster) -> dict[str, Any]:
    """On the last 30 % of a series, beside baselines that learned from the rest of it."""
    parts = Parts.of(series)
    return judge_series(parts, forecaster, baselines(parts, trees=False))[0]


def line(kind: str, found: Mapping[str, Any]) -> str:
    """A row in a line: errors over those of persistence, step by step."""
    cells = [
        f"{name} " + " ".join(f"{value:.3f}" for value in found["errors"][name]["relative"])
        for name in ("ewma", "linear-ar", "lstm")
    ]
    return f"{kind}: coverage {found['calibrated']['coverage_overall']:.3f}; " + "; ".join(cells)


def brief(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the card keeps of a series: errors over those of persistence, by step, and how many were judged."""
    return {
        kind: {
            "windows": found["windows"],
            "relative": [round(value, 4) for value in found["errors"]["lstm"]["relative"]],
            "mase": [round(value, 4) for value in found["errors"]["lstm"]["mase"]],
            "coverage": round(found["calibrated"]["coverage_overall"], 4),
        }
        for kind, found in row.items()
    }


if __name__ == "__main__":
    try:
        main()
    except ShunterError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        sys.exit(2)
