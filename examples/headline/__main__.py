"""Runs the study and writes its report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from examples.headline.findings import investigate
from examples.headline.report import as_json, draw, report
from shunter.scheduler.errors import ShunterError


def tell(text: str) -> None:
    """What has been done, for those who wait."""
    sys.stderr.write(f"· {text}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and write its report; 0 when done, 2 when a log or the policy cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.headline", description="From static partitions to a learned policy on one pool."
    )
    parser.add_argument("--quick", action="store_true", help="one load, three windows, nothing that preempts by policy")
    parser.add_argument("--out", type=Path, help="folder for report.txt, figures.json and figure.png")
    asked = parser.parse_args(arguments)
    try:
        findings = investigate(quick=asked.quick, progress=tell)
    except ShunterError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    text = report(findings)
    sys.stdout.write(text + "\n")
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "report.txt").write_text(text + "\n")
        (asked.out / "figures.json").write_text(json.dumps(as_json(findings), indent=1, sort_keys=True) + "\n")
        draw(findings, asked.out / "figure.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
