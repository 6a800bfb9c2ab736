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

import numpy as np

from shunter.predictors.bundle import CARD, MODEL, shipped_folder, write_forecaster
from shunter.predictors.general import GeneralOrder, train_general
from shunter.predictors.judging import Parts, baselines, judge_series
from shunter.predictors.live import LiveForecaster
from shunter.predictors.load import LoadForecaster
from shunter.predictors.reasons import Reason
from shunter.predictors.shapes import HORIZON, MEDIAN
from shunter.predictors.training import Plan
from shunter.predictors.windows import split
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
    table = {} if asked.only_ship else judge_all(series, forecaster, asked.seed, asked.out / "load.json")
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


def judge_all(
    series: Mapping[str, LoadSeries], forecaster: LoadForecaster, seed: int, file: Path
) -> dict[str, dict[str, Any]]:
    """Every series by the forecaster that ships, and each that it learned from by one that never saw its cluster.

    The latter have one seed, which is a little worse than three. What is found is written after each series; what ships
    is also judged in operation.
    """
    table: dict[str, dict[str, Any]] = {}
    strangers: dict[tuple[str, ...], LoadForecaster] = {SHIPS_WITH: forecaster}
    for name, one in series.items():
        others = tuple(other for other in SHIPS_WITH if SERIES[other].source != SERIES[name].source)
        if others not in strangers:
            strangers[others] = made([series[other] for other in others], seed, seeds=1)[0]
        table[name] = {"stranger": judged(one, strangers[others])}
        if name in SHIPS_WITH:
            table[name]["own"] = judged(one, forecaster)
        table[name]["own" if name in SHIPS_WITH else "stranger"]["in_operation"] = in_operation(one, forecaster)
        print(name, *(line(kind, found) for kind, found in table[name].items()), sep="\n  ", flush=True)
        file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return table


def made(
    series: Sequence[LoadSeries], seed: int, plan: Plan = PLAN, seeds: int = 3, **more: Any
) -> tuple[LoadForecaster, bytes]:
    """A forecaster that learned from some series together, and its network."""
    order = GeneralOrder(series, plan, seeds=range(seed, seed + seeds), command="make train-load", **more)
    card, onnx, _ = train_general(order)
    return LoadForecaster(card, onnx), onnx


def judged(series: LoadSeries, forecaster: LoadForecaster) -> dict[str, Any]:
    """On the last 30 % of a series, beside baselines that learned from the rest of it."""
    parts = Parts.of(series)
    return judge_series(parts, forecaster, baselines(parts, trees=False))[0]


def in_operation(series: LoadSeries, forecaster: LoadForecaster) -> dict[str, Any]:
    """Step by step through the last 30 % of a series, all nodes new in the beginning, guarded by persistence.

    Returns:
        Errors over those of persistence by step, and the share of forecasts that were the network's.
    """
    live = LiveForecaster(forecaster, step_s=series.step_s)
    first = split(len(series.values)).test[0]
    loads = series.values[first:, :, 0].astype(np.float64)
    known = np.pad(loads, ((0, HORIZON), (0, 0)), constant_values=np.nan)
    state, mine, naive, asked = live.begin(series.nodes), np.zeros(HORIZON), np.zeros(HORIZON), 0.0
    for row, now in enumerate(loads):
        state, found = live.step(state, now[:, None], series.begin_s + (first + row) * series.step_s)
        actual = known[row + 1 : row + 1 + HORIZON].T
        mine += np.nansum(np.abs(actual - found.answer.quantiles[..., MEDIAN]), axis=0)
        naive += np.nansum(np.abs(actual - found.answer.persistence[..., MEDIAN]), axis=0)
        asked += float((found.answer.reasons == Reason.MODEL).mean())
    return {"relative": (mine / naive).tolist(), "asked": asked / len(loads)}


def line(kind: str, found: Mapping[str, Any]) -> str:
    """A row in a line: errors over those of persistence, step by step."""
    cells = [
        f"{name} " + " ".join(f"{value:.3f}" for value in found["errors"][name]["relative"])
        for name in ("ewma", "linear-ar", "lstm")
    ]
    if "in_operation" in found:
        cells.append("in operation " + " ".join(f"{value:.3f}" for value in found["in_operation"]["relative"]))
    return f"{kind}: coverage {found['calibrated']['coverage_overall']:.3f}; " + "; ".join(cells)


def brief(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the card keeps of a series: errors over those of persistence, by step, and how many were judged."""
    kept: dict[str, Any] = {}
    for kind, found in row.items():
        kept[kind] = {
            "windows": found["windows"],
            "relative": [round(value, 4) for value in found["errors"]["lstm"]["relative"]],
            "mase": [round(value, 4) for value in found["errors"]["lstm"]["mase"]],
            "coverage": round(found["calibrated"]["coverage_overall"], 4),
        }
        if "in_operation" in found:
            kept[kind]["in_operation"] = [round(value, 4) for value in found["in_operation"]["relative"]]
    return kept


if __name__ == "__main__":
    try:
        main()
    except ShunterError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        sys.exit(2)
