"""Streaming load: many clients on one uvloop, counting chunks by the fake provider's word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import httptools

from .upstream import BURST_CHUNKS, MARK, PACED_CHUNKS
from .wire import Target

# What is kept of the read before: a mark or the last event may be split between reads.
_TAIL = 40


@dataclass
class Tally:
    """What all clients of a run saw. An error is a bad status, a cut or an incomplete stream."""

    chunks: int = 0
    errors: int = 0
    over: bool = False
    clients: set[Client] = field(default_factory=set)

    @property
    def open(self) -> int:
        """Streams that have begun and go on."""
        return sum(client.begun for client in self.clients)


class Client(asyncio.Protocol):
    """One connection that asks for a stream, checks it, and asks again; an error ends it."""

    def __init__(self, tally: Tally, request: bytes, expected: int) -> None:
        self._tally = tally
        self._request = request
        self._expected = expected
        self._parts: list[bytes] = []
        self._tail = b""
        self._chunks = 0
        self._complete = False
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._tally.clients.add(self)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.clients.discard(self)
        if not self._tally.over:
            self._tally.errors += 1

    @property
    def begun(self) -> bool:
        return self._chunks > 0

    def close(self) -> None:
        """Leave, whatever has come."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()
            return
        self._count()
        if self._complete:
            self._check()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._complete = True

    def _count(self) -> None:
        """Add the marks of this read; one may begin in the read before."""
        body = self._tail + b"".join(self._parts)
        self._parts.clear()
        found = body.count(MARK) - self._tail.count(MARK)
        self._chunks += found
        self._tally.chunks += found
        self._tail = body[-_TAIL:]

    def _check(self) -> None:
        good = self._parser.get_status_code() == 200 and b"[DONE]" in self._tail
        complete = self._chunks == self._expected
        self._complete, self._chunks, self._tail = False, 0, b""
        if good and complete:
            self._transport.write(self._request)
        else:
            self._transport.abort()


@dataclass(frozen=True)
class Streaming:
    """A streaming load: so many streams at once of one of the fake provider's models."""

    target: Target
    model: str
    streams: int
    ramp_s: float

    async def run(self, seconds: float, at_start: Callable[[], None], at_end: Callable[[], None]) -> Tally:
        """Chunks that came within ``seconds``, counted ``ramp_s`` after all streams were asked for.

        ``at_start`` and ``at_end`` are called at the bounds of that window.
        """
        tally = Tally()
        try:
            await self._open(tally)
            await asyncio.sleep(self.ramp_s)
            before = tally.chunks
            at_start()
            await asyncio.sleep(seconds)
            at_end()
            tally.chunks -= before
        finally:
            self._leave(tally)
        return tally

    async def hold(self, patience_s: float, measure: Callable[[], int]) -> tuple[int, int]:
        """Open all streams; how many are open then, and what ``measure`` says meanwhile."""
        tally = Tally()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        try:
            await self._open(tally)
            while tally.open < self.streams and loop.time() < deadline:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            return tally.open, measure()
        finally:
            self._leave(tally)
            await asyncio.sleep(0)

    async def _open(self, tally: Tally) -> None:
        request = self.target.request(self.model)
        expected = PACED_CHUNKS if self.model == "bench-paced" else BURST_CHUNKS
        loop = asyncio.get_running_loop()
        for number in range(self.streams):
            await loop.create_connection(
                lambda: Client(tally, request, expected), "127.0.0.1", self.target.port
            )
            if number % 20 == 19:
                await asyncio.sleep(0.02)

    @staticmethod
    def _leave(tally: Tally) -> None:
        tally.over = True
        for client in list(tally.clients):
            client.close()
