"""What all tests share: few threads, and random examples that are the same in every run unless asked otherwise."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_variable, "1")

# Kernels are compiled when they are first used, in the middle of a test: no deadline. ``make test-slow`` looks for new
# examples (EXPLORE=1); the fast tests take the same ones every time, so that a failure is that of the change.
settings.register_profile("shunter", deadline=None, derandomize=not os.environ.get("EXPLORE"))
settings.load_profile("shunter")


def pytest_configure(config: pytest.Config) -> None:
    """Before all tests run on several workers: compile what each of these would otherwise compile for itself."""
    asked_for = config.args_source == pytest.Config.ArgsSource.ARGS
    is_controller = not hasattr(config, "workerinput") and config.getoption("numprocesses", None)
    if is_controller and not asked_for and not config.option.collectonly:
        from tests.compiling import compile_all

        compile_all()
