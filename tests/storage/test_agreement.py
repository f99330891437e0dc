"""Whatever several writers do, in any order: Redis decides as memory does, to the last microsecond, and the
sums are those of the writers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.storage.interface import (
    Ask,
    Fund,
    FundClaim,
    FundState,
    RateClaim,
    Settled,
    SlotClaim,
    Spent,
    Store,
)
from gateway.storage.memory import Memory, MemoryState
from tests.storage.redis_server import RedisServer
from tests.storage.worlds import MemoryWorld, RedisWorld, fresh_tenant

WRITERS = ("a", "b", "c")
FUNDS = (
    Fund("small", 1_000, 0, 0),
    Fund("large", 2**63 - 1, 0, 0),
    Fund("past", 10, 0, int(time.time()) - 1_000),
)
LIMITS = {"small": 1_000, "large": 2**63 - 1}
amounts = st.one_of(st.integers(0, 600), st.integers(2**53 - 2, 2**53 + 2), st.integers(2**59, 2**59 + 3))
writers = st.sampled_from(WRITERS)
rate_claims = st.builds(
    RateClaim,
    st.sampled_from(["rpm", "tpm"]),
    st.sampled_from([0, 1, 7, 60, 1_000, 1_000, 90_000_001, 90_000_001]),
    st.sampled_from([0, 1, 1, 1, 2, 2, 7, 59, 30_000_000]),
)
rates = st.lists(rate_claims, max_size=2)
slots = st.lists(
    st.builds(SlotClaim, st.sampled_from(["s", "t"]), st.sampled_from([0, 1, 2, 9])), max_size=2
)
numbers = st.integers(0, 5)
funds = st.sampled_from([*FUNDS[:2]] * 5 + [FUNDS[2]])
claims = st.lists(st.builds(FundClaim, funds, amounts), max_size=2)
notes = st.sampled_from([b"", b"note", b"\x00\xff"])
asks = st.builds(Ask, st.just("t"), numbers, rates, slots, claims, notes)
corrections = st.lists(st.tuples(rate_claims, st.integers(-700, 700)), max_size=2)
ended = st.lists(st.builds(Settled, numbers, corrections), max_size=3)
totals = st.lists(st.builds(Spent, st.sampled_from(FUNDS[:2]), amounts), max_size=2)
Step = tuple[Any, ...]
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), writers, asks),
        st.tuples(st.just("admit"), writers, asks),
        st.tuples(st.just("settle"), writers, ended, totals),
        st.tuples(
            st.just("register"),
            writers,
            st.lists(asks, max_size=2, unique_by=lambda ask: ask.number),
            totals,
        ),
        st.tuples(st.just("renew"), writers),
        st.tuples(st.just("lapse"), writers),
        st.tuples(st.just("bump"), writers),
    ),
    min_size=10,
    max_size=30,
)


async def perform(store: Store, tenant: str, step: Step) -> Any:
    """The answer of one step in ``tenant``."""
    match step:
        case ("admit", _, ask):
            return await store.admit(Ask(tenant, ask.number, ask.rates, ask.slots, ask.funds, ask.note))
        case ("settle", _, done, spent):
            return await store.settle(tenant, done, spent)
        case ("register", _, open_, spent):
            return await store.register(tenant, open_, spent, lost=False)
        case ("renew", _):
            return await store.renew(tenant)
        case ("bump", _):
            return await store.bump([tenant])
    raise AssertionError(step)


async def agree(server: RedisServer, sequence: list[Step]) -> None:
    redis = RedisWorld(server)
    try:
        await agree_on(redis, fresh_tenant(), sequence)
    finally:
        await redis.aclose()


async def agree_on(redis: RedisWorld, tenant: str, sequence: list[Step]) -> None:
    """The clock of memory is what Redis said it was; a report's notes come in no order."""
    now_us = 0
    memory = MemoryWorld()
    memory.state = MemoryState(lambda: now_us)
    there = {name: await redis.writer(name) for name in WRITERS}
    here = {name: await memory.writer(name) for name in WRITERS}
    opening: list[Step] = [("register", name, [], []) for name in WRITERS[:2]]
    for step in opening + sequence:
        name = step[1]
        if step[0] == "lapse":
            redis.lapse(tenant, name)
            memory.lapse(tenant, name)
            continue
        answer = await perform(there[name], tenant, step)
        now_us = 0 if answer is None else answer.time_us
        expected = await perform(here[name], tenant, step)
        if step[0] in ("renew", "register"):
            answer.swept.sort()
            expected.swept.sort()
        assert answer == expected, step
        states = await there[name].fund_states(tenant, FUNDS)
        assert states == await here[name].fund_states(tenant, FUNDS), step


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=steps)
def test_redis_decides_as_memory_does(shared_server: RedisServer, sequence: list[Step]) -> None:
    uvloop.run(agree(shared_server, sequence))


async def test_fractions_of_a_microsecond_add_up(shared_server: RedisServer) -> None:
    """Two units of this rate cost a microsecond and a third."""
    claim = RateClaim("tpm", 90_000_001, 2)
    burst: Step = ("admit", "a", Ask("t", 0, [RateClaim("tpm", 90_000_001, 80_000_000)]))
    await agree(shared_server, [burst, *(("admit", "a", Ask("t", 1 + n, [claim])) for n in range(300))])


# -- writers that tell the truth


@dataclass
class Writer:
    """What one process knows for true: its open asks and what it has spent."""

    store: Store
    open: dict[int, Ask] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0))
    numbers: Any = field(default_factory=itertools.count)

    def totals(self) -> list[Spent]:
        return [Spent(fund, self.spent[fund.name]) for fund in FUNDS[:2]]

    async def register(self, tenant: str) -> None:
        await self.store.register(tenant, list(self.open.values()), self.totals(), lost=False)

    async def admit(self, tenant: str, claims: list[FundClaim]) -> None:
        ask = Ask(tenant, next(self.numbers), slots=[SlotClaim("s", 4)], funds=claims)
        verdict = await self.store.admit(ask)
        if verdict.decision == "register":
            await self.register(tenant)
            verdict = await self.store.admit(ask)
        if verdict.decision == "admitted":
            self.open[ask.number] = ask

    async def settle(self, tenant: str, share: float) -> None:
        """The oldest ends, having cost a part of what it reserved; told twice, as after a lost reply."""
        if not self.open:
            return
        number = next(iter(self.open))
        for claim in self.open.pop(number).funds:
            self.spent[claim.fund.name] += int(claim.amount_nanousd * share)
        for _ in range(2):
            report = await self.store.settle(tenant, [Settled(number)], self.totals())
        if not report.known:
            await self.register(tenant)

    def reserved(self, name: str) -> int:
        held = [claim for ask in self.open.values() for claim in ask.funds]
        return sum(claim.amount_nanousd for claim in held if claim.fund.name == name)


Deed = tuple[str, int, Any]
deeds = st.lists(
    st.one_of(
        st.tuples(
            st.just("admit"),
            st.integers(0, 2),
            st.lists(st.builds(FundClaim, st.sampled_from(FUNDS[:2]), amounts), max_size=2),
        ),
        st.tuples(st.just("settle"), st.integers(0, 2), st.sampled_from([0.0, 0.5, 1.0])),
        st.tuples(st.just("renew"), st.integers(0, 2), st.none()),
        st.tuples(st.just("lapse"), st.integers(0, 2), st.none()),
        st.tuples(st.just("register"), st.integers(0, 2), st.none()),
    ),
    max_size=30,
)


async def sums_hold(
    stores: list[Store], tenant: str, lapse: Callable[[str, str], None], sequence: list[Deed]
) -> None:
    processes = [Writer(store) for store in stores]
    lapsed = False
    for deed, index, what in sequence:
        process = processes[index]
        if deed == "lapse":
            lapsed = True
            lapse(tenant, process.store.writer)
        elif deed == "renew":
            await process.store.renew(tenant)
        elif deed == "register":
            await process.register(tenant)
        else:
            await getattr(process, deed)(tenant, what)
        if not lapsed:
            assert sum(len(one.open) for one in processes) <= 4
            await check(tenant, processes)
    for one in processes:
        await one.register(tenant)
    await check(tenant, processes)
    for one in processes:
        while one.open:
            await one.settle(tenant, 0.5)
    await check(tenant, processes)
    room = Ask(tenant, 10_000, slots=[SlotClaim("s", 1)])
    assert (await stores[0].admit(room)).decision == "admitted"
    await stores[0].settle(tenant, [Settled(10_000)], [])


async def check(tenant: str, processes: list[Writer]) -> None:
    """What is spent and reserved is the sum of what the writers know, and within the limits."""
    states = await processes[0].store.fund_states(tenant, FUNDS[:2])
    for fund, held in zip(FUNDS, states, strict=False):
        spent = sum(one.spent[fund.name] for one in processes)
        assert held == FundState(spent, spent + sum(one.reserved(fund.name) for one in processes))
        assert held.used_nanousd <= fund.limit_nanousd


@settings(max_examples=150, deadline=None)
@given(sequence=deeds)
def test_sums_hold_in_memory(sequence: list[Deed]) -> None:
    world = MemoryWorld()
    stores: list[Store] = [Memory(name, world.state) for name in WRITERS]
    uvloop.run(sums_hold(stores, fresh_tenant(), world.lapse, sequence))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=deeds)
def test_sums_hold_in_redis(shared_server: RedisServer, sequence: list[Deed]) -> None:
    async def play() -> None:
        world = RedisWorld(shared_server)
        try:
            stores = [await world.writer(name) for name in WRITERS]
            await sums_hold(stores, fresh_tenant(), world.lapse, sequence)
        finally:
            await world.aclose()

    uvloop.run(play())
