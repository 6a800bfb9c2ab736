"""``shunter demo --live`` keeps its promises, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.daemon.cli.conftest import until

COMMAND = [sys.executable, "-m", "shunter", "demo", "--live"]


def left_in(folder: Path) -> list[str]:
    """Files and processes."""
    words = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [*map(str, folder.iterdir()), *(line for line in words if str(folder) in line)]


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_a_node_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^jobs lost +0$", done.stdout, re.MULTILINE)
    assert re.search(r"^jobs doubled +0$", done.stdout, re.MULTILINE)
    assert "node-2 is killed" in done.stdout
    moved = re.search(r"^failover +(\d+) jobs.* longest (\d+\.\d) s$", done.stdout, re.MULTILINE)
    assert moved is not None
    assert int(moved[1]) >= 1
    assert left_in(tmp_path) == []


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert "durably stored" in demo.stdout.readline()
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Traceback" not in err
    assert until(lambda: left_in(tmp_path) == [])
