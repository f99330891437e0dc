"""Work in threads: in turns, within a budget, and ended when nobody waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from gateway.detection.turns import Effort, Threads
from gateway.privacy.interface import DetectorFailed


@pytest_asyncio.fixture
async def threads() -> AsyncIterator[Threads]:
    threads = Threads()
    yield threads
    threads.close()


def busy(effort: Effort, for_s: float, seen: list[int] | None = None, number: int = 0) -> Callable[[], int]:
    """Work that takes so long, by the processor's time of its thread."""

    def work() -> int:
        ends_s = time.thread_time() + for_s
        while time.thread_time() < ends_s:
            sum(range(2000))
            effort()
            if seen is not None and seen[-1:] != [number]:
                seen.append(number)
        return number

    return work


async def test_those_who_work_take_turns(threads: Threads) -> None:
    seen: list[int] = []
    efforts = [Effort(30) for _ in range(4)]
    works = [threads.run(busy(effort, 0.2, seen, number), effort) for number, effort in enumerate(efforts)]
    assert await asyncio.gather(*works) == [0, 1, 2, 3]
    assert len(seen) > 12
    assert set(seen[: len(seen) // 2]) == {0, 1, 2, 3}


async def test_time_of_others_does_not_count(threads: Threads) -> None:
    efforts = [Effort(2) for _ in range(6)]
    began_s = time.monotonic()
    await asyncio.gather(*(threads.run(busy(effort, 0.5), effort) for effort in efforts))
    assert time.monotonic() - began_s > 2.5


async def test_too_long(threads: Threads) -> None:
    effort = Effort(0.1)
    with pytest.raises(DetectorFailed, match=r"^looking for personal data took more than 0\.1 s$"):
        await threads.run(busy(effort, 30), effort)
    effort.begin()
    assert await threads.run(busy(effort, 0.01), effort) == 0


async def test_who_gives_up_ends_the_work(threads: Threads) -> None:
    efforts = [Effort(60) for _ in range(3)]
    tasks = [asyncio.ensure_future(threads.run(busy(effort, 60), effort)) for effort in efforts]  # noqa: TID251
    await asyncio.sleep(0.1)
    began_s = time.monotonic()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert time.monotonic() - began_s < 10
    assert all(task.cancelled() for task in tasks)
    last = Effort(30)
    assert await threads.run(busy(last, 0.01, number=7), last) == 7


async def test_a_fault_is_the_callers(threads: Threads) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await threads.run(fail, Effort(1))
    effort = Effort(1)
    assert await threads.run(busy(effort, 0.01), effort) == 0


async def test_the_loop_goes_on(threads: Threads) -> None:
    effort = Effort(30)
    work = asyncio.gather(threads.run(busy(effort, 1.0), effort))
    ticks = 0
    while not work.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks > 50


async def test_nothing_is_begun_at_the_end(threads: Threads) -> None:
    threads.close()
    with pytest.raises(DetectorFailed, match="was ended"):
        await threads.run(busy(Effort(1), 0.01), Effort(1))
