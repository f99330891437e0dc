"""An answer that the operator has written, for when no deployment answers."""

from __future__ import annotations

from typing import Any

from gateway.events import Frame
from gateway.exchange import ModelRequest, Operation

_ID = "degraded"
_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class Degraded:
    """A source that says ``message`` in the form that was asked for."""

    __slots__ = ("_frames",)

    def __init__(self, request: ModelRequest, group: str, message: str) -> None:
        chat = request.operation is Operation.CHAT
        make = _stream if request.stream else _body
        self._frames: list[Frame] = [Frame(None, native) for native in make(request, chat, group, message)]

    async def read(self) -> list[Frame]:
        frames, self._frames = self._frames, []
        return frames


def _shared(kind: str, group: str) -> dict[str, Any]:
    return {"id": _ID, "object": kind, "created": 0, "model": group}


def _body(request: ModelRequest, chat: bool, group: str, message: str) -> list[dict[str, Any]]:
    said: dict[str, Any] = (
        {"message": {"role": "assistant", "content": message}} if chat else {"text": message}
    )
    choices = [{"index": n, **said, "finish_reason": "stop"} for n in range(request.choices)]
    kind = "chat.completion" if chat else "text_completion"
    return [{**_shared(kind, group), "choices": choices, "usage": _USAGE}]


def _stream(request: ModelRequest, chat: bool, group: str, message: str) -> list[dict[str, Any]]:
    shared = _shared("chat.completion.chunk" if chat else "text_completion", group)
    said: dict[str, Any] = (
        {"delta": {"role": "assistant", "content": message}} if chat else {"text": message}
    )
    ends: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    events = []
    for index in range(request.choices):
        events.append({**shared, "choices": [{"index": index, **said, "finish_reason": None}]})
        events.append({**shared, "choices": [{"index": index, **ends, "finish_reason": "stop"}]})
    if request.wants_usage:
        events.append({**shared, "choices": [], "usage": _USAGE})
    return events
