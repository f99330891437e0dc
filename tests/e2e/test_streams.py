"""Streams that are well-formed, but not as anybody would expect them to arrive."""

from __future__ import annotations

import gzip
import json
from typing import Any

import orjson
import pytest

from tests.e2e.rig import Gateway
from tests.fakes import answers
from tests.fakes.answers import DONE, chat_stream, chunk, stream
from tests.fakes.client import Answer
from tests.fakes.upstream import SIZES, Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXTS = ["Grüße", ", ", "☃ und 𝄞", "\n", "\u2028 \u0085 \x0b", '"quoted" \\ back', ""]


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    return {"providers": {"fake": {"stream_usage": True}}}


def data(events: list[bytes]) -> list[bytes]:
    return [event.removeprefix(b"data: ").removesuffix(b"\n\n") for event in events]


def text(answer: Answer) -> str:
    """What the events say in their first choice; the last must be ``[DONE]``."""
    assert answer.events[-1] == b"[DONE]", answer.events[-3:]
    choices = [choice for raw in answer.events[:-1] for choice in orjson.loads(raw)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_the_same_events_come_out_however_the_bytes_are_cut(
    gateway: Gateway, upstream: Upstream, size: int, framing: answers.Framing
) -> None:
    events = chat_stream(TEXTS, azure=True, null_usage=True)
    upstream.next(*stream(events, size=size, framing=framing))
    answer = await gateway.chat(stream=True, stream_options={"include_usage": True})
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("text/event-stream")
    assert answer.events == data(events)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\r\r\n\n"], ids=["lf", "crlf", "cr", "mixed"])
async def test_line_ends_make_no_difference(
    gateway: Gateway, upstream: Upstream, size: int, end: bytes
) -> None:
    events = chat_stream(TEXTS)
    upstream.next(*stream([event.replace(b"\n\n", end + end) for event in events], size=size))
    answer = await gateway.chat(stream=True, stream_options={"include_usage": True})
    assert answer.events == data(events)


@pytest.mark.parametrize("size", SIZES)
async def test_everything_else_that_an_event_stream_may_hold(
    gateway: Gateway, upstream: Upstream, size: int
) -> None:
    first, *rest = chat_stream(["one", "two"])
    pretty = json.dumps(orjson.loads(rest[0].removeprefix(b"data: ")), indent=1).encode()
    lines = b"".join(b"data: %b\n" % line for line in pretty.split(b"\n")) + b"\n"
    odd = [
        b"\xef\xbb\xbf: OPENROUTER PROCESSING\r\n\r\n",
        b"event: message\nid: 7\nretry: 10\nunknown: x\n" + first.replace(b"data: ", b"data:"),
        b": a comment\n\n\n\n",
        lines,
        *rest[1:],
    ]
    upstream.next(*stream(odd, size=size))
    answer = await gateway.chat(stream=True)
    assert text(answer) == "onetwo"


@pytest.mark.parametrize("empty", [b"data\n\n", b"data:\n\n", b"event: ping\ndata: \n\n"])
@pytest.mark.parametrize("position", [0, 1, 2])
async def test_events_without_data_are_none(
    gateway: Gateway, upstream: Upstream, empty: bytes, position: int
) -> None:
    """Clients parse every event as JSON: an empty one would break them."""
    events = chat_stream(["one", "two"])
    upstream.next(*stream([*events[:position], empty, *events[position:]], pause_s=0.02))
    answer = await gateway.chat(stream=True)
    assert text(answer) == "onetwo"


@pytest.mark.parametrize("size", [1, 7, 1460, 0])
async def test_raw_line_separators_inside_json_are_text(
    gateway: Gateway, upstream: Upstream, size: int
) -> None:
    said = "a\u2028b\u2029c\u0085d"
    event = chunk({"content": said})
    assert said.encode() in event
    upstream.next(*stream([event, chunk({}, finish="stop"), DONE], size=size))
    answer = await gateway.chat(stream=True)
    assert answer.events[0] == event.removeprefix(b"data: ").strip(b"\n")
    assert text(answer) == said


@pytest.mark.parametrize("size", [1, 7, 1460, 0])
@pytest.mark.parametrize("stream_asked", [True, False])
async def test_a_compressed_stream_is_inflated(
    gateway: Gateway, upstream: Upstream, size: int, stream_asked: bool
) -> None:
    packed = gzip.compress(b"".join(chat_stream(TEXTS)))
    upstream.next(*stream([packed], "content-encoding: gzip", size=size))
    answer = await gateway.chat(stream=stream_asked)
    assert answer.header("content-encoding") is None
    said = text(answer) if stream_asked else answer.json()["choices"][0]["message"]["content"]
    assert said == "".join(TEXTS)
    assert upstream.last.header("accept-encoding") in (None, "identity")
    row = await gateway.row(answer.header("x-request-id") or "")
    assert row["usage"]["output_tokens"] == 7 and row["cost_source"] == "provider"


async def test_events_for_who_asked_for_one_body(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(*stream(chat_stream(["one ", "two"])))
    answer = await gateway.chat()
    assert answer.status == 200 and answer.header("content-type") == "application/json"
    body = answer.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "one two"}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == answers.USAGE


@pytest.mark.parametrize("usage_asked", [True, False])
async def test_one_body_for_who_asked_for_events(
    gateway: Gateway, upstream: Upstream, usage_asked: bool
) -> None:
    upstream.next(send(answers.json_answer(answers.chat_body("all at once"))))
    answer = await gateway.chat(stream=True, stream_options={"include_usage": usage_asked})
    assert (answer.header("content-type") or "").startswith("text/event-stream")
    assert text(answer) == "all at once"
    chunks = [orjson.loads(raw) for raw in answer.events[:-1]]
    assert {native["object"] for native in chunks} == {"chat.completion.chunk"}
    assert [c["usage"] for c in chunks if c.get("usage")] == ([answers.USAGE] if usage_asked else [])


async def test_many_small_tool_call_deltas(gateway: Gateway, upstream: Upstream) -> None:
    arguments = [orjson.dumps({"text": 'Ünï \\ "q" ☃\n' * 800, "call": i}).decode() for i in (0, 1)]
    events = [answers.tool_start(0, "call_a", "write"), answers.tool_start(1, "call_b", "read")]
    for position in range(max(map(len, arguments))):
        events += [
            answers.tool_args(call, arguments[call][position])
            for call in (0, 1)
            if position < len(arguments[call])
        ]
    events += [chunk({}, finish="tool_calls"), DONE]
    assert len(events) > 20_000
    upstream.next(*stream([b"".join(events)], size=1 << 16))
    answer = await gateway.chat(stream=True)
    assert answer.events == data(events)
    heard = ["", ""]
    for raw in answer.events[2:-2]:
        call = orjson.loads(raw)["choices"][0]["delta"]["tool_calls"][0]
        heard[call["index"]] += call["function"]["arguments"]
    assert heard == arguments
