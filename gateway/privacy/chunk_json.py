"""Chunks of an answer, from JSON and back, with characters that were cut into halves."""

from __future__ import annotations

import copy
import json
from collections.abc import Hashable
from typing import Any

import orjson

from gateway.events import Frame
from gateway.privacy.interface import DetectorFailed

_END = b"[DONE]"
_TOO_DEEP = "Recursion limit"


class ChunkJson:
    """Of one answer. ``cuts``: a chunk held half a character, as an escape: some providers cut there."""

    def __init__(self) -> None:
        self.cuts = False
        self._halves: dict[Hashable, str] = {}

    def decode(self, frame: Frame) -> dict[str, Any] | None:
        """The chunk, to be edited; None for the end of the stream and what is no object. Raises
        ``DetectorFailed`` for what is not JSON."""
        raw = frame.raw
        if raw is None:
            return self._copied(frame.native)
        if raw == _END:
            return None
        try:
            native = orjson.loads(raw)
        except orjson.JSONDecodeError:
            native = self._decode_halves(raw)
        return native if type(native) is dict else None

    def _copied(self, native: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            return copy.deepcopy(native)
        except RecursionError:
            raise DetectorFailed("a chunk of the answer is nested too deeply") from None

    def whole(self, place: Hashable, text: str) -> str:
        """``text``, the next piece of the text at ``place``, without half characters: the first half of the
        last one waits for the next piece."""
        if not self.cuts:
            return text
        text = self._halves.pop(place, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._halves[place] = text[-1]
            text = text[:-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def half(self, place: Hashable) -> str:
        """What stands for half a character that still waits, at the end of the text."""
        return "\ufffd" if self._halves.pop(place, "") else ""

    def _decode_halves(self, raw: bytes) -> Any:
        try:
            native = json.loads(raw)
        except (ValueError, RecursionError):
            raise DetectorFailed("a chunk of the answer cannot be read") from None
        self.cuts = True
        return native


def encoded(native: dict[str, Any]) -> bytes:
    """Raises ``DetectorFailed`` for what is nested too deeply."""
    try:
        return orjson.dumps(native)
    except TypeError as fault:
        if _TOO_DEEP in str(fault):
            raise DetectorFailed("the answer is nested too deeply") from None
    return json.dumps(native).encode()  # half a character
