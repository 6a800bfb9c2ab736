"""Compiled decision kernels over the packed state arrays of ``layout``.

Owns every hot loop: fitting, placing, starting, releasing, and the scheduling pass under each kind of backfilling.
``scheduler.reference`` holds the plain-Python twin that a property test compares with. Invariant: ``node_free`` is
never negative.
"""

from shunter.scheduler.kernels.conservative import profile_from_promises
from shunter.scheduler.kernels.lists import queue_remove, running_insert, running_remove
from shunter.scheduler.kernels.passes import absorb, advance, run_pass
from shunter.scheduler.kernels.slots import activate_shape
from shunter.scheduler.kernels.starting import start_job

__all__ = [
    "absorb", "activate_shape", "advance", "profile_from_promises", "queue_remove", "run_pass", "running_insert",
    "running_remove", "start_job",
]  # fmt: skip
