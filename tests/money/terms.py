"""Scenarios: rates and slots over the fleet, dearer fallbacks, and clients that leave."""

from __future__ import annotations

import time
from collections import Counter

from tests.money.audit import rows
from tests.money.fleet import DEAR, nanousd, true_nanousd
from tests.money.replicas import CONCURRENCY
from tests.money.stage import MOST_ROUNDS, Stage

RPM = 30


async def rate(stage: Stage) -> None:
    """In a burst never more than the limit, and what comes back of it in that time."""
    began_s = time.monotonic()
    admitted = 0
    for _ in range(3):
        admitted += stage.admitted(await stage.load.burst())
    took_s = time.monotonic() - began_s
    most = RPM + int(took_s * RPM / 60)
    stage.note(f"{admitted} of {most} in {took_s:.1f} s")
    stage.found.must(RPM <= admitted <= most, f"{admitted} were admitted, {most} may be")


async def slots(stage: Stage) -> None:
    """All places are filled, one replica dies and comes back, and all places can be filled again."""
    provider = stage.fleet.provider
    async with stage.bursting():
        victim = await stage.busiest(2)
        victim.kill()
    await victim.start()
    provider.most = 0
    for _ in range(MOST_ROUNDS):
        await stage.load.burst(30)
        if provider.most == CONCURRENCY:
            break
    stage.note(f"{provider.most} of {CONCURRENCY} places after the kill")
    stage.found.must(provider.most == CONCURRENCY, f"only {provider.most} of {CONCURRENCY} came back")


async def dearer(stage: Stage) -> None:
    """The deployment fails, the fallback costs more: it is paid for, or the first error stands."""
    for _ in range(MOST_ROUNDS):
        await stage.load.burst(40)
        await stage.settled(3.0)
        (alone,) = await stage.load.burst(1)
        if alone.status and alone.status != 200:
            break
    stage.found.must(alone.code == "upstream_error", f"alone and refused: {alone.status} {alone.code}")
    kinds = Counter[str]()
    for row in rows(stage.fleet, stage.tenant):
        charged, attempts = nanousd(row["charged_usd"]), len(row["attempts"])
        whole = row["outcome"] == "ok"
        kinds["paid" if attempts > 1 else "refused"] += 1
        right = charged == (DEAR * true_nanousd() if whole else charged if attempts > 1 else 0)
        stage.found.must(right, f"{row['request_id']}: {charged} for {row['outcome']}, {attempts} attempts")
    stage.note(f"{kinds['paid']} paid for, {kinds['refused']} refused")
    stage.found.must(kinds["paid"] > 0 and kinds["refused"] > 0, f"not both: {dict(kinds)}")


async def leaving(stage: Stage, *, drained: bool) -> None:
    await stage.until_spent()
    sources = Counter[str]()
    for row in rows(stage.fleet, stage.tenant):
        charged = nanousd(row["charged_usd"])
        sources[row["cost_source"]] += 1
        if drained and row["attempts"]:
            stage.found.must(charged == true_nanousd(), f"{row['request_id']}: {charged} after a drain")
        stage.found.must(charged <= stage.worst, f"{row['request_id']}: {charged} of {stage.worst}")
    stage.note(", ".join(f"{count} {name}" for name, count in sorted(sources.items())))


async def leaving_drained(stage: Stage) -> None:
    await leaving(stage, drained=True)


async def leaving_aborted(stage: Stage) -> None:
    await leaving(stage, drained=False)
