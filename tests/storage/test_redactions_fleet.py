"""What was found of personal data, over the whole fleet: two writers, a dead one, a store that forgot."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.accounting.redaction_report import ask_redactions
from gateway.accounting.sums import day_of
from gateway.errors import Unavailable
from gateway.storage.redis import RedisStore
from tests.storage.redis_server import RedisServer, redis_server
from tests.unit.ledger_rows import Writer, attempt, today
from tests.unit.test_follow import NOW_S, Process, fresh

EMAIL = "EMAIL_ADDRESS"


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


async def found(process: Process, **asked: str) -> dict[str, Any]:
    await process.follower.catch_up(5.0)
    return await process.follower.source.redactions(ask_redactions(asked.items()))


async def entities(process: Process) -> dict[str, tuple[int, int]]:
    data = (await found(process, group_by="entity"))["data"]
    return {one["group"]["entity"]: (one["count"], one["requests"]) for one in data}


def emails(id: str, count: int, **changes: Any) -> dict[str, Any]:
    return fresh(id, redactions={"input": {EMAIL: count}}, **changes)


async def test_either_answers_for_both(tmp_path: Path, server: RedisServer) -> None:
    async with (
        process(tmp_path / "a", server, "w1") as one,
        process(tmp_path / "b", server, "w2") as two,
    ):
        await one.write(
            emails("1", 2), fresh("2", redactions={"output": {EMAIL: 1}, "skipped": {"file": 1}})
        )
        await two.write(*(emails(f"n{number}", 1, tenant=f"t{number % 300}") for number in range(600)))
        for each in (one, two):
            assert await entities(each) == {EMAIL: (603, 602)}
            answer = await found(each, tenant="acme", group_by="direction")
            assert [(part["group"], part["count"]) for part in answer["data"]] == [
                ({"direction": "input"}, 2),
                ({"direction": "output"}, 1),
            ]
            assert (answer["skipped"], answer["blocked"], answer["failed"]) == ({"file": 1}, {}, {})


async def test_without_redactions_nothing_is_kept(tmp_path: Path, server: RedisServer) -> None:
    async with process(tmp_path, server, "w1") as one:
        await one.write(fresh("1"), attempt("2", admitted=NOW_S))
        assert (await found(one))["data"] == []
        assert await one.follower._store.fields(f"spend:{today()}:w1") != {}
        assert await one.follower._store.fields(f"redactions:{today()}:w1") == {}


async def test_a_dead_writers_rows_count(tmp_path: Path, server: RedisServer) -> None:
    """Those of a former day, what it had not told, and what it had open."""
    dead = Writer(tmp_path / "dead")
    dead.write([emails("1", 1)], day_of(NOW_S - 86400))
    found_in: dict[str, Any] = {"redactions": {"input": {"US_SSN": 1}}}
    dead.write([emails("2", 10), attempt("3", admitted=NOW_S, **found_in)], today())
    async with process(tmp_path, server, "w") as running:
        await running.follower._adoption.look()
        assert await entities(running) == {EMAIL: (11, 2), "US_SSN": (1, 1)}
        await running.follower._adoption.look()
        assert await entities(running) == {EMAIL: (11, 2), "US_SSN": (1, 1)}


async def test_a_writer_that_crashed_says_the_same_again(tmp_path: Path, server: RedisServer) -> None:
    async with process(tmp_path, server, "w1") as other:
        store = RedisStore(server.url, "w2")
        await store.start()
        crashed = Process(tmp_path / "b", "w2", store)
        await crashed.write(emails("1", 3))
        assert crashed.follower._fleet is not None
        crashed.follower._fleet.close()
        await crashed.crash()
        await store.aclose()
        assert await entities(other) == {EMAIL: (3, 1)}
        async with process(tmp_path / "b", server, "w2") as again:
            await again.write(emails("2", 4))
            assert await entities(other) == {EMAIL: (7, 2)}


async def test_a_redis_that_lost_its_memory_is_told_again(
    tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.accounting.fleet.MARK_EVERY_S", 0.0)
    Writer(tmp_path / "w1").write([emails("0", 100)], day_of(NOW_S - 86400))
    async with process(tmp_path, server, "w1") as one:
        await one.write(emails("1", 1))
        assert await entities(one) == {EMAIL: (101, 2)}
        server.kill()
        await one.write(emails("2", 2))
        server.restart()
        deadline_s = time.monotonic() + 10.0
        while True:
            try:
                if await entities(one) == {EMAIL: (103, 3)}:
                    break
            except Unavailable:
                pass
            assert time.monotonic() < deadline_s
