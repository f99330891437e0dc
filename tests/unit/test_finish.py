"""Finish reasons in all the words that servers have for them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.errors import UpstreamError
from gateway.exchange import ModelRequest, Operation
from gateway.formats import finish, openai
from gateway.routing.answer import answer_for

SSE, JSON = b"text/event-stream", b"application/json"
WORDS = {
    **{known: known for known in finish.KNOWN},
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_length": "length",
    "tool_use": "tool_calls",
    "safety": "content_filter",
    "recitation": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
    "a word of the future": "stop",
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
}
GIVEN_UP = ["abort", "aborted", "error", "cancelled", "ABORT"]


def choice(
    operation: Operation, text: str, reason: Any, *, streamed: bool, index: int = 0
) -> dict[str, Any]:
    if operation is Operation.COMPLETION:
        said: dict[str, Any] = {"text": text}
    else:
        said = {"delta" if streamed else "message": {"content": text}}
    return {"index": index, **said, "finish_reason": reason}


def answered(
    operation: Operation, reason: Any, *, asked: bool, streamed: bool, choices: int = 1
) -> list[dict[str, Any]]:
    """What the client is sent; the last event but one is the provider's finish."""
    request = ModelRequest(operation, "m", {}, stream=asked, choices=choices)
    reading = answer_for(request, SSE if streamed else JSON, 1 << 20, 1 << 16)
    indices = range(choices)
    if streamed:
        natives = [
            {"choices": [choice(operation, "hi", None, streamed=True, index=index)]} for index in indices
        ]
        natives += [
            {"choices": [choice(operation, "", reason, streamed=True, index=index) for index in indices]}
        ]
        raw = [b"data: %b\n\n" % orjson.dumps(native) for native in natives]
        frames = [frame for block in (*raw, b"data: [DONE]\n\n") for frame in reading.feed(block)]
    else:
        said = [choice(operation, "hi", reason, streamed=False, index=index) for index in indices]
        reading.feed(orjson.dumps({"choices": said}))
        frames = reading.end()
    return [orjson.loads(openai.payload(frame)) for frame in frames]


def reasons(natives: list[dict[str, Any]]) -> list[str]:
    found = [one["finish_reason"] for native in natives for one in native["choices"]]
    return [reason for reason in found if reason is not None]


@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.COMPLETION])
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
class TestEveryForm:
    @pytest.mark.parametrize(("said", "shown"), WORDS.items())
    def test_only_standard_words_are_passed_on(
        self, operation: Operation, asked: bool, streamed: bool, said: str, shown: str
    ) -> None:
        natives = answered(operation, said, asked=asked, streamed=streamed, choices=2)
        assert reasons(natives) == [shown] * 2

    @pytest.mark.parametrize("said", GIVEN_UP)
    def test_what_was_given_up_is_an_error(
        self, operation: Operation, asked: bool, streamed: bool, said: str
    ) -> None:
        with pytest.raises(UpstreamError):
            answered(operation, said, asked=asked, streamed=streamed)

    @pytest.mark.parametrize("said", [7, True, {"type": "stop"}])
    def test_what_is_no_word_is_a_stop(
        self, operation: Operation, asked: bool, streamed: bool, said: Any
    ) -> None:
        assert reasons(answered(operation, said, asked=asked, streamed=streamed)) == ["stop"]


@pytest.mark.parametrize("asked", [True, False])
def test_an_empty_reason_ends_a_body_and_no_stream(asked: bool) -> None:
    assert reasons(answered(Operation.CHAT, "", asked=asked, streamed=False)) == ["stop"]
    with pytest.raises(UpstreamError):
        answered(Operation.CHAT, "", asked=asked, streamed=True)


@pytest.mark.parametrize("asked", [True, False])
def test_an_empty_reason_in_every_chunk_is_none(asked: bool) -> None:
    request = ModelRequest(Operation.CHAT, "m", {}, stream=asked)
    reading = answer_for(request, SSE, 1 << 20, 1 << 16)
    frames = []
    for text, reason in (("a", ""), ("b", ""), ("", "eos")):
        native = {"choices": [choice(Operation.CHAT, text, reason, streamed=True)]}
        frames += reading.feed(b"data: %b\n\n" % orjson.dumps(native))
    frames += reading.feed(b"data: [DONE]\n\n")
    natives = [orjson.loads(openai.payload(frame)) for frame in frames]
    assert reasons(natives) == ["stop"]
    assert len(natives) == (3 if asked else 1)


@pytest.mark.parametrize("reason", sorted(finish.KNOWN))
def test_what_is_known_passes_untouched(reason: str) -> None:
    request = ModelRequest(Operation.CHAT, "m", {}, stream=True)
    raw = orjson.dumps({"choices": [choice(Operation.CHAT, "hi", reason, streamed=True)]}) + b" "
    (frame,) = answer_for(request, SSE, 1 << 20, 1 << 16).feed(b"data: %b\n\n" % raw)
    assert frame.raw is not None and frame.raw.strip() == raw.strip()
