"""What processes of former days have spent counts, whatever their folder of the ledger is called."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.served import Served, served
from tests.fakes.answers import chat_body, json_answer
from tests.fakes.upstream import Upstream, send
from tests.storage.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "operator-token-0123456789abcdef0123456789"
USED = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
SPENT_USD = "0.003500000"
WITHIN_S = 15.0


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test here looks after processes of its own."""


def settings(url: str) -> dict[str, Any]:
    return {
        "server": {"admin_token": TOKEN},
        "storage": {"url": url},
        "tenants": {"acme": {"budget": {"usd": 1, "period": "total"}}},
    }


async def spent_usd(gateway: Served) -> str:
    answer = await gateway.ask("/admin/v1/tenants", key=TOKEN)
    assert answer.status == 200, answer.body
    return str(answer.json()["data"][0]["budgets"][0]["spent_usd"])


async def spend_and_stop(gateway: Served, upstream: Upstream) -> None:
    upstream.next(send(json_answer(chat_body("fine", usage=USED))))
    assert (await gateway.chat(headers={"x-request-id": "former"})).status == 200
    await gateway.row("former")
    assert await gateway.stop() == 0
    (gateway.data_dir / "ledger" / "a-new-writer").mkdir()


async def test_in_memory_from_the_first_request_on(tmp_path: Path, upstream: Upstream) -> None:
    async with served(tmp_path, upstream, **settings("memory://")) as gateway:
        await spend_and_stop(gateway, upstream)
        await gateway.start()
        assert await spent_usd(gateway) == SPENT_USD


async def test_in_a_redis_that_has_lost_its_memory(
    tmp_path: Path, upstream: Upstream, redis: RedisServer
) -> None:
    async with served(tmp_path, upstream, **settings(redis.url)) as gateway:
        await spend_and_stop(gateway, upstream)
        redis.command("FLUSHALL")
        await gateway.start()
        await came_to(gateway, SPENT_USD)
        redis.command("FLUSHALL")
        upstream.next(send(json_answer(chat_body("fine", usage=USED))))
        assert (await gateway.chat()).status == 200
        await came_to(gateway, "0.007000000")


async def came_to(gateway: Served, wanted_usd: str) -> None:
    until_s = time.monotonic() + WITHIN_S
    while (found := await spent_usd(gateway)) != wanted_usd:
        assert time.monotonic() < until_s, found
        await asyncio.sleep(0.1)
