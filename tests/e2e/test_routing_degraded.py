"""When nobody answers: the operator's message, marked as such, or an error."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.e2e import routes
from tests.e2e.rig import Gateway
from tests.e2e.routes import Providers, pool, routing, said, tried
from tests.fakes.answers import chunk, error_answer, open_stream
from tests.fakes.upstream import Step, fin, hang, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
MESSAGE = "We are sorry – please try again in a minute."
FAILURES: dict[str, Step] = {
    "down": send(error_answer("503 Service Unavailable")),
    "limited": send(error_answer("429 Too Many Requests")),
    "unpaid": send(error_answer("429 Too Many Requests", "insufficient_quota")),
    "no-credential": send(error_answer("401 Unauthorized")),
}


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    degrade = {"mode": "message", "message": MESSAGE}
    groups = {name: pool("a", "b", degrade=degrade) for name in ("silent", "cooling", "own")}
    groups |= {name: pool(f"{name}-a", f"{name}-b", degrade=degrade) for name in FAILURES}
    groups["begun"] = pool("a", "b", degrade=degrade)
    groups["with-fallback"] = pool("a", fallbacks=["then"], degrade=degrade)
    groups["then"] = pool("b")
    own = {f"{name}-{which}": f"{upstream.url}/v1" for name in FAILURES for which in "ab"}
    return routing(upstream, groups, **own)


def failing(upstream: Providers, group: str, step: Step) -> None:
    upstream.always(f"{group}-1", step)
    upstream.always(f"{group}-2", step)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", FAILURES)
async def test_the_message_is_a_whole_answer_and_marked(
    gateway: Gateway, upstream: Providers, name: str, stream: bool
) -> None:
    failing(upstream, name, FAILURES[name])
    got = await gateway.chat(model=name, stream=stream)
    assert said(got) == MESSAGE
    assert got.header("x-gateway-degraded") == "message"
    row = await gateway.row(got.header("x-request-id") or "")
    assert (row["outcome"], row["degraded"], row["error_code"]) == ("ok", "message", None)
    assert row["cost_usd"] == row["charged_usd"] == "0.000000000"
    assert set(row["usage"].values()) == {0}
    if not stream:
        assert got.header("x-gateway-cost-usd") == "0.000000000"
    assert (await gateway.line(row["request_id"]))["outcome"] == "ok"


async def test_every_choice_and_the_usage_that_were_asked_for_are_there(
    gateway: Gateway, upstream: Providers
) -> None:
    failing(upstream, "down", FAILURES["down"])
    got = await gateway.chat(model="down", n=2, stream=True, stream_options={"include_usage": True})
    chunks = [orjson.loads(raw) for raw in got.events[:-1]]
    texts = {
        choice["index"]: choice["delta"].get("content")
        for one in chunks
        for choice in one["choices"][:1]
        if choice["delta"]
    }
    assert texts == {0: MESSAGE, 1: MESSAGE}
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] == 0
    assert got.events[-1] == b"[DONE]"


async def test_legacy_completions_too(gateway: Gateway, upstream: Providers) -> None:
    failing(upstream, "down", FAILURES["down"])
    got = await gateway.ask("/v1/completions", {"model": "down", "prompt": "Say something."})
    assert got.status == 200
    assert [choice["text"] for choice in got.json()["choices"]] == [MESSAGE]


async def test_no_message_can_be_an_embedding(gateway: Gateway, upstream: Providers) -> None:
    failing(upstream, "down", FAILURES["down"])
    got = await gateway.ask("/v1/embeddings", {"model": "down", "input": "text"})
    assert got.status == 503
    assert got.header("x-gateway-degraded") is None


async def test_what_the_failed_attempts_may_have_cost_is_not_charged(
    gateway: Gateway, upstream: Providers
) -> None:
    failing(upstream, "silent", hang())
    got = await gateway.chat(model="silent", stream=True)
    assert said(got) == MESSAGE
    row = await gateway.row(got.header("x-request-id") or "")
    assert len(row["attempts"]) >= 2
    assert row["charged_usd"] == "0.000000000" != row["cost_usd"]


async def test_it_is_said_at_once_when_all_are_cooling(gateway: Gateway, upstream: Providers) -> None:
    failing(upstream, "cooling", FAILURES["limited"])
    for _ in range(2):
        got = await gateway.chat(model="cooling")
        assert said(got) == MESSAGE
    before = len(upstream.seen)
    got = await gateway.chat(model="cooling")
    assert said(got) == MESSAGE
    if got.header("x-gateway-attempts") is None:
        assert len(upstream.seen) == before
        assert await tried(gateway, got) == []


async def test_the_requests_own_fault_is_still_told(gateway: Gateway, upstream: Providers) -> None:
    for code in ("context_length_exceeded", "content_filter"):
        upstream.once("own-1", send(error_answer("400 Bad Request", code)))
        got = await gateway.chat(model="own")
        assert (got.status, got.code) == (400, code)


async def test_fallbacks_come_first(gateway: Gateway, upstream: Providers) -> None:
    for model in ("with-fallback-1", "then-1"):
        upstream.always(model, FAILURES["down"])
    got = await gateway.chat(model="with-fallback")
    assert said(got) == MESSAGE
    called = [deployment for deployment, _ in await tried(gateway, got)]
    assert called[:2] == ["with-fallback-1", "then-1"]


async def test_it_is_never_appended_to_an_answer_that_began(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("begun-1", open_stream(chunk({"content": "one"})), fin())
    got = await gateway.chat(model="begun", stream=True)
    assert orjson.loads(got.events[-1])["error"]["code"] == "upstream_error"
    assert not any("sorry" in raw.decode() for raw in got.events)
    row = await gateway.row(got.header("x-request-id") or "")
    assert (row["outcome"], row["degraded"]) == ("partial", None)
