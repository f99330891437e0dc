"""One log event as one safe JSON line: bounded, and free of characters that act on a terminal."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import PurePath
from typing import Any

import orjson

MAX_VALUE_BYTES = 2048
MAX_LINE_BYTES = 16384
_SHORTER_VALUES = (256, 32)
_ALWAYS = ("ts", "level", "event", "request_id")
_SAFE = frozenset({int, float, bool, type(None)})
# orjson escapes C0; these pass it raw: DEL and C1, line and paragraph separators, bidi controls.
_ACTIVE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def encode_line(fields: dict[str, Any], value_bytes: int = MAX_VALUE_BYTES) -> bytes:
    """``fields`` as JSON with a newline, at most ``MAX_LINE_BYTES``.

    Strings longer than ``value_bytes`` of UTF-8 are cut, and cut again if the line is still too
    long; in the end only the time, level, name and request id are kept. A value that is no scalar
    is replaced by its type's name: a log line never holds a body.
    """
    line = _encode(fields if _fits(fields, value_bytes) else _bounded(fields, value_bytes))
    if len(line) <= MAX_LINE_BYTES:
        return line
    for shorter in _SHORTER_VALUES:
        line = _encode(_bounded(fields, shorter))
        if len(line) <= MAX_LINE_BYTES:
            return line
    kept = {name: _scalar(fields[name], 128) for name in _ALWAYS if name in fields}
    return _encode({**kept, "truncated": True})


def cut(text: str, limit_bytes: int) -> str:
    """The start of a text in at most ``limit_bytes`` of UTF-8, its end marked if it was cut."""
    if len(text) * 4 <= limit_bytes:
        return text
    raw = text[:limit_bytes].encode("utf-8", "replace")
    if len(raw) <= limit_bytes and len(text) <= limit_bytes:
        return text
    return raw[: limit_bytes - 3].decode("utf-8", "ignore") + "…"


def _fits(fields: dict[str, Any], value_bytes: int) -> bool:
    """Whether all are scalars, and short whatever their characters are: nearly always."""
    short = value_bytes // 4
    for value in fields.values():
        kind = type(value)
        if kind is str:
            if len(value) > short:
                return False
        elif kind not in _SAFE:
            return False
    return True


def _bounded(fields: dict[str, Any], value_bytes: int) -> dict[str, Any]:
    return {name: _scalar(value, value_bytes) for name, value in fields.items()}


def _scalar(value: Any, value_bytes: int) -> Any:
    if isinstance(value, str):
        return cut(value, value_bytes)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        return cut(value[:value_bytes].decode("utf-8", "replace"), value_bytes)
    if isinstance(value, Decimal | PurePath):
        return cut(str(value), value_bytes)
    return f"<{type(value).__name__}>"


def _encode(fields: dict[str, Any]) -> bytes:
    try:
        line = orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # a lone surrogate, or an integer past 64 bits
        line = orjson.dumps(_mended(fields), option=orjson.OPT_APPEND_NEWLINE)
    if line.isascii() and b"\x7f" not in line:
        return line
    return _ACTIVE.sub(_escape, line.decode()).encode()


def _mended(fields: dict[str, Any]) -> dict[str, Any]:
    mended: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, int | str) and not isinstance(value, bool):
            value = str(value).encode("utf-8", "replace").decode()
        mended[name.encode("utf-8", "replace").decode()] = value
    return mended


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
