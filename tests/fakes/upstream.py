"""A provider that misbehaves on purpose: a TCP server on loopback whose every byte a test decides.

::

    async with Upstream() as upstream:
        upstream.next(send(answer(b'{"ok":true}')))          # the script of one request
        upstream.next(send(head(), size=1), wait(0.2), reset())

Each request takes the next script. A script that leaves its answer unfinished must end with
``hang``, ``fin`` or ``reset``: a connection whose script has run through counts as idle.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import orjson

SIZES = (1, 2, 3, 7, 1460, 0)
"""How a stream of bytes is cut into writes; 0: not at all."""


@dataclass
class Seen:
    """One request as it arrived. ``headers``: in order, lower-case names."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: Connection
    finished: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        return orjson.loads(self.body)

    async def left(self, within_s: float) -> float:
        """Seconds of ``time.monotonic()`` at which the other side closed; ``TimeoutError`` if it stays."""
        async with asyncio.timeout(within_s):
            await self.connection.gone.wait()
        return self.connection.gone_s


class Connection:
    """The provider's end. ``gone``: the other side has closed; ``sent``: bytes handed to the kernel
    or waiting for it."""

    def __init__(self, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.upstream = upstream
        self.writer = writer
        self.gone = asyncio.Event()
        self.gone_s = 0.0
        self.ended = False
        self.sent = 0
        self.running: Seen | None = None
        self._reader = reader
        self._held = bytearray()
        self._more = asyncio.Event()

    async def serve(self) -> None:
        pump = self.upstream.spawn(self._pump())
        try:
            while not self.ended and (seen := await self._request()) is not None:
                self.running = seen
                self.upstream.seen.append(seen)
                for step in self.upstream.script():
                    await step(self)
                seen.finished, self.running = True, None
        except ConnectionError:
            self._left()
        finally:
            self.ended, self.running = True, None
            pump.cancel()
            self.writer.close()

    async def write(self, block: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(block)
        await self.writer.drain()
        self.sent += len(block)

    async def _pump(self) -> None:
        """Reads all the time, so that a leave is noticed whatever the script is doing."""
        try:
            while block := await self._reader.read(65536):
                self._held += block
                self._more.set()
        except ConnectionError:
            pass
        self._left()

    def _left(self) -> None:
        if not self.gone.is_set():
            self.gone_s = time.monotonic()
            self.gone.set()
        self._more.set()

    async def _request(self) -> Seen | None:
        while (end := self._held.find(b"\r\n\r\n")) < 0:
            if not await self._wait_more():
                return None
        line, *rest = self._held[:end].decode("latin-1").split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (h.partition(":") for h in rest)]
        length = int(dict(headers).get("content-length", "0"))
        while len(self._held) < end + 4 + length:
            if not await self._wait_more():
                return None
        body = bytes(self._held[end + 4 : end + 4 + length])
        del self._held[: end + 4 + length]
        method, path, _ = line.split(" ")
        return Seen(method, path, headers, body, self)

    async def _wait_more(self) -> bool:
        if self.gone.is_set():
            return False
        self._more.clear()
        await self._more.wait()
        return not self.gone.is_set() or bool(self._held)


Step = Callable[[Connection], Awaitable[None]]


@dataclass
class Upstream:
    """Listens while entered. ``unscripted`` counts requests that no test had foreseen (they get 500)."""

    seen: list[Seen] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    unscripted: int = 0
    port: int = 0
    _scripts: deque[tuple[Step, ...]] = field(default_factory=deque)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    def next(self, *steps: Step) -> None:
        """Scripts one more request."""
        self._scripts.append(steps)

    def script(self) -> tuple[Step, ...]:
        if self._scripts:
            return self._scripts.popleft()
        self.unscripted += 1
        return (send(b"HTTP/1.1 500 Not Scripted\r\ncontent-length: 0\r\n\r\n"),)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    @property
    def waiting(self) -> int:
        """Scripts that no request has taken."""
        return len(self._scripts)

    @property
    def busy(self) -> list[Seen]:
        """Requests whose answer is still under way on an open connection."""
        return [c.running for c in self.connections if c.running and not c.ended and not c.gone.is_set()]

    def forget(self) -> None:
        """Drops scripts that were not taken; what was seen stays."""
        self._scripts.clear()
        self.unscripted = 0

    def spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self.connections:
            connection.writer.transport.abort()
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        self.connections.append(connection)
        self.spawn(connection.serve())


def send(*blocks: bytes, size: int = 0, pause_s: float = 0.0) -> Step:
    """Writes the blocks one after the other, each cut into pieces of ``size`` bytes, or as it is."""

    async def step(connection: Connection) -> None:
        pieces = cut(b"".join(blocks), size) if size else blocks
        for piece in pieces:
            await connection.write(piece)
            await asyncio.sleep(pause_s)

    return step


def cut(block: bytes, size: int) -> list[bytes]:
    return [block[start : start + size] for start in range(0, len(block), size or max(1, len(block)))]


def wait(seconds: float) -> Step:
    async def step(connection: Connection) -> None:
        await asyncio.sleep(seconds)

    return step


def wait_for(event: asyncio.Event) -> Step:
    """Goes on when the test says so."""

    async def step(connection: Connection) -> None:
        await event.wait()

    return step


def flood(block: bytes, times: int, pause_s: float = 0.0) -> Step:
    """Writes ``block`` up to ``times`` times, as fast as it is taken, while the other side is there."""

    async def step(connection: Connection) -> None:
        for _ in range(times):
            if connection.gone.is_set():
                return
            await connection.write(block)
            await asyncio.sleep(pause_s)

    return step


def hang() -> Step:
    """Says nothing more until the other side leaves."""

    async def step(connection: Connection) -> None:
        await connection.gone.wait()
        connection.ended = True

    return step


def fin() -> Step:
    """An orderly end of the connection."""

    async def step(connection: Connection) -> None:
        connection.ended = True
        connection.writer.close()

    return step


def reset() -> Step:
    """RST instead of FIN."""

    async def step(connection: Connection) -> None:
        sock = connection.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.ended = True
        connection.writer.transport.abort()

    return step
