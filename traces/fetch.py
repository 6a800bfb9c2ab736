"""Downloads a public log: resumes what was interrupted, checks the content, and says plainly when it cannot.

Only the standard library's HTTP client. The file grows under ``NAME.partial`` and gets its own name when it is whole,
unpacks without error and, where the catalogue knows it, has the right hash.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from shunter.scheduler.errors import OutputError, ShunterError, TraceError, UsageError
from shunter.traces.catalogue import Entry, find
from shunter.traces.compression import read_bytes

TIMEOUT_S = 30.0
CHUNK_BYTES = 64 * 1024
ATTEMPTS = 3
"""Connections that may break before the fetch gives up; what came so far is kept for the next run."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes on disk and the total, if the server says."""


class FetchError(ShunterError):
    """A download that failed; what came so far is kept where a later run can resume it."""


class _Interrupted(Exception):  # noqa: N818 - no error yet: the next attempt may succeed
    """The connection ended early."""


def fetch(
    name: str, folder: Path, *, url: str | None = None, progress: Progress | None = None, verify: bool = True
) -> Path:
    """Download a log of the catalogue, or any file with ``url``, into ``folder``; returns the file's path.

    A file that is there already and has the right content is left as it is.

    Args:
        name: Name in the catalogue; with ``url``, any name.
        folder: Created if it is missing.
        url: Used instead of the catalogue's address.
        progress: Told of every chunk.
        verify: Compare the content's hash with the catalogue's.

    Raises:
        UsageError: Unknown name, or an address that is not http or https.
        FetchError: Not reachable, refused by the server, interrupted, or not the expected content.
        OutputError: The file cannot be written.
    """
    entry = find(name) if url is None else _entry_for(name, url)
    address = urllib.parse.urlsplit(entry.url)
    if address.scheme not in ("http", "https") or not address.netloc:
        raise UsageError(f"cannot fetch {entry.url!r}: expected an address that starts with http:// or https://")
    target = folder / _file_name(address.path, name)
    expected = entry.sha256 if verify else None
    if target.exists():
        _check(target, expected, entry.url)
        return target
    partial = target.with_name(target.name + ".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download(entry.url, partial, folder, progress)
        _check(partial, expected, entry.url)
        partial.replace(target)
    except OSError as problem:
        raise OutputError(f"{target}: cannot be written: {problem.strerror or problem}") from None
    return target


def _entry_for(name: str, url: str) -> Entry:
    """The catalogue's entry with another address, or an entry without a hash for a name that it does not have."""
    try:
        known = find(name)
    except UsageError:
        return Entry(name, url, "", "")
    return Entry(name, url, known.machine, known.acknowledge, known.sha256)


def _file_name(path: str, name: str) -> str:
    """Last part of the address, or the name where the address has none; never with a folder in it."""
    last = PurePosixPath(urllib.parse.unquote(path)).name or name
    return "".join(c for c in last if c.isalnum() or c in "._-+") or "download"


def _download(url: str, partial: Path, folder: Path, progress: Progress | None) -> None:
    """Fill ``partial`` up to the whole file, from where it ends."""
    host = urllib.parse.urlsplit(url).netloc
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _continue(url, partial, progress)
            return
        except urllib.error.HTTPError as problem:
            raise FetchError(f"{host} answered {problem.code} {problem.reason} for {url}") from None
        except urllib.error.URLError as problem:
            raise FetchError(
                f"could not reach {host}: {problem.reason}; check the network or download {url} by hand into {folder}"
            ) from None
        except (_Interrupted, http.client.HTTPException, ConnectionError, TimeoutError) as problem:
            if attempt == ATTEMPTS:
                size = partial.stat().st_size if partial.exists() else 0
                raise FetchError(
                    f"the connection to {host} broke after {size:,} bytes ({problem}); run the same command to resume"
                ) from None


def _continue(url: str, partial: Path, progress: Progress | None) -> None:
    """One request for what is missing, appended to ``partial``."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "shunter"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as problem:
        if problem.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        problem.close()
        if problem.headers.get("Content-Range", "").endswith(f"/{have}"):
            return  # everything had come when the last run was stopped
        partial.unlink()  # the file on the server is another one now
        raise _Interrupted("the file on the server has changed") from None
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None and length.isdigit() else None
        _append(response, partial, start, total, progress)


def _append(
    response: http.client.HTTPResponse, partial: Path, start: int, total: int | None, progress: Progress | None
) -> None:
    """Write the response's body at the end of ``partial``, or over it when the server sent all from the beginning."""
    done = start
    with partial.open("ab" if start else "wb") as file:
        while chunk := _next_chunk(response):
            file.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    if total is not None and done < total:
        raise _Interrupted(f"{total - done:,} bytes are missing")


def _next_chunk(response: http.client.HTTPResponse) -> bytes:
    """The next bytes; any failure of the connection, encrypted or not, becomes an interruption."""
    try:
        return response.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as problem:
        raise _Interrupted(str(problem) or type(problem).__name__) from None


def _check(path: Path, expected: str | None, url: str) -> None:
    """Refuse a file that does not unpack or has another hash than expected.

    A partial file with the wrong content is removed, since resuming it would never help.
    """
    try:
        found = hashlib.sha256(read_bytes(path)).hexdigest()
    except TraceError as problem:
        if path.suffix == ".partial":
            path.unlink()
        raise FetchError(f"{url}: not the expected file: {problem}") from None
    if expected is not None and found != expected:
        if path.suffix == ".partial":
            path.unlink()
            advice = "the archive may have a new version: --no-verify takes it as it is"
        else:
            advice = "move it away and fetch again"
        raise FetchError(f"{path.name}: wrong content: expected SHA-256 {expected}, got {found}; {advice}")
