"""Two gateways with one Redis and a folder each: either answers for both, and Redis knows both ends."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.storage.interface import LEASE_S
from tests.e2e.served import Served, command, served
from tests.fakes.answers import chat_body, chunk, json_answer, open_stream
from tests.fakes.upstream import Upstream, hang, send
from tests.storage.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "operator-token-0123456789abcdef0123456789"
USED = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
COST = Decimal("0.0035")


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def redis() -> AsyncIterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def fleet(tmp_path: Path, upstream: Upstream, redis: RedisServer) -> AsyncIterator[list[Served]]:
    """Each has answered one request, ``asked-1`` and ``asked-2``."""
    async with AsyncExitStack() as stack:
        running = []
        for number in (1, 2):
            folder = tmp_path / str(number)
            folder.mkdir()
            changes: dict[str, Any] = {"server": {"admin_token": TOKEN}, "storage": {"url": redis.url}}
            gateway = await stack.enter_async_context(served(folder, upstream, **changes))
            upstream.next(send(json_answer(chat_body("fine", usage=USED))))
            assert (await gateway.chat(headers={"x-request-id": f"asked-{number}"})).status == 200
            running.append(gateway)
        yield running


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test here looks after processes of its own."""


async def admin(gateway: Served, path: str) -> dict[str, Any]:
    answer = await gateway.ask(f"/admin/v1/{path}", key=TOKEN)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


SLOW_S = 3.0
"""What a busy machine may add."""


async def until(
    found: Callable[[dict[str, Any]], bool], gateway: Served, path: str, within_s: float
) -> None:
    deadline_s = time.monotonic() + within_s
    while not found(answer := await admin(gateway, path)):
        assert time.monotonic() < deadline_s, answer
        await asyncio.sleep(0.1)


async def test_either_answers_for_both(fleet: list[Served]) -> None:
    for gateway in fleet:
        await until(lambda found: Decimal(found["total_usd"]) == 2 * COST, gateway, "spend", 5.0)
        for number in (1, 2):
            (row,) = (await admin(gateway, f"ledger?request_id=asked-{number}"))["data"]
            assert Decimal(row["cost_usd"]) == COST


async def test_redis_keeps_the_heads(fleet: list[Served]) -> None:
    one = fleet[0]
    await admin(one, "spend")
    assert await one.stop() == 0
    done = await asyncio.to_thread(command, "ledger", "verify", "--config", str(one.config))
    assert done.returncode == 0 and "2 rows" in done.stdout and "end known" in done.stdout
    (file,) = one.data_dir.glob("ledger/*/*.jsonl")
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    (file.parent / "checkpoint").unlink()
    done = await asyncio.to_thread(command, "ledger", "verify", "--config", str(one.config))
    assert done.returncode == 1 and "cut_off: the head is row 2, the last row is 1" in done.stderr


async def test_a_row_of_who_died_elsewhere_is_found(fleet: list[Served], upstream: Upstream) -> None:
    """Within the lease and a little; and it is the same one row when the writer is back."""
    one, other = fleet
    await admin(other, "spend")
    upstream.next(open_stream(chunk({"content": "one "})), hang())
    async with one.client() as client:
        await one.begin(client, "cut-short", stream=True)
        assert (await client.read_head()).status == 200
        one.signal(signal.SIGKILL)
        assert await one.ended() == -signal.SIGKILL
    path = "ledger?request_id=cut-short"
    await until(lambda found: len(found["data"]) == 1, other, path, LEASE_S + 5.0 + SLOW_S)
    (row,) = (await admin(other, path))["data"]
    assert row["recovered"] is True and "seq" not in row
    await one.start()
    await until(lambda found: "seq" in found["data"][0], other, path, 10.0)
    (row,) = (await admin(other, path))["data"]
    assert row["recovered"] is True and row["seq"] == one.rows()[-1]["seq"]


async def test_a_store_that_is_away_is_told_plainly(fleet: list[Served], redis: RedisServer) -> None:
    redis.kill()
    answer = await fleet[0].ask("/admin/v1/spend", key=TOKEN)
    assert answer.status == 503 and answer.json()["error"]["code"] == "storage_unavailable"
    done = await asyncio.to_thread(command, "ledger", "verify", "--config", str(fleet[0].config))
    assert done.returncode == 0 and "note: the store cannot be asked" in done.stderr
