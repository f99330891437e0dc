"""Which texts of a body are covered, and that the body stays what it was otherwise."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.privacy.interface import DetectorFailed, Match
from gateway.privacy.placeholders import AnswerPlaceholders, Placeholders
from gateway.privacy.walk import mask_answer, redact_body, restore_body
from tests.privacy.texts import detector, nasty

MAIL = "john.doe@example.com"
_USER = {"role": "user", "content": "hi"}


def _chat(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [_USER, message], **more}


def _call(arguments: str) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return _chat({"role": "assistant", "content": None, "tool_calls": [call]})


def _parts(*parts: dict[str, Any]) -> dict[str, Any]:
    return _chat({"role": "user", "content": list(parts)})


_TOOL = {"name": "f", "description": f"as {MAIL}", "parameters": {"properties": {"a": {"default": MAIL}}}}
COVERED: dict[str, dict[str, Any]] = {
    **{
        role: _chat({"role": role, "content": f"I am {MAIL}."})
        for role in ("system", "developer", "user", "assistant", "tool")
    },
    "text part": _parts({"type": "text", "text": MAIL}),
    "refusal part": _parts({"type": "refusal", "refusal": MAIL}),
    "unknown part": _parts({"type": "new", "new": {"deep": [MAIL]}}),
    "file name": _parts({"type": "file", "file": {"filename": f"cv of {MAIL}", "file_data": "data:"}}),
    "message name": _chat({"role": "user", "name": MAIL, "content": ""}),
    "tool arguments": _call(json.dumps({"a": f"to {MAIL}"})),
    "escaped tool arguments": _call('{"a": "john.doe\\u0040example.com"}'),
    "names of tool arguments": _call(json.dumps({MAIL: 1})),
    "arguments that are no JSON": _call('{"a": "x ' + MAIL),
    "function call": _chat(
        {"role": "assistant", "function_call": {"name": "f", "arguments": json.dumps([MAIL])}}
    ),
    "user": _chat(_USER, user=MAIL),
    "metadata": _chat(_USER, metadata={"a": MAIL}),
    "names of metadata": _chat(_USER, metadata={MAIL: "a"}),
    "stop": _chat(_USER, stop=[MAIL]),
    "tools": _chat(_USER, tools=[{"type": "function", "function": _TOOL}]),
    "functions": _chat(_USER, functions=[_TOOL]),
    "response format": _chat(
        _USER,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [MAIL]}}},
    ),
    "prediction": _chat(_USER, prediction={"type": "content", "content": MAIL}),
    "unknown field": _chat(_USER, something={"new": [{"text": MAIL}]}),
    "prompt": {"model": "m", "prompt": MAIL},
    "prompts": {"model": "m", "prompt": ["a", MAIL]},
    "suffix": {"model": "m", "prompt": "a", "suffix": MAIL},
    "input": {"model": "m", "input": MAIL},
    "inputs": {"model": "m", "input": ["a", MAIL]},
    "percent-encoded": _chat({"role": "user", "content": "john.doe%40example.com"}),
    "HTML entity": _chat({"role": "user", "content": "john.doe&#64;example.com"}),
    "escape in plain text": _chat({"role": "user", "content": "john.doe\\u0040example.com"}),
}
NOT_COVERED: dict[str, dict[str, Any]] = {
    "split over two parts": _parts({"type": "text", "text": MAIL[:9]}, {"type": "text", "text": MAIL[9:]}),
    "split over two messages": {
        "model": "m",
        "messages": [{"role": "user", "content": t} for t in (MAIL[:9], MAIL[9:])],
    },
    "base64": _chat({"role": "user", "content": base64.b64encode(MAIL.encode()).decode()}),
    "written out": _chat({"role": "user", "content": "john dot doe at example dot com"}),
}


@pytest.mark.parametrize("where", COVERED)
def test_covered(where: str) -> None:
    native = copy.deepcopy(COVERED[where])
    placeholders = Placeholders()
    report = redact_body(native, detector(), placeholders)
    written = json.dumps(native)
    assert "john" not in written
    assert "[EMAIL_ADDRESS_1]" in written
    assert report.counts == placeholders.counts == {"EMAIL_ADDRESS": written.count("[EMAIL_ADDRESS_1]")}
    if "escape" not in where:
        restore_body(native, placeholders)
        assert MAIL in json.dumps(native) or "example.com" in json.dumps(native)


@pytest.mark.parametrize("where", NOT_COVERED)
def test_known_limits(where: str) -> None:
    native = copy.deepcopy(NOT_COVERED[where])
    assert not redact_body(native, detector(), Placeholders()).counts
    assert native == NOT_COVERED[where]


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": f"data:{MAIL}"}}, "image_url"),
        ({"type": "input_audio", "input_audio": {"data": MAIL}}, "input_audio"),
        ({"type": "file", "file": {"file_data": MAIL}}, "file"),
    ],
)
def test_what_is_skipped_is_said(part: dict[str, Any], kind: str) -> None:
    native = _parts(part)
    report = redact_body(native, detector(), Placeholders())
    assert report.skipped == {kind: 1}
    assert native == _parts(part)


def test_token_ids_are_skipped_and_said() -> None:
    for prompt in ([1, 2, 4111111111111111], [[1, 2], [3]]):
        native = {"model": "m", "prompt": copy.deepcopy(prompt)}
        assert redact_body(native, detector(), Placeholders()).skipped == {"token_ids": 1}
        assert native["prompt"] == prompt


def test_what_steers_stays() -> None:
    native = {
        "model": MAIL,
        "messages": [{"role": MAIL, "tool_call_id": MAIL, "content": None}],
        "tool_choice": {"function": {"name": MAIL}},
        "seed": 4111111111111111,
        "temperature": 0.5,
        "logit_bias": {"4111111111111111": 1},
    }
    before = copy.deepcopy(native)
    assert not redact_body(native, detector(), Placeholders()).counts
    assert native == before


def test_numbers_become_strings_and_json_stays_json() -> None:
    native = _call('{"card": -4111111111111111, "n": [1, 4111111111111111]}')
    native["metadata"] = {"card": 4111111111111111}
    redact_body(native, detector(), Placeholders())
    arguments = native["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"card": "[CREDIT_CARD_1]", "n": [1, "[CREDIT_CARD_1]"]}
    assert native["metadata"] == {"card": "[CREDIT_CARD_1]"}


json_values = st.recursive(
    st.one_of(nasty, st.integers(-(10**20), 10**20), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(nasty, inner, max_size=3)),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(nasty, nasty, json_values, st.booleans())
def test_restoring_undoes_redacting(content: str, part: str, value: Any, ascii_only: bool) -> None:
    """Numbers in JSON excepted: they come back as strings."""
    native = _call(json.dumps(_no_numbers(value), ensure_ascii=ascii_only))
    native["messages"] += [{"role": "user", "content": content, "extra": _no_numbers(value)}]
    native["messages"] += [{"role": "user", "content": [{"type": "text", "text": part}]}]
    before, placeholders = copy.deepcopy(native), Placeholders()
    redact_body(native, detector(), placeholders)
    answer = {"choices": [{"message": message} for message in native["messages"]]}
    restore_body(answer, placeholders)
    call = before["messages"][1]["tool_calls"][0]["function"]
    again = answer["choices"][1]["message"]["tool_calls"][0]["function"]
    assert json.loads(again.pop("arguments")) == json.loads(call.pop("arguments"))
    assert [choice["message"] for choice in answer["choices"]] == before["messages"]


def _no_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _no_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_no_numbers(inner) for inner in value]
    return None if type(value) is int else value


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_arguments_stay_valid(value: Any) -> None:
    native = _call(json.dumps(value))
    redact_body(native, detector(), Placeholders())
    json.loads(native["messages"][1]["tool_calls"][0]["function"]["arguments"])


def test_a_find_over_several_strings_leaves_what_is_between_them() -> None:
    header, footer = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
    native = _call(json.dumps({"a": header + "\n" + "Ab1+" * 12, "b": [footer], "c": 1}))
    redact_body(native, detector(), Placeholders())
    arguments = json.loads(native["messages"][1]["tool_calls"][0]["function"]["arguments"])
    assert header not in json.dumps(arguments)
    assert footer not in json.dumps(arguments)
    assert list(arguments.values())[-1] == 1


def test_equal_requests_redact_equally() -> None:
    first, second = copy.deepcopy(COVERED["tools"]), copy.deepcopy(COVERED["tools"])
    redact_body(first, detector(), Placeholders())
    redact_body(second, detector(), Placeholders())
    assert first == second


def test_a_buffered_answer_is_masked_and_opened() -> None:
    placeholders = Placeholders()
    token = placeholders.token("EMAIL_ADDRESS", MAIL)
    call = {"function": {"name": "f", "arguments": json.dumps({"to": token, "cc": "x@y.org"})}}
    native = {
        "id": "x",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": f"{token} {MAIL} x@y.org",
                    "tool_calls": [call],
                },
            }
        ],
        "usage": {"prompt_tokens": 3},
    }
    answer = AnswerPlaceholders(placeholders, restore=True)
    mask_answer(native, detector(), answer)
    restore_body(native, placeholders)
    message = native["choices"][0]["message"]  # type: ignore[index]
    assert message["content"] == f"{MAIL} {MAIL} [EMAIL_ADDRESS_2]"
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {
        "to": MAIL,
        "cc": "[EMAIL_ADDRESS_2]",
    }
    assert answer.counts == {"EMAIL_ADDRESS": 2}


class _Broken:
    entities = frozenset({"X"})
    reach = 0

    def find(self, text: str) -> Sequence[Match]:
        if "bad" in text:
            raise DetectorFailed("it is broken")
        return [Match(0, 1, "X")]


def test_nothing_has_changed_when_a_detector_fails() -> None:
    native = _chat({"role": "user", "content": "bad"}, user="good")
    before = copy.deepcopy(native)
    with pytest.raises(DetectorFailed):
        redact_body(native, _Broken(), Placeholders())  # type: ignore[arg-type]
    assert native == before
