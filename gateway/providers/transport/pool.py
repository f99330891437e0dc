"""The connections to one endpoint: last used, first used again; waiters are served in order."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

from gateway.errors import UpstreamError
from gateway.providers.transport import failures
from gateway.providers.transport.connection import Connection
from gateway.providers.transport.interface import Endpoint
from gateway.providers.transport.tls import TlsContexts

_Grant = Connection | None
"""What a waiter is given: a connection, or (None) the right to make one."""


class Pool:
    """At most ``endpoint.max_connections`` connections, counted from the first SYN on.

    A place is *used* by each connection that is being made or is not ``closed``; it passes straight
    from the connection that leaves it to the first waiter. So there are idle connections or free
    places only while nobody waits.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_endpoint",
        "_idle",
        "_tls",
        "_used",
        "_waiters",
        "idle_s",
        "loop",
        "max_age_s",
        "name",
        "sockets",
    )

    def __init__(self, endpoint: Endpoint, tls: TlsContexts, idle_s: float, max_age_s: float) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self.loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._waiters: OrderedDict[asyncio.Future[_Grant], None] = OrderedDict()
        self._used = 0
        self._closed = False
        self.idle_s = idle_s
        self.max_age_s = max_age_s
        self.name = f"{endpoint.host}:{endpoint.port}"
        self.sockets: set[Connection] = set()

    # -- for calls

    def take(self) -> Connection | None:
        """An idle connection, if there is one that is still good."""
        idle = self._idle
        if not idle:
            return None
        now = time.monotonic()
        while idle:
            connection = idle.pop()
            connection.parked = False
            if connection.good_until > now:
                return connection
            connection.drop()
        return None

    async def acquire(self, connect_s: float, pool_s: float, *, fresh: bool = False) -> Connection:
        """An idle connection, or a new one, or the next that comes free within ``pool_s``.

        ``fresh``: not an idle one, which may be as stale as the last.
        """
        deadline = time.monotonic() + pool_s
        while True:
            if self._closed:
                raise failures.closed()
            connection = None if fresh else self.take()
            if fresh:
                self._make_room()
            if connection is None and self._used < self._endpoint.max_connections:
                self._used += 1
                return await self._connect(connect_s)
            if connection is None:
                connection = await self._wait_in_line(deadline - time.monotonic())
                if connection is None:
                    return await self._connect(connect_s)
            if not connection.closed:
                return connection

    def release(self, connection: Connection) -> None:
        """The connection is free and good."""
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(connection)
        else:
            connection.parked = True
            self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """The connection has closed: once for each."""
        if connection.parked:
            connection.parked = False
            self._idle.remove(connection)
        self._vacate()

    # -- for the engine

    def close_idle(self, now: float) -> None:
        for connection in [c for c in self._idle if c.good_until <= now]:
            connection.drop()

    def close(self) -> None:
        """Ends every call and closes every connection; ``sockets`` empties soon after."""
        self._closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(failures.closed())
        for connection in tuple(self.sockets):
            connection.abort()

    # -- inside

    def _make_room(self) -> None:
        if self._idle and self._used >= self._endpoint.max_connections:
            self._idle[0].drop()

    def _next_waiter(self) -> asyncio.Future[_Grant] | None:
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                return waiter
        return None

    def _vacate(self) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(None)
        else:
            self._used -= 1

    async def _wait_in_line(self, pool_s: float) -> _Grant:
        waiter: asyncio.Future[_Grant] = self.loop.create_future()
        self._waiters[waiter] = None
        try:
            async with asyncio.timeout(pool_s):
                return await waiter
        except BaseException as error:
            self._leave_line(waiter)
            if isinstance(error, TimeoutError):
                raise failures.pool_exhausted(f"{self.name}: {self._used} connections") from None
            raise

    def _leave_line(self, waiter: asyncio.Future[_Grant]) -> None:
        """A grant may have come in the very turn in which its waiter was interrupted."""
        self._waiters.pop(waiter, None)
        if not waiter.done() or waiter.cancelled() or waiter.exception() is not None:
            return
        grant = waiter.result()
        if grant is None:
            self._vacate()
        elif not grant.closed:
            self.release(grant)

    async def _connect(self, connect_s: float) -> Connection:
        """The caller has a place; it is given back if there will be no connection."""
        connection = Connection(self)
        try:
            async with asyncio.timeout(connect_s):
                await self._dial(connection)
        except (OSError, UnicodeError) as error:
            connection.drop()
            raise self._explain(error, connect_s) from error
        except BaseException:
            connection.drop()
            raise
        if self._closed or connection.closed:
            connection.drop()
            raise failures.unreachable(f"{self.name}: closed at once")
        return connection

    async def _dial(self, connection: Connection) -> None:
        endpoint = self._endpoint
        secure = endpoint.scheme == "https"
        await self.loop.create_connection(
            lambda: connection,
            endpoint.host,
            endpoint.port,
            ssl=await self._tls.get(endpoint.ca_file) if secure else None,
            server_hostname=endpoint.host if secure else None,
        )

    def _explain(self, error: Exception, connect_s: float) -> UpstreamError:
        if isinstance(error, TimeoutError):
            return failures.connect_timeout(f"{self.name}: no connection in {connect_s} s")
        return failures.unreachable(f"{self.name}: {type(error).__name__}: {error}")
