"""What is wrong is said in one line, with the right exit code."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.daemon.cli.conftest import Daemon, Live
from tests.daemon.cluster import free_port


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", "999999"), 1, ("no job 999999",)),
        (("show", "abc"), 2, ("ID", "'abc'")),
        (("show", "0"), 2, ("ID", "'0'")),
        (("cancel", "999999"), 1, ("no job 999999",)),
        (("eta", "999999"), 1, ("no job 999999",)),
        (("drain", "nowhere"), 1, ("no node 'nowhere'",)),
        (("drain", "gpu-1", "--deadline", "soon"), 2, ("--deadline", "'soon'", "1h30m")),
        (("submit",), 2, ("no command", "--")),
        (("submit", "--array", "5-2", "--", "x"), 2, ("--array", "'5-2'")),
        (("submit", "--array", "1,2", "--", "x"), 2, ("--array", "'1,2'", "FIRST-LAST")),
        (("submit", "--array", "0-4:0", "--", "x"), 2, ("--array", "'0-4:0'")),
        (("submit", "--time-limit", "1y", "--", "x"), 2, ("--time-limit", "'1y'")),
        (("submit", "--begin", "tomorrow", "--", "x"), 2, ("--begin", "'tomorrow'")),
        (("submit", "--queue", "defualt", "--", "x"), 2, ("queue", "'defualt'", "default")),
        (("submit", "--after-ok", "999999", "--", "x"), 2, ("no job 999999",)),
        (("submit", "--gpus", "1.5", "--", "x"), 2, ("1.5 GPUs",)),
        (("submit", "--env", "SURELY_NOT_SET", "--", "x"), 2, ("--env", "SURELY_NOT_SET")),
        (("submit", "--batch", "/nowhere.jsonl"), 2, ("/nowhere.jsonl", "No such file")),
        (("queue", "--state", "runing"), 2, ("--state", "'runing'", "running")),
        (("queue", "--watch", "--json"), 2, ("--watch", "--json")),
        (("logs", "1", "--tail", "lots"), 2, ("--tail", "'lots'")),
        (("policy", "mode", "actve"), 2, ("'actve'", "active")),
        (("top",), 2, ("terminal",)),
        (("queue", "--address", "nowhere"), 2, ("--address", "'nowhere'")),
        (("queue", "--timeout", "0"), 2, ("--timeout",)),
        (("queue", "--token-file", "/nowhere"), 2, ("/nowhere", "No such file")),
        (("queue", "--cert", "/nowhere"), 2, ("ca",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_refused_in_one_line(live: Live, arguments: tuple[str, ...], code: int, words: tuple[str, ...]) -> None:
    live(*arguments).failed_cleanly(code, *words)


def test_nobody_there_is_said_with_what_to_do(live: Live) -> None:
    address = f"127.0.0.1:{free_port()}"
    begun_s = time.monotonic()
    ran = live("queue", "--address", address, "--timeout", "1s")
    assert 0.5 < time.monotonic() - begun_s < 5
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines()[-1] == (
        f"shunter: {address}: nobody listens there; start `shunter daemon`, or name its place with --address"
    )


def test_of_several_addresses_the_one_that_answers_is_found(live: Live, daemon: Daemon) -> None:
    ran = live("nodes", "--json", "--address", f"127.0.0.1:{free_port()},{daemon.address}")
    assert ran.code == 0
    assert len(ran.document["nodes"]) == 2


def test_somebody_who_says_nothing_is_not_waited_for(live: Live) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begun_s = time.monotonic()
        ran = live("queue", "--address", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "1s")
        assert time.monotonic() - begun_s < 5
    assert ran.code == 1
    assert "Traceback" not in ran.err


def test_a_file_that_holds_no_token(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("two words\n")
    live("queue", "--token-file", file).failed_cleanly(2, str(file), "one token")


def test_a_token_that_nobody_gave_out(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("surely-not-a-token\n")
    file.chmod(0o600)
    live("queue", "--token-file", file).failed_cleanly(1, "token")


def test_a_certificate_that_is_none(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate\n")
    ran = live("queue", "--ca", file, "--timeout", "1s")
    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" not in ran.err
