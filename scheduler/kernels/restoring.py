"""A state filled from a snapshot in one go: what running jobs hold, and the slots of the shapes that wait."""

from __future__ import annotations

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.slots import activate_shape
from shunter.scheduler.kernels.starting import add_entry
from shunter.scheduler.layout import WAITING, State
from shunter.scheduler.types import IntArray


@compiled
def hold_all(st: State, entries: IntArray) -> None:
    """Let jobs hold placement entries while no shape is active: rows are job, node, tasks, GPU bits, first slice."""
    for i in range(entries.shape[1]):
        add_entry(st, entries[0, i], entries[1, i], entries[2, i], entries[3, i], entries[4, i])


@compiled
def activate_waiting(st: State) -> None:
    """Begin to keep the free slots of every shape of which a job waits."""
    for s in range(st.shapes.shape[1]):
        if st.shapes[WAITING, s] > 0:
            activate_shape(st, s)
