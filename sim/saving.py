"""What of a simulation changes during a run: its numbers and arrays, for a checkpoint, and put back from one."""

from __future__ import annotations

from mmap import PAGESIZE
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.clock import Callbacks, EventClock, Order
from shunter.sim.estimates import estimate_arrays

if TYPE_CHECKING:
    from shunter.sim.engine import Simulation

COUNTS = (
    "num_events", "num_passes", "passes_put_off", "num_done", "num_preemptions", "_next_batch", "_absorbed",
    "_arrived", "_next_outage", "_waits_since_s",
)  # fmt: skip

CHANGING = ("expected_s", "attained_s", "processors")
"""Columns of jobs that change when they are stopped or resized."""


def counts(simulation: Simulation) -> dict[str, int | float | list[int]]:
    """The engine's own numbers, for a checkpoint."""
    own: dict[str, int | float | list[int]] = {name: getattr(simulation, name) for name in COUNTS}
    own["now_s"] = float(simulation.clock.now)
    own["next_pass_s"] = simulation._next_pass_s
    own["earliest_pass_s"] = simulation._earliest_pass_s
    own["finished"] = simulation._finished[: simulation._num_finished].tolist()
    return own


def claim_memory(simulation: Simulation) -> None:
    """Write to every page of the arrays, so that the system gives at the start what the replay will need."""
    for values in arrays(simulation).values():
        if values.flags.writeable and values.flags.c_contiguous:
            page = values.reshape(-1).view(np.uint8)[::PAGESIZE]
            page |= 0


def arrays(simulation: Simulation) -> dict[str, Any]:
    """The arrays that change during a run, by name, for a checkpoint."""
    found = simulation.state.arrays()
    if simulation.ledger is not None:
        found |= {f"ledger_{name}": getattr(simulation.ledger, name) for name in ("usage_s", "held", "since_s")}
    if simulation.lifecycle is not None:
        found |= simulation.lifecycle.arrays()
        columns = simulation.workload.columns
        found |= {f"columns_{name}": getattr(columns, name) for name in CHANGING}
    if simulation.estimates is not None:
        found |= {f"estimates_{name}": values for name, values in estimate_arrays(simulation.estimates).items()}
    for part in (
        simulation.rounds,
        simulation.slowing,
        simulation.evacuation,
        simulation.learned,
        simulation.portfolio,
    ):
        found |= {} if part is None else part.arrays()
    if simulation.waits_s is not None:
        found["waits_s"] = simulation.waits_s
    return found


def restore(simulation: Simulation, counts: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Stand where a saved simulation of the same workload and options stood."""
    stand_at(simulation, counts, arrays["pending_time"], arrays["pending_order"], arrays["pending_value"])
    simulation.state.restore(arrays)
    if simulation.lifecycle is not None:
        simulation.lifecycle.restore(arrays)
        for name in CHANGING:
            getattr(simulation.workload.columns, name)[:] = arrays[f"columns_{name}"]
    if simulation.estimates is not None:
        for name, values in estimate_arrays(simulation.estimates).items():
            values[:] = arrays[f"estimates_{name}"]
    if simulation.rounds is not None:
        simulation.rounds.restore(arrays)
    if simulation.slowing is not None:
        simulation.slowing.restore(arrays, simulation.state)
    if simulation.evacuation is not None:
        simulation.evacuation.restore(arrays)
    if simulation.learned is not None:
        simulation.learned.restore(arrays)
    if simulation.portfolio is not None:
        simulation.portfolio.restore(arrays)
    if simulation.waits_s is not None:
        simulation.waits_s[:] = arrays["waits_s"]
    if simulation.ledger is not None:
        for name in ("usage_s", "held", "since_s"):
            getattr(simulation.ledger, name)[:] = arrays[f"ledger_{name}"]


def stand_at(
    simulation: Simulation, counts: dict[str, Any], time_s: FloatArray, order: IntArray, value: IntArray
) -> None:
    """Give a simulation its own numbers, and put the events to come (E,) on a new clock."""
    for name in COUNTS:
        setattr(simulation, name, counts[name])
    simulation._next_pass_s = counts["next_pass_s"]
    simulation._earliest_pass_s = counts["earliest_pass_s"]
    simulation._num_finished = len(counts["finished"])
    simulation._finished[: simulation._num_finished] = counts["finished"]
    simulation.clock = EventClock(initial_time=counts["now_s"])
    kinds: dict[int, Callbacks]
    kinds = {
        Order.END: simulation._on_end,
        Order.STOP: simulation._on_stop,
        Order.FAULT: simulation._on_fault,
        Order.RETRY: simulation._on_retry,
        Order.OUTAGE: simulation._on_outage,
        Order.LOAD: simulation._on_load,
        Order.ARRIVAL: simulation._on_arrival,
        Order.PASS: simulation._on_pass,
    }
    for at_s, kind, what in zip(time_s.tolist(), order.tolist(), value.tolist(), strict=True):
        simulation.clock.at(at_s, kind, kinds[kind], what)
