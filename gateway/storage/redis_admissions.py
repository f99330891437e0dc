"""Admissions through the Lua scripts: claims into words, replies into verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.storage import keys, scripts
from gateway.storage.interface import (
    LEASE_S,
    REBUILD_S,
    Ask,
    Decision,
    Fund,
    FundState,
    RateState,
    Report,
    Settled,
    Spent,
    Verdict,
)
from gateway.storage.keys import TenantKeys
from gateway.storage.link import Reply, Word
from gateway.storage.memory_funds import room_nanousd
from gateway.storage.redis_calls import RedisCalls

LEASE_US = int(LEASE_S * 1e6)
REBUILD_US = int(REBUILD_S * 1e6)
_DECISIONS: tuple[Decision, ...] = (
    "admitted",
    "rate",
    "slot",
    "spent",
    "reserved",
    "period",
    "register",
    "wait",
)
"""By the numbers that ``lua/admit.lua`` gives them."""
_BARE = frozenset({"period", "register", "wait"})
_KEPT_TENANTS = 10_000


class RedisAdmissions:
    def __init__(self, calls: RedisCalls, writer: str) -> None:
        self.writer = writer
        self._calls = calls
        self._tenants: dict[str, TenantKeys] = {}

    async def admit(self, ask: Ask) -> Verdict:
        tenant = self._tenants.get(ask.tenant) or self._tenant(ask.tenant)
        words = admit_words(tenant, self.writer, ask)
        return verdict(ask, await self._calls.run(scripts.ADMIT, tenant.slot_number, words))

    async def settle(self, tenant: str, ended: Sequence[Settled], spent: Sequence[Spent]) -> Report:
        names = self._tenant(tenant)
        words = settle_words(names, self.writer, ended, spent)
        return report(await self._calls.run(scripts.SETTLE, names.slot_number, words))

    async def register(
        self, tenant: str, open: Sequence[Ask], spent: Sequence[Spent], *, lost: bool
    ) -> Report:
        names = self._tenant(tenant)
        words = register_words(names, self.writer, open, spent, lost)
        reply = await self._calls.run(scripts.REGISTER, names.slot_number, words)
        return Report(reply[0] == 1, reply[1], int(reply[2]), _funds(reply[4:]), reply[3])

    async def renew(self, tenant: str) -> Report:
        names = self._tenant(tenant)
        words: list[Word] = [3, names.writers, names.reservations, names.epoch]
        words += (self.writer, LEASE_US, names.reservations_of, names.swept_of, names.left_of)
        reply = await self._calls.run(scripts.RENEW, names.slot_number, words)
        return Report(reply[0] == 1, reply[1], int(reply[2]), [], reply[3])

    async def fund_states(self, tenant: str, funds: Sequence[Fund]) -> list[FundState]:
        if not funds:
            return []
        names = self._tenant(tenant)
        words: list[Word] = [len(funds), *(names.fund(fund) for fund in funds)]
        return _funds(await self._calls.run(scripts.FUNDS, names.slot_number, words))

    async def fleet(self) -> int:
        words: list[Word] = [1, keys.FLEET, self.writer, LEASE_US]
        return int(await self._calls.run(scripts.FLEET, keys.slot_number(keys.FLEET), words))

    def _tenant(self, tenant: str) -> TenantKeys:
        names = self._tenants.get(tenant)
        if names is None:
            if len(self._tenants) >= _KEPT_TENANTS:
                self._tenants.clear()
            names = self._tenants[tenant] = TenantKeys(tenant, self.writer)
        return names


# -- claims into words: how many keys, the keys, the arguments; see the head of each script


def admit_words(tenant: TenantKeys, writer: str, ask: Ask) -> list[Word]:
    rates, slots, funds = ask.rates, ask.slots, ask.funds
    count = 4 + len(rates) + len(slots) + len(funds)
    words: list[Word] = [count, tenant.writers, tenant.reservations, tenant.epoch, tenant.rebuild]
    args: list[Word] = [writer, ask.number, LEASE_US, ask.note, len(rates), len(slots), len(funds)]
    for rate in rates:
        words.append(tenant.rate + rate.counter)
        args += (rate.limit, rate.cost)
    for slot in slots:
        words.append(tenant.slot + slot.counter)
        args.append(slot.limit)
    for index, claim in enumerate(funds):
        fund = claim.fund
        words.append(tenant.fund(fund))
        args += (claim.amount_nanousd, room_nanousd(funds, index), fund.start_s, fund.end_s)
    words += args
    return words


def settle_words(
    tenant: TenantKeys, writer: str, ended: Sequence[Settled], spent: Sequence[Spent]
) -> list[Word]:
    names: list[Word] = [tenant.writers, tenant.reservations, tenant.epoch]
    corrections = sum(len(end.corrections) for end in ended)
    args: list[Word] = [writer, len(ended), corrections, len(spent)]
    for end in ended:
        args += (end.number, len(end.corrections))
        for claim, units in end.corrections:
            names.append(tenant.rate + claim.counter)
            args += (claim.limit, units)
    _add_totals(names, args, tenant, spent)
    return [len(names), *names, *args]


def register_words(
    tenant: TenantKeys, writer: str, asks: Sequence[Ask], spent: Sequence[Spent], lost: bool
) -> list[Word]:
    names: list[Word] = [tenant.writers, tenant.reservations, tenant.epoch, tenant.rebuild]
    names += (tenant.boot, tenant.swept, tenant.left)
    args: list[Word] = [writer, LEASE_US, REBUILD_US if lost else 0, len(asks), len(spent)]
    for ask in asks:
        args += (ask.number, ask.note, len(ask.slots), len(ask.funds))
        names += (tenant.slot + slot.counter for slot in ask.slots)
        for claim in ask.funds:
            names.append(tenant.fund(claim.fund))
            args += (claim.amount_nanousd, claim.fund.end_s)
    _add_totals(names, args, tenant, spent)
    return [len(names), *names, *args]


def _add_totals(names: list[Word], args: list[Word], tenant: TenantKeys, spent: Iterable[Spent]) -> None:
    for total in spent:
        names.append(tenant.fund(total.fund))
        args += (total.total_nanousd, total.fund.end_s)


# -- replies


def verdict(ask: Ask, reply: Reply) -> Verdict:
    decision = _DECISIONS[reply[0]]
    answer = Verdict(decision, reply[1], int(reply[2]), reply[3], reply[4])
    if decision not in _BARE:
        after_rates = 5 + 2 * len(ask.rates)
        answer.rates = [RateState(reply[at], reply[at + 1]) for at in range(5, after_rates, 2)]
        answer.funds = _funds(reply[after_rates:])
    return answer


def report(reply: Reply) -> Report:
    return Report(reply[0] == 1, reply[1], int(reply[2]), _funds(reply[3:]))


def _funds(reply: Sequence[bytes]) -> list[FundState]:
    return [FundState(int(reply[at]), int(reply[at + 1])) for at in range(0, len(reply), 2)]
