"""Answers that are read to their end although their client has left, so that their true cost is known.

A Call that may outlive its exchange runs in a task of the application's, which hands frames over through
a short queue. When the client leaves, the frames are thrown away, and the reading goes on: within a time,
for a number of answers at once, and for no more text than was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.calls.call import Call
from gateway.events import Frame
from gateway.exchange import Reply
from gateway.interrupt import Interrupt, Interrupted, Reason

MOST = 100
LONGEST_S = 120.0
QUEUED = 2
"""Reads that may wait for the client; then the upstream waits. A read may be 256 KiB and more."""
BYTES_PER_TOKEN = 16
"""More than any tokenizer packs into one, on average."""

Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]


class Drains:
    """Of one process. ``running``: answers that nobody listens to any more."""

    def __init__(self, spawn: Spawn, most: int = MOST, longest_s: float = LONGEST_S) -> None:
        self.spawn = spawn
        self.longest_s = longest_s
        self._most = most
        self._running: set[Drain] = set()

    @property
    def running(self) -> int:
        return len(self._running)

    def take(self, drain: Drain) -> bool:
        """Whether there is room for one more."""
        if len(self._running) >= self._most:
            return False
        self._running.add(drain)
        return True

    def give(self, drain: Drain) -> None:
        self._running.discard(drain)

    async def close(self) -> None:
        """Ends what still runs; each is settled by what is known of it."""
        for drain in list(self._running):
            drain.cut()
        while self._running:
            await asyncio.sleep(0.01)


class Drain:
    """One Call in a task of its own; a ``Source`` for its exchange. ``kept``: it has outlived that, and
    ends by ``interrupt``."""

    __slots__ = ("_call", "_drains", "_ended", "_on_end", "_opened", "_queue", "interrupt", "kept")

    def __init__(self, call: Call, drains: Drains) -> None:
        self._call = call
        self._drains = drains
        self._queue: asyncio.Queue[list[Frame] | Exception] = asyncio.Queue(QUEUED)
        self._opened: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.interrupt = Interrupt()
        self.kept = self._ended = False
        self._on_end: list[Callable[[], None]] = []
        drains.spawn(self._run(), "answer")

    async def open(self) -> Reply:
        """As ``Call.open``."""
        await asyncio.wait([self._opened])
        reply = self._opened.result()
        return Reply(self, stream=reply.stream, status=reply.status, headers=reply.headers)

    async def read(self) -> list[Frame]:
        item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """The exchange is over; what was not kept ends with it."""
        if not self.kept:
            self.cut()
            self._call.close()

    def cut(self) -> None:
        self.interrupt.fire(Reason.CLIENT_GONE)

    def keep(self) -> bool:
        """The client has left: whether the answer is read on."""
        if self._ended or not self._drains.take(self):
            return False
        self.kept = True
        self.interrupt.deadline(asyncio.get_running_loop().time() + self._drains.longest_s)
        while not self._queue.empty():  # whoever waits for room goes on
            self._queue.get_nowait()
        return True

    def on_end(self, ended: Callable[[], None]) -> None:
        """``ended`` is called when a kept answer is over."""
        self._on_end.append(ended)

    async def _run(self) -> None:
        try:
            with self.interrupt:
                await self._pump()
        except Interrupted:
            pass
        finally:
            self._ended = True
            self._call.close()
            if not self._opened.done():
                self._opened.cancel()
            self._drains.give(self)
            for ended in self._on_end:
                ended()

    async def _pump(self) -> None:
        try:
            reply = await self._call.open()
        except Exception as error:  # for the exchange to raise
            if not self.kept:
                self._opened.set_exception(error)
                self._opened.exception()  # whoever waited may be gone: then it is nobody's
            return
        if not self._opened.done():
            self._opened.set_result(reply)
        try:
            while frames := await reply.source.read():
                await self._hand(frames)
                if self.kept and self._enough():
                    return
            await self._hand([])
        except Exception as error:  # for the exchange to raise
            await self._hand(error)

    async def _hand(self, item: list[Frame] | Exception) -> None:
        if not self.kept:
            await self._queue.put(item)

    def _enough(self) -> bool:
        """Whether there was more text than the request allows: somebody does not keep to it."""
        answering = self._call.answering
        if answering is None:
            return False
        request, group = self._call.request, answering.group
        most = (request.max_output_tokens or group.max_output_tokens) * request.choices
        return answering.text_bytes > most * BYTES_PER_TOKEN
