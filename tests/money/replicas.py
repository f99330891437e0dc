"""Scenarios: what becomes of money and slots when replicas die or stand still."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from tests.money.audit import charged, rows
from tests.money.fleet import Fleet, Replica, nanousd
from tests.money.load import Asked, Load
from tests.money.stage import PLACES, Stage

SWEPT_S = 20.0
"""A dead writer's lease, and one renewal of another's."""
SLOTS = "slots"
CONCURRENCY = 6


async def plain(stage: Stage) -> None:
    await stage.until_spent()


async def cold(stage: Stage) -> None:
    """The first requests that the fleet sees; and keys that nobody knows."""
    fleet = stage.fleet
    fleet.keys["nobody"] = fleet.keys[stage.tenant][::-1]
    strangers, first = await asyncio.gather(Load(fleet, "nobody").burst(30), stage.load.burst())
    seen = {one.status for one in strangers if one.status}
    stage.found.must(seen == {401}, f"keys that nobody knows got {seen}")
    stage.note(f"{stage.admitted(first)} in the first burst")
    await stage.until_spent()


async def killed_and_back(stage: Stage) -> None:
    async with stage.bursting():
        victim = await stage.busiest()
        victim.kill()
    await victim.start()
    await stage.settled(5.0)
    recovered = sum("recovered" in row for row in rows(stage.fleet, stage.tenant))
    stage.note(f"{recovered} rows recovered")
    stage.found.must(recovered > 0, "nothing was recovered")
    await stage.until_spent()


async def killed_for_good(stage: Stage) -> None:
    """Others sweep what it had: its rows appear, its money counts as spent, its slots come back."""
    fleet = stage.fleet
    slots = Load(fleet, SLOTS, leaves_every=0)
    victim, *others = fleet.replicas
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(slots.burst(3, [victim]))
        tasks.create_task(stage.load.burst(4, [victim]))
        await _all_run(stage, slots.asked, 3)
        await _all_run(stage, stage.load.asked, 4)
        tasks.create_task(stage.load.burst(replicas=others))
        tasks.create_task(slots.burst(30, others))
        await _all_run(stage, stage.load.asked, PLACES - 2)
        had = [one for one in (*stage.load.asked, *slots.asked) if _runs(fleet, one, victim)]
        victim.kill()
    killed_s = time.monotonic()
    await _rows_appear(stage, had, killed_s)
    await _swept_counts(stage, victim)
    fleet.provider.most = 0
    answered = sum(one.status == 200 for one in await slots.burst(CONCURRENCY))
    stage.found.must(answered == CONCURRENCY, f"{answered} of {CONCURRENCY} slots came back")
    await victim.start()
    await stage.settled(5.0)
    await stage.until_spent()
    by_id = Counter(row["request_id"] for row in rows(fleet, SLOTS))
    doubtful = [one.id for one in slots.asked if one.status == 200 and by_id[one.id] != 1]
    stage.found.must(not doubtful, f"not one row each: {doubtful[:3]}")


async def _all_run(stage: Stage, asked: Sequence[Asked], count: int) -> None:
    """Returns once so many of them are at the provider."""
    async with asyncio.timeout(5):
        while sum(stage.fleet.provider.running[one.id] for one in asked) < count:
            await asyncio.sleep(0.001)


def _runs(fleet: Fleet, asked: Asked, replica: Replica) -> bool:
    return asked.replica is replica and fleet.provider.running[asked.id] > 0


async def _rows_appear(stage: Stage, had: list[Asked], killed_s: float) -> None:
    missing = {one.id for one in had}
    while missing and time.monotonic() < killed_s + SWEPT_S + 2:
        await asyncio.sleep(0.2)
        for replica in stage.fleet.up:
            missing -= {one for one in missing if await stage.fleet.rows_told(one, replica)}
    appeared_s = time.monotonic() - killed_s
    stage.note(f"{len(had)} rows of the dead after {appeared_s:.1f} s")
    stage.found.must(not missing, f"{len(missing)} rows of the dead did not appear: {sorted(missing)[:3]}")


async def _swept_counts(stage: Stage, victim: Replica) -> None:
    fleet, told = stage.fleet, 0
    written = {row["request_id"] for row in rows(fleet, stage.tenant)}
    for one in stage.load.asked:
        if one.replica is victim and one.id not in written:
            for row in await fleet.rows_told(one.id, fleet.up[0]):
                told += nanousd(row["charged_usd"])
    budget = await fleet.budget(stage.tenant)
    total = charged(fleet, stage.tenant) + told
    spent = -1 if budget is None else budget["spent"]
    stage.found.must(spent == total, f"after the sweep the store says {spent}, the rows {total}")


async def frozen(stage: Stage) -> None:
    """A replica stands still for longer than its lease, is taken for dead, and goes on."""
    async with asyncio.TaskGroup() as tasks, stage.bursting():
        victim = await stage.busiest()
        victim.freeze()
        had = [one for one in stage.load.asked if _runs(stage.fleet, one, victim)]
        tasks.create_task(stage.load.burst())
        await asyncio.sleep(SWEPT_S)
        victim.thaw()
    whole = sum(one.status == 200 for one in had)
    stage.note(f"{whole} of {len(had)} were answered after the thaw")
    await stage.settled(10.0)
    await stage.until_spent()
