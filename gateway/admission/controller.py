"""The admission controller: asks the store, holds what it granted, and settles what was used.

What is settled is added to this process's totals at once, and told to the store by a task of its own, in
batches: totals only grow and reservations have numbers, so whatever is told twice counts once. When the
store cannot be asked, ``without_store`` decides by the tenant's terms; when it is back, every account
registers what is true.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from gateway.admission.account import Account, History, Reservation
from gateway.admission.refusals import refusal, store_away
from gateway.admission.terms import Bound, Terms
from gateway.admission.without_store import WithoutStore
from gateway.storage.interface import (
    MISSED,
    REBUILD,
    REBUILD_S,
    Ask,
    Fund,
    FundClaim,
    FundState,
    RateClaim,
    Report,
    Settled,
    SlotClaim,
    Spent,
    Store,
    StoreLost,
    Verdict,
)

ROUNDS = 4
"""How often one admission is asked again, for a new period, after a registration or a wait."""
RENEWED_AT_ONCE = 50
OPEN = SlotClaim("open", 2**53)
"""Held by every request where stores are shared: so that whoever survives knows what a dead writer had."""

FORGET_S = 3600
TIMER_S = 0.002
"""Timers of the loop may be a millisecond early, and nothing is asked again for less."""
TOLD_AGAIN_S = 0.2
LEASED_FOR_S = 300.0
"""Leases are kept for tenants that asked within this time."""

Limited = Callable[[str, str], None]
"""Hears of a refusal: tenant, and the limit's name."""
Funded = Callable[[str, Spent, FundState], None]
"""Hears what the whole fleet has spent of a fund."""


class AdmissionController:
    """``terms``: of a tenant now. ``swept``: hears the notes of what a dead writer had open, ``left``:
    of what a former life of this writer had. ``history`` is asked once for each fund, ``ledger`` (None:
    the same) again and again."""

    def __init__(
        self,
        store: Store,
        history: History,
        terms: Callable[[str], Terms | None],
        *,
        limited: Limited,
        funded: Funded,
        swept: Callable[[bytes], None],
        left: Callable[[list[bytes]], None] = lambda notes: None,
        ledger: History | None = None,
    ) -> None:
        self._store = store
        self._history = history
        self._ledger = ledger or history
        self._terms = terms
        self._limited = limited
        self._funded = funded
        self._swept = swept
        self._left = left
        self._accounts: dict[str, Account] = {}
        self._number = time.time_ns() // 1000  # never one of a former life of this writer
        self._clock_offset_us = 0
        self._due: set[Account] = set()
        self._wake = asyncio.Event()
        self._told = asyncio.Event()
        self._told.set()
        self.without_store = WithoutStore(store, limited)
        store.on_change(self._store_changed)
        store.listen(self._heard)

    @property
    def open(self) -> int:
        """Reservations of requests that are not settled."""
        return sum(len(account.open) for account in self._accounts.values()) - self.without_store.leases

    @property
    def shared(self) -> bool:
        return self._store.shared

    def now_s(self) -> int:
        """Seconds since the epoch, by the store's clock."""
        return (time.time_ns() // 1000 + self._clock_offset_us) // 1_000_000

    def account(self, tenant: str) -> Account:
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = Account(tenant, self._history)
        return account

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
        return Reservation(self.account(terms.tenant), bound, ask, tokens, amount_nanousd)

    async def admit(self, terms: Terms, reservation: Reservation) -> int | None:
        """Takes all that the reservation wants, or raises ``LimitExceeded`` or ``Unavailable``. Returns
        the tenant's epoch, None where the store could not be asked."""
        account, bound = reservation.account, reservation.bound
        ask = reservation.ask
        account.used_s = time.monotonic()
        for _ in range(ROUNDS):
            if bound.fund_scopes:
                amount = reservation.amount_nanousd
                funds = bound.funds(self.now_s())
                ask.funds = [FundClaim(fund, amount) for fund in funds]
                fresh = account.open_funds(funds)
                if fresh:
                    await self._introduce(account, fresh)
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
            account.ended += [Settled(added.number) for added in reservation.added]
            for held in (ask, *reservation.added):
                account.open.pop(held.number, None)
        self._tell(account)

    def count(self, tenant: str, funds: Sequence[Fund], nanousd: int) -> None:
        """Adds to what this writer has spent, beside any reservation."""
        account = self.account(tenant)
        for fund in funds:
            account.spend(fund, nanousd)
        self._tell(account)

    async def run(self) -> None:
        """Tells the store what was settled, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            due, self._due = self._due, set()
            for account in due:
                await self._tell_now(account)
            if not self._due:
                self._told.set()

    async def introduce(self, tenant: str, funds: Sequence[Fund]) -> None:
        """Makes funds known to the store with what this writer has spent of them, by its ledger."""
        account = self.account(tenant)
        await self._introduce(account, account.open_funds(funds))

    async def _introduce(self, account: Account, fresh: Sequence[Spent]) -> None:
        if any(spent.total_nanousd for spent in fresh):
            await self._register(account)

    async def renew_once(self) -> None:
        """Keeps the leases of this writer, and sweeps those of dead ones; due every ``RENEW_S``."""
        if self._store.lost is not None:
            return
        accounts = list(self._accounts.values())
        try:
            self.without_store.fleet = max(await self._store.fleet(), 1)
        except StoreLost:
            return
        for start in range(0, len(accounts), RENEWED_AT_ONCE):
            batch = accounts[start : start + RENEWED_AT_ONCE]
            await asyncio.gather(*(self._renew(account) for account in batch))

    async def drained(self) -> None:
        """Returns when everything settled was told to the store, or it is lost."""
        while not self._told.is_set() and self._store.lost is None:
            await asyncio.sleep(0.01)

    async def _asked(self, account: Account, ask: Ask) -> Verdict | None:
        """None: the store cannot be asked."""
        if self._store.lost is not None:
            return None
        if not account.ever_known:
            await self._register(account)  # what a former life of this writer held is given back
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
            self._tell(account)
            raise
        finally:
            account.leave()
        self._clock_offset_us = verdict.time_us - time.time_ns() // 1000
        return verdict

    async def _again(self, account: Account, verdict: Verdict) -> bool:
        """Whether the same is worth asking once more."""
        if verdict.decision == "period":
            return True
        if verdict.decision == "register":
            account.known, account.forgotten = False, True
            await self._register(account)
            return True
        if verdict.decision == "wait":
            await asyncio.sleep(verdict.wait_us / 1e6 + TIMER_S)
            return True
        return False

    async def _tell_the_others(self, tenant: str) -> None:
        """The store did not know a writer that it had known: it may know none, and every moment in which
        the others have not registered is one in which their money does not count."""
        try:
            await self._store.publish(REBUILD, tenant.encode())
        except StoreLost:
            return

    def _heard(self, topic: str, message: bytes) -> None:
        if topic == MISSED:
            self._store_changed(None)
        account = self._accounts.get(message.decode()) if topic == REBUILD else None
        now_s = time.monotonic()
        if account is not None and account.ever_known and now_s - account.registered_s > REBUILD_S:
            account.known = False
            self._tell(account)

    def _tell(self, account: Account) -> None:
        self._due.add(account)
        self._told.clear()
        self._wake.set()

    async def _tell_now(self, account: Account) -> None:
        """What cannot be told is not lost: the next registration says the same."""
        if self._store.lost is not None:
            account.known = False
            return
        if account.ever_known and not account.known:
            await self._register(account)
            return
        if account.registering:  # what is told must not overtake it
            await account.registered()
        ended, spent = account.take_ended()
        try:
            report = await self._store.settle(account.tenant, ended, spent)
        except StoreLost:
            account.known = False
            asyncio.get_running_loop().call_later(TOLD_AGAIN_S, self._tell, account)
            return
        self._report(account, spent, report)

    def _report(self, account: Account, spent: Sequence[Spent], report: Report) -> None:
        for one, state in zip(spent, report.funds, strict=True):
            self._funded(account.tenant, one, state)
        if not report.known and account.ever_known:
            account.known, account.forgotten = False, True
            self._tell(account)

    async def _register(self, account: Account) -> None:
        if not await account.close_gate():
            return
        try:
            if account.forgotten:
                account.forgotten = False
                await self._tell_the_others(account.tenant)
            ended, _ = account.take_ended()
            if any(one.corrections for one in ended):
                await self._store.settle(account.tenant, ended, ())
            spent, opened = account.totals(), list(account.open.values())
            account.doubtful = False
            former = not account.ever_known
            known_before = not former or any(one.total_nanousd for one in spent)
            lost = self._store.shared and known_before  # else there is nobody to wait for
            report = await self._store.register(account.tenant, opened, spent, lost=lost)
            account.known = account.ever_known = True
            account.registered_s = time.monotonic()
            if former and report.swept:
                self._left(report.swept)
            self._report(account, spent, report)
        except StoreLost:
            account.known = False
            asyncio.get_running_loop().call_later(TOLD_AGAIN_S, self._tell, account)
        finally:
            account.open_gate()

    async def _renew(self, account: Account) -> None:
        account.forget_before(self.now_s() - FORGET_S)
        if account.correct(self._ledger):
            self._tell(account)
        if account.doubtful or not account.known:
            await self._register(account)
            return
        try:
            report = await self._store.renew(account.tenant)
            for note in report.swept:
                self._swept(note)
            if not report.known:
                account.known, account.forgotten = False, True
                await self._register(account)
            await self._lease(account)
        except StoreLost:
            return

    async def _lease(self, account: Account) -> None:
        """Sets a little aside for a time without the store, of what has been spent from lately."""
        terms = self._terms(account.tenant)
        account.ended += self.without_store.forget_before(account, self.now_s())
        busy = time.monotonic() - account.used_s < LEASED_FOR_S
        if not self._store.shared or terms is None or terms.budget_on_loss != "lease" or not busy:
            return
        now_s = self.now_s()
        funds = [
            one.fund
            for one in account.totals()
            if not one.fund.end_s or one.fund.start_s <= now_s < one.fund.end_s
        ]
        if funds and account.known:
            await self.without_store.refresh(account, funds, self._hold)
            if account.ended:
                self._tell(account)

    async def _hold(self, account: Account, fund: Fund, amount_nanousd: int) -> Ask | None:
        """Reserves for a time without the store; None if that cannot be had."""
        ask = Ask(account.tenant, self.number(), funds=[FundClaim(fund, amount_nanousd)])
        verdict = await self._asked(account, ask)
        return ask if verdict is not None and verdict.decision == "admitted" else None

    def _store_changed(self, lost: str | None) -> None:
        """The store is back: everybody says what is true."""
        if lost is None:
            for account in self._accounts.values():
                account.known = False
                self._tell(account)
