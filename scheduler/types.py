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


@dataclass(frozen=True, slots=True)
class ResourceDemand:
    """What jobs ask for.

    Attributes:
        tasks: (J,) gang size.
        shape_idx: (J,) row into ``shapes``: jobs whose tasks ask for the same amounts share a shape.
        shapes: (S, R) units per task.
        class_ok: (S, C) classes of nodes that a shape may run on; None when every shape may run on every node.
        jobs_of_shape: (S,) jobs of the workload that have the shape, listed here or not; None: those listed.
    """

    tasks: IntArray
    shape_idx: IntArray
    shapes: IntArray
    class_ok: BoolArray | None = None
    jobs_of_shape: IntArray | None = None

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
    ) -> ResourceDemand:
        """Demands from per-task amounts in CPUs, GiB and GPUs, each of shape (J,).

        Args:
            tasks: (J,) gang size.
            cpus: (J,) CPUs of a task.
            memory_gib: (J,) memory of a task.
            gpus: (J,) GPUs of a task.
            allowed_idx: (J,) row of ``allowed``.
            allowed: (A, C) classes of nodes that jobs may run on; without it they may run on any.
        """
        per_task = np.stack([to_units(a, r, up=True) for r, a in enumerate((cpus, memory_gib, gpus))], axis=1)
        if len(per_task) == 0:
            return cls(tasks, np.zeros(0, np.int64), np.zeros((0, len(RESOURCES)), np.int64))
        if allowed_idx is None or allowed is None:
            shapes, inverse = np.unique(per_task, axis=0, return_inverse=True)
            return cls(tasks=tasks, shape_idx=inverse.reshape(-1).astype(np.int64), shapes=shapes)
        told_apart = np.column_stack([per_task, allowed_idx])
        rows, inverse = np.unique(told_apart, axis=0, return_inverse=True)
        return cls(
            tasks, inverse.reshape(-1).astype(np.int64), np.ascontiguousarray(rows[:, :-1]), allowed[rows[:, -1]]
        )

    def __len__(self) -> int:
        return len(self.tasks)
