"""Who calls the real daemon: a token in the call's metadata, or the certificate of its connection."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Callable
from typing import Any

from shunter.daemon.errors import ForbiddenError, UnauthenticatedError
from shunter.daemon.security.certificates import Holder, holder_of
from shunter.daemon.security.tokens import USER, Token, TokenFile
from shunter.daemon.service.access import USER_KEY, Caller, Identity, Role, current_caller

AUTHORIZATION = "authorization"
BEARER = "Bearer "
MAX_CACHED = 10_000
"""Callers that are remembered; then all are looked up again."""


class SecureAccess:
    """Believes proofs only. A token that is given decides, and has to be good; without one the certificate decides.

    Proofs that were good are remembered, so that a call costs a look into a dictionary. What is remembered is
    forgotten when the file of tokens changes.

    Args:
        tokens: Of the daemon.
        local: The token for clients of the daemon's own user on this machine; empty: there is none.
        local_user: Name of that user, who is an operator.
        now_s: Seconds since the Unix epoch.
    """

    def __init__(
        self, tokens: TokenFile, *, local: str = "", local_user: str = "", now_s: Callable[[], float] = time.time
    ) -> None:
        self._tokens, self._now_s = tokens, now_s
        self.__local, self._local_user = local, local_user
        self._known: dict[str | bytes, Identity] = {}
        self._generation = -1

    def identify(self, context: Any) -> Identity:
        """See ``Access``."""
        self._tokens.refresh()
        if self._tokens.generation != self._generation:
            self._known.clear()
            self._generation = self._tokens.generation
        header, acted_for = None, None
        for key, value in context.invocation_metadata() or ():
            if key == AUTHORIZATION:
                if header is not None:
                    raise UnauthenticatedError("more than one authorization was given")
                header = value
            elif key == USER_KEY:
                acted_for = value
        identity = self._by_certificate(context) if header is None else self._by_token(header)
        return identity if acted_for is None else _acting(identity, acted_for)

    def _by_token(self, header: str | bytes) -> Identity:
        known = self._known.get(header)
        if known is not None:
            if self._now_s() >= known.ends_s:
                raise UnauthenticatedError("the token has expired")
            return known
        if not isinstance(header, str) or not header.startswith(BEARER):
            raise UnauthenticatedError("authorization: expected `Bearer TOKEN`")
        secret = header[len(BEARER) :]
        if self.__local and hmac.compare_digest(secret.encode(), self.__local.encode()):
            found = Identity(Caller(self._local_user, Role.OPERATOR), "local")
        else:
            token = self._tokens.find(secret)
            if token is None:
                raise UnauthenticatedError("the token is not known here, was revoked, or has expired")
            found = _of_token(token)
        return self._remember(header, found)

    def _by_certificate(self, context: Any) -> Identity:
        certificates = context.auth_context().get("x509_pem_cert")
        if not certificates:
            raise UnauthenticatedError("no token was given, and no certificate")
        pem = bytes(certificates[0])
        known = self._known.get(pem)
        if known is None:
            holder = holder_of(pem)
            if holder is None:
                raise UnauthenticatedError("the certificate is for no user and no node")
            known = self._remember(pem, _of_holder(holder))
        if self._now_s() >= known.ends_s:
            raise UnauthenticatedError("the certificate has expired")
        return known

    def _remember(self, key: str | bytes, identity: Identity) -> Identity:
        if len(self._known) >= MAX_CACHED:
            self._known.clear()
        self._known[key] = identity
        return identity

    def still_holds(self, identity: Identity) -> bool:
        """See ``Access``."""
        if identity.ends_s != math.inf and self._now_s() >= identity.ends_s:
            return False
        return not identity.token or self._tokens.knows(identity.token)

    def caller(self, context: Any) -> Caller:
        """See ``Access``."""
        return current_caller(self, context)


def _of_token(token: Token) -> Identity:
    caller = Caller(token.node if token.role is Role.AGENT else token.user, token.role)
    return Identity(caller, f"token {token.id}", ends_s=token.ends_s, token=token.id)


def _of_holder(holder: Holder) -> Identity:
    return Identity(Caller(holder.name, holder.role), f"certificate {holder.serial}", ends_s=holder.ends_s)


def _acting(identity: Identity, user: str | bytes) -> Identity:
    """An operator acts for a user."""
    caller = identity.caller
    if caller.role is not Role.OPERATOR:
        raise ForbiddenError(f"only an operator may act for another user; {caller.user!r} is {caller.role}")
    if not isinstance(user, str) or not USER.match(user):
        raise ForbiddenError(f"{USER_KEY}: {user[:64]!r} is no name of a user")
    return Identity(Caller(user, Role.OPERATOR), identity.proof, caller.user, identity.ends_s, identity.token)
