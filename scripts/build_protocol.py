"""Generate ``daemon/pb`` from ``daemon/proto``; with ``--check`` only say whether it is up to date.

The generator writes imports as the files lie below ``daemon/proto`` (``from shunter.v1 import …``), which would need a
package ``shunter.v1``; they are pointed at ``shunter.daemon.pb``, where the modules lie.
"""

from __future__ import annotations

import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "daemon" / "proto"
TARGET = ROOT / "daemon" / "pb"


def generate(folder: Path) -> dict[str, str]:
    """The generated files by name.

    Raises:
        SystemExit: The compiler found an error, which it has printed.
    """
    from grpc_tools import protoc

    protos = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.proto"))
    common = str(files("grpc_tools") / "_proto")
    arguments = [f"-I{SOURCES}", f"-I{common}", f"--python_out={folder}", f"--pyi_out={folder}"]
    if protoc.main(["protoc", *arguments, f"--grpc_python_out={folder}", *protos]) != 0:
        raise SystemExit(1)
    return {path.name: _in_place(path.read_text()) for path in sorted(folder.rglob("*_pb2*.py*"))}


def _in_place(code: str) -> str:
    return re.sub(r"^from shunter\.v1 import", "from shunter.daemon.pb import", code, flags=re.MULTILINE)


def main() -> None:
    """Write the files, or compare them."""
    with tempfile.TemporaryDirectory() as folder:
        made = generate(Path(folder))
    present = {path.name: path.read_text() for path in TARGET.glob("*_pb2*.py*")}
    if "--check" in sys.argv[1:]:
        stale = sorted(name for name in made.keys() | present.keys() if made.get(name) != present.get(name))
        if stale:
            raise SystemExit(f"daemon/pb is not what daemon/proto says: {', '.join(stale)}; run `make protocol`")
        return
    for name in present.keys() - made.keys():
        (TARGET / name).unlink()
    for name, code in made.items():
        (TARGET / name).write_text(code)


if __name__ == "__main__":
    main()
