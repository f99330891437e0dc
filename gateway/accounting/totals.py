"""What one writer's rows come to: sums, charges and open exchanges, kept up with its files.

All of it is derived. ``checkpoint`` beside the day files saves reading them again; a finished day leaves
``sums-<day>`` behind. Either is thrown away where it does not fit the files, and made anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from gateway.accounting.chain import Head, list_days
from gateway.accounting.charges import Charges
from gateway.accounting.day_files import Report
from gateway.accounting.day_sums import (
    DaySums,
    list_sum_days,
    read_day_sums,
    read_redactions,
    write_day_sums,
)
from gateway.accounting.heads import BREAK, KnownEnd
from gateway.accounting.reader import BATCH_ROWS, Batch, Cursor, LedgerReader, fits
from gateway.accounting.recovery import OpenExchanges
from gateway.accounting.redactions import FIELD, RedactionGroup, decode_redactions, redactions_of
from gateway.accounting.snapshot_file import in_lines, read_snapshot, write_snapshot
from gateway.accounting.sums import (
    CHARGED,
    MOST_GROUPS,
    AnyGroup,
    Group,
    Numbers,
    Sums,
    decode_group,
    encode_groups,
    entry_of,
)

CHECKPOINT = "checkpoint"
VERSION = 1
_BAD_ROW = (KeyError, TypeError, ValueError, AttributeError, IndexError)


class Totals:
    """Of one writer's folder. ``durable_seq``: rows behind it are not looked at yet.

    ``read_on`` and ``save`` are for one thread at a time; ``charged``, ``current…`` and ``take_changed``
    may be called from any. ``unsent``: finished days whose sums somebody still waits for; kept with
    ``note``, which is his, over a restart. ``end``: what is known of the chain's end, ``heads`` included,
    the file where the heads of all writers are kept (None: nowhere).
    """

    def __init__(
        self,
        folder: Path,
        report: Report = lambda *args, **fields: None,
        *,
        most_groups: int = MOST_GROUPS,
        heads: Path | None = None,
    ) -> None:
        self.folder = folder
        self.end = KnownEnd(folder, heads)
        self.open = OpenExchanges()
        self.unsent: set[str] = set()
        self.note: Any = None
        self._report = report
        self._most_groups = most_groups
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._reader = LedgerReader(self.folder)
        self._sums = Sums(self._most_groups)
        self._charges = Charges()
        self._day = ""
        self._saved: tuple[Cursor, Any] = (self._reader.cursor, None)
        self.open = OpenExchanges()
        self.unsent, self.note = set(), None

    @property
    def head(self) -> Head:
        """The last row that was read."""
        return Head(self._reader.cursor.seq, self._reader.cursor.sha256)

    def load(self) -> None:
        """Takes up the checkpoint, or else what the finished days left. Raises ``OSError``."""
        lines = read_snapshot(self.folder / CHECKPOINT)
        self._take_up(lines)
        self.end.expect(_head_of(lines))
        self.end.expect_kept()

    def _take_up(self, lines: list[Any] | None) -> None:
        try:
            if lines is not None and self._take_checkpoint(lines):
                return
        except _BAD_ROW:
            pass
        if (self.folder / CHECKPOINT).exists():
            self._report("ledger_read_anew", level="warning", file=str(self.folder / CHECKPOINT))
        self._forget()
        self._take_days()

    def read_on(self, durable_seq: int | None = None) -> bool:
        """Takes in the next few rows; False when there are none now. Raises ``OSError``."""
        batch = self._reader.read(durable_seq, BATCH_ROWS)
        if batch.finished is not None:
            self._finish(batch.finished)
        bad = batch.unreadable + self._take_in(batch)
        if bad:
            self._report("ledger_rows_unreadable", level="error", folder=str(self.folder), rows=bad)
        return bool(batch.lines or batch.finished or batch.unreadable)

    def charged(
        self,
        tenant: str,
        key: str | None = None,
        feature: str | None = None,
        user: str | None = None,
        *,
        start_s: int = 0,
        end_s: int = 0,
    ) -> int:
        """Nano-dollars charged by this writer to requests admitted from ``start_s`` up to ``end_s`` (epoch
        seconds of full hours; 0: without end), among the rows that were read."""
        with self._lock:
            return self._charges.charged(tenant, key, feature, user, start_s, end_s)

    def current(self) -> tuple[str, list[tuple[Group, Numbers]]]:
        """The day that is being read ("" before any), and its sums so far."""
        with self._lock:
            return self._day, [(group, numbers.copy()) for group, numbers in self._sums.groups.items()]

    def current_redactions(self) -> tuple[str, list[tuple[RedactionGroup, Numbers]]]:
        """As ``current``."""
        with self._lock:
            found = self._sums.redactions.items()
            return self._day, [(group, numbers.copy()) for group, numbers in found]

    def take_changed(self, most: int) -> tuple[str, list[tuple[AnyGroup, Numbers]]]:
        """The current day, and up to ``most`` of its sums that changed since they were last taken."""
        with self._lock:
            sums = self._sums
            taken = [sums.changed.pop() for _ in range(min(most, len(sums.changed)))]
            return self._day, [(group, sums.numbers(group).copy()) for group in taken]

    def put_back(self, day: str, groups: Iterable[AnyGroup]) -> None:
        """They could not be handed on: the next ``take_changed`` has them, or else the whole day is
        ``unsent``."""
        with self._lock:
            if day == self._day:
                self._sums.changed.update(groups)
            else:
                self.unsent.add(day)

    def all_unsent(self, since_day: str) -> None:
        """Whoever heard of sums has forgotten them: all days from this one on are to be sent again."""
        with self._lock:
            days = [path.stem for path in list_days(self.folder)]
            self.unsent = {day for day in days if since_day <= day < self._day}
            self._sums.all_changed()

    def save(self) -> None:
        """Writes the checkpoint, if anything was read since the last one, and keeps the head; not while the
        files lack a known head and no row tells of it. Raises ``OSError``."""
        state = (self._reader.cursor, self.note)
        if state != self._saved and not self.end.cut:
            write_snapshot(self.folder / CHECKPOINT, self._checkpoint())
            self.end.keep(self.head)
            self._saved = state

    def close(self, *, finished: bool = False) -> None:
        """``finished``: nothing will be written for now, so the last day leaves its sums, too."""
        if finished and self._day:
            self._write_sums(self._day)
        self._reader.close()

    def _take_in(self, batch: Batch) -> int:
        """The number of rows that are not what they should be."""
        entries, redactions, bad = [], [], 0
        for line in batch.lines:
            row = line.row
            try:
                if row["kind"] == "exchange":
                    entries.append(entry_of(row))
                    self.open.end(row)
                    if FIELD in row:
                        redactions.append(redactions_of(row, entries[-1][0].hour))
                elif row["kind"] == "attempt":
                    self.open.begin(row)
                elif row["kind"] == BREAK:
                    self.end.hear(row)
            except _BAD_ROW:
                bad += 1
        folded = self._sums.folded
        with self._lock:
            self._day = self._reader.cursor.file.removesuffix(".jsonl")
            for group, numbers in entries:
                self._charges.add(self._sums.add(group, numbers), numbers[CHARGED])
            for found, counts in redactions:
                self._sums.add_redactions(found, counts)
        if self._sums.folded and not folded:
            self._report("spend_groups_full", level="warning", day=self._day, groups=self._most_groups)
        return bad

    def _finish(self, file: str) -> None:
        day = file.removesuffix(".jsonl")
        self._write_sums(day)
        if self._sums.folded:
            self._report("spend_groups_folded", level="warning", day=day, rows=self._sums.folded)
        with self._lock:
            if self._sums.changed:
                self.unsent.add(day)
            self._day = self._reader.cursor.file.removesuffix(".jsonl")
            self._sums = Sums(self._most_groups)
            self._charges.coarsen(int(time.time()))

    def _write_sums(self, day: str) -> None:
        sums, cursor = self._sums, self._reader.cursor
        still_open = list(self.open.encode())
        done = DaySums(sums.groups, cursor.seq, cursor.sha256, still_open, sums.redactions)
        try:
            write_day_sums(self.folder, day, done)
        except OSError as error:  # whoever asks for the day reads its rows instead
            self._report("spend_sums_unwritable", level="error", day=day, error=str(error))

    def _checkpoint(self) -> Iterable[Any]:
        yield {
            "version": VERSION,
            "cursor": self._reader.cursor.as_list(),
            "folded": self._sums.folded,
            "unsent": sorted(self.unsent),
            "note": self.note,
            "told": self.end.told,
            "redactions": list(encode_groups(self._sums.redactions)),
        }
        yield from in_lines("groups", encode_groups(self._sums.groups))
        yield from in_lines("charges", self._charges.encode())
        yield from in_lines("open", self.open.encode())

    def _take_checkpoint(self, lines: list[Any]) -> bool:
        header, *parts = lines
        cursor = Cursor(*header["cursor"])
        if header["version"] != VERSION or not fits(self.folder, cursor):
            return False
        self.end.take_told(header.get("told", []))
        self._reader = LedgerReader(self.folder, cursor)
        self._day = cursor.file.removesuffix(".jsonl")
        self.unsent, self.note = set(header["unsent"]), header["note"]
        self._saved = (cursor, self.note)
        self._sums.folded = header["folded"]
        for name, entries in parts:
            if name == "groups":
                self._take_groups(entries)
            elif name == "charges":
                self._charges.decode(entries)
            else:
                self.open.decode(entries)
        self._take_redactions(header.get("redactions"), cursor)
        self._sums.all_changed()
        return True

    def _take_groups(self, entries: list[Any]) -> None:
        self._sums.groups.update({decode_group(fields): numbers for fields, numbers in entries})

    def _take_redactions(self, entries: Any, cursor: Cursor) -> None:
        """``entries``: None where a former version wrote the checkpoint, so that only the rows tell."""
        if entries is not None:
            self._sums.redactions = decode_redactions(entries)
        elif cursor.file:
            self._sums.redactions = read_redactions(self.folder / cursor.file, cursor.offset)

    def _take_days(self) -> None:
        """Skips the days at the beginning that have sums; whatever follows is read."""
        days = list_sum_days(self.folder)
        for path, following in pairwise(days):
            day = read_day_sums(path)
            if day is None:
                break
            self._add_charges(day.groups)
            self.unsent.add(path.stem)
            self.open = OpenExchanges()
            self.open.decode(day.open)
            self._reader = LedgerReader(self.folder, Cursor(following.name, 0, day.seq, day.sha256))
        self._charges.coarsen(int(time.time()))

    def _add_charges(self, groups: Mapping[Group, Numbers]) -> None:
        for group, numbers in groups.items():
            self._charges.add(group, numbers[CHARGED])


def checkpoint_head(folder: Path) -> Head | None:
    """The last row that was known when the checkpoint was written; None without one."""
    return _head_of(read_snapshot(folder / CHECKPOINT))


def _head_of(lines: list[Any] | None) -> Head | None:
    try:
        cursor = Cursor(*lines[0]["cursor"]) if lines else None
    except _BAD_ROW:
        return None
    return None if cursor is None else Head(cursor.seq, cursor.sha256)
