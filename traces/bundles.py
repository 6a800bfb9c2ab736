"""What the folders of all models have in common: an ONNX file, a card that says what it is, and how they are checked.

Who owns a kind of model says what its card must hold; reading the folder, telling what is wrong with it, and running
the file on one thread stand here once. Needs ONNX Runtime only where a session is asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from shunter.scheduler.errors import BundleError, ShunterError, nearest

MODEL, CARD, FIGURES = "model.onnx", "card.json", "figures"

AnyCard = TypeVar("AnyCard")


class ParityError(ShunterError):
    """An exported network does not answer as the trained one: it is not written."""


def sha256_of(contents: bytes) -> str:
    """The checksum that a card holds of its model."""
    return hashlib.sha256(contents).hexdigest()


def kind_of(folder: Path) -> object:
    """What a folder's card says that it is; None where there is no card that can be read."""
    try:
        document = json.loads((folder / CARD).read_bytes())
    except (OSError, ValueError):
        return None
    return document.get("kind") if isinstance(document, dict) else None


def read_bundle(
    folder: Path,
    card_of: Callable[[object], AnyCard],
    checksum: Callable[[AnyCard], object],
    *,
    what: str,
    model: str = MODEL,
    told_in: str = "model_sha256",
) -> tuple[AnyCard, bytes]:
    """The card and the model of a folder.

    Args:
        folder: Where.
        card_of: The card of a JSON document; raises BundleError.
        checksum: What the card says of the model.
        what: What such a folder is called.
        model: The model's file.
        told_in: The card's field of the checksum.

    Raises:
        BundleError: A file is missing, damaged, or not what its card says; says which, and which field.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; {what} is a folder with {MODEL} and {CARD}")
    try:
        text, onnx = (folder / CARD).read_bytes(), (folder / model).read_bytes()
    except OSError as error:
        raise BundleError(f"{error.filename}: cannot be read: {error.strerror}; is this {what}?") from None
    try:
        card = card_of(json.loads(text))
    except ValueError:
        raise BundleError(f"{folder / CARD}: not JSON") from None
    except BundleError as error:
        raise BundleError(f"{folder / CARD}: {error}") from None
    digest, expected = sha256_of(onnx), checksum(card)
    if digest != expected:
        raise BundleError(
            f"{folder / model}: cut short or changed: its SHA-256 begins with {digest[:12]}, that of the card's field "
            f"{told_in} with {str(expected)[:12]!r}"
        )
    return card, onnx


def card_fields(
    card: type, document: dict[str, Any], *, required: Collection[str], lists: Collection[str]
) -> dict[str, Any]:
    """The fields of a card's document, lists as tuples.

    Raises:
        BundleError: A field is missing, unknown or no list.
    """
    known = {f.name for f in fields(card)}
    for name in document:
        if name not in known:
            raise BundleError(f"{name}: unknown field{nearest(name, sorted(known))}")
    for name in required:
        if name not in document:
            raise BundleError(f"{name}: missing")
    for name in lists:
        if name in document and not isinstance(document[name], list):
            raise BundleError(f"{name}: not a list")
    return {name: tuple(value) if name in lists else value for name, value in document.items()}


def session_of(onnx: bytes) -> Any:
    """A session of ONNX Runtime on one thread.

    Raises:
        BundleError: It is no network that ONNX Runtime can load.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised, and told once
    try:
        return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise BundleError(f"ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """For exporters, which are talkative: notes on standard output, logs, and warnings about their own parts."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
