"""Tasks that the application owns."""

from __future__ import annotations

import asyncio

import pytest

from gateway import tasks as tasks_module
from gateway.tasks import Tasks


async def test_what_never_ends_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "AGAIN_S", 0)
    told: list[str] = []
    third = asyncio.Event()
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise ValueError("once more")
        third.set()
        await asyncio.Event().wait()

    tasks = Tasks(lambda event, error, _: told.append(f"{event}: {error}"))
    kept = tasks.keep(work, "sums")
    await asyncio.wait_for(third.wait(), 5)
    await tasks.close()
    assert told == ["task_failed:sums: once more"] * 2
    assert kept.cancelled()


async def test_a_fault_of_a_task_is_told_and_the_others_go_on() -> None:
    told: list[str] = []

    async def fail() -> None:
        raise ValueError("no")

    tasks = Tasks(lambda event, error, _: told.append(event))
    other = tasks.spawn(asyncio.Event().wait(), "other")  # type: ignore[arg-type]
    await asyncio.wait([tasks.spawn(fail(), "one")])
    await asyncio.sleep(0)
    assert told == ["task_failed:one"]
    assert not other.done()
    await tasks.close()
