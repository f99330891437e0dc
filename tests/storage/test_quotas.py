"""A provider's quota that several processes share through a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.routing.leasing import Metering
from gateway.routing.quota import Quota, QuotaPolicy, slices
from gateway.tasks import Tasks
from tests.storage.worlds import MemoryWorld, World, fresh_tenant

RPM = 30


def _failed(event: str, error: BaseException, request_id: str) -> None:
    raise AssertionError(event) from error


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks(_failed)
    yield made
    await made.close()


async def test_processes_together_take_one_limit(world: World, tasks: Tasks) -> None:
    """All within a moment, in which at most one more is refilled."""
    name = fresh_tenant()
    quotas = [
        Quota(
            name,
            QuotaPolicy(rpm=RPM, tpm=RPM * 1000),
            Metering(await world.writer(one), lambda: 2, tasks.spawn),
        )
        for one in ("a", "b")
    ]
    loop = asyncio.get_running_loop()

    async def call(quota: Quota) -> bool:
        await slices([quota], 900)
        return quota.take(900, loop.time())

    taken = await asyncio.gather(*(call(quota) for quota in quotas for _ in range(RPM)))
    assert RPM - 2 <= sum(taken) <= RPM + 1
    if isinstance(world, MemoryWorld):
        await asyncio.sleep(0.05)
        assert len(world.state.tenants[f"deployment:{name}"]) == 2, "two rates, and no reservations"
