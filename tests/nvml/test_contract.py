"""What holds of every GPU, pretended or real; and machines where there is none to ask."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.nvml.conftest import WELL


def report(environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.nvml.report"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def has_library() -> bool:
    probe = "import ctypes; ctypes.CDLL('libnvidia-ml.so.1').nvmlInit_v2() and exit(1)"
    return subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


def check(found: dict[str, Any]) -> None:
    assert found["driver"]
    assert found["described"]
    assert len({gpu["uuid"] for gpu in found["described"]}) == len(found["described"])
    for index, (gpu, sample) in enumerate(zip(found["described"], found["samples"], strict=True)):
        assert gpu.get("index", 0) == sample.get("index", 0) == index
        assert gpu["uuid"].startswith("GPU-")
        assert "NVIDIA" in gpu["name"]
        assert 1 < gpu["memory_gib"] < 1000
        assert 0 <= sample["memory_used_gib"] <= gpu["memory_gib"]
        assert 0 <= sample.get("utilisation", 0) <= 1
        assert 10 < sample["temperature_c"] < 110
        assert 5 < sample["power_w"] < 2000
        assert 100 < sample["sm_clock_mhz"] < 4000
        assert int(sample["throttle_reasons"]) >= 0
        assert "fault" not in sample
    assert found["xid"] == "None"


def test_the_stand_in_is_as_a_gpu_is(standin: Path, tmp_path: Path) -> None:
    (tmp_path / "gpus").write_text(f"gpu {WELL}\ngpu {WELL}\n")
    check(report({"LD_LIBRARY_PATH": str(standin), "FAKE_NVML": str(tmp_path / "gpus")}))


@pytest.mark.gpu
@pytest.mark.skipif(not has_library(), reason="there is no NVIDIA GPU here")
def test_a_real_gpu_is_as_the_stand_in_says() -> None:
    check(report({}))


def test_without_a_driver_the_reason_is_told(standin: Path, tmp_path: Path) -> None:
    (tmp_path / "gpus").write_text("driver=0\n")
    assert report({"LD_LIBRARY_PATH": str(standin), "FAKE_NVML": str(tmp_path / "gpus")}) == {"absent": "no-driver"}


@pytest.mark.skipif(has_library(), reason="the library is here")
def test_without_a_library_the_reason_is_told() -> None:
    with pytest.raises(OSError, match="libnvidia-ml"):
        ctypes.CDLL("libnvidia-ml.so.1.none")
    assert report({"LD_LIBRARY_PATH": ""})["absent"] in ("no-library", "no-driver")
