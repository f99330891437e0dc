"""The append-only ledger of one writer: rows in, hash-chained durable lines out.

``append`` hands a row to a thread, which writes what has gathered and syncs it, at most once every
``commit_interval_s``. Nobody waits for the disk unless they ``flush``. When the disk fails, rows
stay in memory up to a bound and are tried again until it recovers; ``admitting`` tells when to stop
taking work whose end could not be written down.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.accounting.chain import Head, Problem, link, verify
from gateway.accounting.day_files import DayFiles, Report
from gateway.accounting.rows import encode_row
from gateway.accounting.writer import WriterLock, WriterLocked, claim_writer
from gateway.errors import Unavailable

__all__ = [
    "Head",
    "Journal",
    "Problem",
    "WriterLock",
    "WriterLocked",
    "claim_writer",
    "verify",
]

_ROW_OVERHEAD_BYTES = 48
_BATCH_BYTES = 1 << 22
_STALL_S = 5.0
_TRYING = 0.8  # of the time to close; the rest is for the last try to end
_BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class Journal:
    """One writer's ledger under ``folder/<writer>/``, taken over where it ended.

    ``folder``: the ledger of all writers. ``lock``: the writer's lock if it is held already, as by
    ``claim_writer``; else it is taken here. ``clock``: seconds since the epoch; names the files
    only. ``report``: called from any thread. Raises ``WriterLocked`` if another process is
    this writer, and ``OSError`` if the folder cannot be read or written. All methods are for one
    thread, the event loop's.
    """

    def __init__(
        self,
        folder: Path,
        writer: str,
        *,
        lock: WriterLock | None = None,
        max_rows: int = 100_000,
        max_bytes: int = 64 << 20,
        commit_interval_s: float = 0.01,
        clock: Callable[[], float] = time.time,
        report: Report = lambda *args, **fields: None,
    ) -> None:
        self._lock = lock or WriterLock(folder, writer)
        self.writer = writer
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._interval_s, self._report = commit_interval_s, report
        self._files = DayFiles(self._lock.folder, clock, report)
        self._head = self._recover()
        self._pending: deque[bytes] = deque()
        # The loop alone writes the first two, the thread alone the others: no lock is needed.
        self._appended_rows = self._appended_bytes = 0
        self._durable_rows = self._durable_bytes = 0
        self._batch: list[bytes] = []
        self._give_up_s = 0.0
        self._failure: str | None = None
        self._commit_began_s = 0.0
        self._wake, self._closing = threading.Event(), threading.Event()
        self._waiters: list[_Waiter] = []
        self._waiters_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"journal-{writer}", daemon=True)
        self._thread.start()

    @property
    def head(self) -> Head:
        """The last durable row."""
        return self._head

    @property
    def error(self) -> str | None:
        """Why the ledger cannot be written just now; None when it can."""
        began_s = self._commit_began_s  # once: the thread may end the commit meanwhile
        if self._failure is None and began_s:
            waited_s = time.monotonic() - began_s
            if waited_s > _STALL_S:
                return f"the ledger's disk has not answered for {waited_s:.0f} s"
        return self._failure

    @property
    def healthy(self) -> bool:
        return self.error is None

    @property
    def admitting(self) -> bool:
        """Healthy, and at most half full: what is running still finds room for its rows."""
        rows_left = 2 * self.waiting_rows <= self._max_rows
        return rows_left and 2 * self.waiting_bytes <= self._max_bytes and self.healthy

    @property
    def waiting_rows(self) -> int:
        """Rows appended that are not durable yet."""
        return self._appended_rows - self._durable_rows

    @property
    def waiting_bytes(self) -> int:
        """The memory that those rows take."""
        return self._appended_bytes - self._durable_bytes

    def append(self, row: Mapping[str, Any]) -> None:
        """Queues a row; never waits. The row may be changed afterwards.

        Values are strings, integers, booleans, None, ``Decimal`` (written as text), and lists and
        objects of these. Raises ``Unavailable`` (``storage_unavailable``) when the queue is full or
        closed, ``TypeError`` for a float among the row's own values or another type, ``ValueError``
        for a ``seq`` or ``prev``.
        """
        body = encode_row(row)
        size = len(body) + _ROW_OVERHEAD_BYTES
        full = self.waiting_rows >= self._max_rows or self.waiting_bytes + size > self._max_bytes
        if full or self._closing.is_set():
            raise _unavailable("the queue is full" if full else "the journal is closed")
        self._appended_rows += 1
        self._appended_bytes += size
        self._pending.append(body)
        if not self._wake.is_set():
            self._wake.set()

    async def flush(self, timeout_s: float) -> None:
        """Returns when everything appended so far is durable; raises ``Unavailable`` after
        ``timeout_s``."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(self._appended_rows, loop, loop.create_future())
        with self._waiters_lock:
            self._waiters.append(waiter)
        self._notify()
        try:
            await asyncio.wait_for(waiter.done, timeout_s)
        except TimeoutError:
            raise _unavailable(self.error or f"not durable within {timeout_s} s") from None
        finally:
            with self._waiters_lock:
                self._waiters = [other for other in self._waiters if other is not waiter]

    def close(self, timeout_s: float = 5.0) -> list[str]:
        """Writes what is queued and gives up the lock; returns the rows that were lost, as JSON.

        Blocks for up to ``timeout_s``: a disk that fails is tried until then. Calling it again does
        nothing.
        """
        self._give_up_s = time.monotonic() + timeout_s * _TRYING
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._files.close()
            self._lock.release()
        lost = [body.decode() for body in (*self._batch, *self._pending)]
        if lost:
            self._report("ledger_rows_lost", level="error", rows=len(lost))
        return lost

    def _recover(self) -> Head:
        try:
            return self._files.recover()
        except OSError:
            self._lock.release()
            raise

    def _run(self) -> None:
        while batch := self._take():
            started_s = time.monotonic()
            if not self._commit(batch):
                return
            self._notify()
            self._closing.wait(self._interval_s - (time.monotonic() - started_s))

    def _take(self) -> list[bytes]:
        """The next rows, when there are any; nothing when the journal is closed and empty."""
        while not self._pending:
            self._wake.clear()
            if self._pending:
                break
            if self._closing.is_set():
                return []
            self._wake.wait()
        batch: list[bytes] = []
        size = 0
        while self._pending and size < _BATCH_BYTES:
            batch.append(self._pending.popleft())
            size += len(batch[-1])
        return batch

    def _commit(self, batch: list[bytes]) -> bool:
        """Makes a batch durable, however long that takes; False if the time to close has passed."""
        self._batch = batch
        head, lines = self._head, bytearray()
        for body in batch:
            head, line = link(head, body)
            lines += line
        attempt = 0
        while not self._write(bytes(lines)):
            pause_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
            if self._closing.wait(pause_s):
                if time.monotonic() >= self._give_up_s:
                    return False
                time.sleep(_BACKOFF_S[0])
            attempt += 1
        self._head = head
        self._durable_bytes += sum(map(len, batch)) + _ROW_OVERHEAD_BYTES * len(batch)
        self._durable_rows += len(batch)
        self._batch = []
        return True

    def _write(self, lines: bytes) -> bool:
        self._commit_began_s = time.monotonic()
        try:
            self._files.write(lines)
        except OSError as error:
            if self._failure is None:
                self._report("ledger_unwritable", level="error", error=str(error))
            self._failure = str(error)
            return False
        finally:
            self._commit_began_s = 0.0
        if self._failure is not None:
            self._report("ledger_writable_again", level="warning")
            self._failure = None
        return True

    def _notify(self) -> None:
        with self._waiters_lock:
            due = [waiter for waiter in self._waiters if waiter.rows <= self._durable_rows]
        for waiter in due:
            waiter.resolve()


class _Waiter(NamedTuple):
    rows: int
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]

    def resolve(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self._set)
        except RuntimeError:  # the loop was closed; nobody waits any more
            return

    def _set(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _unavailable(detail: str) -> Unavailable:
    return Unavailable(
        "The gateway cannot write its ledger.",
        code="storage_unavailable",
        retry_after_s=1,
        detail=detail,
    )
