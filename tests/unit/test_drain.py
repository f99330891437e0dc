"""Answers that are read on without their client: within a number, a time, and what was asked for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.calls.drain import BYTES_PER_TOKEN, QUEUED, Drain, Drains
from gateway.errors import UpstreamError
from gateway.events import Frame
from gateway.exchange import ModelRequest, Operation, Reply
from gateway.tasks import Tasks
from tests.unit.routing_rig import Site


class Answering:
    def __init__(self) -> None:
        self.group = Site().group()  # its cap: 100 tokens
        self.text_bytes = 0


class Scripted:
    """As much of a Call as is read on: it gives ``reads`` frames, each when ``go`` is set."""

    def __init__(self, reads: int, *, text_bytes: int = 1, fails_at: int = -1, **request: Any) -> None:
        self.request = ModelRequest(Operation.CHAT, "m", {}, stream=True, **request)
        self.answering: Answering | None = None
        self.go, self.opens = asyncio.Event(), asyncio.Event()
        self.go.set()
        self.opens.set()
        self.reads = 0
        self.closed = 0
        self._last, self._text_bytes, self._fails_at = reads, text_bytes, fails_at

    async def open(self) -> Reply:
        await self.opens.wait()
        if self._fails_at == 0:
            raise UpstreamError("It failed.")
        self.answering = Answering()
        return Reply(self, stream=True)

    async def read(self) -> list[Frame]:
        await self.go.wait()
        await asyncio.sleep(0)
        self.reads += 1
        if self.reads == self._fails_at:
            raise UpstreamError("It was cut.")
        if self.reads > self._last:
            return []
        assert self.answering is not None
        self.answering.text_bytes += self._text_bytes
        return [Frame(None, {"n": self.reads})]

    def close(self) -> None:
        self.closed += 1


@asynccontextmanager
async def drains(**bounds: Any) -> AsyncIterator[Drains]:
    failed: list[BaseException] = []
    lost: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    tasks = Tasks(lambda event, error, request_id: failed.append(error))
    yield Drains(tasks.spawn, **bounds)
    await tasks.close()
    gc.collect()
    assert (failed, lost) == ([], [])


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def over(drains: Drains) -> None:
    async with asyncio.timeout(2):
        while drains.running:
            await asyncio.sleep(0.001)


def ends(drain: Drain) -> list[int]:
    """Counts how often it has ended."""
    ended: list[int] = []
    drain.on_end(lambda: ended.append(1))
    return ended


def begin(call: Scripted, drains: Drains) -> Drain:
    return Drain(call, drains)  # type: ignore[arg-type]


async def numbers(read: Callable[[], Any]) -> Iterable[int]:
    found = []
    while frames := await read():
        found += [frame.native["n"] for frame in frames]
    return found


async def test_who_stays_gets_it_all_in_order() -> None:
    async with drains() as all_of_them:
        call = Scripted(50)
        drain = begin(call, all_of_them)
        reply = await drain.open()
        assert reply.stream
        assert await numbers(reply.source.read) == list(range(1, 51))
        drain.close()
        await turns()
        assert call.closed
        assert all_of_them.running == 0


async def test_a_slow_client_holds_the_reading_up() -> None:
    async with drains() as all_of_them:
        call = Scripted(1000)
        drain = begin(call, all_of_them)
        await drain.open()
        await turns(100)
        assert call.reads <= QUEUED + 1 <= 3
        await drain.read()
        await turns(100)
        assert call.reads <= QUEUED + 2
        drain.close()
        await turns()
        assert call.closed


@pytest.mark.parametrize("read", [0, 1, 5])
async def test_who_leaves_is_read_on_for(read: int) -> None:
    async with drains() as all_of_them:
        call = Scripted(40)
        drain = begin(call, all_of_them)
        reply = await drain.open()
        for _ in range(read):
            await reply.source.read()
        await turns()
        assert drain.keep()
        ended = ends(drain)
        drain.close()  # as the exchange does at its end
        assert (all_of_them.running, call.closed) == (1, 0)
        await over(all_of_them)
        assert call.reads == 41
        assert (ended, call.closed) == ([1], 1)


async def test_who_leaves_before_it_begins() -> None:
    async with drains() as all_of_them:
        call = Scripted(3)
        call.opens.clear()
        drain = begin(call, all_of_them)
        opening = asyncio.get_running_loop().create_task(drain.open())
        await turns()
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        assert drain.keep()
        ended = ends(drain)
        call.opens.set()
        await over(all_of_them)
        assert (call.reads, ended, call.closed) == (4, [1], 1)


async def test_who_leaves_at_the_end_is_not_read_on_for() -> None:
    async with drains() as all_of_them:
        call = Scripted(1)
        drain = begin(call, all_of_them)
        reply = await drain.open()
        assert await numbers(reply.source.read) == [1]
        await turns()
        assert not drain.keep()
        assert all_of_them.running == 0


async def test_only_so_many_at_once() -> None:
    async with drains(most=2) as all_of_them:
        calls = [Scripted(5) for _ in range(3)]
        for call in calls:
            call.go.clear()
        waiting = [begin(call, all_of_them) for call in calls]
        for drain in waiting:
            await drain.open()
        assert [drain.keep() for drain in waiting] == [True, True, False]
        assert all_of_them.running == 2
        for drain in waiting:
            drain.close()
        await turns()
        assert [call.closed > 0 for call in calls] == [False, False, True]
        for call in calls:
            call.go.set()
        await over(all_of_them)
        assert begin(Scripted(1), all_of_them).keep(), "there is room again"
        await all_of_them.close()


async def test_only_for_so_long() -> None:
    async with drains(longest_s=0.03) as all_of_them:
        call = Scripted(5)
        drain = begin(call, all_of_them)
        await drain.open()
        call.go.clear()
        assert drain.keep()
        ended = ends(drain)
        await over(all_of_them)
        assert (ended, call.closed) == ([1], 1)


@pytest.mark.parametrize(
    ("request_fields", "tokens"),
    [({}, 100), ({"max_output_tokens": 20}, 20), ({"max_output_tokens": 20, "choices": 3}, 60)],
)
async def test_only_for_so_much(request_fields: dict[str, int], tokens: int) -> None:
    async with drains() as all_of_them:
        call = Scripted(10**6, text_bytes=BYTES_PER_TOKEN, **request_fields)
        drain = begin(call, all_of_them)
        await drain.open()
        assert drain.keep()
        ended = ends(drain)
        await over(all_of_them)
        assert tokens < call.reads <= tokens + 1
        assert (ended, call.closed) == ([1], 1)


@pytest.mark.parametrize("fails_at", [0, 1, 4])
async def test_a_failure_is_heard_by_who_stays(fails_at: int) -> None:
    async with drains() as all_of_them:
        call = Scripted(10, fails_at=fails_at)
        drain = begin(call, all_of_them)
        with pytest.raises(UpstreamError):
            reply = await drain.open()
            await numbers(reply.source.read)
        drain.close()
        await turns()
        assert call.closed


@pytest.mark.parametrize("fails_at", [0, 1, 4])
async def test_a_failure_ends_what_is_read_on(fails_at: int) -> None:
    async with drains() as all_of_them:
        call = Scripted(10, fails_at=fails_at)
        call.opens.clear()
        drain = begin(call, all_of_them)
        assert drain.keep()
        ended = ends(drain)
        call.opens.set()
        await over(all_of_them)
        assert (ended, call.closed) == ([1], 1)


async def test_a_failure_that_nobody_hears_of_is_no_noise() -> None:
    """The exchange was stopped while it waited, and what it waited for fails in the same moment."""
    async with drains() as all_of_them:
        call = Scripted(1, fails_at=0)
        drain = begin(call, all_of_them)
        opening = asyncio.get_running_loop().create_task(drain.open())
        await asyncio.sleep(0)
        opening.cancel()
        await turns()
        drain.close()
        del drain, opening
        await turns()
        assert call.closed


async def test_who_is_stopped_ends_at_once() -> None:
    """A deadline or a kill switch: nothing is read on."""
    async with drains() as all_of_them:
        call = Scripted(10)
        call.opens.clear()
        drain = begin(call, all_of_them)
        await turns()
        drain.close()
        await turns()
        assert call.closed
        assert all_of_them.running == 0


async def test_the_end_of_the_process_ends_all() -> None:
    async with drains() as all_of_them:
        waiting = []
        for _ in range(5):
            call = Scripted(10)
            call.go.clear()
            drain = begin(call, all_of_them)
            await drain.open()
            assert drain.keep()
            waiting.append((call, ends(drain)))
        async with asyncio.timeout(1):
            await all_of_them.close()
        assert [(call.closed, ended) for call, ended in waiting] == [(1, [1])] * 5
