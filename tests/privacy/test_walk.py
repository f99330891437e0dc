"""Which texts of a body are covered, and that the body stays what it was otherwise."""

from __future__ import annotations

import base64
import copy
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.privacy.interface import Blocked, DetectorFailed, Match
from gateway.privacy.placeholders import AnswerPlaceholders, Placeholders
from gateway.privacy.slots import OPENAI_ANSWER, OPENAI_REQUEST, Shape
from gateway.privacy.walk import Body, restore_body
from tests.privacy.texts import detector, holding, nasty

MAIL = "john.doe@example.com"
_USER = {"role": "user", "content": "hi"}


def _find(body: Body) -> list[list[Match]]:
    return [detector().find(text) for text in body.texts]


def _redact(
    native: dict[str, Any], placeholders: Placeholders | None = None, table: Shape = OPENAI_REQUEST
) -> Counter[str]:
    """How often each entity was found."""
    body, given = Body(native, table), placeholders or holding()
    before = Counter(given.counts)
    body.redact(_find(body), given)
    return Counter(given.counts) - before


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
    placeholders = holding()
    counts = _redact(native, placeholders)
    written = json.dumps(native)
    assert "john" not in written
    assert "[EMAIL_ADDRESS_1]" in written
    assert counts == placeholders.counts == {"EMAIL_ADDRESS": written.count("[EMAIL_ADDRESS_1]")}
    if "escape" not in where:
        restore_body(native, placeholders)
        assert MAIL in json.dumps(native) or "example.com" in json.dumps(native)


@pytest.mark.parametrize("where", NOT_COVERED)
def test_known_limits(where: str) -> None:
    native = copy.deepcopy(NOT_COVERED[where])
    assert not _redact(native)
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
    assert Body(native).skipped == {kind: 1}
    _redact(native)
    assert native == _parts(part)


def test_token_ids_are_skipped_and_said() -> None:
    for prompt in ([1, 2, 4111111111111111], [[1, 2], [3]]):
        native = {"model": "m", "prompt": copy.deepcopy(prompt)}
        assert Body(native).skipped == {"token_ids": 1}
        _redact(native)
        assert native["prompt"] == prompt


def test_what_steers_stays() -> None:
    native = {
        "model": "ft:gpt-4o:org::4111111111111111",
        "messages": [{"role": "user", "tool_call_id": "call_4111111111111111", "content": None}],
        "tool_choice": {"type": "function", "function": {"name": "get_4111111111111111"}},
        "stream_options": {"include_usage": True},
        "modalities": ["text"],
        "seed": 4111111111111111,
        "max_tokens": 4111111111111111.0,
        "temperature": 0.5,
        "logit_bias": {"50256": -100},
        "something": [1, 0.5, 123456, True, None, 1234567.5],
    }
    before = copy.deepcopy(native)
    assert not _redact(native)
    assert native == before


_NOTED = {"note": f"see {MAIL}"}
_PERSONAL: dict[str, dict[str, Any]] = {
    **{
        f"{name}: {held}": _chat(_USER, **{name: held})
        for held in (MAIL, _NOTED, [_NOTED])
        for name in (
            "model stream_options service_tier reasoning_effort modalities tool_choice function_call audio "
            "logit_bias id object created system_fingerprint usage max_tokens seed verbosity"
        ).split()
    },
    "a role": _chat({"role": MAIL, "content": ""}),
    "an id": _chat({"role": "tool", "tool_call_id": MAIL, "content": ""}),
    "a function": _chat({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": MAIL}}]}),
    "an object for a name": _chat({"role": "assistant", "function_call": {"name": {"a": MAIL}}}),
    "cache control": _parts(
        {"type": "text", "text": "", "cache_control": {"type": "ephemeral", "a": MAIL}}
    ),
    "a name of a bias": _chat(_USER, logit_bias={MAIL: 1}),
    "among token ids": {"model": "m", "prompt": [1, MAIL]},
    "among lists of token ids": {"model": "m", "input": [[1], [MAIL]]},
}


@pytest.mark.parametrize("where", _PERSONAL)
def test_settings_that_hold_a_text_are_searched(where: str) -> None:
    native = copy.deepcopy(_PERSONAL[where])
    assert _redact(native) == {"EMAIL_ADDRESS": 1}
    assert MAIL not in json.dumps(native)


@pytest.mark.parametrize("number", [4111111111111111, -4111111111111111, 4111111111111111.0])
@pytest.mark.parametrize(
    "native",
    [
        _chat(_USER, something=None),
        _chat({"role": "user", "content": None}),
        _chat({"role": None, "content": ""}),
        _chat({"role": "user", "content": [None]}),
        _chat({"role": "tool", "tool_call_id": None}),
        _chat(_USER, metadata={"a": [None]}),
        {"model": "m", "messages": None},
    ],
)
def test_long_numbers_are_searched(native: dict[str, Any], number: float) -> None:
    native = json.loads(json.dumps(native).replace("null", json.dumps(number)))
    assert _redact(native) == {"CREDIT_CARD": 1}
    assert "4111111111111111" not in json.dumps(native)


def test_numbers_of_answers_stay_numbers() -> None:
    native = {
        "id": "chatcmpl-1",
        "created": 4111111111111111,
        "choices": [],
        "data": [{"embedding": [4111111111111111.0, 0.5], "index": 0}, {"embedding": "A1+/" * 99}],
        "usage": {
            "prompt_tokens": 4111111111111111,
            "details": {"cached": [4111111111111111]},
            "tier": "x",
        },
    }
    before = copy.deepcopy(native)
    assert not _redact(native, table=OPENAI_ANSWER)
    assert native == before


@pytest.mark.parametrize(
    "native",
    [
        {"id": MAIL},
        {"usage": {"note": MAIL}},
        {"usage": {MAIL: 1}},
        {"choices": [{"message": {"role": MAIL}}]},
        {"choices": [{"message": {"tool_calls": [{"id": MAIL}]}}]},
        {"choices": [{"message": {"tool_calls": [{"function": {"name": MAIL}}]}}]},
        {"choices": [{"finish_reason": {"a": MAIL}}]},
        {"data": [{"embedding": [0.5, MAIL]}]},
    ],
)
def test_names_of_answers_that_are_none_are_searched(native: dict[str, Any]) -> None:
    assert _redact(native, table=OPENAI_ANSWER) == {"EMAIL_ADDRESS": 1}
    assert MAIL not in json.dumps(native)


def test_numbers_become_strings_and_json_stays_json() -> None:
    native = _call('{"card": -4111111111111111, "n": [1, 4111111111111111]}')
    native["metadata"] = {"card": 4111111111111111}
    _redact(native)
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
    before, placeholders = copy.deepcopy(native), holding()
    _redact(native, placeholders)
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
    _redact(native)
    json.loads(native["messages"][1]["tool_calls"][0]["function"]["arguments"])


def test_a_find_over_several_strings_leaves_what_is_between_them() -> None:
    header, footer = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
    native = _call(json.dumps({"a": header + "\n" + "Ab1+" * 12, "b": [footer], "c": 1}))
    _redact(native)
    arguments = json.loads(native["messages"][1]["tool_calls"][0]["function"]["arguments"])
    assert header not in json.dumps(arguments)
    assert footer not in json.dumps(arguments)
    assert list(arguments.values())[-1] == 1


def test_names_that_become_what_others_were_are_all_kept() -> None:
    native = _chat(_USER, metadata={MAIL: "a", "[EMAIL_ADDRESS_1]": "b", "[LITERAL_1]": MAIL})
    before, placeholders = copy.deepcopy(native), holding()
    _redact(native, placeholders)
    assert native["metadata"] == {
        "[EMAIL_ADDRESS_1]": "a",
        "[LITERAL_1]": "b",
        "[LITERAL_2]": "[EMAIL_ADDRESS_1]",
    }
    restore_body(native, placeholders, OPENAI_REQUEST)
    assert native == before


def test_no_field_of_an_answer_is_lost() -> None:
    placeholders = holding()
    token = placeholders.token("EMAIL_ADDRESS", MAIL)
    native: dict[str, Any] = {
        "choices": [],
        "new": {"a@a.org": 1, "[EMAIL_ADDRESS_2]": 2, MAIL: 3, token: 4, "b@a.org": 5},
    }
    body = Body(native, OPENAI_ANSWER)
    body.mask(_find(body), AnswerPlaceholders(placeholders))
    assert "a.org" not in json.dumps(native)
    assert MAIL not in json.dumps(native)
    restore_body(native, placeholders)
    assert native["new"] == {
        "[EMAIL_ADDRESS_3]": 1,
        "[EMAIL_ADDRESS_2]": 2,
        MAIL: 3,
        f"{MAIL} (2)": 4,
        "[EMAIL_ADDRESS_4]": 5,
    }


def test_escaped_placeholders_are_opened() -> None:
    placeholders = holding()
    placeholders.token("EMAIL_ADDRESS", MAIL)
    function = {"name": "f", "arguments": r'{"a": "\u005bEMAIL_ADDRESS_1\u005d \u00e9"}'}
    native = {"choices": [{"message": {"tool_calls": [{"function": function}]}}]}
    restore_body(native, placeholders)
    assert json.loads(function["arguments"]) == {"a": f"{MAIL} é"}


def test_images_and_audio_of_answers_are_said() -> None:
    message = {
        "images": [{"type": "image_url", "image_url": {"url": MAIL}}] * 2,
        "audio": {"id": "a", "data": MAIL, "transcript": "x"},
    }
    body = Body({"choices": [{"message": message}]}, OPENAI_ANSWER)
    assert body.skipped == {"image_url": 2, "audio": 1}


def test_equal_requests_redact_equally() -> None:
    first, second = copy.deepcopy(COVERED["tools"]), copy.deepcopy(COVERED["tools"])
    _redact(first)
    _redact(second)
    assert first == second


def test_a_buffered_answer_is_masked_and_opened() -> None:
    placeholders = holding()
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
    answer = AnswerPlaceholders(placeholders)
    body = Body(native, OPENAI_ANSWER)
    body.mask(_find(body), answer)
    restore_body(native, placeholders)
    message = native["choices"][0]["message"]  # type: ignore[index]
    assert message["content"] == f"{MAIL} {MAIL} [EMAIL_ADDRESS_2]"
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {
        "to": MAIL,
        "cc": "[EMAIL_ADDRESS_2]",
    }
    assert answer.counts == {"EMAIL_ADDRESS": 2}


def test_a_blocked_find_changes_nothing() -> None:
    native = _chat({"role": "user", "content": f"{MAIL} [LITERAL_1]"}, user="4111 1111 1111 1111")
    before, placeholders = copy.deepcopy(native), holding("mask", CREDIT_CARD="block")
    with pytest.raises(Blocked) as blocked:
        _redact(native, placeholders)
    assert blocked.value.entity == "CREDIT_CARD"
    assert native == before
    assert placeholders.counts == {"EMAIL_ADDRESS": 1, "CREDIT_CARD": 1}
    answer = {"choices": [{"message": {"content": f"{MAIL} or 4111 1111 1111 1111"}}]}
    before = copy.deepcopy(answer)
    body = Body(answer, OPENAI_ANSWER)
    with pytest.raises(Blocked):
        body.mask(_find(body), AnswerPlaceholders(placeholders))
    assert answer == before


def test_every_entity_has_its_own_action() -> None:
    placeholders = holding("flag", EMAIL_ADDRESS="restore", US_SSN="mask", IP_ADDRESS="hash")
    native = _chat({"role": "user", "content": f"{MAIL} 536-22-1234 203.0.113.77 4111 1111 1111 1111"})
    _redact(native, placeholders)
    words = native["messages"][1]["content"].split(" ")
    assert words[:2] == ["[EMAIL_ADDRESS_1]", "[US_SSN_1]"]
    assert words[2].startswith("[IP_ADDRESS_")
    assert len(words[2]) == len("[IP_ADDRESS_]") + 12
    assert words[3:] == ["4111", "1111", "1111", "1111"]
    answer = {"choices": [{"message": native["messages"][1]}]}
    restore_body(answer, placeholders)
    assert native["messages"][1]["content"].split(" ") == [MAIL, *words[1:]]


@pytest.mark.parametrize("found", [[], [[]] * 3])
def test_literals_are_handled_where_nothing_is_found(found: list[list[Match]]) -> None:
    native = _chat({"role": "user", "content": "[EMAIL_ADDRESS_1]"}, user="u")
    for placeholders in (holding(), holding("flag")):
        Body(native).redact(found, placeholders)
        assert native["messages"][1]["content"] == "[LITERAL_1]"
        assert not placeholders.counts


def test_probabilities_of_tokens_are_dropped_when_that_is_asked_for() -> None:
    answer = {
        "choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"token": "x"}]}}, "nonsense"],
        "output": [{"content": [{"text": "x", "logprobs": [{"token": "x"}]}, 1]}],
    }
    kept = copy.deepcopy(answer)
    Body(kept, OPENAI_ANSWER).mask([], AnswerPlaceholders(holding()))
    assert kept == answer
    Body(kept, OPENAI_ANSWER).mask([], AnswerPlaceholders(holding()), drop_logprobs=True)
    assert '"token"' not in json.dumps(kept)


def test_what_is_nested_too_deeply_is_a_failure() -> None:
    native: dict[str, Any] = {}
    inner = native
    for _ in range(5000):
        inner["a"] = {}
        inner = inner["a"]
    with pytest.raises(DetectorFailed):
        Body(native)
    with pytest.raises(DetectorFailed):
        restore_body(native, holding())
