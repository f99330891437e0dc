"""A scripted TCP server on loopback: each connection runs a script that says every byte.

::

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(answer(b"hello"))

    async with RawServer(script) as server:
        ...  # http://127.0.0.1:{server.port}

What a script raises (an assertion, say) is raised again when the server is left; a connection that
the other side ends is no error.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType

CHUNK_SIZES = (1, 2, 7, 300, 0)
"""How answers are cut into writes; 0: not at all."""


@dataclass
class Request:
    """``line`` without its CRLF; ``headers`` in order, with lower-case names; ``raw`` the head."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    raw: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass
class Peer:
    """The server's end of one connection; ``number`` counts connections from 1."""

    server: RawServer
    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent: int = 0
    requests: list[Request] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def head(self) -> bytes | None:
        """The next head, without waiting for its body; None at the end of the connection."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def request(self) -> Request | None:
        """The next request; None at the end of the connection."""
        raw = await self.head()
        if raw is None:
            return None
        line, *rest = raw.decode("latin-1").split("\r\n")[:-2]
        headers = [(name.lower(), value) for name, _, value in (h.partition(": ") for h in rest)]
        length = int(dict(headers).get("content-length", "0"))
        request = Request(line, headers, await self.reader.readexactly(length), raw)
        self.requests.append(request)
        self.server.requests.append(request)
        return request

    async def send(self, block: bytes, size: int = 0) -> None:
        """Writes, in pieces of ``size`` bytes that are not merged on the way."""
        for start in range(0, len(block), size or max(1, len(block))):
            piece = block[start : start + size] if size else block
            self.writer.write(piece)
            await self.writer.drain()
            self.sent += len(piece)
            if size:
                await asyncio.sleep(0)

    async def gone(self, within_s: float = 1.0) -> bool:
        """Whether the other side ends the connection in time (what it still sends is thrown away)."""
        try:
            async with asyncio.timeout(within_s):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def reset(self) -> None:
        """RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class RawServer:
    """Listens on 127.0.0.1 while entered. ``peers`` and ``requests`` grow as they come."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults: list[BaseException] = []
        self.port = 0
        self.peers: list[Peer] = []
        self.requests: list[Request] = []

    @property
    def connections(self) -> int:
        return len(self.peers)

    @property
    def open_connections(self) -> int:
        return sum(not peer.ended.is_set() for peer in self.peers)

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=self._tls, limit=1 << 20
        )
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
        if self._faults and error is None:
            raise self._faults[0]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(self, len(self.peers) + 1, reader, writer)
        self.peers.append(peer)
        task = asyncio.get_running_loop().create_task(self._serve(peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, peer: Peer) -> None:
        try:
            await self._script(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except AssertionError as error:
            self._faults.append(error)
        finally:
            peer.ended.set()
            peer.writer.transport.abort() if peer.writer.is_closing() else peer.writer.close()


def answer(body: bytes = b"", *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """A whole answer with a content-length."""
    return head(*headers, f"content-length: {len(body)}", status=status, version=version) + body


def head(*headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    lines = (f"HTTP/{version} {status}", *headers, "", "")
    return "\r\n".join(lines).encode("latin-1")


def chunked(pieces: Iterable[bytes], *, end: bytes = b"0\r\n\r\n", extension: bytes = b"") -> bytes:
    """A body in transfer coding ``chunked``."""
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in pieces)
    return body + end


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


def replying(block: bytes, size: int = 0) -> Script:
    """A script that gives each request the same bytes."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(block, size)

    return script


def replying_then_closing(block: bytes, size: int = 0) -> Script:
    """One request, one answer, end of connection."""

    async def script(peer: Peer) -> None:
        if await peer.request():
            await peer.send(block, size)

    return script
