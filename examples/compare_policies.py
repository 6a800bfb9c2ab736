"""Replay the HPC demo trace under several policies and print a table: ``python examples/compare_policies.py``."""

from __future__ import annotations

import sys

from shunter.sim import simulate
from shunter.sim.compare import compare
from shunter.traces import demo_trace

RUNS = (("fcfs", "none"), ("fcfs", "easy"), ("fcfs", "conservative"), ("sjf", "easy"), ("wfp3", "easy"))


def main() -> None:
    """Print metrics of every run, then how the last differs from plain EASY."""
    trace = demo_trace("hpc")
    results = [simulate(trace, policy=policy, backfill=backfill) for policy, backfill in RUNS]
    lines = [f"{'policy':20}{'wait':>10}{'p95 wait':>12}{'slowdown':>10}{'use':>8}"]
    for result in results:
        metrics = result.metrics
        lines.append(
            f"{result.label:20}{metrics['avg_wait_s'] / 3600:8.1f} h{metrics['p95_wait_s'] / 3600:10.1f} h"
            f"{metrics['avg_bounded_slowdown']:10,.0f}{metrics['utilisation']:8.1%}"
        )
    lines.append(compare(results[1], results[-1]).statement("wait_s") + ".")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
