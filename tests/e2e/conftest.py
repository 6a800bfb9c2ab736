"""Runs the command as a person would; most tests do so inside their own process, which costs no start-up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    def failed_cleanly(self, code: int, *words: str) -> None:
        """One line on standard error that holds every word, nothing on standard output, no traceback."""
        assert self.code == code, self.err
        assert self.out == ""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if "compiling" not in line]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("shunter: ")
        for word in words:
            assert word in lines[0]


Shunter = Callable[..., Ran]


@pytest.fixture
def shunter(monkeypatch: pytest.MonkeyPatch) -> Shunter:
    """The command's ``main``, its exit code and what it printed."""

    def run(*arguments: object) -> Ran:
        from shunter.__main__ import main

        out, err = StringIO(), StringIO()
        monkeypatch.setattr(sys, "argv", ["shunter", *map(str, arguments)])
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
                code: object = 0
            except SystemExit as stopped:
                code = stopped.code or 0
        assert isinstance(code, int), code
        return Ran(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def shunter_process() -> Shunter:
    """The same in a process of its own: importing, start-up and the real streams belong to it."""

    def run(*arguments: object, timeout_s: float = 120) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "shunter", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def small_log(tmp_path: Path) -> Path:
    """Twelve jobs on four processors, some of them in each other's way."""
    rows = ["; MaxProcs: 4", "; UnixStartTime: 1000000000"]
    rows += [
        f"{i + 1} {10 * i} -1 {100 + 7 * i} {1 + i % 4} -1 -1 {1 + i % 4} {150 + 7 * i} -1 1 {i % 3} 1 -1 1 -1 -1 -1"
        for i in range(12)
    ]
    path = tmp_path / "small.swf"
    path.write_text("\n".join(rows) + "\n")
    return path
