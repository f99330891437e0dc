"""The admission controller: asks the store on behalf of requests, and holds what it granted.

When the store cannot be asked, ``without_store`` decides by the tenant's terms. What was settled is put
down in the tenant's account at once; the reconciler tells the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from gateway.admission.account import Account, Reservation
from gateway.admission.reconciler import Reconciler
from gateway.admission.refusals import refusal, store_away
from gateway.admission.terms import Bound, Terms
from gateway.admission.without_store import WithoutStore
from gateway.storage.interface import (
    Ask,
    Fund,
    FundClaim,
    RateClaim,
    Settled,
    SlotClaim,
    Store,
    StoreLost,
    Verdict,
)

ROUNDS = 4
"""How often one admission is asked again, for a new period, after a registration or a wait."""
OPEN = SlotClaim("open", 2**53)
"""Held by every request where stores are shared: so that whoever survives knows what a dead writer had."""
TIMER_S = 0.002
"""Timers of the loop may be a millisecond early, and nothing is asked again for less."""
LEASED_FOR_S = 300.0
"""Leases are kept for tenants that asked within this time."""

Limited = Callable[[str, str], None]
"""Hears of a refusal: tenant, and the limit's name."""


class AdmissionController:
    """``terms``: of a tenant now."""

    def __init__(
        self,
        store: Store,
        without_store: WithoutStore,
        reconciler: Reconciler,
        terms: Callable[[str], Terms | None],
        *,
        limited: Limited,
    ) -> None:
        self.without_store = without_store
        self._store = store
        self._reconciler = reconciler
        self._clock = reconciler.clock
        self._terms = terms
        self._limited = limited
        self._number = time.time_ns() // 1000  # never one of a former life of this writer
        reconciler.on_renewed(self._lease)

    @property
    def open(self) -> int:
        """Reservations of requests that are not settled."""
        return self._reconciler.held - self.without_store.leases

    @property
    def shared(self) -> bool:
        return self._store.shared

    def now_s(self) -> int:
        """Seconds since the epoch, by the store's clock."""
        return self._clock.now_s()

    def number(self) -> int:
        """One that no exchange of this writer has had."""
        self._number += 1
        return self._number

    def reservation(
        self, terms: Terms, bound: Bound, number: int, tokens: int, amount_nanousd: int, note: bytes
    ) -> Reservation:
        """A handle, of which the store knows nothing yet. ``number``: of the exchange."""
        slots: Sequence[SlotClaim] = (*bound.slots, OPEN) if self._store.shared else bound.slots
        rates: Sequence[RateClaim] = bound.requests
        if bound.tokens:
            rates = [*rates, *(RateClaim(counter, limit, tokens) for counter, limit in bound.tokens)]
        ask = Ask(terms.tenant, number, rates, slots, (), note)
        return Reservation(self._reconciler.account(terms.tenant), bound, ask, tokens, amount_nanousd)

    async def admit(self, terms: Terms, reservation: Reservation) -> int | None:
        """Takes all that the reservation wants, or raises ``LimitExceeded`` or ``Unavailable``. Returns
        the tenant's epoch, None where the store could not be asked."""
        account, bound = reservation.account, reservation.bound
        ask = reservation.ask
        account.used_s = time.monotonic()
        for _ in range(ROUNDS):
            if bound.fund_scopes:
                amount = reservation.amount_nanousd
                funds = bound.funds(self._clock.now_s())
                ask.funds = [FundClaim(fund, amount) for fund in funds]
                fresh = account.open_funds(funds)
                if fresh:
                    await self._reconciler.opened(account, fresh)
            verdict = await self._asked(account, ask)
            if verdict is None:
                self.without_store.admit(terms, reservation)
                return None
            if verdict.decision == "admitted":
                reservation.held = True
                reservation.rates = list(zip(ask.rates, verdict.rates, strict=True))
                return verdict.epoch
            if await self._again(account, verdict):
                continue
            reservation.rates = list(zip(ask.rates, verdict.rates, strict=True))
            error, limit = refusal(bound, ask, verdict)
            self._limited(account.tenant, limit)
            raise error
        raise store_away("the store gave no decision")

    async def cover(self, reservation: Reservation, amount_nanousd: int) -> bool:
        """Makes sure that ``amount_nanousd`` are reserved; False if the budget does not allow it."""
        missing = amount_nanousd - reservation.amount_nanousd
        if missing <= 0 or not reservation.ask.funds:
            return True
        if reservation.local:
            return self.without_store.cover(reservation, missing)
        funds = [FundClaim(claim.fund, missing) for claim in reservation.ask.funds]
        ask = Ask(reservation.ask.tenant, self.number(), funds=funds)
        for _ in range(ROUNDS):
            verdict = await self._asked(reservation.account, ask)
            if verdict is None:
                terms = self._terms(ask.tenant)
                return terms is not None and terms.budget_on_loss == "allow"
            if verdict.decision == "admitted":
                reservation.added.append(ask)
                reservation.amount_nanousd = amount_nanousd
                return True
            if verdict.decision == "period":  # the one that is charged is over: nobody else spends of it
                return True
            if not await self._again(reservation.account, verdict):
                return False
        return False

    def settle(self, reservation: Reservation, charged_nanousd: int, tokens: int) -> None:
        """Gives back what was reserved and counts what was used; never waits."""
        account, ask = reservation.account, reservation.ask
        for claim in ask.funds:
            if charged_nanousd:
                account.spend(claim.fund, charged_nanousd)
        if reservation.local:
            self.without_store.settle(reservation, charged_nanousd, tokens)
        elif reservation.held:
            by_token = ask.rates[len(reservation.bound.requests) :]
            difference = tokens - reservation.tokens
            corrections = [(claim, difference) for claim in by_token] if difference else ()
            account.ended.append(Settled(ask.number, corrections))
            account.open.pop(ask.number, None)
            for added in reservation.added:
                account.ended.append(Settled(added.number))
                account.open.pop(added.number, None)
        self._reconciler.tell(account)

    async def _asked(self, account: Account, ask: Ask) -> Verdict | None:
        """None: the store cannot be asked."""
        if self._store.lost is not None:
            return None
        if not account.ever_known:
            await self._reconciler.register(account)  # what a former life of this writer held is given back
        await account.enter()
        try:
            verdict = await self._store.admit(ask)
            if verdict.decision == "admitted" and (ask.slots or ask.funds):
                account.open[ask.number] = ask
        except StoreLost:
            account.doubtful = True
            return None
        except asyncio.CancelledError:
            account.doubtful = True
            account.ended.append(Settled(ask.number))
            self._reconciler.tell(account)
            raise
        finally:
            account.leave()
        self._clock.offset_us = verdict.time_us - time.time_ns() // 1000
        return verdict

    async def _again(self, account: Account, verdict: Verdict) -> bool:
        """Whether the same is worth asking once more."""
        if verdict.decision == "period":
            return True
        if verdict.decision == "register":
            await self._reconciler.register_anew(account)
            return True
        if verdict.decision == "wait":
            await asyncio.sleep(verdict.wait_us / 1e6 + TIMER_S)
            return True
        return False

    async def _lease(self, account: Account) -> None:
        """Sets a little aside for a time without the store, of what has been spent from lately."""
        terms = self._terms(account.tenant)
        account.ended += self.without_store.forget_before(account, self._clock.now_s())
        busy = time.monotonic() - account.used_s < LEASED_FOR_S
        if not self._store.shared or terms is None or terms.budget_on_loss != "lease" or not busy:
            return
        now_s = self._clock.now_s()
        funds = [
            one.fund
            for one in account.totals()
            if not one.fund.end_s or one.fund.start_s <= now_s < one.fund.end_s
        ]
        if funds and account.known:
            await self.without_store.refresh(account, funds, self._hold)
            if account.ended:
                self._reconciler.tell(account)

    async def _hold(self, account: Account, fund: Fund, amount_nanousd: int) -> Ask | None:
        """Reserves for a time without the store; None if that cannot be had."""
        ask = Ask(account.tenant, self.number(), funds=[FundClaim(fund, amount_nanousd)])
        verdict = await self._asked(account, ask)
        return ask if verdict is not None and verdict.decision == "admitted" else None
