"""A writer's rows in order, read from its day files; the files are the queue."""

from __future__ import annotations

import hashlib
import os
import re
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from gateway.accounting.chain import GENESIS, list_days

CHUNK_BYTES = 1 << 19
_IDS = re.compile(rb'"id":"(\d+)"')
BATCH_ROWS = 64
"""Half a millisecond's work: after each batch a thread lets others go on."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where reading goes on: behind row ``seq``, whose line has the hex digest ``sha256``.

    ``file``: the name of a day file, "" before the first.
    """

    file: str = ""
    offset: int = 0
    seq: int = GENESIS.seq
    sha256: str = GENESIS.sha256

    def as_list(self) -> list[Any]:
        return [self.file, self.offset, self.seq, self.sha256]


class Line(NamedTuple):
    """``text``: the line without its newline."""

    row: dict[str, Any]
    text: bytes


class Batch(NamedTuple):
    """Rows of one file. ``finished``: the file's name, when it has ended and nothing follows in it; then
    there are no lines. ``unreadable``: lines that are no rows."""

    lines: list[Line]
    finished: str | None = None
    unreadable: int = 0


def fits(folder: Path, cursor: Cursor) -> bool:
    """Whether the files hold the row that the cursor stands behind."""
    if not cursor.file or not cursor.seq:
        return cursor == Cursor(cursor.file)
    try:
        with (folder / cursor.file).open("rb") as file:
            if file.seek(0, os.SEEK_END) < cursor.offset:
                return False
            return cursor.offset == 0 or _line_before(file, cursor.offset) == cursor.sha256
    except OSError:
        return False


def _line_before(file: BinaryIO, offset: int) -> str:
    """The digest of the line that ends at ``offset``."""
    window = 1 << 14
    while True:
        start = max(offset - window, 0)
        file.seek(start)
        chunk = file.read(offset - start)
        begin = chunk.rfind(b"\n", 0, -1) + 1
        if begin or start == 0:
            return hashlib.sha256(chunk[begin:-1]).hexdigest() if chunk.endswith(b"\n") else ""
        window *= 4


class LedgerReader:
    """Reads on from ``cursor``, in one thread at a time. Raises ``OSError``."""

    def __init__(self, folder: Path, cursor: Cursor | None = None) -> None:
        self.folder = folder
        self.cursor = cursor or Cursor()
        self._file: BinaryIO | None = None
        self._read: deque[bytes] = deque()
        self._part = b""

    def read(self, durable_seq: int | None = None, most: int = BATCH_ROWS) -> Batch:
        """Up to ``most`` rows, none behind ``durable_seq`` (None: all that is there); an empty batch when
        there is nothing more to read now."""
        if self._file is None and not self._open_next():
            return Batch([])
        batch = self._take(durable_seq, most)
        if batch.lines or batch.unreadable or self._read:
            return batch
        following = self._successor()
        if following is None:
            return batch
        if self._fill():  # written between the last look and the next file
            return self._take(durable_seq, most)
        finished, torn = self.cursor.file, bool(self._part)
        self.close()
        self.cursor = replace(self.cursor, file=following, offset=0)
        return Batch([], finished, int(torn))

    def _take(self, durable_seq: int | None, most: int) -> Batch:
        lines: list[Line] = []
        unreadable, offset = 0, self.cursor.offset
        while len(lines) < most and (self._read or self._fill()):
            text = self._read[0]
            row = _parse(text)
            if row is None:
                unreadable += 1
            elif durable_seq is not None and row["seq"] > durable_seq:
                break
            else:
                lines.append(Line(row, text))
            self._read.popleft()
            offset += len(text) + 1
        if lines:
            row, text = lines[-1]
            sha256 = hashlib.sha256(text).hexdigest()
            self.cursor = Cursor(self.cursor.file, offset, row["seq"], sha256)
        elif unreadable:
            self.cursor = replace(self.cursor, offset=offset)
        return Batch(lines, None, unreadable)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._read.clear()
        self._part = b""

    def _open_next(self) -> bool:
        """Opens the cursor's file, or the first there is behind it."""
        if not self.cursor.file:
            first = self._successor()
            if first is None:
                return False
            self.cursor = replace(self.cursor, file=first, offset=0)
        try:
            self._file = (self.folder / self.cursor.file).open("rb")
        except FileNotFoundError:  # archived while it was read
            following = self._successor()
            if following is None:
                return False
            self.cursor = replace(self.cursor, file=following, offset=0)
            return self._open_next()
        self._file.seek(self.cursor.offset)
        return True

    def _fill(self) -> bool:
        """Reads another chunk; whether it made a line whole."""
        assert self._file is not None
        while chunk := self._file.read(CHUNK_BYTES):
            *whole, self._part = (self._part + chunk).split(b"\n")
            if whole:
                self._read.extend(whole)
                return True
        return False

    def _successor(self) -> str | None:
        return next((path.name for path in list_days(self.folder) if path.name > self.cursor.file), None)


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and type(row.get("seq")) is int else None


def ids_since(folder: Path, day: str) -> set[str]:
    """The ids of all exchanges with rows in the files from ``day`` on (``2026-11-20``)."""
    found: set[bytes] = set()
    for path in list_days(folder):
        if path.stem >= day:
            with path.open("rb") as file:
                rest = b""
                while chunk := file.read(CHUNK_BYTES):
                    rest += chunk
                    found.update(_IDS.findall(rest))
                    rest = rest[rest.rfind(b"\n") + 1 :]
    return {one.decode() for one in found}
