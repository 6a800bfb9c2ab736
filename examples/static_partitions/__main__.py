"""Runs the study and writes its report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from examples.static_partitions.findings import investigate
from examples.static_partitions.jobs import philly
from examples.static_partitions.report import as_json, draw, report
from examples.studies import run_study, tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and write its report; 0 when done, 2 when something that it needs cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.static_partitions", description="Static partitions against one pool with quotas."
    )
    parser.add_argument("--quick", action="store_true", help="one load, three arms, five windows")
    return run_study(
        parser,
        arguments,
        investigate=lambda asked: investigate(philly(), quick=asked.quick, progress=tell),
        report=report,
        as_json=as_json,
        draw=draw,
    )


if __name__ == "__main__":
    sys.exit(main())
