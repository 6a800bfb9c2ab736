"""An ordering of one's own, registered and replayed: ``python examples/own_policy.py``.

Shortest job first starves long jobs. Here a second of waiting counts like ``patience`` seconds less of requested time.
The score ``requested + patience · submit`` gives that order and never changes while a job waits, so the ordering is
static. To keep it, put the function into a file of ``scheduler/policies`` and a line into ``ORDERINGS``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from shunter.scheduler.policies import ORDERINGS, Ordering
from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.types import FloatArray
from shunter.sim import simulate
from shunter.traces import demo_trace


def sjf_aged(view: QueueView, parameters: Mapping[str, float]) -> FloatArray:
    """Scores of the waiting jobs, shape (Q,), the lowest first."""
    return view.jobs.requested_s + parameters["patience"] * view.jobs.submit_s


def main() -> None:
    """Register the ordering and compare it with FCFS and SJF."""
    ORDERINGS["sjf-aged"] = Ordering(
        "sjf-aged",
        sjf_aged,
        summary="Shortest requested time first, less a share of the time waited",
        source="this example",
        uses_request=True,
        parameters={"patience": 0.2},
    )
    trace = demo_trace("hpc")
    lines = [f"{'policy':24}{'average wait':>14}{'longest wait':>14}"]
    for policy in ("fcfs", "sjf", "sjf-aged", "sjf-aged:patience=0.1"):
        result = simulate(trace, policy=policy, backfill="easy")
        wait_h, longest_d = result.metrics["avg_wait_s"] / 3600, result.metrics["max_wait_s"] / 86400
        lines.append(f"{result.policy:24}{wait_h:12.2f} h{longest_d:12.1f} d")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
