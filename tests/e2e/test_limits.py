"""Limits as clients meet them: who is let through, what is told, and what comes back at the end."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import pytest

from gateway.accounting.tokens import estimate_prompt
from tests.e2e import routes
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat, merged
from tests.e2e.routes import Providers, gauge, pool, routing, said, whole
from tests.fakes.answers import chat_body, chunk, error_answer, json_answer, open_stream
from tests.fakes.client import Answer, RawClient, request
from tests.fakes.upstream import hang, send, wait

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
CAP = 400
"""Output tokens that are reserved for the group ``m`` where the client names none."""
RESERVED = -(-estimate_prompt(chat()) * 5 // 4)
"""Input tokens that are reserved for the rig's request."""
SETTLED_S = 0.2
"""After this time an answer that has ended is settled; a second is promised."""

TENANTS: dict[str, dict[str, Any]] = {
    "free": {},
    "slow": {"limits": {"rpm": 4}},
    "brisk": {"limits": {"rpm": 60}},
    "tokens": {"limits": {"tpm": 10_000}},
    "hidden": {"limits": {"tpm": 1000}},
    "small": {"limits": {"rpm": 50, "tpm": 300}},
    "single": {"limits": {"concurrency": 1}},
    "together": {"limits": {"rpm": 6, "tpm": 50_000, "concurrency": 1}},
    "models": {"model_limits": {"nick": {"rpm": 2}}},
    "features": {"feature_limits": {"search": {"rpm": 2}, "free": {"concurrency": 9}}},
    "users": {"user_limits": {"rpm": 2}},
    "keyed": {},
}


def key_of(tenant: str, name: str = "ci") -> str:
    return f"sk-gw-limits-{tenant}-{name}-0123456789abcdef"


def _key(tenant: str, name: str = "ci", **fields: Any) -> dict[str, Any]:
    digest = hashlib.sha256(key_of(tenant, name).encode()).hexdigest()
    return {"id": name, "hash": f"sha256:{digest}", **fields}


def tenants(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: {"models": ["*"], "keys": [_key(name)], **one} for name, one in settings.items()}


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    groups = {
        "m": pool("a", max_output_tokens=CAP, retry={"attempts": 1}),
        "other": pool("b", retry={"attempts": 1}),
    }
    everyone = tenants(TENANTS)
    everyone["keyed"]["keys"].append(_key("keyed", "part", limits={"rpm": 2}))
    everyone["features"]["keys"].append(_key("features", "tagged", tags={"feature": "search"}))
    return merged(routing(upstream, groups), {"tenants": everyone, "aliases": {"nick": "m"}})


async def ask(gateway: Gateway, tenant: str, key: str = "ci", headers: Any = None, **fields: Any) -> Answer:
    body = chat(**{"model": "m", **fields})
    return await gateway.ask(CHAT, body, key=key_of(tenant, key), headers=headers)


def left(answer: Answer, kind: str) -> tuple[int, int, float]:
    """Limit, what remains, and after how many milliseconds nothing is used any more."""
    limit, remaining, reset = (
        answer.header(f"x-ratelimit-{name}-{kind}") for name in ("limit", "remaining", "reset")
    )
    assert limit is not None and remaining is not None and reset is not None, answer.headers
    return int(limit), int(remaining), reset_ms(reset)


def reset_ms(text: str) -> float:
    if text.endswith("ms"):
        return float(text[:-2])
    minutes, _, seconds = text[:-1].rpartition("m")
    return (float(minutes or 0) * 60 + float(seconds)) * 1000


async def refusals(gateway: Gateway, tenant: str, limit: str) -> float:
    return await gauge(gateway, "gateway_rate_limited_total", tenant=tenant, limit=limit)


async def test_no_limits_no_headers(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("m-1", *whole(False))
    answers = [await ask(gateway, "free") for _ in range(20)]
    assert [answer.status for answer in answers] == [200] * 20
    assert not [name for name, _ in answers[0].headers if name.startswith("x-ratelimit")]


async def test_requests_a_minute(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("m-1", *whole(False))
    taken = [await ask(gateway, "slow") for _ in range(4)]
    assert [said(answer) for answer in taken] == ["fine"] * 4
    shown = [left(answer, "requests") for answer in taken]
    assert [(limit, remaining) for limit, remaining, _ in shown] == [(4, 3), (4, 2), (4, 1), (4, 0)]
    assert 14_000 < shown[0][2] <= 15_000 and 58_000 < shown[3][2] <= 60_000
    hints = []
    for _ in range(5):
        refused = await ask(gateway, "slow")
        assert_refused(refused, 429, "rate_limit_exceeded")
        assert refused.header("x-should-retry") == "true"
        assert left(refused, "requests")[:2] == (4, 0)
        hints.append((left(refused, "requests")[2], int(refused.header("retry-after") or 0)))
    assert 13 <= hints[0][1] <= 15
    assert hints == sorted(hints, reverse=True), "while nothing is let through the wait only shrinks"
    assert await refusals(gateway, "slow", "rpm") == 5


async def test_a_hint_is_true(gateway: Gateway, upstream: Providers) -> None:
    """Who waits as long as it says is let through, and who does not gets no more than the rate."""
    upstream.always("m-1", *whole(False))
    began_s = time.monotonic()
    taken, refused = 0, None
    while refused is None:
        answer = await ask(gateway, "brisk")
        taken += answer.status == 200
        refused = answer if answer.status == 429 else None
    took_s = time.monotonic() - began_s
    assert 60 <= taken <= 61 + took_s
    for _ in range(2):
        wait_s = int(refused.header("retry-after") or 0)
        assert wait_s == 1
        await asyncio.sleep(wait_s)
        assert said(await ask(gateway, "brisk")) == "fine"
        taken += 1
        refused = await ask(gateway, "brisk")
        taken += refused.status == 200
    assert taken <= 61 + (time.monotonic() - began_s)


async def test_what_a_request_may_use_is_reserved(gateway: Gateway, upstream: Providers) -> None:
    """Estimate and cap are taken at admission; what was not used is back for the next request."""
    upstream.always("m-1", *whole(False))
    first = await ask(gateway, "tokens")
    assert left(first, "tokens")[:2] == (10_000, 10_000 - RESERVED - CAP)
    assert upstream.last.json()["max_tokens"] == CAP, "what is reserved is also the most that may come"
    await asyncio.sleep(SETTLED_S)
    second = await ask(gateway, "tokens", max_tokens=50)
    assert left(second, "tokens")[1] == 10_000 - RESERVED - 50, "what was used is refilled within the wait"
    assert upstream.last.json()["max_tokens"] == 50
    await asyncio.sleep(SETTLED_S)
    third = await ask(gateway, "tokens", max_completion_tokens=70, n=2)
    assert left(third, "tokens")[1] == 10_000 - RESERVED - 140
    assert upstream.last.json()["max_completion_tokens"] == 70
    assert "max_tokens" not in upstream.last.json()


async def test_no_cap_is_sent_where_nothing_is_measured(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("m-1", *whole(False))
    for tenant in ("free", "slow", "single"):
        await ask(gateway, tenant)
        assert not {"max_tokens", "max_completion_tokens"} & upstream.last.json().keys()


async def test_tokens_beyond_the_reserve_count_in_full(gateway: Gateway, upstream: Providers) -> None:
    """Reasoning that nobody sees may be more than the cap: it is charged, and the next one waits."""
    usage = {"prompt_tokens": 11, "completion_tokens": 1989, "total_tokens": 2000}
    upstream.once("m-1", send(json_answer(chat_body("long thought", usage=usage))))
    assert said(await ask(gateway, "hidden", max_tokens=10)) == "long thought"
    await asyncio.sleep(SETTLED_S)
    refused = await ask(gateway, "hidden", max_tokens=10)
    assert_refused(refused, 429, "rate_limit_exceeded")
    assert left(refused, "tokens")[:2] == (1000, 0)
    assert 58 < int(refused.header("retry-after") or 0) <= 62, "1000 tokens too many are a minute"
    assert await refusals(gateway, "hidden", "tpm") == 1


async def test_a_request_larger_than_the_limit(gateway: Gateway, upstream: Providers) -> None:
    refused = await ask(gateway, "small", max_tokens=300)
    assert_refused(refused, 429, "rate_limit_exceeded")
    assert refused.header("x-should-retry") == "false"
    assert "max_tokens" in refused.json()["error"]["message"]
    assert left(refused, "requests")[:2] == (50, 50), "no limit was touched"
    upstream.once("m-1", *whole(False))
    assert said(await ask(gateway, "small", max_tokens=100)) == "fine"


async def test_refused_by_one_limit_costs_no_other(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("m-1", open_stream(chunk({"content": "one "})), hang())
    async with gateway.client() as client:
        await client.send(request(CHAT, chat(model="m", stream=True), key=key_of("together")))
        head = await client.read_head()
        assert left(head, "requests")[:2] == (6, 5)
        for _ in range(5):
            refused = await ask(gateway, "together")
            assert_refused(refused, 429, "concurrency_exceeded")
            assert refused.header("x-should-retry") == "true"
            assert refused.header("retry-after") == "1"
            assert left(refused, "requests")[1] == 5
            assert left(refused, "tokens")[1] >= left(head, "tokens")[1]
    assert await refusals(gateway, "together", "concurrency") == 5
    await free_again(gateway, upstream, "together")


async def free_again(gateway: Gateway, upstream: Providers, tenant: str = "single") -> None:
    """The only place is there for the next one, within a moment."""
    until_s = time.monotonic() + 1.5
    upstream.once("m-1", *whole(False))
    while (answer := await ask(gateway, tenant)).status == 429 and time.monotonic() < until_s:
        assert answer.code == "concurrency_exceeded"
        await asyncio.sleep(0.02)
    assert said(answer) == "fine"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_place_comes_back_from_who_leaves(
    gateway: Gateway, upstream: Providers, stream: bool
) -> None:
    upstream.once("m-1", *([open_stream(chunk({"content": "one "}))] if stream else []), hang())
    before = len(upstream.seen)
    async with gateway.client() as client:
        await client.send(request(CHAT, chat(model="m", stream=stream), key=key_of("single")))
        async with asyncio.timeout(5):
            while len(upstream.seen) == before:
                await asyncio.sleep(0.005)
        assert_refused(await ask(gateway, "single"), 429, "concurrency_exceeded")
        await client.reset()
    await free_again(gateway, upstream)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_place_comes_back_from_a_timeout(
    gateway: Gateway, upstream: Providers, stream: bool
) -> None:
    upstream.once("m-1", hang())
    late = await ask(gateway, "single", stream=stream, headers={"x-request-timeout-ms": "200"})
    assert_refused(late, 504, "deadline_exceeded")
    await free_again(gateway, upstream)


async def test_a_place_comes_back_from_a_slow_provider(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("m-1", hang())
    late = await ask(gateway, "single", stream=True)
    assert (late.status, late.code) == (504, "upstream_timeout")
    await free_again(gateway, upstream)


async def test_a_place_comes_back_from_a_cut_stream(gateway: Gateway, upstream: Providers) -> None:
    async def leave(connection: Any) -> None:
        connection.ended = True
        connection.writer.transport.abort()

    upstream.once("m-1", open_stream(chunk({"content": "one "})), wait(0.02), leave)
    await ask(gateway, "single", stream=True)
    await free_again(gateway, upstream)


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "429 Slow Down", "500 Oops"])
async def test_a_place_comes_back_from_a_failure(
    gateway: Gateway, upstream: Providers, status: str
) -> None:
    upstream.once("m-1", send(error_answer(status)))
    assert (await ask(gateway, "single")).status >= 400
    if status.startswith(("401", "429")):
        await asyncio.sleep(1.1)  # the deployment is left alone for that long
    await free_again(gateway, upstream)


@pytest.mark.parametrize(
    "fields",
    [{"messages": "none"}, {"model": "unknown"}, {"max_tokens": -1}, {"n": 10**9}, {"stream": "yes"}],
    ids=str,
)
async def test_a_malformed_request_takes_no_place(
    gateway: Gateway, upstream: Providers, fields: dict[str, Any]
) -> None:
    for _ in range(3):
        assert (await ask(gateway, "single", **fields)).status in (400, 404)
    await free_again(gateway, upstream)


async def test_an_answer_that_is_none_gives_the_place_back(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("m-1", send(json_answer({"choices": "none"})))
    await ask(gateway, "single")
    await free_again(gateway, upstream)


async def test_one_place_for_many(gateway: Gateway, upstream: Providers) -> None:
    """However many come at once, one runs at a time."""
    upstream.always("m-1", wait(0.03), *whole(False))
    before = len(upstream.seen)
    answers = await asyncio.gather(*(ask(gateway, "single") for _ in range(20)))
    served = sum(answer.status == 200 for answer in answers)
    assert served == len(upstream.seen) - before >= 1
    assert {answer.code for answer in answers if answer.status != 200} <= {"concurrency_exceeded"}
    assert served <= 10


async def test_limits_of_a_model_hold_for_its_other_names(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("m-1", *whole(False))
    upstream.always("other-1", *whole(False))
    assert said(await ask(gateway, "models", model="nick")) == "fine"
    assert said(await ask(gateway, "models", model="m")) == "fine"
    for name in ("nick", "m"):
        refused = await ask(gateway, "models", model=name)
        assert_refused(refused, 429, "rate_limit_exceeded")
        assert "'m'" in refused.json()["error"]["message"]
    assert said(await ask(gateway, "models", model="other")) == "fine"
    assert await refusals(gateway, "models", "model_rpm") == 2


async def test_limits_of_a_feature(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("m-1", *whole(False))
    search = {"x-gateway-feature": "search"}
    for _ in range(2):
        assert said(await ask(gateway, "features", headers=search)) == "fine"
    assert_refused(await ask(gateway, "features", headers=search), 429, "rate_limit_exceeded")
    for headers in ({}, {"x-gateway-feature": "free"}, {"x-gateway-feature": "unknown"}):
        assert said(await ask(gateway, "features", headers=headers)) == "fine"
    assert await refusals(gateway, "features", "feature_rpm") == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-gateway-feature": "free"},
        {"x-gateway-tags": "feature=free"},
        {"x-gateway-tags": "feature=free", "x-gateway-feature": "other"},
        {"X-Gateway-Feature": "free"},
    ],
    ids=str,
)
async def test_a_key_stays_with_its_own_feature(gateway: Gateway, headers: dict[str, str]) -> None:
    """The feature is used up by the test before; no header leads out of it."""
    refused = await ask(gateway, "features", key="tagged", headers=headers)
    assert_refused(refused, 429, "rate_limit_exceeded")
    assert "'search'" in refused.json()["error"]["message"]


async def test_limits_of_each_user(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("m-1", *whole(False))
    for user in ("eve", "adam"):
        headers = {"x-gateway-user": user}
        taken = [await ask(gateway, "users", headers=headers) for _ in range(2)]
        assert [left(answer, "requests")[:2] for answer in taken] == [(2, 1), (2, 0)]
        refused = await ask(gateway, "users", headers=headers)
        assert_refused(refused, 429, "rate_limit_exceeded")
        assert f"'{user}'" in refused.json()["error"]["message"]
    assert [(await ask(gateway, "users")).status for _ in range(4)] == [200] * 4, "no user was named"
    assert await refusals(gateway, "users", "user_rpm") == 2


async def test_limits_of_a_key(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("m-1", *whole(False))
    for _ in range(2):
        assert said(await ask(gateway, "keyed", key="part")) == "fine"
    refused = await ask(gateway, "keyed", key="part")
    assert_refused(refused, 429, "rate_limit_exceeded")
    assert "key 'part'" in refused.json()["error"]["message"]
    assert [(await ask(gateway, "keyed")).status for _ in range(4)] == [200] * 4
    assert await refusals(gateway, "keyed", "key_rpm") == 1


async def test_what_holds_for_streams(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("m-1", *whole(True))
    async with RawClient(gateway.host, gateway.port) as client:
        await client.send(request(CHAT, chat(model="m", stream=True), key=key_of("tokens")))
        answer = await client.read()
    assert said(answer) == "fine"
    assert left(answer, "tokens")[0] == 10_000
    await asyncio.sleep(SETTLED_S)
    again = await ask(gateway, "tokens", stream=True, max_tokens=1)
    assert left(again, "tokens")[1] == 10_000 - RESERVED - 1
