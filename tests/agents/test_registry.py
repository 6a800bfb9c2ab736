"""The model registry: what is in use follows from its history, whoever dies in between."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shunter.agents import registry as module
from shunter.agents.registry import Registry, default_folder
from shunter.scheduler.errors import OutputError, UsageError


def check(folder: Path) -> None:
    """As much of a bundle as the registry itself cares for."""
    if not (folder / "model.onnx").is_file():
        raise UsageError(f"{folder}: model.onnx is missing")


def bundle(folder: Path, content: str = "weights") -> Path:
    """A folder with a model, a card and a figure, and something that does not belong to it."""
    (folder / "figures").mkdir(parents=True)
    (folder / "model.onnx").write_text(content)
    (folder / "card.json").write_text("{}")
    (folder / "figures" / "curve.png").write_bytes(b"png")
    (folder / "checkpoint.zip").write_bytes(b"large")
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Three models, none in use."""
    found = Registry(tmp_path / "models", check)
    for name in ("one", "two", "three"):
        found.add(bundle(tmp_path / name, name))
    return found


def in_use(registry: Registry) -> str | None:
    """By the history, and by the link, which must agree."""
    model = registry.promoted()
    link = registry.folder / "promoted"
    assert (link.resolve() if link.is_symlink() else None) == (None if model is None else model.path.resolve())
    return None if model is None else model.name


def test_models_are_copies_of_what_belongs_to_a_bundle(registry: Registry, tmp_path: Path) -> None:
    assert [model.name for model in registry.models()] == ["one", "two", "three"]
    path = registry.find("two").path
    assert (path / "model.onnx").read_text() == "two"
    assert (path / "figures" / "curve.png").read_bytes() == b"png"
    assert not (path / "checkpoint.zip").exists()
    (tmp_path / "two" / "model.onnx").write_text("changed")
    assert (path / "model.onnx").read_text() == "two"


def test_promotions_and_rollbacks(registry: Registry) -> None:
    assert in_use(registry) is None
    for name in ("one", "two", "three"):
        assert registry.promote(name).promoted
    assert in_use(registry) == "three"
    assert [registry.rollback().name, registry.rollback().name] == ["two", "one"]
    assert in_use(registry) == "one"
    with pytest.raises(UsageError, match="'one' is the only one that was ever in use: nothing to go back to"):
        registry.rollback()
    registry.promote("three")
    assert registry.rollback().name == "one"
    kinds = [(e.kind, e.name, e.previous) for e in registry.history()[3:]]
    assert kinds == [
        ("promote", "one", ""),
        ("promote", "two", "one"),
        ("promote", "three", "two"),
        ("rollback", "two", "three"),
        ("rollback", "one", "two"),
        ("promote", "three", "one"),
        ("rollback", "one", "three"),
    ]


def test_the_history_only_grows(registry: Registry) -> None:
    path = registry.folder / "history.jsonl"
    before = path.read_bytes()
    registry.promote("one")
    registry.promote("two")
    registry.rollback()
    assert path.read_bytes().startswith(before)
    assert len(path.read_bytes().splitlines()) == 6


def test_what_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no model 'thre'; did you mean 'three'\?"):
        registry.promote("thre")
    with pytest.raises(UsageError, match="it is empty"):
        Registry(tmp_path / "none", check).promote("one")
    with pytest.raises(UsageError, match="there is a model 'one' already"):
        registry.add(tmp_path / "one")
    for name in ("../one", "", ".hidden", "a b"):
        with pytest.raises(UsageError, match="expected letters"):
            registry.add(tmp_path / "one", name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"model\.onnx is missing"):
        registry.add(tmp_path / "empty")
    with pytest.raises(UsageError, match="no model is in use: nothing to go back to"):
        registry.rollback()
    registry.promote("one")
    with pytest.raises(UsageError, match="'one' is in use already"):
        registry.promote("one")
    (registry.find("two").path / "model.onnx").write_text("tampered with")
    with pytest.raises(UsageError, match="not those that were added"):
        registry.promote("two")
    assert in_use(registry) == "one"
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be changed"):
        Registry(tmp_path / "file", check).add(tmp_path / "one")
    (registry.folder / "history.jsonl").write_text("nonsense\n")
    with pytest.raises(UsageError, match=r"history\.jsonl:1: not an event"):
        registry.models()


def test_a_line_cut_short_is_cut_off_and_the_link_set_right(registry: Registry) -> None:
    registry.promote("one")
    path = registry.folder / "history.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind": "promote", "na')
    assert in_use(registry) == "one"
    (registry.folder / "promoted").unlink()
    (registry.folder / "promoted").symlink_to("bundles/three")
    registry.promote("two")
    assert in_use(registry) == "two"
    assert [e.kind for e in registry.history()] == ["add", "add", "add", "promote", "promote"]


KILLED = """
import os, sys
from pathlib import Path
from shunter.agents.registry import Registry, promotions

root = Path(sys.argv[1])
registry = lambda: Registry(root / "models", lambda folder: None)

def killed_at(number, change):
    # The process ends without warning before its number-th call that changes something on the disk.
    child = os.fork()
    if child == 0:
        left = [number]
        def counted(call):
            def wrapper(*arguments, **named):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(9)
                return call(*arguments, **named)
            return wrapper
        for name in ("fsync", "replace", "rename", "symlink", "unlink", "mkdir", "write"):
            setattr(os, name, counted(getattr(os, name)))
        change(registry())
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

states, at = set(), 0
while True:
    at += 1
    before = [m.name for m in registry().models() if m.promoted]
    status = killed_at(at, lambda r: r.promote("two"))
    model = registry().promoted()
    states.add(model.name)
    link = (root / "models" / "promoted").readlink().name
    assert link == "one" or model.name == "two", "the link is ahead of the history"
    if model.name == "two":
        registry().rollback()
    else:
        registry().add(root / "one", f"more-{at}")   # any change sets right what was left
    assert (root / "models" / "promoted").readlink().name == "one"
    assert promotions(registry().history()) == ["one"]
    if status == 0:
        break
assert states == {"one", "two"}, states

at = 0
while True:
    at += 1
    status = killed_at(at, lambda r: r.add(root / "two", f"copy-{at}"))
    if f"copy-{at}" not in [m.name for m in registry().models()]:
        registry().add(root / "two", f"copy-{at}")
    assert (registry().find(f"copy-{at}").path / "model.onnx").read_text() == "two"
    if status == 0:
        break
print("survived")
"""


def test_a_change_that_is_killed_anywhere_happened_or_did_not(registry: Registry, tmp_path: Path) -> None:
    registry.promote("one")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("survived", 0), done.stderr


def test_promotions_at_the_same_time_follow_each_other(registry: Registry) -> None:
    """Eight threads, each with its own lock file handle, add and promote; no event is lost."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            own = Registry(registry.folder, check)
            own.add(registry.find("one").path, f"n{number}")
            own.promote(f"n{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    events = registry.history()
    assert len(events) == 3 + 16
    promoted = [event for event in events if event.kind == "promote"]
    assert [event.previous for event in promoted] == ["", *(event.name for event in promoted[:-1])]
    assert in_use(registry) == promoted[-1].name


def test_a_lock_that_is_held_too_long_is_reported(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.05)
    handle = os.open(registry.folder / ".lock", os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(OutputError, match="another process has been changing it"):
            registry.promote("one")
    finally:
        os.close(handle)
    registry.promote("one")


def test_where_models_lie_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUNTER_MODELS", "/somewhere/else")
    assert default_folder() == Path("/somewhere/else")
    monkeypatch.delenv("SHUNTER_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_folder() == Path("/data/shunter/models")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_folder() == Path.home() / ".local/share/shunter/models"
