"""A client that sends any bytes, reads with deadlines, and leaves when it likes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import orjson

DEADLINE_S = 15.0


@dataclass
class Answer:
    """``headers``: in order, lower-case names. ``body`` without its transfer coding."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    events: list[bytes] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error body."""
        return str(self.json()["error"]["code"])


def request(
    path: str,
    body: Any = None,
    *,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
) -> bytes:
    """The bytes of one request; ``body`` is sent as it is, or as JSON."""
    raw = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1", "host: gateway"]
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(raw)}"]
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + raw


class RawClient:
    """One connection. Every read raises ``TimeoutError`` after ``deadline_s``."""

    def __init__(self, host: str, port: int, deadline_s: float = DEADLINE_S) -> None:
        self._address = host, port
        self._deadline_s = deadline_s
        self._chunked = False
        self._left: int | None = None
        self._held = bytearray()

    async def __aenter__(self) -> RawClient:
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(self, block: bytes) -> None:
        self._writer.write(block)
        await self._writer.drain()

    async def read_head(self) -> Answer:
        """The next answer's head, interim ones skipped; its body or events are read afterwards."""
        async with asyncio.timeout(self._deadline_s):
            raw = await self._reader.readuntil(b"\r\n\r\n")
        line, *rest = raw.decode("latin-1").split("\r\n")[:-2]
        headers = [(name.lower(), value.strip()) for name, _, value in (h.partition(":") for h in rest)]
        status = int(line.split(" ")[1])
        if 100 <= status < 200:
            return await self.read_head()
        found = dict(headers)
        self._chunked = found.get("transfer-encoding", "").lower() == "chunked"
        length = found.get("content-length")
        self._left = int(length) if length is not None else None
        return Answer(status, headers)

    async def read_block(self) -> bytes:
        """Some more of the body; nothing at its end. Raises ``IncompleteReadError`` if it is cut."""
        async with asyncio.timeout(self._deadline_s):
            if self._chunked:
                return await self._read_chunk()
            if self._left is None:
                return await self._reader.read(65536)
            if not self._left:
                return b""
            block = await self._reader.read(min(self._left, 65536))
            if not block:
                raise asyncio.IncompleteReadError(b"", self._left)
            self._left -= len(block)
            return block

    async def read_event(self) -> bytes | None:
        """The data of the next server-sent event; comments are skipped; None at the end."""
        while True:
            while (end := self._held.find(b"\n\n")) < 0:
                block = await self.read_block()
                if not block:
                    assert not self._held, f"an event was cut: {bytes(self._held)!r}"
                    return None
                self._held += block
            raw = bytes(self._held[:end])
            del self._held[: end + 2]
            if not raw.startswith(b":"):
                lines = raw.split(b"\n")
                assert all(line.startswith(b"data: ") for line in lines), raw
                return b"\n".join(line.removeprefix(b"data: ") for line in lines)

    async def read(self) -> Answer:
        """The whole answer, with its events where it is a stream."""
        answer = await self.read_head()
        if (answer.header("content-type") or "").startswith("text/event-stream"):
            while (event := await self.read_event()) is not None:
                answer.events.append(event)
            return answer
        blocks = []
        while block := await self.read_block():
            blocks.append(block)
        answer.body = b"".join(blocks)
        return answer

    async def closed(self, within_s: float) -> bool:
        """Whether the other side ends the connection in time; what it still sends is thrown away."""
        try:
            async with asyncio.timeout(within_s):
                while await self._reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass

    async def reset(self) -> None:
        """RST instead of FIN."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        await asyncio.sleep(0)

    async def _read_chunk(self) -> bytes:
        size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
        block = await self._reader.readexactly(size + 2)
        if size == 0:
            self._chunked, self._left = False, 0
        return block[:-2]
