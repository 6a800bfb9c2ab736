"""Disk full, read-only, connection lost: told by name, nothing acknowledged lost, and it goes on by ``recover``."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shunter.daemon.errors import DaemonError, StoreError, StoreFullError, StoreReadOnlyError
from shunter.daemon.store.lease import open_lease
from shunter.daemon.store.rows import Change
from shunter.daemon.store.sql_store import SqlStore, open_store
from tests.daemon.store.conftest import Cluster, Led
from tests.daemon.store.made import event, job, key, submission

SOON_S = 30.0
BIG = bytes(100_000)


def is_root() -> bool:
    return os.getuid() == 0


def ran(*words: object) -> bool:
    """Whether a command could be run."""
    return subprocess.run([str(word) for word in words], capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 3 MiB that is full but for one: where there is room again when ``filler`` goes."""
    if not is_root() or not ran("mount", "-t", "tmpfs", "-o", "size=3m", "shunter", folder):
        pytest.skip("needs to mount a file system")
    try:
        (folder / "filler").write_bytes(bytes(2 * 1024 * 1024))
        yield folder / "filler"
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def written_until_refused(store: SqlStore) -> tuple[list[int], DaemonError]:
    """Numbers of jobs that were acknowledged before the first failure, and what that was."""
    stored: list[int] = []
    for number in range(1, 500):
        try:
            store.write(submission(number, spec=BIG)).result(SOON_S)
        except DaemonError as error:
            return stored, error
        stored.append(number)
    raise AssertionError("never full")


def full_then_room(store: SqlStore, make_room: Callable[[], None]) -> None:
    stored, failure = written_until_refused(store)
    assert isinstance(failure, StoreFullError)
    assert stored
    following = stored[-1] + 1
    with pytest.raises(StoreFullError):
        store.write(submission(following)).result(SOON_S)
    assert isinstance(store.failure, StoreFullError)
    with pytest.raises(StoreFullError):
        store.recover()
    assert [row.made.id for row in store.load().jobs] == stored
    make_room()
    store.recover()
    assert store.failure is None
    found = store.load()
    assert [row.made.id for row in found.jobs] == stored
    assert found.last_event == stored[-1]
    assert store.repeated("ann", f"key-{following}") is None
    store.write(submission(following)).result(SOON_S)
    assert store.job(following) is not None


def test_a_full_disk_is_told_and_left_again(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder) as filler:
        lease = open_lease(f"sqlite:///{folder}/s.db", holder="a")
        token = lease.acquire(60.0)
        store = open_store(f"sqlite:///{folder}/s.db", token=token)
        full_then_room(store, filler.unlink)
        store.close()
        lease.close()


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path: Path, leading: Callable[[str], Led]) -> None:
    store = leading(f"sqlite:///{tmp_path}/s.db").store
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    try:
        full_then_room(store, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_files_that_become_immutable_are_read_and_not_written(tmp_path: Path, leading: Callable[[str], Led]) -> None:
    store = leading(f"sqlite:///{tmp_path}/s.db").store
    store.write(submission(1)).result(SOON_S)
    files = [tmp_path / f"s.db{end}" for end in ("", "-wal")]
    if not is_root() or not shutil.which("chattr") or not ran("chattr", "+i", *files):
        pytest.skip("needs chattr")
    try:
        with pytest.raises(StoreReadOnlyError):
            store.write(submission(2)).result(SOON_S)
        with pytest.raises(StoreReadOnlyError):
            store.recover()
        assert [row.made.id for row in store.load().jobs] == [1]
    finally:
        ran("chattr", "-i", *files)
    store.recover()
    store.write(submission(2)).result(SOON_S)
    assert [row.made.id for row in store.load().jobs] == [1, 2]


def test_a_folder_that_is_not_writeable_is_told_when_leading(tmp_path: Path, leading: Callable[[str], Led]) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    url = f"sqlite:///{folder}/s.db"
    leading(url).close()
    if is_root():
        if not ran("mount", "--bind", folder, folder) or not ran("mount", "-o", "remount,ro,bind", folder):
            pytest.skip("needs to mount")
        undo = ["umount", "-l", str(folder)]
    else:
        subprocess.run(["chmod", "-R", "a-w", folder], check=True)
        undo = ["chmod", "-R", "u+w", str(folder)]
    try:
        with pytest.raises(StoreReadOnlyError):
            open_lease(url, holder="b").acquire(60.0)
    finally:
        subprocess.run(undo, check=True)


def test_a_group_fails_as_one(url: str, leading: Callable[[str], Led]) -> None:
    """A change that cannot be stored takes those of its group with it, all of them or none."""
    store = leading(url).store
    store.write(submission(1)).result(SOON_S)
    bad = Change(jobs=[job(1)])
    futures = {number: store.write(submission(number)) for number in range(2, 40)}
    futures[0] = store.write(bad)
    futures |= {number: store.write(submission(number)) for number in range(40, 80)}
    failed = {number for number, future in futures.items() if future.exception(SOON_S) is not None}
    assert {0, *range(40, 80)} <= failed
    assert all(type(futures[number].exception()) is StoreError for number in failed)
    store.recover()
    kept = {row.made.id for row in store.load().jobs}
    assert kept == {1, *futures} - failed
    assert {row.number for row in store.events(0, 1000)} == kept


def test_a_server_that_dies_and_comes_back(cluster: Cluster, leading: Callable[[str], Led]) -> None:
    store = leading(cluster.new_database()).store
    for number in range(1, 20):
        store.write(submission(number)).result(SOON_S)
    flying = {number: store.write(submission(number)) for number in range(20, 3000)}
    cluster.kill()
    try:
        failed = {number for number, future in flying.items() if future.exception(SOON_S) is not None}
        assert failed
        assert isinstance(store.failure, StoreError)
        with pytest.raises(StoreError):
            store.write(submission(3000)).result(SOON_S)
        with pytest.raises(StoreError):
            store.recover()
        with pytest.raises(StoreError):
            store.load()
    finally:
        cluster.start()
    store.recover()
    found = store.load()
    there = {row.made.id for row in found.jobs}
    assert {*range(1, 20), *flying} - failed <= there
    assert there == set(range(1, found.last_job + 1))
    assert {row.number for row in store.events(0, 10_000)} == there
    following = found.last_job + 1
    store.write(submission(following)).result(SOON_S)


def test_text_that_the_database_cannot_hold_fails_by_name(url: str, leading: Callable[[str], Led]) -> None:
    store = leading(url).store
    change = Change(jobs=[job(1, name="\ud800")], events=[event(1)], idempotency=[key(1)])
    with pytest.raises(StoreError):
        store.write(change).result(SOON_S)
    store.recover()
    assert store.load().jobs == []
    store.write(submission(1)).result(SOON_S)
