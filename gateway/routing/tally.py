"""How much text has gone by, mostly without decoding it: what an answer that was left is billed by."""

from __future__ import annotations

from gateway.events import Event, Frame, Text, ToolArgs


class Tally:
    """Counts text. The first content shows how many bytes of a chunk are envelope (ids, model name,
    braces); those are about the same in every chunk of a stream, the rest is text."""

    __slots__ = ("_decoded", "_envelope", "_frames", "_raw")

    def __init__(self) -> None:
        self._decoded = 0
        self._envelope = 0
        self._frames = 0
        self._raw = 0

    def decoded(self, frame: Frame, events: list[Event]) -> None:
        """A chunk whose text is known."""
        text = 0
        for event in events:
            if isinstance(event, Text | ToolArgs):
                text += len(event.text.encode("utf-8", "replace"))
        if text:
            self._decoded += text
            self._envelope = len(frame.raw or b"") - text

    def passed(self, frames: int, raw_bytes: int) -> None:
        """Chunks that went by undecoded."""
        self._frames += frames
        self._raw += raw_bytes

    @property
    def text_bytes(self) -> int:
        return self._decoded + max(0, self._raw - self._frames * self._envelope)
