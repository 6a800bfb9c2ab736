"""The built packages hold every file that the source tree has, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("scheduler", "traces", "sim", "predictors", "agents", "daemon")


def source_files() -> set[str]:
    """Every module and data file that belongs into the package, by its path inside ``shunter``."""
    found = set()
    for part in (*PARTS, "shunter"):
        for path in (ROOT / part).rglob("*"):
            below = path.relative_to(ROOT)
            if path.is_file() and "__pycache__" not in below.parts and not path.parent.is_symlink():
                inside = below if part == "shunter" else Path("shunter") / below
                if part != "shunter" or below.parts[1] not in PARTS:
                    found.add(inside.as_posix())
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of a clean copy, and the wheel made from that sdist."""
    folder = tmp_path_factory.mktemp("packaging")
    clean = folder / "tree"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clean)], check=True)
    # Files that are not committed yet belong to the tree that is tested.
    changed = subprocess.run(
        ["git", "ls-files", "-m", "-o", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in changed.stdout.splitlines():
        if (ROOT / name).is_file():
            (clean / name).parent.mkdir(parents=True, exist_ok=True)
            (clean / name).write_bytes((ROOT / name).read_bytes())
    for name in subprocess.run(
        ["git", "ls-files", "-d"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        (clean / name).unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(clean)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


def test_the_wheel_has_exactly_the_source_tree(built: Path) -> None:
    wheel = next(built.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith("shunter-")}
    assert names == source_files()


def test_the_sdist_holds_files_not_links(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        members = archive.getmembers()
    assert not [member.name for member in members if member.issym()]
    assert any(member.name.endswith("shunter/sim/engine.py") for member in members)
    assert any(member.name.endswith("LICENSE") for member in members)
