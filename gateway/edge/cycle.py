"""One request on a connection, and its answer: what the sink and ASGI write to.

An answer goes out in as few writes as there are pieces: the head waits for the first one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol

from gateway.errors import BodyTooLarge, GatewayError
from gateway.interrupt import Interrupted, Reason

Headers = list[tuple[bytes, bytes]]
App = Callable[[Any, Any, Any], Awaitable[None]]

UNREAD_BYTES = 64 * 1024
"""Held for a request whose body nobody has asked for yet; then reading pauses."""
_STATUS = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
_BODILESS = frozenset({204, 304})


class Wire(Protocol):
    """What a cycle needs of its connection."""

    @property
    def date_line(self) -> bytes: ...
    @property
    def write_paused(self) -> bool: ...
    def put(self, block: bytes) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    async def drain(self) -> None: ...
    def answered(self, cycle: Cycle) -> None:
        """The answer is whole; ``cycle.keep_alive`` says what becomes of the connection."""
        ...

    def cut(self) -> None:
        """Drops the connection at once."""
        ...


class Cycle:
    """``gone``: the client is. ``received``: its body has come whole. ``answered``: nothing more to say."""

    __slots__ = (
        "_body",
        "_cap",
        "_chunked",
        "_error",
        "_head",
        "_left",
        "_on_gone",
        "_told",
        "_waiter",
        "_wants_continue",
        "_wire",
        "answered",
        "gone",
        "headers",
        "http10",
        "keep_alive",
        "method",
        "received",
        "scope",
        "started",
    )

    def __init__(
        self,
        wire: Wire,
        scope: dict[str, Any],
        headers: dict[bytes, bytes],
        *,
        http10: bool,
        keep_alive: bool,
    ) -> None:
        self._wire = wire
        self.scope = scope
        self.method: str = scope["method"]
        self.headers = headers
        self.http10 = http10
        self.keep_alive = keep_alive
        self.gone = self.received = self.started = self.answered = False
        self._wants_continue = headers.get(b"expect", b"").lower() == b"100-continue" and not http10
        self._body: bytes | bytearray = b""
        self._cap: int | None = None
        self._told: Callable[[int], None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: GatewayError | None = None
        self._on_gone: Callable[[], None] | None = None
        self._head = b""
        self._chunked = False
        self._left = 0

    # -- the connection's side

    def take(self, piece: bytes) -> None:
        """A piece of the body. What comes after the answer passes by."""
        if self.answered or self._error is not None:
            return
        if not self._body:
            self._body = piece
        elif isinstance(self._body, bytearray):
            self._body += piece
        else:
            self._body = bytearray(self._body) + piece
        if self._cap is not None:
            self._check_body(self._cap)
        elif len(self._body) > UNREAD_BYTES:
            self._wire.pause_reading()

    def complete(self) -> None:
        self.received = True
        self._wake()

    def fail(self, error: GatewayError) -> None:
        """The rest of the body will not come, or cannot be understood."""
        self.keep_alive = False
        if self._error is None:
            self._error = error
        self._wake()

    def leave(self) -> None:
        """The client has gone."""
        self.gone = True
        self._wake()
        if self._on_gone is not None and not self.answered:
            self._on_gone()

    def release(self) -> None:
        """Lets go of what refers back to it, so that nothing waits for the garbage collector."""
        self._on_gone = self._told = None
        self.scope = {}

    # -- the request's body

    async def read_body(self, cap: int, told: Callable[[int], None]) -> bytes:
        """The whole body. ``told`` hears how many bytes are held so far, and may refuse more by raising.

        Raises ``BodyTooLarge`` before more than ``cap`` bytes are held, ``Interrupted`` when the client
        leaves, and what ``fail`` was given.
        """
        if self._wants_continue:
            self._wants_continue = False
            self._wire.put(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._cap, self._told = cap, told
        self._check_body(cap)
        if not self.received:
            self._wire.resume_reading()
        while not self.received and not self.gone and self._error is None:
            await self._wait()
        if self._error is not None:
            raise self._error
        if not self.received:
            raise Interrupted(Reason.CLIENT_GONE)
        body, self._body = bytes(self._body), b""
        return body

    def _check_body(self, cap: int) -> None:
        size = len(self._body)
        try:
            if size > cap:
                raise BodyTooLarge(f"The body is larger than {cap} bytes.")
            if size and self._told is not None:
                self._told(size)
        except GatewayError as error:
            self._body = b""
            self._error = error
            self._wake()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the answer

    @property
    def write_paused(self) -> bool:
        return self._wire.write_paused

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Called once when the client leaves before it has been answered; at once if it has left."""
        self._on_gone = callback
        if self.gone:
            callback()

    def start(self, status: int, headers: Headers) -> None:
        """The head, which waits for the first piece. Without a content-length the body is chunked."""
        self.started = True
        if not self.received:
            self.keep_alive = False  # what is left of the body would be taken for the next request
        lines = [_STATUS[status], self._wire.date_line]
        length = None
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            lines.append(b"%b: %b\r\n" % (name, value))
        if length is None and status not in _BODILESS and self.method != "HEAD":
            if self.http10:
                self.keep_alive = False
            else:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
        self._left = length or 0
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self.http10:
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._head = head = b"".join(lines)
        if head.count(b"\n") != len(lines):
            raise RuntimeError("a response header holds a line break")

    def write(self, body: bytes) -> None:
        """A piece of the answer; nothing happens once the client is gone."""
        if body:
            self._put(self._framed(body))

    def end(self, body: bytes = b"") -> None:
        """The last piece."""
        if self.answered:
            raise RuntimeError("the answer has ended already")
        block = self._framed(body) if body else b""
        self._put(block + b"0\r\n\r\n" if self._chunked else block)
        self.answered = True
        self._wake()
        if self._left and self.method != "HEAD":
            self._wire.cut()
            raise RuntimeError("the answer is shorter than its content-length")
        self._wire.answered(self)

    async def room(self) -> None:
        """Returns when the client has taken enough of what was written, or has gone."""
        if self._wire.write_paused and not self.gone:
            await self._wire.drain()

    def _framed(self, body: bytes) -> bytes:
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(body), body)
        if self.method == "HEAD":
            return b""
        if not self.http10 or self._left:
            self._left -= len(body)
        if self._left < 0:
            self._wire.cut()
            raise RuntimeError("the answer is longer than its content-length")
        return body

    def _put(self, block: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            block = head + block
        if block and not self.gone:
            self._wire.put(block)

    # -- ASGI, for what is not the data plane

    async def receive(self) -> dict[str, Any]:
        """The body as one message, then the disconnect when it comes."""
        if self._cap is None and not self.gone:
            body = await self.read_body(UNREAD_BYTES, lambda size: None)
            return {"type": "http.request", "body": body, "more_body": False}
        while not self.answered and not self.gone:
            await self._wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.start(message["status"], message["headers"])
            return
        body = message.get("body", b"")
        if message.get("more_body", False):
            self.write(body)
            await self.room()
        else:
            self.end(body)
