"""``read``: any trace file in, canonical trace out. The format is told by the content, not by the file's name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from shunter.scheduler.errors import TraceError
from shunter.traces.compression import read_bytes
from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.tables import ClusterSpec, Trace


def read(
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002
    skip_bad: bool = False,
    mapping: str | Path | None = None,
    cluster: ClusterSpec | None = None,
) -> Trace:
    """Read a trace, compressed or not.

    Args:
        path: The file.
        format: Name of the reader; by default the one whose format the content has.
        skip_bad: Leave bad rows out, counted in ``Trace.cleaning``, instead of refusing the file.
        mapping: YAML file that says which column of a generic CSV is what; implies ``format="csv"``.
        cluster: Replaces the cluster that the log or its documentation names.

    Raises:
        TraceError: The file cannot be read as a trace; one line with file, line, column, reason and value.
        ConfigError: The mapping is not valid.
        UsageError: ``format`` does not exist.
    """
    from shunter.traces.readers import registry

    place = Path(path)
    reader = registry.find(format) if format is not None else None
    data = read_bytes(place)
    if reader is None:
        reader = registry.find("csv") if mapping is not None else detect(data, place)
    source = Source(
        path=place,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        skip_bad=skip_bad,
        mapping=Path(mapping) if mapping is not None else None,
        cluster=cluster,
    )
    return reader.read(source)


def detect(data: bytes, path: Path) -> Format:
    """The format of a file's content.

    Raises:
        TraceError: No reader knows it; says what the file looks like.
    """
    from shunter.traces.readers import openb, registry
    from shunter.traces.readers.base import require_text
    from shunter.traces.series_readers import format_of

    head = Head.of(data)
    for entry in registry.FORMATS:
        if entry.detect(head):
            return entry
    if data[257:262] == b"ustar":
        raise TraceError(f"{path}: a tar archive; unpack it and give one of its files")
    require_text(Source(path, data))
    if openb.detect_nodes(head):
        raise TraceError(f"{path}: a list of nodes, not of jobs; give it as the cluster of a trace (--cluster {path})")
    if not head.lines:
        raise TraceError(f"{path}: the file has no content but blank lines")
    if (series := format_of(data)) is not None:
        raise TraceError(
            f"{path}: a load series, not a list of jobs ({series.description}); `shunter traces info` shows it"
        )
    first = head.lines[0][:100]
    raise TraceError(
        f"{path}:1: format not recognised, got {first!r}; name it with --format, or describe the columns with --mapping"
    )
