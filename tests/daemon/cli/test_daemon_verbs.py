"""``shunter daemon``: the example of a configuration; export, import and backup beside a daemon that runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from shunter.daemon.config import Config, checked, example
from tests.daemon.cli.conftest import Daemon, Live


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A section and those within it."""
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from sections(kind)


def test_the_example_is_valid_and_says_the_defaults() -> None:
    assert checked(yaml.safe_load(example()), "example") == Config()


def test_the_example_names_and_explains_every_key() -> None:
    lines = [line.strip().removeprefix("# ").strip() for line in example().splitlines()]
    for section in sections(Config):
        for name, field in section.model_fields.items():
            places = [i for i, line in enumerate(lines) if line.removeprefix("- ").startswith(f"{name}:")]
            assert places, name
            assert any(str(field.description) in lines[i - 1] for i in places), name


def test_what_the_example_shows_of_lists_can_be_used() -> None:
    text = example()
    begin = text.index("# groups:")
    shown = "\n".join(line.removeprefix("# ") for line in text[begin:].split("\n\n")[0].splitlines())
    groups = yaml.safe_load(shown)["groups"]
    assert checked({"groups": groups}, "example").groups[0].name == "NAME"


def test_example_config_passes_check_config(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "daemon.yaml"
    file.write_text(live("daemon", "example-config").out)
    assert live("daemon", "check-config", file).out == f"{file}: can be used\n"


def test_what_is_exported_from_a_running_daemon_can_be_imported(live: Live, daemon: Daemon, tmp_path: Path) -> None:
    job = live("submit", "--begin", "+1h", "--", "true").out.strip()
    file, there = tmp_path / "all.jsonl.zst", tmp_path / "other"
    rows = live("daemon", "export", file, "--state", daemon.folder, "--json").document["rows"]
    assert rows > 0
    live("daemon", "export", file, "--state", daemon.folder).failed_cleanly(1, str(file), "is there already")
    assert live("daemon", "import", file, "--state", there, "--json").document["rows"] == rows
    again = tmp_path / "again.jsonl.zst"
    assert live("daemon", "export", again, "--state", there, "--json").document["rows"] == rows
    live("daemon", "import", file, "--state", there).failed_cleanly(1, "not empty")
    live("cancel", job)


def test_a_backup_is_a_database_that_a_daemon_can_have(live: Live, daemon: Daemon, tmp_path: Path) -> None:
    there = tmp_path / "restored"
    there.mkdir()
    live("daemon", "backup", there / "shunter.db", "--state", daemon.folder)
    one, two = tmp_path / "one", tmp_path / "two"
    first = live("daemon", "export", one, "--state", daemon.folder, "--json").document["rows"]
    assert live("daemon", "export", two, "--state", there, "--json").document["rows"] == first


@pytest.mark.parametrize("verb", ["export", "backup"])
def test_nothing_is_lost_that_comes_after_another_process_has_read(
    live: Live, daemon: Daemon, tmp_path: Path, verb: str
) -> None:
    assert live("daemon", verb, tmp_path / "file", "--state", daemon.folder).code == 0
    job = live("submit", "--begin", "+1h", "--", "true").out.strip()
    daemon.end(signal.SIGKILL)
    daemon.start()
    assert live("show", job, "--json").document["state"] == "pending"
    live("cancel", job)


def test_what_cannot_be_is_said_in_one_line(live: Live, daemon: Daemon, tmp_path: Path) -> None:
    live("daemon", "export", tmp_path / "x", "--state", tmp_path).failed_cleanly(2, "shunter.db", "--state")
    live("daemon", "backup", tmp_path / "no" / "x", "--state", daemon.folder).failed_cleanly(1, "no folder")
    live("daemon", "import", tmp_path / "x", "--state", tmp_path).failed_cleanly(2, "no such file")
    bad = tmp_path / "bad"
    bad.write_text("nonsense")
    ran = live("daemon", "import", bad, "--state", tmp_path / "new")
    assert ran.code in (1, 2)
    assert "Traceback" not in ran.err
    busy = tmp_path / "all"
    live("daemon", "export", busy, "--state", daemon.folder)
    live("daemon", "import", busy, "--state", daemon.folder).failed_cleanly(1, "leads")
