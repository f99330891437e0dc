"""The admission controller: what it asks of the store, holds, and gives back, whatever happens between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from unittest import mock

import pytest

from gateway.admission.account import Account, Reservation
from gateway.admission.terms import Allowance, Bound, Budget, BudgetOnLoss, Limits, Terms
from gateway.errors import GatewayError, LimitExceeded, Unavailable
from gateway.storage.interface import LEASE_S, Ask, Fund, FundClaim, FundState
from gateway.storage.memory import MemoryState
from tests.property.admission_rig import NOW_S, TENANT, Clock, Process

HOUR_S = 3600
LIMIT = 1000


class Site:
    """Processes on one store. ``clock``: the store's, which time passes by."""

    def __init__(self, **limits: int) -> None:
        self.clock = Clock()
        self.state = MemoryState(self.clock)
        budget = Budget(LIMIT, "hour")
        self.terms = Terms(TENANT, own=Allowance(Limits(**limits), budget))
        self.running: list[Process] = []

    def process(self, writer: str = "w1") -> Process:
        self.running.append(Process(writer, self.state, self.terms))
        return self.running[-1]

    def fund(self) -> Fund:
        assert self.terms.own.budget is not None
        return self.terms.own.budget.fund("t", self.clock.us // 1_000_000)

    @property
    def money(self) -> tuple[int, int]:
        """Spent, and spent and reserved together."""
        state: FundState = self.state.tenant(TENANT).fund_state(self.fund())
        return state.spent_nanousd, state.used_nanousd


@pytest.fixture(autouse=True)
def _clock_of_the_process() -> Iterator[None]:
    with mock.patch("gateway.admission.controller.time.time_ns", lambda: NOW_S * 10**9):
        yield


@asynccontextmanager
async def site(**limits: int) -> AsyncIterator[Site]:
    made = Site(**limits)
    yield made
    for process in made.running:
        process.task.cancel()
        await asyncio.gather(process.task, return_exceptions=True)


def rates_only(process: Process, **limits: int) -> Terms:
    process.terms = Terms(TENANT, own=Allowance(Limits(**limits)))
    return process.terms


async def admitted(process: Process, amount: int = 0) -> bool:
    try:
        await process.admit(amount)
    except LimitExceeded:
        return False
    return True


@pytest.mark.parametrize("limit", [1, 7, 60, 600])
async def test_never_twice_the_limit_at_an_edge(limit: int) -> None:
    """Greedy for three minutes: no span of time lets through more than a burst and its refill."""
    async with site() as one:
        process = one.process()
        rates_only(process, rpm=limit)
        taken_s: list[float] = []
        for tick in range(180 * 4):
            one.clock.us = NOW_S * 1_000_000 + tick * 250_000
            while await admitted(process):
                taken_s.append(tick / 4)
        for span_s in (1, 5, 60, 120):
            for begin in taken_s[:: max(len(taken_s) // 50, 1)]:
                inside = sum(begin <= at < begin + span_s for at in taken_s)
                assert inside <= limit + limit * span_s / 60 + 1
        assert len(taken_s) >= limit * 3, "and all that is allowed is let through"


async def test_what_was_not_used_comes_back_with_the_first_settlement() -> None:
    """A tenant with a rate alone has nothing to register for; its corrections count all the same."""
    async with site() as one:
        process = one.process()
        rates_only(process, tpm=1000)
        for _ in range(9):  # 100 tokens each, of which 10 are used
            assert await admitted(process)
            process.settle(process.running[0], 0)
            await process.told()
        bound = process.terms.bound("ci", "chat", "", "")
        (state,) = one.state.tenant(TENANT)._rates.states(
            process.controller.reservation(process.terms, bound, 0, 100, 0, b"").ask.rates, one.clock()
        )
        assert state.remaining == 1000 - 9 * 10


async def test_refused_by_one_costs_no_other() -> None:
    async with site(rpm=5, tpm=400, concurrency=1) as one:
        process = one.process()
        await process.admit(300)
        for _ in range(4):
            assert not await admitted(process, 300)
        assert one.money == (0, 300)
        process.settle(process.running[0], 0)
        await process.told()
        assert await admitted(process, LIMIT), "four refusals have used up nothing"
        assert one.money == (0, LIMIT)


async def test_all_places_money_and_tokens_come_back_from_a_cancelled_admission() -> None:
    async with site(concurrency=1, tpm=1000) as one:
        process = one.process()
        await process.admit(1)
        process.settle(process.running[0], 0)
        await process.told()
        for steps in range(1, 8):
            process.store.faults = ["slow"]
            task = asyncio.get_running_loop().create_task(process.admit(500))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for running in list(process.running):
                process.settle(running, 0)
            await process.told()
            assert one.money == (0, 0)
            assert process.controller.open == 0
        assert await admitted(process, LIMIT)


async def test_a_lost_reply_counts_once() -> None:
    """The store has done it and nobody heard: nothing is counted twice, nothing stays open."""
    async with site() as one:
        process = one.process()
        await process.admit(200)
        process.store.faults = ["after"]
        process.settle(process.running[0], 150)
        await process.told()
        assert one.money[0] == 150
        process.reconciler.tell(process.reconciler.account(TENANT))
        await process.told()
        assert one.money == (150, 150)
        process.store.faults = ["after"]
        with pytest.raises(Unavailable):
            await process.admit(300)  # not a lease, so nothing is let through
        await process.reconciler.renew_once()
        assert one.money[0] == 150
        assert one.money[1] - 150 == process.controller.without_store.leased_nanousd()


async def test_more_than_was_reserved_is_charged_in_full() -> None:
    async with site() as one:
        process = one.process()
        await process.admit(10)
        process.settle(process.running[0], LIMIT + 500)
        await process.told()
        assert one.money == (LIMIT + 500, LIMIT + 500)
        with pytest.raises(LimitExceeded) as refused:
            await process.admit(1)
        assert refused.value.retryable is False


async def test_a_reservation_can_grow() -> None:
    async with site() as one:
        process = one.process()
        await process.admit(100)
        (reservation,) = process.running
        assert await process.controller.cover(reservation, 80), "that much is reserved already"
        assert one.money == (0, 100)
        assert await process.controller.cover(reservation, 700)
        assert (one.money, reservation.amount_nanousd) == ((0, 700), 700)
        assert not await process.controller.cover(reservation, LIMIT + 1)
        assert (one.money, reservation.amount_nanousd) == ((0, 700), 700)
        process.settle(reservation, 600)
        await process.told()
        assert one.money == (600, 600)
        assert process.controller.open == 0


async def test_a_reservation_grows_also_when_the_lease_had_run_out() -> None:
    async with site() as one:
        process = one.process()
        await process.admit(100)
        one.clock.us += (LEASE_S + 1) * 1_000_000
        assert await process.controller.cover(process.running[0], 300)
        assert one.money == (0, 300)


async def test_a_reservation_grows_also_after_midnight() -> None:
    """It is charged to its own period, which is over: there is nobody to compete with."""
    async with site() as one:
        process = one.process()
        one.clock.us = (one.fund().end_s - 1) * 1_000_000
        before = one.fund()
        await process.admit(100)
        one.clock.us += 2_000_000
        assert await process.controller.cover(process.running[0], 300)
        process.settle(process.running[0], 250)
        await process.told()
        (state,) = await process.store.fund_states(TENANT, [before])
        assert (state.spent_nanousd, state.used_nanousd) == (250, 250)


@pytest.mark.parametrize(("on_loss", "grows"), [("allow", True), ("deny", False), ("lease", False)])
async def test_a_reservation_grows_without_the_store_by_the_terms(
    on_loss: BudgetOnLoss, grows: bool
) -> None:
    async with site() as one:
        one.terms = Terms(TENANT, own=one.terms.own, budget_on_loss=on_loss)
        process = one.process()
        await process.admit(100)
        process.store.set_down(True)
        assert await process.controller.cover(process.running[0], 300) is grows


@pytest.mark.parametrize("skew_s", [-300, -HOUR_S, 300, HOUR_S])
async def test_the_period_is_of_the_stores_clock(skew_s: int) -> None:
    """A process whose own clock is wrong charges the period that the others charge."""
    async with site() as one:
        process = one.process()
        one.clock.us = (NOW_S + skew_s) * 1_000_000
        await process.admit(100)
        assert process.running[0].ask.funds[0].fund == one.fund()
        assert process.controller.now_s() == NOW_S + skew_s
        process.settle(process.running[0], 70)
        await process.told()
        assert one.money == (70, 70)


async def test_what_was_admitted_before_midnight_is_charged_to_that_day() -> None:
    async with site() as one:
        process = one.process()
        one.clock.us = (one.fund().end_s - 1) * 1_000_000
        before = one.fund()
        await process.admit(LIMIT)
        one.clock.us += 2_000_000
        assert one.fund().start_s == before.end_s
        assert await admitted(process, LIMIT), "a new period is a new budget"
        process.settle(process.running[0], 400)
        await process.told()
        states = await process.store.fund_states(TENANT, [before, one.fund()])
        assert [state.spent_nanousd for state in states] == [400, 0]
        assert [state.used_nanousd for state in states] == [400, LIMIT]


def test_the_ledger_names_a_time_in_the_period_that_is_charged() -> None:
    hour, day = Fund("h", 1, 7200, 10_800), Fund("d", 1, 0, 86_400)
    total = Fund("t", 1, 0, 0)
    bound = Bound(())
    ask = Ask(TENANT, 1, funds=[FundClaim(fund, 1) for fund in (total, hour, day)])
    reservation = Reservation(Account(TENANT, lambda *_: 0), bound, ask)
    assert reservation.charged_at_s(7200) == 7200
    assert reservation.charged_at_s(10_799) == 10_799
    assert reservation.charged_at_s(7199) == reservation.charged_at_s(10_800) == 7200
    assert Reservation(reservation.account, bound, Ask(TENANT, 2)).charged_at_s(5) == 5


async def test_a_former_life_gives_back_what_it_held() -> None:
    async with site(concurrency=2) as one:
        process = one.process()
        await process.admit(300)
        await process.admit(300)
        await process.kill()
        assert (process.spent, one.money) == (600, (0, 600))
        process.start()
        await process.reconciler.introduce(TENANT, [one.fund()])
        assert one.money == (600, 600)
        assert await admitted(process, 400)
        assert not await admitted(process, 1)


async def test_a_store_without_memory_hears_it_all_again() -> None:
    async with site(concurrency=2) as one:
        process = one.process()
        await process.admit(100)
        process.settle(process.running[0], 100)
        await process.told()
        await process.admit(300)
        one.state.tenants.clear()
        process.store.set_down(True)
        process.store.set_down(False)
        await process.told()
        assert one.money == (100, 400)
        process.settle(process.running[0], 50)
        await process.told()
        assert one.money == (150, 150)


async def test_a_new_budget_learns_what_the_ledger_had_not_read_yet() -> None:
    """And what was begun before it and charged without it; nothing counts twice."""
    async with site() as one:
        process = one.process()
        await process.admit(50)
        process.spent = 130  # by others, before; it was read late
        process.settle(process.running[0], 40)
        await process.told()
        assert (one.money, process.spent) == ((40, 40), 170)
        for _ in range(3):
            await process.reconciler.renew_once()
            await process.told()
            assert one.money[0] == 170
        process.spent = 90
        await process.reconciler.renew_once()
        await process.told()
        assert one.money[0] == 170, "a ledger that is read late takes nothing back"


async def test_many_share_one_budget_to_the_last_cent() -> None:
    async with site() as one:
        fleet = [one.process(f"w{index}") for index in range(3)]
        taken = await asyncio.gather(*(admitted(process, 100) for process in fleet for _ in range(40)))
        assert sum(taken) == 10
        assert one.money == (0, LIMIT)


async def test_a_refusal_is_counted_by_its_name() -> None:
    async with site(rpm=1) as one:
        process = one.process()
        heard: list[tuple[str, str]] = []
        process.controller._limited = lambda tenant, limit: heard.append((tenant, limit))
        await process.admit(LIMIT)
        for _ in range(2):
            with pytest.raises(GatewayError):
                await process.admit(0)
        assert heard == [(TENANT, "rpm")] * 2


async def test_nothing_is_left_untold_at_the_end() -> None:
    async with site() as one:
        process = one.process()
        await process.admit(100)
        process.settle(process.running[0], 60)
        async with asyncio.timeout(1):
            await process.reconciler.drained()
        assert one.money == (60, 60)
        process.store.set_down(True)
        await process.told()
        process.reconciler.tell(process.reconciler.account(TENANT))
        async with asyncio.timeout(1):
            await process.reconciler.drained()
