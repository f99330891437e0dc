"""Streams that fail: before the first content somebody else answers unseen, after it nobody does."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest

from tests.e2e import routes
from tests.e2e.rig import CHAT, Gateway, chat
from tests.e2e.routes import (
    ANSWER_USD,
    NEVER_OPEN,
    Providers,
    breaker,
    pool,
    routing,
    said,
    tried,
    whole,
)
from tests.fakes.answers import (
    DONE,
    chat_stream,
    chunk,
    chunked,
    error_answer,
    event,
    open_stream,
    stream,
)
from tests.fakes.client import Answer, request
from tests.fakes.upstream import Step, fin, flood, hang, reset, send, wait

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
ROLE = chunk({"role": "assistant", "content": ""})
BEGUN = [ROLE, chunk({"content": "one "}), chunk({"content": "two"})]
FAULT = event({"error": {"message": "engine died", "type": "server_error"}})
OVERLOADED = event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
COMMENT = chunked([b": keep-alive\n\n"], end=False)
SILENCE_S = 15.0

BEFORE: dict[str, tuple[list[Step], str]] = {
    "error-first": (stream([FAULT]), "upstream_error"),
    "error-after-role": (stream([ROLE, FAULT, DONE]), "upstream_error"),
    "error-event": (stream([b"event: error\n" + OVERLOADED]), "overloaded"),
    "cut": ([open_stream(), fin()], "upstream_error"),
    "cut-after-role": ([open_stream(ROLE), reset()], "upstream_error"),
    "only-done": (stream([ROLE, DONE]), "upstream_invalid_response"),
    "stall-after-role": ([open_stream(ROLE), hang()], "upstream_timeout"),
    "only-comments": ([open_stream(), flood(COMMENT, 100, 0.05), hang()], "upstream_timeout"),
    "garbage": (stream([b"data: {nonsense\n\n"]), "upstream_invalid_response"),
    "abort": (stream([ROLE, chunk({}, finish="abort"), DONE]), "upstream_error"),
}
AFTER: dict[str, tuple[list[Step], str]] = {
    "cut": ([open_stream(*BEGUN), fin()], "upstream_error"),
    "reset": ([open_stream(*BEGUN), wait(0.05), reset()], "upstream_error"),
    "error": (stream([*BEGUN, FAULT, DONE], pause_s=0.02), "upstream_error"),
    "stall": ([open_stream(*BEGUN), hang()], "upstream_timeout"),
    "comments": ([open_stream(*BEGUN), flood(COMMENT, 100, 0.05), hang()], "upstream_timeout"),
    "no-end": (stream(BEGUN, pause_s=0.02), "upstream_error"),
    "abort": (stream([*BEGUN, chunk({}, finish="abort"), DONE], pause_s=0.02), "upstream_error"),
}


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    groups = {f"before-{name}": pool("a", "b") for name in BEFORE}
    groups |= {f"after-{name}": pool("a", "b", fallbacks=["then"]) for name in AFTER}
    slow = {"connect_s": 1, "first_event_s": SILENCE_S + 0.7, "idle_s": 1, "total_s": 40}
    groups |= {
        "then": pool("c", breaker=NEVER_OPEN),
        "both": pool("a", fallbacks=["both-then"], breaker=NEVER_OPEN),
        "both-then": pool("b", breaker=NEVER_OPEN),
        "thinking": pool("a", "b", timeouts={"connect_s": 1, "first_event_s": 3, "idle_s": 0.3}),
        "forced": pool("a", "b", timeouts=slow),
        "forced-all": pool("a", "b", timeouts=slow, retry={"attempts": 2}),
        "breaking": pool("a", "b", breaker={"failures": 3}),
    }
    return routing(upstream, groups)


def assert_in_band(answer: Answer, code: str) -> None:
    """Nothing in it looks like an end, and its last event is the error."""
    assert answer.status == 200
    assert orjson.loads(answer.events[-1])["error"]["code"] == code
    assert b"[DONE]" not in answer.events
    for raw in answer.events[:-1]:
        assert all(choice["finish_reason"] is None for choice in orjson.loads(raw)["choices"])


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("name", BEFORE)
async def test_a_failure_before_content_is_not_seen(
    gateway: Gateway, upstream: Providers, name: str, streamed: bool
) -> None:
    """For a client that does not stream, too: the fake streams to it all the same."""
    steps, code = BEFORE[name]
    upstream.once(f"before-{name}-1", *steps)
    upstream.once(f"before-{name}-2", *whole(True, "from the second"))
    got = await gateway.chat(model=f"before-{name}", stream=streamed)
    assert said(got) == "from the second"
    assert b"".join(got.events).count(b'"role"') == (1 if streamed else 0)
    assert await tried(gateway, got) == [(f"before-{name}-1", code), (f"before-{name}-2", "ok")]
    row = await gateway.row(got.header("x-request-id") or "")
    assert (row["outcome"], row["charged_usd"]) == ("ok", ANSWER_USD)


@pytest.mark.parametrize("name", AFTER)
async def test_a_failure_after_content_is_told_and_nothing_is_played_again(
    gateway: Gateway, upstream: Providers, name: str
) -> None:
    steps, code = AFTER[name]
    upstream.once(f"after-{name}-1", *steps)
    got = await gateway.chat(model=f"after-{name}", stream=True)
    assert_in_band(got, code)
    choices = [choice for raw in got.events[:-1] for choice in orjson.loads(raw)["choices"]]
    assert "".join(one["delta"].get("content") or "" for one in choices) == "one two"
    row = await gateway.row(got.header("x-request-id") or "")
    assert (row["outcome"], row["error_code"], len(row["attempts"])) == ("partial", code, 1)
    assert row["charged_usd"] == row["cost_usd"] != "0.000000000"


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (stream([ROLE, FAULT]), (502, "upstream_error")),
        ([open_stream(ROLE), reset()], (502, "upstream_error")),
        ([open_stream(ROLE), hang()], (504, "upstream_timeout")),
        ([send(error_answer("503 Service Unavailable"))], (503, "overloaded")),
        ([send(error_answer("400 Bad Request"))], (400, "invalid_request")),
    ],
    ids=["error", "reset", "stall", "overloaded", "rejected"],
)
async def test_when_the_fallback_fails_before_content_too_the_status_is_real(
    gateway: Gateway, upstream: Providers, second: list[Step], expected: tuple[int, str]
) -> None:
    upstream.always("both-1", *stream([ROLE, FAULT]))
    upstream.always("both-then-1", *second)
    got = await gateway.chat(model="both", stream=True)
    assert (got.status, got.code) == expected
    assert got.header("content-type") == "application/json"
    assert got.events == []
    attempts = await tried(gateway, got)
    assert [deployment for deployment, _ in attempts[:2]] == ["both-1", "both-then-1"]
    assert len(attempts) <= 3


async def test_a_first_event_may_take_as_long_as_the_model_is_given(
    gateway: Gateway, upstream: Providers
) -> None:
    upstream.once("thinking-1", wait(1.2), *whole(True))
    assert await tried(gateway, await gateway.chat(model="thinking", stream=True)) == [("thinking-1", "ok")]


async def test_a_finished_stream_without_done_is_a_success(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("thinking-1", *stream(chat_stream(["fine"], done=False)))
    assert said(await gateway.chat(model="thinking", stream=True)) == "fine"


async def test_after_long_silence_fallback_goes_on_and_failure_is_in_band(
    gateway: Gateway, upstream: Providers
) -> None:
    """A comment had to go out, and the head with it, before it was known who answers."""
    for model in ("forced-1", "forced-all-1"):
        upstream.once(model, open_stream(ROLE), hang())
    upstream.once("forced-2", *whole(True, "after all"))
    upstream.once("forced-all-2", send(error_answer("500 Internal Server Error")))
    good, bad = await asyncio.gather(patiently(gateway, "forced"), patiently(gateway, "forced-all"))
    assert said(good) == "after all"
    assert_in_band(bad, "upstream_error")
    assert len(bad.events) == 1
    assert good.header("x-gateway-deployment") is None
    for answer, outcome, count in ((good, "ok", 2), (bad, "error", 2)):
        row = await gateway.row(answer.header("x-request-id") or "")
        assert (row["outcome"], len(row["attempts"])) == (outcome, count)


async def patiently(gateway: Gateway, model: str) -> Answer:
    async with gateway.client(30.0) as client:
        began_s = time.monotonic()
        await client.send(request(CHAT, chat(model=model, stream=True), key=gateway.key))
        answer = await client.read_head()
        assert SILENCE_S - 1 < time.monotonic() - began_s < SILENCE_S + 0.6
        while (one := await client.read_event()) is not None:
            answer.events.append(one)
        return answer


async def test_cut_streams_are_evidence(gateway: Gateway, upstream: Providers) -> None:
    for _ in range(3):
        upstream.once("breaking-1", open_stream(*BEGUN), fin())
        assert_in_band(await gateway.chat(model="breaking", stream=True), "upstream_error")
    assert await breaker(gateway, "breaking-1") == 2
