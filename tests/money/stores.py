"""Scenarios: what becomes of money when the store stands still, forgets, or its answers are lost."""

from __future__ import annotations

import asyncio
import time

from tests.money.stage import PLACES, Stage

FROZEN_S = 3.0
QUIET_S = 3.0


async def redis_frozen(stage: Stage) -> None:
    async with stage.bursting():
        await stage.busiest()
        stage.fleet.redis.freeze()
        await asyncio.sleep(FROZEN_S)
        stage.fleet.redis.thaw()
    await stage.settled(10.0)
    await stage.until_spent()


async def leased(stage: Stage) -> None:
    """While Redis stands still, what each replica has set aside is spent."""
    for _ in range(12):
        await stage.load.burst(15)
        await asyncio.sleep(0.5)
    async with stage.bursting():
        stage.fleet.redis.freeze()
        await asyncio.sleep(FROZEN_S / 2)
        local = await stage.load.burst()
        stage.fleet.redis.thaw()
    stage.note(f"{stage.admitted(local)} admitted from leases")
    stage.found.must(stage.admitted(local) > 0, "nothing was admitted from leases")


async def flushed(stage: Stage) -> None:
    async with stage.bursting():
        await stage.busiest()
        stage.fleet.redis.command("FLUSHALL")
    await stage.until_spent()


async def flushed_while_quiet(stage: Stage) -> None:
    """Two replicas hold all of the budget and ask nothing; the store forgets, and only the third asks."""
    async with stage.bursting(30, stage.fleet.replicas[1:]):
        await _all_held(stage)
        stage.fleet.redis.command("FLUSHALL")
        await _third_asks(stage)
    await stage.until_spent()


async def killed_redis(stage: Stage) -> None:
    """The same, with a Redis that dies and comes back empty."""
    async with stage.bursting(30, stage.fleet.replicas[1:]):
        await _all_held(stage)
        stage.fleet.redis.kill()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(stage.fleet.redis.restart)
        await _third_asks(stage)
    await stage.settled(10.0)
    await stage.until_spent()


async def _all_held(stage: Stage) -> None:
    """Returns once all of the budget is reserved; whatever comes now is answered soon."""
    provider = stage.fleet.provider
    async with asyncio.timeout(5):
        while provider.running.total() < PLACES:
            await asyncio.sleep(0.001)
    provider.hold_s = 0.1


async def _third_asks(stage: Stage) -> None:
    until_s = time.monotonic() + QUIET_S
    admitted = 0
    while time.monotonic() < until_s:
        admitted += stage.admitted(await stage.load.burst(20, stage.fleet.replicas[:1]))
        await asyncio.sleep(0.05)
    stage.note(f"{admitted} admitted by the third; bound over the budget: 0")


async def answers_lost(stage: Stage) -> None:
    """Whatever is asked may have been carried out although no answer came."""
    assert stage.proxy is not None
    stage.proxy.share = 0.05
    try:
        for _ in range(4):
            await stage.load.burst()
            await asyncio.sleep(0.3)
    finally:
        stage.proxy.share = 0.0
    stage.note(f"{stage.proxy.cuts} answers lost")
    stage.found.must(stage.proxy.cuts > 0, "no answer was lost")
    await stage.settled(10.0)
    await stage.until_spent()
