"""Compiled decision kernels over the packed state arrays of ``layout``.

Owns every hot loop: fitting, placing, starting, releasing, and the scheduling pass under each kind of backfilling.
``scheduler.reference`` holds the plain-Python twin that a property test compares with. Invariant: ``node_free`` is
never negative.
"""

from shunter.scheduler.kernels.conservative import rebuild_profile
from shunter.scheduler.kernels.estimates import correct, learn_run, note_start, predict
from shunter.scheduler.kernels.evicting import choose_victims
from shunter.scheduler.kernels.lists import queue_remove, running_insert, running_remove
from shunter.scheduler.kernels.passes import (
    absorb,
    advance,
    advance_conservative,
    enqueue,
    run_conservative,
    run_lanes,
    run_pass,
    set_gpu,
    set_open,
)
from shunter.scheduler.kernels.placing import load_of_gang, nearest_tier
from shunter.scheduler.kernels.restoring import activate_waiting, hold_all
from shunter.scheduler.kernels.slots import activate_shape, refresh_node
from shunter.scheduler.kernels.starting import add_entry, hold, release_job, set_running, start_job
from shunter.scheduler.kernels.waits import attribute_waits, note_reasons

__all__ = [
    "absorb", "activate_shape", "activate_waiting", "add_entry", "advance", "advance_conservative",
    "attribute_waits", "choose_victims", "correct", "enqueue", "hold", "hold_all", "learn_run", "load_of_gang",
    "nearest_tier", "note_reasons", "note_start", "predict", "queue_remove", "rebuild_profile", "refresh_node",
    "release_job", "run_conservative", "run_lanes", "run_pass", "running_insert", "running_remove", "set_gpu",
    "set_open", "set_running", "start_job",
]  # fmt: skip
