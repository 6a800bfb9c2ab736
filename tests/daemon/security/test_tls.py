"""Certificates: made, shown, renewed, and refused where they must be."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import grpc
import grpc.aio
import pytest

from shunter.daemon.config import checked
from shunter.daemon.pb import nodes_pb2, nodes_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc
from shunter.daemon.security import certificates
from shunter.daemon.security.setting_up import _credentials, check_exposure
from shunter.daemon.service.access import Role
from shunter.scheduler.errors import ConfigError, OutputError, ShunterError
from tests.daemon.security.live import LOCAL, as_metadata, code_of, serving

Code = grpc.StatusCode
ASK = scheduler_pb2.ListJobsRequest()


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    folder = tmp_path / "ca"
    certificates.make_authority(folder, "test")
    authority = certificates.read_authority(folder)
    certificates.issue_server(authority, ["localhost", "127.0.0.1"], folder / "server.pem", folder / "server.key")
    return folder


def caller(ca: Path, role: Role, name: str, days: int = 365) -> tuple[Path, Path]:
    cert, key = ca / f"{name}.pem", ca / f"{name}.key"
    certificates.issue_caller(certificates.read_authority(ca), role, name, cert, key, days)
    return cert, key


def tls(ca: Path, *, client_ca: bool = True):
    said = {"cert": str(ca / "server.pem"), "key": str(ca / "server.key")}
    if client_ca:
        said["client_ca"] = str(ca / "ca.pem")
    return _credentials(checked({"security": {"tls": said}}, "test"))


def channel(address: str, ca: Path, pair: tuple[Path, Path] | None) -> grpc.aio.Channel:
    key, cert = (pair[1].read_bytes(), pair[0].read_bytes()) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials((ca / "ca.pem").read_bytes(), key, cert)
    return grpc.aio.secure_channel(address, credentials)


async def ask(address: str, ca: Path, pair: tuple[Path, Path] | None, metadata=None) -> grpc.StatusCode:
    async with channel(address, ca, pair) as open_channel:
        stub = scheduler_pb2_grpc.SchedulerStub(open_channel)
        return await code_of(stub.ListJobs(ASK, metadata=metadata, timeout=5))


def test_certificates_say_who_calls_and_a_token_beside_them_decides(tmp_path: Path, ca: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, credentials=tls(ca)) as live:
            alice, agent = caller(ca, Role.SUBMITTER, "alice"), caller(ca, Role.AGENT, "n1")
            assert await ask(live.address, ca, alice) is Code.OK
            assert await ask(live.address, ca, agent) is Code.PERMISSION_DENIED
            assert await ask(live.address, ca, agent, as_metadata(LOCAL)) is Code.OK
            assert await ask(live.address, ca, alice, as_metadata("shn_wrong")) is Code.UNAUTHENTICATED
            async with channel(live.address, ca, agent) as open_channel:
                nodes = nodes_pb2_grpc.NodesStub(open_channel)
                described = nodes_pb2.NodeDescription(cpus=1)
                for node, code in (("n1", Code.OK), ("n2", Code.PERMISSION_DENIED)):
                    request = nodes_pb2.RegisterRequest(node=node, description=described)
                    assert await code_of(nodes.Register(request, timeout=5)) is code

    asyncio.run(check())


def test_no_certificate_one_of_another_authority_and_an_expired_one_do_not_get_through(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    certificates.make_authority(other, "test")  # of the same name
    stranger = caller(other, Role.OPERATOR, "mallory")
    server_as_client = (ca / "server.pem", ca / "server.key")
    old_builder = certificates._builder

    def in_the_past(subject, issuer, public, days):
        now = datetime.datetime.now(datetime.UTC)
        builder = old_builder(subject, issuer, public, days)
        builder._not_valid_before = (now - datetime.timedelta(days=9)).replace(tzinfo=None)
        builder._not_valid_after = (now - datetime.timedelta(days=1)).replace(tzinfo=None)
        return builder

    monkeypatch.setattr(certificates, "_builder", in_the_past)
    expired = caller(ca, Role.OPERATOR, "late")

    async def check() -> None:
        async with serving(tmp_path, credentials=tls(ca)) as live:
            for pair in (None, stranger, expired):
                assert await ask(live.address, ca, pair, as_metadata(LOCAL)) is Code.UNAVAILABLE, pair
            assert await ask(live.address, ca, server_as_client) in (Code.UNAVAILABLE, Code.UNAUTHENTICATED)
            async with grpc.aio.insecure_channel(live.address) as plain:
                stub = scheduler_pb2_grpc.SchedulerStub(plain)
                code = await code_of(stub.ListJobs(ASK, metadata=as_metadata(LOCAL), timeout=2))
                assert code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)

    asyncio.run(check())


def test_a_connection_outlives_its_certificate_and_its_calls_do_not(tmp_path: Path, ca: Path) -> None:
    alice = caller(ca, Role.SUBMITTER, "alice", days=1)

    async def check() -> None:
        async with serving(tmp_path, credentials=tls(ca)) as live, channel(live.address, ca, alice) as open_channel:
            stub = scheduler_pb2_grpc.SchedulerStub(open_channel)
            assert await code_of(stub.ListJobs(ASK, timeout=5)) is Code.OK
            live.access._now_s = lambda: datetime.datetime.now(datetime.UTC).timestamp() + 86_401
            assert await code_of(stub.ListJobs(ASK, timeout=5)) is Code.UNAUTHENTICATED

    asyncio.run(check())


def test_a_renewed_certificate_is_taken_without_a_restart(tmp_path: Path, ca: Path) -> None:
    def serial_shown(address: str) -> int:
        import ssl

        from cryptography import x509

        host, _, port = address.rpartition(":")
        pem = ssl.get_server_certificate((host, int(port)), timeout=5)
        return x509.load_pem_x509_certificate(pem.encode()).serial_number

    async def check() -> None:
        async with serving(tmp_path, credentials=tls(ca, client_ca=False)) as live:
            before = await asyncio.to_thread(serial_shown, live.address)
            certificates.renew(certificates.read_authority(ca), ca / "server.pem", ca / "server.key")
            after = await asyncio.to_thread(serial_shown, live.address)
            assert after == certificates.read_certificate(ca / "server.pem").serial_number != before
            assert await ask(live.address, ca, None, as_metadata(LOCAL)) is Code.OK
            (ca / "server.pem").write_text("broken")  # while somebody copies it: the last good one serves on
            assert await asyncio.to_thread(serial_shown, live.address) == after

    asyncio.run(check())


def test_keys_are_private_an_authority_is_never_overwritten_and_names_must_be_names(ca: Path, tmp_path: Path) -> None:
    assert [(ca / name).stat().st_mode & 0o777 for name in ("ca.key", "server.key")] == [0o600, 0o600]
    with pytest.raises(OutputError, match="holds an authority already"):
        certificates.make_authority(ca, "again")
    for name in ("", "a/b", "alice\n", "ü", "a" * 65):
        with pytest.raises(ShunterError, match="is no name"):
            certificates.issue_caller(
                certificates.read_authority(ca), Role.VIEWER, name, tmp_path / "x.pem", tmp_path / "x.key"
            )
    (ca / "ca.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        certificates.read_authority(ca)


def test_a_certificate_of_another_authority_is_not_renewed(ca: Path, tmp_path: Path) -> None:
    certificates.make_authority(tmp_path / "other", "test")
    authority = certificates.read_authority(tmp_path / "other")
    with pytest.raises(ConfigError, match="not made by this authority"):
        certificates.renew(authority, ca / "server.pem", ca / "server.key")


@pytest.mark.parametrize(
    ("said", "is_refused"),
    [
        ({}, False),
        ({"listen": "localhost:1"}, False),
        ({"listen": "[::1]:1"}, False),
        ({"listen": "127.8.0.1:1"}, False),
        ({"listen": "0.0.0.0:1"}, True),
        ({"listen": "[::]:1"}, True),
        ({"listen": "node.example.org:1"}, True),
        ({"listen": "0.0.0.0:1", "security": {"insecure": True}}, False),
        ({"listen": "0.0.0.0:1", "security": {"tls": {"cert": "a", "key": "b"}}}, False),
    ],
)
def test_other_machines_are_served_with_tls_only(said, is_refused: bool) -> None:
    config = checked(said, "test")
    if is_refused:
        with pytest.raises(ConfigError, match=r"security\.tls.*shunter certs init.*security\.insecure"):
            check_exposure(config, None)
    else:
        check_exposure(config, None)
