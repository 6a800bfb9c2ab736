"""A private authority and the certificates that it gives to daemons, agents and users.

Keys are ECDSA on P-256. A certificate of a caller says who it is by one URI among its alternative names,
``shunter://ROLE/NAME``; a daemon's has the names and addresses at which it is reached instead.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature as _InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shunter.daemon.security.files import read_private, write_private
from shunter.daemon.security.tokens import USER
from shunter.daemon.service.access import Role
from shunter.scheduler.errors import ConfigError, OutputError, UsageError

SCHEME = "shunter://"
SKEW = datetime.timedelta(minutes=5)
"""A certificate holds from a little before it is made: clocks differ."""
CA_CERT, CA_KEY = "ca.pem", "ca.key"
AUTHORITY_DAYS, LEAF_DAYS = 3650, 365


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a caller's certificate is for.

    Attributes:
        role: What that one may do.
        name: User; of an agent its node.
        serial: Of the certificate, in hexadecimal.
        ends_s: When it ends, in seconds since the Unix epoch.
    """

    role: Role
    name: str
    serial: str
    ends_s: float


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificate and key that sign others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def holder_of(pem: bytes) -> Holder | None:
    """Whom a certificate is for; None where it does not say so in exactly one way. Its signature is TLS's business."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None
    ours = [uri.removeprefix(SCHEME) for uri in uris if uri.startswith(SCHEME)]
    if len(ours) != 1:
        return None
    role, _, name = ours[0].partition("/")
    if role not in set(Role) or not USER.match(name):
        return None
    ends_s = certificate.not_valid_after_utc.timestamp()
    return Holder(Role(role), name, f"{certificate.serial_number:x}", ends_s)


def make_authority(folder: Path, name: str, days: int = AUTHORITY_DAYS) -> Path:
    """Make an authority in a folder: ``ca.pem``, and ``ca.key`` which only its owner may read.

    Raises:
        OutputError: There is one already, or the folder cannot be written.
    """
    if (folder / CA_KEY).exists() or (folder / CA_CERT).exists():
        raise OutputError(f"{folder}: holds an authority already; a new one would make its certificates worthless")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_pair(folder / CA_CERT, folder / CA_KEY, certificate, key)
    return folder / CA_CERT


def read_authority(folder: Path) -> Authority:
    """The authority in a folder.

    Raises:
        ConfigError: There is none, it cannot be read, or others may read its key.
    """
    certificate = read_certificate(folder / CA_CERT)
    try:
        key = serialization.load_pem_private_key(read_private(folder / CA_KEY), password=None)
    except (ValueError, TypeError):
        raise ConfigError(f"{folder / CA_KEY}: is no private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{folder / CA_KEY}: is no ECDSA key")
    return Authority(certificate, key)


def issue_server(authority: Authority, hosts: Sequence[str], cert: Path, key: Path, days: int = LEAF_DAYS) -> None:
    """A daemon's certificate for the names and addresses at which it is reached.

    Raises:
        UsageError: No host, or one that cannot be.
        OutputError: It cannot be written.
    """
    if not hosts:
        raise UsageError("--server: at least one name or address is needed")
    names = [_host_name(host) for host in hosts]
    _issue(authority, hosts[0], names, ExtendedKeyUsageOID.SERVER_AUTH, cert, key, days)


def issue_caller(authority: Authority, role: Role, name: str, cert: Path, key: Path, days: int = LEAF_DAYS) -> None:
    """A certificate of a user, or of the agent of a node.

    Raises:
        UsageError: The name cannot be.
        OutputError: It cannot be written.
    """
    if not USER.match(name):
        raise UsageError(f"{name[:64]!r} is no name of a user or a node")
    uri = x509.UniformResourceIdentifier(f"{SCHEME}{role}/{name}")
    _issue(authority, name, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, cert, key, days)


def renew(authority: Authority, cert: Path, key: Path, days: int = LEAF_DAYS) -> None:
    """The same certificate again, with a new key and a new end.

    Raises:
        ConfigError: It cannot be read, or was signed by another authority.
        OutputError: It cannot be written.
    """
    old = read_certificate(cert)
    try:
        old.verify_directly_issued_by(authority.certificate)
        names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = old.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, TypeError, x509.ExtensionNotFound, _InvalidSignature):
        raise ConfigError(f"{cert}: was not made by this authority") from None
    common = old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    _issue(authority, str(common[0].value), list(names), next(iter(usage)), cert, key, days)


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as problem:
        raise ConfigError(f"{path}: {problem.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path}: is no certificate in PEM") from None


def names_in(certificate: x509.Certificate) -> list[str]:
    """For whom or what it is."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def _issue(
    authority: Authority,
    common: str,
    names: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    cert: Path,
    key: Path,
    days: int,
) -> None:
    new_key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])
    signer = authority.certificate
    certificate = (
        _builder(subject, signer.subject, new_key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    _write_pair(cert, key, certificate, new_key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    if not 1 <= days <= 36_500:
        raise UsageError(f"--days: {days} is not between 1 and 36500")
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise UsageError(f"--server: {host[:64]!r} is no name and no address") from None


def _write_pair(cert: Path, key: Path, certificate: x509.Certificate, private: ec.EllipticCurvePrivateKey) -> None:
    write_private(
        key,
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    write_private(cert, certificate.public_bytes(serialization.Encoding.PEM))
    try:
        cert.chmod(0o644)
    except OSError as problem:
        raise OutputError(f"{cert}: {problem.strerror}") from None
