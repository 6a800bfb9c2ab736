"""``write``: a trace to a file, by the endings of its name. Every file is written aside and renamed.

``.parquet`` keeps everything. ``.swf`` and ``.csv`` (with ``.gz``, ``.xz`` or ``.zst`` if wanted) keep what those
formats can hold: SWF one number of processors a job and whole-number names, CSV the job table without the metadata.
"""

from __future__ import annotations

import io
from pathlib import Path

from shunter.scheduler.errors import UsageError
from shunter.traces.compression import SUFFIXES, compress, split_name, write_atomically
from shunter.traces.tables import Trace

FORMATS = (".parquet", ".swf", ".csv")


def write(trace: Trace, path: str | Path) -> None:
    """Write a trace in the format that the name's ending says.

    Raises:
        UsageError: The ending is not known, or the trace cannot be expressed in that format.
        OutputError: The file cannot be written; nothing stands under its name.
    """
    place = Path(path)
    _, endings = split_name(place)
    packing = endings[-1] if endings and endings[-1] in SUFFIXES else ""
    kind = endings[-2] if packing and len(endings) > 1 else endings[-1] if endings else ""
    if kind == ".parquet":
        if packing:
            raise UsageError(f"{place}: Parquet is compressed already; write it without {packing}")
        data = parquet_bytes(trace)
    elif kind == ".swf":
        from shunter.traces.swf_writer import swf_bytes

        data = swf_bytes(trace)
    elif kind == ".csv":
        data = trace.jobs.frame.write_csv().encode()
    else:
        raise UsageError(f"{place}: cannot tell the format; expected a name ending in {', '.join(FORMATS)}")
    write_atomically(place, compress(data, packing))


def parquet_bytes(trace: Trace) -> bytes:
    """A trace as the native file's content: equal traces give equal bytes (of one version of polars)."""
    from shunter.traces.readers.parquet import METADATA_KEY, trace_metadata

    buffer = io.BytesIO()
    metadata = {METADATA_KEY: trace_metadata(trace)}
    trace.jobs.frame.write_parquet(buffer, compression="zstd", statistics=False, metadata=metadata)
    return buffer.getvalue()
