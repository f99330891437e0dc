"""Where text stands in the bodies of a wire format, as tables: a new format is a new table.

What a table does not name is text all the way down, so that a field nobody has heard of is searched too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

KEEP: Literal["keep"] = "keep"
"""Names, numbers and choices that a provider compares: never text."""
TEXT: Literal["text"] = "text"
"""All strings in the value, whatever holds them, names of fields too."""
JSON: Literal["json"] = "json"
"""JSON in a string: searched as it reads, and valid afterwards."""
TOKENS: Literal["tokens"] = "tokens"
"""Text, or token ids, which are not searched."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Not searched, and said so: ``kind`` is its name in the report. ``but``: fields that are searched."""

    kind: str
    but: Mapping[str, Rule] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shape:
    """An object, or a list of such: rules of its fields, all else is text."""

    fields: Mapping[str, Rule]


Rule = Literal["keep", "text", "json", "tokens"] | Skip | Shape

_FUNCTION = Shape({"name": KEEP, "arguments": JSON})
_TOOL_CALL = Shape({"id": KEEP, "type": KEEP, "index": KEEP, "function": _FUNCTION})
_PART = Shape(
    {
        "type": KEEP,
        "image_url": Skip("image_url"),
        "input_audio": Skip("input_audio"),
        "video_url": Skip("video_url"),
        "file": Skip("file", {"filename": TEXT}),
        "cache_control": KEEP,
    }
)
_MESSAGE = Shape(
    {
        "role": KEEP,
        "tool_call_id": KEEP,
        "content": _PART,
        "tool_calls": _TOOL_CALL,
        "function_call": _FUNCTION,
        "audio": Skip("audio", {"transcript": TEXT}),
    }
)
_TOOL_FUNCTION = Shape({"name": KEEP, "strict": KEEP})
_TOOL = Shape({"type": KEEP, "function": _TOOL_FUNCTION, "cache_control": KEEP})
_COMMON: dict[str, Rule] = dict.fromkeys(
    """
    model stream stream_options service_tier reasoning_effort modalities encoding_format verbosity
    prompt_cache_retention object id created system_fingerprint usage
    """.split(),
    KEEP,
)
OPENAI_REQUEST = Shape(
    {
        **_COMMON,
        "messages": _MESSAGE,
        "tools": _TOOL,
        "functions": _TOOL_FUNCTION,
        "tool_choice": KEEP,
        "function_call": KEEP,
        "response_format": Shape({"type": KEEP, "json_schema": Shape({"name": KEEP, "strict": KEEP})}),
        "prediction": Shape({"type": KEEP, "content": _PART}),
        "prompt": TOKENS,
        "input": TOKENS,
        "audio": KEEP,
        "logit_bias": KEEP,
    }
)
"""Chat completions, completions and embeddings."""

_CHOICE = Shape({"index": KEEP, "finish_reason": KEEP, "message": _MESSAGE, "delta": _MESSAGE})
OPENAI_ANSWER = Shape(
    {
        **_COMMON,
        "choices": _CHOICE,
        "data": Shape({"object": KEEP, "index": KEEP, "embedding": KEEP}),
    }
)
"""Buffered answers to those."""
