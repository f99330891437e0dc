"""What one process knows of a tenant's counters: what it has open, has ended, and has spent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import islice

from gateway.admission.terms import Bound
from gateway.storage.interface import Ask, Fund, RateClaim, RateState, Settled, Spent

History = Callable[[str, Fund], int]
"""Nano-dollars that this writer has spent of a tenant's fund, by its ledger."""
FRESH_S = 60.0
CORRECTED_AT_ONCE = 200


class Account:
    """One tenant's. ``open``: reservations that the store has granted and that are not settled yet.
    ``ended``: settled here, and not told to the store yet. ``known``: the store knows this writer.
    ``doubtful``: a request was given up before the store had answered, so that it may hold a reservation
    of which nobody here knows. ``forgotten``: the store did not know this writer any more, and perhaps
    none.
    """

    __slots__ = (
        "_dirty",
        "_fresh",
        "_gate",
        "_history",
        "_idle",
        "_pending",
        "_spent",
        "doubtful",
        "ended",
        "epoch",
        "ever_known",
        "forgotten",
        "known",
        "open",
        "registered_s",
        "tenant",
        "used_s",
    )

    def __init__(self, tenant: str, history: History) -> None:
        self.tenant = tenant
        self.open: dict[int, Ask] = {}
        self.ended: list[Settled] = []
        self.known = self.ever_known = self.doubtful = self.forgotten = False
        self.epoch = -1
        self.used_s = self.registered_s = float("-inf")
        self._history = history
        self._spent: dict[tuple[str, int], Spent] = {}
        self._dirty: set[tuple[str, int]] = set()
        self._fresh: dict[tuple[str, int], float] = {}
        self._gate: asyncio.Event | None = None
        self._pending = 0
        self._idle = asyncio.Event()

    def open_funds(self, funds: Sequence[Fund]) -> list[Spent]:
        """Before anything is spent of them here: what the ledger says of those not known yet."""
        fresh = []
        for fund in funds:
            name = (fund.name, fund.start_s)
            if name not in self._spent:
                self._spent[name] = Spent(fund, self._history(self.tenant, fund))
                self._fresh[name] = time.monotonic()
                fresh.append(self._spent[name])
        return fresh

    def correct(self, ledger: History) -> bool:
        """Of funds that were opened lately the ledger may know more by now: of what ended just before them,
        or ran already and was charged without them. Whether anything changed."""
        changed, oldest_s = False, time.monotonic() - FRESH_S
        for name in list(islice(self._fresh, CORRECTED_AT_ONCE)):
            opened_s, spent = self._fresh.pop(name), self._spent.get(name)
            if spent is None:
                continue
            total_nanousd = ledger(self.tenant, spent.fund)
            if total_nanousd > spent.total_nanousd:
                self._spent[name] = Spent(spent.fund, total_nanousd)
                self._dirty.add(name)
                changed = True
            if opened_s > oldest_s:
                self._fresh[name] = opened_s  # behind the others
        return changed

    def spend(self, fund: Fund, nanousd: int) -> None:
        """Adds to what this writer has spent of ``fund``."""
        name = (fund.name, fund.start_s)
        self.open_funds([fund])
        self._spent[name] = Spent(fund, self._spent[name].total_nanousd + nanousd)
        self._dirty.add(name)

    def take_ended(self) -> tuple[list[Settled], list[Spent]]:
        """What is to be told to the store; it counts as told from now on."""
        ended, self.ended = self.ended, []
        spent = [self._spent[name] for name in self._dirty]
        self._dirty.clear()
        return ended, spent

    def totals(self) -> list[Spent]:
        """Of every fund that this process has had to do with."""
        return list(self._spent.values())

    def forget_before(self, now_s: float) -> None:
        """Funds whose period is over, and which nobody here has open any more."""
        held = {(claim.fund.name, claim.fund.start_s) for ask in self.open.values() for claim in ask.funds}
        self._spent = {
            name: spent
            for name, spent in self._spent.items()
            if name in held or name in self._dirty or not 0 < spent.fund.end_s < now_s
        }

    @property
    def registering(self) -> bool:
        return self._gate is not None

    async def registered(self) -> None:
        """Waits while this writer registers."""
        while self._gate is not None:
            await self._gate.wait()

    async def enter(self) -> None:
        """Before an admission; waits while this writer registers."""
        if self._gate is not None:
            await self.registered()
        self._pending += 1

    def leave(self) -> None:
        self._pending -= 1
        if not self._pending:
            self._idle.set()

    async def close_gate(self) -> bool:
        """Waits until no admission is under way, and lets none begin; False if somebody else already
        does, after waiting for them. ``open_gate`` must follow True."""
        if self._gate is not None:
            await self._gate.wait()
            return False
        self._gate = asyncio.Event()
        try:
            while self._pending:
                self._idle.clear()
                await self._idle.wait()
        except BaseException:
            self.open_gate()
            raise
        return True

    def open_gate(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.set()


class Reservation:
    """What one exchange holds, from before it is asked for until it is settled.

    ``tokens`` and ``amount_nanousd``: the worst case that was reserved. ``local``: granted without the
    store. ``added``: reservations that were made on top of the first. ``rates``: for the answer's headers.
    """

    __slots__ = (
        "account",
        "added",
        "amount_nanousd",
        "ask",
        "bound",
        "held",
        "local",
        "rates",
        "tokens",
    )

    def __init__(
        self, account: Account, bound: Bound, ask: Ask, tokens: int = 0, amount_nanousd: int = 0
    ) -> None:
        self.account = account
        self.bound = bound
        self.ask = ask
        self.tokens = tokens
        self.amount_nanousd = amount_nanousd
        self.held = False
        self.local = False
        self.added: list[Ask] = []
        self.rates: Sequence[tuple[RateClaim, RateState]] = ()

    def charged_at_s(self, now_s: int) -> int:
        """``now_s``, or a time in the periods that are charged where it is in others: the store's clock
        may have been found out on the way."""
        funds = [claim.fund for claim in self.ask.funds]
        if all(fund.start_s <= now_s and (not fund.end_s or now_s < fund.end_s) for fund in funds):
            return now_s
        return max(fund.start_s for fund in funds)
