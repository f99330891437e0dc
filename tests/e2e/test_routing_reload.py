"""A reload keeps what was learned about the deployments that stay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.rig import samples
from tests.e2e.routes import Providers, breaker, cooldown_s, pool, routing, said, tried, whole
from tests.e2e.served import Served, served
from tests.fakes.answers import error_answer, json_answer
from tests.fakes.upstream import send

OPEN = 2


@pytest.fixture
async def upstream() -> AsyncIterator[Providers]:
    async with Providers() as running:
        yield running


@pytest.fixture
async def gateway(tmp_path: Path, upstream: Providers) -> AsyncIterator[Served]:
    groups = {"limited": pool("a", "b"), "failing": pool("a", "b", breaker={"failures": 3, "open_s": 30})}
    async with served(tmp_path, upstream, **routing(upstream, groups)) as running:
        yield running
        assert await running.stop() == 0
        running.assert_whole()


@pytest.fixture(autouse=True)
def settled() -> None:
    """``gateway`` looks after its own end."""


async def test_cooldowns_and_breakers_outlive_a_reload(gateway: Served, upstream: Providers) -> None:
    upstream.once("limited-1", send(error_answer("429 Too Many Requests")))
    upstream.always("failing-1", send(error_answer("500 Internal Server Error")))
    for model in ("limited-2", "failing-2"):
        upstream.always(model, *whole(False))
    for group in ("limited", "failing", "failing", "failing"):
        assert said(await gateway.chat(model=group)) == "fine"
    before_s = await cooldown_s(gateway, "limited-1")
    assert before_s > 5

    gateway.configure({"models": routing(upstream, {"more": pool("c")})["models"]})
    await gateway.reloaded("ok", 1)
    assert before_s - 5 < await cooldown_s(gateway, "limited-1") < before_s
    assert await breaker(gateway, "failing-1") == OPEN
    for group in ("limited", "failing"):
        got = await gateway.chat(model=group)
        assert await tried(gateway, got) == [(f"{group}-2", "ok")]
    assert upstream.calls("limited-1", "failing-1") == 4


async def test_a_deployment_that_is_another_now_begins_anew(gateway: Served, upstream: Providers) -> None:
    for model in ("limited-1", "limited-2"):
        upstream.once(model, send(json_answer({}, "retry-after: 30", status="429 Too Many Requests")))
    assert (await gateway.chat(model="limited")).status == 429
    assert await cooldown_s(gateway, "limited-1") > 0 < await cooldown_s(gateway, "limited-2")

    renewed = routing(upstream, {"limited": pool("a", models=["upgraded"])})["models"]
    gateway.configure({"models": renewed})
    await gateway.reloaded("ok", 1)
    upstream.once("upgraded", *whole(False))
    assert await tried(gateway, await gateway.chat(model="limited")) == [("limited-1", "ok")]
    known = samples(await gateway.metrics())["gateway_cooldown_seconds"]
    assert "limited-2" not in {labels["deployment"] for labels, _ in known}
