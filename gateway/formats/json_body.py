"""Decoding request bodies: strict JSON in UTF-8, bounded in depth and in the number of values."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson

from gateway.errors import InvalidRequest

MAX_DEPTH = 64
# orjson needs 60–90 ns a value: this many keep the event loop waiting for less than 25 ms.
MAX_VALUES = 250_000
_SLICE = 256 * 1024


async def decode(raw: bytes) -> dict[str, Any]:
    """The JSON object in ``raw``; raises ``InvalidRequest``.

    A large body is counted slice by slice, with turns of the event loop in between, before anything is
    built from it.
    """
    if len(raw) > _SLICE:
        await asyncio.sleep(0)  # to read it took its time
        await _check_values(raw)
    try:
        native = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(native, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _deeper_than(native, MAX_DEPTH):
        raise InvalidRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")
    if len(raw) > _SLICE:
        await asyncio.sleep(0)  # to write it again for a provider takes as long
    return native


async def _check_values(raw: bytes) -> None:
    count, inside = 0, False
    for piece in _slices(raw):
        found, inside = count_values(piece, inside)
        count += found
        if count > MAX_VALUES:
            raise InvalidRequest(f"The body holds more than {MAX_VALUES} values.")
        await asyncio.sleep(0)


def _slices(raw: bytes) -> Iterator[bytes]:
    """Slices that do not cut an escape sequence in two: none ends behind a backslash that escapes."""
    start = 0
    while start < len(raw):
        piece = raw[start : start + _SLICE]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = raw[start : start + _SLICE + 1]
        yield piece
        start += len(piece)


def count_values(piece: bytes, inside: bool) -> tuple[int, bool]:
    """How many JSON values ``piece`` begins, at most, and whether it ends inside a string.

    ``inside``: whether it starts inside one. Works at memchr speed: escapes are removed, the rest is
    cut at the quotes, and separators are counted in what lies outside.
    """
    parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    outside = b"".join(parts[1 if inside else 0 :: 2])
    count = outside.count(b",") + outside.count(b"{") + outside.count(b"[")
    return count, inside ^ (len(parts) % 2 == 0)


def _deeper_than(native: Any, limit: int) -> bool:
    level: list[Any] = [native]
    for _ in range(limit):
        below: list[Any] = []
        for node in level:
            children = node.values() if type(node) is dict else node
            below += [child for child in children if type(child) is dict or type(child) is list]
        if not below:
            return False
        level = below
    return True
