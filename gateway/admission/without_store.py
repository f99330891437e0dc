"""Admission while the store cannot be asked: by each tenant's terms, from what this process has.

Rates and slots are counted here, at the limit divided by the processes that lived when the store was last
seen. Budgets are spent from leases: amounts that this process has reserved in the store beforehand, so
that nothing is spent twice. A lease is what ``LEASE_SHARE`` of a fund's rest comes to, at most
``MOST_LEASED_NANOUSD``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from gateway.admission.account import Account, Reservation
from gateway.admission.refusals import refusal, store_away
from gateway.admission.terms import Terms
from gateway.errors import Unavailable
from gateway.storage.interface import (
    Ask,
    Fund,
    RateClaim,
    Settled,
    SlotClaim,
    Store,
)
from gateway.storage.memory import MemoryState

LEASE_SHARE = 100
"""One part in so many of what a fund has left."""
MOST_LEASED_NANOUSD = 10**9


Hold = Callable[[Account, Fund, int], Awaitable[Ask | None]]
"""Reserves so many nano-dollars of a fund; None if that cannot be had."""


@dataclass(slots=True)
class Lease:
    """``ask``: the reservation that holds it in the store. ``left_nanousd``: of its amount; ``running``:
    requests that spend from it."""

    ask: Ask
    left_nanousd: int
    running: set[int] = field(default_factory=set)


class WithoutStore:
    """``fleet``: how many processes share the limits. ``limited`` hears of a refusal: tenant, and the
    limit's name."""

    def __init__(self, store: Store, limited: Callable[[str, str], None]) -> None:
        self.fleet = 1
        self._store = store
        self._limited = limited
        self._local = MemoryState()
        self._open: dict[str, dict[int, Ask]] = {}
        self._leases: dict[tuple[str, str, int], Lease] = {}

    @property
    def leases(self) -> int:
        """Reservations that are leases."""
        return len(self._leases)

    def leased_nanousd(self) -> int:
        """Set aside in the store at the moment."""
        return sum(claim.amount_nanousd for lease in self._leases.values() for claim in lease.ask.funds)

    def admit(self, terms: Terms, reservation: Reservation) -> None:
        """Raises ``LimitExceeded``, and ``Unavailable`` for what is not let through blindly."""
        leases = self._leased(terms, reservation)
        self._counted(terms, reservation)
        for lease in leases:
            lease.left_nanousd -= reservation.amount_nanousd
            lease.running.add(reservation.ask.number)
        reservation.local = True

    def cover(self, reservation: Reservation, missing_nanousd: int) -> bool:
        """Takes more from the leases that ``reservation`` spends from."""
        leases = self._of(reservation)
        if any(lease.left_nanousd < missing_nanousd for lease in leases):
            return False
        for lease in leases:
            lease.left_nanousd -= missing_nanousd
        reservation.amount_nanousd += missing_nanousd
        return True

    def settle(self, reservation: Reservation, charged_nanousd: int, tokens: int) -> None:
        for lease in self._of(reservation):
            lease.left_nanousd += reservation.amount_nanousd - charged_nanousd
            lease.running.discard(reservation.ask.number)
        tenant = reservation.account.tenant
        ask = self._open.get(tenant, {}).pop(reservation.ask.number, None)
        if ask is not None:
            by_token = ask.rates[len(reservation.bound.requests) :]
            difference = tokens - reservation.tokens
            corrections = [(claim, difference) for claim in by_token]
            ended = [Settled(ask.number, corrections)]
            self._local.tenant(tenant).settle(self._store.writer, ended, [], self._local.clock())

    async def refresh(self, account: Account, funds: Sequence[Fund], hold: Hold) -> None:
        """Leases a little of each fund for a time without the store."""
        states = await self._store.fund_states(account.tenant, funds)
        for fund, state in zip(funds, states, strict=True):
            name = (account.tenant, fund.name, fund.start_s)
            former = self._leases.get(name)
            if former is not None and former.running:
                continue
            held = 0 if former is None else former.ask.funds[0].amount_nanousd
            left = fund.limit_nanousd - state.used_nanousd + held
            amount = min(left // LEASE_SHARE, MOST_LEASED_NANOUSD)
            if former is not None and former.left_nanousd == held and 2 * held > amount >= held:
                continue
            self._give_back(account, name)
            if amount > 0 and (ask := await hold(account, fund, amount)) is not None:
                self._leases[name] = Lease(ask, amount)

    def _give_back(self, account: Account, name: tuple[str, str, int]) -> None:
        """The store hears of it with whatever is settled next."""
        former = self._leases.pop(name, None)
        if former is not None:
            account.open.pop(former.ask.number, None)
            account.ended.append(Settled(former.ask.number))

    def forget_before(self, account: Account, now_s: float) -> list[Settled]:
        """Leases of periods that are over; what is to be told to the store."""
        over = [
            name
            for name, lease in self._leases.items()
            if name[0] == account.tenant and not lease.running and 0 < lease.ask.funds[0].fund.end_s < now_s
        ]
        ended = [Settled(self._leases.pop(name).ask.number) for name in over]
        for settled in ended:
            account.open.pop(settled.number, None)
        return ended

    def _leased(self, terms: Terms, reservation: Reservation) -> list[Lease]:
        """The leases that can pay for it, none where budgets do not matter now."""
        if not reservation.ask.funds or terms.budget_on_loss == "allow":
            return []
        if terms.budget_on_loss == "deny":
            raise self._away()
        leases = self._of(reservation)
        paid = [lease for lease in leases if lease.left_nanousd >= reservation.amount_nanousd]
        if len(paid) < len(reservation.ask.funds):
            raise self._away()
        return paid

    def _of(self, reservation: Reservation) -> list[Lease]:
        tenant, number = reservation.account.tenant, reservation.ask.number
        names = [(tenant, claim.fund.name, claim.fund.start_s) for claim in reservation.ask.funds]
        leases = [self._leases[name] for name in names if name in self._leases]
        if reservation.local:
            return [lease for lease in leases if number in lease.running]
        return leases

    def _counted(self, terms: Terms, reservation: Reservation) -> None:
        ask = reservation.ask
        if terms.limits_on_loss == "allow" or not (ask.rates or reservation.bound.slots):
            return
        if terms.limits_on_loss == "deny":
            raise self._away()
        share = self._share(reservation)
        writer, now_us = self._store.writer, self._local.clock()
        counters = self._local.tenant(terms.tenant)
        verdict = counters.admit(writer, share, now_us)
        if verdict.decision == "register":
            held = list(self._open.get(terms.tenant, {}).values())
            counters.register(writer, held, [], False, now_us)
            verdict = counters.admit(writer, share, now_us)
        reservation.rates = list(zip(share.rates, verdict.rates, strict=True))
        if verdict.decision != "admitted":
            error, limit = refusal(reservation.bound, share, verdict)
            self._limited(terms.tenant, limit)
            raise error
        self._open.setdefault(terms.tenant, {})[ask.number] = share

    def _share(self, reservation: Reservation) -> Ask:
        """This process's part of what is asked."""
        ask = reservation.ask
        rates = [RateClaim(one.counter, self._part(one.limit), one.cost) for one in ask.rates]
        slots = [SlotClaim(one.counter, self._part(one.limit)) for one in reservation.bound.slots]
        return Ask(ask.tenant, ask.number, rates, slots)

    def _part(self, limit: int) -> int:
        return max(limit // self.fleet, 1)

    def _away(self) -> Unavailable:
        return store_away(self._store.lost)
