"""The portfolio against each of its candidates: how well it does on the last part of public logs, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.measure import Record, Timing
from benchmarks.workloads import Setup

LOGS = ("sdsc-sp2", "ctc-sp2", "kth-sp2")
LAST = 0.4
"""Share of each log that is replayed, from an empty cluster."""


def portfolio(setup: Setup) -> Iterator[Record]:
    """The portfolio and its candidates with EASY on the last 40 % of three logs, once each."""
    from shunter.sim.portfolio import Look
    from shunter.sim.replay import simulate

    policies = ("portfolio", *Look().candidates.split("+"))
    for log in LOGS:
        if reason := setup.missing(log):
            yield Record("portfolio", log, skipped=reason)
            continue
        trace = setup.load(log)
        count = max(1, round(LAST * len(trace.jobs)))
        window = (len(trace.jobs) - count, count)
        for policy in policies:
            begin_s = time.process_time()
            result = simulate(trace, policy=policy, backfill="easy", window=window)
            cpu_s = time.process_time() - begin_s
            decisions = result.manifest.get("portfolio", {}).get("decisions")
            names = ("avg_bounded_slowdown", "p95_bounded_slowdown", "avg_wait_s")
            yield Record(
                "portfolio",
                f"{trace.name} {policy}+easy",
                timing=Timing.of([(result.wall_s, cpu_s)]),
                jobs=count,
                figures={name: result.metrics[name] for name in names}
                | ({} if decisions is None else {"decisions": float(decisions)}),
                facts={"trace": trace.name, "policy": policy, "backfill": "easy", "window": list(window)},
            )
