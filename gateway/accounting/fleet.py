"""What a writer tells the whole fleet through the store: its rows, its sums, and its head.

All of it may be said again: rows are named, sums are absolute. So a lost store is simply waited for, and
one that has lost its memory (the writer's mark is gone) gets the last days again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from orjson import dumps as _json
from orjson import loads as _loads

from gateway.accounting.chain import Head, list_days
from gateway.accounting.day_sums import day_groups, day_redactions
from gateway.accounting.reader import Cursor, LedgerReader, Line, fits
from gateway.accounting.recovery import recovered_row
from gateway.accounting.redactions import RedactionGroup
from gateway.accounting.sums import AnyGroup, Numbers, day_of, encode_group
from gateway.accounting.totals import Totals
from gateway.storage.interface import Records

ROW_DAYS = 30
SUM_DAYS = 35
MARK_EVERY_S = 5.0
HEADS = "ledger-heads"
_DAY_S = 86400
_AT_ONCE = 50
_FIELDS_AT_ONCE = 200
_DUTY = 3
"""Pauses after each part for this many times what it took: serving comes first."""

Threaded = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs something in the thread that reads the files."""


def rows_key(request_id: str) -> str:
    return f"req:{request_id}"


def sums_key(day: str, writer: str) -> str:
    return f"spend:{day}:{writer}"


def redactions_key(day: str, writer: str) -> str:
    return f"redactions:{day}:{writer}"


def writers_key(day: str) -> str:
    return f"spend-writers:{day}"


def row_name(writer: str, row: Mapping[str, Any]) -> str:
    """Of an exchange's row in the whole fleet: whatever is said of it later replaces it."""
    return f"{writer}/{row.get('id') or row['seq']}"


async def put_swept(records: Records, note: bytes) -> None:
    """Tells of an exchange whose writer died elsewhere, by the note that stood with its reservation. The
    writer's own row takes its place if it comes back. Raises ``StoreLost``."""
    facts = _loads(note)
    row = recovered_row([facts], time.time())
    row["attempts"] = []
    key, name = rows_key(row["request_id"]), row_name(facts["writer"], row)
    if name not in await records.fields(key):
        await records.put_fields(key, {name: _json(row)}, ROW_DAYS * _DAY_S)


async def known_head(records: Records, writer: str) -> Head | None:
    """The chain's end as the store has it. Raises ``StoreLost``."""
    text = (await records.fields(HEADS)).get(writer)
    return None if text is None else Head(*_loads(text))


class Fleet:
    """Of one writer. ``threaded``: where files are read."""

    def __init__(self, records: Records, writer: str, totals: Totals, threaded: Threaded) -> None:
        self._records, self._writer, self._totals, self._threaded = records, writer, totals, threaded
        self._reader = LedgerReader(totals.folder, self._noted())
        self._mark = f"ledger-mark:{writer}"
        self._marked_s = 0.0
        self._resending = False
        self._announced = ""
        self._head_sent = 0
        self._compared = False
        self._turn = asyncio.Lock()

    async def send(self, durable_seq: int | None = None) -> None:
        """Sends what is new. Raises ``StoreLost``: what was not sent is sent by a later call."""
        async with self._turn:
            await self.compare()
            await self._check_mark()
            await self._send_rows(durable_seq)
            await self._send_current()
            await self._send_days()
            await self._send_head()
            if self._resending:
                await self._records.put(self._mark, b"1", 0)
                self._resending = False

    async def compare(self) -> None:
        """Once: whether the files still hold the head that the store knows. Raises ``StoreLost``."""
        if not self._compared:
            head = await known_head(self._records, self._writer)
            await self._threaded(partial(self._totals.end.expect, head))
            self._compared = True

    def close(self) -> None:
        self._reader.close()

    def _noted(self) -> Cursor | None:
        try:
            cursor = Cursor(*self._totals.note)
        except TypeError:
            return None
        return cursor if fits(self._totals.folder, cursor) else None

    async def _check_mark(self) -> None:
        now_s = time.monotonic()
        if self._resending or (self._marked_s and now_s - self._marked_s < MARK_EVERY_S):
            return
        if await self._records.get(self._mark) is None:
            await self._threaded(self._begin_again)
            self._resending, self._announced, self._head_sent = True, "", 0
        self._marked_s = now_s

    def _begin_again(self) -> None:
        since = day_of(int(time.time()) - ROW_DAYS * _DAY_S)
        self._totals.all_unsent(since)
        first = next((day.name for day in list_days(self._totals.folder) if day.stem >= since), "")
        self._rewind(Cursor(first))

    def _rewind(self, cursor: Cursor) -> None:
        self._reader.close()
        self._reader = LedgerReader(self._totals.folder, cursor)

    async def _send_rows(self, durable_seq: int | None) -> None:
        while True:
            before = self._reader.cursor
            try:
                batch = await self._threaded(partial(self._reader.read, durable_seq))
                rows = [line for line in batch.lines if line.row.get("kind") == "exchange"]
                for start in range(0, len(rows), _AT_ONCE):
                    await self._gently(self._put_rows(rows[start : start + _AT_ONCE]))
            except BaseException:  # a cancellation, too: what was read was not sent
                self._rewind(before)
                raise
            self._totals.note = self._reader.cursor.as_list()
            if self._reader.cursor == before:
                return

    async def _put_rows(self, rows: Sequence[Line]) -> None:
        ttl_s = ROW_DAYS * _DAY_S
        await asyncio.gather(
            *(
                self._records.put_fields(
                    rows_key(row["request_id"]), {row_name(self._writer, row): text}, ttl_s
                )
                for row, text in rows
            )
        )

    async def _send_current(self) -> None:
        while True:
            day, changed = self._totals.take_changed(_FIELDS_AT_ONCE)
            if not changed:
                return
            try:
                await self._put_sums(day, changed)
            except BaseException:
                self._totals.put_back(day, [group for group, _ in changed])
                raise

    async def _send_days(self) -> None:
        oldest = day_of(int(time.time()) - SUM_DAYS * _DAY_S)
        for day in sorted(self._totals.unsent):
            if day >= oldest:
                path = self._totals.folder / f"{day}.jsonl"
                for read in (day_groups, day_redactions):
                    sums = await self._threaded(partial(read, path))
                    await self._put_sums(day, list(sums.items()))
            self._totals.unsent.discard(day)

    async def _put_sums(self, day: str, sums: list[tuple[AnyGroup, Numbers]]) -> None:
        if not sums:
            return
        if day != self._announced:
            await self._records.put_fields(writers_key(day), {self._writer: b""}, SUM_DAYS * _DAY_S)
            self._announced = day
        for start in range(0, len(sums), _FIELDS_AT_ONCE):
            spent: dict[str, bytes] = {}
            found: dict[str, bytes] = {}
            for group, numbers in sums[start : start + _FIELDS_AT_ONCE]:
                fields = found if isinstance(group, RedactionGroup) else spent
                fields[_json(encode_group(group)).decode()] = _json(numbers)
            for key, fields in ((sums_key, spent), (redactions_key, found)):
                if fields:
                    put = self._records.put_fields(key(day, self._writer), fields, SUM_DAYS * _DAY_S)
                    await self._gently(put)

    async def _send_head(self) -> None:
        head = self._totals.head
        if head.seq > self._head_sent and not self._totals.end.cut:
            await self._records.put_fields(HEADS, {self._writer: _json(list(head))}, 0)
            self._head_sent = head.seq

    async def _gently(self, work: Awaitable[None]) -> None:
        began_s = time.monotonic()
        await work
        await asyncio.sleep(min(_DUTY * (time.monotonic() - began_s), 0.2))
