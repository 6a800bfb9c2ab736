"""The two demo traces that ship with the package, so that a first replay needs no download.

``hpc``: 3,000 jobs of the Lublin–Feitelson model on 128 CPUs. ``gpu``: 3,000 training jobs on 16 nodes with 8 GPUs
each. Both are generated (``generate/make_demo.py``) at an offered load of 0.85: no real user is in them.
"""

from __future__ import annotations

from pathlib import Path

from shunter.scheduler.errors import UsageError, nearest
from shunter.traces.tables import Trace

DEMO_TRACES = ("hpc", "gpu")


def demo_path(name: str) -> Path:
    """The Parquet file of a demo trace.

    Raises:
        UsageError: There is no demo trace of that name; the message suggests the nearest.
    """
    if name not in DEMO_TRACES:
        raise UsageError(f"unknown demo trace {name!r}{nearest(name, list(DEMO_TRACES))}")
    return Path(__file__).resolve().parent / "data" / f"{name}.parquet"


def demo_trace(name: str) -> Trace:
    """A demo trace, ``hpc`` or ``gpu``.

    Raises:
        UsageError: There is no demo trace of that name.
        TraceError: The package's file is damaged.
    """
    from shunter.traces.read import read

    return read(demo_path(name))
