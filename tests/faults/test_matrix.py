"""The whole matrix: one complete answer or one honest error in every cell, and no call too many."""

from __future__ import annotations

from pathlib import Path

from tests.faults import matrix, table


async def test_every_fault_ends_in_one_answer_or_one_error(tmp_path: Path) -> None:
    results = await matrix.run(tmp_path)
    assert len(results) == len(matrix.CELLS) > 300
    assert not [one for one in results if one.wrong], table.text(results)


async def test_the_other_engine_ends_as_well(tmp_path: Path) -> None:
    results = await matrix.run(tmp_path, matrix.ALONE, "httpx")
    assert len(results) == len(matrix.ALONE) > 100
    assert not [one for one in results if one.wrong], table.text(results)
