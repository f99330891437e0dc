"""Proves the ledger of every writer: its chain, and its end by the head that was kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.accounting.chain import Head, Problem, list_days, verify
from gateway.accounting.fleet import HEADS
from gateway.accounting.heads import BREAK, HEADS_FILE, read_heads
from gateway.accounting.totals import checkpoint_head
from gateway.storage.interface import Records

_WRITTEN_S = 0.1
"""A row is written whole within this time."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Of one writer. ``first`` and ``last``: days, "" without rows. ``head_known``: the chain's end was
    proved, too. ``torn``: the file that ends in part of a row."""

    writer: str
    rows: int
    first: str
    last: str
    head_known: bool
    torn: str | None
    problems: list[Problem]


async def known_heads(records: Records) -> dict[str, Head]:
    """The chains' ends as the store has them, by writer. Raises ``StoreLost``."""
    fields = await records.fields(HEADS)
    return {writer: Head(*orjson.loads(text)) for writer, text in fields.items()}


def verify_writers(ledger: Path, heads: Mapping[str, Head]) -> list[Finding]:
    """All folders of ``ledger``, and those that are gone; ``heads``: what the store knows, also of writers
    elsewhere. Raises ``OSError``."""
    kept = read_heads(ledger.with_name(HEADS_FILE))
    folders = sorted(ledger.glob("*/"))
    findings = [_finding(path, heads.get(path.name), kept.get(path.name)) for path in folders]
    findings = [one for one in findings if one.rows or one.problems or one.torn]
    here = {path.name for path in folders}
    expected = kept if kept or folders else heads  # a store's writers may well be elsewhere
    return findings + [_gone(name, head) for name, head in sorted(expected.items()) if name not in here]


def _gone(writer: str, head: Head) -> Finding:
    text = f"the folder is not there any more; rows 1 to {head.seq} are known to have been in it"
    return Finding(writer, 0, "", "", True, None, [Problem("", 0, "missing", text)])


def _finding(folder: Path, *known: Head | None) -> Finding:
    """Heads are taken before the files are read, for these may grow meanwhile."""
    heads = {head for head in (*known, checkpoint_head(folder)) if head is not None and head.seq}
    problems = _problems(folder, heads) + _breaks(folder)
    days = list_days(folder)
    torn = days[-1].name if days and _is_torn(days[-1]) else None
    if torn is not None:
        behind = _count_lines(days[-1]) + 1
        problems = [
            one for one in problems if (one.kind, one.file, one.line) != ("unreadable", torn, behind)
        ]
    return Finding(
        writer=folder.name,
        rows=sum(map(_count_lines, days)),
        first=days[0].stem if days else "",
        last=days[-1].stem if days else "",
        head_known=bool(heads),
        torn=torn,
        problems=problems,
    )


def _problems(folder: Path, heads: set[Head]) -> list[Problem]:
    """By every head. What looks like half a row may be one that is being written: looked at twice."""
    problems: dict[Problem, None] = {}
    for head in heads or (None,):
        found = verify(folder, head)
        if any(one.kind == "unreadable" for one in found):
            time.sleep(_WRITTEN_S)
            again = verify(folder, head)
            found = [one for one in found if one in again]
        problems.update(dict.fromkeys(found))
    return list(problems)


def _breaks(folder: Path) -> list[Problem]:
    """The rows that tell of known heads which the files had lost."""
    return [
        Problem(path.name, number, "cut_off", _told(row))
        for path in list_days(folder)
        for number, row in _break_rows(path)
    ]


def _break_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if b'"kind":"break"' in line:
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue  # told as unreadable
                if isinstance(row, dict) and row.get("kind") == BREAK:
                    yield number, row


def _told(row: dict[str, Any]) -> str:
    known, found = row.get("known_seq"), row.get("found_seq")
    return (
        f"the head was row {known}, which was gone when row {row.get('seq')} was written, after row {found}"
    )


def _is_torn(path: Path) -> bool:
    """Whether it ends in part of a row, as a crash leaves it."""
    size = path.stat().st_size
    if not size:
        return False
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) != b"\n"


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
