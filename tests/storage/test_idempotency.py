"""Idempotency keys between processes that share a store: who answers, who waits, and who takes over."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from gateway.caching import idempotency as module
from gateway.caching.idempotency import Claim, Idempotency
from gateway.caching.records import Answer
from gateway.errors import IdempotencyConflict, Unavailable
from gateway.storage.interface import Store, StoreLost
from gateway.storage.memory import Memory
from gateway.tasks import Tasks
from tests.storage.redis_server import RedisServer
from tests.storage.worlds import RedisWorld, World, fresh_tenant

PRINT, OTHER = hashlib.sha256(b"one").digest(), hashlib.sha256(b"other").digest()
ANSWER = Answer(200, True, [b'{"a":1}', b"\xff\n"], [(b"x-gateway-model", b"chat")])
SOON_S = 2.0


class Process:
    """One gateway's part in it. ``deaf``: no message reaches it."""

    def __init__(self, store: Store, tasks: Tasks, deaf: bool = False) -> None:
        self.store = store
        self.tasks = tasks
        if deaf:
            store.listen = lambda heard: None  # type: ignore[method-assign]
        self.idempotency = Idempotency(store, tasks.spawn)
        self._number = 0

    def claim(self, tenant: str, print_: bytes = PRINT, key: bytes = b"key") -> Claim:
        self._number += 1
        return self.idempotency.claim(tenant, key, print_, self._number)

    def taking(self, claim: Claim) -> asyncio.Task[Answer | None]:
        return asyncio.get_running_loop().create_task(claim.take())


def _failed(event: str, error: BaseException, request_id: str) -> None:
    raise AssertionError(event) from error


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks(_failed)
    yield made
    await made.close()


@pytest.fixture
async def pair(world: World, tasks: Tasks) -> tuple[Process, Process]:
    """The second hears no messages: it asks."""
    first = Process(await world.writer("a"), tasks)
    second = Process(await world.writer("b"), tasks, deaf=True)
    return first, second


async def soon(task: asyncio.Task[Answer | None]) -> Answer | None:
    async with asyncio.timeout(SOON_S):
        return await task


async def test_the_second_waits_and_gets_the_answer(pair: tuple[Process, Process]) -> None:
    tenant = fresh_tenant()
    first, second = pair
    opener = first.claim(tenant)
    assert await opener.take() is None
    here, there = first.taking(first.claim(tenant)), second.taking(second.claim(tenant))
    await asyncio.sleep(0.05)
    assert not here.done() and not there.done()
    opener.end(ANSWER)
    assert [await soon(here), await soon(there)] == [ANSWER, ANSWER]
    assert await second.claim(tenant).take() == ANSWER


async def test_messages_are_faster_than_asking(
    world: World, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", (60.0, 60.0))
    tenant = fresh_tenant()
    first, second = Process(await world.writer("a"), tasks), Process(await world.writer("b"), tasks)
    await world.connected()
    opener = first.claim(tenant)
    assert await opener.take() is None
    there = second.taking(second.claim(tenant))
    await asyncio.sleep(0.05)
    opener.end(ANSWER)
    assert await soon(there) == ANSWER


async def test_one_of_those_who_wait_takes_over(pair: tuple[Process, Process]) -> None:
    tenant = fresh_tenant()
    first, second = pair
    opener = first.claim(tenant)
    assert await opener.take() is None
    claims = [process.claim(tenant) for process in pair for _ in range(3)]
    waiting = [first.taking(claim) for claim in claims[:3]] + [second.taking(one) for one in claims[3:]]
    await asyncio.sleep(0.05)
    opener.end(None)
    async with asyncio.timeout(SOON_S):
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.3)
    (taken,) = [task for task in waiting if task.done()]
    assert taken.result() is None
    claims[waiting.index(taken)].end(ANSWER)
    assert [await soon(task) for task in waiting if task is not taken] == [ANSWER] * 5


async def test_another_request_under_the_key_is_refused(pair: tuple[Process, Process]) -> None:
    tenant = fresh_tenant()
    first, second = pair
    opener = first.claim(tenant)
    assert await opener.take() is None
    for process in pair:
        with pytest.raises(IdempotencyConflict):
            await process.claim(tenant, OTHER).take()
    assert await second.claim(tenant, OTHER, key=b"another key").take() is None
    assert await second.claim(fresh_tenant(), OTHER).take() is None
    opener.end(ANSWER)
    await first.idempotency.drained()
    refused = second.claim(tenant, OTHER)
    with pytest.raises(IdempotencyConflict):
        await refused.take()
    refused.end(None)
    await second.idempotency.drained()
    assert await second.claim(tenant).take() == ANSWER


async def test_a_dead_opener_holds_nobody_up(
    pair: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNNING_S", 0.4)
    tenant = fresh_tenant()
    first, second = pair
    assert await first.claim(tenant).take() is None
    assert await soon(second.taking(second.claim(tenant))) is None


async def test_a_slow_opener_keeps_its_place(
    pair: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNNING_S", 0.6)
    tenant = fresh_tenant()
    first, second = pair
    opener = first.claim(tenant)
    assert await opener.take() is None
    there = second.taking(second.claim(tenant))
    for _ in range(10):
        await asyncio.sleep(0.1)
        await first.idempotency.renew()
    assert not there.done()
    opener.end(ANSWER)
    assert await soon(there) == ANSWER


async def test_a_store_that_forgets_learns_it_again(pair: tuple[Process, Process]) -> None:
    tenant = fresh_tenant()
    first, second = pair
    opener, name = first.claim(tenant), f"idem:{tenant}:{hashlib.sha256(b'key').hexdigest()}"
    assert await opener.take() is None
    record = await second.store.get(name)
    assert record is not None
    assert await second.store.replace(name, record, None, 0)
    await first.idempotency.renew()
    assert await second.store.get(name) == record
    assert await second.store.replace(name, record, None, 0)
    opener.end(ANSWER)
    await first.idempotency.drained()
    assert await second.claim(tenant).take() == ANSWER


async def test_who_was_interrupted_while_asking_holds_nothing(pair: tuple[Process, Process]) -> None:
    tenant = fresh_tenant()
    first, second = pair
    claim = first.claim(tenant)
    task = first.taking(claim)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    claim.end(None)
    await first.idempotency.drained()
    assert await soon(second.taking(second.claim(tenant))) is None


async def test_who_waits_and_leaves_takes_nothing_along(pair: tuple[Process, Process]) -> None:
    tenant = fresh_tenant()
    first, second = pair
    opener, waiter = first.claim(tenant), second.claim(tenant)
    assert await opener.take() is None
    task = second.taking(waiter)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    waiter.end(None)
    await second.idempotency.drained()
    opener.end(ANSWER)
    await first.idempotency.drained()
    assert await second.claim(tenant).take() == ANSWER


async def test_without_the_store_a_key_is_refused(own_server: RedisServer, tasks: Tasks) -> None:
    world = RedisWorld(own_server)
    process = Process(await world.writer("a"), tasks)
    opener = process.claim("acme")
    assert await opener.take() is None
    own_server.kill()
    for _ in range(5):
        claim = process.claim("acme", key=b"another")
        with pytest.raises(Unavailable) as refused:
            await claim.take()
        assert refused.value.code == "storage_unavailable"
        claim.end(None)
    opener.end(None)
    async with asyncio.timeout(1.0):
        await process.idempotency.drained()
    await tasks.close()
    await world.aclose()


async def test_what_cannot_be_stored_at_once_is_stored_later(tasks: Tasks) -> None:
    class Away(Memory):
        away = False

        async def replace(self, key: str, expected: bytes, value: bytes | None, ttl_s: float) -> bool:
            if self.away:
                raise StoreLost("away")
            return await super().replace(key, expected, value, ttl_s)

    store = Away("a")
    process = Process(store, tasks)
    opener = process.claim("acme")
    assert await opener.take() is None
    store.away = True
    opener.end(ANSWER)
    waiting = process.taking(process.claim("acme"))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    store.away = False
    assert await soon(waiting) == ANSWER
