"""The ledger wired: who writes rows, who follows them, and what the log and the metrics hear of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.accounting.follow import Follower
from gateway.accounting.funds import charged_of
from gateway.accounting.journal import Journal, claim_writer
from gateway.accounting.recovery import recovered_row
from gateway.storage.interface import Fund, Store
from gateway.tasks import Tasks
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics

FLUSH_S = 10.0

Funds = Callable[[], list[tuple[str, list[Fund]]]]
Count = Callable[[Mapping[str, Any]], None]


class LedgerParts:
    """``journal``: where rows are written; ``follower``: what they add up to, once ``follow`` was called.

    Raises ``OSError`` and ``WriterLocked`` when the ledger cannot be kept in ``data_dir``.
    """

    follower: Follower

    def __init__(self, data_dir: Path, log: Log, metrics: Metrics, tasks: Tasks) -> None:
        self._log = log
        self._metrics = metrics
        self._tasks = tasks
        self._count: Count = lambda facts: None
        self._folder = data_dir / "ledger"
        data_dir.mkdir(parents=True, exist_ok=True)
        writer, lock = claim_writer(data_dir)
        self.journal = Journal(self._folder, writer, lock=lock, report=self._report)

    def follow(self, store: Store, funds: Funds, count: Count) -> None:
        """``funds``: the budgets of this moment, by tenant. ``count``: hears the facts of an exchange of a
        former life whose row is written only now."""
        self.follower = Follower(self._folder, self.journal, store, funds, self._report)
        self._count = count

    async def connect(self, store: Store) -> None:
        await self.follower.catch_up()  # what a crash left open counts as spent
        if not store.shared:
            await self.follower.adopt()  # what former processes have spent counts from the first request on

    def charged(self, tenant: str, fund: Fund) -> int:
        """Nano-dollars that count against ``fund``, by the ledger."""
        return charged_of(self.follower.totals, tenant, fund)

    def swept(self, note: bytes) -> None:
        """Another writer has died with this open."""
        self._tasks.spawn(self.follower.tell_swept(note), "swept")

    def left_open(self, notes: list[bytes]) -> None:
        """A former life of this writer had these open."""
        self._tasks.spawn(self._write_left(notes), "left open")

    async def _write_left(self, notes: list[bytes]) -> None:
        """What was admitted and not written down gets its rows."""
        for facts in await self.follower.unwritten(notes):
            row = recovered_row([facts], time.time())
            row["attempts"] = []
            self.journal.append(row)
            self._count(facts)

    async def close(self) -> list[str]:
        """Writes what has been settled; returns the rows that could not be."""
        return await asyncio.to_thread(self.journal.close, FLUSH_S)

    def _report(self, event: str, **fields: Any) -> None:
        if event in ("ledger_unwritable", "ledger_cut_off"):
            self._metrics.storage_errors.child("ledger").inc()
        self._log.event(event, **fields)
