"""One client connection: uvicorn's HTTP protocol with the deadlines and limits that it has not.

uvicorn serves; the parser is httptools' (llhttp). What is ours: which heads are refused, how long a
client may take for what, what happens to the rest of a body that nobody wants, and the cycle that
carries a request and its answer. Deadlines are looked after by ``check``, called for every connection
twice a second: no timer is made for any of them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from itertools import islice
from typing import Any
from urllib.parse import unquote

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.edge.cycle import Cycle
from gateway.edge.head import check_size, head_bytes, read_head
from gateway.edge.request_id import new_request_id
from gateway.edge.rim import Rim
from gateway.errors import GatewayError, HeadersTooLarge, InternalError, InvalidRequest, Unavailable
from gateway.formats.openai import error_body
from gateway.heads import retry_headers

NEVER = math.inf
PIECES_A_TURN = 1024
"""Pieces of a body that one connection may bring before the others have a turn."""
_LOOKED_AT = 256  # connections, to find an idle one: accepting must stay cheap in a flood
_BODIES = frozenset({b"content-length", b"transfer-encoding"})


class _Refusal(Exception):
    """Leaves the parser's callbacks with the error that the client is told."""

    def __init__(self, error: GatewayError) -> None:
        self.error = error


class RimProtocol(HttpToolsProtocol):
    """Reads requests, starts a task for each in turn, and closes whoever takes too long."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        rim: Rim,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._rim = rim
        self._cycles: deque[Cycle] = deque()  # the first is being answered, the others wait
        self._reading: Cycle | None = None  # whose body is coming
        self._in_head = False
        self._last = False  # no request after those that are here
        self._ending = False  # nor after the one whose body is coming
        self._draining = False
        self._event = 0  # bytes of the read that is being parsed
        self._raw = 0  # bytes since the message began, its body and framing included
        self._head_bytes = self._body_bytes = 0
        self._pieces = 0  # of the body, in this turn of the loop
        self._since_s = 0.0
        self._until_s = NEVER
        self._written = self._taken = 0
        self._moved_s = 0.0

    # -- asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._moved_s = time.monotonic()
        self._until_s = self._moved_s + self._rim.head_s
        if len(self.connections) > self._rim.max_connections and not self._make_room():
            self._answer_here(Unavailable("There are too many connections.", retry_after_s=1))
        elif not self._rim.accepts():
            self._answer_here(Unavailable("The gateway is short of memory.", retry_after_s=5))

    def data_received(self, data: bytes) -> None:
        if self._last or self.parser is None:
            return  # passes by
        self._event = len(data)
        self._raw += self._event
        try:
            self.parser.feed_data(data)
            self._check_raw()
            if self._pieces > PIECES_A_TURN:
                self._give_way()
        except httptools.HttpParserUpgrade:
            self._last = True  # what follows would be another protocol: it is not taken up
            if self._cycles:
                self._cycles[-1].keep_alive = False
        except _Refusal as refusal:
            self._refuse(refusal.error)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(
                cause.error if isinstance(cause, _Refusal) else InvalidRequest("This is not valid HTTP.")
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self._until_s = NEVER
        self._reading = None
        cycles = list(self._cycles)
        self._cycles.clear()
        for cycle in cycles:
            cycle.leave()
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]

    # -- the parser's side

    def on_message_begin(self) -> None:
        self._raw = self._event
        self.url = b""
        self.headers = []
        self._in_head = True
        self._until_s = time.monotonic() + self._rim.head_s

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer, which nobody asked for
            self.headers.append((name.lower(), value))
            if len(self.headers) > self._rim.head.headers:
                self._check_head_size()

    def on_headers_complete(self) -> None:
        self._check_head_size()
        version = self.parser.get_http_version()
        method = self.parser.get_method()
        try:
            headers = read_head(method, version, self.url, self.headers)
            if self.parser.should_upgrade() and headers.keys() & _BODIES:
                raise InvalidRequest("A request with a body cannot ask for an upgrade.")
        except GatewayError as error:
            raise _Refusal(error) from None
        self._in_head = False
        self._head_bytes = head_bytes(self.url, self.headers)
        self._body_bytes = 0
        self._since_s = time.monotonic()
        self._until_s = self._since_s + self._rim.body_s
        self._reading = cycle = Cycle(
            self,
            self._scope(method.decode("ascii"), version),
            headers,
            http10=version == "1.0",
            keep_alive=self.parser.should_keep_alive() and self._rim.keeps(),
        )
        if len(self._cycles) >= self._rim.pipelined:
            self._reading = None
            raise _Refusal(Unavailable("There are too many requests in line.", retry_after_s=1))
        self._cycles.append(cycle)
        if len(self._cycles) == 1:
            self._start(cycle)
        else:
            self.flow.pause_reading()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._pieces += 1
        if self._reading is not None:
            self._reading.take(body)

    def on_message_complete(self) -> None:
        self._until_s = NEVER
        self._event = 0  # the next message's share of this read is not known
        self._last = self._last or self._ending
        cycle, self._reading = self._reading, None
        if cycle is not None:
            cycle.complete()

    # -- the cycle's side

    @property
    def date_line(self) -> bytes:
        return self._rim.date_line

    @property
    def write_paused(self) -> bool:
        return self.flow.write_paused

    def put(self, block: bytes) -> None:
        if not self.transport.is_closing():  # else connection_lost is on its way
            self._written += len(block)
            self.transport.write(block)

    def pause_reading(self) -> None:
        self.flow.pause_reading()

    def resume_reading(self) -> None:
        self.flow.resume_reading()

    async def drain(self) -> None:
        await self.flow.drain()

    def cut(self) -> None:
        self.transport.abort()

    def answered(self, cycle: Cycle) -> None:
        if self.transport.is_closing():
            return
        self._cycles.popleft()
        if not cycle.keep_alive:
            self._end(drained=cycle.received)
        elif self._cycles:
            self._start(self._cycles[0])
        else:
            self.flow.resume_reading()
            if not self._in_head:
                self._until_s = time.monotonic() + self._rim.keep_alive_s

    # -- the server's side

    def shutdown(self) -> None:
        """No further request: closes once what runs has been answered, its body read to the end."""
        self._ending = True
        self._last = self._last or self._reading is None
        if not self._cycles:
            self.transport.close()
        for cycle in self._cycles:
            cycle.keep_alive = False

    def check(self, now_s: float) -> None:
        """Acts on what is overdue. ``now_s``: of ``time.monotonic()``."""
        if now_s >= self._until_s:
            self._overdue(now_s)
        taken = self._written - self.transport.get_write_buffer_size()
        if taken != self._taken or taken == self._written:
            self._taken = taken
            self._moved_s = now_s
        elif now_s - self._moved_s >= self._rim.write_s:
            self.transport.abort()

    @property
    def idle(self) -> bool:
        return not self._cycles and not self._in_head and not self._draining

    # -- inside

    def _scope(self, method: str, version: str) -> dict[str, Any]:
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("latin-1")
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": method,
            "scheme": self.scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "server": self.server,
            "client": self.client,
            "state": {},
        }

    def _start(self, cycle: Cycle) -> None:
        cycle.scope["extensions"] = {"gateway.cycle": cycle}
        task = self.loop.create_task(self._run(cycle))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run(self, cycle: Cycle) -> None:
        try:
            await self.app(cycle.scope, cycle.receive, cycle.send)
        except Exception as fault:  # the last guard: whatever runs above has guards of its own
            self._rim.failed("internal_error", fault, "")
            if not cycle.started and not cycle.gone:
                self._say(cycle, InternalError("The gateway failed."), new_request_id())
        finally:
            if not cycle.answered and not cycle.gone:
                self.transport.abort()  # a cut answer never looks complete
            cycle.release()

    def _say(self, cycle: Cycle, error: GatewayError, request_id: str) -> None:
        body = orjson.dumps(error_body(error, request_id))
        head = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
        ]
        cycle.start(error.status, head + retry_headers(error))
        cycle.end(body)

    def _check_head_size(self) -> None:
        try:
            check_size(self._rim.head, self.url, self.headers)
        except GatewayError as error:
            raise _Refusal(error) from None

    def _check_raw(self) -> None:
        """The parser keeps what is incomplete to itself: its size shows in what has been read."""
        if self._in_head:
            self._check_head_size()
            if self._raw > 2 * self._rim.head.total_bytes:
                raise _Refusal(HeadersTooLarge("The headers are too long."))
            return
        framing = self._raw - self._head_bytes - self._body_bytes
        if framing > self._rim.framing_bytes + 8 * self._body_bytes:
            raise _Refusal(InvalidRequest("The body has more framing than content."))

    def _refuse(self, error: GatewayError) -> None:
        """What comes on this connection cannot be understood, or will not be taken."""
        self._last = True
        self._until_s = NEVER
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.fail(error)  # its own exchange answers
        elif self._cycles:
            self._cycles[-1].fail(error)
        else:
            self._answer_here(error)

    def _answer_here(self, error: GatewayError) -> None:
        """Without an exchange: the head was never whole."""
        request_id = new_request_id()
        self._rim.refused(error, request_id)
        cycle = Cycle(self, {"method": "GET"}, {}, http10=False, keep_alive=False)
        self._cycles.append(cycle)
        self._say(cycle, error, request_id)

    def _end(self, *, drained: bool) -> None:
        """Closes after the answer. A client that is still sending would lose it to a reset: what it
        sends is read and forgotten for a moment."""
        self._last = True
        self._reading = None
        if drained or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._draining = True
        self.transport.write_eof()
        self.flow.resume_reading()
        self._until_s = time.monotonic() + self._rim.drain_s

    def _give_way(self) -> None:
        """libuv reads up to 32 times in a row what is there, which small chunks make expensive."""
        self._pieces = 0
        self.transport.pause_reading()
        self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self.flow.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _overdue(self, now_s: float) -> None:
        self._until_s = NEVER
        if self._reading is not None:
            elapsed_s = now_s - self._since_s
            if self._body_bytes >= self._rim.body_bytes_per_s * elapsed_s:
                self._until_s = now_s + 1
                return
            self._refuse(InvalidRequest("The body did not come in time."))
        elif self._in_head and not self._draining:
            self._refuse(InvalidRequest("The headers did not come in time."))
        else:
            self.transport.close()

    def _make_room(self) -> bool:
        """Closes an idle connection: of those looked at, the one that would go first."""
        some = islice(self.connections, _LOOKED_AT)
        idle = [one for one in some if isinstance(one, RimProtocol) and one.idle and one is not self]
        if not idle:
            return False
        min(idle, key=lambda one: one._until_s).transport.close()
        return True
