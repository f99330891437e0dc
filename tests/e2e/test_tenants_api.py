"""What operators see of tenants and of the configuration: all that matters, and no secret."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest

from gateway.admission.period import bounds
from tests.e2e import routes
from tests.e2e.operators import ADMIN, TOKEN, admin
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat, merged
from tests.e2e.routes import ANSWER_USD, KEYS, Providers, gauge, pool, routing, said, whole
from tests.e2e.served import came
from tests.fakes.client import request
from tests.fakes.upstream import hang

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
KEY = "sk-gw-tenants-api-0123456789abcdef"
HOOK = "http://127.0.0.1:9/hook/T0123456789secret"
RICH: dict[str, Any] = {
    "models": ["m", "nick"],
    "limits": {"rpm": 600, "tpm": 100_000},
    "budget": {"usd": "12.5", "period": "month"},
    "feature_budgets": {"search": {"usd": 1, "period": "hour"}},
    "user_budget": {"usd": 1},
}


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    key = {"id": "ci", "hash": f"sha256:{digest}", "budget": {"usd": 3, "period": "total"}}
    more = {
        "tenants": {"rich": {**RICH, "keys": [key]}, "plain": {"models": ["*"]}},
        "aliases": {"nick": "m"},
        "alerts": {"webhook_url": HOOK},
    }
    groups = {"m": pool("a", max_output_tokens=100, retry={"attempts": 1})}
    return merged(routing(upstream, groups), merged(ADMIN, more))


async def tenants(gateway: Gateway) -> dict[str, dict[str, Any]]:
    answer = await admin(gateway, "GET", "tenants")
    assert answer.status == 200, answer.body
    return {one["tenant"]: one for one in answer.json()["data"]}


@pytest.mark.parametrize("path", ["tenants", "config"])
@pytest.mark.parametrize("token", [None, "", KEY, TOKEN[:-1]])
async def test_only_for_operators(gateway: Gateway, path: str, token: str | None) -> None:
    assert_refused(await admin(gateway, "GET", path, token=token), 401, "invalid_api_key")


async def test_a_tenant_without_bounds(gateway: Gateway) -> None:
    plain = (await tenants(gateway))["plain"]
    none = {"rpm": None, "tpm": None, "concurrency": None}
    assert plain == {"tenant": "plain", "models": None, "limits": none, "budgets": []}


async def test_a_tenant_with_budgets(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("m-1", *whole(False))
    headers = {"x-gateway-feature": "search", "x-gateway-user": "eve"}
    answer = await gateway.ask(CHAT, chat(model="m"), key=KEY, headers=headers)
    assert said(answer) == "fine"
    await gateway.row(answer.header("x-request-id") or "")
    await asyncio.sleep(0.1)
    rich = (await tenants(gateway))["rich"]
    assert rich["models"] == ["m", "nick"]
    assert rich["limits"] == {"rpm": 600, "tpm": 100_000, "concurrency": None}
    budgets = {one.pop("scope"): one for one in rich["budgets"]}
    assert list(budgets) == ["tenant", "key:ci", "feature:search"]
    now_s = int(datetime.now(timezone.utc).timestamp())
    for scope, period, limit in (
        ("tenant", "month", "12.500000000"),
        ("key:ci", "total", "3.000000000"),
        ("feature:search", "hour", "1.000000000"),
    ):
        one = budgets[scope]
        assert (one["period"], one["limit_usd"], one["spent_usd"]) == (period, limit, ANSWER_USD)
        assert one["reserved_usd"] == "0.000000000"
        assert Decimal(one["remaining_usd"]) == Decimal(limit) - Decimal(ANSWER_USD)
        if period == "total":
            assert one["returns"] is None
        else:
            ends = datetime.fromisoformat(one["returns"].replace("Z", "+00:00")).timestamp()
            assert ends in (bounds(period, now_s)[1], bounds(period, now_s + 5)[1])  # type: ignore[arg-type]


async def test_what_runs_is_reserved(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("m-1", hang())
    before = len(upstream.seen)
    (spent,) = [one["spent_usd"] for one in (await tenants(gateway))["rich"]["budgets"][:1]]
    async with gateway.client() as client:
        await client.send(request(CHAT, chat(model="m"), key=KEY))
        await came(upstream, before + 1)
        budget = (await tenants(gateway))["rich"]["budgets"][0]
        assert Decimal(budget["reserved_usd"]) > Decimal("0.001")
        assert budget["spent_usd"] == spent
        assert await gauge(gateway, "gateway_reservations_open") == 1
    async with asyncio.timeout(2):
        while Decimal((await tenants(gateway))["rich"]["budgets"][0]["reserved_usd"]):
            await asyncio.sleep(0.02)


async def test_the_gauge_says_what_is_left(gateway: Gateway) -> None:
    left = (await tenants(gateway))["rich"]["budgets"][0]["remaining_usd"]
    shown = await gauge(gateway, "gateway_budget_remaining_usd", tenant="rich")
    assert shown == pytest.approx(float(left), abs=1e-9)


async def test_the_configuration_without_secrets(gateway: Gateway) -> None:
    answer = await admin(gateway, "GET", "config")
    assert answer.status == 200
    config = answer.json()
    assert config["tenants"]["rich"]["limits"]["rpm"] == 600
    assert config["tenants"]["rich"]["budget"]["usd"] == "12.5"
    assert config["models"]["m"]["max_output_tokens"] == 100
    assert config["aliases"] == {"nick": "m"}
    assert config["providers"]["a"]["base_url"].startswith("http://127.0.0.1")
    assert config["providers"]["a"]["api_key"] == "***"
    assert config["server"]["admin_token"] == "***"
    assert config["alerts"]["webhook_url"] == "***"
    (key,) = config["tenants"]["rich"]["keys"]
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    assert key["hash"] == f"sha256:{digest[:8]}…"
    for secret in (TOKEN, KEY, HOOK, digest, *KEYS.values(), *gateway.secrets):
        assert secret.encode() not in answer.body


async def test_both_are_described(gateway: Gateway) -> None:
    described = (await admin(gateway, "GET", "openapi.json")).json()
    assert {"/admin/v1/tenants", "/admin/v1/config"} <= described["paths"].keys()
    state = described["components"]["schemas"]["BudgetState"]["properties"]
    assert {"limit_usd", "spent_usd", "reserved_usd", "remaining_usd", "returns"} <= state.keys()
    assert orjson.dumps(described)


@pytest.mark.parametrize("path", ["tenants", "config"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_only_to_be_read(gateway: Gateway, path: str, method: str) -> None:
    assert (await admin(gateway, method, path, {})).status == 405
