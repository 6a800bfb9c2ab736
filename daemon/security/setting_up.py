"""What the configuration says of security, made into what the server needs."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import structlog

from shunter.daemon.config import Config
from shunter.daemon.security.access import SecureAccess
from shunter.daemon.security.audit import AuditLog
from shunter.daemon.security.certificates import read_certificate
from shunter.daemon.security.discovery import is_loopback, offered_path
from shunter.daemon.security.files import read_private, write_private
from shunter.daemon.security.guard import Guard
from shunter.daemon.security.rates import RateRules, Rates
from shunter.daemon.security.tokens import FILE_NAME, TokenFile, new_secret
from shunter.scheduler.errors import ConfigError

log = structlog.get_logger("shunter.daemon.security")
LOCAL_NAME, AUDIT_NAME = "local.token", "audit.jsonl"


def token_file(config: Config, state_dir: Path) -> Path:
    """Where the tokens of a daemon are kept."""
    return Path(config.security.tokens) if config.security.tokens else state_dir / FILE_NAME


def check_exposure(config: Config, config_path: Path | None) -> None:
    """Refuse to serve other machines without what protects the daemon.

    Raises:
        ConfigError: With what is missing and how to make it.
    """
    host = config.listen.rpartition(":")[0]
    security = config.security
    if security.tls.cert or is_loopback(host):
        return
    if security.insecure:
        log.warning(
            "INSECURE: other machines can reach this daemon and nothing is encrypted; tokens can be read on the way",
            listen=config.listen,
        )
        return
    what = "a configuration (--config) with security.tls" if config_path is None else "security.tls in it"
    raise ConfigError(
        f"listen: {config.listen} can be reached from other machines, which needs {what}: `shunter certs init` and "
        "`shunter certs issue --server NAME` make the certificates. To go without: security.insecure: true"
    )


@dataclass(slots=True)
class Protection:
    """What stands between the network and the services.

    Attributes:
        access: Who calls.
        guard: Before every method.
        audit: Record of changes.
        credentials: TLS; None: none.
        certificate: Path of the daemon's own; None: none.
    """

    access: SecureAccess
    guard: Guard
    audit: AuditLog
    credentials: grpc.ServerCredentials | None
    certificate: Path | None
    _local: str = field(default="", repr=False)

    def offer(self, address: str) -> Callable[[], None]:
        """Leave the local token where clients on this machine look; returns what takes it away again."""
        path = offered_path(address)
        if not self._local or path is None:
            return lambda: None
        write_private(path, self._local.encode() + b"\n")

        def take_away() -> None:
            try:
                if read_private(path).decode().strip() == self._local:
                    path.unlink()
            except (ConfigError, OSError):
                return  # it is another daemon's by now, or gone

        return take_away


def protect(config: Config, config_path: Path | None, state_dir: Path) -> Protection:
    """Set up security as a configuration has it.

    Raises:
        ConfigError: The address needs more protection than there is; a file that cannot be used.
        OutputError: The state folder cannot be written.
    """
    check_exposure(config, config_path)
    security = config.security
    tokens = TokenFile(token_file(config, state_dir))
    tokens.read()  # a file that cannot be used is told now, not at the first call
    host = config.listen.rpartition(":")[0]
    local = _local_token(state_dir) if security.local_token and is_loopback(host) else ""
    access = SecureAccess(tokens, local=local, local_user=getpass.getuser() if local else "")
    audit = AuditLog(state_dir / AUDIT_NAME, int(security.audit_mib * 2**20), security.audit_files)
    rates = Rates(RateRules(**security.rates.model_dump()))
    certificate = Path(security.tls.cert) if security.tls.cert else None
    guard = Guard(access, rates=rates, audit=audit)
    return Protection(access, guard, audit, _credentials(config), certificate, local)


def _local_token(state_dir: Path) -> str:
    """The token for this user's clients on this machine; made at the first start."""
    path = state_dir / LOCAL_NAME
    if not path.exists():
        write_private(path, new_secret().encode() + b"\n")
    secret = read_private(path).decode("ascii", "replace").strip()
    if len(secret) < 40:
        raise ConfigError(f"{path}: holds no token; remove it, and the daemon makes another one")
    return secret


def _credentials(config: Config) -> grpc.ServerCredentials | None:
    tls = config.security.tls
    if not tls.cert:
        return None
    files = _TlsFiles(Path(tls.cert), Path(tls.key), Path(tls.client_ca) if tls.client_ca else None)
    return grpc.dynamic_ssl_server_credentials(files.read(), files.changed, bool(tls.client_ca))


class _TlsFiles:
    """Certificates that may be renewed while the daemon runs."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._seen: tuple[int, ...] = ()

    def _state(self) -> tuple[int, ...]:
        paths = [self._cert, self._key, *([self._client_ca] if self._client_ca else [])]
        return tuple(path.stat().st_mtime_ns for path in paths)

    def read(self) -> grpc.ServerCertificateConfiguration:
        read_certificate(self._cert)
        root = None
        if self._client_ca is not None:
            read_certificate(self._client_ca)
            root = self._client_ca.read_bytes()
        pair = (read_private(self._key), self._cert.read_bytes())
        self._seen = self._state()
        self._same = grpc.ssl_server_certificate_configuration([pair], root)
        return self._same

    def changed(self) -> grpc.ServerCertificateConfiguration:
        """Asked by gRPC before each handshake."""
        try:
            return self.read() if self._state() != self._seen else self._same
        except (ConfigError, OSError) as problem:
            log.error("certificates-not-read", error=str(problem))
            return self._same
