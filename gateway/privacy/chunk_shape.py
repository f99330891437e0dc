"""What a chunk of a streamed answer holds beside its texts."""

from __future__ import annotations

from typing import Any

from gateway.events import Frame
from gateway.privacy.chunk_json import encoded
from gateway.privacy.kept import Keep
from gateway.privacy.slots import OPENAI_ANSWER

_KEPT = {name: rule for name, rule in OPENAI_ANSWER.fields.items() if isinstance(rule, Keep)}
ENVELOPE = frozenset(_KEPT) - {"usage"}
CHUNK = ENVELOPE | {"choices", "usage"}
CHOICE = frozenset({"index", "delta", "finish_reason", "logprobs"})
PLAIN = frozenset({"content", "reasoning_content", "reasoning", "refusal"})


def plain(native: dict[str, Any], last: dict[str, Any]) -> bool:
    """Whether all is left alone that comes with every chunk; most of it is what the ``last`` one had.
    ``native`` has no other fields."""
    for name, value in native.items():
        if name != "choices" and value != last.get(name) and not _KEPT[name].holds(value):
            return False
    return True


def same(frame: Frame, native: dict[str, Any]) -> Frame:
    """What was read, and nothing else: a field that was there twice was read once."""
    raw = encoded(native)
    return frame if frame.raw is None or frame.raw == raw else Frame(raw)


def without_logprobs(native: dict[str, Any]) -> bool:
    """Drops the probabilities of tokens; returns whether there were any."""
    dropped = False
    choices = native.get("choices")
    for choice in choices if type(choices) is list else ():
        if type(choice) is dict and choice.get("logprobs") is not None:
            choice["logprobs"] = None
            dropped = True
    return dropped


def speaks(native: dict[str, Any]) -> bool:
    """Whether a chunk says anything."""
    for name, value in native.items():
        if name not in ENVELOPE and name != "choices" and value is not None:
            return True
    choices = native.get("choices")
    return type(choices) is not list or any(_says(choice) for choice in choices)


def _says(value: Any) -> bool:
    if type(value) is dict:
        return any(_says(held) for name, held in value.items() if name != "index")
    if type(value) is list:
        return any(map(_says, value))
    return value is not None and value != ""
