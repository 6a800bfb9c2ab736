"""Shared material and small files for the tests of readers and writers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "traces"

SWF_ROW = "{job} {submit} {wait} {run} {alloc} -1 -1 {req} {limit} -1 {status} {user} 7 -1 2 -1 -1 -1"


def swf_row(**fields: object) -> str:
    """One SWF line; fields that are not given have usual values."""
    usual = {"job": 1, "submit": 0, "wait": 5, "run": 60, "alloc": 4, "req": 4, "limit": 120, "status": 1, "user": 3}
    return SWF_ROW.format(**(usual | fields))


@pytest.fixture
def write_text(tmp_path: Path) -> Callable[..., Path]:
    """Writes a text file into the test's folder."""

    def write(text: str | bytes, name: str = "trace.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public traces beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder of public traces at {SHARED}")
    return SHARED
