"""Several processes' admission controllers on one store that fails when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.admission.account import Reservation
from gateway.admission.controller import AdmissionController
from gateway.admission.reconciler import Reconciler
from gateway.admission.terms import Allowance, Budget, Limits, Terms
from gateway.admission.without_store import WithoutStore
from gateway.storage.interface import Ask, Fund, Report, Settled, Spent, StoreLost, Verdict
from gateway.storage.memory import Memory, MemoryState

TENANT = "acme"
NOW_S = 1_790_000_000


class Clock:
    def __init__(self) -> None:
        self.us = NOW_S * 1_000_000

    def __call__(self) -> int:
        return self.us


class Flaky(Memory):
    """``faults``: what happens to the next calls: ``before`` and ``after`` lose them on either side of
    the store, ``slow`` lets others go first."""

    def __init__(self, writer: str, state: MemoryState) -> None:
        super().__init__(writer, state)
        self.shared = True
        self.faults: list[str] = []
        self.down: str | None = None
        self._changed: list[Callable[[str | None], None]] = []

    @property
    def lost(self) -> str | None:  # type: ignore[override]
        return self.down

    def on_change(self, changed: Callable[[str | None], None]) -> None:
        self._changed.append(changed)

    def set_down(self, down: bool) -> None:
        reason = "cut off" if down else None
        if reason != self.down:
            self.down = reason
            for changed in self._changed:
                changed(reason)

    async def _before(self) -> str:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before" or self.down is not None:
            raise StoreLost("before")
        if fault == "slow":
            for _ in range(3):
                await asyncio.sleep(0)
        return fault

    async def admit(self, ask: Ask) -> Verdict:
        fault = await self._before()
        verdict = await super().admit(ask)
        _lose(fault)
        return verdict

    async def settle(self, tenant: str, ended: Sequence[Settled], spent: Sequence[Spent]) -> Report:
        fault = await self._before()
        report = await super().settle(tenant, ended, spent)
        _lose(fault)
        return report

    async def register(
        self, tenant: str, open: Sequence[Ask], spent: Sequence[Spent], *, lost: bool
    ) -> Report:
        fault = await self._before()
        report = await super().register(tenant, open, spent, lost=lost)
        _lose(fault)
        return report

    async def renew(self, tenant: str) -> Report:
        fault = await self._before()
        report = await super().renew(tenant)
        _lose(fault)
        return report


def _lose(fault: str) -> None:
    if fault == "after":
        raise StoreLost("after")


def _unheard(tenant: str, limit: str) -> None:
    """Nobody asks for refusals."""


class Process:
    """One process of the fleet. ``spent``: by its ledger, in nano-dollars."""

    def __init__(self, writer: str, state: MemoryState, terms: Terms) -> None:
        self.writer, self.state, self.terms = writer, state, terms
        self.spent = 0
        self.start()

    def start(self) -> None:
        self.running: list[Reservation] = []
        self.store = Flaky(self.writer, self.state)
        without_store = WithoutStore(self.store, _unheard)
        self.reconciler = Reconciler(
            self.store,
            without_store,
            lambda tenant, fund: self.spent,
            funded=lambda tenant, spent, state: None,
            swept=lambda note: None,
        )
        self.controller = AdmissionController(
            self.store, without_store, self.reconciler, lambda tenant: self.terms, limited=_unheard
        )
        self.task = asyncio.get_running_loop().create_task(self.reconciler.run())

    async def admit(self, amount_nanousd: int) -> None:
        """Raises what the controller raises."""
        bound = self.terms.bound("ci", "chat", "", "")
        reservation = self.controller.reservation(
            self.terms, bound, self.controller.number(), 100, amount_nanousd, b"note"
        )
        try:
            await self.controller.admit(self.terms, reservation)
        except BaseException:
            self.controller.settle(reservation, 0, 0)
            raise
        self.running.append(reservation)

    def settle(self, reservation: Reservation, charged_nanousd: int) -> None:
        self.running.remove(reservation)
        self.spent += charged_nanousd
        self.controller.settle(reservation, charged_nanousd, 10)

    async def kill(self) -> None:
        """As ``kill -9`` does: what ran is found in the ledger, at its worst case."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.spent += sum(one.amount_nanousd for one in self.running)
        self.running = []

    async def told(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)


def terms(limit_nanousd: int, concurrency: int) -> Terms:
    budget = Budget(limit_nanousd, "day")
    return Terms(TENANT, own=Allowance(Limits(tpm=10**9, concurrency=concurrency), budget))


def fund_of(terms: Terms) -> Fund:
    assert terms.own.budget is not None
    return terms.own.budget.fund("t", NOW_S)
