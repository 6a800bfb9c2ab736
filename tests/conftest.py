"""What all tests share: where the public traces lie, and few threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_variable, "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_traces() -> Path:
    """Folder of public traces beside the checkout; tests that need it are skipped where it is absent."""
    folder = SHARED / "traces"
    if not folder.is_dir():
        pytest.skip(f"public traces are not there: {folder}")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of other systems' results beside the checkout."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip(f"golden results are not there: {folder}")
    return folder
