"""Train and judge policies under the published protocol: three seeds for each log, backfilling and kind.

Logs come from a folder with the archive's files under their usual names; without it this says so and does nothing.
What is there already is taken up. Writes a folder a search, with a bundle for every seed; ``windows.json`` with every
window under every policy and control; ``table.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np

from shunter.agents.bundle import Bundle, load_bundle
from shunter.agents.contenders import heuristics, learned
from shunter.agents.courses import AS_PUBLISHED, GENERAL, Source
from shunter.agents.evaluation import Work, evaluate, make_case
from shunter.agents.protocols import PUBLISHED_JOBS, PUBLISHED_LENGTH, Protocol
from shunter.agents.published import BUNDLE, Order, train_published
from shunter.scheduler.errors import ShunterError
from shunter.traces import read
from shunter.traces.generate import generate
from shunter.traces.write import write

SEEDS = (0, 1, 2)

LOGS = {"sdsc": "SDSC-SP2-1998-4.2-cln.swf.gz", "lublin": "lublin_256.swf.gz"}
OTHERS = ("CTC-SP2-1996-3.1-cln.swf.gz", "KTH-SP2-1996-2.1-cln.swf.gz")
BACKFILLS = ("easy", "none")

LOADS = ((0.9, 101), (1.0, 102), (1.06, 103), (1.06, 104), (1.1, 105), (1.2, 106))
"""Load and seed of the generated traces of 256 processors, which have neither users nor estimates, as the log."""

LOADS_WITH_USERS = ((0.8, 201), (0.9, 202), (1.0, 203))
"""Of those of 128 processors, with users and estimates."""

METRIC = "avg_bounded_slowdown"


def main() -> None:
    """Train, judge, write."""
    asked = arguments()
    if not (asked.logs / LOGS["sdsc"]).exists():
        print(f"{asked.logs}: the logs are not there ({', '.join(LOGS.values())}); give their folder with --logs")
        sys.exit(2)
    for log, backfill, kind in product(LOGS, BACKFILLS, (GENERAL, AS_PUBLISHED)):
        name = f"{log}-{backfill}-{kind}"
        if asked.only and name not in asked.only:
            continue
        order = Order(
            sources=list(sources(log, kind, asked.logs, asked.out / "generated")),
            kind=kind,
            backfill=backfill,
            hidden=(0, 0),
            generations=asked.generations,
            seeds=SEEDS,
            out=asked.out / name,
            start=start_of(log, backfill, kind, asked.out),
            workers=asked.workers,
            resume=True,
            command=f"make train-published ({name}, {asked.generations} generations)",
        )
        print(f"{name} …", flush=True)
        trained = train_published(order)
        means = ", ".join(f"{outcome.curve[-1].mean:.1f}" for outcome in trained.outcomes)
        print(f"{name}: mean bounded slowdown on each seed's windows {means}; kept seed {trained.seed}", flush=True)
    judge(asked.logs, asked.out)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path("../shared/traces/swf"), help="folder with the SWF logs")
    parser.add_argument("--out", type=Path, default=Path("published"), help="folder to write")
    parser.add_argument("--generations", type=int, default=40, help="of each seed's search")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--only", nargs="*", default=[], metavar="LOG-BACKFILL-KIND", help="only these searches")
    return parser.parse_args()


def start_of(log: str, backfill: str, kind: str, out: Path) -> Bundle | None:
    """For what is trained as published on the generated log, the general policy; else None.

    On SDSC-SP2 a general one is no good start: a few early windows make most of the mean there.
    """
    folder = out / f"{log}-{backfill}-{GENERAL}" / BUNDLE
    return load_bundle(folder) if log == "lublin" and kind == AS_PUBLISHED and folder.exists() else None


def sources(log: str, kind: str, logs: Path, made: Path) -> Iterator[Source]:
    """What a search is made on; a general one never sees a job of the published windows."""
    if kind == AS_PUBLISHED:
        yield Source(read(logs / LOGS[log]), logs / LOGS[log])
        return
    own = {"cpus": 256.0} if log == "lublin" else {"cpus": 128.0, "users": 30.0, "estimates": "tsafrir"}
    for load, seed in LOADS if log == "lublin" else LOADS_WITH_USERS:
        path = made / f"lublin99-{own['cpus']:.0f}-load-{load:g}-seed-{seed}.swf.gz"
        if not path.exists():
            made.mkdir(parents=True, exist_ok=True)
            write(generate("lublin99", jobs=10_000, seed=seed, params=own | {"load": load}), path)
        yield Source(read(path), path)
    if log == "sdsc":
        for name in OTHERS:
            yield Source(read(logs / name), logs / name)
        path = logs / LOGS[log]
        yield Source(read(path), path, (PUBLISHED_JOBS + PUBLISHED_LENGTH, 10**9))


def judge(logs: Path, out: Path) -> None:
    """The ten published windows under every bundle that is there and every control."""
    rules, tables, rows = Protocol("rlscheduler"), [], []
    for log, backfill in product(LOGS, BACKFILLS):
        found = [
            learned(folder, f"{kind} {folder.parent.name}", rules)
            for kind in (GENERAL, AS_PUBLISHED)
            for folder in sorted((out / f"{log}-{backfill}-{kind}").glob(f"seed-*/{BUNDLE}"))
        ]
        if not found:
            continue
        case = make_case(read(logs / LOGS[log]), rules, path=logs / LOGS[log])
        work = Work(rules, (case,), (*found, *heuristics(rules, [backfill])), (backfill,))
        windows = evaluate(work).windows
        means = {}
        for i, contender in enumerate(work.contenders):
            values = [window[METRIC] for window in windows[0, backfill, i]]
            means[contender.label] = float(np.mean(values))
            rows.append({"log": log, "backfill": backfill, "policy": contender.label, METRIC: values})
        kept = {}
        for kind in (GENERAL, AS_PUBLISHED):
            folder = out / f"{log}-{backfill}-{kind}" / BUNDLE
            if folder.exists():
                kept[kind] = means[f"{kind} seed-{load_bundle(folder).card.seeds[0]}"]
        tables += lines(log, backfill, means, kept, [each.label for each in found])
    (out / "windows.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    header = [
        "| log | backfilling | policy | seeds: mean of the ten windows | worst | best |",
        "|---|---|---|---|---|---|",
    ]
    (out / "table.md").write_text("\n".join(header + tables) + "\n", encoding="utf-8")
    print((out / "table.md").read_text(encoding="utf-8"))


def lines(log: str, backfill: str, means: dict[str, float], kept: dict[str, float], own: Sequence[str]) -> list[str]:
    """Rows of the table: each kind with its seeds and that kept for its training windows, then the best controls."""
    found = []
    for kind in (GENERAL, AS_PUBLISHED):
        seeds = [means[label] for label in own if label.startswith(f"{kind} ")]
        if seeds:
            each = ", ".join(f"{mean:.1f}" for mean in seeds)
            what = f"{kind}" + (" (in-distribution)" if kind == AS_PUBLISHED else "")
            found.append(
                f"| {log} | {backfill} | {what} | {each} | {max(seeds):.1f} | {min(seeds):.1f} | {kept[kind]:.1f} |"
            )
    controls = sorted((mean, label) for label, mean in means.items() if label not in own)
    found += [f"| {log} | {backfill} | `{label}` | {mean:.1f} | | | |" for mean, label in controls[:4]]
    return found


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        try:
            main()
        except ShunterError as error:
            print(f"train_published: {error}", file=sys.stderr)
            sys.exit(1)
