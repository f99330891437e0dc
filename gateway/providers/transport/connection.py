"""One HTTP/1.1 connection: an asyncio Protocol that writes a request and parses its answer.

It serves one call at a time. httptools' parser restarts by itself after each answer, informational
ones (1xx) included; it does not tell the end of a body that ends with the connection, so that is
decided here, by the headers.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.providers.transport import failures, framing
from gateway.providers.transport.body import HEAD_MAX_BYTES, BufferedCall
from gateway.providers.transport.framing import RefusedError
from gateway.providers.transport.lingering import Lingering

if TYPE_CHECKING:
    from gateway.providers.transport.pool import Pool

_KEEPALIVE_PROBES = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


class Connection(asyncio.Protocol):
    """``closed``: of no use any more, and the pool knows. ``parked``: idle in the pool.

    ``good_until``: when an idle connection must go (``time.monotonic()``, seconds).
    """

    __slots__ = (
        "_barren",
        "_call",
        "_complete",
        "_extra",
        "_headers",
        "_idle_s",
        "_informational",
        "_keep",
        "_parser",
        "_paused",
        "_pool",
        "_retire_at",
        "_sent_s",
        "_transport",
        "_until_eof",
        "_used",
        "closed",
        "good_until",
        "parked",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None
        self._call: BufferedCall | None = None
        self._used = self._paused = False
        self._idle_s = pool.idle_s
        self._retire_at = time.monotonic() + pool.max_age_s * random.uniform(0.9, 1.1)
        self.closed = self.parked = False
        self.good_until = self._sent_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._barren = 0
        self._complete = self._extra = self._informational = False
        self._keep = self._until_eof = False

    # -- the call's side

    def send(self, call: BufferedCall, head: bytes, body: bytes) -> None:
        """Writes one request. The connection is the call's until the answer ends or ``drop``."""
        transport = cast(asyncio.Transport, self._transport)
        self._reset()
        self._call = call
        self._sent_s = time.monotonic()
        if len(body) > HEAD_MAX_BYTES:
            transport.writelines((head, body))
        else:
            transport.write(head + body)

    def resume(self) -> None:
        if self._paused and not self.closed and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def linger(self) -> bool:
        """The call needs no more of its answer. False: the end of it would not free the connection."""
        if self.closed or not self._keep or self._call is None:
            return False
        self._call = Lingering(self._pool.loop, self._call.status, self.drop)
        return True

    def drop(self) -> None:
        """Closes the socket at once, whatever is under way. Idempotent."""
        self._call = None
        if self.closed:
            return
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
        self._pool.forget(self)

    def abort(self) -> None:
        """Drops the connection, and tells its call."""
        call = self._call
        if call is not None:
            call.abort()
        self.drop()

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = HttpResponseParser(self)
        self._pool.sockets.add(self)
        if self.closed:
            self._transport.abort()
        _probe_when_silent(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        call = self._call
        if call is None or self._parser is None:
            self.drop()  # nobody asked
            return
        self._barren += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._complete:
                self._refuse(call, error.__context__ or error)
                return
            self._extra = True
        if self._complete:
            self._finish(call)
        elif self._barren > HEAD_MAX_BYTES:
            self._refuse(call, "head or framing too long")
        elif call.overfull() and not self._paused:
            self._pause(call)
        call.wake()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        self._pool.sockets.discard(self)
        self._parser = None

    # -- the parser's side

    def on_message_begin(self) -> None:
        if self._complete:
            raise RefusedError("bytes after the end")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        parser = cast(HttpResponseParser, self._parser)
        status = parser.get_status_code()
        if status < 200:
            self._skip_informational(status)
            return
        headers, self._headers = self._headers, []
        if self._barren > HEAD_MAX_BYTES and framing.size_of(headers) > HEAD_MAX_BYTES:
            raise RefusedError("head too long")
        fields = framing.by_name(headers)
        self._until_eof = not framing.framed(status, fields)
        self._keep = parser.should_keep_alive()
        if b"keep-alive" in fields:
            self._idle_s = framing.idle_s(fields[b"keep-alive"], self._pool.idle_s)
        call = cast(BufferedCall, self._call)
        if not call.begin(status, headers, fields.get(b"content-encoding")):
            raise RefusedError("content-encoding")

    def on_body(self, body: bytes) -> None:
        call = self._call
        if call is None or call.deaf:
            raise RefusedError("bytes of a body that has no reader")
        call.pieces.append(body)
        call.size += len(body)
        self._barren = 0

    def on_message_complete(self) -> None:
        if self._informational:
            self._informational = False
        else:
            self._complete = True

    # -- inside

    def _skip_informational(self, status: int) -> None:
        if status < 100 or status == 101:
            raise RefusedError(f"status {status}")
        self._informational = True
        self._headers = []

    def _finish(self, call: BufferedCall) -> None:
        """The answer is whole; the call may still have it to read."""
        self._call = None
        call.ended = True
        transport = cast(asyncio.Transport, self._transport)
        if not self._keep or self._extra or self.closed or transport.get_write_buffer_size():
            self.drop()
            return
        self._used = True
        self.resume()
        now = time.monotonic()
        self.good_until = min(now + self._idle_s, self._retire_at)
        if self.good_until <= now:
            self.drop()
        else:
            self._pool.release(self)

    def _refuse(self, call: BufferedCall, why: object) -> None:
        call.fail(failures.malformed(f"{self._pool.name}: {why}", call.status))
        call.wake()
        self.drop()

    def _pause(self, call: BufferedCall) -> None:
        self._paused = call.paused = True
        cast(asyncio.Transport, self._transport).pause_reading()

    def _end(self, exc: Exception | None) -> None:
        call = self._call
        if call is not None:
            self._tell(call, exc)
        self.drop()

    def _tell(self, call: BufferedCall, exc: Exception | None) -> None:
        where = f"{self._pool.name}: {exc or 'closed by peer'}"
        if call.status == 0:
            waited_s = time.monotonic() - self._sent_s
            stale = self._used and self._barren == 0 and waited_s < failures.STALE_WITHIN_S
            call.fail(failures.lost(where, stale=stale))
        elif self._until_eof and exc is None:
            call.ended = True
            call.wake()
        else:
            call.fail(failures.truncated(where, call.status))


def _probe_when_silent(sock: socket.socket | None) -> None:
    """Answers may take minutes: keep middleboxes from forgetting us, and notice a dead peer."""
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE_PROBES:
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
