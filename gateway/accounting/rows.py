"""A ledger row as JSON: what may stand in one."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson


def encode_row(row: Mapping[str, Any]) -> bytes:
    """A row as JSON, with the errors of ``Journal.append``; floats are looked for among its own values
    alone, where the money stands. Text that is no valid Unicode and
    integers past 64 bits do not lose a row: the former is mended, the latter are written as
    text."""
    if "seq" in row or "prev" in row:
        raise ValueError("seq and prev are the journal's own")
    if float in map(type, row.values()):
        raise TypeError("a ledger row holds no floats")
    try:
        return orjson.dumps(row, default=_plain)
    except orjson.JSONEncodeError:
        return orjson.dumps(_mended(row), default=_plain)


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"a ledger row holds no {type(value).__name__}")


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and value.bit_length() > 63:
        return str(value)
    if isinstance(value, Mapping):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return [_mended(item) for item in value] if isinstance(value, (list, tuple)) else value
