"""The native file: the canonical job table as Parquet, all else of the trace as one JSON text in its metadata."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from typing import Any

from shunter.scheduler.errors import ConfigError, TraceError
from shunter.traces.compression import split_name
from shunter.traces.readers.base import Format, Head, Source
from shunter.traces.readers.draft import peak_cluster
from shunter.traces.tables import BadRow, Cleaning, ClusterSpec, Trace, job_schema, make_jobs

MAGIC = b"PAR1"
METADATA_KEY = "shunter.trace"
VERSION = 1
"""Version of the metadata; a reader refuses a newer one."""


def trace_metadata(trace: Trace) -> str:
    """All of a trace but its jobs, as canonical JSON."""
    content = {
        "version": VERSION,
        "name": trace.name,
        "cluster": dataclasses.asdict(trace.cluster),
        "start_unix_s": trace.start_unix_s,
        "source": trace.source,
        "sha256": trace.sha256,
        "format": trace.format,
        "cleaning": dataclasses.asdict(trace.cleaning),
        "header": dict(trace.header),
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _cleaning(content: Mapping[str, Any]) -> Cleaning:
    bad_rows = tuple(BadRow(**row) for row in content.get("bad_rows", ()))
    return Cleaning(**{**content, "bad_rows": bad_rows})


def _parse_metadata(source: Source, text: str) -> dict[str, Any]:
    """The stored fields, with the original's origin kept in the header when the file is a conversion.

    Raises:
        TraceError: Not the metadata that this version writes.
    """
    try:
        content = json.loads(text)
        if content["version"] > VERSION:
            raise TraceError(f"{source.path}: written by a newer version (metadata version {content['version']})")
        return {
            "name": str(content["name"]),
            "cluster": ClusterSpec.from_dict(content["cluster"]),
            "start_unix_s": content["start_unix_s"],
            "source": str(content["source"]),
            "sha256": str(content["sha256"]),
            "format": str(content["format"]),
            "cleaning": _cleaning(content["cleaning"]),
            "header": {str(key): str(value) for key, value in content["header"].items()},
        }
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ConfigError) as problem:
        raise TraceError(f"{source.path}: damaged trace metadata ({problem})") from None


def _read(source: Source) -> Trace:
    import polars as pl

    try:
        frame = pl.read_parquet(io.BytesIO(source.data))
        metadata = pl.read_parquet_metadata(io.BytesIO(source.data))
    except (pl.exceptions.PolarsError, OSError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise TraceError(f"{source.path}: damaged or truncated Parquet file ({reason})") from None
    schema = job_schema()
    missing = [name for name in ("job_id", "submit_s", "duration_s") if name not in frame.columns]
    if missing:
        names = ", ".join(repr(name) for name in missing)
        raise TraceError(
            f"{source.path}: no job table: column {names} missing; it has: {', '.join(frame.columns[:20])}"
        )
    try:
        jobs = make_jobs({name: frame[name] for name in schema if name in frame.columns})
    except (TraceError, pl.exceptions.PolarsError) as problem:
        raise TraceError(f"{source.path}: {str(problem).splitlines()[0]}") from None
    fields: dict[str, Any] = {"name": split_name(source.path)[0], "source": str(source.path), "sha256": source.sha256}
    fields |= {"format": FORMAT.name, "header": {}}
    if METADATA_KEY in metadata:
        fields |= _parse_metadata(source, metadata[METADATA_KEY])
    if source.cluster is not None:
        fields["cluster"] = source.cluster
    elif "cluster" not in fields:
        resources = [kind for kind in ("cpus", "gpus") if float(jobs.frame[kind].sum()) > 0] or ["cpus"]
        fields["cluster"], fields["header"]["cluster_note"] = peak_cluster(jobs.frame, resources)
    return Trace(jobs=jobs, **fields)


def _detect(head: Head) -> bool:
    return head.data.startswith(MAGIC)


FORMAT = Format("parquet", "this project's own file: canonical columns and all metadata", _detect, _read)
