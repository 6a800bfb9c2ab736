"""Files of tokens, and how clients find the one for this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from os.path import commonpath
from pathlib import Path

import pytest

from shunter.daemon.config import checked
from shunter.daemon.errors import LimitError
from shunter.daemon.security import discovery
from shunter.daemon.security.files import read_private
from shunter.daemon.security.rates import RateRules, Rates
from shunter.daemon.security.setting_up import protect
from shunter.daemon.security.tokens import TokenFile, digest_of, span_s
from shunter.daemon.service.access import Role
from shunter.scheduler.errors import ConfigError, UsageError


def test_only_the_hash_of_a_token_is_kept_and_only_its_owner_may_read_that(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    secret, token = tokens.create("alice", Role.SUBMITTER)
    text = tokens.path.read_text()
    assert secret not in text
    assert secret[4:] not in text
    assert len(secret) == 4 + 43  # 32 bytes in base 64
    assert json.loads(text)["tokens"][0]["sha256"] == digest_of(secret) == token.sha256
    assert tokens.path.stat().st_mode & 0o777 == 0o600
    assert tokens.find(secret) == token
    assert tokens.find(secret[:-1]) is None


def test_tokens_that_others_could_have_written_are_not_believed(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    secret, _ = tokens.create("alice", Role.SUBMITTER)
    tokens.path.chmod(0o622)
    with pytest.raises(ConfigError, match="others may use it"):
        tokens.read()
    assert TokenFile(tokens.path).find(secret) is None


def test_a_file_that_breaks_while_the_daemon_runs_changes_nothing_and_one_that_is_taken_away_revokes_all(
    tmp_path: Path,
) -> None:
    at_s = 0.0
    tokens = TokenFile(tmp_path / "tokens.json", monotonic_s=lambda: at_s)
    secret, token = tokens.create("alice", Role.SUBMITTER)
    assert tokens.find(secret) == token
    for content in ('{"tokens": [{}]}', "[", '{"tokens": 3}', '{"tokens": [{"id": 1}]}', "\xff"):
        at_s += 2
        tokens.path.write_text(content)
        assert tokens.find(secret) == token
    at_s += 2
    tokens.path.unlink()
    assert tokens.find(secret) is None


@pytest.mark.parametrize(
    ("user", "role", "node"),
    [
        ("", Role.VIEWER, ""),
        ("a b", Role.VIEWER, ""),
        ("alice", Role.VIEWER, "n1"),
        ("alice", Role.AGENT, ""),
        ("", Role.AGENT, "n 1"),
        ("alice\n", Role.VIEWER, ""),
    ],
)
def test_names_that_do_not_fit_a_role_are_refused(tmp_path: Path, user: str, role: Role, node: str) -> None:
    with pytest.raises(UsageError):
        TokenFile(tmp_path / "tokens.json").create(user, role, node=node)


def test_spans() -> None:
    assert [span_s(text) for text in ("30d", "12h", "90s", "2w", "5m")] == [2592000, 43200, 90, 1209600, 300]
    for text in ("", "d", "0d", "-1d", "1.5h", "3 d", "99999999d"):
        with pytest.raises(UsageError):
            span_s(text)


def test_revoking_needs_exactly_one_token(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    ids = [tokens.create("alice", Role.VIEWER)[1].id for _ in range(40)]
    for bad in ("", "zz", commonpath(ids)):
        with pytest.raises(UsageError, match="expected one"):
            tokens.revoke(bad)
    assert tokens.revoke(ids[3]).id == ids[3]
    assert len(tokens.read()) == 39


# --- clients on this machine -----------------------------------------------------------------------------------------


def test_clients_of_the_same_user_find_the_token_of_a_daemon_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    state = tmp_path / "state"
    protection = protect(checked({}, "test"), None, state)
    assert discovery.find_token("127.0.0.1:7070") == ""
    take_away = protection.offer("127.0.0.1:7070")
    found = discovery.find_token("localhost:7070")
    assert found == read_private(state / "local.token").decode().strip()
    assert found == discovery.find_token("[::1]:7070")
    assert discovery.find_token("10.0.0.1:7070") == ""
    offered = discovery.offered_path("127.0.0.1:7070")
    assert offered is not None
    assert offered.stat().st_mode & 0o777 == 0o600
    assert offered.parent.stat().st_mode & 0o077 == 0
    again = protect(checked({}, "test"), None, state)  # the next start has the same one
    again.offer("127.0.0.1:7070")
    assert discovery.find_token("127.0.0.1:7070") == found
    take_away()
    assert not offered.exists()
    offered.write_text("shn_of-another-daemon\n")
    offered.chmod(0o600)
    take_away()
    assert offered.exists()
    for private in (protection, protection.access, again):
        assert found not in repr(private)


def test_a_token_that_others_may_read_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = discovery.offered_path("127.0.0.1:7070")
    assert path == tmp_path / ".cache" / "shunter" / "localhost_7070.token"
    path.parent.mkdir(parents=True)
    path.write_text("shn_x")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may use it"):
        discovery.find_token("127.0.0.1:7070")


def test_looking_for_a_token_loads_nothing_heavy() -> None:
    code = (
        "import sys; import shunter.daemon.security.discovery; "
        "heavy = ('grpc', 'cryptography', 'numpy', 'pydantic', 'sqlalchemy', 'structlog'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert told.stdout.strip() == "[]"


# --- cost and rates --------------------------------------------------------------------------------------------------


def test_a_known_caller_costs_few_microseconds(tmp_path: Path) -> None:
    from shunter.daemon.security.access import SecureAccess

    tokens = TokenFile(tmp_path / "tokens.json")
    secret, _ = tokens.create("alice", Role.SUBMITTER)

    class Context:
        metadata = (("user-agent", "grpc"), ("authorization", f"Bearer {secret}"))

        def invocation_metadata(self):
            return self.metadata

    access, context = SecureAccess(tokens), Context()
    assert access.identify(context).caller.user == "alice"
    best_s = min(_seconds(lambda: access.identify(context)) for _ in range(20))
    assert best_s < 5e-6


def _seconds(call, count: int = 1000) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begun) / count


def test_a_bucket_gives_its_burst_at_once_and_its_rate_in_the_long_run() -> None:
    at_s = 0.0
    rates = Rates(RateRules(user_calls_per_s=10, user_burst=5, all_calls_per_s=1e9), lambda: at_s)
    passed = 0
    for _ in range(1000):  # 10 s in steps of 10 ms: 5 + 10 · 10 calls
        try:
            rates.take("alice")
            passed += 1
        except LimitError:
            pass
        at_s += 0.01
    assert passed in (104, 105)


def test_users_who_have_not_called_for_long_are_forgotten() -> None:
    at_s = 0.0
    rates = Rates(RateRules(), lambda: at_s)
    for i in range(30_000):
        at_s += 0.001
        rates.take(f"u{i}")
    assert len(rates._users) <= 10_000
