"""How much text there is in a frame, roughly, without reading it."""

from __future__ import annotations

from typing import Any

from gateway.events import Frame


def weight(frame: Frame) -> int:
    """Bytes as it came, or the characters of its strings."""
    if frame.raw is not None:
        return len(frame.raw)
    chars = 0
    values: list[Any] = [frame.native]
    while values:
        value = values.pop()
        if type(value) is str:
            chars += len(value)
        elif type(value) is dict:
            chars += len(value)
            values += value
            values += value.values()
        elif type(value) is list:
            chars += len(value)
            values += value
    return chars
