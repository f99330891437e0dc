"""How a stream ends: a cut answer never looks complete, a complete one always does."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.e2e.rig import Gateway
from tests.fakes import answers
from tests.fakes.answers import DONE, chat_stream, chunk, event, head, open_stream, stream
from tests.fakes.client import Answer
from tests.fakes.upstream import Step, Upstream, fin, flood, hang, reset, send, wait

pytestmark = pytest.mark.asyncio(loop_scope="module")

BEGUN = [chunk({"role": "assistant", "content": ""}), chunk({"content": "one "}), chunk({"content": "two"})]


def assert_cut(answer: Answer, code: str, events: int = 2) -> None:
    """Content, then an error as the last event, and nothing that looks like an end."""
    assert answer.status == 200
    assert len(answer.events) > events
    error = orjson.loads(answer.events[-1])["error"]
    assert error["code"] == code
    assert error["message"] and error["request_id"] == answer.header("x-request-id")
    assert b"[DONE]" not in answer.events
    for raw in answer.events[:-1]:
        assert all(choice["finish_reason"] is None for choice in orjson.loads(raw)["choices"])


async def assert_partial(gateway: Gateway, answer: Answer, code: str) -> None:
    row = await gateway.row(answer.header("x-request-id") or "")
    assert (row["outcome"], row["error_code"]) == ("partial", code)
    assert row["cost_source"] == "estimated"
    assert row["usage"]["input_tokens"] > 0 and row["usage"]["output_tokens"] > 0
    assert row["charged_usd"] == row["cost_usd"] != "0.000000000"


@pytest.mark.parametrize(
    "ends",
    [
        (open_stream(*BEGUN), fin()),
        (open_stream(*BEGUN), reset()),
        (open_stream(*BEGUN), send(b"5\r\nda"), fin()),
        (open_stream(*BEGUN), send(b"zz\r\n"), fin()),
        (open_stream(*BEGUN), send(b"0\r\n\r\n")),
        (send(head("content-type: text/event-stream", "connection: close"), *BEGUN), fin()),
        (send(head("content-type: text/event-stream", "content-length: 100000"), *BEGUN), fin()),
    ],
    ids=["fin", "reset", "mid-chunk", "bad-chunk", "no-done", "close-delimited", "short"],
)
async def test_a_cut_stream_ends_with_an_error(
    gateway: Gateway, upstream: Upstream, ends: tuple[Step, ...], request: pytest.FixtureRequest
) -> None:
    upstream.next(*ends)
    answer = await gateway.chat(stream=True)
    bad = request.node.callspec.id == "bad-chunk"
    code = "upstream_invalid_response" if bad else "upstream_error"
    assert_cut(answer, code)
    await assert_partial(gateway, answer, code)


async def test_an_error_event_after_content(gateway: Gateway, upstream: Upstream) -> None:
    fault = event({"error": {"message": "engine died at sk-proj-12345678", "type": "server_error"}})
    upstream.next(*stream([*BEGUN, fault, DONE], pause_s=0.02))
    answer = await gateway.chat(stream=True)
    assert_cut(answer, "upstream_error")
    assert b"sk-proj" not in answer.events[-1]
    await assert_partial(gateway, answer, "upstream_error")


async def test_an_unreadable_event_after_content(gateway: Gateway, upstream: Upstream) -> None:
    unreadable = answers.chunked([b'data: {"finish_reason": tr\n\n'], end=False)
    upstream.next(open_stream(*BEGUN), wait(0.05), send(unreadable), hang())
    answer = await gateway.chat(stream=True)
    assert_cut(answer, "upstream_invalid_response")
    await upstream.last.left(1.0)


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_finished_without_done_is_a_success(
    gateway: Gateway, upstream: Upstream, framing: Any
) -> None:
    events = chat_stream(["one"], done=False)
    upstream.next(*stream(events, framing=framing))
    answer = await gateway.chat(stream=True, stream_options={"include_usage": True})
    assert [b"data: %b\n\n" % raw for raw in answer.events] == [*events, DONE]
    row = await gateway.row(answer.header("x-request-id") or "")
    assert (row["outcome"], row["cost_source"]) == ("ok", "provider")


async def test_nothing_after_done_is_relayed(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(*stream([*chat_stream(["one"]), chunk({"content": "after the end"})]))
    answer = await gateway.chat(stream=True)
    assert answer.events[-1] == b"[DONE]"
    assert not any(b"after the end" in raw for raw in answer.events)


@pytest.mark.parametrize("before", [[], BEGUN[:1]], ids=["nothing", "role"])
@pytest.mark.parametrize("end", [fin(), reset()], ids=["fin", "reset"])
async def test_cut_before_content_is_a_real_error(
    gateway: Gateway, upstream: Upstream, before: list[bytes], end: Step
) -> None:
    upstream.next(open_stream(*before), end)
    answer = await gateway.chat(stream=True)
    assert (answer.status, answer.code) == (502, "upstream_error")


async def test_error_in_the_first_event_is_a_real_error(gateway: Gateway, upstream: Upstream) -> None:
    fault = event({"error": {"message": "Slow down.", "type": "rate_limit_error", "code": 429}})
    upstream.next(*stream([*BEGUN[:1], fault]))
    answer = await gateway.chat(stream=True)
    assert (answer.status, answer.code) == (429, "upstream_rate_limited")
    assert int(answer.header("retry-after") or 0) >= 1


@pytest.mark.parametrize("stream_asked", [True, False])
async def test_done_without_content_is_an_error(
    gateway: Gateway, upstream: Upstream, stream_asked: bool
) -> None:
    upstream.next(*stream([*BEGUN[:1], DONE]))
    answer = await gateway.chat(stream=stream_asked)
    assert (answer.status, answer.code) == (502, "upstream_invalid_response")


async def test_an_event_of_20_mb(gateway: Gateway, upstream: Upstream) -> None:
    begin = b'data: {"choices":[{"index":0,"delta":{"content":"'
    step = (open_stream(*BEGUN), send(b"%x\r\n" % (20 << 20), begin), flood(b"a" * 65536, 320), hang())
    upstream.next(*step)
    answer = await gateway.chat(stream=True)
    assert_cut(answer, "upstream_invalid_response")
    await upstream.last.left(1.0)


async def test_a_stall_between_events(gateway: Gateway, upstream: Upstream) -> None:
    """Comments are no events: they do not keep a silent stream alive."""
    upstream.next(open_stream(*BEGUN), flood(b"4\r\n: k\n\r\n", 200, pause_s=0.1), hang())
    answer = await gateway.chat(stream=True)
    assert_cut(answer, "upstream_timeout")
    await upstream.last.left(1.0)


async def test_silence_before_the_first_event(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(open_stream(BEGUN[0]), hang())
    answer = await gateway.chat(stream=True)
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    await upstream.last.left(1.0)
