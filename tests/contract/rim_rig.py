"""The rim alone: our protocol under uvicorn's parts on a real socket, and a small application."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
import uvicorn
from uvicorn.server import ServerState

from gateway.edge.cycle import Cycle
from gateway.edge.protocol import RimProtocol
from gateway.edge.rim import Rim
from gateway.errors import GatewayError
from gateway.formats.openai import error_body
from gateway.interrupt import Interrupted

CAP = 1 << 20


class Served:
    """A listening rim. ``seen``: path and body of each request that reached the application."""

    def __init__(self, rim: Rim) -> None:
        self.rim = rim
        self.state = ServerState()
        self.seen: list[tuple[str, bytes]] = []
        self.left: list[str] = []
        self.refused: list[str] = []
        self.failed: list[BaseException] = []
        self.release = asyncio.Event()
        self.port = 0
        rim.refused = lambda error, request_id: self.refused.append(error.code)
        rim.failed = lambda event, error, request_id: self.failed.append(error)
        rim.tick()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        cycle: Cycle = scope["extensions"]["gateway.cycle"]
        path = scope["path"]
        cycle.on_gone(lambda: self.left.append(path))
        try:
            if path == "/early":
                self.answer(cycle, 401, b"{}")
                return
            body = await cycle.read_body(CAP, lambda size: None)
        except Interrupted:
            return
        except GatewayError as error:
            self.answer(cycle, error.status, orjson.dumps(error_body(error, "req_1")))
            return
        self.seen.append((path, body))
        if path == "/hold":
            await self.release.wait()
        if path == "/broken":
            raise LookupError("a fault of ours")
        if path == "/half":
            cycle.start(200, [(b"content-length", b"10")])
            cycle.write(b"12345")
            return
        if path == "/stream":
            await self.stream(cycle)
            return
        self.answer(cycle, 200, b'{"path":"%b","size":%d}' % (path.encode(), len(body)))

    def answer(self, cycle: Cycle, status: int, body: bytes) -> None:
        cycle.start(status, [(b"content-length", b"%d" % len(body))])
        cycle.end(body)

    async def stream(self, cycle: Cycle) -> None:
        cycle.start(200, [(b"content-type", b"text/event-stream")])
        for number in range(3):
            cycle.write(b"data: %d\n\n" % number)
            await cycle.room()
            await asyncio.sleep(0)
        cycle.end(b"data: [DONE]\n\n")

    def connections(self) -> list[RimProtocol]:
        return [one for one in self.state.connections if isinstance(one, RimProtocol)]

    async def sweep(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            now_s = time.monotonic()
            for connection in self.connections():
                connection.check(now_s)


@asynccontextmanager
async def served(**limits: Any) -> AsyncIterator[Served]:
    """A rim with ``limits`` in place of the defaults."""
    site = Served(Rim(**limits))
    config = uvicorn.Config(
        site.app, interface="asgi3", ws="none", lifespan="off", log_config=None, access_log=False
    )
    loop = asyncio.get_running_loop()
    make = partial(RimProtocol, config, site.state, {}, rim=site.rim)
    server = await loop.create_server(make, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    sweeper = loop.create_task(site.sweep())
    try:
        yield site
    finally:
        sweeper.cancel()
        server.close()
        site.release.set()
        for connection in site.connections():
            connection.transport.abort()
        await asyncio.gather(*site.state.tasks, sweeper, return_exceptions=True)
        await asyncio.sleep(0)


class Peer:
    """A raw client: it sends what it is told and reads what comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, block: bytes) -> None:
        self.writer.write(block)
        await self.writer.drain()

    async def all(self, within_s: float = 5.0) -> bytes:
        """Everything until the connection ends."""
        async with asyncio.timeout(within_s):
            return await self.reader.read()

    async def answer(self, within_s: float = 5.0) -> tuple[int, dict[str, str], bytes]:
        """One answer with a content-length, or chunked."""
        async with asyncio.timeout(within_s):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            if "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self._chunks()
            return int(first.split(" ")[1]), headers, body

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int((await self.reader.readline()).strip(), 16)
            piece = await self.reader.readexactly(size + 2)
            if not size:
                return body
            body += piece[:-2]

    def reset(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def peer(site: Served) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def until(condition: Any, within_s: float = 5.0) -> None:
    """Waits for a condition; fails when it does not come true."""
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s, "the condition did not come true"
        await asyncio.sleep(0.005)
