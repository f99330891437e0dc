"""Where text stands in the bodies of a wire format, as tables: a new format is a new table.

What a table does not name is text all the way down, so that a field nobody has heard of is searched too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.privacy.kept import Keep

KEEP = Keep()
"""Names and choices that a provider compares."""
NUMBERS = Keep(numbers=True)
"""Settings and counts."""
ENCODED = Keep(encoded=True)
"""What only a provider can read, and must get back as it was."""
VECTOR = Keep(numbers=True, encoded=True)
TEXT: Literal["text"] = "text"
"""All strings in the value, whatever holds them, names of fields too."""
JSON: Literal["json"] = "json"
"""JSON in a string: searched as it reads, and valid afterwards."""
WHOLE: Literal["whole"] = "whole"
"""Like ``TEXT``, and complete in each chunk of a stream."""
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


@dataclass(frozen=True, slots=True)
class Typed:
    """An object, or a list of such: by what its field ``type`` says, ``rest`` for all other types."""

    types: Mapping[str, Rule]
    rest: Rule

    def of(self, value: Mapping[str, object]) -> Rule:
        kind = value.get("type")
        return self.types.get(kind, self.rest) if isinstance(kind, str) else self.rest


Rule = Literal["text", "json", "whole", "tokens"] | Keep | Skip | Shape | Typed

NAMES: Mapping[str, Rule] = dict.fromkeys(
    "filename name title alt alt_text caption description".split(), TEXT
)
"""What is searched of a file or an image."""

_CACHED = Shape({"type": KEEP, "ttl": KEEP})
_FUNCTION = Shape({"name": KEEP, "arguments": JSON})
_TOOL_CALL = Shape({"id": KEEP, "type": KEEP, "index": KEEP, "function": _FUNCTION})
_PART = Shape(
    {
        "type": KEEP,
        "image_url": Skip("image_url", NAMES),
        "input_audio": Skip("input_audio", NAMES),
        "video_url": Skip("video_url", NAMES),
        "file": Skip("file", NAMES),
        "cache_control": _CACHED,
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
_TOOL = Shape({"type": KEEP, "function": _TOOL_FUNCTION, "cache_control": _CACHED})
_SETTINGS: dict[str, Rule] = {
    **dict.fromkeys(
        """
        model stream service_tier reasoning_effort modalities encoding_format verbosity
        prompt_cache_retention
        """.split(),
        KEEP,
    ),
    **dict.fromkeys(
        """
        max_tokens max_completion_tokens seed temperature top_p top_k min_p n best_of echo logprobs
        top_logprobs frequency_penalty presence_penalty repetition_penalty logit_bias dimensions
        """.split(),
        NUMBERS,
    ),
}
_CHOSEN = Shape({"type": KEEP, "name": KEEP, "function": Shape({"name": KEEP})})
OPENAI_REQUEST = Shape(
    {
        **_SETTINGS,
        "stream_options": Shape({"include_usage": KEEP, "include_obfuscation": KEEP}),
        "messages": _MESSAGE,
        "tools": _TOOL,
        "functions": _TOOL_FUNCTION,
        "tool_choice": _CHOSEN,
        "function_call": _CHOSEN,
        "response_format": Shape({"type": KEEP, "json_schema": Shape({"name": KEEP, "strict": KEEP})}),
        "prediction": Shape({"type": KEEP, "content": _PART}),
        "prompt": TOKENS,
        "input": TOKENS,
        "audio": Shape({"voice": KEEP, "format": KEEP}),
    }
)
"""Chat completions, completions and embeddings."""

_REASONING = Shape(
    {
        **dict.fromkeys("type id index format".split(), KEEP),
        **dict.fromkeys("signature data".split(), ENCODED),
    }
)
_SPOKEN = Shape(
    {
        **_MESSAGE.fields,
        "annotations": WHOLE,
        "citations": WHOLE,
        "images": _PART,
        "reasoning_details": _REASONING,
        "thinking_blocks": _REASONING,
    }
)
_CHOICE = Shape({"index": KEEP, "finish_reason": KEEP, "message": _SPOKEN, "delta": _SPOKEN})
OPENAI_ANSWER = Shape(
    {
        **dict.fromkeys("id object model system_fingerprint service_tier obfuscation".split(), KEEP),
        "created": NUMBERS,
        "usage": NUMBERS,
        "choices": _CHOICE,
        "data": Shape({"object": KEEP, "index": KEEP, "embedding": VECTOR}),
    }
)
"""Answers to those, buffered and in chunks."""

MODERATION = Shape({"model": KEEP, "input": _PART})

RERANK = Shape({"model": KEEP, "rank_fields": KEEP})
"""The query and the documents, which are texts or objects of them."""
RERANK_ANSWER = Shape(
    {
        "id": KEEP,
        "model": KEEP,
        "results": Shape({"index": KEEP, "relevance_score": NUMBERS}),
        "meta": NUMBERS,
        "usage": NUMBERS,
    }
)
