"""Runs a scenario over each engine, on its loop, and checks what must hold after every one."""

from __future__ import annotations

import asyncio
import functools
import inspect
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

from gateway.errors import UpstreamError
from gateway.providers.transport import Endpoint, NativeTransport, Target, Transport
from gateway.providers.transport.over_httpx import HttpxTransport
from tests.contract.rawserver import RawServer, Script

CONNECT_S = 2.0
SCENARIO_S = 30.0


class Engine(NamedTuple):
    make: Callable[..., Transport]
    loop: Callable[[], asyncio.AbstractEventLoop]


ENGINES = {
    "native": Engine(NativeTransport, asyncio.new_event_loop),
    "native-uvloop": Engine(NativeTransport, uvloop.new_event_loop),
    "httpx": Engine(HttpxTransport, asyncio.new_event_loop),
}
NATIVE = ("native", "native-uvloop")
HTTPX = ("httpx",)


class Rig:
    """One transport and its servers. ``options`` of the transport may be set before the first use."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.native = engine in NATIVE
        self._made: Transport | None = None
        self._stack = AsyncExitStack()
        self._servers: list[RawServer] = []
        self.options: dict[str, float] = {}

    @property
    def transport(self) -> Transport:
        if self._made is None:
            self._made = ENGINES[self.engine].make(**self.options)
        return self._made

    async def serve(self, script: Script, **options: Any) -> RawServer:
        server = await self._stack.enter_async_context(RawServer(script, **options))
        self._servers.append(server)
        return server

    def target(self, port: int, **options: Any) -> Target:
        options = {"scheme": "http", "host": "127.0.0.1"} | options
        return Target(Endpoint(port=port, **options), "POST", "/v1/chat?v=1", [(b"x-fixed", b"f")])

    async def ask(self, target: Target, body: bytes = b"{}", cap: int = 1 << 26) -> bytes:
        """One whole call; its body."""
        call = self.transport.call(target, body)
        try:
            await call.open(CONNECT_S)
            return await call.read_all(cap)
        finally:
            call.close()

    async def fails(self, target: Target, body: bytes = b"{}") -> UpstreamError:
        """One whole call that must raise; its error, whose public text must tell nothing."""
        with pytest.raises(UpstreamError) as caught:
            await self.ask(target, body)
        error = caught.value
        assert "127.0.0.1" not in error.message
        assert target.endpoint.host not in error.message
        assert error.detail
        return error

    async def run(self, scenario: Callable[..., Awaitable[None]], options: dict[str, Any]) -> None:
        async with asyncio.timeout(SCENARIO_S), self._stack:
            try:
                await scenario(self, **options)
            finally:
                await self.transport.aclose()
            for peer in (peer for server in self._servers for peer in server.peers):
                assert await gone(peer.ended), "a connection outlived its transport"
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [t for t in left if "gateway" in repr(t.get_coro())]
        timers = getattr(asyncio.get_running_loop(), "_scheduled", ())  # uvloop does not show its own
        assert not [t for t in timers if "gateway" in getattr(t._callback, "__module__", "")]


async def gone(event: asyncio.Event, within_s: float = 1.0) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def until(condition: Callable[[], bool], within_s: float = 1.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


def over(*engines: str) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Makes ``async def test_…(rig, …)`` a test per engine, each on the loop it is meant for."""

    def wrap(scenario: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(scenario)
        def test(engine: str, **options: Any) -> None:
            with asyncio.Runner(loop_factory=ENGINES[engine].loop) as runner:
                runner.run(Rig(engine).run(scenario, options))

        first, *rest = inspect.signature(scenario).parameters.values()
        signature = inspect.Signature([first.replace(name="engine"), *rest])
        test.__signature__ = signature  # type: ignore[attr-defined]
        mark: Callable[..., None] = pytest.mark.parametrize("engine", engines)(test)
        return mark

    return wrap


every_engine = over(*ENGINES)
native_only = over(*NATIVE)
httpx_only = over(*HTTPX)


@contextmanager
def black_hole() -> Iterator[int]:
    """The port of a listener whose queue is full: a SYN gets no answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


def tls_server(folder: Path, *alpn: str, name: str = "localhost") -> tuple[ssl.SSLContext, str]:
    """A server's context, and the CA file for its clients."""
    cert, key = self_signed(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context, str(cert)


def self_signed(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate for ``name`` and 127.0.0.1 that vouches for itself, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", "req", "-x509", *kind, *subject, *files], check=True, capture_output=True)
    return cert, key
