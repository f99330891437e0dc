"""The OpenAI wire format: chat completions, completions and embeddings.

A streamed answer is ``data: <chunk>`` events closed by ``data: [DONE]``; a buffered one is a single
body. Frames are parsed until the first content, afterwards only where ``peek`` says that somebody
needs what is inside.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.errors import GatewayError
from gateway.events import (
    End,
    Event,
    Fault,
    Finish,
    Frame,
    Opaque,
    Start,
    Text,
    ToolArgs,
    ToolStart,
    Usage,
    UsageSeen,
)

FINISH, USAGE, FAULT, END = 1, 2, 4, 8
DONE = b"[DONE]"
_MAX_COUNT = 10**9
_MAX_INDEX = 1024
_WHOLE = Opaque("openai", None)
_CHANNELS = {
    "content": "content",
    "reasoning_content": "reasoning",
    "reasoning": "reasoning",
    "refusal": "refusal",
}
_LIFECYCLE = frozenset({"role", "tool_calls", "function_call", *_CHANNELS})


def peek(raw: bytes) -> int:
    """What a chunk may hold besides content: a sum of FINISH, USAGE, FAULT and END, 0 for none.

    Errs towards saying yes. Quotes inside strings are escaped, so that text cannot imitate a key.
    """
    if raw == DONE:
        return END
    found = 0
    if raw.count(b'"finish_reason"') != raw.count(b'"finish_reason":null'):
        found = FINISH
    if b'"usage"' in raw and b'"usage":null' not in raw:
        found |= USAGE
    if b'"error"' in raw:  # a key, or the value of "object"
        found |= FAULT
    return found


def parse(frame: Frame) -> list[Event]:
    """The events in a chunk or body; decodes ``frame.native`` on the way. Raises ``ValueError``."""
    if frame.events is None:
        if frame.raw == DONE:
            frame.events = [End()]
        else:
            if frame.native is None:
                frame.native = _object(frame.raw or b"")
            frame.events = _events(frame.native)
    return frame.events


def parse_body(frame: Frame) -> list[Event]:
    """The events in a buffered body that decide about it: fault, finish and usage, without its text.

    What is not one of these and yet an answer is an ``Opaque``. Raises ``ValueError``.
    """
    native = frame.native = _object(frame.raw or b"")
    if native.get("error"):
        return [Fault(native["error"])]
    events: list[Event] = []
    for choice in native.get("choices") or ():
        if type(choice) is not dict:
            raise ValueError("a choice is not an object")
        reason = choice.get("finish_reason")
        if reason is not None:
            events.append(Finish(0, str(reason)))
        elif choice.get("message") or choice.get("text"):
            events.append(_WHOLE)
    if isinstance(native.get("data"), list):
        events.append(_WHOLE)
    seen = usage_of(native)
    if seen is not None:
        events.append(seen)
    return events


def write(frames: list[Frame]) -> bytes:
    """Server-sent events for ``frames``."""
    return b"".join([b"data: %b\n\n" % _lines(payload(frame)) for frame in frames])


def _lines(data: bytes) -> bytes:
    """``data`` as the value of one event: each of its lines needs a field of its own."""
    return data.replace(b"\n", b"\ndata: ") if b"\n" in data else data


def payload(frame: Frame) -> bytes:
    return frame.raw if frame.raw is not None else orjson.dumps(frame.native)


def error_body(error: GatewayError, request_id: str) -> dict[str, Any]:
    return error.body(request_id)


def write_error(error: GatewayError, request_id: str) -> bytes:
    """The last event of a stream that failed: nothing follows it."""
    return b"data: %b\n\n" % orjson.dumps(error.body(request_id))


WRITE_END = b"data: [DONE]\n\n"


def usage_of(native: dict[str, Any]) -> UsageSeen | None:
    """The ``usage`` object, if there is one; its ``usage`` is None where a number is unusable."""
    seen = native.get("usage")
    if not isinstance(seen, dict):
        return None
    details = seen.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    counts = (seen.get("prompt_tokens", 0), seen.get("completion_tokens", 0), cached or 0)
    if not all(type(n) is int and 0 <= n <= _MAX_COUNT for n in counts) or counts[2] > counts[0]:
        return UsageSeen(None)
    return UsageSeen(Usage(*counts))


def is_usage_only(native: dict[str, Any]) -> bool:
    """The extra chunk that ``stream_options.include_usage`` asks for."""
    return native.get("choices") == [] and bool(native.get("usage"))


def _object(raw: bytes) -> dict[str, Any]:
    native = orjson.loads(raw)
    if not isinstance(native, dict):
        raise ValueError("not a JSON object")
    return native


def _events(native: dict[str, Any]) -> list[Event]:
    if native.get("error") or native.get("object") == "error":
        return [Fault(native.get("error") or native)]
    events: list[Event] = []
    for choice in native.get("choices") or ():
        _choice_events(choice, events)
    if isinstance(native.get("data"), list):
        events.append(_WHOLE)
    seen = usage_of(native)
    if seen is not None:
        events.append(seen)
    return events


def _choice_events(choice: Any, events: list[Event]) -> None:
    if not isinstance(choice, dict):
        raise ValueError("a choice is not an object")
    index = _index(choice.get("index") or 0)
    text = _string(choice.get("text"))
    if text:
        events.append(Text(index, "content", text))
    delta = choice.get("delta") or choice.get("message")
    if isinstance(delta, dict):
        _delta_events(index, delta, events)
    if choice.get("finish_reason") is not None:
        events.append(Finish(index, str(choice["finish_reason"])))


def _delta_events(index: int, delta: dict[str, Any], events: list[Event]) -> None:
    if "role" in delta:
        events.append(Start())
    for name, value in delta.items():
        if not value:
            continue
        channel = _CHANNELS.get(name)
        if channel is not None and isinstance(value, str):
            events.append(Text(index, channel, value))  # type: ignore[arg-type]
        elif name == "tool_calls":
            _tool_events(index, value, events)
        elif name not in _LIFECYCLE or name == "function_call":
            events.append(Opaque("openai", {name: value}))


def _tool_events(choice: int, calls: Any, events: list[Event]) -> None:
    for position, call in enumerate(calls):
        function = call.get("function") or {}
        index = _index(call.get("index", position))
        name, arguments = _string(function.get("name")), _string(function.get("arguments"))
        if name:
            events.append(ToolStart(choice, index, str(call.get("id") or ""), name))
        if arguments:
            events.append(ToolArgs(choice, index, arguments))


def _index(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_INDEX:
        raise ValueError("an index is no small number")
    return value


def _string(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError("a text is no string")
    return value or ""
