"""While the store is away: this process's share of the limits, and what was set aside of the budgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from unittest import mock

import pytest

from gateway.admission.terms import Allowance, Budget, BudgetOnLoss, Limits, LimitsOnLoss, Terms
from gateway.admission.without_store import LEASE_SHARE, MOST_LEASED_NANOUSD
from gateway.errors import GatewayError, LimitExceeded, Unavailable
from gateway.storage.memory import MemoryState
from tests.property.admission_rig import NOW_S, TENANT, Clock, Process

USD = 10**9
BUDGET = Budget(50 * USD, "total")
LEASED = 50 * USD // LEASE_SHARE


@pytest.fixture(autouse=True)
def _the_stores_clock() -> Iterator[None]:
    with mock.patch("gateway.admission.controller.time.time_ns", lambda: NOW_S * 10**9):
        yield


@asynccontextmanager
async def process(
    budget: Budget | None = None,
    *,
    on_limits: LimitsOnLoss = "local_share",
    on_budget: BudgetOnLoss = "lease",
    **limits: int,
) -> AsyncIterator[Process]:
    own = Allowance(Limits(**limits), budget)
    terms = Terms(TENANT, own=own, limits_on_loss=on_limits, budget_on_loss=on_budget)
    made = Process("w1", MemoryState(Clock()), terms)
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def leased(made: Process) -> int:
    """After a request and a renewal, as in a process that has served for a while."""
    await made.admit(0)
    made.settle(made.running[0], 0)
    await made.told()
    await made.reconciler.renew_once()
    return made.controller.without_store.leased_nanousd()


async def tried(made: Process, amount: int = 0) -> str:
    """``ok``, or the code of the refusal."""
    try:
        await made.admit(amount)
    except GatewayError as error:
        return error.code
    assert made.running[-1].local
    return "ok"


async def test_a_share_of_the_requests_a_minute() -> None:
    async with process(rpm=9) as made:
        made.controller.without_store.fleet = 3
        made.store.set_down(True)
        assert [await tried(made) for _ in range(5)] == ["ok"] * 3 + ["rate_limit_exceeded"] * 2
        assert made.running[0].rates[0][0].limit == 3


async def test_a_share_is_never_nothing() -> None:
    async with process(rpm=2, concurrency=2) as made:
        made.controller.without_store.fleet = 50
        made.store.set_down(True)
        assert [await tried(made) for _ in range(2)] == ["ok", "rate_limit_exceeded"]


async def test_places_come_back_here_too() -> None:
    async with process(concurrency=2) as made:
        made.store.set_down(True)
        assert [await tried(made) for _ in range(3)] == ["ok", "ok", "concurrency_exceeded"]
        made.settle(made.running[0], 0)
        assert [await tried(made) for _ in range(2)] == ["ok", "concurrency_exceeded"]


async def test_tokens_are_corrected_here_too() -> None:
    async with process(tpm=250) as made:  # 100 are reserved, 10 are used
        made.store.set_down(True)
        for _ in range(5):
            assert await tried(made) == "ok"
            made.settle(made.running[0], 0)
        assert [await tried(made) for _ in range(3)] == ["ok", "ok", "rate_limit_exceeded"]


@pytest.mark.parametrize(
    ("on_limits", "codes"),
    [
        ("deny", ["storage_unavailable"] * 3),
        ("allow", ["ok"] * 3),
        ("local_share", ["ok", "rate_limit_exceeded", "rate_limit_exceeded"]),
    ],
)
async def test_limits_by_the_terms(on_limits: LimitsOnLoss, codes: list[str]) -> None:
    async with process(on_limits=on_limits, rpm=1) as made:
        made.store.set_down(True)
        assert [await tried(made) for _ in range(3)] == codes


async def test_where_there_are_no_limits_nobody_is_refused() -> None:
    async with process(on_limits="deny", on_budget="deny") as made:
        made.store.set_down(True)
        assert await tried(made) == "ok"


@pytest.mark.parametrize(("on_budget", "code"), [("deny", "storage_unavailable"), ("allow", "ok")])
async def test_budgets_by_the_terms(on_budget: BudgetOnLoss, code: str) -> None:
    async with process(BUDGET, on_budget=on_budget) as made:
        assert await leased(made) == 0
        made.store.set_down(True)
        assert await tried(made, 1000 * USD) == code


async def test_a_refusal_is_counted() -> None:
    async with process(rpm=1) as made:
        heard: list[tuple[str, str]] = []
        made.controller.without_store._limited = lambda tenant, limit: heard.append((tenant, limit))
        made.store.set_down(True)
        await tried(made)
        assert await tried(made) == "rate_limit_exceeded"
        assert heard == [(TENANT, "rpm")]


@pytest.mark.parametrize(("limit_usd", "amount"), [(50, USD // 2), (100, USD), (5000, MOST_LEASED_NANOUSD)])
async def test_a_lease_is_a_small_part_of_the_rest(limit_usd: int, amount: int) -> None:
    async with process(Budget(limit_usd * USD, "total")) as made:
        assert await leased(made) == amount
        assert made.controller.open == 0, "a lease is no request"
        fund = made.terms.own.budget.fund("t", NOW_S)  # type: ignore[union-attr]
        (state,) = await made.store.fund_states(TENANT, [fund])
        assert (state.spent_nanousd, state.used_nanousd) == (0, amount), "it is reserved in the store"
        for _ in range(3):
            await made.reconciler.renew_once()
        assert made.controller.without_store.leased_nanousd() == amount


async def test_only_what_was_leased_is_spent() -> None:
    async with process(BUDGET) as made:
        assert await leased(made) == LEASED
        made.store.set_down(True)
        assert await tried(made, LEASED + 1) == "storage_unavailable"
        assert await tried(made, LEASED) == "ok"
        assert await tried(made, 1) == "storage_unavailable"
        made.settle(made.running[0], LEASED // 4)
        assert await tried(made, LEASED) == "storage_unavailable"
        assert await tried(made, LEASED - LEASED // 4) == "ok"


async def test_a_lease_pays_for_another_attempt_too() -> None:
    async with process(BUDGET) as made:
        await leased(made)
        made.store.set_down(True)
        await made.admit(LEASED // 2)
        (reservation,) = made.running
        assert await made.controller.cover(reservation, LEASED)
        assert not await made.controller.cover(reservation, LEASED + 1)
        made.settle(reservation, LEASED // 2)
        assert await tried(made, LEASED // 2) == "ok"


async def test_afterwards_the_store_knows_what_was_spent() -> None:
    async with process(BUDGET) as made:
        await leased(made)
        made.store.set_down(True)
        await made.admit(LEASED)
        made.settle(made.running[0], LEASED - 7)
        made.store.set_down(False)
        await made.told()
        fund = made.terms.own.budget.fund("t", NOW_S)  # type: ignore[union-attr]
        (state,) = await made.store.fund_states(TENANT, [fund])
        assert state.spent_nanousd == LEASED - 7
        await made.reconciler.renew_once()
        rest = (50 * USD - (LEASED - 7)) // LEASE_SHARE
        assert made.controller.without_store.leased_nanousd() == rest
        (state,) = await made.store.fund_states(TENANT, [fund])
        assert state.used_nanousd == LEASED - 7 + rest


async def test_a_lease_that_is_spent_from_is_left_alone() -> None:
    async with process(BUDGET) as made:
        await leased(made)
        made.store.set_down(True)
        await made.admit(LEASED)
        made.store.set_down(False)
        await made.told()
        for _ in range(2):
            await made.reconciler.renew_once()
        assert made.controller.without_store.leased_nanousd() == LEASED
        made.settle(made.running[0], 5)
        await made.told()
        await made.reconciler.renew_once()
        fund = made.terms.own.budget.fund("t", NOW_S)  # type: ignore[union-attr]
        (state,) = await made.store.fund_states(TENANT, [fund])
        assert state.spent_nanousd == 5
        assert state.used_nanousd - 5 == made.controller.without_store.leased_nanousd()


async def test_nothing_is_leased_of_what_is_gone() -> None:
    async with process(BUDGET) as made:
        await made.admit(1)
        made.settle(made.running[0], 50 * USD)
        await made.told()
        await made.reconciler.renew_once()
        assert made.controller.without_store.leased_nanousd() == 0
        made.store.set_down(True)
        with pytest.raises(Unavailable):
            await made.admit(1)
        made.store.set_down(False)
        await made.told()
        with pytest.raises(LimitExceeded):
            await made.admit(1)
