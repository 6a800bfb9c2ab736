"""All readers, in the order in which they are asked whether a file is theirs."""

from __future__ import annotations

from shunter.scheduler.errors import UsageError, nearest
from shunter.traces.readers import (
    alibaba_batch,
    chronus,
    elasticflow,
    gavel,
    generic_csv,
    genparallel,
    google_tasks,
    lucid,
    muri,
    openb,
    pai_derived,
    parquet,
    philly_attempts,
    philly_csv,
    pollux,
    sacct,
    shockwave,
    supercloud,
    surf_lisa,
    swf,
    tiresias,
)
from shunter.traces.readers.base import Format

FORMATS: tuple[Format, ...] = (
    parquet.FORMAT,
    swf.FORMAT,
    sacct.FORMAT,
    philly_csv.FORMAT,
    philly_attempts.FORMAT,
    genparallel.FORMAT,
    lucid.FORMAT,
    supercloud.FORMAT,
    openb.FORMAT,
    pai_derived.FORMAT,
    alibaba_batch.FORMAT,
    google_tasks.FORMAT,
    muri.FORMAT,
    tiresias.FORMAT,
    chronus.FORMAT,
    elasticflow.FORMAT,
    shockwave.FORMAT,
    gavel.FORMAT,
    pollux.FORMAT,
    surf_lisa.FORMAT,
    generic_csv.FORMAT,
)


def find(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: There is none; suggests the nearest.
    """
    for entry in FORMATS:
        if entry.name == name:
            return entry
    raise UsageError(f"unknown trace format {name!r}{nearest(name, [entry.name for entry in FORMATS])}")
