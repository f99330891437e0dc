from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.accounting.chain import GENESIS, Head, link, list_days, read_tail, verify

Lines = list[bytes]


def chain(n: int, head: Head = GENESIS) -> tuple[Head, Lines]:
    lines = []
    for i in range(n):
        head, line = link(head, b'{"cost_usd":"%d"}' % i)
        lines.append(line)
    return head, lines


def folder_of(tmp_path: Path, *days: Lines) -> Path:
    for day, lines in enumerate(days, 1):
        (tmp_path / f"2026-01-{day:02d}.jsonl").write_bytes(b"".join(lines))
    return tmp_path


def kinds(folder: Path, head: Head | None) -> list[str]:
    return [problem.kind for problem in verify(folder, head)]


def test_an_intact_chain_over_files_has_no_problems(tmp_path: Path) -> None:
    head, lines = chain(9)
    folder = folder_of(tmp_path, lines[:4], [], lines[4:])
    assert verify(folder, head) == []
    assert verify(folder) == []
    assert [path.name for path in list_days(folder)] == [f"2026-01-0{n}.jsonl" for n in (1, 2, 3)]


def test_a_head_that_lags_behind_is_no_problem(tmp_path: Path) -> None:
    early, first = chain(3)
    _, rest = chain(3, early)
    assert verify(folder_of(tmp_path, first + rest), early) == []


def test_archived_files_are_vouched_for_by_their_last_row(tmp_path: Path) -> None:
    base, _ = chain(3)
    head, rest = chain(3, base)
    folder = folder_of(tmp_path, rest)
    assert verify(folder, head, base) == []
    assert kinds(folder, head) == ["missing"]


def test_an_empty_row_can_be_linked(tmp_path: Path) -> None:
    head, line = link(GENESIS, b"{}")
    assert verify(folder_of(tmp_path, [line]), head) == []


def changed(lines: Lines) -> Lines:
    return [*lines[:3], lines[3].replace(b'"3"', b'"9"'), *lines[4:]]


def last_changed(lines: Lines) -> Lines:
    return [*lines[:-1], lines[-1].replace(b'"5"', b'"9"')]


FRAUDS: dict[str, tuple[Callable[[Lines], Lines], list[str]]] = {
    "changed": (changed, ["changed"]),
    "last changed": (last_changed, ["changed"]),
    "missing": (lambda lines: lines[:2] + lines[3:], ["missing"]),
    "first missing": (lambda lines: lines[1:], ["missing"]),
    "cut off": (lambda lines: lines[:-2], ["cut_off"]),
    "all gone": (lambda lines: [], ["cut_off"]),
    "swapped": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], ["swapped"]),
    "repeated": (lambda lines: [*lines[:3], lines[2], *lines[3:]], ["swapped"]),
    "garbled": (lambda lines: [*lines[:2], b"{oops\n", *lines[3:]], ["unreadable", "missing"]),
    "torn": (lambda lines: [*lines[:-1], lines[-1][:-5]], ["unreadable", "cut_off"]),
}


@pytest.mark.parametrize("name", FRAUDS)
def test_every_fraud_is_found(tmp_path: Path, name: str) -> None:
    fraud, expected = FRAUDS[name]
    head, lines = chain(6)
    assert kinds(folder_of(tmp_path, fraud(lines)), head) == expected


def test_a_rewritten_chain_is_found_by_its_head(tmp_path: Path) -> None:
    head, _ = chain(6)
    forged, lines = GENESIS, []
    for i in range(6):
        forged, line = link(forged, b'{"cost_usd":"0"}' if i else b"{}")
        lines.append(line)
    assert kinds(folder_of(tmp_path, lines), forged) == []
    assert kinds(tmp_path, head) == ["changed"]


def test_problems_say_where(tmp_path: Path) -> None:
    head, lines = chain(6)
    (problem,) = verify(folder_of(tmp_path, lines[:2], changed(lines)[2:]), head)
    assert (problem.file, problem.line) == ("2026-01-02.jsonl", 2)
    assert "row 4" in problem.text


@pytest.mark.parametrize("rows", [0, 1, 3, 2000])
@pytest.mark.parametrize("torn", [b"", b'{"seq":', b"\0" * 100_000, b"junk\n", b'{"a":1}\n\0\n'])
def test_the_tail_ends_with_the_last_valid_row(tmp_path: Path, rows: int, torn: bytes) -> None:
    head, lines = chain(rows)
    whole = b"".join(lines)
    path = tmp_path / "2026-01-01.jsonl"
    path.write_bytes(whole + torn)
    tail = read_tail(path)
    assert tail.head == (head if rows else None)
    assert (tail.valid_bytes, tail.file_bytes) == (len(whole), len(whole) + len(torn))
