"""What both engines' calls share: the buffer between a socket and its one reader."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import ClassVar

from gateway.errors import UpstreamError
from gateway.providers.transport import failures
from gateway.providers.transport.decoding import Inflater, inflater_for

HEAD_MAX_BYTES = 64 * 1024
"""Of a response head; also of framing (chunk extensions, trailers) that brings no body along."""
BUFFER_HIGH_BYTES = 256 * 1024
"""Unread bytes at which reading from the socket pauses."""
BUFFER_HIGH_PIECES = 4096
"""The same for very small pieces, which cost more than they hold."""
INFLATE_STEP_BYTES = 256 * 1024
LINGER_S = 0.05
"""How long a connection waits for the end of a body whose reader has finished."""


class BufferedCall(ABC):
    """The reader's half of a Call.

    The engine fills ``pieces`` and ``size``, sets ``ended`` or ``error`` and calls ``wake``. Good
    bytes are read before an engine's error shows; an ``abort`` throws them away.
    """

    __slots__ = (
        "_inflater",
        "_loop",
        "_waiter",
        "ended",
        "error",
        "headers",
        "paused",
        "pieces",
        "size",
        "status",
    )

    deaf: ClassVar[bool] = False
    """Whether bytes of a body are an error."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._inflater: Inflater | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.size = 0
        self.paused = False
        self.ended = False
        self.error: Exception | None = None

    @abstractmethod
    def disconnect(self) -> None:
        """Gives up the connection, and a pending ``open``, at once. Idempotent."""

    @abstractmethod
    def resume(self) -> None:
        """The buffer is empty again after ``paused`` was set."""

    @abstractmethod
    def linger(self) -> bool:
        """Waits ``LINGER_S`` for the end of the body without its reader. False: that cannot be."""

    # -- the engine's side

    def begin(self, status: int, headers: list[tuple[bytes, bytes]], coding: bytes | None) -> bool:
        """The head has come. False: ``coding`` is unknown, no body can be read, only the head."""
        self.status = status
        self.headers = headers
        return coding is None or self._decode(coding)

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        """The connection is gone, or of no use any more."""
        if self.error is None and not self.ended:
            self.error = error
            self.wake()

    def overfull(self) -> bool:
        return self.size > BUFFER_HIGH_BYTES or len(self.pieces) > BUFFER_HIGH_PIECES

    async def wait(self) -> None:
        """Until ``wake``; may return early."""
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    # -- the reader's side

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def read(self) -> bytes:
        if self._inflater is not None:
            return await self._read_inflated(self._inflater)
        return await self._read_raw()

    async def read_all(self, cap: int) -> bytes:
        parts: list[bytes] = []
        left = cap
        while part := await self.read():
            left -= len(part)
            if left < 0:
                self.abort(failures.malformed(f"body larger than {cap} bytes", self.status))
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_up_to(self, cap: int) -> bytes:
        parts: list[bytes] = []
        left = cap
        while left > 0 and (part := await self.read()):
            parts.append(part[:left])
            left -= len(part)
        self.close()
        return b"".join(parts)

    def abort(self, error: Exception | None = None) -> None:
        if self.error is not None and not self.pieces:
            return
        self.error = error or failures.closed()
        self._inflater = None
        self._forget()
        self.disconnect()
        self.wake()

    def finish(self) -> None:
        settled = self.ended or self.error is not None or bool(self.pieces)
        # In other framings there is no end without bytes of a body before it.
        if settled or self.header(b"transfer-encoding") is None or not self.linger():
            self.close()
            return
        self.error = failures.closed()
        self._inflater = None
        self.wake()

    def close(self) -> None:
        if not self.ended or self.pieces or self._inflater is not None:
            self.abort()

    # -- inside

    async def _read_raw(self) -> bytes:
        while not self.pieces:
            if self.error is not None:
                raise self.error
            if self.ended:
                return b""
            await self.wait()
        return self._take()

    def _take(self) -> bytes:
        pieces = self.pieces
        taken = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._forget()
        if self.paused:
            self.paused = False
            self.resume()
        return taken

    def _forget(self) -> None:
        self.pieces.clear()
        self.size = 0

    async def _read_inflated(self, inflater: Inflater) -> bytes:
        raw = b""
        while True:
            out = self._inflate(inflater, raw)
            if out:
                return out
            raw = await self._read_raw()
            if not raw:
                self._finish_inflating(inflater)
                return b""

    def _inflate(self, inflater: Inflater, raw: bytes) -> bytes:
        try:
            return inflater.inflate(raw, INFLATE_STEP_BYTES)
        except UpstreamError as error:
            self.abort(error)
            raise

    def _finish_inflating(self, inflater: Inflater) -> None:
        try:
            inflater.finish()
        except UpstreamError as error:
            self.error = error
            raise

    def _decode(self, coding: bytes) -> bool:
        try:
            self._inflater = inflater_for(coding)
        except UpstreamError as error:
            error.upstream_status = self.status
            self.error = error
            return False
        hidden = (b"content-encoding", b"content-length")
        self.headers = [pair for pair in self.headers if pair[0] not in hidden]
        return True
