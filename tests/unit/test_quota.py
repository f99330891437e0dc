"""Quotas of providers: what several processes take together, and what is left when the store is lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.leasing import Metering
from gateway.routing.quota import Quota, QuotaPolicy, Quotas, slices
from gateway.storage.interface import Ask, StoreLost, Verdict
from gateway.storage.memory import Memory, MemoryState

EPOCH_US = 1_800_000_000_000_000


class Losable(Memory):
    """A store that can be lost, and counts what it is asked."""

    away = False
    asked = 0

    async def admit(self, ask: Ask) -> Verdict:
        self.asked += 1
        if self.away:
            raise StoreLost("away")
        return await super().admit(ask)


class Fleet:
    """Processes that share one deployment's quota, on one clock of the test's own."""

    def __init__(self, processes: int, **quota: int) -> None:
        self.now_s = 1000.0
        self.state = MemoryState(lambda: EPOCH_US + int(self.now_s * 1e6))
        self.stores = [Losable(f"w{number}", self.state) for number in range(processes)]
        self.quotas = [self._quota(store, quota) for store in self.stores]
        self._tasks: set[asyncio.Task[None]] = set()

    def _quota(self, store: Losable, quota: dict[str, int]) -> Quota:
        metering = Metering(store, lambda: len(self.stores), self.spawn, lambda: self.now_s)
        return Quota("d", QuotaPolicy(**quota), metering)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def call(self, process: int = 0, tokens: int = 0) -> bool:
        """As a request does: waits for what may come, then takes."""
        quota = self.quotas[process]
        await slices([quota], tokens)
        taken = quota.take(tokens, self.now_s)
        await self.settle()
        return taken

    async def calls(self, process: int = 0, most: int = 10_000) -> int:
        """How many are let through until one is not."""
        for count in range(most):
            if not await self.call(process):
                return count
        return most


async def test_a_whole_limit_at_once_then_a_steady_refill() -> None:
    fleet = Fleet(1, rpm=600)
    assert await fleet.calls() == 600
    asked = fleet.stores[0].asked
    assert asked < 200, "slices, not one question for each call"
    assert not fleet.quotas[0].take(0, fleet.now_s)
    assert fleet.quotas[0].free_at_s(fleet.now_s) == pytest.approx(fleet.now_s + 0.1, abs=0.01)
    assert fleet.stores[0].asked == asked, "nothing is asked while it would be refused"
    fleet.now_s += 6.0
    assert await fleet.calls() == 60
    fleet.now_s += 3600.0
    assert await fleet.calls() == 600


@pytest.mark.parametrize("rpm", [1, 3, 59, 60, 61, 1000])
async def test_of_several_processes_together(rpm: int) -> None:
    fleet = Fleet(3, rpm=rpm)
    counts = [await fleet.calls(process) for process in range(3)]
    assert sum(counts) == rpm
    fleet.now_s += 60.0
    assert sum([await fleet.calls(process) for process in range(3)]) == rpm


async def test_many_that_wait_at_once_all_get_theirs() -> None:
    fleet = Fleet(1, rpm=30)
    quota, taken = fleet.quotas[0], deque[bool]()

    async def one() -> None:
        await slices([quota], 0)
        taken.append(quota.take(0, fleet.now_s))

    await asyncio.gather(*(one() for _ in range(50)))
    assert sum(taken) == 30


async def test_tokens_that_were_not_used_are_there_for_the_next() -> None:
    fleet = Fleet(1, tpm=6000)
    for _ in range(20):
        assert await fleet.call(tokens=4000)
        fleet.quotas[0].used(4000, 50)
    assert await fleet.call(tokens=4000)
    assert not await fleet.call(tokens=4000)
    assert await fleet.call(tokens=500), "less may still be had"
    fleet.quotas[0].used(4000, 6000)
    assert not await fleet.call(tokens=500), "more was used than foreseen"


async def test_what_exceeds_the_limit_is_the_providers_to_decide() -> None:
    fleet = Fleet(1, rpm=10, tpm=1000)
    assert await fleet.call(tokens=50_000)
    assert not await fleet.call(tokens=1)
    assert fleet.quotas[0].left()["rpm"] == 9


async def test_a_call_that_is_not_made_is_given_back() -> None:
    fleet = Fleet(1, rpm=1)
    assert await fleet.call()
    fleet.quotas[0].give_back(0)
    assert await fleet.call()
    assert not await fleet.call()


async def test_leases_leave_nothing_behind_in_the_store() -> None:
    fleet = Fleet(2, rpm=100, tpm=100)
    for process in (0, 1):
        await fleet.calls(process)
    (counters,) = fleet.state.tenants.values()
    assert len(counters) == 2, "two rates, and no reservations"


async def test_without_the_store_each_has_its_share() -> None:
    fleet = Fleet(2, rpm=600)
    for store in fleet.stores:
        store.away = True
    assert [await fleet.calls(process) for process in (0, 1)] == [300, 300]


async def test_a_loss_of_the_store_is_no_second_limit() -> None:
    fleet = Fleet(1, rpm=600)
    assert await fleet.calls() == 600
    fleet.stores[0].away = True
    fleet.now_s += 1.0
    assert await fleet.calls() <= 11
    fleet.stores[0].away = False
    fleet.now_s += 60.0
    assert await fleet.calls() <= 600


async def test_who_waits_for_a_silent_store_goes_on_soon() -> None:
    class Silent(Memory):
        async def admit(self, ask: Ask) -> Verdict:
            await asyncio.Event().wait()
            raise AssertionError

    fleet = Fleet(1, rpm=10)
    metering = Metering(Silent("w"), lambda: 1, fleet.spawn)
    quota = Quota("d", QuotaPolicy(rpm=10), metering)
    async with asyncio.timeout(5.0):
        await slices([quota], 0)
    assert not quota.take(0, fleet.now_s)
    for task in fleet._tasks:
        task.cancel()


async def test_a_quota_outlives_a_reload_and_a_changed_one_begins_anew() -> None:
    fleet = Fleet(1, rpm=1)
    quotas = Quotas(Metering(fleet.stores[0], lambda: 1, fleet.spawn))
    first = quotas.quota("d", QuotaPolicy(rpm=5))
    assert first is quotas.quota("d", QuotaPolicy(rpm=5))
    assert first is not quotas.quota("d", QuotaPolicy(rpm=6))
    assert quotas.quota("d", None) is None and quotas.quota("d", QuotaPolicy()) is None


PROCESSES = 3
Step = tuple[float, int, int]


@settings(max_examples=60, deadline=None)
@given(
    rpm=st.sampled_from([1, 7, 60, 300]),
    steps=st.lists(
        st.tuples(st.floats(0, 20), st.integers(0, PROCESSES - 1), st.integers(1, 40)), max_size=60
    ),
)
def test_in_any_minute_no_more_than_is_said(rpm: int, steps: list[Step]) -> None:
    """Twice the limit (what was saved up, and the refill), and a slice for each process."""
    times = asyncio.run(_run(rpm, steps))
    bound = 2 * rpm + PROCESSES * max(rpm // 60, 1)
    for index, start_s in enumerate(times):
        assert sum(one < start_s + 60 for one in times[index:]) <= bound
        for other in times[index:]:
            passed = sum(start_s <= one <= other for one in times)
            assert passed <= rpm * (1 + (other - start_s) / 60) + PROCESSES * max(rpm // 60, 1) + 1e-6


async def _run(rpm: int, steps: list[Step]) -> list[float]:
    fleet, times = Fleet(PROCESSES, rpm=rpm), []
    for pause_s, process, count in steps:
        fleet.now_s += pause_s
        for _ in range(count):
            if await fleet.call(process):
                times.append(fleet.now_s)
    return times
