"""The ledger's fleet over a real Redis: killed and restarted without its memory, it is told again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.accounting.audit import known_heads
from gateway.storage.redis import RedisStore
from tests.storage.redis_server import RedisServer, redis_server
from tests.unit.ledger_rows import attempt
from tests.unit.test_follow import Process, fresh


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@asynccontextmanager
async def process(ledger: Path, server: RedisServer, writer: str) -> AsyncIterator[Process]:
    store = RedisStore(server.url, writer)
    await store.start()
    try:
        running = Process(ledger, writer, store)
        yield running
        await running.stop()
    finally:
        await store.aclose()


async def total(process: Process, wanted: str, within_s: float = 10.0) -> None:
    """Returns once the fleet has spent so much."""
    deadline_s = time.monotonic() + within_s
    while True:
        await process.follower.catch_up(2.0)
        if not process.follower._store.lost and await process.total() == wanted:
            return
        assert time.monotonic() < deadline_s, await process.total()
        await asyncio.sleep(0.05)


async def test_all_of_the_fleet_answers_for_all(tmp_path: Path, server: RedisServer) -> None:
    async with (
        process(tmp_path / "a", server, "w1") as one,
        process(tmp_path / "b", server, "w2") as two,
    ):
        await one.write(attempt("1"), fresh("1", nanousd=5))
        await two.write(*(fresh(f"n{number}", nanousd=1, user=f"u{number}") for number in range(600)))
        for each in (one, two):
            assert await each.total() == "0.000000605"
            assert len(await each.follower.source.rows("r-n599")) == 1
        heads = await known_heads(one.follower._store)
        assert heads == {"w1": one.journal.head, "w2": two.journal.head}


async def test_a_redis_that_lost_its_memory_is_told_again(
    tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.accounting.fleet.MARK_EVERY_S", 0.0)
    async with process(tmp_path, server, "w1") as one:
        await one.write(fresh("1", nanousd=5))
        server.kill()
        await one.write(fresh("2", nanousd=6))
        assert one.follower.totals.charged("acme") == 11
        server.restart()
        await total(one, "0.000000011")
        assert len(await one.follower.source.rows("r-1")) == 1
