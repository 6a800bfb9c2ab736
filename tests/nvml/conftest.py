from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shunter.daemon.node import nvml

SOURCE = Path(__file__).with_name("nvml_standin.c")
WELL = (
    "util=40 total=81920 used=1024 temp=50 power=300000 clock=1500 throttle=4 ecc_c=2 ecc_u=0 retired=1 rows_c=1 "
    "rows_u=2 rows_failed=0 pcie=7 links=2 nvlink=3"
)
Tell = Callable[..., None]


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the library, built from its source."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    library = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    flags = ["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(SOURCE)], check=True)
    return library.parent


@pytest.fixture
def tell(standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tell]:
    """Says what GPUs there are: a line each. The library is loaded here, under the name by which it is looked for."""
    ctypes.CDLL(str(standin / "libnvidia-ml.so.1"))
    path = tmp_path / "gpus"
    monkeypatch.setenv("FAKE_NVML", str(path))

    def say(*lines: str) -> None:
        new = path.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.rename(path)

    say()
    yield say
    say()  # whatever hangs goes on
    nvml.stop()
