"""Budgets over three replicas, through a kill, a freeze and a lost store; ``make money`` has more."""

from __future__ import annotations

from pathlib import Path

from tests.money.catalogue import QUICK, SCENARIOS, played


async def test_no_budget_is_exceeded_and_nothing_is_lost(tmp_path: Path) -> None:
    chosen = [one for one in SCENARIOS if one.name in QUICK]
    found = [one async for one in played(tmp_path, chosen)]
    assert [one.name for one in found] == list(QUICK)
    assert not [(one.name, one.wrong) for one in found if one.wrong]
    assert all(one.admitted >= 9 for one in found)
