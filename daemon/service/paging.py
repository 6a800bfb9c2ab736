"""Pages of long answers: a token names the last row that was told."""

from __future__ import annotations

import base64
import binascii

from shunter.daemon.errors import InvalidError

DEFAULT, MOST = 100, 1000


def page_token(last: str) -> str:
    """Token of the page after a row."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def page_of(size: int, token: str) -> tuple[int, str]:
    """Rows to tell, and the row after which they begin (empty: from the first).

    Raises:
        InvalidError: The size or the token cannot be.
    """
    if not 0 <= size <= MOST:
        raise InvalidError(f"page_size: {size} is not between 0 and {MOST}")
    try:
        last = base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError) as error:
        raise InvalidError("page_token: is none that was given out") from error
    return size or DEFAULT, last


def number_of(last: str) -> int:
    """A row's number from a token.

    Raises:
        InvalidError: It is no number.
    """
    if not last:
        return 0
    if not last.isdecimal() or len(last) > 18:
        raise InvalidError("page_token: is none that was given out")
    return int(last)
