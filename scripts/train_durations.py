"""Train the predictor of run times that ships, and judge predictors that know a trace's past and that know others only.

Reads the archive's logs, Philly and Helios from a folder laid out as ``--traces`` says; without them this says so and
does nothing. Writes ``durations/`` (the bundle) and ``durations.json`` (the tables of docs/reference/durations.md);
``--ship`` puts the bundle into the package.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shunter.predictors.boosting import Boosting
from shunter.predictors.duration_bundle import CARD, MODEL, shipped_folder
from shunter.predictors.duration_metrics import judged, summary
from shunter.predictors.durations import Material, Order, material_of, train, write_trained
from shunter.scheduler.errors import ShunterError
from shunter.traces import read
from shunter.traces.periods import split
from shunter.traces.tables import Trace

FILES = {
    "SDSC-SP2": ("swf/SDSC-SP2-1998-4.2-cln.swf.gz", None),
    "CTC-SP2": ("swf/CTC-SP2-1996-3.1-cln.swf.gz", None),
    "KTH-SP2": ("swf/KTH-SP2-1996-2.1-cln.swf.gz", None),
    "CERIT": ("swf/CERIT-SC-wagap-2013-alea.swf.gz", None),
    "Philly": ("philly/philly_jobs.csv.gz", None),
    "Helios": ("helios/helios_15k_part1.csv.gz", None),
    "Curie": ("swf/CEA-Curie-2011-2.1-cln.swf.gz", 60_000),
    "RICC": ("swf/RICC-2010-2.swf.gz", 40_000),
}
"""File, and how many jobs are looked at."""

SHIPS_WITH = ("SDSC-SP2", "CTC-SP2", "KTH-SP2", "CERIT", "Philly", "Helios")
"""What the predictor that ships learns from; Curie and RICC stay whole, to see what it makes of other machines."""

OWN = Boosting()
GENERAL = Boosting(trees=70, leaves=16, learning_rate=0.15, least_jobs=200)
"""Small enough to ship."""


def main() -> None:
    """Train, judge, and ship if asked to."""
    asked = arguments()
    missing = [path for path, _ in FILES.values() if not (asked.traces / path).exists()]
    if missing:
        print(f"{asked.traces}: the traces are not there ({', '.join(missing)}); give their folder with --traces")
        sys.exit(2)
    traces = {name: opened(asked.traces, name) for name in FILES}
    materials = {name: material_of(trace) for name, trace in traces.items()}
    settings = replace(GENERAL, seed=asked.seed)
    table = {}
    if not asked.only_ship:
        for name, trace in traces.items():
            table[name] = row = judge(name, trace, materials, settings, asked.seed)
            print(name, *(line(kind, found) for kind, found in row.items()), sep="\n  ", flush=True)
    order = Order([traces[name] for name in SHIPS_WITH], settings, command="make train-durations")
    trained = train(order, materials=[materials[name] for name in SHIPS_WITH])
    evaluation = {name: {kind: brief(found) for kind, found in row.items()} for name, row in table.items()}
    bundle = write_trained(trained, order, asked.out / "durations", evaluation)
    print(f"{bundle.path}: {trained.trees} trees, {len(trained.onnx) / 1000:.0f} kB, parity {trained.parity:.1e}")
    if table:
        (asked.out / "durations.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    if asked.ship:
        place = shipped_folder()
        place.mkdir(exist_ok=True)
        for file in (CARD, MODEL):
            shutil.copyfile(bundle.path / file, place / file)
        print(f"{place}: {sum((place / file).stat().st_size for file in (CARD, MODEL)) / 1000:.0f} kB")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, default=Path("../shared/traces"), help="folder with swf/, philly/, …")
    parser.add_argument("--out", type=Path, default=Path("trained"), help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-ship", action="store_true", help="no tables, only the bundle")
    parser.add_argument("--ship", action="store_true", help="put the bundle into the package")
    return parser.parse_args()


def opened(folder: Path, name: str) -> Trace:
    """One of the traces, under its short name."""
    path, count = FILES[name]
    trace = replace(read(folder / path, skip_bad=True), name=name)
    return trace if count is None else trace.window(0, count)


def judge(
    name: str, trace: Trace, materials: dict[str, Material], settings: Boosting, seed: int
) -> dict[str, dict[str, Any]]:
    """The trace's own predictor, and one that learned from all the others, on its test period."""
    own = train(Order([trace], replace(OWN, seed=seed)), materials=[materials[name]]).model
    others: Sequence[Material] = [material for other, material in materials.items() if other != name]
    general = train(Order([], settings), materials=others).model
    found = judged(trace, split(trace)[2], {"own": own, "general": general})
    return {kind: summary(told, kind, seed) for kind, told in found.items()}


def line(kind: str, found: dict[str, Any]) -> str:
    """A row in a line."""
    cells = [
        f"{c['name']} {c['median_ratio_error']['value']:.2f} {c['mean_log_error']['value']:.3f} "
        f"{c['under_share']['value']:.2f}"
        for c in found["contenders"]
        if kind == "own" or c["name"] == kind
    ]
    held = f"coverage {found['coverage']['value']:.3f} ({found['coverage_uncalibrated']:.3f} uncalibrated)"
    return f"{kind}: {held}; median ratio, mean log error, under: " + "; ".join(cells)


def brief(found: dict[str, Any]) -> dict[str, Any]:
    """What the card keeps of a row."""
    model = found["contenders"][0]
    return {
        "median_ratio_error": round(model["median_ratio_error"]["value"], 4),
        "mean_log_error": round(model["mean_log_error"]["value"], 4),
        "coverage": round(found["coverage"]["value"], 4),
        "jobs": found["jobs"],
    }


if __name__ == "__main__":
    try:
        main()
    except ShunterError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        sys.exit(2)
