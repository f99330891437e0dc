"""The server: uvicorn's, with our protocol, a drain that keeps its promises, and reload on SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn

from gateway.edge.protocol import RimProtocol
from gateway.edge.rim import Rim

SWEEP_TICKS = 5
"""The server ticks ten times a second; connections are checked at every fifth."""
BACKLOG = 2048
LAST_WORDS_S = 5.0
"""After the drain, for errors to reach the clients of what was ended."""


@dataclass(slots=True, frozen=True)
class Lifecycle:
    """What the application does as the server comes and goes, in this order.

    ``reload`` comes with SIGHUP. ``drain``: SIGTERM has come; the listener stays open for
    ``pre_stop_s``, what runs may finish within ``drain_s``, then ``end_running`` ends the rest.
    ``stop`` is last.
    """

    start: Callable[[], None]
    ready: Callable[[str], None]
    reload: Callable[[], None]
    drain: Callable[[], None]
    end_running: Callable[[], None]
    stop: Callable[[], Awaitable[None]]
    pre_stop_s: float = 0.0
    drain_s: float = 600.0


def bind(host: str, port: int) -> socket.socket:
    """A listening address of its own; raises ``OSError`` where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class CannotServe(Exception):
    """Why the process cannot start, in one sentence."""


def listen(host: str, port: int) -> socket.socket:
    """As ``bind``; raises ``CannotServe``."""
    try:
        return bind(host, port)
    except OSError as error:
        remedy = "; choose another with --port" if error.errno == errno.EADDRINUSE else ""
        reason = f"cannot listen on {host}:{port}: {error.strerror or error}{remedy}"
        raise CannotServe(reason) from None


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class GatewayServer(uvicorn.Server):
    """Runs inside a loop that somebody else made. A second signal ends the drain at once."""

    def __init__(self, app: Any, rim: Rim, lifecycle: Lifecycle) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(RimProtocol, rim=rim),  # type: ignore[arg-type]
                interface="asgi3",
                ws="none",
                lifespan="off",
                loop="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                backlog=BACKLOG,
            )
        )
        self._rim = rim
        self._lifecycle = lifecycle
        self._signals = 0
        self._hurry = False

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._rim.tick()
        self._lifecycle.start()
        try:
            await super().serve(sockets)
        finally:
            await self._lifecycle.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        self._lifecycle.ready(url_of(sockets[0]))

    async def on_tick(self, counter: int) -> bool:
        self._tick(counter)
        return self.should_exit

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Not ready, then not listening, then nothing running; in-band errors for what is left."""
        lifecycle = self._lifecycle
        lifecycle.drain()
        await self._wait(lifecycle.pre_stop_s, lambda: False)
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if not await self._wait(lifecycle.drain_s, self._quiet):
            lifecycle.end_running()
            await self._wait(LAST_WORDS_S, self._quiet, hurry=False)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # for the connections' ends to be heard
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        loop.add_signal_handler(signal.SIGHUP, self._lifecycle.reload)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def stop(self, *, hurry: bool = False) -> None:
        """Begins the drain, as a signal does; with ``hurry``, ends it at once, as a second one."""
        self.should_exit = True
        self._hurry = self._hurry or hurry

    def _signalled(self) -> None:
        self._signals += 1
        self.stop(hurry=self._signals > 1)

    def _quiet(self) -> bool:
        return not self.server_state.connections and not self.server_state.tasks

    async def _wait(self, seconds: float, done: Callable[[], bool], *, hurry: bool = True) -> bool:
        """Until ``done`` (True), ``seconds`` have passed or, with ``hurry``, a second signal came."""
        until_s = time.monotonic() + seconds
        counter = 0
        while not done():
            left_s = until_s - time.monotonic()
            if left_s <= 0 or (hurry and self._hurry):
                return False
            await asyncio.sleep(min(0.05, left_s))
            counter += 1
            if counter % 2 == 0:
                self._tick(counter // 2)
        return True

    def _tick(self, counter: int) -> None:
        if counter % 10 == 0:
            self._rim.tick()
        if counter % SWEEP_TICKS == 0:
            now_s = time.monotonic()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, RimProtocol)
                connection.check(now_s)
