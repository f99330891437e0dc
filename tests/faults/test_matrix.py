"""The whole matrix: one complete answer or one honest error in every cell, and no call too many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.faults import matrix, table


async def _played(folder: Path, *args: Any) -> list[matrix.Result]:
    """Cells that went wrong are played once more, by themselves: timeouts of 0.4 s need a machine that
    does not stand still."""
    results = await matrix.run(folder, *args)
    wrong = [one.cell for one in results if one.wrong]
    again = await matrix.run(folder, wrong, *args[1:]) if wrong else []
    return [one for one in results if not one.wrong] + again


async def test_every_fault_ends_in_one_answer_or_one_error(tmp_path: Path) -> None:
    results = await _played(tmp_path, matrix.CELLS)
    assert len(results) == len(matrix.CELLS) > 300
    assert not [one for one in results if one.wrong], table.text(results)


async def test_the_other_engine_ends_as_well(tmp_path: Path) -> None:
    results = await _played(tmp_path, matrix.ALONE, "httpx")
    assert len(results) == len(matrix.ALONE) > 100
    assert not [one for one in results if one.wrong], table.text(results)
