"""Providers' own quotas: who has used them up is passed over, and no tenant hears of it."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest

from tests.e2e import routes
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import Gateway, merged
from tests.e2e.routes import NEVER_OPEN, Providers, pool, routing, said, tried, whole
from tests.e2e.served import came
from tests.fakes.answers import error_answer
from tests.fakes.client import request
from tests.fakes.upstream import send, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
ADMIN_TOKEN = f"admin-{secrets.token_urlsafe(24)}"
RPM = 3
REFILL_S = 60 / RPM


def limited(group: dict[str, Any], **quota: int) -> dict[str, Any]:
    group["deployments"][0]["quota"] = quota
    return group


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    groups = {
        "spared": limited(pool("a", "b"), rpm=RPM),
        "burst": limited(pool("a", "b"), rpm=RPM),
        "alone": limited(pool("a"), rpm=RPM),
        "then": limited(pool("a", fallbacks=["alone-then"]), rpm=1),
        "alone-then": limited(pool("c"), rpm=RPM),
        "tokens": limited(pool("a", "b"), tpm=10_000),
        "tried": pool("a", "b"),
    }
    groups["tried"]["deployments"][1]["quota"] = {"rpm": RPM}
    groups["tried"]["breaker"] = NEVER_OPEN
    return merged(routing(upstream, groups), {"server": {"admin_token": ADMIN_TOKEN}})


async def who(gateway: Gateway, model: str, **fields: Any) -> str | None:
    answer = await gateway.chat(model=model, **fields)
    assert said(answer) == "fine"
    return answer.header("x-gateway-deployment")


async def states(gateway: Gateway) -> dict[str, dict[str, Any]]:
    async with gateway.client() as client:
        await client.send(request("/admin/v1/deployments", key=ADMIN_TOKEN))
        answer = await client.read()
    return {one["id"]: one for one in answer.json()["data"]}


async def test_the_fourth_request_goes_to_the_spare(gateway: Gateway, upstream: Providers) -> None:
    for model in ("spared-1", "spared-2"):
        upstream.always(model, *whole(False))
    asked = [await who(gateway, "spared") for _ in range(RPM + 2)]
    assert asked == ["spared-1"] * RPM + ["spared-2"] * 2
    state = (await states(gateway))["spared-1"]
    assert (state["quota_left"], state["callable"], state["breaker"]) == ({"rpm": 0}, False, "closed")
    assert (await states(gateway))["spared-2"]["quota_left"] is None


async def test_many_at_once_use_it_up_and_no_more(gateway: Gateway, upstream: Providers) -> None:
    for model in ("burst-1", "burst-2"):
        upstream.always(model, *whole(False))
    asked = await asyncio.gather(*(who(gateway, "burst") for _ in range(3 * RPM)))
    assert sorted(str(one) for one in asked) == ["burst-1"] * RPM + ["burst-2"] * 2 * RPM


async def test_alone_it_says_when_to_come_back(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("alone-1", *whole(False))
    for _ in range(RPM):
        assert await who(gateway, "alone") == "alone-1"
    for _ in range(2):
        answer = await gateway.chat(model="alone")
        assert_refused(answer, 503, "no_deployment_available")
        assert 1 < int(answer.header("retry-after") or 0) <= REFILL_S + 1
    assert upstream.calls("alone-1") == RPM


async def test_a_fallback_is_asked_and_has_a_quota_of_its_own(
    gateway: Gateway, upstream: Providers
) -> None:
    for model in ("then-1", "alone-then-1"):
        upstream.always(model, *whole(False))
    asked = [await who(gateway, "then") for _ in range(1 + RPM)]
    assert asked == ["then-1"] + ["alone-then-1"] * RPM
    assert_refused(await gateway.chat(model="then"), 503, "no_deployment_available")


async def test_tokens_count_as_they_were_used(gateway: Gateway, upstream: Providers) -> None:
    """Each is foreseen to use more than 4096 tokens, and uses 18."""
    for model in ("tokens-1", "tokens-2"):
        upstream.always(model, *whole(False))
    assert [await who(gateway, "tokens") for _ in range(8)] == ["tokens-1"] * 8
    assert await who(gateway, "tokens", max_tokens=9_000) == "tokens-1"
    before, go = len(upstream.seen), asyncio.Event()
    upstream.once("tokens-1", wait_for(go), *whole(False))
    running = asyncio.get_running_loop().create_task(who(gateway, "tokens", max_tokens=9_000))
    await came(upstream, before + 1)
    assert await who(gateway, "tokens", max_tokens=9_000) == "tokens-2"
    go.set()
    assert await running == "tokens-1"


async def test_whoever_is_tried_next_counts_too(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("tried-1", send(error_answer("500 Internal Server Error")))
    upstream.always("tried-2", *whole(False))
    for _ in range(RPM):
        answer = await gateway.chat(model="tried")
        assert [name for name, _ in await tried(gateway, answer)] == ["tried-1", "tried-2"]
    answer = await gateway.chat(model="tried")
    assert answer.status != 200
    assert upstream.calls("tried-2") == RPM
