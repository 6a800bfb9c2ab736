"""Nodes that keep failing are held out after their repair: the rule of ``scheduler.failover`` applied to outages.

Whether a node fails does not depend on what runs there, so the history of every node is known beforehand, and holding
it out is one more span in which it takes nothing new. A live cluster calls the same two functions as its nodes fail and
come back.
"""

from __future__ import annotations

import math

import numpy as np

from shunter.scheduler.failover import Flapping, NodeHistory, after_failure, after_repair
from shunter.sim.failures import (
    CAUSE_DRAIN,
    CAUSE_PROBATION,
    FAIL,
    REPAIR,
    WHOLE_NODE,
    Outages,
    Spans,
    merged,
    outages_of,
)


def with_probation(outages: Outages, rule: Flapping) -> Outages:
    """The outages, and after each repair of a node that has failed too often of late a time without new work.

    Failures of whole nodes count, alone or with their rack; those of single GPUs and planned drains do not.

    Cost: O(E log E) for E events.
    """
    counted = (outages.gpu == WHOLE_NODE) & (outages.cause != CAUSE_DRAIN)
    rows = np.flatnonzero(counted & np.isin(outages.kind, (FAIL, REPAIR)))
    trusted = NodeHistory()
    known: dict[int, NodeHistory] = {}
    held: list[tuple[int, float, float]] = []
    events = zip(*(column[rows].tolist() for column in (outages.node, outages.kind, outages.time_s)), strict=True)
    for node, kind, time_s in events:
        step = after_failure if kind == FAIL else after_repair
        history = known[node] = step(known.get(node, trusted), time_s, rule)
        if kind == REPAIR and history.held_until_s > -math.inf:
            held.append((node, time_s, history.held_until_s))
    columns = np.asarray(held, dtype=np.float64).reshape(-1, 3).T
    spans = Spans.of(columns[0].astype(np.int64), columns[1], columns[2], cause=CAUSE_PROBATION, is_down=False)
    return merged(outages, outages_of(spans))
