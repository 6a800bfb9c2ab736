from __future__ import annotations

from pathlib import Path

import pytest

from shunter.daemon.node.settings import KEYS, read_settings
from shunter.scheduler.errors import ConfigError

LEAST = {"daemon": ["127.0.0.1:7421"], "name": "n1", "state": Path("/s")}


def write(folder: Path, text: str) -> Path:
    path = folder / "node.yaml"
    path.write_text(text)
    return path


def test_flags_go_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, "daemon: [a:1, '[::1]:2']\nname: n1\nstate: /s\ncpus: 4\nlog-parts: 3\nallow_root: true\n")
    settings = read_settings(file, {"cpus": 2.5, "rack": None, "daemon": None})
    assert settings.daemon == ("a:1", "[::1]:2")
    assert (settings.cpus, settings.log_parts, settings.allow_root, settings.keep_days) == (2.5, 3, True, 7.0)


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    file = write(
        tmp_path, "daemon: [nowhere, 'a:99999']\nname: a b\ncpu: 4\ngpus: 1.5\nlog_level: loud\ncert: c.pem\nrack: 7\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_settings(file, {"sample_s": float("nan")})
    for text in (
        "cpu: there is no such key; did you mean 'cpus'?",
        "daemon: 'nowhere' is not HOST:PORT",
        "daemon: 'a:99999' is not HOST:PORT",
        "name: 'a b' is not made of",
        "state: is needed",
        "gpus: expected a whole number, got 1.5",
        "log_level: 'loud' is none of",
        "cert, key: one is of no use without the other",
        "cert: needs the daemon's ca",
        "rack: expected a text, got 7",
        "sample_s: expected a number, got nan",
    ):
        assert text in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "{", "daemon: &a [*a]", "\x00"])
def test_what_is_no_table_of_keys_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        read_settings(write(tmp_path, text), LEAST | ({} if "daemon" not in text else {"daemon": None}))


def test_every_key_is_an_option_of_the_command_line() -> None:
    import inspect

    from shunter.cli.node import node_command

    assert set(inspect.signature(node_command).parameters) == {*KEYS, "config"}
