"""What the studies share: their command line, and the files in which they leave what they found."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from shunter.scheduler.errors import ShunterError

Findings = TypeVar("Findings")


def tell(text: str) -> None:
    """What has been done, for those who wait."""
    sys.stderr.write(f"· {text}\n")


def run_study(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    *,
    investigate: Callable[[argparse.Namespace], Findings],
    report: Callable[[Findings], str],
    as_json: Callable[[Findings], Any],
    draw: Callable[[Findings, Path], None],
) -> int:
    """Run a study and write its report; 0 when done, 2 when something that it needs cannot be read.

    Args:
        parser: Of its arguments; ``--out`` is added.
        arguments: Of the command line.
        investigate: Runs the study that was asked for.
        report: What was found, as text.
        as_json: As plain values.
        draw: Into a PNG.
    """
    parser.add_argument("--out", type=Path, help="folder for report.txt, figures.json and figure.png")
    asked = parser.parse_args(arguments)
    try:
        findings = investigate(asked)
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
