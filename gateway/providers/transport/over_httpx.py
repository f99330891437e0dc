"""The httpx engine: what the native one cannot do (HTTP proxies, HTTP/2), same interface."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Coroutine
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from gateway.providers.transport import failures
from gateway.providers.transport.httpx_call import HttpxCall
from gateway.providers.transport.interface import Endpoint, Headers, Target, encode_headers
from gateway.providers.transport.native import IDLE_S, MAX_AGE_S
from gateway.providers.transport.tls import TlsContexts

CLOSE_WAIT_S = 2.0


class Client:
    """An httpx client (one per endpoint), with what is needed to know when it may go.

    ``places``: the limit on requests in flight. httpx's own would count connections that httpcore
    has lost sight of, and keeps no order among those who wait.
    """

    __slots__ = ("born", "client", "idle_since", "in_flight", "places", "transport")

    def __init__(self, transport: httpx.AsyncHTTPTransport, places: asyncio.Semaphore) -> None:
        self.transport = transport
        self.client = _client(transport)
        self.places = places
        self.in_flight = 0
        self.born = self.idle_since = time.monotonic()


class HttpxTransport:
    """A Transport. Clients are replaced after ``max_age_s``, so that DNS changes are followed."""

    def __init__(self, *, idle_s: float = IDLE_S, max_age_s: float = MAX_AGE_S) -> None:
        self._idle_s = idle_s
        self._max_age_s = max_age_s
        self._tls = TlsContexts()
        self._clients: dict[Endpoint, Client] = {}
        self._retired: set[Client] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._closers: set[asyncio.Task[None]] = set()
        self._closed = False

    def call(self, target: Target, body: bytes, extra_headers: Headers = ()) -> HttpxCall:
        encode_headers(extra_headers)
        return HttpxCall(self, target, body, extra_headers)

    def close_idle(self, now: float) -> None:
        for endpoint, entry in tuple(self._clients.items()):
            if entry.in_flight == 0 and now - entry.idle_since > self._idle_s:
                del self._clients[endpoint]
                self._close(entry)

    async def aclose(self) -> None:
        self._closed = True
        for call in tuple(self._calls):
            call.cancel()
        await _ended(self._calls)
        for entry in (*self._clients.values(), *self._retired):
            self._close(entry)
        self._clients.clear()
        self._retired.clear()
        await _ended(self._closers)

    # -- for calls

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task for a call, cancelled by ``aclose``."""
        return _keep(work, self._calls)

    async def lease(self, endpoint: Endpoint) -> Client:
        """The endpoint's client; to be given back with ``release``."""
        if self._closed:
            raise failures.closed()
        context = await self._context(endpoint)
        entry = self._clients.get(endpoint)
        if entry is None or time.monotonic() - entry.born > self._max_age_s:
            entry = self._renew(endpoint, entry, context)
        entry.in_flight += 1
        return entry

    def give_up(self, endpoint: Endpoint, entry: Client) -> None:
        """One of the client's connections was stale, so others may be: the next lease is of new ones."""
        if self._clients.get(endpoint) is entry:
            entry.born = -math.inf

    def release(self, entry: Client) -> None:
        entry.in_flight -= 1
        entry.idle_since = time.monotonic()
        if entry.in_flight == 0 and entry in self._retired:
            self._retired.discard(entry)
            self._close(entry)

    def _close(self, entry: Client) -> None:
        _keep(entry.client.aclose(), self._closers)

    async def _context(self, endpoint: Endpoint) -> ssl.SSLContext | bool:
        secure = endpoint.scheme == "https"
        return await self._tls.get(endpoint.ca_file) if secure else False

    def _renew(self, endpoint: Endpoint, old: Client | None, context: ssl.SSLContext | bool) -> Client:
        places = old.places if old else asyncio.Semaphore(endpoint.max_connections)
        entry = Client(_connections(endpoint, context, self._idle_s), places)
        self._clients[endpoint] = entry
        if old is not None:
            self._retired.add(old)
            old.in_flight += 1
            self.release(old)
        return entry


def _keep(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tuple(tasks), timeout=CLOSE_WAIT_S)


def _client(transport: httpx.AsyncHTTPTransport) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
    )


def _connections(
    endpoint: Endpoint, context: ssl.SSLContext | bool, idle_s: float
) -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(
        verify=context,
        http2=endpoint.http2,
        proxy=endpoint.proxy,
        trust_env=False,
        limits=httpx.Limits(
            max_connections=None,
            max_keepalive_connections=endpoint.max_connections,
            keepalive_expiry=idle_s,
        ),
    )
