"""Looks after writers that died: what they left open gets its rows, what they had not told is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gateway.accounting.chain import list_days
from gateway.accounting.day_files import Report
from gateway.accounting.fleet import Fleet
from gateway.accounting.funds import charged_of
from gateway.accounting.journal import Journal
from gateway.accounting.totals import Totals
from gateway.accounting.writer import WriterLock, WriterLocked
from gateway.storage.interface import MISSED, REBUILD, Fund, Spent, Store

_State = tuple[str, int]

Funds = Callable[[], Iterable[tuple[str, list[Fund]]]]
"""The budgets of this moment, by tenant."""


class Adoption:
    """``own``: the writer of this process. A folder is looked at while nobody holds its lock, once for
    each state that it is in."""

    def __init__(self, ledger: Path, own: str, store: Store, funds: Funds, report: Report) -> None:
        self._ledger, self._own, self._store, self._report = ledger, own, store, report
        self._funds = funds
        self._seen: dict[str, _State] = {}
        store.on_change(self._store_changed)
        store.listen(self._heard)

    async def look(self) -> None:
        """Raises ``StoreLost``; what was not done is done by the next call."""
        if self._store.lost is not None:
            return
        for folder in await asyncio.to_thread(self._others):
            state = await asyncio.to_thread(_state, folder)
            if state is None or self._seen.get(folder.name) == state:
                continue
            try:
                await self._adopt(folder)
            except OSError as error:
                self._seen[folder.name] = state
                self._report("ledger_not_adopted", level="warning", folder=str(folder), error=str(error))

    def _others(self) -> list[Path]:
        return sorted(path for path in self._ledger.glob("*/") if path.name != self._own)

    async def _adopt(self, folder: Path) -> None:
        try:
            await asyncio.to_thread(self._end_open, folder)
            lock = await asyncio.to_thread(WriterLock, self._ledger, folder.name)
        except (WriterLocked, ValueError):  # alive, or not a writer's folder
            return
        try:
            totals = Totals(folder, self._report)
            await asyncio.to_thread(_read_all, totals)
            await self._vouch(folder.name, totals)
            if self._store.shared:
                await self._send(folder.name, totals)
            await asyncio.to_thread(_leave, totals)
            state = await asyncio.to_thread(_state, folder)
            if state is not None:
                self._seen[folder.name] = state
        finally:
            lock.release()

    def _end_open(self, folder: Path) -> None:
        """Raises ``WriterLocked``; the lock is free again afterwards."""
        lock = WriterLock(self._ledger, folder.name)
        try:
            journal = Journal(self._ledger, folder.name, lock=lock, report=self._report)
        except BaseException:
            lock.release()
            raise
        try:
            totals = Totals(folder, self._report)
            _read_all(totals)
            rows = totals.open.recovered()
            for row in rows:
                journal.append(row)
            totals.close()
        finally:
            journal.close()
        if rows:
            self._report("ledger_recovered", level="warning", writer=folder.name, rows=len(rows))

    async def _vouch(self, writer: str, totals: Totals) -> None:
        """What it has spent of budgets counts, also in a store that has never heard of it."""
        admissions = self._store.on_behalf(writer)
        for tenant, funds in self._funds():
            spent = [Spent(fund, charged_of(totals, tenant, fund)) for fund in funds]
            if any(one.total_nanousd for one in spent):
                await admissions.register(tenant, (), spent, lost=False)

    def _store_changed(self, lost: str | None) -> None:
        """A store that comes back may have lost its memory."""
        if lost is None:
            self._seen.clear()

    def _heard(self, topic: str, message: bytes) -> None:
        if topic in (REBUILD, MISSED):
            self._seen.clear()

    async def _send(self, writer: str, totals: Totals) -> None:
        async def threaded(work: Callable[[], Any]) -> Any:
            return await asyncio.to_thread(work)

        fleet = Fleet(self._store, writer, totals, threaded)
        try:
            await fleet.send()
        finally:
            fleet.close()


def _read_all(totals: Totals) -> None:
    totals.load()
    while totals.read_on():
        time.sleep(0)  # others may have the interpreter


def _leave(totals: Totals) -> None:
    totals.save()
    totals.close(finished=True)


def _state(folder: Path) -> _State | None:
    """The newest file and its size; None for a folder without rows."""
    days = list_days(folder)
    return (days[-1].name, days[-1].stat().st_size) if days else None
