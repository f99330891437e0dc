"""Clients that leave early, where the exact cost is wanted: the answer is read on, within bounds."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e import routes
from tests.e2e.operators import ADMIN, admin, kill, unkill
from tests.e2e.rig import CHAT, Gateway, chat, merged
from tests.e2e.routes import ANSWER_USD, Providers, gauge, pool, routing, said, whole
from tests.e2e.served import came, served
from tests.fakes.answers import (
    chat_body,
    chat_stream,
    chunk,
    chunked,
    error_answer,
    json_answer,
    open_stream,
)
from tests.fakes.client import RawClient, request
from tests.fakes.upstream import Step, flood, hang, reset, send, wait, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
LEFT_WITHIN_S = 1.0
ANSWER = Decimal(ANSWER_USD)
BEGUN = [chunk({"role": "assistant", "content": ""}), chunk({"content": "one "})]
REST = chat_stream(["two ", "three"])[1:]

TENANTS: dict[str, dict[str, Any]] = {
    "reads": {"on_disconnect": "drain", "budget": {"usd": 1000, "period": "total"}},
    "stops": {"on_disconnect": "abort", "budget": {"usd": 1000, "period": "total"}},
    "single": {"on_disconnect": "drain", "limits": {"concurrency": 1}},
}


def key_of(tenant: str) -> str:
    return f"sk-gw-drain-{tenant}-0123456789abcdef"


def settings(upstream: Providers) -> dict[str, Any]:
    groups = {
        "m": pool("a", retry={"attempts": 1}, timeouts={"first_event_s": 3, "idle_s": 3, "total_s": 10}),
        "again": pool("a", "b", retry={"attempts": 3, "backoff_s": 0, "budget": 1.0}),
    }
    tenants = {
        name: {
            "models": ["*"],
            "keys": [{"id": "ci", "hash": f"sha256:{hashlib.sha256(key_of(name).encode()).hexdigest()}"}],
            **one,
        }
        for name, one in TENANTS.items()
    }
    return merged(routing(upstream, groups), merged(ADMIN, {"tenants": tenants}))


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    return settings(upstream)


@pytest_asyncio.fixture(loop_scope="module")
async def providers() -> AsyncIterator[Providers]:
    async with Providers() as running:
        yield running


async def begin(
    gateway: Gateway, upstream: Providers, client: RawClient, request_id: str, tenant: str, **fields: Any
) -> None:
    """Returns when the provider has the request."""
    before = len(upstream.seen)
    body = chat(**{"model": "m", **fields})
    await client.send(request(CHAT, body, key=key_of(tenant), headers={"x-request-id": request_id}))
    await came(upstream, before + 1)


async def spent(gateway: Gateway, tenant: str) -> Decimal:
    """Once nothing is reserved."""
    until_s = time.monotonic() + 2.0
    while True:
        states = (await admin(gateway, "GET", "tenants")).json()["data"]
        (budget,) = next(one for one in states if one["tenant"] == tenant)["budgets"]
        if not Decimal(budget["reserved_usd"]):
            return Decimal(budget["spent_usd"])
        assert time.monotonic() < until_s, budget
        await asyncio.sleep(0.02)


def assert_exact(row: dict[str, Any]) -> None:
    assert (row["outcome"], row["cost_source"]) == ("client_gone", "provider")
    assert (row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == (11, 7)
    assert Decimal(row["charged_usd"]) == Decimal(row["cost_usd"]) == ANSWER


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_in_mid_stream(gateway: Gateway, upstream: Providers, leave: str) -> None:
    go = asyncio.Event()
    rest = send(*(chunked([event], end=False) for event in REST), chunked([]), pause_s=0.01)
    upstream.once("m-1", open_stream(*BEGUN), wait_for(go), rest)
    before, request_id = await spent(gateway, "reads"), f"mid-stream-{leave}"
    async with gateway.client() as client:
        await begin(gateway, upstream, client, request_id, "reads", stream=True)
        await client.read_head()
        for _ in BEGUN:
            assert await client.read_event()
        await getattr(client, leave)()
    line = await gateway.line(request_id)
    assert line["outcome"] == "client_gone"
    assert [row for row in gateway.rows() if row["request_id"] == request_id] == []
    assert not upstream.last.finished
    assert await gauge(gateway, "gateway_reservations_open") == 1
    go.set()
    assert_exact(await gateway.row(request_id))
    assert await spent(gateway, "reads") == before + ANSWER
    assert await gauge(gateway, "gateway_reservations_open") == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_before_the_first_content(gateway: Gateway, upstream: Providers, stream: bool) -> None:
    go = asyncio.Event()
    upstream.once("m-1", wait_for(go), *whole(stream))
    before, request_id = await spent(gateway, "reads"), f"before-content-{stream}"
    async with gateway.client() as client:
        await begin(gateway, upstream, client, request_id, "reads", stream=stream)
        await client.reset()
    await gateway.line(request_id)
    go.set()
    assert_exact(await gateway.row(request_id))
    assert await spent(gateway, "reads") == before + ANSWER


async def test_in_the_middle_of_a_body(gateway: Gateway, upstream: Providers) -> None:
    go = asyncio.Event()
    raw = json_answer(chat_body("fine"))
    upstream.once("m-1", send(raw[:-40]), wait_for(go), send(raw[-40:]))
    async with gateway.client() as client:
        await begin(gateway, upstream, client, "mid-body", "reads")
        await asyncio.sleep(0.05)
        await client.reset()
    await gateway.line("mid-body")
    go.set()
    assert_exact(await gateway.row("mid-body"))


@pytest.mark.parametrize("stream", [True, False])
async def test_who_stays_notices_nothing(gateway: Gateway, upstream: Providers, stream: bool) -> None:
    upstream.once("m-1", *whole(stream, "all of it"))
    answer = await gateway.ask(CHAT, chat(model="m", stream=stream), key=key_of("reads"))
    assert said(answer) == "all of it"
    row = await gateway.row(answer.header("x-request-id") or "")
    assert (row["outcome"], Decimal(row["charged_usd"])) == ("ok", ANSWER)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_is_told_as_ever(gateway: Gateway, upstream: Providers, stream: bool) -> None:
    upstream.once("m-1", send(error_answer("400 Bad Request", "context_length_exceeded")))
    answer = await gateway.ask(CHAT, chat(model="m", stream=stream), key=key_of("reads"))
    assert (answer.status, answer.code) == (400, "context_length_exceeded")


async def held_up(gateway: Gateway, upstream: Providers, tenant: str) -> int:
    """What a provider gets rid of towards a client that reads nothing, in bytes."""
    text = chunked([chunk({"content": "x" * 8000})], end=False)
    upstream.once("m-1", open_stream(*BEGUN), flood(text, 8000))
    request_id = f"slow-reader-{tenant}"
    async with gateway.client() as client:
        await begin(gateway, upstream, client, request_id, tenant, stream=True, max_tokens=10**6)
        await client.read_head()
        sent = -1
        async with asyncio.timeout(5):
            while sent != upstream.last.connection.sent:
                sent = upstream.last.connection.sent
                await asyncio.sleep(0.3)
        await client.reset()
    await upstream.last.left(8.0)
    assert (await gateway.row(request_id))["outcome"] == "client_gone"
    return sent


async def test_who_is_slow_holds_the_provider_up(gateway: Gateway, upstream: Providers) -> None:
    """Not all piles up in memory: beyond what sockets and a short queue hold, the provider waits."""
    assert await held_up(gateway, upstream, "reads") < 32 << 20


async def test_no_more_than_was_asked_for(gateway: Gateway, upstream: Providers) -> None:
    """A provider that does not keep to the cap is left."""
    upstream.once(
        "m-1", open_stream(*BEGUN), flood(chunked([chunk({"content": "x" * 100})], end=False), 5000, 0.001)
    )
    async with gateway.client() as client:
        await begin(gateway, upstream, client, "endless", "reads", stream=True, max_tokens=200)
        await client.read_head()
        await client.reset()
        left_s = time.monotonic()
    assert await upstream.last.left(3.0) - left_s < 3.0
    row = await gateway.row("endless")
    assert (row["outcome"], row["cost_source"]) == ("client_gone", "estimated")
    assert 200 < row["usage"]["output_tokens"] < 200 * 16
    await spent(gateway, "reads")


@pytest.mark.parametrize("end", [(wait(0.05), reset()), (wait(3.5),)], ids=["cut", "silent"])
async def test_a_provider_that_fails_later(
    gateway: Gateway, upstream: Providers, end: tuple[Step, ...]
) -> None:
    upstream.once("m-1", open_stream(*BEGUN), *end)
    request_id = f"fails-later-{len(end)}"
    async with gateway.client() as client:
        await begin(gateway, upstream, client, request_id, "reads", stream=True)
        await client.read_head()
        await client.reset()
    row = await gateway.row(request_id, within_s=5.0)
    assert (row["outcome"], row["cost_source"], row["error_code"]) == ("client_gone", "estimated", None)
    assert row["usage"]["output_tokens"] >= 1


async def test_nobody_else_is_asked_for_who_has_left(gateway: Gateway, upstream: Providers) -> None:
    """What is read on is what runs already: no second attempt is made for nobody."""
    go = asyncio.Event()
    upstream.once("again-1", wait_for(go), send(error_answer("503 Busy")))
    async with gateway.client() as client:
        await begin(gateway, upstream, client, "no-second", "reads", model="again")
        await client.reset()
    await gateway.line("no-second")
    go.set()
    row = await gateway.row("no-second")
    assert [one["deployment"] for one in row["attempts"]] == ["again-1"]
    assert row["outcome"] == "client_gone"


async def test_its_place_is_taken_until_the_end(gateway: Gateway, upstream: Providers) -> None:
    go = asyncio.Event()
    upstream.once("m-1", wait_for(go), *whole(False))
    async with gateway.client() as client:
        await begin(gateway, upstream, client, "place", "single")
        await client.reset()
    await gateway.line("place")
    refused = await gateway.ask(CHAT, chat(model="m"), key=key_of("single"))
    assert refused.code == "concurrency_exceeded"
    go.set()
    assert_exact(await gateway.row("place"))
    upstream.once("m-1", *whole(False))
    await asyncio.sleep(0.1)
    assert said(await gateway.ask(CHAT, chat(model="m"), key=key_of("single"))) == "fine"


async def test_a_kill_switch_ends_what_is_read_on(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("m-1", open_stream(*BEGUN), hang())
    async with gateway.client() as client:
        await begin(gateway, upstream, client, "killed-drain", "reads", stream=True)
        await client.read_head()
        assert await client.read_event()
        await client.reset()
    await gateway.line("killed-drain")
    assert [row for row in gateway.rows() if row["request_id"] == "killed-drain"] == []
    await kill(gateway, "tenant/reads", cut_streams=True)
    row = await gateway.row("killed-drain")
    assert (row["outcome"], row["cost_source"]) == ("client_gone", "estimated")
    await unkill(gateway, "tenant/reads")


async def test_many_at_once(gateway: Gateway, upstream: Providers) -> None:
    """A hundred at a time; who leaves beyond that is settled by what is known of it."""
    go = asyncio.Event()
    rest = send(*(chunked([event], end=False) for event in REST), chunked([]))
    upstream.always("m-1", open_stream(*BEGUN), wait_for(go), rest)
    before, seen, count = await spent(gateway, "reads"), len(upstream.seen), 130
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(gateway.client()) for _ in range(count)]
        for number, client in enumerate(clients):
            headers = {"x-request-id": f"many-{number}"}
            body = chat(model="m", stream=True)
            await client.send(request(CHAT, body, key=key_of("reads"), headers=headers))
        for client in clients:
            assert (await client.read_head()).status == 200
        for client in clients:
            await client.reset()
    async with asyncio.timeout(5):
        while sum(not one.connection.gone.is_set() for one in upstream.seen[seen:]) > 100:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    go.set()
    rows = [await gateway.row(f"many-{number}") for number in range(count)]
    assert {row["outcome"] for row in rows} == {"client_gone"}
    sources = [row["cost_source"] for row in rows]
    assert (sources.count("provider"), sources.count("estimated")) == (100, 30)
    charged = sum(Decimal(row["charged_usd"]) for row in rows)
    assert await spent(gateway, "reads") == before + charged


@pytest.mark.parametrize("stream", [True, False])
async def test_otherwise_the_provider_is_left(gateway: Gateway, upstream: Providers, stream: bool) -> None:
    upstream.once("m-1", *([open_stream(*BEGUN)] if stream else []), hang())
    before, request_id = await spent(gateway, "stops"), f"stops-{stream}"
    async with gateway.client() as client:
        await begin(gateway, upstream, client, request_id, "stops", stream=stream)
        await client.reset()
        left_s = time.monotonic()
    assert await upstream.last.left(LEFT_WITHIN_S + 1.0) - left_s < LEFT_WITHIN_S
    row = await gateway.row(request_id)
    assert (row["outcome"], row["cost_source"]) == ("client_gone", "estimated")
    assert await spent(gateway, "stops") == before + Decimal(row["charged_usd"]) > before


async def test_the_end_of_the_process_ends_it(providers: Providers, tmp_path: Path) -> None:
    providers.once("m-1", open_stream(*BEGUN), hang())
    async with served(tmp_path, providers, **settings(providers)) as gateway:
        async with gateway.client() as client:
            await begin(gateway, providers, client, "shutdown", "reads", stream=True)
            await client.read_head()
            await client.reset()
        await gateway.line("shutdown")
        began_s = time.monotonic()
        assert await gateway.stop() == 0
        assert time.monotonic() - began_s < 4.0
        row = await gateway.row("shutdown")
        assert (row["outcome"], row["cost_source"]) == ("client_gone", "estimated")
        gateway.assert_whole()
