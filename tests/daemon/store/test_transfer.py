"""Exports, imports and backups: the same store again, or a refusal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from shunter.daemon.errors import StoreError
from shunter.daemon.store.lease import open_lease
from shunter.daemon.store.rows import Change, JobQuery
from shunter.daemon.store.sql_store import open_store
from shunter.daemon.store.transfer import backup, export_to, import_from
from tests.daemon.store.conftest import Cluster, Led
from tests.daemon.store.made import everything, job, only, submission


def filled(led: Led) -> Led:
    led.store.write(everything()).result(30)
    led.store.write(Change(jobs=[job(number) for number in range(4, 2100)])).result(30)
    return led


def same(left: Led, right: Led) -> None:
    assert right.store.load() == left.store.load()
    assert right.store.job(3) == left.store.job(3)
    assert right.store.events(0, 10) == left.store.events(0, 10)
    assert right.store.repeated("ann", "key-1") == left.store.repeated("ann", "key-1")
    for query in (only(node="n2"), only(name="n-77"), only(array=2), JobQuery()):
        assert right.store.jobs(query) == left.store.jobs(query)


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
def test_an_export_becomes_the_same_store_on_either_database(
    url: str, to: str, leading: Callable[[str], Led], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first = filled(leading(url))
    told: list[tuple[int, int]] = []
    rows = export_to(first.store, tmp_path / "x.shunter", lambda done, of: told.append((done, of)))
    assert told
    if to == "sqlite":
        target = f"sqlite:///{tmp_path}/other.db"
    else:
        cluster: Cluster = request.getfixturevalue("cluster")
        target = cluster.new_database()
    assert import_from(tmp_path / "x.shunter", target) == rows
    second = leading(target)
    same(first, second)
    assert (second.store.token or 0) > (first.store.token or 0)
    second.store.write(submission(5000)).result(30)


def test_a_store_that_is_not_empty_takes_no_import(url: str, leading: Callable[[str], Led], tmp_path: Path) -> None:
    led = filled(leading(url))
    export_to(led.store, tmp_path / "x")
    with pytest.raises(StoreError, match="leads there"):
        import_from(tmp_path / "x", url)
    before = led.store.load()
    led.close()
    with pytest.raises(StoreError, match="not empty"):
        import_from(tmp_path / "x", url)
    assert leading(url).store.load() == before


@pytest.fixture
def exported(leading: Callable[[str], Led], tmp_path: Path) -> Path:
    export_to(filled(leading(f"sqlite:///{tmp_path}/a.db")).store, tmp_path / "x")
    return tmp_path / "x"


def test_a_file_cut_off_anywhere_is_refused(exported: Path, tmp_path: Path) -> None:
    whole = exported.read_bytes()
    cut = tmp_path / "cut"
    for size in [0, 1, 10, *range(100, len(whole), len(whole) // 20), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(StoreError, match=r"cut off|damaged|no export"):
            import_from(cut, f"sqlite:///{tmp_path}/b.db")
    assert not (tmp_path / "b.db").exists()


def test_a_file_altered_anywhere_is_refused(exported: Path, tmp_path: Path) -> None:
    whole = exported.read_bytes()
    altered = tmp_path / "altered"
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        data = bytearray(whole)
        data[place] ^= 0x10
        altered.write_bytes(bytes(data))
        with pytest.raises(StoreError):
            import_from(altered, f"sqlite:///{tmp_path}/b.db")


def test_lines_altered_under_a_good_compression_are_refused(exported: Path, tmp_path: Path) -> None:
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(exported.read_bytes())
    lines = plain.splitlines(keepends=True)
    for changed in (
        plain.replace(b'"ann"', b'"bob"', 1),
        b"".join(lines[:5] + lines[6:]),
        b"".join(lines[:-1]),
        b"".join([lines[0], lines[2], lines[1], *lines[3:]]),
        b'{"format": "other"}\n',
        lines[0].replace(b'"version":1', b'"version":2') + b"".join(lines[1:]),
    ):
        file = tmp_path / "altered"
        file.write_bytes(zstandard.ZstdCompressor().compress(changed))
        with pytest.raises(StoreError):
            import_from(file, f"sqlite:///{tmp_path}/b.db")


def test_a_backup_taken_while_changes_are_written_is_one_state(leading: Callable[[str], Led], tmp_path: Path) -> None:
    led = filled(leading(f"sqlite:///{tmp_path}/a.db"))
    stop = threading.Event()

    def keep_writing() -> None:
        number = 10_000
        while not stop.is_set():
            number += 1
            led.store.write(submission(number)).result(30)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        backup(led.store, tmp_path / "copy.db")
    finally:
        stop.set()
        writer.join()
    lease = open_lease(f"sqlite:///{tmp_path}/copy.db", holder="copy")
    token = lease.acquire(60.0)
    copy = open_store(f"sqlite:///{tmp_path}/copy.db", token=token)
    found = copy.load()
    jobs = {row.made.id for row in found.jobs if row.made.id > 10_000}
    assert jobs == {event.job for event in copy.events(2, 100_000)}
    assert jobs == set(range(10_001, 10_001 + len(jobs)))
    assert len(found.jobs) - len(jobs) == 2098
    copy.close()
    lease.close()


def test_a_backup_of_postgresql_is_an_export(cluster: Cluster, leading: Callable[[str], Led], tmp_path: Path) -> None:
    led = filled(leading(cluster.new_database()))
    backup(led.store, tmp_path / "copy")
    target = f"sqlite:///{tmp_path}/b.db"
    import_from(tmp_path / "copy", target)
    same(led, leading(target))
