"""Train the policy that ships and the tuned control, on the training periods of four logs of the archive.

Three seeds; the one that does best on the validation periods is kept. Logs come from a folder with the archive's files
under their usual names; without it this says so and does nothing. What is there already is taken up. Writes
``policy/`` (a training's folder) and ``tuned-linear/`` (a bundle); ``--ship`` puts both into the package.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from shunter.agents.bundle import CARD, MODEL, SHIPPED, Card
from shunter.agents.linear import weights_of, write_linear
from shunter.agents.seeds import Point
from shunter.agents.settings import Budget, load_settings
from shunter.agents.training import Order, materials_of, searched, train_policy
from shunter.scheduler.errors import ShunterError
from shunter.scheduler.features import FEATURES
from shunter.traces import read

LOGS = (
    "SDSC-SP2-1998-4.2-cln.swf.gz",
    "CTC-SP2-1996-3.1-cln.swf.gz",
    "KTH-SP2-1996-2.1-cln.swf.gz",
    "CERIT-SC-wagap-2013-alea.swf.gz",
)
"""Logs with requested times and a queue. Others with both, Curie, RICC and Atlas, are kept back whole."""

SEEDS = (0, 1, 2)
SETTINGS = Path(__file__).with_name("shipped.yaml")


def main() -> None:
    """Train, and ship if asked to."""
    asked = arguments()
    paths = [asked.logs / name for name in LOGS]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        print(f"{asked.logs}: the logs are not there ({', '.join(missing)}); give their folder with --logs")
        sys.exit(2)
    traces = [read(path, skip_bad=True) for path in paths]
    order = Order(
        [(trace, trace.cluster) for trace in traces],
        load_settings(SETTINGS),
        Budget.parse(asked.budget),
        seeds=SEEDS,
        out=asked.out / "policy",
        command=f"make train ({asked.budget} a seed)",
        resume=(asked.out / "policy" / "run.json").exists(),
    )
    trained = train_policy(order, report)
    print(f"policy: seed {trained.seed} kept, torch and ONNX differ by {trained.parity:.1e}")
    tuned = write_tuned(order, asked.out / "tuned-linear")
    if asked.ship and trained.bundle is not None:
        package = Path(__file__).parents[1] / "agents"
        for name, bundle in (("learned", trained.bundle), ("tuned-linear", tuned)):
            ship(bundle, package / SHIPPED[name])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path("../shared/traces/swf"), help="folder with the SWF logs")
    parser.add_argument("--out", type=Path, default=Path("trained"), help="folder to write")
    parser.add_argument("--budget", default="1000000steps", help="of each seed")
    parser.add_argument("--ship", action="store_true", help="put the bundles into the package")
    return parser.parse_args()


def report(seed: int, point: Point) -> None:
    """One line a round."""
    print(
        f"seed {seed}, {point.share:4.0%}: validation mean {point.mean:+.3f}, p95 {point.tail:+.3f} (logarithms of the "
        f"ratios to the best heuristics), cost {point.cost:.3f}, best {point.best:.3f}",
        flush=True,
    )


def write_tuned(order: Order, folder: Path) -> Path:
    """The control: weights of a linear score by direct search on the same training periods."""
    if (folder / CARD).exists():
        return folder
    material, periods = materials_of(order)
    network = searched(order, material, None)
    card = Card(
        kind="linear",
        low=tuple(feature.low for feature in FEATURES),
        high=tuple(feature.high for feature in FEATURES),
        traces=tuple(training.to_dict() for training, _ in periods),
        seeds=(0,),
        objective="mean and p95 of the bounded slowdown against the best heuristic, easy backfilling",
        command=order.command,
    )
    write_linear(folder, dict(weights_of(network)), card)
    return folder


def ship(bundle: Path, place: Path) -> None:
    """Copy a bundle's card and model over those of the package; its figures stay where it was trained."""
    for name in (CARD, MODEL):
        shutil.copyfile(bundle / name, place / name)
    print(f"{place}: {sum((place / name).stat().st_size for name in (CARD, MODEL)) / 1000:.0f} kB")


if __name__ == "__main__":
    try:
        main()
    except ShunterError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        sys.exit(2)
