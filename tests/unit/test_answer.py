from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.errors import UpstreamError, UpstreamInvalidResponse
from gateway.exchange import ModelRequest, Operation
from gateway.formats import openai
from gateway.routing.answer import Answer, answer_for

SSE, JSON = b"text/event-stream", b"application/json"
BODY = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1},
}


def answer(kind: bytes, *, stream: bool, choices: int = 1) -> Answer:
    request = ModelRequest(Operation.CHAT, "m", {}, stream=stream, choices=choices)
    return answer_for(request, kind, 10_000, 1_000)


def event(**fields: Any) -> bytes:
    choice = {"index": 0, "delta": {}, "finish_reason": None, **fields}
    return b"data: %b\n\n" % orjson.dumps({"id": "c", "choices": [choice]})


ROLE = event(delta={"role": "assistant", "content": ""})
HI = event(delta={"content": "hi"})
STOP = event(finish_reason="stop")
DONE = b"data: [DONE]\n\n"


def test_frames_are_held_until_the_first_content() -> None:
    reading = answer(SSE, stream=True)
    assert reading.feed(ROLE) == []
    assert not reading.committed
    assert len(reading.feed(HI)) == 2
    assert reading.committed


def test_an_error_before_content_is_raised_with_its_meaning() -> None:
    reading = answer(SSE, stream=True)
    reading.feed(ROLE)
    with pytest.raises(UpstreamError) as raised:
        reading.feed(b'data: {"error":{"message":"slow down","type":"rate_limit_error"}}\n\n')
    assert raised.value.code == "upstream_rate_limited"


@pytest.mark.parametrize("ends", [b"", ROLE, ROLE + HI])
def test_a_stream_that_ends_without_finish_is_cut(ends: bytes) -> None:
    reading = answer(SSE, stream=True)
    reading.feed(ends)
    with pytest.raises(UpstreamError):
        reading.end()


def test_a_finish_without_done_is_complete() -> None:
    reading = answer(SSE, stream=True)
    reading.feed(ROLE + HI + STOP)
    assert reading.end() == []
    assert reading.complete


def test_one_finish_of_two_choices_is_not_complete() -> None:
    reading = answer(SSE, stream=True, choices=2)
    reading.feed(ROLE + HI + STOP)
    with pytest.raises(UpstreamError):
        reading.end()


def test_done_without_anything_before_it_is_no_answer() -> None:
    with pytest.raises(UpstreamInvalidResponse):
        answer(SSE, stream=True).feed(DONE)


def test_nothing_is_relayed_after_done() -> None:
    reading = answer(SSE, stream=True)
    frames = reading.feed(HI + STOP + DONE + HI)
    assert len(frames) == 2


def test_a_body_where_a_stream_was_asked_for_is_cut_into_chunks() -> None:
    reading = answer(JSON, stream=True)
    assert reading.feed(orjson.dumps(BODY)) == []
    objects = [orjson.loads(openai.payload(frame))["object"] for frame in reading.end()]
    assert objects == ["chat.completion.chunk"] * 2
    assert reading.usage is not None


def test_a_stream_where_a_body_was_asked_for_is_gathered() -> None:
    reading = answer(SSE, stream=False)
    frames = reading.feed(ROLE + HI + STOP + DONE)
    assert orjson.loads(openai.payload(frames[0]))["choices"][0]["message"]["content"] == "hi"
    assert reading.complete


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"choices":', b"{}", b'"x"', b'{"choices":[1]}'])
def test_a_body_without_an_answer_is_invalid(body: bytes) -> None:
    reading = answer(JSON, stream=False)
    reading.feed(body)
    with pytest.raises(UpstreamInvalidResponse):
        reading.end()


def test_a_body_beyond_the_cap_is_refused_while_it_comes() -> None:
    reading = answer(JSON, stream=False)
    with pytest.raises(UpstreamInvalidResponse):
        for _ in range(11):
            reading.feed(b" " * 1000)


def test_text_is_counted_without_being_decoded() -> None:
    reading = answer(SSE, stream=True)
    words = [f"word{i:03} " for i in range(200)]
    reading.feed(ROLE + b"".join(event(delta={"content": word}) for word in words))
    assert reading.text_bytes == len("".join(words))
