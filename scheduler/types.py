"""Array types and resource units that every part shares.

Amounts of resources are whole numbers of small units (thousandths of a CPU or GPU, KiB of memory), so that adding and
releasing them is exact: floats would drift by an ulp per job and a full node would one day refuse a job that fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[np.generic]
Int = int | np.signedinteger[Any]

RESOURCES = ("cpus", "memory_gib", "gpus")
"""Resource kinds, in the order of the rows of every (R, …) array."""

UNITS_PER = (1000, 1024 * 1024, 1000)
"""Whole units in one CPU, one GiB and one GPU: milli-CPU, KiB, milli-GPU."""


def to_units(amounts: FloatArray, resource: int, *, up: bool) -> IntArray:
    """Amounts (CPUs, GiB, GPUs) as whole units, rounded ``up`` for demands and down for capacities.

    The amount is first rounded to a millionth of a unit, so that 0.1 CPUs are 100 units and not 101.
    """
    exact = np.round(np.asarray(amounts, dtype=np.float64) * UNITS_PER[resource], 6)
    return (np.ceil(exact) if up else np.floor(exact)).astype(np.int64)


def distinct_rows(table: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct rows of a table (J, K) with at least one row, sorted, and for each row its place among them, (J,).

    As ``np.unique`` along the first axis, which compares rows as strings of bytes: going column by column takes a
    tenth of the time where a column has few different values.
    """
    rows, row_idx = np.zeros((1, 0), np.int64), np.zeros(len(table), np.int64)
    for column in table.T:
        values = _distinct(column)
        key = row_idx * len(values) + np.searchsorted(values, column)
        keys = _distinct(key)
        rows = np.column_stack([rows[keys // len(values)], values[keys % len(values)]])
        row_idx = np.searchsorted(keys, key)
    return rows, row_idx


def numbers_of(table: FloatArray) -> IntArray:
    """(J,) numbers of the rows of a table (J, K) from 0 on, equal rows the same one, in the order of appearance."""
    from shunter.scheduler.kernels.numbering import number_rows

    count = len(table)
    scratch = np.full(4 << count.bit_length(), -1, dtype=np.int64)
    numbers = np.empty(count, dtype=np.int64)
    bits = np.ascontiguousarray(table + 0.0).view(np.int64)  # one zero, not two
    number_rows(bits, scratch, np.empty(count, dtype=np.int64), numbers)
    return numbers


def _distinct(values: IntArray) -> IntArray:
    """The different values, sorted. ``np.unique`` without indices is slower by far where there are many."""
    ordered = np.sort(values)
    distinct: IntArray = ordered[np.append(True, ordered[1:] != ordered[:-1])]
    return distinct


@dataclass(frozen=True, slots=True)
class ResourceDemand:
    """What jobs ask for.

    Attributes:
        tasks: (J,) gang size.
        shape_idx: (J,) row into ``shapes``: jobs whose tasks ask for the same amounts share a shape.
        shapes: (S, R) units per task.
        class_ok: (S, C) classes of nodes that a shape may run on; None when every shape may run on every node.
        jobs_of_shape: (S,) jobs of the workload that have the shape, listed here or not; None: those listed.
        gpu_memory: (S,) MiB that a task takes of the memory of its GPU, or of each of its GPUs; None: none is counted.
        instances: (S, C) row of ``mig.KINDS`` of the MIG instance that a task takes on nodes of a class; −1 where it
            takes none. None: no shape takes any. The GPU units of such a shape are its part of a GPU.
    """

    tasks: IntArray
    shape_idx: IntArray
    shapes: IntArray
    class_ok: BoolArray | None = None
    jobs_of_shape: IntArray | None = None
    gpu_memory: IntArray | None = None
    instances: IntArray | None = None

    @property
    def is_instance(self) -> BoolArray:
        """(S,) shapes of which a task takes a MIG instance."""
        kinds = np.full((len(self.shapes), 1), -1) if self.instances is None else self.instances
        return np.asarray((kinds >= 0).any(axis=1), dtype=np.bool_)

    @classmethod
    def from_amounts(
        cls,
        *,
        tasks: IntArray,
        cpus: FloatArray,
        memory_gib: FloatArray,
        gpus: FloatArray,
        allowed_idx: IntArray | None = None,
        allowed: BoolArray | None = None,
        instances: IntArray | None = None,
        gpu_memory: IntArray | None = None,
        class_memory: IntArray | None = None,
    ) -> ResourceDemand:
        """Demands from per-task amounts in CPUs, GiB and GPUs, each of shape (J,).

        Args:
            tasks: (J,) gang size.
            cpus: (J,) CPUs of a task.
            memory_gib: (J,) memory of a task.
            gpus: (J,) GPUs of a task.
            allowed_idx: (J,) row of ``allowed``.
            allowed: (A, C) classes of nodes that jobs may run on; without it they may run on any.
            instances: (A, C) kinds of MIG instances that their tasks take there, −1 for none.
            gpu_memory: (J,) MiB of the memory of one GPU that a task needs, 0 for none; with ``class_memory``.
            class_memory: (C,) MiB of a GPU.
        """
        per_task = np.stack([to_units(a, r, up=True) for r, a in enumerate((cpus, memory_gib, gpus))], axis=1)
        if len(per_task) == 0:
            return cls(tasks, np.zeros(0, np.int64), np.zeros((0, len(RESOURCES)), np.int64))
        num_kinds = per_task.shape[1]
        columns = [per_task]
        if allowed_idx is not None:
            columns.append(allowed_idx[:, None])
        if gpu_memory is not None:
            columns.append(gpu_memory[:, None])
        rows, row_idx = distinct_rows(np.concatenate(columns, axis=1))
        class_ok = None if allowed is None else allowed[rows[:, num_kinds]]
        memory = None if gpu_memory is None else rows[:, -1].copy()
        if memory is not None and class_memory is not None:
            enough = memory[:, None] <= class_memory
            class_ok = enough if class_ok is None else class_ok & enough
        return cls(
            tasks=tasks,
            shape_idx=row_idx,
            shapes=np.ascontiguousarray(rows[:, :num_kinds]),
            class_ok=class_ok,
            gpu_memory=memory,
            instances=None if instances is None else instances[rows[:, num_kinds]],
        )

    def __len__(self) -> int:
        return len(self.tasks)
