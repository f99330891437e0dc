"""Budgets as clients meet them: reserved before, charged after, and never spent twice."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from gateway.accounting.tokens import estimate_prompt
from tests.e2e import routes
from tests.e2e.operators import ADMIN, admin
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, PRICE, Gateway, chat, merged
from tests.e2e.routes import ANSWER_USD, Providers, gauge, pool, routing, said, whole
from tests.e2e.served import Served, served
from tests.fakes.answers import chat_body, chunk, error_answer, json_answer, open_stream
from tests.fakes.client import Answer, request
from tests.fakes.upstream import hang, send, wait, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
CAP = 100
INPUT = -(-estimate_prompt(chat()) * 5 // 4)
WORST_USD = INPUT * Decimal("2.5e-6") + CAP * Decimal("10e-6")
"""What is reserved for the rig's request, at the dearest deployment."""
ANSWER = Decimal(ANSWER_USD)
BIG = {"prompt_tokens": 11, "completion_tokens": 100_000, "total_tokens": 100_011}
BIG_USD = Decimal("1.0000275")


def usd(amount: Decimal | str, period: str = "month", **more: Any) -> dict[str, Any]:
    return {"usd": str(amount), "period": period, **more}


TENANTS: dict[str, dict[str, Any]] = {
    "two": {"budget": usd(WORST_USD * 2, "total"), "limits": {"rpm": 100}},
    "hour": {"budget": usd(WORST_USD, "hour")},
    "month": {"budget": usd("0.01")},
    "hidden": {"budget": usd("1.5")},
    "many": {"budget": usd(WORST_USD * 10)},
    "dear": {"budget": usd("1")},
    "retried": {"budget": usd("1")},
    "capped": {"budget": usd("1")},
    "outrun": {"budget": usd("0.002")},
    "scopes": {
        "budget": usd("1"),
        "feature_budgets": {"search": usd(WORST_USD, "day"), "free": usd("1")},
        "user_budget": usd(WORST_USD, "week"),
    },
    "victim": {"budget": usd("1")},
    "denied": {},
    "flagged": {"budget": usd("1"), "on_unknown_price": "flag"},
    "unbound": {},
}


def key_of(tenant: str, name: str = "ci") -> str:
    return f"sk-gw-budgets-{tenant}-{name}-0123456789abcdef"


def _key(tenant: str, name: str = "ci", **fields: Any) -> dict[str, Any]:
    digest = hashlib.sha256(key_of(tenant, name).encode()).hexdigest()
    return {"id": name, "hash": f"sha256:{digest}", **fields}


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    once: dict[str, Any] = {"retry": {"attempts": 1}, "max_output_tokens": CAP}
    twice: dict[str, Any] = {
        "retry": {"attempts": 2, "backoff_s": 0.01, "budget": 1.0},
        "max_output_tokens": CAP,
    }
    groups = {
        "m": pool("a", **once),
        "mixed": pool("a", "b", **once),
        "again": pool("a", "b", **twice),
        "unpriced": pool("a", models=["nobody-knows-its-price"], **once),
    }
    dearer = {name: value * 10 for name, value in PRICE.items()}
    groups["mixed"]["deployments"][1]["price"] = dearer
    del groups["unpriced"]["deployments"][0]["price"]
    everyone = {name: {"models": ["*"], "keys": [_key(name)], **one} for name, one in TENANTS.items()}
    everyone["scopes"]["keys"] += [
        _key("scopes", "part", budget=usd(WORST_USD)),
        _key("scopes", "tagged", tags={"feature": "search"}),
    ]
    return merged(routing(upstream, groups), merged(ADMIN, {"tenants": everyone}))


async def ask(gateway: Gateway, tenant: str, key: str = "ci", headers: Any = None, **fields: Any) -> Answer:
    body = chat(**{"model": "m", **fields})
    return await gateway.ask(CHAT, body, key=key_of(tenant, key), headers=headers)


async def budgets(gateway: Gateway, tenant: str) -> dict[str, dict[str, Any]]:
    """By scope, once no request of the tenant is open."""
    until_s = time.monotonic() + 1.0
    while True:
        answer = await admin(gateway, "GET", "tenants")
        (state,) = [one for one in answer.json()["data"] if one["tenant"] == tenant]
        found = {one["scope"]: one for one in state["budgets"]}
        if not any(Decimal(one["reserved_usd"]) for one in found.values()):
            return found
        assert time.monotonic() < until_s, f"still reserved: {found}"
        await asyncio.sleep(0.02)


async def spent(gateway: Gateway, tenant: str, scope: str = "tenant") -> Decimal:
    return Decimal((await budgets(gateway, tenant))[scope]["spent_usd"])


async def running(gateway: Gateway, upstream: Providers, client: Any, tenant: str, **more: Any) -> None:
    """Returns when the provider has the request."""
    before = len(upstream.seen)
    await client.send(request(CHAT, chat(**{"model": "m", **more}), key=key_of(tenant)))
    async with asyncio.timeout(5):
        while len(upstream.seen) == before:
            await asyncio.sleep(0.005)


async def test_only_reserved_and_spent_are_two_things(gateway: Gateway, upstream: Providers) -> None:
    """What running requests hold comes back; what is spent does not."""
    go = asyncio.Event()
    usage = {"prompt_tokens": INPUT, "completion_tokens": CAP, "total_tokens": INPUT + CAP}
    for _ in range(2):
        upstream.once("m-1", wait_for(go), send(json_answer(chat_body("fine", usage=usage))))
    async with gateway.client() as one, gateway.client() as other:
        await running(gateway, upstream, one, "two")
        await running(gateway, upstream, other, "two")
        reserved = await ask(gateway, "two")
        assert_refused(reserved, 429, "budget_exceeded")
        assert (reserved.header("retry-after"), reserved.header("x-should-retry")) == ("1", "true")
        assert reserved.header("x-ratelimit-remaining-requests") == "98", "no other limit was touched"
        go.set()
        for client in (one, other):
            assert said(await client.read()) == "fine"
    assert await spent(gateway, "two") == WORST_USD * 2
    gone = await ask(gateway, "two", max_tokens=1)
    assert_refused(gone, 429, "budget_exceeded")
    assert gone.header("x-should-retry") == "false"
    assert gone.header("retry-after") == "86400", "a total has no end"
    assert reserved.json()["error"]["message"] != gone.json()["error"]["message"]
    assert await gauge(gateway, "gateway_rate_limited_total", tenant="two", limit="budget") == 2
    assert await gauge(gateway, "gateway_budget_remaining_usd", tenant="two") == 0


async def test_spent_until_the_period_ends(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("m-1", *whole(False))
    assert said(await ask(gateway, "hour")) == "fine"
    assert await spent(gateway, "hour") == ANSWER
    refused = await ask(gateway, "hour")
    left_s = 3600 - int(time.time()) % 3600
    assert_refused(refused, 429, "budget_exceeded")
    assert refused.header("x-should-retry") == "false"
    assert 0 <= int(refused.header("retry-after") or 0) - left_s <= 2 or left_s < 3


async def test_what_was_not_used_is_back_soon(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("m-1", *whole(False))
    for count in range(1, 6):
        began_s = time.monotonic()
        assert said(await ask(gateway, "month")) == "fine"
        assert await spent(gateway, "month") == ANSWER * count
        assert time.monotonic() - began_s < 1.5
    state = (await budgets(gateway, "month"))["tenant"]
    assert Decimal(state["remaining_usd"]) == Decimal("0.01") - 5 * ANSWER
    shown = await gauge(gateway, "gateway_budget_remaining_usd", tenant="month")
    assert shown == pytest.approx(float(Decimal("0.01") - 5 * ANSWER), abs=1e-12)


async def test_more_than_the_reserve_is_charged_in_full(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("m-1", send(json_answer(chat_body("long thought", usage=BIG))))
    answer = await ask(gateway, "hidden", max_tokens=10)
    assert said(answer) == "long thought"
    assert Decimal(answer.header("x-gateway-cost-usd") or 0) == BIG_USD
    assert await spent(gateway, "hidden") == BIG_USD
    upstream.once("m-1", send(json_answer(chat_body("again", usage=BIG))))
    assert said(await ask(gateway, "hidden", max_tokens=10)) == "again"
    assert await spent(gateway, "hidden") == 2 * BIG_USD
    assert_refused(await ask(gateway, "hidden", max_tokens=1), 429, "budget_exceeded")
    assert await gauge(gateway, "gateway_budget_remaining_usd", tenant="hidden") < 0


async def test_a_stream_that_outruns_its_reserve_ends_well(gateway: Gateway, upstream: Providers) -> None:
    """It is finished and charged; the bound is one answer."""
    events = [chunk({"content": f"word{i} "}) for i in range(300)]
    usage = {"prompt_tokens": 11, "completion_tokens": 600, "total_tokens": 611}
    events += [chunk({}, finish="stop"), chunk(None, usage=usage), b"data: [DONE]\n\n"]
    upstream.once("m-1", open_stream(*events), send(b"0\r\n\r\n"))
    answer = await ask(gateway, "outrun", stream=True)
    assert said(answer).endswith("word299 ")
    row = await gateway.row(answer.header("x-request-id") or "")
    assert Decimal(row["charged_usd"]) == 11 * Decimal("2.5e-6") + 600 * Decimal("10e-6")
    assert await spent(gateway, "outrun") == Decimal(row["charged_usd"])
    assert_refused(await ask(gateway, "outrun"), 429, "budget_exceeded")


async def test_many_at_once_share_one_budget(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("m-1", wait(0.3), *whole(False))
    answers = await asyncio.gather(*(ask(gateway, "many") for _ in range(40)))
    codes = [answer.status for answer in answers]
    assert codes.count(200) == 10
    assert codes.count(429) == 30
    assert {answer.code for answer in answers if answer.status == 429} == {"budget_exceeded"}
    assert await spent(gateway, "many") == 10 * ANSWER


async def test_the_cap_is_sent_where_a_budget_applies(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("m-1", *whole(False))
    await ask(gateway, "capped")
    assert upstream.last.json()["max_tokens"] == CAP
    await ask(gateway, "capped", max_tokens=CAP * 5)
    assert upstream.last.json()["max_tokens"] == CAP * 5
    await ask(gateway, "unbound")
    assert "max_tokens" not in upstream.last.json()


async def test_the_dearest_that_may_answer_is_reserved(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("mixed-1", hang())
    async with gateway.client() as client:
        await running(gateway, upstream, client, "dear", model="mixed")
        state = await admin(gateway, "GET", "tenants")
        (dear,) = [one for one in state.json()["data"] if one["tenant"] == "dear"]
        assert Decimal(dear["budgets"][0]["reserved_usd"]) == 10 * WORST_USD
    left = await spent(gateway, "dear")
    assert 0 < left < WORST_USD, "by the price of the one that was asked"


async def test_a_second_attempt_is_charged_once(gateway: Gateway, upstream: Providers) -> None:
    """The provider bills both where it worked on both; the tenant pays for the answer."""
    upstream.once("again-1", send(error_answer("500 Oops")))
    upstream.once("again-2", *whole(False))
    answer = await ask(gateway, "retried", model="again")
    assert said(answer) == "fine"
    row = await gateway.row(answer.header("x-request-id") or "")
    assert [one["outcome"] for one in row["attempts"]] == ["upstream_error", "ok"]
    assert Decimal(row["charged_usd"]) == ANSWER
    assert Decimal(row["cost_usd"]) >= ANSWER
    assert await spent(gateway, "retried") == ANSWER


async def test_a_failure_costs_nothing(gateway: Gateway, upstream: Providers) -> None:
    before = await spent(gateway, "retried")
    for script in (send(error_answer("400 Bad Request")), send(error_answer("503 Busy"))):
        upstream.once("m-1", script)
        assert (await ask(gateway, "retried")).status >= 400
    assert await spent(gateway, "retried") == before


async def test_budgets_of_keys_features_and_users(gateway: Gateway, upstream: Providers) -> None:
    """Each holds beside the tenant's; what one scope has spent is in the others that hold for it."""
    upstream.always("m-1", *whole(False))
    cases: list[tuple[str, dict[str, str], str]] = [
        ("part", {}, "key 'part'"),
        ("ci", {"x-gateway-feature": "search"}, "feature 'search'"),
        ("ci", {"x-gateway-user": "eve"}, "user 'eve'"),
    ]
    for count, (key, headers, shown) in enumerate(cases, 1):
        assert said(await ask(gateway, "scopes", key=key, headers=headers)) == "fine"
        assert await spent(gateway, "scopes") == count * ANSWER
        refused = await ask(gateway, "scopes", key=key, headers=headers)
        assert_refused(refused, 429, "budget_exceeded")
        assert refused.header("x-should-retry") == "false"
        assert shown in refused.json()["error"]["message"]
    state = await budgets(gateway, "scopes")
    assert {scope: Decimal(one["spent_usd"]) for scope, one in state.items()} == {
        "tenant": 3 * ANSWER,
        "key:part": ANSWER,
        "feature:search": ANSWER,
        "feature:free": 0,
    }
    assert said(await ask(gateway, "scopes", headers={"x-gateway-user": "adam"})) == "fine"
    for kind in ("key", "feature", "user"):
        assert (
            await gauge(gateway, "gateway_rate_limited_total", tenant="scopes", limit=f"{kind}_budget") == 1
        )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-gateway-feature": "free"},
        {"x-gateway-tags": "feature=free"},
        {"x-gateway-tags": "feature=free,k=v", "x-gateway-feature": "free"},
    ],
    ids=str,
)
async def test_a_keys_own_feature_pays(gateway: Gateway, headers: dict[str, str]) -> None:
    """The budget of its feature is spent by the test before."""
    refused = await ask(gateway, "scopes", key="tagged", headers=headers)
    assert_refused(refused, 429, "budget_exceeded")
    assert "'search'" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-gateway-tags": "tenant=victim"},
        {"x-gateway-tenant": "victim"},
        {"x-gateway-tags": "tenant=victim,key=ci,user=victim", "x-gateway-user": "victim"},
        {"x-gateway-feature": "victim"},
        {"openai-organization": "victim", "openai-project": "victim"},
    ],
    ids=str,
)
async def test_nobody_else_pays(gateway: Gateway, upstream: Providers, headers: dict[str, str]) -> None:
    upstream.once("m-1", *whole(False))
    before = await spent(gateway, "retried")
    fields: dict[str, Any] = {"user": "victim", "metadata": {"tenant": "victim"}}
    answer = await ask(gateway, "retried", headers=headers, **fields)
    assert said(answer) == "fine"
    row = await gateway.row(answer.header("x-request-id") or "")
    assert (row["tenant"], row["key"]) == ("retried", "ci")
    assert await spent(gateway, "retried") == before + ANSWER
    assert await spent(gateway, "victim") == 0


async def test_an_unknown_price_is_refused(gateway: Gateway, upstream: Providers) -> None:
    refused = await ask(gateway, "denied", model="unpriced")
    assert_refused(refused, 403, "price_unknown")
    assert refused.json()["error"]["param"] == "model"


async def test_an_unknown_price_is_marked(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("nobody-knows-its-price", *whole(False))
    before = await gauge(gateway, "gateway_unpriced_tokens_total", model="unpriced")
    answer = await ask(gateway, "flagged", model="unpriced")
    assert said(answer) == "fine"
    assert answer.header("x-gateway-cost-usd") is None
    row = await gateway.row(answer.header("x-request-id") or "")
    assert row["price"] is None
    assert row["usage"]["output_tokens"] == 7
    assert await spent(gateway, "flagged") == 0
    assert await gauge(gateway, "gateway_unpriced_tokens_total", model="unpriced") == before + 18


async def test_money_is_whole_in_every_answer(gateway: Gateway, upstream: Providers) -> None:
    """Decimal strings with nine places; no floats."""
    answer = await admin(gateway, "GET", "tenants")
    for state in answer.json()["data"]:
        for budget in state["budgets"]:
            for name in ("limit_usd", "spent_usd", "reserved_usd", "remaining_usd"):
                assert isinstance(budget[name], str) and len(budget[name].rpartition(".")[2]) == 9
            total = Decimal(budget["spent_usd"]) + Decimal(budget["reserved_usd"])
            assert total + Decimal(budget["remaining_usd"]) == Decimal(budget["limit_usd"])
    assert orjson.loads(answer.body)["data"]


# What follows has gateways of its own, which end and change.


@pytest_asyncio.fixture(loop_scope="module")
async def providers() -> AsyncIterator[Providers]:
    async with Providers() as running:
        yield running


def own(providers: Providers, tenant: dict[str, Any]) -> dict[str, Any]:
    groups = {"m": pool("a", max_output_tokens=CAP, retry={"attempts": 1})}
    one = {"models": ["*"], "keys": [_key("own"), _key("own", "part")], **tenant}
    return merged(routing(providers, groups), merged(ADMIN, {"tenants": {"own": one}}))


async def test_a_budget_survives_a_restart(providers: Providers, tmp_path: Path) -> None:
    providers.always("m-1", *whole(False))
    limit = ANSWER * 3 + WORST_USD
    async with served(tmp_path, providers, **own(providers, {"budget": usd(limit, "total")})) as gateway:
        for _ in range(2):
            assert said(await ask(gateway, "own")) == "fine"
        assert await spent(gateway, "own") == 2 * ANSWER
        assert await gateway.stop() == 0
        await gateway.start()
        assert await spent(gateway, "own") == 2 * ANSWER
        answer = await ask(gateway, "own")
        assert said(answer) == "fine"
        await gateway.row(answer.header("x-request-id") or "")
        gateway.kill()
        await gateway.start()
        assert await spent(gateway, "own") == 3 * ANSWER
        assert said(await ask(gateway, "own")) == "fine"
        assert await spent(gateway, "own") == 4 * ANSWER
        assert_refused(await ask(gateway, "own"), 429, "budget_exceeded")
        assert await gateway.stop() == 0
        gateway.assert_proved()


async def test_what_was_running_is_charged_after_a_kill(providers: Providers, tmp_path: Path) -> None:
    providers.once("m-1", hang())
    async with served(tmp_path, providers, **own(providers, {"budget": usd("1", "total")})) as gateway:
        async with gateway.client() as client:
            await running(gateway, providers, client, "own")
            await asyncio.sleep(0.1)
            gateway.kill()
        await gateway.start()
        assert await spent(gateway, "own") == WORST_USD
        assert await gateway.stop() == 0


async def test_a_new_budget_counts_what_was_spent_before(providers: Providers, tmp_path: Path) -> None:
    providers.always("m-1", *whole(False))
    async with served(tmp_path, providers, **own(providers, {})) as gateway:
        for _ in range(3):
            assert said(await ask(gateway, "own")) == "fine"
        assert (
            said(await ask(gateway, "own", key="part", headers={"x-gateway-feature": "search"})) == "fine"
        )
        await asyncio.sleep(0.2)
        _limit_to(gateway, budget=usd("1", "month"), feature_budgets={"search": usd("1", "total")})
        await gateway.reloaded("ok", 1)
        assert await spent(gateway, "own") == 4 * ANSWER
        assert await spent(gateway, "own", "feature:search") == ANSWER
        _limit_to(gateway, budget=usd(4 * ANSWER, "month"))
        await gateway.reloaded("ok", 2)
        assert_refused(await ask(gateway, "own"), 429, "budget_exceeded")
        _limit_to(gateway, budget=usd("2", "month"))
        await gateway.reloaded("ok", 3)
        assert said(await ask(gateway, "own")) == "fine"
        assert await spent(gateway, "own") == 5 * ANSWER
        assert await gateway.stop() == 0


async def test_a_new_budget_misses_nothing_under_load(providers: Providers, tmp_path: Path) -> None:
    """Neither what ends in the moment of the change nor what runs through it."""
    providers.always("m-1", wait(0.05), *whole(False))
    async with served(tmp_path, providers, **own(providers, {})) as gateway:
        changed = asyncio.Event()

        async def load() -> None:
            while not changed.is_set():
                assert said(await ask(gateway, "own")) == "fine"

        async with asyncio.TaskGroup() as loads:
            for _ in range(4):
                loads.create_task(load())
            await asyncio.sleep(0.3)
            _limit_to(gateway, budget=usd("100", "month"))
            await gateway.reloaded("ok", 1)
            await spent_some(gateway)
            changed.set()
        async with asyncio.timeout(8):
            while await spent(gateway, "own") < len(gateway.rows()) * ANSWER:
                await asyncio.sleep(0.1)
        assert await spent(gateway, "own") == len(gateway.rows()) * ANSWER
        assert await gateway.stop() == 0


async def spent_some(gateway: Served) -> None:
    async with asyncio.timeout(5):
        while not Decimal((await states(gateway))["own"][0]["spent_usd"]):
            await asyncio.sleep(0.01)


async def states(gateway: Gateway) -> dict[str, list[dict[str, Any]]]:
    found = (await admin(gateway, "GET", "tenants")).json()["data"]
    return {state["tenant"]: state["budgets"] for state in found}


def _limit_to(gateway: Served, **tenant: Any) -> None:
    gateway.configure({"tenants": {"own": tenant}})
