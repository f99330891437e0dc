"""Money over any interleaving of several processes and any failure of the store or of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.storage.memory import MemoryState
from tests.property.admission_rig import NOW_S, TENANT, Clock, Process, fund_of, terms

LIMIT, AMOUNT, PLACES = 1_000, 100, 6

moves = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, 2), st.integers(1, AMOUNT)),
        st.tuples(st.just("gather"), st.integers(0, 2), st.integers(1, AMOUNT)),
        st.tuples(st.just("cancel"), st.integers(0, 2), st.integers(1, AMOUNT)),
        st.tuples(st.just("settle"), st.integers(0, 2), st.integers(0, 100)),
        st.tuples(st.just("fault"), st.integers(0, 2), st.sampled_from(["before", "after", "slow"])),
        st.tuples(st.just("down"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("kill"), st.integers(0, 2), st.integers(1, 40)),
        st.tuples(st.just("renew"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("pass"), st.integers(0, 2), st.integers(1, 20)),
    ),
    max_size=40,
)


@pytest.fixture(autouse=True)
def _the_stores_clock() -> Any:
    with mock.patch("gateway.admission.controller.time.time_ns", lambda: NOW_S * 10**9):
        yield


def _run(scenario: Callable[[], Any]) -> None:
    asyncio.run(scenario())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moves)
def test_what_is_spent_and_reserved_never_passes_the_limit(moves: list[tuple[str, int, Any]]) -> None:
    _run(lambda: _Fleet(moves).play())


class _Fleet:
    def __init__(self, moves: list[tuple[str, int, Any]]) -> None:
        self.moves = moves
        self.clock = Clock()
        self.state = MemoryState(self.clock)
        self.terms = terms(LIMIT, PLACES)
        self.fund = fund_of(self.terms)

    async def play(self) -> None:
        self.processes = [Process(f"w{index}", self.state, self.terms) for index in range(3)]
        for name, index, value in self.moves:
            await getattr(self, f"_{name}")(self.processes[index], value)
            self._check()
        await self._end()

    async def _admit(self, process: Process, amount: int) -> None:
        try:
            await process.admit(amount)
        except GatewayError:
            pass

    async def _gather(self, process: Process, amount: int) -> None:
        await asyncio.gather(*(self._admit(process, amount) for _ in range(5)))

    async def _cancel(self, process: Process, amount: int) -> None:
        process.store.faults.insert(0, "slow")
        task = asyncio.get_running_loop().create_task(process.admit(amount))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await process.told()

    async def _settle(self, process: Process, percent: int) -> None:
        if process.running:
            reservation = process.running[0]
            process.settle(reservation, reservation.amount_nanousd * percent // 100)
            await process.told()

    async def _fault(self, process: Process, fault: str) -> None:
        process.store.faults.append(fault)

    async def _down(self, process: Process, down: bool) -> None:
        process.store.set_down(down)
        await process.told()

    async def _kill(self, process: Process, seconds: int) -> None:
        await process.kill()
        await self._pass(process, seconds)
        process.start()

    async def _renew(self, process: Process, _: int) -> None:
        await process.reconciler.renew_once()

    async def _pass(self, process: Process, seconds: int) -> None:
        self.clock.us += seconds * 1_000_000

    def _check(self) -> None:
        counted = self.state.tenant(TENANT).fund_state(self.fund)
        assert counted.spent_nanousd <= counted.used_nanousd <= LIMIT
        assert sum(process.spent for process in self.processes) <= LIMIT

    async def _end(self) -> None:
        """Everything comes back and is settled: then the store knows what the ledgers say."""
        for process in self.processes:
            process.store.faults.clear()
            process.store.set_down(False)
            for reservation in list(process.running):
                process.settle(reservation, reservation.amount_nanousd)
            await process.told()
        for _ in range(2):
            for process in self.processes:
                await process.reconciler.introduce(TENANT, [self.fund])
                account = process.reconciler.account(TENANT)
                account.used_s = -(10**9)  # nothing is set aside for later
                process.reconciler.tell(account)
                await process.told()
                await process.reconciler.renew_once()
        counted = self.state.tenant(TENANT).fund_state(self.fund)
        leased = sum(process.controller.without_store.leased_nanousd() for process in self.processes)
        assert counted.spent_nanousd == sum(process.spent for process in self.processes)
        assert counted.used_nanousd == counted.spent_nanousd + leased
        assert [process.controller.open for process in self.processes] == [0, 0, 0]
        for process in self.processes:
            process.task.cancel()
            await asyncio.gather(process.task, return_exceptions=True)
