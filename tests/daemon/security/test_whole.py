"""The whole daemon as a process: the same user's clients need nothing, others are refused, no secret is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from typer.testing import CliRunner

from shunter.cli import app
from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc
from shunter.scheduler.errors import ShunterError
from tests.daemon.security.live import as_metadata, sleeping

SUBMIT = scheduler_pb2.SubmitRequest(spec=sleeping())


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def shunter(*arguments: str) -> Done:
    """The command line in this process, with exit codes as `__main__` gives them."""
    done = CliRunner().invoke(app, list(arguments))
    error = done.exception
    if isinstance(error, ShunterError):
        return Done(error.exit_code, done.stdout, f"{done.stderr}{error}\n")
    assert error is None or isinstance(error, SystemExit), error
    return Done(done.exit_code, done.stdout, done.stderr)


def find(path: Path, limit_s: float = 60.0) -> Path:
    end_s = time.monotonic() + limit_s
    while not (found := sorted(path.glob("shunter/*.token"))):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    return found[0]


def refused(stub: Any, metadata: Any) -> grpc.StatusCode:
    try:
        stub.Submit(SUBMIT, metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_daemon_serves_its_own_user_and_holders_of_tokens_and_keeps_its_secrets(tmp_path: Path) -> None:
    state, run, log = tmp_path / "state", tmp_path / "run", tmp_path / "log"
    run.mkdir()
    command = [sys.executable, "-m", "shunter", "daemon", "--listen", "127.0.0.1:0", "--state", str(state)]
    environment = os.environ | {"XDG_RUNTIME_DIR": str(run)}
    with log.open("wb") as out, subprocess.Popen(command, stderr=out, stdout=out, env=environment) as daemon:
        try:
            offered = find(run)
            secret = offered.read_text().strip()
            assert (state / "local.token").read_text().strip() == secret
            port = offered.stem.removeprefix("localhost_")
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub: Any = scheduler_pb2_grpc.SchedulerStub(channel)
                assert refused(stub, None) is grpc.StatusCode.UNAUTHENTICATED
                assert refused(stub, as_metadata("shn_" + "A" * 43)) is grpc.StatusCode.UNAUTHENTICATED
                assert refused(stub, as_metadata(secret)) is grpc.StatusCode.OK
                where = ("--state", str(state))
                made = shunter("token", "create", "--user", "bob", "--role", "viewer", "--expires", "1d", *where)
                assert made.returncode == 0, made.stderr
                bob = made.stdout.strip()
                assert bob not in made.stderr
                out_file = tmp_path / "carol.token"
                carol = shunter(
                    "token", "create", "--user", "carol", "--role", "submitter", "--out", str(out_file), *where
                )
                assert carol.stdout == ""
                assert out_file.stat().st_mode & 0o777 == 0o600
                end_s = time.monotonic() + 10
                while refused(stub, as_metadata(bob)) is grpc.StatusCode.UNAUTHENTICATED and time.monotonic() < end_s:
                    time.sleep(0.1)
                assert refused(stub, as_metadata(bob)) is grpc.StatusCode.PERMISSION_DENIED
                assert refused(stub, as_metadata(out_file.read_text().strip())) is grpc.StatusCode.OK
                listed = json.loads(shunter("token", "list", "--json", *where).stdout)
                assert [row["user"] for row in listed] == ["bob", "carol"]
                assert shunter("token", "revoke", listed[1]["id"], *where).returncode == 0
                end_s = time.monotonic() + 10
                while refused(stub, as_metadata(out_file.read_text().strip())) is grpc.StatusCode.OK:
                    assert time.monotonic() < end_s
                    time.sleep(0.1)
                arguments = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()
                assert secret.encode() not in arguments
        finally:
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(30) == 0
    assert not offered.exists()
    written = log.read_text() + (state / "audit.jsonl").read_text() + (state / "tokens.json").read_text()
    for kept in (secret, bob, out_file.read_text().strip(), "very-secret-value"):
        assert kept not in written
        assert kept[4:] not in written


def test_certificates_by_the_command_line(tmp_path: Path) -> None:
    folder = ("--dir", str(tmp_path / "ca"))
    assert shunter("certs", "init", *folder).returncode == 0
    assert shunter("certs", "init", *folder).returncode != 0
    assert shunter("certs", "issue", *folder, "--server", "a.example.org", "--server", "10.0.0.5").returncode == 0
    assert shunter("certs", "issue", *folder, "--agent", "n1").returncode == 0
    assert shunter("certs", "issue", *folder, "--user", "eve", "--role", "agent").returncode == 2
    assert shunter("certs", "issue", *folder).returncode == 2
    before = shunter("certs", "show", str(tmp_path / "ca" / "agent-n1.pem")).stdout
    assert "shunter://agent/n1" in before
    assert shunter("certs", "renew", str(tmp_path / "ca" / "agent-n1.pem"), *folder, "--days", "9").returncode == 0
    after = shunter("certs", "show", str(tmp_path / "ca" / "agent-n1.pem"), str(tmp_path / "ca" / "server.pem")).stdout
    assert "shunter://agent/n1" in after
    assert "(8 days)" in after or "(9 days)" in after
    assert "a.example.org, 10.0.0.5" in after


def test_a_daemon_for_other_machines_without_tls_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shunter", "daemon", "--listen", "0.0.0.0:0", "--state", str(tmp_path / "state")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "security.tls" in done.stderr
    assert done.stderr.count("\n") == 1
