"""What the interface says of admissions, sentence by sentence, in memory and in Redis."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.storage.interface import (
    LEASE_S,
    MAX_NANOUSD,
    REBUILD_S,
    Ask,
    Fund,
    FundClaim,
    FundState,
    RateClaim,
    RateState,
    Settled,
    SlotClaim,
    Spent,
    Store,
)
from tests.storage.worlds import World

T = "acme"
FUND = Fund("month", 1000, 0, 0)


def spend(number: int, amount: int, fund: Fund = FUND, note: bytes = b"") -> Ask:
    return Ask(T, number, funds=[FundClaim(fund, amount)], note=note)


def slot(number: int, limit: int = 2, note: bytes = b"") -> Ask:
    return Ask(T, number, slots=[SlotClaim("stream", limit)], note=note)


def rate(number: int, limit: int, cost: int, counter: str = "rpm") -> Ask:
    return Ask(T, number, rates=[RateClaim(counter, limit, cost)])


async def known(world: World, name: str = "a") -> Store:
    store = await world.writer(name)
    report = await store.register(T, [], [], lost=False)
    assert report.known
    return store


async def state(store: Store, fund: Fund = FUND) -> FundState:
    return (await store.fund_states(T, [fund]))[0]


# -- rates


async def test_a_burst_of_the_whole_limit_then_a_steady_refill(world: World) -> None:
    store = await known(world)
    verdict = await store.admit(rate(1, 7, 7))
    assert verdict.decision == "admitted"
    assert verdict.rates[0].remaining == 0
    assert verdict.rates[0].reset_us == 60_000_000
    refused = await store.admit(rate(2, 7, 1))
    assert (refused.decision, refused.index) == ("rate", 0)
    assert 8_000_000 < refused.wait_us <= 60_000_000 / 7 + 1
    assert refused.rates[0].remaining == 0


async def test_after_the_wait_it_fits(world: World) -> None:
    store = await known(world)
    await store.admit(rate(1, 600, 600))
    refused = await store.admit(rate(2, 600, 2))
    assert 0 < refused.wait_us <= 200_000
    await asyncio.sleep(refused.wait_us / 1e6 + 0.005)
    assert (await store.admit(rate(3, 600, 2))).decision == "admitted"


async def test_a_cost_above_the_limit_never_fits(world: World) -> None:
    store = await known(world)
    refused = await store.admit(rate(1, 10, 11))
    assert (refused.decision, refused.wait_us) == ("rate", 0)
    assert refused.rates == [RateState(10, 0)]


async def test_cost_zero_always_fits(world: World) -> None:
    store = await known(world)
    await store.admit(rate(1, 10, 10))
    assert (await store.admit(rate(2, 10, 0))).decision == "admitted"
    assert (await store.admit(rate(3, 0, 0))).rates == [RateState(0, 0)]


async def test_the_rate_that_waits_longest_is_named(world: World) -> None:
    store = await known(world)
    claims = [RateClaim("rpm", 60, 60), RateClaim("tpm", 6, 6), RateClaim("free", 9, 1)]
    await store.admit(Ask(T, 1, claims))
    refused = await store.admit(Ask(T, 2, [RateClaim("rpm", 60, 1), RateClaim("tpm", 6, 1), claims[2]]))
    assert (refused.decision, refused.index) == ("rate", 1)
    assert 9_000_000 < refused.wait_us <= 10_000_001
    assert refused.rates[2].remaining == 8


async def test_one_counter_twice_counts_twice(world: World) -> None:
    store = await known(world)
    claims = [RateClaim("rpm", 10, 6), RateClaim("rpm", 10, 6)]
    assert (await store.admit(Ask(T, 1, claims))).index == 1
    slots = [SlotClaim("s", 1), SlotClaim("s", 1)]
    assert (await store.admit(Ask(T, 2, slots=slots))).decision == "slot"
    funds = [FundClaim(FUND, 600), FundClaim(FUND, 600)]
    assert (await store.admit(Ask(T, 3, funds=funds))).decision in ("spent", "reserved")
    assert (await state(store)) == FundState(0, 0)


async def test_a_correction_moves_the_rate_both_ways(world: World) -> None:
    store = await known(world)
    claim = RateClaim("tpm", 1000, 800)
    await store.admit(Ask(T, 1, [claim]))
    await store.settle(T, [Settled(1, [(claim, -500)])], [])
    assert 700 <= (await store.admit(rate(2, 1000, 0, "tpm"))).rates[0].remaining <= 701
    await store.settle(T, [Settled(2, [(claim, 900)])], [])
    verdict = await store.admit(rate(3, 1000, 0, "tpm"))
    assert verdict.rates[0].remaining == 0
    assert verdict.rates[0].reset_us > 60_000_000


async def test_corrections_of_many_at_once(world: World) -> None:
    store = await known(world)
    claims = [RateClaim(f"r{number}", 10, 4) for number in range(4)]
    for number, claim in enumerate(claims[1:], 1):
        await store.admit(Ask(T, number, [claim], [SlotClaim("s", 9)]))
    ended = [Settled(number, [(claim, number), (claim, 1)]) for number, claim in enumerate(claims)]
    await store.settle(T, ended, [Spent(FUND, 9)])
    verdict = await store.admit(Ask(T, 9, [RateClaim(claim.counter, 10, 0) for claim in claims]))
    assert [rate.remaining for rate in verdict.rates] == [10, 4, 3, 2]
    assert await state(store) == FundState(9, 9)


async def test_rates_need_no_registration(world: World) -> None:
    store = await world.writer("stranger")
    assert (await store.admit(rate(1, 10, 1))).decision == "admitted"
    assert (await store.admit(Ask(T, 2))).decision == "admitted"
    assert (await store.admit(slot(3))).decision == "register"
    assert (await store.admit(spend(4, 1))).decision == "register"


# -- slots


async def test_slots_are_held_until_settled(world: World) -> None:
    a, b = await known(world, "a"), await known(world, "b")
    assert (await a.admit(slot(1))).decision == "admitted"
    assert (await b.admit(slot(1))).decision == "admitted"
    refused = await a.admit(slot(2))
    assert (refused.decision, refused.index) == ("slot", 0)
    await b.settle(T, [Settled(1), Settled(1), Settled(99)], [])
    assert (await a.admit(slot(3))).decision == "admitted"
    assert (await a.admit(slot(4))).decision == "slot"


# -- funds


async def test_refused_as_spent_or_only_as_reserved(world: World) -> None:
    store = await known(world)
    assert (await store.admit(spend(1, 600))).funds == [FundState(0, 600)]
    refused = await store.admit(spend(2, 401))
    assert (refused.decision, refused.index, refused.funds) == ("reserved", 0, [FundState(0, 600)])
    report = await store.settle(T, [Settled(1)], [Spent(FUND, 600)])
    assert report.funds == [FundState(600, 600)]
    assert (await store.admit(spend(3, 401))).decision == "spent"
    assert (await store.admit(spend(4, 400))).decision == "admitted"
    assert (await store.admit(spend(5, 1001))).decision == "spent"


async def test_a_total_counts_once_and_only_grows(world: World) -> None:
    a, b = await known(world, "a"), await known(world, "b")
    for total in (100, 100, 70, 250):
        await a.settle(T, [], [Spent(FUND, total)])
    report = await b.settle(T, [], [Spent(FUND, 40)])
    assert report.funds == [FundState(290, 290)]


async def test_what_was_really_spent_may_exceed_the_limit(world: World) -> None:
    store = await known(world)
    await store.admit(spend(1, 10))
    report = await store.settle(T, [Settled(1)], [Spent(FUND, 5000)])
    assert report.funds == [FundState(5000, 5000)]
    assert (await store.admit(spend(2, 0))).decision == "spent"


async def test_amounts_beyond_what_a_float_holds_are_exact(world: World) -> None:
    store = await known(world)
    fund = Fund("large", MAX_NANOUSD, 0, 0)
    odd = 2**62 + 1
    assert (await store.admit(spend(1, odd, fund))).funds == [FundState(0, odd)]
    assert (await store.admit(spend(2, 2**62 - 1, fund))).decision == "reserved"
    assert (await store.admit(spend(3, 2**62 - 2, fund))).funds == [FundState(0, MAX_NANOUSD)]
    report = await store.settle(T, [Settled(1), Settled(3)], [Spent(fund, 2**53 + 1)])
    assert report.funds == [FundState(2**53 + 1, 2**53 + 1)]
    report = await store.settle(T, [], [Spent(fund, 2**60 + 1)])
    assert report.funds == [FundState(2**60 + 1, 2**60 + 1)]


async def test_a_fund_of_another_time(world: World) -> None:
    store = await known(world)
    now_s = int(time.time())
    past, coming = Fund("p", 10, 0, now_s - 1), Fund("p", 10, now_s + 9, now_s + 99)
    for fund in (past, coming):
        claims = [FundClaim(FUND, 1), FundClaim(fund, 1)]
        verdict = await store.admit(Ask(T, 1, [RateClaim("r", 1, 1)], funds=claims))
        assert (verdict.decision, verdict.index) == ("period", 1)
        assert (verdict.rates, verdict.funds) == ([], [])
    assert (await store.admit(spend(2, 1, Fund("p", 10, now_s - 9, now_s + 9)))).decision == "admitted"


async def test_periods_of_a_fund_are_counted_apart(world: World) -> None:
    store = await known(world)
    now_s = int(time.time())
    old, new = Fund("p", 10, now_s - 20, now_s - 10), Fund("p", 10, now_s - 10, now_s + 90)
    await store.admit(spend(1, 10, new))
    report = await store.settle(T, [], [Spent(old, 7)])
    assert report.funds == [FundState(7, 7)]
    assert await store.fund_states(T, [new, old]) == [FundState(0, 10), FundState(7, 7)]
    assert await store.fund_states(T, []) == []


# -- all or nothing, once


@pytest.mark.parametrize("hurdle", ["rate", "slot", "reserved"])
async def test_what_is_refused_takes_nothing(world: World, hurdle: str) -> None:
    store = await known(world)
    rates = [RateClaim("rpm", 10, 4), RateClaim("tpm", 3 if hurdle == "rate" else 100, 4)]
    slots = [SlotClaim("s1", 5), SlotClaim("s2", 0 if hurdle == "slot" else 5)]
    other = Fund("other", 3 if hurdle == "reserved" else 100, 0, 0)
    await store.admit(spend(1, 1, other))
    funds = [FundClaim(FUND, 3), FundClaim(other, 3)]
    verdict = await store.admit(Ask(T, 2, rates, slots, funds))
    assert verdict.decision == hurdle
    assert verdict.rates[0] == RateState(10, 0)
    assert verdict.funds == [FundState(0, 0), FundState(0, 1)]
    full = Ask(T, 3, [RateClaim("rpm", 10, 10)], [SlotClaim("s1", 1)], [FundClaim(FUND, 1000)])
    assert (await store.admit(full)).decision == "admitted"


async def test_a_number_is_admitted_once(world: World) -> None:
    store = await known(world)
    ask = Ask(T, 1, [RateClaim("rpm", 10, 6)], [SlotClaim("s", 1)], [FundClaim(FUND, 700)])
    first, second = await store.admit(ask), await store.admit(ask)
    assert (first.decision, second.decision) == ("admitted", "admitted")
    assert second.rates[0].remaining == 4
    assert second.funds == [FundState(0, 700)]


async def test_settling_what_is_not_there_does_nothing(world: World) -> None:
    store = await known(world)
    claim = RateClaim("rpm", 10, 5)
    await store.admit(Ask(T, 1, [claim]))
    for _ in range(3):
        await store.settle(T, [Settled(1, [(claim, 2)])], [])
    assert (await store.admit(rate(2, 10, 0))).rates[0].remaining == 3


async def test_writers_number_for_themselves(world: World) -> None:
    a, b = await known(world, "a"), await known(world, "b")
    await a.admit(spend(1, 100))
    await b.admit(spend(1, 100))
    await b.settle(T, [Settled(1)], [])
    assert await state(a) == FundState(0, 100)


# -- writers


async def test_a_lapsed_writer_must_register(world: World) -> None:
    store = await known(world)
    await store.admit(spend(1, 100))
    world.lapse(T, "a")
    assert (await store.admit(spend(2, 100))).decision == "register"
    assert not (await store.renew(T)).known
    assert not (await store.settle(T, [], [])).known
    assert (await store.register(T, [spend(1, 100)], [], lost=True)).known
    assert await state(store) == FundState(0, 100)
    assert (await store.admit(spend(2, 100))).decision == "admitted"


@pytest.mark.parametrize("renewal", ["admit", "refused", "renew"])
async def test_a_lease_is_renewed(world: World, renewal: str) -> None:
    store = await known(world)
    world.lapse(T, "a", in_s=0.3)
    if renewal == "renew":
        await store.renew(T)
    else:
        await store.admit(slot(1, 1 if renewal == "admit" else 0))
    await asyncio.sleep(0.4)
    assert (await store.renew(T)).known


async def test_another_writer_sweeps_what_a_lapsed_one_held(world: World) -> None:
    a, b = await known(world, "a"), await known(world, "b")
    await a.settle(T, [], [Spent(FUND, 50)])
    ask = Ask(T, 1, slots=[SlotClaim("s", 1)], funds=[FundClaim(FUND, 300)], note=b"\x00of a")
    assert (await a.admit(ask)).decision == "admitted"
    await a.admit(slot(2, 1, b"two"))
    assert (await b.renew(T)).swept == []
    world.lapse(T, "a")
    assert (await b.admit(Ask(T, 1, slots=[SlotClaim("s", 1)]))).decision == "slot"
    report = await b.renew(T)
    assert (report.known, sorted(report.swept)) == (True, [b"\x00of a", b"two"])
    assert (await b.renew(T)).swept == []
    assert (await b.admit(Ask(T, 1, slots=[SlotClaim("s", 1)]))).decision == "admitted"
    assert await state(b) == FundState(350, 350)


async def test_who_comes_back_says_what_is_true(world: World) -> None:
    a, b = await known(world, "a"), await known(world, "b")
    await a.admit(spend(1, 300))
    await a.admit(spend(2, 200))
    await b.admit(spend(1, 10))
    world.lapse(T, "a")
    await b.renew(T)
    assert await state(b) == FundState(500, 510)
    report = await a.register(T, [spend(2, 200)], [Spent(FUND, 120)], lost=True)
    assert report.funds == [FundState(120, 330)]
    await a.settle(T, [Settled(1), Settled(2)], [Spent(FUND, 140)])
    assert await state(b) == FundState(140, 150)


async def test_registering_replaces_the_reservations_unchecked(world: World) -> None:
    store = await known(world)
    await store.admit(spend(1, 300))
    await store.admit(slot(2, 1))
    await store.register(T, [spend(7, 2000), slot(8), slot(9)], [], lost=False)
    assert await state(store) == FundState(0, 2000)
    assert (await store.admit(slot(10, 2))).decision == "slot"
    await store.settle(T, [Settled(1), Settled(2), Settled(7), Settled(8), Settled(9)], [])
    assert await state(store) == FundState(0, 0)
    assert (await store.admit(slot(11, 1))).decision == "admitted"


async def test_notes_survive_registering(world: World) -> None:
    a, b = await known(world, "a"), await known(world, "b")
    await a.register(T, [spend(7, 20, note=b"seven")], [], lost=False)
    world.lapse(T, "a")
    assert (await b.renew(T)).swept == [b"seven"]


async def test_after_a_loss_of_memory_budgets_wait(world: World) -> None:
    a, b = await known(world, "a"), await known(world, "b")
    await a.admit(spend(1, 100))
    await a.settle(T, [Settled(1)], [Spent(FUND, 100)])
    await b.settle(T, [], [Spent(FUND, 800)])
    world.forget()
    assert (await a.admit(spend(2, 100))).decision == "register"
    assert (await a.register(T, [], [Spent(FUND, 100)], lost=True)).known
    waits = await a.admit(spend(2, 100))
    assert waits.decision == "wait"
    assert 0 < waits.wait_us <= REBUILD_S * 1e6
    assert (await a.admit(slot(3))).decision == "admitted"
    assert (await b.register(T, [], [Spent(FUND, 800)], lost=True)).funds == [FundState(900, 900)]
    await asyncio.sleep(waits.wait_us / 1e6 + 0.005)
    assert (await a.admit(spend(2, 101))).decision == "spent"
    assert (await a.admit(spend(3, 100))).decision == "admitted"


async def test_a_first_registration_waits_for_nobody(world: World) -> None:
    a, b = await known(world, "a"), await world.writer("b")
    await b.register(T, [], [], lost=True)
    assert (await b.admit(spend(1, 1))).decision == "admitted"
    assert (await a.admit(spend(1, 1))).decision == "admitted"


async def test_the_epoch_comes_with_every_answer(world: World) -> None:
    store, other = await known(world), await world.writer("b")
    assert (await store.admit(Ask(T, 1))).epoch == 0
    await other.bump([T, "globex"])
    await other.bump([T])
    assert (await store.admit(Ask(T, 1))).epoch == 2
    assert (await store.admit(rate(2, 1, 2))).epoch == 2
    assert (await store.renew(T)).epoch == 2
    assert (await store.settle(T, [], [])).epoch == 2
    assert (await other.admit(spend(2, 1))).epoch == 2
    assert (await store.admit(Ask("globex", 1))).epoch == 1


async def test_times_are_those_of_the_clock(world: World) -> None:
    store = await known(world)
    before_us = time.time_ns() // 1000
    at_us = [(await store.admit(Ask(T, 1))).time_us, (await store.renew(T)).time_us]
    assert before_us - 1000 <= min(at_us) <= max(at_us) <= time.time_ns() // 1000 + 1000


async def test_the_fleet(world: World) -> None:
    a, b = await world.writer("a"), await world.writer("b")
    assert [await a.fleet(), await b.fleet(), await a.fleet()] == [1, 2, 2]
    assert LEASE_S > 1


async def test_strange_names_are_kept_apart(world: World) -> None:
    store = await world.writer("w:{x}")
    for tenant in ("a{b}", "a}b{", "{}", "ä:ö", "a b"):
        fund = Fund(f"of:{tenant}", 10, 0, 0)
        await store.register(tenant, [], [], lost=False)
        ask = Ask(tenant, 1, [RateClaim("r:1", 5, 1)], [SlotClaim("s{1}", 1)], [FundClaim(fund, 7)])
        assert (await store.admit(ask)).decision == "admitted"
        assert await store.fund_states(tenant, [fund]) == [FundState(0, 7)]
