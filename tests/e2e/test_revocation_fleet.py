"""A98: a key is revoked while three gateways are asked with it all the time, and streams are running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.operators import admin, new_key
from tests.e2e.rig import CHAT, chat, group
from tests.e2e.served import Served
from tests.e2e.test_control_fleet import Fleet
from tests.fakes.answers import chunk, open_stream
from tests.fakes.client import RawClient, request
from tests.fakes.upstream import Upstream, hang
from tests.storage.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPLICAS, STREAMS, ASKING = 3, 9, 6
BEFORE_S, AFTER_S, HEARD_S = 0.7, 2.0, 1.0
QUICK = {"providers": {"quick": {"kind": "simulated"}}, "models": {"quick": group("quick")}}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture(autouse=True)
def settled() -> None:
    """The test looks after gateways of its own."""


@pytest_asyncio.fixture(loop_scope="module")
async def gateways(tmp_path: Path, upstream: Upstream, redis: RedisServer) -> AsyncIterator[list[Served]]:
    async with AsyncExitStack() as stack:
        fleet = Fleet(tmp_path, upstream, redis)
        running = [fleet.gateway(f"replica-{number}") for number in range(REPLICAS)]
        for gateway in running:
            gateway.configure(QUICK)
            stack.callback(gateway.kill)
            await gateway.start()
        yield running


async def begun(gateway: Served, upstream: Upstream, client: RawClient, key: str) -> None:
    upstream.next(open_stream(chunk({"content": "one "})), hang())
    await client.send(request(CHAT, chat(stream=True), key=key))
    assert (await client.read_head()).status == 200
    assert await client.read_event()


async def test_nobody_lets_it_in_any_more_and_its_streams_end(
    gateways: list[Served], upstream: Upstream
) -> None:
    made = await new_key(gateways[0])
    secret = made["secret"]
    seen: list[tuple[float, int]] = []
    stop_s = time.monotonic() + BEFORE_S + AFTER_S

    async def ask(gateway: Served) -> None:
        while time.monotonic() < stop_s:
            began_s = time.monotonic()
            answer = await gateway.ask(CHAT, chat(model="quick"), key=secret)
            seen.append((began_s, answer.status))

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as clients:
        streams = []
        for number in range(STREAMS):
            gateway = gateways[number % REPLICAS]
            client = await stack.enter_async_context(gateway.client())
            await begun(gateway, upstream, client, secret)
            streams.append(client)
        stop_s = time.monotonic() + BEFORE_S + AFTER_S
        for number in range(ASKING):
            clients.create_task(ask(gateways[number % REPLICAS]))
        await asyncio.sleep(BEFORE_S)
        place = f"tenants/acme/keys/{made['id']}?cut_streams=true"
        assert (await admin(gateways[1], "DELETE", place)).status == 200
        revoked_s = time.monotonic()
        for client in streams:
            event = await client.read_event()
            assert event is not None and b'"error"' in event
        assert time.monotonic() - revoked_s < HEARD_S + 1.0
    assert {status for began_s, status in seen if began_s < revoked_s - HEARD_S / 2} <= {200}
    late = [status for began_s, status in seen if began_s > revoked_s + HEARD_S]
    assert late and set(late) == {401}
    listed = (await admin(gateways[2], "GET", "tenants/acme/keys")).json()["data"]
    assert [one["revoked"] is not None for one in listed if one["id"] == made["id"]] == [True]
