"""What is of memory alone: a clock of one's own, and that it does not grow with its users."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.storage import gcra
from gateway.storage.interface import LEASE_S, Ask, Fund, FundClaim, RateClaim, Settled, SlotClaim, Spent
from gateway.storage.memory import Memory, MemoryState

T = "acme"
START_US = 1_800_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.us = START_US

    def __call__(self) -> int:
        return self.us

    def advance(self, seconds: float) -> None:
        self.us += round(seconds * 1e6)


async def test_random_users_do_not_fill_memory() -> None:
    clock = Clock()
    state = MemoryState(clock)
    store = Memory("a", state)
    await store.register(T, [], [], lost=False)
    most = 0
    for number in range(20_000):
        clock.advance(0.1)
        hour_s = clock.us // 3_600_000_000 * 3600
        fund = Fund(f"user{number}", 10**9, hour_s, hour_s + 3600)
        rates = [RateClaim(f"user{number}", 60, 1)]
        ask = Ask(T, number, rates, [SlotClaim(f"user{number}", 3)], [FundClaim(fund, 5)])
        assert (await store.admit(ask)).decision == "admitted"
        await store.settle(T, [Settled(number)], [Spent(fund, 5)])
        await store.put(f"record{number}", b"", 1.0)
        most = max(most, len(state.tenant(T)) - number - 1)
        clock.advance(0.1)
    assert most < 100
    assert len(state.records) < 100
    clock.advance(50 * 86_400)
    for number in range(20_000):
        await store.settle(T, [], [Spent(Fund(f"late{number}", 1, 0, 0), 0)])
    assert len(state.tenant(T)) < 20_100


async def test_a_lease_runs_out_by_itself() -> None:
    clock = Clock()
    state = MemoryState(clock)
    a, b = Memory("a", state), Memory("b", state)
    for store in (a, b):
        await store.register(T, [], [], lost=False)
    held = Ask(T, 1, slots=[SlotClaim("s", 1)])
    assert (await a.admit(held)).decision == "admitted"
    clock.advance(LEASE_S - 1)
    assert (await b.renew(T)).known
    assert (await b.admit(held)).decision == "slot"
    clock.advance(2)
    assert (await b.renew(T)).known
    assert (await b.admit(held)).decision == "admitted"
    assert await a.fleet() == 1
    assert await b.fleet() == 2
    clock.advance(LEASE_S)
    assert await b.fleet() == 1


async def test_a_minute_holds_the_limit_twice_at_most() -> None:
    """The burst, then the refill: never more, however it is asked."""
    clock = Clock()
    store = Memory("a", MemoryState(clock))
    admitted = 0
    for number in range(6000):
        verdict = await store.admit(Ask(T, number, [RateClaim("rpm", 100, 1)]))
        admitted += verdict.decision == "admitted"
        clock.advance(0.01)
    assert 199 <= admitted <= 200


limits = st.integers(1, 10**9)


@given(limit=limits, debt_us=st.floats(0, 7e7), share=st.floats(0, 1.2))
def test_what_remains_would_fit_and_one_more_would_not(limit: int, debt_us: float, share: float) -> None:
    state = gcra.state(debt_us, limit)
    assert 0 <= state.remaining <= limit
    if state.remaining:
        assert gcra.excess_us(debt_us, limit, state.remaining) == 0
    if state.remaining < limit <= 10**6:
        assert gcra.excess_us(debt_us, limit, state.remaining + 1) > 0
    assert gcra.state(debt_us - state.reset_us, limit).remaining == limit


@given(limit=limits, debt_us=st.floats(0, 7e7), share=st.floats(0, 1))
def test_after_the_wait_a_cost_fits(limit: int, debt_us: float, share: float) -> None:
    cost = int(limit * share)
    wait_us = gcra.wait_us(gcra.excess_us(debt_us, limit, cost))
    assert gcra.excess_us(max(0.0, debt_us - wait_us), limit, cost) == 0
    if wait_us > 1:
        assert gcra.excess_us(debt_us - wait_us + 2, limit, cost) > 0


@given(limit=limits, cost=st.integers(1, 10**9))
@example(limit=189, cost=1)
def test_costs_add_up_to_the_limit_exactly(limit: int, cost: int) -> None:
    tat_us, now_us = 0.0, START_US - gcra.ORIGIN_US
    for _ in range(min(limit // cost, 300)):
        debt_us = max(0.0, tat_us - now_us)
        assert gcra.excess_us(debt_us, limit, cost) == 0
        tat_us = gcra.moved(tat_us, now_us, limit, cost)
