"""The limit that follows the loop's lag."""

from __future__ import annotations

import asyncio

import pytest

from gateway.control import concurrency as module
from gateway.control.concurrency import LEAST, QUEUE, Concurrency, Permit
from gateway.errors import Unavailable


async def holding(limit: Concurrency, count: int) -> list[Permit]:
    permits = [Permit() for _ in range(count)]
    for permit in permits:
        await limit.take(permit)
    return permits


async def test_it_grows_while_timers_are_on_time() -> None:
    limit = Concurrency(start=2)
    await holding(limit, 50)
    assert limit.running == limit.limit == 50


async def test_it_shrinks_when_they_are_late_and_never_below_the_least() -> None:
    limit = Concurrency(start=100)
    permits = await holding(limit, 100)
    limit.observe(0.2)
    assert limit.limit == 90
    for permit in permits[10:]:
        limit.give(permit)
    limit.observe(0.2)
    assert limit.limit == LEAST


async def test_newest_first_out_of_the_queue() -> None:
    limit = Concurrency(start=1)
    (held,) = await holding(limit, 1)
    limit.observe(0.03)
    order: list[int] = []

    async def wait(number: int) -> None:
        permit = Permit()
        await limit.take(permit)
        order.append(number)
        limit.give(permit)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(wait(number))
            await asyncio.sleep(0)
        limit.give(held)
    assert order == [2, 1, 0]
    assert limit.running == 0


async def test_a_full_queue_refuses_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    limit = Concurrency(start=1)
    await holding(limit, 1)
    limit.observe(0.03)
    waiting = [asyncio.ensure_future(limit.take(Permit())) for _ in range(QUEUE)]  # noqa: TID251
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as caught:
        await limit.take(Permit())
    assert caught.value.code == "overloaded" and caught.value.retry_after_s == 1
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)


async def test_given_back_whatever_happened() -> None:
    limit = Concurrency(start=1)
    (held,) = await holding(limit, 1)
    limit.observe(0.03)
    permit = Permit()
    task = asyncio.ensure_future(limit.take(permit))  # noqa: TID251
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    limit.give(permit)
    limit.give(held)
    limit.give(held)
    limit.give(Permit())
    assert limit.running == 0
    await limit.take(Permit())
    assert limit.running == 1


async def test_whoever_waits_gets_in_when_the_loop_has_recovered() -> None:
    limit = Concurrency(start=1)
    await holding(limit, 1)
    limit.observe(0.03)
    task = asyncio.ensure_future(limit.take(Permit()))  # noqa: TID251
    await asyncio.sleep(0)
    limit.observe(0.0)
    await task
    assert limit.running == 2
