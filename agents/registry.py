"""A folder of models: which there are, which one is in use, and everything that ever happened to them.

Layout: ``bundles/NAME`` (copies that are never changed), ``history.jsonl`` (a line an event, only ever appended to) and
``promoted`` (a symbolic link to the bundle in use, for programs that only want its path). The history is the truth: it
is flushed to the disk before the link is changed, so whoever dies in between leaves a link that the next change sets
right, and a line that was cut short is cut off. Changes take a lock; reading takes none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shunter.agents.results_file import complete_lines
from shunter.scheduler.errors import OutputError, UsageError, nearest

BUNDLES, HISTORY, PROMOTED, LOCK = "bundles", "history.jsonl", "promoted", ".lock"

BUNDLE_PARTS = ("model.onnx", "card.json", "figures")
"""What is copied of a bundle's folder; training may have left other things there."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")

LOCK_TIMEOUT_S = 10.0
"""A change takes milliseconds, copying a bundle less than a second: whoever holds the lock for longer hangs."""

LOCK_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        time: UTC, ISO 8601, to the second.
        kind: ``add``, ``promote`` or ``rollback``.
        name: The model that was added, or that is in use from then on.
        previous: The one in use before; empty where there was none.
        sha256: Content hash of the bundle.
    """

    time: str
    kind: str
    name: str
    previous: str
    sha256: str

    def to_line(self) -> bytes:
        """A line of the history."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps(values, sort_keys=True, ensure_ascii=True).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Model:
    """A bundle of the registry.

    Attributes:
        name: Name.
        path: Its folder.
        added: When it was added; UTC, ISO 8601.
        sha256: Content hash as it was then.
        promoted: Whether it is in use.
    """

    name: str
    path: Path
    added: str
    sha256: str
    promoted: bool


def default_folder() -> Path:
    """``$SHUNTER_MODELS``, or ``shunter/models`` in the user's data folder."""
    given = os.environ.get("SHUNTER_MODELS")
    if given:
        return Path(given)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "shunter" / "models"


def content_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of all files below a folder.

    Raises:
        UsageError: A file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name, content = path.relative_to(folder).as_posix().encode(), path.read_bytes()
            digest.update(b"%d %d\n" % (len(name), len(content)) + name + content)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


class Registry:
    """The models of one folder.

    Args:
        folder: The registry's folder; made by the first ``add``.
        check: Loads a bundle, raising a ShunterError that says what is wrong with it.
    """

    def __init__(self, folder: Path, check: Callable[[Path], object]) -> None:
        self.folder = folder
        self._check = check

    # Reading ----------------------------------------------------------------------------------------------------------

    def history(self) -> list[Event]:
        """Every event, the oldest first.

        Raises:
            UsageError: The history is damaged, or cannot be read.
        """
        return self._read()[0]

    def models(self) -> list[Model]:
        """Every model, the newest last."""
        events = self.history()
        promoted = (promotions(events) or [""])[-1]
        return [
            Model(e.name, self.folder / BUNDLES / e.name, e.time, e.sha256, e.name == promoted)
            for e in events
            if e.kind == "add"
        ]

    def find(self, name: str) -> Model:
        """The model of this name.

        Raises:
            UsageError: There is none; the message suggests the nearest.
        """
        models = {model.name: model for model in self.models()}
        if name not in models:
            hint = nearest(name, list(models)) if models else "; it is empty: `shunter models add` fills it"
            raise UsageError(f"{self.folder}: no model {name!r}{hint}")
        return models[name]

    def promoted(self) -> Model | None:
        """The model in use; None before the first is promoted."""
        return next((model for model in self.models() if model.promoted), None)

    # Changing ---------------------------------------------------------------------------------------------------------

    def add(self, bundle: Path, name: str | None = None) -> Model:
        """Copy a bundle into the registry.

        Args:
            bundle: Its folder.
            name: What to call it; by default the folder's name.

        Raises:
            ShunterError: It is no bundle that can be used, or the name is taken or cannot be one.
            OutputError: It cannot be copied.
        """
        name = bundle.resolve().name if name is None else name
        if not NAME.fullmatch(name):
            raise UsageError(f"model name {name!r}: expected letters, digits, '.', '_', '+' or '-', such as sdsc-3")
        self._check(bundle)
        with self._changing() as events:
            if any(e.kind == "add" and e.name == name for e in events):
                raise UsageError(f"{self.folder}: there is a model {name!r} already; give another name with --name")
            final = self.folder / BUNDLES / name
            partial = final.with_name(f".{name}.partial")
            for leftover in (partial, final):  # of an addition that was killed before it was written down
                shutil.rmtree(leftover, ignore_errors=True)
            final.parent.mkdir(exist_ok=True)
            _copy(bundle, partial)
            partial.rename(final)
            _flush(final.parent)
            self._append(Event(_now(), "add", name, "", content_hash(final)))
        return self.find(name)

    def promote(self, name: str) -> Model:
        """Take a model into use.

        Raises:
            ShunterError: There is no such model, it is in use already, or its files are not those that were added.
            OutputError: The registry cannot be changed.
        """
        self.find(name)
        with self._changing() as events:
            in_use = promotions(events)
            if in_use and in_use[-1] == name:
                raise UsageError(f"{self.folder}: {name!r} is in use already")
            self._use("promote", name, in_use[-1] if in_use else "")
        return self.find(name)

    def rollback(self) -> Model:
        """Take back the last promotion that has not been taken back.

        Raises:
            ShunterError: There is nothing to go back to, or the earlier model's files are not those that were added.
            OutputError: The registry cannot be changed.
        """
        with self._changing() as events:
            in_use = promotions(events)
            if len(in_use) < 2:
                what = "is the only one that was ever in use" if in_use else "no model is in use"
                raise UsageError(f"{self.folder}: {f'{in_use[0]!r} {what}' if in_use else what}: nothing to go back to")
            self._use("rollback", in_use[-2], in_use[-1])
        return self.find(in_use[-2])

    def _use(self, kind: str, name: str, previous: str) -> None:
        """Write down that a model is in use from now on, then change the link."""
        model = self.find(name)
        if content_hash(model.path) != model.sha256:
            raise UsageError(f"{model.path}: the files are not those that were added on {model.added}; add them anew")
        self._check(model.path)
        self._append(Event(_now(), kind, name, previous, model.sha256))
        self._link(name)

    def _read(self) -> tuple[list[Event], int]:
        """The events, and how many bytes the complete lines take."""
        path = self.folder / HISTORY
        lines, size = complete_lines(path)
        events = []
        for number, line in enumerate(lines, start=1):
            try:
                values = json.loads(line)
                event = Event(**{name: str(values[name]) for name in Event.__dataclass_fields__})
            except (ValueError, KeyError, TypeError):
                raise UsageError(f"{path}:{number}: not an event of a registry's history") from None
            events.append(event)
        return events, size

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Event]]:
        """Hold the lock; what an earlier change left half-done is set right first."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be changed: {error.strerror or error}") from error
        try:
            _lock(handle, self.folder)
            events, size = self._read()
            with _told(self.folder):
                if (self.folder / HISTORY).exists() and (self.folder / HISTORY).stat().st_size > size:
                    os.truncate(self.folder / HISTORY, size)
                in_use = promotions(events)
                link = self.folder / PROMOTED
                if in_use and (not link.is_symlink() or link.readlink().name != in_use[-1]):
                    self._link(in_use[-1])
                yield events
        finally:
            os.close(handle)

    def _append(self, event: Event) -> None:
        with (self.folder / HISTORY).open("ab") as file:
            file.write(event.to_line())
            file.flush()
            os.fsync(file.fileno())
        _flush(self.folder)

    def _link(self, name: str) -> None:
        """Let ``promoted`` point to a model; whoever reads it sees the old one or the new one."""
        partial = self.folder / f".{PROMOTED}.partial"
        partial.unlink(missing_ok=True)
        partial.symlink_to(Path(BUNDLES) / name)
        partial.replace(self.folder / PROMOTED)
        _flush(self.folder)


def promotions(events: list[Event]) -> list[str]:
    """The models that were promoted and not taken back, the one in use last."""
    found: list[str] = []
    for event in events:
        if event.kind == "promote":
            found.append(event.name)
        elif event.kind == "rollback":
            found.pop()
    return found


def _copy(bundle: Path, folder: Path) -> None:
    """Copy what belongs to a bundle, and flush it to the disk."""
    folder.mkdir()
    for name in BUNDLE_PARTS:
        source = bundle / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.exists():
            shutil.copyfile(source, folder / name)
    for path in (folder, *folder.rglob("*")):
        _flush(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _flush(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    """Take the lock, waiting for whoever has it."""
    until_s = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise OutputError(
                    f"{folder}: another process has been changing it for {LOCK_TIMEOUT_S:g} s; try again later"
                ) from None
            time.sleep(LOCK_PAUSE_S)
        else:
            return


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Errors of the system as OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{folder}: cannot be changed: {error.strerror or error}") from error


def as_document(models: list[Model], events: list[Event]) -> dict[str, Any]:
    """Models and history as plain values."""
    return {
        "models": [
            {"name": m.name, "path": str(m.path), "added": m.added, "sha256": m.sha256, "promoted": m.promoted}
            for m in models
        ],
        "history": [{name: getattr(e, name) for name in Event.__dataclass_fields__} for e in events],
    }
