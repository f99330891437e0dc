"""The tables of other wire formats: what they cover, what they say they skip, and shapes that are wrong."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.privacy.placeholders import AnswerPlaceholders
from gateway.privacy.slots import (
    JSON,
    MODERATION,
    OPENAI_ANSWER,
    OPENAI_REQUEST,
    RERANK,
    RERANK_ANSWER,
    TEXT,
    Rule,
    Shape,
    Skip,
    Typed,
)
from gateway.privacy.slots_anthropic import ANTHROPIC_ANSWER, ANTHROPIC_REQUEST
from gateway.privacy.slots_responses import RESPONSES_ANSWER, RESPONSES_REQUEST
from gateway.privacy.walk import Body, restore_body
from tests.privacy.texts import detector, holding

MAIL = "john.doe@example.com"
TOKEN = "[EMAIL_ADDRESS_1]"
NUMBER = 4111111111111111
NAME = f"a.b-c:d/e_{NUMBER}"
ENCODED = f"{NUMBER}+Ab/" * 9
TABLES: dict[str, Shape] = {
    "chat": OPENAI_REQUEST,
    "chat answer": OPENAI_ANSWER,
    "messages": ANTHROPIC_REQUEST,
    "messages answer": ANTHROPIC_ANSWER,
    "responses": RESPONSES_REQUEST,
    "responses answer": RESPONSES_ANSWER,
    "moderation": MODERATION,
    "rerank": RERANK,
    "rerank answer": RERANK_ANSWER,
}


def _block(block: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [block]}]}


def _item(item: dict[str, Any]) -> dict[str, Any]:
    return {"input": [item]}


_NAMED = {"title": MAIL, "context": MAIL}
COVERED: list[tuple[str, dict[str, Any]]] = [
    ("messages", {"system": MAIL}),
    ("messages", {"system": [{"type": "text", "text": MAIL, "cache_control": {"type": "ephemeral"}}]}),
    ("messages", {"messages": [{"role": "user", "content": MAIL}]}),
    ("messages", _block({"type": "text", "text": MAIL})),
    ("messages", _block({"type": "new", "new": [{"deep": MAIL}]})),
    ("messages", _block({"type": "tool_use", "id": "t", "name": "f", "input": {"a": [{"b": MAIL}]}})),
    ("messages", _block({"type": "tool_use", "id": "t", "name": "f", "input": {MAIL: 1}})),
    ("messages", _block({"type": "tool_result", "tool_use_id": "t", "content": MAIL})),
    ("messages", _block({"type": "tool_result", "content": [{"type": "text", "text": MAIL}]})),
    (
        "messages",
        _block(
            {
                "type": "tool_result",
                "content": [{"type": "document", "source": {"type": "text", "data": MAIL}}],
            }
        ),
    ),
    ("messages", _block({"type": "thinking", "thinking": MAIL, "signature": "s"})),
    ("messages", _block({"type": "document", "source": {"type": "text", "data": MAIL}})),
    ("messages", _block({"type": "document", "source": {"type": "content", "content": MAIL}})),
    (
        "messages",
        _block(
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": MAIL}]}}
        ),
    ),
    (
        "messages",
        _block({"type": "search_result", "source": MAIL, "content": [{"type": "text", "text": "x"}]}),
    ),
    (
        "messages",
        _block({"type": "search_result", "title": "x", "content": [{"type": "text", "text": MAIL}]}),
    ),
    ("messages", {"metadata": {"user_id": MAIL}}),
    ("messages", {"stop_sequences": [MAIL]}),
    ("messages", {"tools": [{"name": "f", "description": MAIL, "input_schema": {}}]}),
    ("messages", {"tools": [{"name": "f", "input_schema": {"properties": {"a": {"enum": [MAIL]}}}}]}),
    ("messages", {"unheard_of": {"a": MAIL}}),
    ("messages answer", {"content": [{"type": "text", "text": MAIL, "citations": [{"cited_text": MAIL}]}]}),
    ("messages answer", {"content": [{"type": "tool_use", "input": {"a": MAIL}}]}),
    ("messages answer", {"type": "error", "error": {"type": "x", "message": MAIL}}),
    ("messages answer", {"stop_sequence": MAIL}),
    ("responses", {"input": MAIL}),
    ("responses", {"instructions": MAIL}),
    ("responses", _item({"role": "user", "content": MAIL})),
    ("responses", _item({"role": "user", "name": MAIL, "content": ""})),
    ("responses", _item({"type": "message", "content": [{"type": "input_text", "text": MAIL}]})),
    ("responses", _item({"type": "message", "content": [{"type": "input_file", "filename": MAIL}]})),
    ("responses", _item({"type": "function_call", "name": "f", "arguments": json.dumps({"a": MAIL})})),
    ("responses", _item({"type": "function_call", "arguments": '{"a": "john.doe\\u0040example.com"}'})),
    ("responses", _item({"type": "function_call_output", "call_id": "c", "output": MAIL})),
    (
        "responses",
        _item({"type": "function_call_output", "output": [{"type": "input_text", "text": MAIL}]}),
    ),
    ("responses", _item({"type": "custom_tool_call", "name": "f", "input": MAIL})),
    ("responses", _item({"type": "reasoning", "summary": [{"type": "summary_text", "text": MAIL}]})),
    ("responses", _item({"type": "local_shell_call", "action": {"command": ["mail", MAIL]}})),
    ("responses", {"prompt": {"id": "p", "variables": {"who": MAIL}}}),
    ("responses", {"metadata": {"a": MAIL}, "user": MAIL}),
    ("responses", {"tools": [{"type": "function", "name": "f", "description": MAIL}]}),
    ("responses", {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"enum": [MAIL]}}}}),
    (
        "responses answer",
        {"output": [{"type": "message", "content": [{"type": "output_text", "text": MAIL}]}]},
    ),
    ("responses answer", {"output": [{"type": "function_call", "arguments": json.dumps([MAIL])}]}),
    ("responses answer", {"error": {"code": "x", "message": MAIL}}),
    ("moderation", {"input": MAIL}),
    ("moderation", {"input": ["a", MAIL]}),
    ("moderation", {"input": [{"type": "text", "text": MAIL}]}),
    ("rerank", {"query": MAIL, "documents": []}),
    ("rerank", {"query": "", "documents": ["a", MAIL]}),
    ("rerank", {"query": "", "documents": [{"title": MAIL}]}),
    ("rerank answer", {"results": [{"index": 0, "document": {"text": MAIL}}]}),
]
KEPT: list[tuple[str, dict[str, Any]]] = [
    ("messages", {"model": NAME, "tool_choice": {"name": NAME}, "tools": [{"name": NAME}]}),
    ("messages", {"max_tokens": NUMBER, "thinking": {"type": "enabled", "budget_tokens": NUMBER}}),
    ("messages", _block({"type": "tool_use", "id": NAME, "name": NAME})),
    ("messages", _block({"type": "thinking", "signature": ENCODED})),
    ("messages", _block({"type": "redacted_thinking", "data": ENCODED})),
    ("messages answer", {"id": NAME, "usage": {"input_tokens": NUMBER, "tier": NAME}}),
    ("responses", _item({"type": "function_call", "name": NAME, "call_id": NAME, "id": NAME})),
    ("responses", _item({"type": "reasoning", "encrypted_content": ENCODED})),
    ("responses", {"previous_response_id": NAME, "tools": [{"name": NAME}]}),
    ("responses answer", {"created_at": NUMBER, "completed_at": float(NUMBER)}),
    ("rerank", {"model": NAME, "rank_fields": [NAME]}),
    ("rerank answer", {"results": [{"index": 0, "relevance_score": 0.5}]}),
]
SKIPPED: list[tuple[str, dict[str, Any], str]] = [
    ("messages", _block({"type": "image", "source": {"type": "base64", "data": MAIL}}), "image"),
    ("messages", _block({"type": "document", "source": {"type": "base64", "data": MAIL}}), "document"),
    ("messages", _block({"type": "document", "source": {"type": "file", "file_id": MAIL}}), "document"),
    ("messages", _block({"type": "container_upload", "file_id": MAIL}), "file"),
    (
        "messages",
        _block({"type": "tool_result", "content": [{"type": "image", "source": {"data": MAIL}}]}),
        "image",
    ),
    ("responses", _item({"content": [{"type": "input_image", "image_url": f"data:{MAIL}"}]}), "image_url"),
    ("responses", _item({"content": [{"type": "input_file", "file_data": MAIL}]}), "file"),
    ("responses", _item({"type": "image_generation_call", "result": MAIL}), "image"),
    ("moderation", {"input": [{"type": "image_url", "image_url": {"url": MAIL}}]}, "image_url"),
]


def _redacted(native: dict[str, Any], table: Shape) -> tuple[Body, dict[str, Any]]:
    native = copy.deepcopy(native)
    body = Body(native, table)
    body.redact([detector().find(text) for text in body.texts], holding())
    return body, native


@pytest.mark.parametrize(("name", "native"), COVERED)
def test_covered(name: str, native: dict[str, Any]) -> None:
    body, redacted = _redacted(native, TABLES[name])
    assert TOKEN in json.dumps(redacted)
    assert "john" not in json.dumps(redacted)
    assert not body.skipped


@pytest.mark.parametrize(("name", "native"), KEPT)
def test_what_is_compared_stays(name: str, native: dict[str, Any]) -> None:
    body, redacted = _redacted(native, TABLES[name])
    assert redacted == native
    assert not body.skipped


@pytest.mark.parametrize(("name", "native"), KEPT)
def test_what_is_no_name_is_searched(name: str, native: dict[str, Any]) -> None:
    written = json.dumps(native)
    for one in (NAME, ENCODED):
        written = written.replace(one, MAIL)
    written = re.sub(rf" ({NUMBER}(\.0)?|0\.5|4111111111111111\.0)", f' {{"a": "{MAIL}"}}', written)
    _, redacted = _redacted(json.loads(written), TABLES[name])
    assert TOKEN in json.dumps(redacted)
    assert "john" not in json.dumps(redacted)


@pytest.mark.parametrize(("name", "native", "kind"), SKIPPED)
def test_what_is_skipped_is_said(name: str, native: dict[str, Any], kind: str) -> None:
    body, redacted = _redacted(native, TABLES[name])
    assert redacted == native
    assert body.skipped == {kind: 1}


@pytest.mark.parametrize(
    "native",
    [
        _block({"type": "image", "source": {"data": "", "alt": MAIL}}),
        _block({"type": "image", "source": {"data": ""}, "alt": MAIL}),
        _block({"type": "document", "source": {"data": ""}, "title": MAIL}),
    ],
)
def test_what_is_said_about_an_image_or_a_file_is_searched(native: dict[str, Any]) -> None:
    body, redacted = _redacted(native, ANTHROPIC_REQUEST)
    assert TOKEN in json.dumps(redacted)
    assert sum(body.skipped.values()) == 1


def _anything(chance: Random, depth: int) -> Any:
    kind = chance.randrange(8 if depth else 6)
    if kind == 7:
        return [_anything(chance, depth - 1) for _ in range(chance.randint(0, 2))]
    if kind == 6:
        names = chance.sample(("type", "a", MAIL, TOKEN), chance.randint(0, 4))
        return {name: _anything(chance, depth - 1) for name in names}
    return (None, True, chance.random(), "x", MAIL, TOKEN)[kind]


def _shaped(chance: Random, rule: Rule, depth: int) -> Any:
    """What may stand by a rule, or anything else."""
    if depth == 0 or chance.random() < 0.25:
        strange = _anything(chance, 3)
        return json.dumps(strange) if rule == JSON and isinstance(strange, str) else strange
    if chance.random() < 0.3:
        return [_shaped(chance, rule, depth - 1) for _ in range(chance.randint(0, 2))]
    if isinstance(rule, Skip):
        return _fields(chance, rule.but, depth)
    if isinstance(rule, Shape):
        return _fields(chance, rule.fields, depth)
    if isinstance(rule, Typed):
        return {**_fields(chance, _all(rule), depth), "type": chance.choice([*rule.types, MAIL])}
    return json.dumps({"a": MAIL, MAIL: 4111111111111111}) if rule == JSON else MAIL


def _all(rule: Typed) -> dict[str, Rule]:
    fields: dict[str, Rule] = {}
    for one in (*rule.types.values(), rule.rest):
        fields |= one.fields if isinstance(one, Shape) else {}
    return fields


def _fields(chance: Random, fields: Mapping[str, Rule], depth: int) -> dict[str, Any]:
    names = [*fields, "text", MAIL]
    chosen = chance.sample(names, min(len(names), chance.randint(0, 5)))
    return {name: _shaped(chance, fields.get(name, TEXT), depth - 1) for name in chosen}


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**64))
def test_no_shape_is_too_strange(name: str, seed: int) -> None:
    table = TABLES[name]
    native = _fields(Random(seed), table.fields, 8)
    before = copy.deepcopy(native)
    placeholders = holding()
    body = Body(native, table)
    body.redact([detector().find(text) for text in body.texts], placeholders)
    assert not [text for text in Body(native, table).texts if MAIL in text]
    restored = copy.deepcopy(native)
    restore_body(restored, placeholders, table)
    if "4111111111111111" not in json.dumps(before):
        assert json.dumps(restored) == json.dumps(before)
    masked = Body(before, table)
    answer = AnswerPlaceholders(holding("mask"))
    masked.mask([detector().find(text) for text in masked.texts], answer, drop_logprobs=True)
    assert not [text for text in Body(before, table).texts if MAIL in text]
