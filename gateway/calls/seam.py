"""Where two answers are joined: what follows the seam looks like more of the first one."""

from __future__ import annotations

from typing import Any

from gateway.calls.echo import Echo
from gateway.errors import UpstreamInvalidResponse
from gateway.events import Frame, Usage
from gateway.formats import openai

_RENAMED = ("id", "created", "system_fingerprint")
_NO_TEXT = ("tool_calls", "function_call")


class Seam:
    """Takes the frames of an attempt that goes on. ``identity``: of the first answer's chunks;
    ``before``: what was used before it."""

    __slots__ = ("_before", "_echo", "_identity", "_last")

    def __init__(self, identity: dict[str, Any], before: Usage, echo: Echo) -> None:
        self._identity = identity
        self._before = before
        self._echo = echo
        self._last: dict[str, Any] = {}

    def feed(self, frames: list[Frame]) -> list[Frame]:
        """What the client sees of them. Raises ``UpstreamInvalidResponse`` for what cannot be read."""
        try:
            natives = [self._joined(frame) for frame in frames]
        except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            raise UpstreamInvalidResponse(
                "The provider sent an answer that cannot be read.", detail=repr(error)
            ) from None
        return [Frame(None, native) for native in natives if native is not None]

    def end(self, usage: Usage | None) -> list[Frame]:
        """What follows the last frame: text that was held back, and ``usage`` where it is wanted."""
        held = self._echo.flush()
        shared = {**self._last, "choices": []}
        shared.pop("usage", None)
        frames = []
        if held:
            said = {"index": 0, "delta": {"content": held}, "finish_reason": None}
            frames.append(Frame(None, {**shared, "choices": [said]}))
        if usage is not None:
            frames.append(Frame(None, {**shared, "usage": _counted(usage)}))
        return frames

    def _joined(self, frame: Frame) -> dict[str, Any] | None:
        openai.parse(frame)
        native = {name: value for name, value in (frame.native or {}).items() if name not in _RENAMED}
        native |= self._identity
        self._last = {name: value for name, value in native.items() if name != "choices"}
        if not native.get("choices"):
            return None  # lifecycle, or usage: the sum of it comes at the end
        seen = openai.usage_of(native)
        if seen is not None and seen.usage is not None:
            native["usage"] = _counted(self._before + seen.usage)
        choice = dict(native["choices"][0])
        delta = choice["delta"] = self._delta(choice)
        native["choices"] = [choice]
        empty = choice.get("finish_reason") is None and not any(delta.values())
        return None if empty else native

    def _delta(self, choice: dict[str, Any]) -> dict[str, Any]:
        delta = dict(choice.get("delta") or choice.pop("message", None) or {})
        delta.pop("role", None)
        text = self._echo.feed(delta.pop("content", None) or "")
        if choice.get("finish_reason") is not None or any(delta.get(name) for name in _NO_TEXT):
            text += self._echo.flush()
        return {**delta, "content": text} if text else delta


def _counted(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input},
    }
