"""The ledger's hash chain: how a row becomes a line, and how the lines are proved. Reads only.

A writer's folder holds one file for each UTC day, ``2026-11-20.jsonl``. Every line is a JSON object
that begins with ``seq`` (1, 2, 3, … over all files) and ``prev`` (SHA-256 of the previous line's
bytes without its newline, in hex; 64 zeros before the first), so that a row cannot be changed,
removed or moved without the rows after it telling. Only the last row has none after it: it takes
the head, kept elsewhere, to prove that one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import orjson

_TAIL_BYTES = 1 << 16


class Head(NamedTuple):
    """The last row of a chain: its number and the hex SHA-256 of its line."""

    seq: int
    sha256: str


GENESIS = Head(0, "0" * 64)


class Tail(NamedTuple):
    """The end of a file: its last valid row (None: there is none), and the offset where that
    ends."""

    head: Head | None
    valid_bytes: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a ledger: where, of which kind, and in words."""

    file: str
    line: int
    kind: Literal["changed", "missing", "swapped", "cut_off", "unreadable"]
    text: str


def link(head: Head, row: bytes) -> tuple[Head, bytes]:
    """A row, an encoded JSON object, as the line after ``head``: the new head, and the line with
    its newline."""
    seq = head.seq + 1
    rest = row[1:] if row == b"{}" else b"," + row[1:]
    line = b'{"seq":%d,"prev":"%b"%b' % (seq, head.sha256.encode(), rest)
    return Head(seq, hashlib.sha256(line).hexdigest()), line + b"\n"


def list_days(folder: Path) -> list[Path]:
    """A writer's files, oldest first."""
    return sorted(folder.glob("????-??-??.jsonl"))


def read_tail(path: Path) -> Tail:
    """Finds the last line that is whole and valid; what follows it was torn by a crash."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        window = _TAIL_BYTES
        while True:
            start = max(size - window, 0)
            file.seek(start)
            found = _last_valid(file.read(size - start), at_start=start == 0)
            if found is not None:
                return Tail(found[0], start + found[1], size)
            if start == 0:
                return Tail(None, 0, size)
            window *= 4


def _last_valid(chunk: bytes, *, at_start: bool) -> tuple[Head, int] | None:
    end = chunk.rfind(b"\n")
    while end >= 0:
        begin = chunk.rfind(b"\n", 0, end) + 1
        if begin == 0 and not at_start:
            return None
        line = chunk[begin:end]
        parsed = _parse(line)
        if parsed is not None:
            return Head(parsed.seq, hashlib.sha256(line).hexdigest()), end + 1
        end = begin - 1
    return None


def _parse(line: bytes) -> Head | None:
    """``seq`` and ``prev`` of a line, None if it has none."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, dict):
        return None
    seq, prev = row.get("seq"), row.get("prev")
    return Head(seq, prev) if type(seq) is int and isinstance(prev, str) else None


def verify(folder: Path, head: Head | None = None, base: Head = GENESIS) -> list[Problem]:
    """Proves one writer's folder; an empty list means that nothing is wrong.

    ``head``: what was last known of the chain, proves its end too; it may lag behind the files.
    ``base``: the row before the oldest file, where older files were archived. Reads line by line.
    """
    proof = _Proof(base, head)
    for path in list_days(folder):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                proof.feed(path.name, number, line)
    return proof.finish()


class _Proof:
    """What one walk over a chain remembers."""

    def __init__(self, base: Head, head: Head | None) -> None:
        self._head = head
        self._last = base
        self._highest = base.seq
        self._gaps: list[range] = []
        self._place = ("", 0)
        self._problems: list[Problem] = []

    def feed(self, file: str, number: int, line: bytes) -> None:
        before, self._place = self._place, (file, number)
        row = _parse(line[:-1]) if line.endswith(b"\n") else None
        if row is None:
            self._add("unreadable", "the line is not a whole row")
            self._last = Head(-1, "")
            return
        if row.seq == self._last.seq + 1 and row.sha256 != self._last.sha256:
            self._add(
                "changed",
                f"row {self._last.seq} is not the one that row {row.seq} follows",
                before,
            )
        self._order(row.seq)
        self._last = Head(row.seq, hashlib.sha256(line[:-1]).hexdigest())
        if self._head and self._head.seq == row.seq and self._head != self._last:
            self._add("changed", f"row {row.seq} is not the known head")

    def finish(self) -> list[Problem]:
        for gap in self._gaps:
            self._add("missing", f"rows {gap.start} to {gap.stop - 1} are missing")
        if self._head and self._head.seq > self._highest:
            text = f"the head is row {self._head.seq}, the last row is {self._highest}"
            self._add("cut_off", text)
        return self._problems

    def _order(self, seq: int) -> None:
        if seq <= self._highest:
            self._add("swapped", f"row {seq} stands after row {self._highest}")
            self._gaps = [part for gap in self._gaps for part in _without(gap, seq)]
            return
        if seq > self._highest + 1:
            self._gaps.append(range(self._highest + 1, seq))
        self._highest = seq

    def _add(
        self,
        kind: Literal["changed", "missing", "swapped", "cut_off", "unreadable"],
        text: str,
        place: tuple[str, int] | None = None,
    ) -> None:
        file, number = place or self._place
        self._problems.append(Problem(file, number, kind, text))


def _without(gap: range, seq: int) -> Iterator[range]:
    if seq not in gap:
        yield gap
        return
    yield from (part for part in (range(gap.start, seq), range(seq + 1, gap.stop)) if part)
