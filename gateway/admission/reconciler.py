"""The reconciler: tells the store what is true of this process, beside the requests.

What was settled is told in batches: totals only grow and reservations have numbers, so whatever is told
twice counts once. A store that does not know this writer any more, or is back, hears everything anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from gateway.admission.account import Account, History
from gateway.admission.clock import StoreClock
from gateway.admission.without_store import WithoutStore
from gateway.storage.interface import (
    MISSED,
    REBUILD,
    REBUILD_S,
    Fund,
    FundState,
    Report,
    Spent,
    Store,
    StoreLost,
)

RENEWED_AT_ONCE = 50
FORGET_S = 3600
TOLD_AGAIN_S = 0.2

Funded = Callable[[str, Spent, FundState], None]
"""Hears what the whole fleet has spent of a fund."""
Renewed = Callable[[Account], Awaitable[None]]
"""Hears that the store knows an account; may raise ``StoreLost``."""


class Reconciler:
    """``history`` is asked once for each fund, ``ledger`` (None: the same) again and again. ``swept``:
    hears the notes of what a dead writer had open, ``left``: of what a former life of this writer had.
    ``without_store`` is told how many processes share the store."""

    def __init__(
        self,
        store: Store,
        without_store: WithoutStore,
        history: History,
        *,
        funded: Funded,
        swept: Callable[[bytes], None],
        left: Callable[[list[bytes]], None] = lambda notes: None,
        ledger: History | None = None,
    ) -> None:
        self.clock = StoreClock()
        self._store = store
        self._without_store = without_store
        self._history = history
        self._ledger = ledger or history
        self._funded = funded
        self._swept = swept
        self._left = left
        self._renewed: list[Renewed] = []
        self._accounts: dict[str, Account] = {}
        self._due: set[Account] = set()
        self._wake = asyncio.Event()
        self._told = asyncio.Event()
        self._told.set()
        store.on_change(self._store_changed)
        store.listen(self._heard)

    def on_renewed(self, renewed: Renewed) -> None:
        """``renewed`` is called for each account whose lease was kept."""
        self._renewed.append(renewed)

    @property
    def held(self) -> int:
        """Reservations that the store has granted to this process."""
        return sum(len(account.open) for account in self._accounts.values())

    def account(self, tenant: str) -> Account:
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = Account(tenant, self._history)
        return account

    def tell(self, account: Account) -> None:
        """Soon, what has ended and was spent there; never waits."""
        self._due.add(account)
        self._told.clear()
        self._wake.set()

    def count(self, tenant: str, funds: Sequence[Fund], nanousd: int) -> None:
        """Adds to what this writer has spent, beside any reservation."""
        account = self.account(tenant)
        for fund in funds:
            account.spend(fund, nanousd)
        self.tell(account)

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

    async def drained(self) -> None:
        """Returns when everything settled was told to the store, or it is lost."""
        while not self._told.is_set() and self._store.lost is None:
            await asyncio.sleep(0.01)

    async def introduce(self, tenant: str, funds: Sequence[Fund]) -> None:
        """Makes funds known to the store with what this writer has spent of them, by its ledger."""
        account = self.account(tenant)
        await self.opened(account, account.open_funds(funds))

    async def opened(self, account: Account, fresh: Sequence[Spent]) -> None:
        """The same of funds that the account has opened just now."""
        if any(spent.total_nanousd for spent in fresh):
            await self.register(account)

    async def renew_once(self) -> None:
        """Keeps the leases of this writer, and sweeps those of dead ones; due every ``RENEW_S``."""
        if self._store.lost is not None:
            return
        accounts = list(self._accounts.values())
        try:
            self._without_store.fleet = max(await self._store.fleet(), 1)
        except StoreLost:
            return
        for start in range(0, len(accounts), RENEWED_AT_ONCE):
            batch = accounts[start : start + RENEWED_AT_ONCE]
            await asyncio.gather(*(self._renew(account) for account in batch))

    async def register_anew(self, account: Account) -> None:
        """The store does not know this writer any more."""
        account.known, account.forgotten = False, True
        await self.register(account)

    async def register(self, account: Account) -> None:
        """Says all that is true of the account, while nobody is admitted there; where somebody else
        does so already, waits for them. What cannot be told now is told again soon."""
        if not await account.close_gate():
            return
        try:
            await self._register(account)
        except StoreLost:
            self._tell_later(account)
        finally:
            account.open_gate()

    async def _register(self, account: Account) -> None:
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

    async def _tell_the_others(self, tenant: str) -> None:
        """The store did not know a writer that it had known: it may know none, and every moment in which
        the others have not registered is one in which their money does not count."""
        try:
            await self._store.publish(REBUILD, tenant.encode())
        except StoreLost:
            return

    async def _tell_now(self, account: Account) -> None:
        """What cannot be told is not lost: the next registration says the same."""
        if self._store.lost is not None:
            account.known = False
            return
        if account.ever_known and not account.known:
            await self.register(account)
            return
        if account.registering:  # what is told must not overtake it
            await account.registered()
        ended, spent = account.take_ended()
        try:
            report = await self._store.settle(account.tenant, ended, spent)
        except StoreLost:
            self._tell_later(account)
            return
        self._report(account, spent, report)

    def _tell_later(self, account: Account) -> None:
        account.known = False
        asyncio.get_running_loop().call_later(TOLD_AGAIN_S, self.tell, account)

    def _report(self, account: Account, spent: Sequence[Spent], report: Report) -> None:
        for one, state in zip(spent, report.funds, strict=True):
            self._funded(account.tenant, one, state)
        if not report.known and account.ever_known:
            account.known, account.forgotten = False, True
            self.tell(account)

    async def _renew(self, account: Account) -> None:
        account.forget_before(self.clock.now_s() - FORGET_S)
        if account.correct(self._ledger):
            self.tell(account)
        if account.doubtful or not account.known:
            await self.register(account)
            return
        try:
            report = await self._store.renew(account.tenant)
            for note in report.swept:
                self._swept(note)
            if not report.known:
                await self.register_anew(account)
            for renewed in self._renewed:
                await renewed(account)
        except StoreLost:
            return

    def _heard(self, topic: str, message: bytes) -> None:
        if topic == MISSED:
            self._store_changed(None)
        account = self._accounts.get(message.decode()) if topic == REBUILD else None
        now_s = time.monotonic()
        if account is not None and account.ever_known and now_s - account.registered_s > REBUILD_S:
            account.known = False
            self.tell(account)

    def _store_changed(self, lost: str | None) -> None:
        """The store is back: everybody says what is true."""
        if lost is None:
            for account in self._accounts.values():
                account.known = False
                self.tell(account)
