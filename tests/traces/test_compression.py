from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from shunter.scheduler.errors import OutputError, TraceError
from shunter.traces.compression import SUFFIXES, compress, decompress, read_bytes, split_name, write_atomically

TEXT = b"1 2 3\n" * 5000


@given(st.binary(max_size=2000), st.sampled_from(sorted(SUFFIXES)))
def test_what_is_packed_unpacks_to_the_same(data: bytes, suffix: str) -> None:
    assert decompress(compress(data, suffix)) == data


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_compression_is_told_by_content_and_not_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "plain.txt"
    path.write_bytes(compress(TEXT, suffix))
    assert read_bytes(path) == TEXT


@pytest.mark.parametrize(
    "pack", [gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "xz", "zstd"]
)
def test_several_members_are_joined(pack) -> None:
    assert decompress(pack(b"one,") + pack(b"two")) == b"one,two"


def test_zero_padding_after_a_member_is_ignored() -> None:
    assert decompress(gzip.compress(b"x") + b"\0" * 512) == b"x"


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    packed = compress(bytes(range(256)) * 400, suffix)
    path = tmp_path / f"t.swf{suffix}"
    path.write_bytes(packed[: int(len(packed) * share)])
    with pytest.raises(TraceError, match=r"t\.swf.*: truncated .* file"):
        read_bytes(path)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    packed = bytearray(compress(TEXT, suffix))
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "t"
    path.write_bytes(bytes(packed[:-6]) + b"garbage")
    with pytest.raises(TraceError) as caught:
        read_bytes(path)
    assert "\n" not in str(caught.value)


def test_missing_folder_and_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for name, reason in (("none", "no such file"), ("", "a folder"), ("empty", "is empty")):
        with pytest.raises(TraceError, match=reason):
            read_bytes(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "stem", "endings"),
    [
        ("SDSC-SP2-1998-4.2-cln.swf.gz", "SDSC-SP2-1998-4.2-cln", [".swf", ".gz"]),
        ("a.parquet", "a", [".parquet"]),
        ("plain", "plain", []),
        (".gz", ".gz", []),
        ("x.CSV.XZ", "x", [".csv", ".xz"]),
    ],
)
def test_names_are_split_at_known_endings_only(name: str, stem: str, endings: list[str]) -> None:
    assert split_name(Path("folder") / name) == (stem, endings)


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "inside").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(target, b"data")  # the rename onto a folder fails after the data was written
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder"]
    with pytest.raises(OutputError, match="No such file or directory"):
        write_atomically(tmp_path / "none" / "x", b"data")


def test_packing_is_reproducible() -> None:
    assert compress(TEXT, ".gz") == compress(TEXT, ".gz")
