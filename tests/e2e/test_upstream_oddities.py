"""Answers at the edge of what is allowed, and a little beyond it."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import orjson
import pytest

from tests.e2e.rig import Gateway, group
from tests.fakes import answers
from tests.fakes.answers import DONE, answer, chat_body, chat_stream, chunk, head, json_answer, stream
from tests.fakes.upstream import Upstream, fin, hang, send, wait

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    return {"models": {"small": group(response_cap_bytes=1 << 20, event_cap_bytes=1 << 16)}}


async def test_what_follows_an_answer_is_not_the_next_one(gateway: Gateway, upstream: Upstream) -> None:
    """Bytes beyond the answer's length spoil the connection: they would answer a stranger."""
    upstream.next(send(json_answer(chat_body("mine")), json_answer(chat_body("nobody's"))), hang())
    assert (await gateway.chat()).json() == chat_body("mine")
    upstream.next(send(json_answer(chat_body("yours"))))
    assert (await gateway.chat()).json() == chat_body("yours")
    assert upstream.seen[-1].connection is not upstream.seen[-2].connection


async def test_kept_connections_are_used_again(gateway: Gateway, upstream: Upstream) -> None:
    for number in range(3):
        upstream.next(*stream(chat_stream([str(number)])))
        assert (await gateway.chat(stream=True)).events[-1] == b"[DONE]"
    assert len({id(seen.connection) for seen in upstream.seen[-3:]}) == 1


async def test_a_connection_closed_while_idle_is_not_used(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(json_answer(chat_body("one"))), wait(0.05), fin())
    assert (await gateway.chat()).status == 200
    await asyncio.sleep(0.2)
    upstream.next(send(json_answer(chat_body("two"))))
    assert (await gateway.chat()).status == 200


async def test_chunk_extensions_and_trailers(gateway: Gateway, upstream: Upstream) -> None:
    body = orjson.dumps(chat_body("fine"))
    coded = b"%x;name=value\r\n%b\r\n0\r\nx-trailer: 1\r\nset-cookie: a=b\r\n\r\n" % (len(body), body)
    begin = head("content-type: application/json", "transfer-encoding: chunked", "trailer: x-trailer")
    upstream.next(send(begin, coded, size=3))
    got = await gateway.chat()
    assert got.json() == chat_body("fine")
    assert got.header("x-trailer") is None and got.header("set-cookie") is None


async def test_two_lengths(gateway: Gateway, upstream: Upstream) -> None:
    """Length and coding disagree on where the answer ends: no connection is kept on that."""
    body = orjson.dumps(chat_body("fine"))
    begin = head("content-type: application/json", "content-length: 3", "transfer-encoding: chunked")
    upstream.next(send(begin, answers.chunked([body])), wait(0.5), fin())
    got = await gateway.chat()
    assert got.status in (200, 502)
    upstream.next(send(json_answer(chat_body("next"))))
    assert (await gateway.chat()).json() == chat_body("next")
    assert upstream.seen[-1].connection is not upstream.seen[-2].connection


@pytest.mark.parametrize("stream_asked", [True, False])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compression_bomb(
    gateway: Gateway, upstream: Upstream, coding: str, stream_asked: bool
) -> None:
    bomb = orjson.dumps(chat_body(" " * (64 << 20)))
    packed = gzip.compress(bomb, 9) if coding == "gzip" else zlib.compress(bomb, 9)
    upstream.next(send(answer(packed, f"content-encoding: {coding}")))
    got = await gateway.chat(model="small", stream=stream_asked)
    assert (got.status, got.code) == (502, "upstream_invalid_response")


async def test_an_event_over_the_cap_among_small_ones(gateway: Gateway, upstream: Upstream) -> None:
    events = [chunk({"content": "a"}), chunk({"content": "b" * (1 << 17)}), chunk({"content": "c"}), DONE]
    upstream.next(*stream(events, pause_s=0.02))
    got = await gateway.chat(model="small", stream=True)
    assert orjson.loads(got.events[-1])["error"]["code"] == "upstream_invalid_response"
    assert got.events[0] == events[0].removeprefix(b"data: ").strip()
    assert b"[DONE]" not in got.events and len(got.events) == 2


@pytest.mark.parametrize("stream_asked", [True, False])
async def test_nesting_without_end(gateway: Gateway, upstream: Upstream, stream_asked: bool) -> None:
    upstream.next(send(answer(b'{"choices":' + b"[" * 200_000)))
    got = await gateway.chat(stream=stream_asked)
    assert (got.status, got.code) == (502, "upstream_invalid_response")


@pytest.mark.parametrize(
    "native",
    [
        {"choices": "text"},
        {"choices": [None]},
        {"choices": [[]]},
        {"choices": 7},
        {"choices": [{"message": "text"}]},
        {"choices": [{"message": {"tool_calls": "x"}}]},
        {"choices": [{"message": {"tool_calls": [None]}}]},
        {"choices": [{"message": {"tool_calls": [{"function": {"arguments": 7}}]}}]},
        {"choices": [{"index": "x", "finish_reason": 7}]},
        {"choices": [{"index": {}, "finish_reason": "stop", "message": {"content": "x"}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 10**9, "function": {"arguments": "{"}}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": -1, "function": {"arguments": "{"}}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": "x", "function": {"arguments": "{"}}]}}]},
        {"choices": [{"text": 5}]},
        {"choices": [{"index": [1], "delta": {"content": "x"}}]},
        {"choices": [{"index": 0, "text": "a"}, {"index": "b", "text": "b"}]},
        {"choices": [{"delta": {"content": [1]}}, {"delta": {"content": "x"}}]},
        {"error": []},
        {"error": {}},
        {"data": {}},
        {"usage": {"prompt_tokens": 1}},
    ],
    ids=repr,
)
@pytest.mark.parametrize("stream_asked", [True, False])
@pytest.mark.parametrize("events", [True, False])
async def test_types_that_nobody_expects(
    gateway: Gateway, upstream: Upstream, native: Any, stream_asked: bool, events: bool
) -> None:
    """Whatever it becomes, it is no fault of the gateway's."""
    if events:
        upstream.next(*stream([answers.event(native), DONE]))
    else:
        upstream.next(send(json_answer(native)))
    got = await gateway.chat(stream=stream_asked)
    assert got.status in (200, 502)


async def test_an_aborted_answer_does_not_look_complete(gateway: Gateway, upstream: Upstream) -> None:
    """Some servers end what they gave up with a finish reason of their own and ``[DONE]``."""
    upstream.next(*stream([chunk({"content": "half"}), chunk({}, finish="abort"), DONE], pause_s=0.02))
    got = await gateway.chat(stream=True)
    assert "error" in orjson.loads(got.events[-1])
    assert not any(b'"abort"' in raw for raw in got.events)


@pytest.mark.parametrize("stream_asked", [True, False])
@pytest.mark.parametrize("events", [True, False])
@pytest.mark.parametrize(
    ("said", "shown"), [("eos_token", "stop"), ("MAX_TOKENS", "length"), ("tool_use", "tool_calls")]
)
async def test_a_finish_reason_of_its_own(
    gateway: Gateway, upstream: Upstream, said: str, shown: str, events: bool, stream_asked: bool
) -> None:
    """Clients know five words; others are put into one of these, however the answer came."""
    if events:
        upstream.next(*stream([chunk({"content": "a"}), chunk({}, finish=said), DONE]))
    else:
        upstream.next(send(json_answer(chat_body("a", finish=said))))
    got = await gateway.chat(stream=stream_asked)
    assert got.status == 200
    natives = [orjson.loads(raw) for raw in got.events if raw != b"[DONE]"] or [got.json()]
    found = [choice["finish_reason"] for native in natives for choice in native["choices"]]
    assert [reason for reason in found if reason] == [shown]
    if stream_asked:
        assert got.events[-1] == b"[DONE]"


async def test_a_body_that_was_given_up(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(json_answer(chat_body("half", finish="cancelled"))))
    got = await gateway.chat()
    assert (got.status, got.code) == (502, "upstream_error")


async def test_one_of_two_choices_is_missing(gateway: Gateway, upstream: Upstream) -> None:
    """Every choice has to finish; half of them is a cut answer."""
    events = [chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, finish="stop")]
    upstream.next(*stream(events, pause_s=0.02))
    got = await gateway.chat(stream=True, n=2)
    assert orjson.loads(got.events[-1])["error"]["code"] == "upstream_error"


async def test_a_large_answer_passes_whole(gateway: Gateway, upstream: Upstream) -> None:
    body = chat_body("x" * (8 << 20))
    upstream.next(send(json_answer(body)))
    assert (await gateway.chat()).json() == body


async def test_a_long_stream_passes_whole(gateway: Gateway, upstream: Upstream) -> None:
    events = chat_stream([f"{number} " for number in range(20_000)])
    upstream.next(*stream([b"".join(events)], size=1 << 16))
    got = await gateway.chat(stream=True, stream_options={"include_usage": True})
    assert [b"data: %b\n\n" % raw for raw in got.events] == events
