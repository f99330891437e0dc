"""Keeps a writer's totals up with its ledger while the gateway serves, a little at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import orjson

from gateway.accounting.adoption import Adoption, Funds
from gateway.accounting.day_files import Report
from gateway.accounting.fleet import Fleet, put_swept
from gateway.accounting.heads import HEADS_FILE, Breaks
from gateway.accounting.journal import Journal
from gateway.accounting.reader import ids_since
from gateway.accounting.sources import FleetStore, Folders, Source
from gateway.accounting.sums import day_of
from gateway.accounting.totals import Totals
from gateway.errors import Unavailable
from gateway.storage.interface import Store, StoreLost

TURN_S = 0.5
SAVE_EVERY_S = 10.0
SAVE_DUTY = 100
"""Saving takes at most one part of so many of the thread's time."""
ADOPT_EVERY_S = 5.0
"""Not at once: processes that start together claim their folders first."""
LAST_SEND_S = 2.0
DAY_S = 86400
DURABLE_WITHIN_S = 2.0
BATCHES = 16
"""Read without going back to the loop."""

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
"""Runs a task that the application owns."""

_Result = TypeVar("_Result")


class Follower:
    """Follows the ledger that ``journal`` writes. Made before anything is served: whatever a crash left
    open is ended then, with the rows ``recovered``.

    What fails later is reported once and tried again with the next turn. Raises ``OSError`` where the
    ledger cannot be read.
    """

    def __init__(self, ledger: Path, journal: Journal, store: Store, funds: Funds, report: Report) -> None:
        self._journal, self._store, self._report = journal, store, report
        self.totals = Totals(ledger / journal.writer, report, heads=ledger.with_name(HEADS_FILE))
        self._breaks = Breaks(self.totals.end, journal, report)
        self.recovered = _recover(self.totals, journal, self._breaks)
        if self.recovered:
            report("ledger_recovered", level="warning", writer=journal.writer, rows=len(self.recovered))
        self._thread = ThreadPoolExecutor(1, "ledger-follower")
        self._fleet = Fleet(store, journal.writer, self.totals, self._threaded) if store.shared else None
        self.source: Source = FleetStore(store) if store.shared else Folders(ledger, self.totals)
        self._adoption = Adoption(ledger, journal.writer, store, funds, report)
        self._wake = asyncio.Event()
        self._next_save_s = time.monotonic() + SAVE_EVERY_S
        self._failing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, spawn: Spawn) -> None:
        self._tasks = [
            spawn(self._run(), "ledger follower"),
            spawn(self._run_fleet(), "ledger fleet"),
            spawn(self._run_adoption(), "ledger adoption"),
        ]

    async def _run(self) -> None:
        while True:
            await self._turn()
            await self._pause(TURN_S)

    async def _run_fleet(self) -> None:
        """Ends at once where there is no fleet."""
        while self._fleet is not None:
            await self._send(self._fleet)
            await asyncio.sleep(TURN_S)

    async def _run_adoption(self) -> None:
        while True:
            await asyncio.sleep(ADOPT_EVERY_S)
            await self.adopt()

    async def adopt(self) -> None:
        """Looks after the folders that nobody holds."""
        try:
            await self._adoption.look()
        except StoreLost:
            return  # the store itself tells of its loss

    def tell(self) -> None:
        """There is something new to read: do not wait for the next turn."""
        self._wake.set()

    async def tell_swept(self, note: bytes) -> None:
        """Hands on what a writer had open that died elsewhere; the note is that of its reservation."""
        try:
            await put_swept(self._store, note)
        except (StoreLost, KeyError, TypeError, ValueError) as error:
            self._report("swept_not_told", level="warning", error=str(error))

    async def unwritten(self, notes: list[bytes]) -> list[dict[str, Any]]:
        """Of what a former life of this writer had open, by the notes of its reservations, what is not in
        the ledger at all: it died before that was written."""
        facts = [orjson.loads(note) for note in notes]
        since = day_of(min((one["admitted"] for one in facts), default=0) - DAY_S)
        written = await asyncio.to_thread(ids_since, self.totals.folder, since)
        return [one for one in facts if one["id"] not in written]

    async def catch_up(self, timeout_s: float = 1.0) -> None:
        """Returns when everything that was appended so far has been read and, where there is a fleet, sent,
        or ``timeout_s`` have passed."""
        try:
            async with asyncio.timeout(timeout_s):
                if self._fleet is not None:
                    await self._compare(self._fleet)
                try:
                    await self._journal.flush(timeout_s)
                except Unavailable:
                    pass
                await self._turn()
                if self._fleet is not None:
                    await self._send(self._fleet)
        except TimeoutError:
            return

    async def aclose(self) -> None:
        """Reads what is left, sends it if that can be done soon, and saves where it ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._turn()
        if self._fleet is not None:
            try:
                async with asyncio.timeout(LAST_SEND_S):
                    await self._send(self._fleet)
            except TimeoutError:
                pass
            self._fleet.close()
        await self._threaded(self._end)
        self._thread.shutdown(wait=False)

    async def _turn(self) -> None:
        try:
            while await self._threaded(self._read_some):
                pass
            await self._threaded(self._save_in_time)
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._report("ledger_unreadable", level="error", error=str(error))
            self._failing = True

    async def _compare(self, fleet: Fleet) -> None:
        try:
            if self._store.lost is None:
                await fleet.compare()
                self._breaks.write()
        except (OSError, StoreLost, Unavailable):
            return  # tried again with the next turn

    async def _send(self, fleet: Fleet) -> None:
        await self._compare(fleet)
        try:
            if self._store.lost is None:
                await fleet.send(self._journal.head.seq)
        except (OSError, StoreLost):
            return  # the store itself tells of its loss

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _read_some(self) -> bool:
        """False when there was nothing left to read."""
        for _ in range(BATCHES):
            if not self.totals.read_on(self._journal.head.seq):
                return False
            time.sleep(0)  # the loop must not wait for the interpreter longer than for one batch
        return True

    def _save_in_time(self) -> None:
        began_s = time.monotonic()
        if began_s >= self._next_save_s:
            self._next_save_s = began_s + SAVE_EVERY_S
            self.totals.save()
            ended_s = time.monotonic()
            self._next_save_s = ended_s + max(SAVE_EVERY_S, SAVE_DUTY * (ended_s - began_s))

    def _end(self) -> None:
        try:
            self.totals.save()
        except OSError as error:
            self._report("ledger_unreadable", level="error", error=str(error))
        self.totals.close()

    async def _threaded(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _recover(totals: Totals, journal: Journal, breaks: Breaks) -> list[dict[str, Any]]:
    """The rows that were appended for what was open; they count already, unless the disk is too slow.

    Blocks. Raises ``OSError``, and ``Unavailable`` when the ledger is full.
    """
    totals.load()
    _read_all(totals, journal)
    breaks.write()
    rows = totals.open.recovered()
    for row in rows:
        journal.append(row)
    until_s = time.monotonic() + DURABLE_WITHIN_S
    while journal.waiting_rows and time.monotonic() < until_s:
        time.sleep(0.002)
    _read_all(totals, journal)
    return rows


def _read_all(totals: Totals, journal: Journal) -> None:
    while totals.read_on(journal.head.seq):
        pass
