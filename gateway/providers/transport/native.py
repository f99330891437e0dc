"""The native engine: HTTP/1.1 over asyncio Protocols."""

from __future__ import annotations

import asyncio
from typing import cast
from weakref import WeakValueDictionary

from gateway.errors import Sent, UpstreamError
from gateway.providers.transport import failures
from gateway.providers.transport.body import BufferedCall
from gateway.providers.transport.connection import Connection
from gateway.providers.transport.interface import Endpoint, Headers, Target, encode_headers
from gateway.providers.transport.pool import Pool
from gateway.providers.transport.tls import TlsContexts

IDLE_S = 30.0
"""Under the 60 s after which common load balancers drop idle connections."""
MAX_AGE_S = 300.0
"""So that a change of a provider's DNS is followed; each connection varies it by 10 %."""


class _Prepared:
    """What the engine keeps on a Target: the pool, and the head up to the variable headers."""

    __slots__ = ("engine", "head", "pool")

    def __init__(self, engine: NativeTransport, pool: Pool, head: bytes) -> None:
        self.engine = engine
        self.pool = pool
        self.head = head


class NativeTransport:
    """A Transport. ``idle_s`` and ``max_age_s`` bound the life of its connections, in seconds."""

    def __init__(self, *, idle_s: float = IDLE_S, max_age_s: float = MAX_AGE_S) -> None:
        self._idle_s = idle_s
        self._max_age_s = max_age_s
        self._tls = TlsContexts(alpn=("http/1.1",))
        self._closed = False
        # Targets and connections keep a pool alive: one that nothing refers to vanishes by itself.
        self._pools: WeakValueDictionary[Endpoint, Pool] = WeakValueDictionary()

    def call(self, target: Target, body: bytes, extra_headers: Headers = ()) -> NativeCall:
        prepared = target.prepared
        if prepared is None or prepared.engine is not self:
            prepared = self._prepare(target)
        extra = encode_headers(extra_headers)
        head = b"%b%bcontent-length: %d\r\n\r\n" % (prepared.head, extra, len(body))
        return NativeCall(prepared.pool, head, body)

    def close_idle(self, now: float) -> None:
        for pool in tuple(self._pools.values()):
            pool.close_idle(now)

    async def aclose(self) -> None:
        self._closed = True
        pools = tuple(self._pools.values())
        for pool in pools:
            pool.close()
        for _ in range(100):
            if not any(pool.sockets for pool in pools):
                return
            await asyncio.sleep(0.001)

    def _prepare(self, target: Target) -> _Prepared:
        endpoint = target.endpoint
        if endpoint.proxy is not None or endpoint.http2:
            raise ValueError("proxies and HTTP/2 need the httpx engine")
        pool = self._pools.get(endpoint)
        if pool is None:
            pool = Pool(endpoint, self._tls, self._idle_s, self._max_age_s)
            self._pools[endpoint] = pool
            if self._closed:
                pool.close()
        prepared = target.prepared = _Prepared(self, pool, _head(target))
        return prepared


class NativeCall(BufferedCall):
    """A Call on a pooled connection."""

    __slots__ = ("_body", "_connection", "_head", "_opener", "_pool", "_retried", "asked")

    def __init__(self, pool: Pool, head: bytes, body: bytes) -> None:
        super().__init__(pool.loop)
        self._pool = pool
        self._head = head
        self._body = body
        self._connection: Connection | None = None
        self._opener: asyncio.Task[object] | None = None
        self._retried = False
        self.asked = False

    async def open(self, connect_s: float, pool_s: float = 1.0) -> None:
        if self.error is not None:
            raise self.error
        try:
            connection = self._pool.take() or await self._acquire(connect_s, pool_s)
            while not await self._ask(connection):
                connection = await self._acquire(connect_s, pool_s, fresh=True)
            self._head = self._body = b""
        except BaseException:
            self.close()
            raise

    def fail(self, error: Exception) -> None:
        if isinstance(error, failures.StaleConnection) and not self._retried:
            self._retried = True
            self._connection = None
            self.wake()
        else:
            super().fail(error)

    def linger(self) -> bool:
        if self._connection is None or not self._connection.linger():
            return False
        self._connection = None
        return True

    def disconnect(self) -> None:
        opener, self._opener = self._opener, None
        if opener is not None:
            if isinstance(self.error, UpstreamError):
                self.error.sent = Sent.NEVER
            opener.cancel()
        connection, self._connection = self._connection, None
        if connection is not None and not self.ended:
            connection.drop()

    def resume(self) -> None:
        if self._connection is not None and not self.ended:
            self._connection.resume()

    async def _ask(self, connection: Connection) -> bool:
        """Sends the request and waits for the head. False: the connection was stale."""
        self._connection = connection
        self.asked = True
        connection.send(self, self._head, self._body)
        while self.status == 0:
            if self.error is not None:
                raise self.error
            if self._connection is None:
                return False
            await self.wait()
        return True

    async def _acquire(self, connect_s: float, pool_s: float, *, fresh: bool = False) -> Connection:
        """The pool's ``acquire``; ``disconnect`` interrupts it by a cancellation that ends here."""
        task = cast(asyncio.Task[object], asyncio.current_task())
        before = task.cancelling()
        self._opener = task
        try:
            return await self._pool.acquire(connect_s, pool_s, fresh=fresh)
        except asyncio.CancelledError:
            ours = self._opener is None
            if ours and task.uncancel() <= before and self.error is not None:
                raise self.error from None
            raise
        finally:
            self._opener = None


def _head(target: Target) -> bytes:
    line = f"{target.method} {target.path} HTTP/1.1\r\nhost: {target.endpoint.authority}\r\n"
    return line.encode() + b"accept-encoding: identity\r\n" + encode_headers(target.headers)
