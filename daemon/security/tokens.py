"""Tokens: 256 random bits that say who calls. Only their SHA-256 is kept, in one file of the state folder.

The file may be changed by ``shunter token`` while the daemon runs; it is looked at again every ``LOOK_S``.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from shunter.daemon.security.files import write_private
from shunter.daemon.service.access import Role
from shunter.scheduler.errors import ConfigError, UsageError

log = structlog.get_logger("shunter.daemon.security")

PREFIX = "shn_"
"""Makes a token that was left in a file or a commit easy to find."""
SECRET_BYTES = 32
LOOK_S = 1.0
"""A revoked token is refused after so long at the latest."""
FILE_NAME = "tokens.json"
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}\Z")
"""Names of users and nodes in tokens and certificates."""
SPAN = re.compile(r"(\d{1,6})([smhdw])\Z")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token; nobody can make the token from it.

    Attributes:
        id: First characters of its digest: names it in lists and in the audit log.
        user: Who calls with it; empty for an agent.
        role: What that one may do.
        node: For which an agent may speak; empty: any.
        sha256: Of the token, in hexadecimal.
        made_unix_s: When it was made.
        expires_unix_s: When it ends; None: never.
    """

    id: str
    user: str
    role: Role
    node: str
    sha256: str
    made_unix_s: float
    expires_unix_s: float | None

    @property
    def ends_s(self) -> float:
        """When it ends; inf: never."""
        return math.inf if self.expires_unix_s is None else self.expires_unix_s


def new_secret() -> str:
    """A token."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def digest_of(secret: str) -> str:
    """What is kept of a token. A plain hash is enough: 256 random bits cannot be guessed from it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def span_s(text: str) -> float:
    """Seconds of ``30d``, ``12h``, ``90s`` ….

    Raises:
        UsageError: It is none.
    """
    match = SPAN.match(text)
    if match is None or not int(match[1]):
        raise UsageError(f"{text[:32]!r} is no span; expected a number and s, m, h, d or w, such as 30d")
    return float(int(match[1]) * SECONDS[match[2]])


class TokenFile:
    """The tokens of one daemon.

    Args:
        path: Of the file; need not exist.
        now_s: Seconds since the Unix epoch.
        monotonic_s: For when to look again.
    """

    def __init__(
        self,
        path: Path,
        now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path, self._now_s, self._monotonic_s = path, now_s, monotonic_s
        self.generation = 0
        """Rises when the file has changed: what was looked up before has to be looked up again."""
        self._by_id: dict[str, Token] = {}
        self._seen: tuple[int, int, int] | None = None
        self._looked_s = -math.inf
        self._has_complained = False

    # --- for the daemon ----------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read the file again when it has changed; one that cannot be used is logged, and what was known stays."""
        now_s = self._monotonic_s()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            state = self.path.stat()
            seen = (state.st_mtime_ns, state.st_ino, state.st_size)
        except FileNotFoundError:
            seen = (0, 0, 0)
        except OSError as problem:
            self._complain(f"{self.path}: {problem.strerror}")
            return
        if seen == self._seen:
            return
        try:
            self._by_id = {token.id: token for token in self.read()}
        except ConfigError as problem:
            self._complain(str(problem))
            return
        self._seen, self._has_complained = seen, False
        self.generation += 1

    def _complain(self, problem: str) -> None:
        if not self._has_complained:
            log.error("tokens-not-read", error=problem)
        self._has_complained = True

    def find(self, secret: str) -> Token | None:
        """The token that this is, when it is one and has not ended."""
        self.refresh()
        digest = digest_of(secret)
        token = self._by_id.get(digest[:12])
        if token is None or not hmac.compare_digest(token.sha256, digest) or self._now_s() >= token.ends_s:
            return None
        return token

    def knows(self, token_id: str) -> bool:
        """Whether a token is still in the file."""
        self.refresh()
        return token_id in self._by_id

    # --- for the command line ----------------------------------------------------------------------------------------

    def read(self) -> list[Token]:
        """All tokens, those that have ended too.

        Raises:
            ConfigError: The file cannot be used, or others may write it.
        """
        try:
            with self.path.open("rb") as file:
                state = os.fstat(file.fileno())
                if state.st_mode & 0o077 or state.st_uid not in (os.geteuid(), 0):
                    raise ConfigError(f"{self.path}: others may use it; expected mode 0600 and this user's own")
                content = json.loads(file.read())
            return [_token(item) for item in content["tokens"]]
        except FileNotFoundError:
            return []
        except OSError as problem:
            raise ConfigError(f"{self.path}: {problem.strerror}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ConfigError(f"{self.path}: is no list of tokens; `shunter token` writes it") from None

    def create(self, user: str, role: Role, *, node: str = "", lasts_s: float | None = None) -> tuple[str, Token]:
        """Make a token; returns it (it cannot be shown again) and what is kept of it.

        Raises:
            UsageError: Names that do not fit the role.
        """
        if role is Role.AGENT:
            if user:
                raise UsageError("--user: an agent's token is for a node (--node), or for any node, not for a user")
        elif node:
            raise UsageError("--node: only an agent's token is for a node")
        elif not USER.match(user):
            raise UsageError(f"--user: {user[:64]!r} is no name of a user")
        if node and not USER.match(node):
            raise UsageError(f"--node: {node[:64]!r} is no name of a node")
        secret, now_s = new_secret(), self._now_s()
        digest = digest_of(secret)
        token = Token(digest[:12], user, role, node, digest, now_s, None if lasts_s is None else now_s + lasts_s)
        with self._locked():
            self._write([*self.read(), token])
        return secret, token

    def revoke(self, token_id: str) -> Token:
        """Take a token out of the file.

        Raises:
            UsageError: There is none, or more than one, whose id begins so.
        """
        with self._locked():
            tokens = self.read()
            found = [token for token in tokens if token_id and token.id.startswith(token_id)]
            if len(found) != 1:
                raise UsageError(f"{len(found)} tokens have an id that begins with {token_id[:64]!r}; expected one")
            self._write([token for token in tokens if token is not found[0]])
        return found[0]

    def _write(self, tokens: list[Token]) -> None:
        content = json.dumps({"tokens": [asdict(token) for token in tokens]}, indent=1)
        write_private(self.path, content.encode() + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Two calls of the command line do not lose one another's changes."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise ConfigError(f"{self.path}: {problem.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _token(item: dict[str, object]) -> Token:
    token = Token(**item)  # type: ignore[arg-type]
    numbers = [token.made_unix_s, 0.0 if token.expires_unix_s is None else token.expires_unix_s]
    texts = [token.id, token.user, token.node, token.sha256]
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(n, int | float) for n in numbers):
        raise ValueError("wrong kinds of values")
    if len(token.sha256) != 64 or token.id != token.sha256[:12]:
        raise ValueError("no digest")
    return Token(
        token.id, token.user, Role(token.role), token.node, token.sha256, token.made_unix_s, token.expires_unix_s
    )
