"""Runs the study and writes its report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from examples.start_times.report import as_json, draw, report
from examples.start_times.trial import LOGS, RUN_TIMES, Asked, Trial, investigate
from examples.studies import run_study, tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and write its report; 0 when done, 2 when something that it needs cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.start_times", description="Estimated start times against those of the replay."
    )
    parser.add_argument("logs", nargs="*", default=LOGS, help="trace files; default: three of the archive's")
    parser.add_argument("--policy", default="fcfs", help="ordering of the replay, or learned; default: fcfs")
    parser.add_argument("--backfill", default="easy", help="default: easy")
    parser.add_argument("--every", type=float, default=24.0, help="hours between two looks; default: 24")
    parser.add_argument("--share", type=float, default=1.0, help="of each log's jobs, from the first on; default: 1")
    parser.add_argument(
        "--run-times", choices=RUN_TIMES, default="jobs", help="drawn from ended jobs, or from the model that ships"
    )
    parser.add_argument("--quick", action="store_true", help="only the first 5,000 jobs of each log")

    def study(asked: argparse.Namespace) -> list[Trial]:
        logs, every_s = tuple(map(str, asked.logs)), asked.every * 3600.0
        given = Asked(logs, asked.policy, asked.backfill, every_s, asked.share, asked.run_times)
        return investigate(given, quick=asked.quick, progress=tell)

    return run_study(
        parser,
        arguments,
        investigate=study,
        report=report,
        as_json=as_json,
        draw=draw,
    )


if __name__ == "__main__":
    sys.exit(main())
