"""Between the buffered and the streamed form of an OpenAI answer, for providers that send the other one."""

from __future__ import annotations

from typing import Any

from gateway.events import Frame

_OBJECTS = {"chat.completion": "chat.completion.chunk"}


def expand(body: dict[str, Any]) -> list[Frame]:
    """The chunks of a stream that says the same as ``body``."""
    shared = {name: value for name, value in body.items() if name not in ("choices", "usage")}
    shared["object"] = _OBJECTS.get(str(body.get("object")), body.get("object"))
    frames = []
    for choice in body.get("choices") or ():
        content, finish = _split_choice(choice)
        frames.append(Frame(None, {**shared, "choices": [content]}))
        frames.append(Frame(None, {**shared, "choices": [finish]}))
    if body.get("usage"):
        frames.append(Frame(None, {**shared, "choices": [], "usage": body["usage"]}))
    return frames


def _split_choice(choice: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    content = {**choice, "finish_reason": None}
    finish = {"index": choice.get("index", 0), "finish_reason": choice.get("finish_reason")}
    message = content.pop("message", None)
    if isinstance(message, dict):
        delta = dict(message)
        calls = delta.get("tool_calls")
        if calls:
            delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls)]
        content["delta"], finish["delta"] = delta, {}
    else:
        finish["text"] = ""
    return content, finish


def collect(frames: list[Frame]) -> dict[str, Any]:
    """The buffered body that says the same as the chunks in ``frames`` (``native`` set in each)."""
    body: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for frame in frames:
        chunk = frame.native or {}
        body |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for part in chunk.get("choices") or ():
            _merge_choice(choices.setdefault(part.get("index") or 0, {}), part)
    if body.get("object") == "chat.completion.chunk":
        body["object"] = "chat.completion"
    body["choices"] = [choices[index] for index in sorted(choices)]
    return body


def _merge_choice(choice: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        if name == "delta":
            _merge_delta(choice.setdefault("message", {"role": "assistant", "content": None}), value or {})
        elif name == "text":
            choice["text"] = choice.get("text", "") + (value or "")
        elif name == "logprobs" and isinstance(value, dict):
            _merge_lists(choice, name, value)
        elif value is not None or name not in choice:
            choice[name] = value


def _merge_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for call in value or ():
                _merge_tool(message.setdefault("tool_calls", []), call)
        elif name != "role" and isinstance(value, str) and isinstance(message.get(name) or "", str):
            message[name] = (message.get(name) or "") + value
        elif value is not None:
            message[name] = value


def _merge_tool(calls: list[dict[str, Any]], part: dict[str, Any]) -> None:
    index = part.get("index") or 0
    while len(calls) <= index and index < 1024:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call = calls[min(index, len(calls) - 1)]
    call["id"] = part.get("id") or call["id"]
    function = part.get("function") or {}
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


def _merge_lists(choice: dict[str, Any], name: str, value: dict[str, Any]) -> None:
    held = choice.setdefault(name, {}) or {}
    for key, items in value.items():
        held[key] = held.get(key, []) + items if isinstance(items, list) and held.get(key) else items
    choice[name] = held
