"""Known heads: how they are kept beside the ledger, and looked for in the files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.accounting.chain import Head
from gateway.accounting.heads import head_at, keep_head, read_heads
from tests.unit.ledger_rows import Writer, exchange


@pytest.fixture
def heads(tmp_path: Path) -> list[Head]:
    """Of 400 rows over two days, some of them longer than what is read at once."""
    writer, made = Writer(tmp_path), []
    for number in range(1, 401):
        user = "x" * (200_000 if number % 130 == 0 else 3)
        writer.write([exchange(str(number), user=user)], "2026-11-20" if number <= 150 else "2026-11-21")
        made.append(writer.head)
    return made


def test_a_row_is_found_by_its_number(tmp_path: Path, heads: list[Head]) -> None:
    assert [head_at(tmp_path, seq) for seq in range(1, 401)] == heads
    assert head_at(tmp_path, 401) is None and head_at(tmp_path / "none", 1) is None


def test_half_a_row_is_none(tmp_path: Path, heads: list[Head]) -> None:
    with (tmp_path / "2026-11-21.jsonl").open("ab") as file:
        file.write(b'{"seq":401,"prev":"')
    assert head_at(tmp_path, 401) is None
    assert head_at(tmp_path, 400) == heads[-1]


async def test_all_writers_keep_theirs_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "heads.json"
    assert read_heads(path) == {}

    def keep(writer: str) -> None:
        for seq in range(1, 21):
            keep_head(path, writer, Head(seq, f"{seq:064x}"))

    names = [f"w{number}" for number in range(6)]
    await asyncio.gather(*(asyncio.to_thread(keep, name) for name in names))
    assert read_heads(path) == dict.fromkeys(names, Head(20, f"{20:064x}"))
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"[1, 2]")
    assert read_heads(path) == {}
