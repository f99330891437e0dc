from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.events import (
    End,
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
from gateway.formats import openai
from gateway.formats.openai_convert import collect, expand


def chunk(**choice: Any) -> bytes:
    return orjson.dumps({"id": "c", "choices": [{"index": 0, "finish_reason": None, **choice}]})


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (chunk(delta={"content": "hi"}), 0),
        (b'{"choices":[{"finish_reason": null}]}', openai.FINISH),  # spaced: unsure, so parsed
        (chunk(delta={"content": '"usage":{} "error" "finish_reason":"stop"'}), 0),
        (chunk(delta={}, finish_reason="stop"), openai.FINISH),
        (b'{"choices":[],"usage":null}', 0),
        (b'{"choices":[],"usage":{"prompt_tokens":1}}', openai.USAGE),
        (b'{"error":{"message":"no"}}', openai.FAULT),
        (b"[DONE]", openai.END),
    ],
)
def test_peek_finds_what_somebody_needs(raw: bytes, found: int) -> None:
    assert openai.peek(raw) == found


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (chunk(delta={"role": "assistant", "content": ""}), [Start()]),
        (chunk(delta={"content": "hi"}), [Text(0, "content", "hi")]),
        (chunk(delta={"reasoning_content": "hm"}), [Text(0, "reasoning", "hm")]),
        (chunk(text="hi"), [Text(0, "content", "hi")]),
        (chunk(delta={"audio": {"id": "a"}}), [Opaque("openai", {"audio": {"id": "a"}})]),
        (chunk(delta={}, finish_reason="length"), [Finish(0, "length")]),
        (b'{"choices":[]}', []),
        (b'{"error":"no"}', [Fault("no")]),
        (b"[DONE]", [End()]),
        (
            chunk(
                delta={"tool_calls": [{"index": 1, "id": "t", "function": {"name": "f", "arguments": "{"}}]}
            ),
            [ToolStart(0, 1, "t", "f"), ToolArgs(0, 1, "{")],
        ),
    ],
)
def test_parse(raw: bytes, events: list[Any]) -> None:
    assert openai.parse(Frame(raw)) == events


@pytest.mark.parametrize(
    ("usage", "seen"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, Usage(3, 2, 0)),
        (
            {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
            Usage(3, 2, 1),
        ),
        ({"prompt_tokens": 3, "prompt_tokens_details": None}, Usage(3, 0, 0)),
        ({"prompt_tokens": -1, "completion_tokens": 2}, None),
        ({"prompt_tokens": 2**63, "completion_tokens": 2}, None),
        ({"prompt_tokens": 1.5, "completion_tokens": 2}, None),
        ({"prompt_tokens": "3", "completion_tokens": 2}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}, None),
    ],
)
def test_usage_is_taken_only_where_every_number_is_usable(
    usage: dict[str, Any], seen: Usage | None
) -> None:
    assert openai.usage_of({"usage": usage}) == UsageSeen(seen)


def test_expand_and_collect_say_the_same() -> None:
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    body = {
        "id": "c",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"},
            {
                "index": 1,
                "message": {"role": "assistant", "content": None, "tool_calls": [call]},
                "finish_reason": "tool_calls",
            },
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    frames = expand(body)
    assert all(frame.native and frame.native["object"] == "chat.completion.chunk" for frame in frames)
    assert collect(frames) == body
