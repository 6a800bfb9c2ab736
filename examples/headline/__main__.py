"""Runs the study and writes its report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from examples.headline.findings import investigate
from examples.headline.report import as_json, draw, report
from examples.studies import run_study, tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and write its report; 0 when done, 2 when something that it needs cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.headline", description="From static partitions to a learned policy on one pool."
    )
    parser.add_argument("--quick", action="store_true", help="one load, three windows, nothing that preempts by policy")
    return run_study(
        parser,
        arguments,
        investigate=lambda asked: investigate(quick=asked.quick, progress=tell),
        report=report,
        as_json=as_json,
        draw=draw,
    )


if __name__ == "__main__":
    sys.exit(main())
