"""Streamed answers: every text comes to what it comes to as a whole, and everything else stays."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.events import Frame
from gateway.formats.openai import payload
from gateway.privacy import chunks
from gateway.privacy.chunks import AnswerEditor
from gateway.privacy.interface import Blocked, DetectorFailed, no_counts
from gateway.privacy.placeholders import AnswerPlaceholders, Placeholders
from gateway.privacy.policy import Action
from gateway.privacy.streaming import Restorer, TextTransform, answer_transform
from tests.privacy.texts import PLAIN, cut, detector, holding, nasty

MAIL = "john.doe@example.com"
ENVELOPE = {
    "id": "chatcmpl-4111111111111111",
    "object": "chat.completion.chunk",
    "created": 4111111111111111,
    "model": "ft:m-4o:org::4111111111111111",
    "system_fingerprint": "fp",
}
_NUMBERED = re.compile(r"\[([A-Z_]+)_[0-9]+\]")
Field = Callable[[str], dict[str, Any]]


def _call(index: int, text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


PATHS: dict[str, Field] = {
    "content": lambda text: {"content": text},
    "reasoning": lambda text: {"reasoning_content": text},
    "refusal": lambda text: {"refusal": text},
    "call 0": lambda text: _call(0, text),
    "call 1": lambda text: _call(1, text),
    "function call": lambda text: {"function_call": {"arguments": text}},
    "transcript": lambda text: {"audio": {"id": "a", "transcript": text}},
    "details": lambda text: {
        "reasoning_details": [{"type": "reasoning.text", "index": 3, "text": text, "signature": None}]
    },
    "content parts": lambda text: {"content_parts": [{"type": "new", "deep": {"text": text}}]},
}
JSON_PATHS = frozenset({"call 0", "call 1", "function call"})


def _chunk(choice: int, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {**ENVELOPE, "choices": [{"index": choice, "delta": delta, "finish_reason": finish}], **more}


def _frame(native: Any) -> Frame:
    return Frame(orjson.dumps(native))


def _made(
    action: Action = "restore", mask: bool = True
) -> tuple[Placeholders, Callable[[bool], TextTransform]]:
    placeholders = holding(action)
    placeholders.token("EMAIL_ADDRESS", MAIL)
    answer = AnswerPlaceholders(placeholders)
    found = detector() if mask else None
    return placeholders, lambda json: answer_transform(found, placeholders, answer, json=json)


def _run(editor: AnswerEditor, natives: list[dict[str, Any]], sizes: int = 1) -> list[dict[str, Any]]:
    frames = [_frame(native) for native in natives]
    out: list[Frame] = []
    for place in range(0, len(frames), sizes):
        out += editor.feed(frames[place : place + sizes])
    out += editor.flush()
    return [orjson.loads(payload(frame)) for frame in out]


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, dict):
        for name, held in value.items():
            yield from _leaves(held, (*path, name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _leaves(item, (*path, item.get("index", place) if isinstance(item, dict) else place))
    elif isinstance(value, str):
        yield path, value


def _texts(natives: list[dict[str, Any]]) -> dict[tuple[Any, ...], str]:
    """The texts of an answer as a client joins them; those that are said again are none."""
    joined: dict[tuple[Any, ...], str] = {}
    for native in natives:
        for choice in native["choices"]:
            for path, text in _leaves(choice.get("delta", {}), (choice["index"],)):
                if path[-1] not in ("type", "id", "role"):
                    joined[path] = joined.get(path, "") + text
    return {path: text for path, text in joined.items() if text}


answers = st.dictionaries(
    st.tuples(st.integers(0, 2), st.sampled_from(sorted(PATHS))), nasty.filter(bool), min_size=1, max_size=5
)


def _streamed(texts: dict[tuple[int, str], str], seed: int) -> list[dict[str, Any]]:
    """Chunks in which the texts are cut anywhere and mixed, several in one chunk at times."""
    chance = random.Random(seed)
    left = {place: cut(text, seed, 9) for place, text in texts.items()}
    ends = {choice for choice, _ in texts}
    natives = [_chunk(choice, {"role": "assistant", "content": ""}) for choice in sorted(ends)]
    while any(left.values()):
        (choice, name), pieces = chance.choice([item for item in left.items() if item[1]])
        native = _chunk(choice, PATHS[name](pieces.pop(0)))
        others = [other for other, more in left.items() if more and other[0] != choice]
        if others and chance.random() < 0.2:
            other = chance.choice(others)
            native["choices"] += _chunk(other[0], PATHS[other[1]](left[other].pop(0)))["choices"]
        natives.append(native)
        for done in sorted(ends):
            if not any(more for place, more in left.items() if place[0] == done):
                ends.discard(done)
                natives.append(_chunk(done, {}, "stop"))
    return [*natives, {**ENVELOPE, "choices": [], "usage": {"prompt_tokens": 4111111111111111}}]


def _expected(
    texts: dict[tuple[int, str], str], make: Callable[[bool], TextTransform]
) -> dict[tuple[Any, ...], str]:
    whole = {}
    for (choice, name), text in texts.items():
        transform = make(name in JSON_PATHS)
        ((path, _),) = (
            leaf
            for leaf in _leaves(PATHS[name]("x"), (choice,))
            if leaf[0][-1] not in ("type", "id", "role")
        )
        whole[path] = transform.feed(text) + transform.flush()
    return {path: text for path, text in whole.items() if text}


def _anonymous(texts: dict[tuple[Any, ...], str]) -> dict[tuple[Any, ...], str]:
    """Without the numbers of placeholders, which follow the order in time."""
    return {path: _NUMBERED.sub(r"[\1]", text) for path, text in texts.items()}


@settings(max_examples=300, deadline=None)
@given(answers, st.integers(0, 2**32), st.booleans(), st.integers(1, 4))
def test_any_chunking_and_mixing_comes_to_the_whole_texts(
    texts: dict[tuple[int, str], str], seed: int, mask: bool, sizes: int
) -> None:
    texts = {
        place: json.dumps({"a": text})
        if place[1] in JSON_PATHS
        else text.encode("utf-8", "replace").decode()
        for place, text in texts.items()
    }
    natives = _streamed(texts, seed)
    expected = _expected(texts, _made(mask=mask)[1])
    out = _run(AnswerEditor(_made(mask=mask)[1]), natives, sizes)
    assert _anonymous(_texts(out)) == _anonymous(expected)
    for path, text in _texts(out).items():
        if path[-1] == "arguments":
            json.loads(text)
    _check_ends(out, {choice for choice, _ in texts})


def _check_ends(out: list[dict[str, Any]], numbers: set[int]) -> None:
    assert out[-1]["usage"] == {"prompt_tokens": 4111111111111111}
    finished: set[int] = set()
    for native in out:
        assert {name: native[name] for name in ENVELOPE} == ENVELOPE
        for choice in native["choices"]:
            assert choice["index"] not in finished
            if choice["finish_reason"] is not None:
                finished.add(choice["index"])
    assert finished == numbers


@settings(max_examples=100, deadline=None)
@given(answers, st.integers(0, 2**32))
def test_restoring_undoes_redacting(texts: dict[tuple[int, str], str], seed: int) -> None:
    texts = {place: text.encode("utf-8", "replace").decode() for place, text in texts.items()}
    placeholders = holding()
    redacted = {
        place: text if place[1] in JSON_PATHS else placeholders.replace(text, detector().find(text))
        for place, text in texts.items()
    }
    editor = AnswerEditor(lambda json: Restorer(placeholders, json=json))
    out = _texts(_run(editor, _streamed(redacted, seed)))
    for path, text in _texts(_streamed(texts, seed)).items():
        if path[-1] != "arguments":
            assert out[path] == text


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("value", PLAIN)
def test_nothing_of_what_is_blocked_is_shown(name: str, value: str) -> None:
    editor = AnswerEditor(_made("block")[1])
    text = json.dumps(f"it is {value}, yes.") if name in JSON_PATHS else f"it is {value}, yes."
    natives = [_chunk(0, PATHS[name](character)) for character in text]
    shown: list[Frame] = []
    with pytest.raises(Blocked):
        for native in natives:
            shown += editor.feed([_frame(native)])
    assert (
        "".join(_texts([orjson.loads(payload(frame)) for frame in shown]).values())
        == text[: text.index(" is ") + 4]
    )


def test_what_is_no_text_stays() -> None:
    delta = {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "index": 0,
                "id": "call_4111111111111111",
                "type": "function",
                "function": {"name": "f_4111111111111111", "arguments": ""},
            }
        ],
    }
    native = _chunk(0, delta, usage={"prompt_tokens": 4111111111111111}, service_tier="default")
    frame = _frame(native)
    assert AnswerEditor(_made()[1]).feed([frame]) == [frame]


@pytest.mark.parametrize("held", ["x@y.org", {"a": "x@y.org"}, ["x@y.org"]], ids=str)
@pytest.mark.parametrize("name", ["id", "object", "created", "model", "system_fingerprint", "obfuscation"])
def test_what_is_no_name_is_searched_in_every_chunk(name: str, held: Any) -> None:
    editor = AnswerEditor(_made()[1])
    natives = [_chunk(0, {"content": piece}) for piece in ("a ", "4111 1111 ", "1111 1111", " b ", "x@z")]
    for native in natives[1:4]:
        native[name] = held
    out = _run(editor, [*natives, _chunk(0, {}, "stop", **{name: held})])
    assert "x@y.org" not in json.dumps(out)
    assert _anonymous(_texts(out)) == {(0, "content"): "a [CREDIT_CARD] b x@z"}
    assert sum("[EMAIL_ADDRESS_2]" in json.dumps(native) for native in out) >= 2


@pytest.mark.parametrize(
    "delta",
    [
        {"role": "x@y.org"},
        {"tool_calls": [{"index": 0, "id": "x@y.org", "function": {"arguments": ""}}]},
        {"tool_calls": [{"index": 0, "type": {"a": "x@y.org"}, "function": {"arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "x@y.org", "arguments": ""}}]},
        {"new": [{"a": 4111111111111111.0}]},
    ],
)
def test_names_in_a_delta_that_are_none_are_searched(delta: dict[str, Any]) -> None:
    (native,) = _run(AnswerEditor(_made()[1]), [_chunk(0, delta)])
    told = json.dumps(native["choices"])
    assert "x@y.org" not in told
    assert "4111111111111111" not in told
    assert "_2]" in told or "[CREDIT_CARD_1]" in told


@pytest.mark.parametrize(
    "raw",
    [
        b'{"choices":[{"delta":{"content":"x@y.org"}}],"choices":[{"delta":{"content":"a "}}]}',
        b'{"choices":["x@y.org"],"choices":[{"index":0,"delta":{"content":"a "}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"x@y.org"},"delta":{"content":"a "}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"x@y.org","content":"a "}}]}',
        b'{"choices":[{"index":0,"delta":{"content" :"x@y.org","content":"a "}}]}',
        b'{"id":"x@y.org","id":"a","choices":[{"index":0,"delta":{"content":"a "}}]}',
        b'{"id":"x@y.org","i\\u0064":"a","choices":[{"index":0,"delta":{"content":"a "}}]}',
        b'{"choices":[{"index":0,"delta":{"new":"x@y.org","new":"a "}}]}',
        b'{"choices":[{"index":0,"finish_reason":"x@y.org","delta":{},"finish_reason":"stop"}]}',
    ],
)
def test_what_is_there_twice_goes_out_as_it_was_read(raw: bytes) -> None:
    (frame,) = AnswerEditor(_made()[1]).feed([Frame(raw)])
    assert b"x@y.org" not in payload(frame)
    assert orjson.loads(payload(frame)) == orjson.loads(raw)


def test_a_colon_changes_nothing() -> None:
    frame = _frame(_chunk(0, {"content": "as follows: "}))
    assert AnswerEditor(_made()[1]).feed([frame]) == [frame]


@pytest.mark.parametrize("depth", [200, 250, 300, 500, 800, 900, 960, 980, 1000])
@pytest.mark.parametrize("pair", [('{"a":', "}"), ("[", "]")])
@pytest.mark.parametrize("own", [True, False])
def test_a_deep_chunk_is_read_or_a_failure(depth: int, pair: tuple[str, str], own: bool) -> None:
    deep = f'{pair[0] * depth}"x@y.org and"{pair[1] * depth}'
    raw = f'{{"choices":[{{"index":0,"delta":{{"x":{deep}}}}}]}}'.encode()
    editor = AnswerEditor(_made()[1])
    try:
        out = editor.feed([Frame(None, orjson.loads(raw)) if own else Frame(raw)])
    except DetectorFailed:
        assert depth > 200
    else:
        assert depth < 300
        assert b"x@y.org" not in b"".join(map(payload, [*out, *editor.flush()]))


def test_what_follows_the_finish_shows_no_whole_value() -> None:
    natives = [
        _chunk(0, {"content": "mail leak.er@prov"}),
        _chunk(0, {}, "stop"),
        _chunk(0, {"content": "ider-x.org"}),
        _chunk(0, {"content": ", and"}),
    ]
    assert _texts(_run(AnswerEditor(_made()[1]), natives)) == {
        (0, "content"): "mail leak.er@prov[EMAIL_ADDRESS_2], and"
    }


def test_every_chunk_may_be_a_finish() -> None:
    pieces = ["It is", " said that", " 3 of", " them, x@z", " and", " 12 more."]
    natives = [_chunk(0, {"content": piece}, "stop") for piece in pieces]
    assert _texts(_run(AnswerEditor(_made()[1]), natives)) == {(0, "content"): "".join(pieces)}


def test_what_is_skipped_is_said_once_for_each_place() -> None:
    skipped = no_counts()
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    natives = [
        *[_chunk(0, {"audio": {"id": "a", "data": "AAAA"}}) for _ in range(3)],
        _chunk(1, {"audio": {"data": "AAAA"}}),
        _chunk(0, {"images": [image, image]}),
        {**ENVELOPE, "choices": [{"index": 0, "message": {"images": [image]}}]},
    ]
    assert _run(AnswerEditor(_made()[1], skipped=skipped), natives) == natives
    assert skipped == {"audio": 2, "image_url": 3}


def test_untouched_frames_are_the_same_and_edited_ones_new() -> None:
    editor = AnswerEditor(_made()[1])
    clean, own = (
        _frame(_chunk(0, {"content": "well, "})),
        Frame(None, _chunk(0, {"content": "[EMAIL_ADDRESS_1] "})),
    )
    before = copy.deepcopy(own.native)
    first, second = editor.feed([clean, own])
    assert first is clean
    assert own.native == before
    assert orjson.loads(payload(second))["choices"][0]["delta"] == {"content": f"{MAIL} "}
    assert second.events is None


def test_what_says_nothing_any_more_is_left_out() -> None:
    editor = AnswerEditor(_made()[1])
    assert editor.feed([_frame(_chunk(0, {"content": "x@y"}))]) == []
    assert (
        editor.feed([_frame(_chunk(0, {"tool_calls": [{"index": 0, "function": {"arguments": "12"}}]}))])
        == []
    )
    (kept,) = editor.feed([_frame(_chunk(0, {"content": ".or"}, usage={"completion_tokens": 1}))])
    assert orjson.loads(payload(kept))["choices"][0]["delta"] == {"content": ""}
    call = {"index": 1, "id": "c", "function": {"name": "f", "arguments": "12"}}
    (kept,) = editor.feed([_frame(_chunk(0, {"tool_calls": [call]}))])
    assert orjson.loads(payload(kept))["choices"][0]["delta"]["tool_calls"][0]["id"] == "c"
    (rest,) = editor.feed([_frame(_chunk(0, {"content": "g"}, finish="stop"))])[-1:]
    assert orjson.loads(payload(rest))["choices"][0]["delta"] == {"content": "[EMAIL_ADDRESS_2]"}
    assert editor.flush() == []


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("index", [{"index": 0}, {}])
def test_another_id_is_another_call(index: dict[str, int], together: bool) -> None:
    calls = [
        {**index, "id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": f"{n}"}}
        for n in range(2)
    ]
    natives = (
        [_chunk(0, {"tool_calls": calls})] if together else [_chunk(0, {"tool_calls": [c]}) for c in calls]
    )
    arguments: dict[str, str] = {}
    last = ""
    for native in _run(AnswerEditor(_made()[1]), [*natives, _chunk(0, {}, "tool_calls")]):
        for call in native["choices"][0]["delta"].get("tool_calls", ()):
            last = call.get("id", last)
            arguments[last] = arguments.get(last, "") + call["function"]["arguments"]
    assert arguments == {"c0": "0", "c1": "1"}


def test_a_new_call_ends_the_last_one_and_nothing_else() -> None:
    def call(name: str, arguments: str) -> dict[str, Any]:
        function = {"name": name, "arguments": arguments}
        return _chunk(0, {"tool_calls": [{"index": 0, "id": name, "function": function}]})

    natives = [
        _chunk(0, {"content": "x@y"}),
        call("f", '{"a": "4'),
        call("g", "4111111111111111"),
        _chunk(0, {"content": ".org"}),
        _chunk(0, {}, "stop"),
    ]
    out = _run(AnswerEditor(_made()[1]), natives)
    texts = _texts(out)
    assert texts[0, "content"] == "[EMAIL_ADDRESS_2]"
    assert texts[0, "tool_calls", 0, "function", "arguments"] == '{"a": "4"[CREDIT_CARD_1]"'
    assert [bool(native["choices"][0]["delta"].get("tool_calls")) for native in out[:3]] == [True] * 3


def test_completions_are_texts_too() -> None:
    editor = AnswerEditor(_made()[1])
    natives = [
        {"id": "c", "choices": [{"index": 0, "text": piece, "logprobs": None, "finish_reason": None}]}
        for piece in ("mail x@y", ".org and [EMAIL_ADD", "RESS_1]")
    ]
    natives.append({"id": "c", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    out = _run(editor, natives)
    assert "".join(native["choices"][0]["text"] for native in out) == f"mail [EMAIL_ADDRESS_2] and {MAIL}"
    assert out[-1]["choices"][0]["finish_reason"] == "stop"


def test_complete_texts_stay_in_their_place() -> None:
    citation = {
        "type": "url_citation",
        "url_citation": {"url": "https://e.org/?x@y.org", "title": "x@y.org"},
    }
    native = _chunk(0, {"annotations": [citation]}, provider="x@y.org", citations=["x@y.org", "b"])
    editor = AnswerEditor(_made()[1])
    for _ in range(2):
        (frame,) = editor.feed([_frame(native)])
        out = orjson.loads(payload(frame))
        assert out["provider"] == "[EMAIL_ADDRESS_2]" or out["provider"] == "[EMAIL_ADDRESS_3]"
        assert "x@y.org" not in json.dumps(out)
        assert out["choices"][0]["delta"]["annotations"][0]["type"] == "url_citation"
        assert out["citations"][1] == "b"


@pytest.mark.parametrize(
    ("delta", "more"),
    [
        ({"content": "a "}, {"provider": "x@y.org"}),
        ({"content": "a "}, {"new": {"a": ["x@y.org"]}}),
        ({"content": "a "}, {"new": {"x@y.org": "x@y.org"}}),
        ({"new": {"x@y.org": True}}, {}),
        ({"new": {"x@y.org": "x@y.org "}}, {}),
        ({"new": {"type": "x@y.org"}}, {}),
        ({"new": [{"a": 4111111111111111}]}, {}),
    ],
)
def test_unknown_fields_are_searched(delta: dict[str, Any], more: dict[str, Any]) -> None:
    (frame,) = AnswerEditor(_made()[1]).feed([_frame(_chunk(0, delta, **more))])
    native = orjson.loads(payload(frame))
    told = json.dumps([native["choices"], {name: native[name] for name in more}])
    assert "_2]" in told or "[CREDIT_CARD_1]" in told
    assert "x@y.org" not in told
    assert "4111111111111111" not in told


def test_probabilities_of_tokens_are_dropped_when_that_is_asked_for() -> None:
    native = _chunk(0, {"content": "a "})
    native["choices"][0]["logprobs"] = {"content": [{"token": "a "}]}
    frame = _frame(native)
    assert AnswerEditor(_made()[1]).feed([frame]) == [frame]
    (edited,) = AnswerEditor(_made()[1], drop_logprobs=True).feed([frame])
    assert orjson.loads(payload(edited))["choices"][0] == {
        "index": 0,
        "delta": {"content": "a "},
        "finish_reason": None,
        "logprobs": None,
    }


def test_escapes_cut_in_two_are_joined() -> None:
    raw = orjson.dumps(_chunk(0, {"content": "~"}))
    pieces = (rb"mail \ud83d", rb"\ude00 x@y.org \ud83d", rb"", rb"-\ud83d")
    frames = [Frame(raw.replace(b"~", piece)) for piece in pieces]
    editor = AnswerEditor(_made()[1])
    out = [orjson.loads(payload(frame)) for frame in [*editor.feed(frames), *editor.flush()]]
    assert "".join(_texts(out).values()) == "mail 😀 [EMAIL_ADDRESS_2] \ufffd-\ufffd"


@pytest.mark.parametrize(
    "raw", [b"{", b"\xff", b'{"choices":[' + b"[" * 3000 + b"]" * 3000 + b"]}", b'{"a":1}}']
)
def test_what_cannot_be_read_is_a_failure(raw: bytes) -> None:
    with pytest.raises(DetectorFailed):
        AnswerEditor(_made()[1]).feed([Frame(raw)])


@pytest.mark.parametrize(
    "native",
    [
        [],
        "x",
        1,
        {},
        {"choices": None},
        {"choices": 1},
        {"choices": {}},
        {"choices": [1, None, []]},
        {"choices": [{}]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": [], "finish_reason": 1}]},
        {"choices": [{"index": [], "delta": {"content": [1, None, {"index": {}, "type": []}]}}]},
        {"choices": [{"delta": {"tool_calls": {"function": []}, "audio": 1}}]},
        {"choices": [{"delta": {"tool_calls": [None, {"function": 1}], "content": True}}], "usage": 1},
    ],
)
@pytest.mark.parametrize("drop", [False, True])
def test_any_shape_passes(native: Any, drop: bool) -> None:
    editor, frame = AnswerEditor(_made()[1], drop_logprobs=drop), _frame(native)
    assert editor.feed([frame, Frame(b"[DONE]")])[0] is frame
    assert editor.flush() == []


@pytest.mark.parametrize(
    "native",
    [
        {"choices": ["x@y.org"]},
        {"choices": {"a": "x@y.org"}},
        {"choices": "x@y.org"},
        {"choices": [{"index": "x", "delta": "x@y.org", "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": ["x@y.org"], "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": {"content": ["x@y.org"]}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": {"content": {"a": "x@y.org"}}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": "x@y.org"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "message": {"content": "x@y.org"}}]},
        {"error": {"message": "x@y.org"}},
    ],
)
def test_texts_are_found_in_wrong_shapes(native: Any) -> None:
    editor = AnswerEditor(_made()[1])
    out = b"".join(payload(frame) for frame in [*editor.feed([_frame(native)]), *editor.flush()])
    assert b"x@y.org" not in out
    assert b"[EMAIL_ADDRESS_2]" in out


def test_the_number_of_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_TEXTS", 3)
    editor = AnswerEditor(_made()[1])
    for index in range(3):
        editor.feed([_frame(_chunk(index, {"content": "a"}))])
    with pytest.raises(DetectorFailed, match="more than 3"):
        editor.feed([_frame(_chunk(3, {"content": "a"}))])


def test_restoring_reads_no_chunk_without_need() -> None:
    class Unreadable(bytes):
        """Passes as it is, or not at all."""

    placeholders = _made()[0]
    editor = AnswerEditor(lambda json: Restorer(placeholders, json=json))
    frame = Frame(Unreadable(b'{"choices":[{"index":0,"delta":{"content":"no JSON'))
    assert editor.feed([frame]) == [frame]
    editor.feed([_frame(_chunk(0, {"content": "[EMAIL"}))])
    with pytest.raises(DetectorFailed):
        editor.feed([frame])
    editor = AnswerEditor(lambda json: Restorer(placeholders, json=json))
    in_json = rb"{\"a\": \"" + rb"\\u005bEMAIL_ADDRESS_1\\u005d" + rb"\"}"
    for place in range(len(in_json)):
        head = in_json[:place]
        if (len(head) - len(head.rstrip(b"\\"))) % 2:
            continue  # in the middle of an escape
        pieces = [
            orjson.dumps(_chunk(0, _call(0, "~"))).replace(b"~", piece)
            for piece in (in_json[:place], in_json[place:])
        ]
        frames = [Frame(piece) for piece in pieces]
        editor = AnswerEditor(lambda json: Restorer(placeholders, json=json))
        out = [orjson.loads(payload(one)) for one in [*editor.feed(frames), *editor.flush()]]
        assert json.loads("".join(_texts(out).values())) == {"a": MAIL}
    escaped = orjson.dumps(_chunk(0, {"content": "~"})).replace(b"~", b"\\u005bEMAIL_ADDRESS_1]")
    (opened,) = editor.feed([Frame(escaped)])
    assert MAIL.encode() in payload(opened)
