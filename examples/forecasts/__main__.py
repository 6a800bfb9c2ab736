"""Runs the trials and writes their report."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from examples.forecasts.arms import Trial
from examples.forecasts.report import as_json, draw, report
from examples.forecasts.series import BUDGET_S, Work
from examples.forecasts.trials import STUDIES
from examples.studies import run_study, tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trials and write their report; 0 when done, 2 when something that they need cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.forecasts",
        description="What forecasts are worth in decisions: off, on and perfect, on the last 30 % of logs and series.",
    )
    parser.add_argument("--only", choices=list(STUDIES), action="append", help="one of the studies; default: all")
    parser.add_argument("--quick", action="store_true", help="1,500 jobs of each log, one demand")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds of training for a series")
    parser.add_argument("--work", type=Path, help="folder that keeps trained forecasters; default: a temporary one")

    def study(asked: argparse.Namespace) -> list[Trial]:
        with tempfile.TemporaryDirectory() as folder:
            work = Work(asked.work or Path(folder), asked.budget)
            wanted = asked.only or list(STUDIES)
            return [trial for name in wanted for trial in STUDIES[name](work, tell, quick=asked.quick)]

    return run_study(parser, arguments, investigate=study, report=report, as_json=as_json, draw=draw)


if __name__ == "__main__":
    sys.exit(main())
