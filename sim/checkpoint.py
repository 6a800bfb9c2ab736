"""A stopped replay as a file: the state's arrays, the clock's events and what the engine counts.

The file is a NumPy archive. It is written aside and renamed; it is taken up only by the same replay (trace checksum,
cluster, policy and every setting equal), and the resumed run ends in the same bytes as one that was never stopped.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from shunter.scheduler.errors import OutputError, UsageError
from shunter.sim.engine import Simulation
from shunter.sim.saving import arrays, counts, restore

FORMAT = 5


def save_checkpoint(path: Path, simulation: Simulation, manifest: dict[str, Any], spent_s: float) -> None:
    """Write the state of a simulation that stands between two instants.

    Raises:
        OutputError: The file cannot be written; an older one stays as it was.
    """
    head = {"format": FORMAT, "manifest": manifest, "spent_s": spent_s, "engine": counts(simulation)}
    pending = simulation.clock.pending
    changing = arrays(simulation) | {
        "pending_time": np.asarray([time_s for time_s, _, _ in pending], dtype=np.float64),
        "pending_order": np.asarray([order for _, order, _ in pending], dtype=np.int64),
        "pending_value": np.asarray([-1 if value is None else value for _, _, value in pending], dtype=np.int64),
    }
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, head=np.frombuffer(json.dumps(head, sort_keys=True).encode(), dtype=np.uint8), **changing)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot write the checkpoint: {error.strerror or error}") from None


def load_checkpoint(path: Path, simulation: Simulation, manifest: dict[str, Any]) -> float:
    """Take up a saved replay in a fresh simulation of the same workload; returns the seconds it had taken.

    Raises:
        UsageError: There is no such file, it is no checkpoint, or it belongs to another replay (says what differs).
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            saved = dict(archive)
        head = json.loads(saved.pop("head").tobytes())
    except FileNotFoundError:
        raise UsageError(f"{path}: no checkpoint to resume from") from None
    except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: not a checkpoint, or a damaged one ({error})") from None
    if head.get("format") != FORMAT:
        raise UsageError(f"{path}: checkpoint format {head.get('format')!r}, expected {FORMAT}")
    mine = json.loads(json.dumps(manifest))
    different = sorted(key for key in mine if head["manifest"].get(key) != mine[key])
    if different:
        raise UsageError(f"{path}: belongs to another replay; different: {', '.join(different)}")
    restore(simulation, head["engine"], saved)
    return float(head["spent_s"])
