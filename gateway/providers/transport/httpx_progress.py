"""What httpcore does with one request, watched through its trace hook; and where it needs watching.

Five of its habits (1.0.x) would cost us connections or money or, worse, mix answers up:

- a request cancelled between two steps (with a connection in hand that it does not use yet, or that
  it is giving back) leaves that connection in the pool for good: ``defer`` holds it back meanwhile;
- a connection cancelled inside its TLS handshake is not closed: ``close_unsent`` does that;
- bytes behind an answer are taken for the beginning of the next one: ``leaves_bytes`` sees them;
- an HTTP/2 stream that is given up is forgotten, but not reset, so that its peer works on and its
  bytes use the connection's window up: ``reset_stream`` tells the peer;
- an HTTP/2 request cancelled while it writes may cut a TLS record short, which ends all the others on
  its connection: ``is_writing`` tells when.

The last three look into httpcore's objects, and do nothing (``leaves_bytes``: say yes) where these
have changed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import h2.exceptions
import httpcore
import httpx
from h2.errors import ErrorCodes

from gateway.providers.transport import failures

RESET_WAIT_S = 1.0


class Progress:
    """``dialled``: the request made its own connection. ``sent``: its head went out."""

    __slots__ = (
        "_between",
        "_connection",
        "_doomed",
        "_pool",
        "_request",
        "_sent_s",
        "_stream",
        "_stream_id",
        "dialled",
        "sent",
    )

    def __init__(self) -> None:
        self._between = self._doomed = False
        self._pool: Any = None
        self._request: Any = None
        self._connection: Any = None
        self._stream: Any = None
        self._stream_id: int | None = None
        self._sent_s = 0.0
        self.dialled = False
        self.sent = False

    def pass_over(self, transport: httpx.AsyncHTTPTransport) -> None:
        """httpcore is about to have the request, or to take the connection back."""
        self._between = True
        self._pool = getattr(transport, "_pool", None)

    def defer(self) -> bool:
        """Whether a cancellation must wait: if so, the request ends itself at its next step."""
        self._doomed = self._between
        return self._doomed

    def is_writing(self) -> bool:
        """Whether somebody writes on the HTTP/2 connection that the request is on."""
        lock = getattr(getattr(self._connection, "_write_lock", None), "_anyio_lock", None)
        return lock is not None and bool(lock.locked())

    async def trace(self, name: str, info: dict[str, Any]) -> None:
        if "response_closed" in name:
            return
        if self._doomed:
            raise failures.closed()
        self._between = name.endswith(("connect_tcp.complete", "start_tls.complete"))
        if self._between:
            self._stream = info["return_value"]
        elif name.endswith("connect_tcp.started"):
            self.dialled = True
        elif name.endswith("start_tls.started"):
            self.sent = False  # what a proxy was sent before was not the request
        elif name.endswith("send_request_headers.started"):
            self._sending(info["request"], info.get("stream_id"))

    async def close_unsent(self) -> None:
        if not self.sent and self._stream is not None:
            await self._stream.aclose()

    def went_stale(self) -> bool:
        """Whether a connection that was lost before the head had been given up by its peer before."""
        waited_s = time.monotonic() - self._sent_s
        answered = not hasattr(self._connection, "_h2_state") and self.leaves_bytes()
        return self.sent and not self.dialled and not answered and waited_s < failures.STALE_WITHIN_S

    def leaves_bytes(self) -> bool:
        """Whether there is more on the connection than the answer, which has been read to its end."""
        if hasattr(self._connection, "_h2_state"):
            return False
        state = getattr(self._connection, "_h11_state", None)
        return state is None or bool(state.trailing_data[0])

    async def reset_stream(self) -> None:
        """For an HTTP/2 stream whose answer is not wanted any more; nothing happens with others."""
        state = getattr(self._connection, "_h2_state", None)
        write = getattr(self._connection, "_write_outgoing_data", None)
        if state is None or write is None or self._stream_id is None:
            return
        try:
            state.reset_stream(self._stream_id, ErrorCodes.CANCEL)
            async with asyncio.timeout(RESET_WAIT_S):
                await write(self._request)
        except (h2.exceptions.H2Error, httpcore.NetworkError, httpcore.ProtocolError, TimeoutError):
            pass  # the stream has ended, or its connection has

    def _sending(self, request: Any, stream_id: int | None) -> None:
        self.sent = True
        self._sent_s = time.monotonic()
        self._request = request
        self._stream_id = stream_id
        self._connection = _connection_of(self._pool, request)


def _connection_of(pool: Any, request: Any) -> Any:
    """The innermost connection (proxies and TLS are wrapped around it) that has the request."""
    for entry in getattr(pool, "_requests", ()):
        if entry.request.extensions is request.extensions:
            part = entry.connection
            while getattr(part, "_connection", None) is not None:
                part = part._connection
            return part
    return None
