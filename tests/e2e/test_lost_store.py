"""A Redis that is frozen or dead: the tenants' terms decide; afterwards counters equal the ledger."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e import routes
from tests.e2e.operators import ADMIN, admin
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat, merged
from tests.e2e.routes import Providers, gauge, pool, routing, said, whole
from tests.e2e.served import came, served
from tests.fakes.answers import chat_body, json_answer
from tests.fakes.client import Answer, request
from tests.fakes.upstream import hang, send, wait_for
from tests.storage.redis_server import RedisServer, free_port, redis_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
RENEWED_S = 6.0
"""Within this time a tenant that asks has its lease, or a dead writer's neighbour knows of it."""
BACK_S = 10.0
BIG = {"prompt_tokens": 11, "completion_tokens": 100_000, "total_tokens": 100_011}
BIG_USD = Decimal("1.0000275")
BUDGET = {"usd": 100, "period": "total"}


def loss(limits: str = "local_share", budget: str = "lease", **more: Any) -> dict[str, Any]:
    return {"on_storage_loss": {"limits": limits, "budget": budget}, **more}


TENANTS: dict[str, dict[str, Any]] = {
    "free": {},
    "limits-deny": loss(limits="deny", limits_={"rpm": 100}),
    "limits-allow": loss(limits="allow", limits_={"rpm": 1, "concurrency": 1}),
    "limits-share": loss(limits_={"rpm": 3}),
    "places-share": loss(limits_={"concurrency": 1}),
    "budget-deny": loss(budget="deny", budget_=BUDGET),
    "budget-allow": loss(budget="allow", budget_={"usd": "0.5", "period": "total"}),
    "budget-lease": loss(budget_=BUDGET),
    "frozen": loss(budget_=BUDGET, limits_={"rpm": 10_000}),
}


def key_of(tenant: str) -> str:
    return f"sk-gw-lost-store-{tenant}-0123456789abcdef"


def settings(upstream: Providers, url: str) -> dict[str, Any]:
    patient = {"connect_s": 1, "first_event_s": 10, "idle_s": 1, "total_s": 15}
    groups = {"m": pool("a", retry={"attempts": 1}, max_output_tokens=100, timeouts=patient)}
    tenants = {
        name: {
            "models": ["*"],
            "keys": [{"id": "ci", "hash": f"sha256:{hashlib.sha256(key_of(name).encode()).hexdigest()}"}],
            **{field.removesuffix("_"): value for field, value in one.items()},
        }
        for name, one in TENANTS.items()
    }
    return merged(routing(upstream, groups), merged(ADMIN, {"tenants": tenants, "storage": {"url": url}}))


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def changes(upstream: Providers, redis: RedisServer) -> dict[str, Any]:
    return settings(upstream, redis.url)


@pytest_asyncio.fixture(loop_scope="module")
async def providers() -> AsyncIterator[Providers]:
    async with Providers() as running:
        yield running


async def ask(gateway: Gateway, tenant: str, **fields: Any) -> Answer:
    return await gateway.ask(CHAT, chat(**{"model": "m", **fields}), key=key_of(tenant))


async def until_lost(gateway: Gateway, upstream: Providers, count: int) -> None:
    """Somebody has to ask before it is known."""
    async with asyncio.timeout(BACK_S):
        while len(gateway.log("storage_lost")) < count:
            upstream.once("m-1", *whole(False))
            await ask(gateway, "free")
            await asyncio.sleep(0.05)
    upstream.forget()


async def until_back(gateway: Gateway, count: int) -> None:
    async with asyncio.timeout(BACK_S):
        while len(gateway.log("storage_back")) < count:
            await asyncio.sleep(0.02)


async def assert_degraded(gateway: Gateway, answer: Answer) -> None:
    assert said(answer) == "fine"
    assert answer.header("x-gateway-degraded") == "storage"
    row = await gateway.row(answer.header("x-request-id") or "")
    assert row["degraded"] == "storage"


async def assert_like_the_ledger(gateway: Gateway) -> None:
    """What the store has counted as spent is what the rows say, for each tenant with a budget."""
    await asyncio.sleep(0.3)
    rows, compared = gateway.rows(), 0
    for state in (await admin(gateway, "GET", "tenants")).json()["data"]:
        for budget in state["budgets"]:
            charged = [Decimal(row["charged_usd"]) for row in rows if row["tenant"] == state["tenant"]]
            assert Decimal(budget["spent_usd"]) == sum(charged), state["tenant"]
            compared += 1
    assert compared == sum("budget_" in one for one in TENANTS.values())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def leased(gateway: Gateway, upstream: Providers) -> None:
    """Every tenant has asked, and has its lease."""
    upstream.always("m-1", *whole(False))
    for tenant in TENANTS:
        assert said(await ask(gateway, tenant)) == "fine"
    await asyncio.sleep(RENEWED_S)


async def storage(gateway: Gateway) -> tuple[int, dict[str, Any]]:
    """The status of /readyz, and what it says of the store."""
    answer = await gateway.ask("/readyz")
    return answer.status, answer.json()["storage"]


@pytest.mark.usefixtures("leased")
async def test_a_frozen_store_costs_the_first_few_a_little(
    gateway: Gateway, upstream: Providers, redis: RedisServer
) -> None:
    upstream.always("m-1", *whole(False))
    assert await storage(gateway) == (200, {"degraded": False, "lost": None})
    redis.freeze()
    try:
        took_s = []
        for _ in range(40):
            began_s = time.monotonic()
            answer = await ask(gateway, "frozen")
            took_s.append(time.monotonic() - began_s)
            await assert_degraded(gateway, answer)
        assert max(took_s) < 0.5
        assert sum(one > 0.09 for one in took_s) <= 5, "only the first few wait at all"
        assert sum(took_s[10:]) < 1.5
        assert (await gateway.ask("/healthz")).status == 200
        status, state = await storage(gateway)
        assert (status, state["degraded"]) == (200, True)
        assert await gauge(gateway, "gateway_storage_degraded") == 1
    finally:
        redis.thaw()
    await until_back(gateway, 1)
    answer = await ask(gateway, "frozen")
    assert said(answer) == "fine" and answer.header("x-gateway-degraded") is None
    assert await gauge(gateway, "gateway_storage_degraded") == 0
    await assert_like_the_ledger(gateway)


@pytest.mark.usefixtures("leased")
async def test_a_dead_store(gateway: Gateway, upstream: Providers, redis: RedisServer) -> None:
    """Every policy at once, and what was begun before; then the store comes back without its memory."""
    lost, back = len(gateway.log("storage_lost")), len(gateway.log("storage_back"))
    go = asyncio.Event()
    upstream.once("m-1", wait_for(go), *whole(False))
    before = len(upstream.seen)
    async with gateway.client() as running:
        await running.send(request(CHAT, chat(model="m"), key=key_of("budget-lease")))
        await came(upstream, before + 1)
        redis.kill()
        await until_lost(gateway, upstream, lost + 1)
        upstream.always("m-1", *whole(False))
        await _limits_without(gateway, upstream)
        await _budgets_without(gateway, upstream)
        go.set()
        assert said(await running.read()) == "fine"
    assert await gauge(gateway, "gateway_storage_degraded") == 1
    assert await gauge(gateway, "gateway_storage_errors_total", operation="lost") >= 1
    redis.restart()
    await until_back(gateway, back + 1)
    await asyncio.sleep(1.0)  # everybody registers
    for tenant in ("limits-deny", "budget-deny", "budget-lease", "places-share"):
        answer = await ask(gateway, tenant)
        assert said(answer) == "fine", tenant
        assert answer.header("x-gateway-degraded") is None
    assert_refused(await ask(gateway, "budget-allow"), 429, "budget_exceeded")
    await assert_like_the_ledger(gateway)
    assert await gauge(gateway, "gateway_reservations_open") == 0


async def _limits_without(gateway: Gateway, upstream: Providers) -> None:
    await assert_degraded(gateway, await ask(gateway, "free"))
    assert_refused(await ask(gateway, "limits-deny"), 503, "storage_unavailable")
    for _ in range(5):
        await assert_degraded(gateway, await ask(gateway, "limits-allow"))
    limited = await gauge(gateway, "gateway_rate_limited_total", tenant="limits-share", limit="rpm")
    shared = [await ask(gateway, "limits-share") for _ in range(5)]
    assert [answer.status for answer in shared] == [200] * 3 + [429] * 2
    assert shared[0].header("x-ratelimit-limit-requests") == "3"
    for refused in shared[3:]:
        assert_refused(refused, 429, "rate_limit_exceeded")
    counted = await gauge(gateway, "gateway_rate_limited_total", tenant="limits-share", limit="rpm")
    assert counted == limited + 2
    upstream.once("m-1", hang())
    before = len(upstream.seen)
    async with gateway.client() as client:
        await client.send(request(CHAT, chat(model="m"), key=key_of("places-share")))
        await came(upstream, before + 1)
        assert_refused(await ask(gateway, "places-share"), 429, "concurrency_exceeded")
        await client.reset()
    async with asyncio.timeout(2):
        while (answer := await ask(gateway, "places-share")).status == 429:
            await asyncio.sleep(0.02)
    await assert_degraded(gateway, answer)


async def _budgets_without(gateway: Gateway, upstream: Providers) -> None:
    assert_refused(await ask(gateway, "budget-deny"), 503, "storage_unavailable")
    upstream.once("m-1", send(json_answer(chat_body("fine", usage=BIG))))
    await assert_degraded(gateway, await ask(gateway, "budget-allow"))
    await assert_degraded(gateway, await ask(gateway, "budget-allow"))
    await assert_degraded(gateway, await ask(gateway, "budget-lease"))
    upstream.once("m-1", send(json_answer(chat_body("fine", usage=BIG))))
    await assert_degraded(gateway, await ask(gateway, "budget-lease"))
    for _ in range(3):
        assert_refused(await ask(gateway, "budget-lease"), 503, "storage_unavailable")


async def test_begun_without_a_store(providers: Providers, tmp_path: Path) -> None:
    """Limits are kept here; of budgets nothing was set aside. It is found when it comes."""
    providers.always("m-1", *whole(False))
    port = free_port()
    async with served(tmp_path, providers, **settings(providers, f"redis://127.0.0.1:{port}")) as gateway:
        statuses = [(await ask(gateway, "limits-share")).status for _ in range(5)]
        assert statuses == [200] * 3 + [429] * 2
        assert_refused(await ask(gateway, "budget-lease"), 503, "storage_unavailable")
        await assert_degraded(gateway, await ask(gateway, "budget-allow"))
        states = (await admin(gateway, "GET", "tenants")).json()["data"]
        assert {state["budgets"] is None for state in states if "budget" in state["tenant"]} == {True}
        with _late_server(port):
            await until_back(gateway, 1)
            await asyncio.sleep(1.0)
            answer = await ask(gateway, "budget-lease")
            assert said(answer) == "fine" and answer.header("x-gateway-degraded") is None
            await assert_like_the_ledger(gateway)
            assert await gateway.stop() == 0
        gateway.assert_whole()


def _late_server(port: int) -> Any:
    import contextlib
    import tempfile

    @contextlib.contextmanager
    def running() -> Iterator[RedisServer]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            server = RedisServer(folder, port=port)
            try:
                yield server
            finally:
                server.kill()

    return running()
