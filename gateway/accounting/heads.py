"""Whether a chain still ends where it was last known to: known heads, and rows that tell of a break.

A head is known from the writer's checkpoint, from ``heads.json`` beside the ledger, and from the store.
Files that do not hold it any more were cut or replaced. A row of kind ``break`` says so for ever; until it
is on disk, no known head is overwritten.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from gateway.accounting.chain import Head, list_days
from gateway.accounting.day_files import Report
from gateway.accounting.journal import Journal
from gateway.accounting.snapshot_file import open_private, replace_file
from gateway.telemetry.timestamp import Timestamp

HEADS_FILE = "heads.json"
BREAK = "break"
_CHUNK_BYTES = 1 << 16
_SEQ = re.compile(rb'\{"seq":(\d+),')


class KnownEnd:
    """Of the chain in ``folder``; for the thread that reads it, but ``cut``. ``kept``: where heads are kept
    beside the ledger, None for nowhere."""

    def __init__(self, folder: Path, kept: Path | None) -> None:
        self._folder, self._kept = folder, kept
        self._told: set[Head] = set()
        self._cut: set[Head] = set()

    @property
    def cut(self) -> list[Head]:
        """The known heads that the files do not hold, and of which no row tells yet."""
        return sorted(self._cut.copy())

    @property
    def told(self) -> list[list[Any]]:
        """The known heads of which rows tell that they were cut off."""
        return [list(head) for head in sorted(self._told)]

    def take_told(self, heads: list[list[Any]]) -> None:
        """What ``told`` was. Raises ``TypeError`` for what is no list of heads."""
        self._told = {Head(*head) for head in heads}

    def expect(self, head: Head | None) -> None:
        """Compares a known head with the files. Raises ``OSError``."""
        if head is None or not head.seq or head in self._told:
            return
        if head_at(self._folder, head.seq) != head:
            self._cut.add(head)

    def expect_kept(self) -> None:
        if self._kept is not None:
            self.expect(read_heads(self._kept).get(self._folder.name))

    def hear(self, row: dict[str, Any]) -> None:
        """A row of kind ``break``. Raises ``KeyError`` for what is none."""
        known = Head(row["known_seq"], row["known_sha256"])
        self._told.add(known)
        self._cut.discard(known)

    def keep(self, head: Head) -> None:
        """Raises ``OSError``."""
        if self._kept is not None and head.seq:
            keep_head(self._kept, self._folder.name, head)


class Breaks:
    """Writes down what ``end`` finds cut, each head once, at the end of ``journal``."""

    def __init__(self, end: KnownEnd, journal: Journal, report: Report) -> None:
        self._end, self._journal, self._report = end, journal, report
        self._written: set[Head] = set()

    def write(self) -> None:
        """Raises ``Unavailable`` when the ledger is full."""
        for known in self._end.cut:
            if known not in self._written:
                found = self._journal.head
                place = {
                    "known_seq": known.seq,
                    "known_sha256": known.sha256,
                    "found_seq": found.seq,
                    "found_sha256": found.sha256,
                }
                self._journal.append({"kind": BREAK, "time": Timestamp()(time.time()), **place})
                self._written.add(known)
                self._report("ledger_cut_off", level="error", writer=self._journal.writer, **place)


def head_at(folder: Path, seq: int) -> Head | None:
    """The row of that number, searched from the end; None where the files hold none. Raises ``OSError``."""
    for path in reversed(list_days(folder)):
        for line in _lines_backwards(path):
            found = _SEQ.match(line)
            if found is not None and int(found[1]) <= seq:
                same = int(found[1]) == seq
                return Head(seq, hashlib.sha256(line).hexdigest()) if same else None
    return None


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """The whole lines of a file, the last one first."""
    with path.open("rb") as file:
        start, rest, behind = file.seek(0, os.SEEK_END), b"", True
        while start:
            stop, start = start, max(start - _CHUNK_BYTES, 0)
            file.seek(start)
            lines = (file.read(stop - start) + rest).split(b"\n")
            rest = lines[0]
            if behind and len(lines) > 1:  # what follows the last newline is no whole line
                lines.pop()
                behind, rest = False, lines[0]
            yield from reversed(lines[1:])
        if not behind:
            yield rest


def read_heads(path: Path) -> dict[str, Head]:
    """The heads kept beside the ledger, by writer; empty where there is no such file."""
    try:
        kept = orjson.loads(path.read_bytes())
        return {str(writer): Head(int(seq), str(sha256)) for writer, (seq, sha256) in kept.items()}
    except (FileNotFoundError, AttributeError, TypeError, ValueError):
        return {}


def keep_head(path: Path, writer: str, head: Head) -> None:
    """Other processes keep theirs in the same file. Raises ``OSError``."""
    with open(path.with_suffix(".lock"), "ab", opener=open_private) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        heads = read_heads(path)
        if heads.get(writer) != head:
            heads[writer] = head
            kept = {name: list(one) for name, one in sorted(heads.items())}
            replace_file(path, [orjson.dumps(kept) + b"\n"])
