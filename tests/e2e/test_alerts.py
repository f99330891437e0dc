"""Budget alerts as people get them: a line in the log, a count, and a message to their hook, once each."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, PRICE, merged
from tests.e2e.routes import Providers, gauge, pool, routing, said
from tests.e2e.served import Served, came, served
from tests.fakes.answers import chat_body, json_answer
from tests.fakes.client import Answer
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-gw-alerts-0123456789abcdef"
OUTPUT_TOKENS = 3000
"""One answer costs 3 cents."""
TAKEN = send(json_answer({"ok": True}))


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test here looks after a process of its own."""


@pytest_asyncio.fixture(loop_scope="module")
async def providers() -> AsyncIterator[Providers]:
    usage = {"prompt_tokens": 0, "completion_tokens": OUTPUT_TOKENS, "total_tokens": OUTPUT_TOKENS}
    async with Providers() as running:
        running.always("m-1", send(json_answer(chat_body("fine", usage=usage))))
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def hook() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


def settings(providers: Providers, hook_url: str, tenant: dict[str, Any]) -> dict[str, Any]:
    assert PRICE["output_per_mtok_usd"] == 10
    groups = {"m": pool("a", max_output_tokens=10)}
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    one = {"models": ["*"], "keys": [{"id": "ci", "hash": f"sha256:{digest}"}], **tenant}
    own = {"tenants": {"acme": one}, "alerts": {"webhook_url": hook_url}}
    return merged(routing(providers, groups), own)


def hook_url(hook: Upstream) -> str:
    return f"{hook.url}/hook/{secrets.token_hex(16)}"


def budget(*alert_at: float) -> dict[str, Any]:
    return {"budget": {"usd": "0.1", "period": "total", "alert_at": list(alert_at)}}


async def spend(gateway: Served, count: int = 1, **headers: str) -> None:
    for _ in range(count):
        answer: Answer = await gateway.ask(
            CHAT, {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, key=KEY, headers=headers
        )
        assert said(answer) == "fine"
    await asyncio.sleep(0.1)


def shares(gateway: Served) -> list[float]:
    return [line["share"] for line in gateway.log("budget_alert")]


async def test_each_threshold_is_told_once(providers: Providers, hook: Upstream, tmp_path: Path) -> None:
    """Also when the process ends in between, and however it ends."""
    url = hook_url(hook)
    for _ in range(2):
        hook.next(TAKEN)
    async with served(tmp_path, providers, **settings(providers, url, budget(0.5, 0.8, 1.0))) as gateway:
        await spend(gateway)
        assert shares(gateway) == []
        await spend(gateway)
        (line,) = await gateway.logged("budget_alert")
        assert (line["level"], line["tenant"], line["scope"]) == ("warning", "acme", "tenant")
        assert (line["spent_usd"], line["limit_usd"]) == ("0.060000000", "0.100000000")
        assert line["period_ends"] is None
        await came(hook, 1)
        assert (hook.last.method, url.endswith(hook.last.path)) == ("POST", True)
        told = hook.last.json()
        assert told.pop("event") == "budget_alert" and told.pop("time")
        assert told == {name: line[name] for name in told} and set(told) >= {"tenant", "scope", "share"}
        await spend(gateway)
        await gateway.logged("budget_alert", 2)
        assert shares(gateway) == [0.5, 0.8]
        await came(hook, 2)
        for share, count in (("0.5", 1), ("0.8", 1), ("1", 0)):
            assert await gauge(gateway, "gateway_budget_alerts_total", tenant="acme", share=share) == count
        assert url not in gateway.stderr.read_text()
        assert await gateway.stop() == 0
        await gateway.start()
        await asyncio.sleep(0.2)
        assert shares(gateway) == []
        hook.next(TAKEN)
        await spend(gateway)
        await gateway.logged("budget_alert")
        assert shares(gateway) == [1.0]
        await came(hook, 3)
        await asyncio.sleep(0.1)
        gateway.kill()
        await gateway.start()
        asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        assert_refused(await gateway.ask(CHAT, asked, key=KEY), 429, "budget_exceeded")
        await asyncio.sleep(0.2)
        assert shares(gateway) == []
        assert len(hook.seen) == 3
        assert await gateway.stop() == 0


async def test_a_hook_that_fails_is_tried_again(
    providers: Providers, hook: Upstream, tmp_path: Path
) -> None:
    """Nobody who asks a model waits for it."""
    hook.next(send(json_answer({"error": "busy"}, status="503 Busy")))
    hook.next(TAKEN)
    async with served(tmp_path, providers, **settings(providers, hook_url(hook), budget(0.1))) as gateway:
        await spend(gateway)
        await came(hook, 1)
        await spend(gateway)
        await came(hook, 2)
        assert hook.seen[0].body == hook.seen[1].body
        assert gateway.log("webhook_failed") == []
        assert await gateway.stop() == 0


async def test_a_hook_that_is_away_holds_nothing_up(providers: Providers, tmp_path: Path) -> None:
    away = settings(providers, "http://127.0.0.1:9/hook", budget(0.1))
    async with served(tmp_path, providers, **away) as gateway:
        await spend(gateway, 3)
        assert shares(gateway) == [0.1]
        assert await gateway.stop() == 0
        assert not [line for line in gateway.log() if "traceback" in line]


async def test_alerts_of_features_and_users(providers: Providers, hook: Upstream, tmp_path: Path) -> None:
    each = budget(0.5)["budget"]
    tenant = {"feature_budgets": {"search": each}, "user_budget": {**each, "period": "month"}}
    for _ in range(3):
        hook.next(TAKEN)
    async with served(tmp_path, providers, **settings(providers, hook_url(hook), tenant)) as gateway:
        await spend(gateway, 2, **{"x-gateway-feature": "search", "x-gateway-user": "eve"})
        await spend(gateway, 2, **{"x-gateway-user": "adam"})
        lines = await gateway.logged("budget_alert", 3)
        assert sorted(line["scope"] for line in lines) == ["feature:search", "user:adam", "user:eve"]
        ends = {line["scope"]: line["period_ends"] for line in lines}
        assert ends["feature:search"] is None and ends["user:eve"].endswith("-01T00:00:00.000Z")
        await came(hook, 3)
        await spend(gateway, 1, **{"x-gateway-feature": "other"})
        assert len(gateway.log("budget_alert")) == 3
        assert await gateway.stop() == 0
