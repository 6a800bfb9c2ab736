"""Protocol-buffer messages taken apart field by field: ONNX files are read without the package ``onnx``.

Source: the encoding of protocol buffers, https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5


def fields(data: bytes | int) -> Iterator[tuple[int, bytes | int]]:
    """(number, value) of the fields of a protocol-buffer message.

    Raises:
        ValueError: It is none, or cut short.
    """
    if isinstance(data, int):
        raise ValueError("a number where a message was expected")
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        field, wire = key >> 3, key & 7
        if wire == VARINT:
            number, place = _varint(data, place)
            yield field, number
            continue
        if wire == LENGTH:
            size, place = _varint(data, place)
        else:
            size = {EIGHT_BYTES: 8, FOUR_BYTES: 4}.get(wire, -1)
        if size < 0 or place + size > len(data):
            raise ValueError("cut short")
        yield field, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of variable length at ``place``, and the place after it."""
    number, shift = 0, 0
    while True:
        byte = data[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place


def varints(data: bytes) -> list[int]:
    """Packed numbers of variable length."""
    found, place = list[int](), 0
    while place < len(data):
        number, place = _varint(data, place)
        found.append(number)
    return found
