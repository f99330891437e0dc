"""What is learned about deployments: from their own failures only, and for all reloads to come."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import pytest

from tests.e2e import routes
from tests.e2e.rig import CHAT, Gateway, chat
from tests.e2e.routes import (
    NEVER_OPEN,
    Providers,
    breaker,
    cooldown_s,
    pool,
    routing,
    said,
    tried,
    whole,
)
from tests.fakes.answers import error_answer, json_answer
from tests.fakes.client import request
from tests.fakes.upstream import Step, hang, send, wait

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
FAILS: Step = send(error_answer("500 Internal Server Error"))
OPEN_S = 0.6
OPENS = {"failures": 3, "open_s": OPEN_S}
CLOSED, HALF_OPEN, OPEN = 0, 1, 2
OTHER_KEY = "sk-gw-of-the-other-tenant-0123456789"


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    patient = {"connect_s": 1, "first_event_s": 5, "idle_s": 5, "total_s": 20}
    groups = {
        "fast-fail": pool("a", "b", strategy="least_latency", breaker=NEVER_OPEN),
        "ejected": pool("a", "b", breaker=OPENS, timeouts=patient),
        "reopened": pool("a", "b", breaker=OPENS),
        "both-open": pool("a", "b", breaker={"failures": 3, "open_s": 30}),
        "last": pool("a", breaker=OPENS, retry={"attempts": 1}),
        "hurried": pool("a", "b", breaker=OPENS, timeouts=patient),
        "leaving": pool("a", "b", breaker=OPENS, timeouts=patient),
        "shared": pool("a", "b", breaker=OPENS),
        "thrifty": pool(
            "a", "a", breaker={"failures": 2, "open_s": 0.3}, retry={"backoff_s": 0.01, "budget": 0}
        ),
        "old-call": pool("a", "b", breaker=OPENS, timeouts=patient),
        "rate": pool("a", "b", breaker={"failures": 1000, "min_requests": 20, "error_rate": 0.5}),
    }
    tenant = {
        "models": ["*"],
        "keys": [{"id": "other", "hash": f"sha256:{hashlib.sha256(OTHER_KEY.encode()).hexdigest()}"}],
    }
    return routing(upstream, groups) | {"tenants": {"other": tenant}}


async def opened(gateway: Gateway, upstream: Providers, group: str) -> None:
    """Fails the group's first deployment until its breaker is open."""
    upstream.always(f"{group}-1", FAILS)
    upstream.always(f"{group}-2", *whole(False))
    for _ in range(3):
        assert said(await gateway.chat(model=group)) == "fine"
    assert await breaker(gateway, f"{group}-1") == OPEN


def states(gateway: Gateway, deployment: str) -> list[str]:
    """Of its breaker, as the log tells them."""
    return [line["state"] for line in gateway.log("breaker") if line["deployment"] == deployment]


async def test_failing_fast_does_not_attract_traffic(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("fast-fail-1", FAILS)
    upstream.always("fast-fail-2", wait(0.02), *whole(False))
    for _ in range(40):
        assert said(await gateway.chat(model="fast-fail")) == "fine"
    assert upstream.calls("fast-fail-1") <= 3
    assert upstream.calls("fast-fail-2") == 40


async def test_who_fails_is_ejected_and_one_probe_asks_for_all(
    gateway: Gateway, upstream: Providers
) -> None:
    await opened(gateway, upstream, "ejected")
    opened_s = time.monotonic()
    calls = upstream.calls("ejected-1")
    for _ in range(5):
        assert await tried(gateway, await gateway.chat(model="ejected")) == [("ejected-2", "ok")]
    assert upstream.calls("ejected-1") == calls == 3
    await asyncio.sleep(opened_s + OPEN_S * 1.25 - time.monotonic())
    upstream.always("ejected-1", wait(0.5), *whole(False))
    answers = await asyncio.gather(*(gateway.chat(model="ejected") for _ in range(20)))
    assert upstream.calls("ejected-1") == calls + 1
    assert [said(one) for one in answers] == ["fine"] * 20
    assert await breaker(gateway, "ejected-1") == HALF_OPEN
    upstream.always("ejected-1", *whole(False))
    for _ in range(2):
        assert await tried(gateway, await gateway.chat(model="ejected")) == [("ejected-1", "ok")]
    assert await breaker(gateway, "ejected-1") == CLOSED
    async with asyncio.timeout(2):
        while states(gateway, "ejected-1") != ["open", "half-open", "closed"]:
            await asyncio.sleep(0.02)


async def test_a_probe_that_fails_opens_it_for_longer_and_is_not_seen(
    gateway: Gateway, upstream: Providers
) -> None:
    await opened(gateway, upstream, "reopened")
    await asyncio.sleep(OPEN_S * 1.25)
    got = await gateway.chat(model="reopened")
    assert said(got) == "fine"
    assert await tried(gateway, got) == [("reopened-1", "upstream_error"), ("reopened-2", "ok")]
    assert await breaker(gateway, "reopened-1") == OPEN
    await asyncio.sleep(OPEN_S * 1.25)  # less than twice the first time
    assert await tried(gateway, await gateway.chat(model="reopened")) == [("reopened-2", "ok")]


async def test_an_error_rate_ejects_too(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("rate-2", *whole(False))
    for position in range(21):
        upstream.once("rate-1", *(whole(False) if position % 2 else (FAILS,)))
        assert await breaker(gateway, "rate-1") == CLOSED
        assert said(await gateway.chat(model="rate")) == "fine"
    assert await breaker(gateway, "rate-1") == OPEN


async def test_the_last_one_is_never_ejected(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("last-1", FAILS)
    for _ in range(12):
        assert (await gateway.chat(model="last")).status == 502
    assert upstream.calls("last-1") == 12
    upstream.always("last-1", *whole(False))
    assert said(await gateway.chat(model="last")) == "fine"


async def test_of_several_one_always_stays(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("both-open-1", FAILS)
    upstream.always("both-open-2", FAILS)
    for _ in range(10):
        assert (await gateway.chat(model="both-open")).status in (502, 503)
    states = [await breaker(gateway, f"both-open-{position}") for position in (1, 2)]
    assert sorted(states) == [CLOSED, OPEN]
    for model in ("both-open-1", "both-open-2"):
        upstream.always(model, *whole(False))
    assert said(await gateway.chat(model="both-open")) == "fine"


async def test_impatient_clients_are_no_evidence(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("hurried-1", hang())
    headers = {"x-request-timeout-ms": "50"}
    for _ in range(5):
        answers = await asyncio.gather(*(gateway.chat(model="hurried", headers=headers) for _ in range(20)))
        assert {(one.status, one.code) for one in answers} == {(504, "deadline_exceeded")}
    assert upstream.calls("hurried-2") == 0
    await untouched(gateway, upstream, "hurried")


async def test_clients_that_leave_are_no_evidence(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("leaving-1", hang())

    async def leave(number: int) -> None:
        async with gateway.client() as client:
            body = chat(model="leaving", stream=bool(number % 2))
            await client.send(request(CHAT, body, key=gateway.key))
            await asyncio.sleep(0.05)

    await asyncio.gather(*(leave(number) for number in range(20)))
    async with asyncio.timeout(3):
        while upstream.busy:
            await asyncio.sleep(0.02)
    await untouched(gateway, upstream, "leaving")


async def untouched(gateway: Gateway, upstream: Providers, group: str) -> None:
    assert await breaker(gateway, f"{group}-1") == await cooldown_s(gateway, f"{group}-1") == 0
    upstream.always(f"{group}-1", *whole(False))
    assert await tried(gateway, await gateway.chat(model=group)) == [(f"{group}-1", "ok")]


async def test_one_tenants_bad_requests_do_not_cool_others(gateway: Gateway, upstream: Providers) -> None:
    for status, code in (
        ("400 Bad Request", "invalid_value"),
        ("400 Bad Request", "content_filter"),
        ("400 Bad Request", "context_length_exceeded"),
        ("422 Unprocessable Entity", None),
    ):
        upstream.always("shared-1", send(error_answer(status, code)))
        answers = await asyncio.gather(*(gateway.chat(model="shared") for _ in range(25)))
        assert {one.status for one in answers} == {400}
    assert await breaker(gateway, "shared-1") == await cooldown_s(gateway, "shared-1") == 0
    upstream.always("shared-1", *whole(False))
    got = await gateway.ask(CHAT, chat(model="shared"), key=OTHER_KEY)
    assert await tried(gateway, got) == [("shared-1", "ok")]


async def test_a_probe_that_the_retry_budget_forbids_does_not_block_later_ones(
    gateway: Gateway, upstream: Providers
) -> None:
    """The budget allows three retries within ten seconds."""
    ok = tuple(whole(False))
    for model, steps in (
        ("thrifty-1", [FAILS]),
        ("thrifty-2", [FAILS, FAILS]),
        ("thrifty-1", [*ok, FAILS, *ok]),
    ):
        for step in steps:
            upstream.once(model, step)
    assert (await gateway.chat(model="thrifty")).status == 502
    assert await breaker(gateway, "thrifty-2") == OPEN
    for _ in range(2):
        assert said(await gateway.chat(model="thrifty")) == "fine"
    await asyncio.sleep(0.3 * 1.25)
    upstream.once("thrifty-1", FAILS)
    assert (await gateway.chat(model="thrifty")).status == 502  # no retry left, so nobody was probed
    upstream.once("thrifty-1", send(json_answer({}, "retry-after: 50", status="429 Too Many Requests")))
    upstream.always("thrifty-2", *ok)
    await gateway.chat(model="thrifty")
    assert await tried(gateway, await gateway.chat(model="thrifty")) == [("thrifty-2", "ok")]


async def test_calls_from_before_it_opened_do_not_let_a_second_probe_in(
    gateway: Gateway, upstream: Providers
) -> None:
    async with gateway.client() as old:
        upstream.once("old-call-1", hang())
        await old.send(request(CHAT, chat(model="old-call"), key=gateway.key))
        async with asyncio.timeout(3):
            while not upstream.calls("old-call-1"):
                await asyncio.sleep(0.01)
        await opened(gateway, upstream, "old-call")
        await asyncio.sleep(OPEN_S * 1.25)
        before = upstream.calls("old-call-1")
        upstream.always("old-call-1", wait(1.0), *whole(False))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gateway.chat(model="old-call"))
            async with asyncio.timeout(3):
                while upstream.calls("old-call-1") == before:
                    await asyncio.sleep(0.01)
            await old.close()
            await asyncio.sleep(0.2)
            for _ in range(5):
                assert await tried(gateway, await gateway.chat(model="old-call")) == [("old-call-2", "ok")]
        assert upstream.calls("old-call-1") == before + 1
