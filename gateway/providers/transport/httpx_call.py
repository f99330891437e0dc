"""A call over httpx. It runs in a task that the transport owns, so that ``abort`` and ``close`` need
no await."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import httpx

from gateway.errors import UpstreamError
from gateway.providers.transport import failures
from gateway.providers.transport.body import HEAD_MAX_BYTES, LINGER_S, BufferedCall
from gateway.providers.transport.httpx_errors import explain
from gateway.providers.transport.httpx_progress import Progress
from gateway.providers.transport.interface import Headers, Target

if TYPE_CHECKING:
    from gateway.providers.transport.over_httpx import Client, HttpxTransport

WRITE_WAIT_S = 0.25
"""How long the end of a call waits for a write that others on its connection depend on."""


class HttpxCall(BufferedCall):
    """A Call that a task pumps, no further ahead of its reader than the buffer's bound."""

    __slots__ = ("_body", "_extra", "_progress", "_retried", "_room", "_target", "_task", "_transport")

    def __init__(self, transport: HttpxTransport, target: Target, body: bytes, extra: Headers) -> None:
        super().__init__(asyncio.get_running_loop())
        self._transport = transport
        self._target = target
        self._body = body
        self._extra = extra
        self._progress = Progress()
        self._retried = False
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def asked(self) -> bool:
        return self._progress.sent or self._retried

    async def open(self, connect_s: float, pool_s: float = 1.0) -> None:
        try:
            if self.error is None:
                self._task = self._transport.spawn(self._run(connect_s, pool_s))
            while self.status == 0:
                if self.error is not None:
                    raise self.error
                await self.wait()
        except BaseException:
            self.close()
            raise

    def disconnect(self) -> None:
        self._disconnect(time.monotonic() + WRITE_WAIT_S)

    def linger(self) -> bool:
        if self._task is None or (self.header(b"connection") or b"").lower() == b"close":
            return False
        self._later(self._task, LINGER_S, self.disconnect)
        return True

    def resume(self) -> None:
        self._room.set()

    def _disconnect(self, deadline: float) -> None:
        task = self._task
        if task is None or self.ended or self._progress.defer():
            return
        if self._progress.is_writing() and time.monotonic() < deadline:
            self._later(task, 0.001, self._disconnect, deadline)
        else:
            task.cancel()

    def _later(
        self, task: asyncio.Task[None], delay_s: float, work: Callable[..., None], *args: float
    ) -> None:
        """``work`` after ``delay_s``, unless the task has ended by then."""
        timer = self._loop.call_later(delay_s, work, *args)
        task.add_done_callback(lambda _: timer.cancel())

    async def _run(self, connect_s: float, pool_s: float) -> None:
        try:
            while not await self._lease(connect_s, pool_s):
                self._progress = Progress()
                self._retried = True
            self.ended = True
        except asyncio.CancelledError:
            self.fail(failures.closed())
        except UpstreamError as error:
            self.fail(error)
        except Exception as error:  # a task's supervisor: its reader must hear of it
            self.fail(self._explain(error))
        finally:
            self.wake()

    def _explain(self, error: Exception) -> UpstreamError:
        progress = self._progress
        return explain(error, status=self.status, sent=progress.sent, stale=progress.went_stale())

    def _may_retry(self, error: Exception) -> bool:
        first = self.status == 0 and self.error is None and not self._retried
        return first and isinstance(self._explain(error), failures.StaleConnection)

    async def _lease(self, connect_s: float, pool_s: float) -> bool:
        """One try, on a client that is ours meanwhile. False: on a stale connection; try again."""
        entry = await self._transport.lease(self._target.endpoint)
        try:
            await _place(entry.places, pool_s)
            try:
                await self._exchange(entry, connect_s)
            finally:
                entry.places.release()
        except httpx.TransportError as error:
            if not self._may_retry(error):
                raise
            self._transport.give_up(self._target.endpoint, entry)
            return False
        finally:
            self._transport.release(entry)
        return True

    async def _exchange(self, entry: Client, connect_s: float) -> None:
        progress = self._progress
        progress.pass_over(entry.transport)
        try:
            response = await entry.client.send(self._request(connect_s), stream=True, auth=None)
        except BaseException:
            await progress.close_unsent()
            await progress.reset_stream()
            raise
        try:
            await self._relay(response)
            progress.pass_over(entry.transport)
            if progress.leaves_bytes():
                await response.extensions["network_stream"].aclose()
        except BaseException:
            await progress.reset_stream()
            raise
        finally:
            await response.aclose()

    async def _relay(self, response: httpx.Response) -> None:
        self._body = b""
        self._start(response)
        await self._pump(response)

    def _request(self, connect_s: float) -> httpx.Request:
        target = self._target
        endpoint = target.endpoint
        url = httpx.URL(
            scheme=endpoint.scheme,
            host=endpoint.host,
            port=endpoint.port,
            raw_path=target.path.encode(),
        )
        headers = [(b"accept-encoding", b"identity"), *target.headers, *self._extra]
        extensions = {"timeout": {"connect": connect_s}, "trace": self._progress.trace}
        return httpx.Request(target.method, url, headers=headers, content=self._body, extensions=extensions)

    def _start(self, response: httpx.Response) -> None:
        headers = [(name.lower(), value) for name, value in response.headers.raw]
        if response.status_code < 200:
            raise failures.malformed(f"status {response.status_code}")
        if sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_MAX_BYTES:
            raise failures.malformed("head too long")
        codings = [value for name, value in headers if name == b"content-encoding"]
        known = self.begin(response.status_code, headers, b", ".join(codings) or None)
        if not known and self.error is not None:
            raise self.error
        self.wake()

    async def _pump(self, response: httpx.Response) -> None:
        # Not aiter_raw: at its end the connection is another's already.
        async for piece in cast(httpx.AsyncByteStream, response.stream):
            if self.error is not None:
                raise self.error
            self.pieces.append(piece)
            self.size += len(piece)
            self.wake()
            while self.overfull():
                self.paused = True
                self._room.clear()
                await self._room.wait()


async def _place(places: asyncio.Semaphore, pool_s: float) -> None:
    try:
        async with asyncio.timeout(pool_s):
            await places.acquire()
    except TimeoutError:
        raise failures.pool_exhausted("all places are taken") from None
