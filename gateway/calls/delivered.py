"""What a client has of a streamed answer, as far as another can go on from it."""

from __future__ import annotations

from typing import Any

from gateway.events import Event, Finish, Frame, Opaque, Start, Text, UsageSeen
from gateway.exchange import ModelRequest, Operation
from gateway.formats import openai

MAX_TEXT_BYTES = 1 << 20
_IDENTITY = ("id", "created", "system_fingerprint")


def may_go_on(request: ModelRequest) -> bool:
    """Whether the answer to ``request`` is one text that somebody else could finish."""
    native = request.native
    if request.operation is not Operation.CHAT or not request.stream or request.choices != 1:
        return False
    begun = native["messages"][-1].get("role") == "assistant"  # it is a continuation itself
    return not begun and not native.get("logprobs")


class Delivered:
    """``usable``: nobody has seen anything but text so far, and not too much of it. ``size_bytes``: of
    the text in UTF-8. ``identity``: what all chunks of the answer have in common."""

    __slots__ = ("_pieces", "identity", "size_bytes", "usable")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.identity: dict[str, Any] = {}
        self.size_bytes = 0
        self.usable = True

    @property
    def text(self) -> str:
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def note(self, frames: list[Frame]) -> None:
        for frame in frames:
            if not self.usable:
                return
            try:
                events = openai.parse(frame)
            except (ValueError, TypeError, AttributeError, KeyError):
                self._give_up()
                return
            for event in events:
                self._event(event, frame)
        if self.size_bytes > MAX_TEXT_BYTES:
            self._give_up()

    def _event(self, event: Event, frame: Frame) -> None:
        if isinstance(event, Text) and event.channel == "content":
            if not self.identity:
                native = frame.native or {}
                self.identity = {name: native[name] for name in _IDENTITY if native.get(name) is not None}
            self._pieces.append(event.text)
            self.size_bytes += len(event.text.encode("utf-8", "replace"))
        elif not _harmless(event):
            self._give_up()

    def _give_up(self) -> None:
        self.usable = False
        self._pieces.clear()


def _harmless(event: Event) -> bool:
    """Whether an answer can go on elsewhere without it."""
    if isinstance(event, Text):
        return event.channel == "reasoning"
    if isinstance(event, Finish):
        return not event.reason  # some put an empty one into every chunk
    if isinstance(event, Opaque):
        payload = event.payload
        return isinstance(payload, dict) and all(name.startswith("reasoning") for name in payload)
    return isinstance(event, Start | UsageSeen)
