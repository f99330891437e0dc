"""CPU of one upstream round trip, per engine: ``python -m tests.bench.transport_cost``.

A second process answers every request with the same bytes; only this process' CPU time (user and
system) is counted. ``parallel`` calls are in flight at a time. The last column is what the server
spent: if it is near the wall time, the server was the bottleneck (which does not change the CPU).
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import time
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from gateway.providers.transport import Endpoint, NativeTransport, Target, Transport
from gateway.providers.transport.over_httpx import HttpxTransport

HEADERS = (
    b"content-type: application/json\r\nx-request-id: req_0123456789abcdef\r\n"
    b"date: Sat, 01 Jan 2028 00:00:00 GMT\r\nserver: bench\r\n"
)
BUFFERED = b"HTTP/1.1 200 OK\r\n%bcontent-length: 1024\r\n\r\n%b" % (HEADERS, b"x" * 1024)
EVENT = b'data: {"choices": [{"delta": {"content": "word "}}]}\n\n'


class Answerer(asyncio.Protocol):
    """A request is over where a read ends in a brace: true of the bodies sent here."""

    answer = BUFFERED

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}"):
            self.respond()

    def respond(self) -> None:
        self._transport.write(self.answer)


class Streamer(Answerer):
    """``events`` SSE events, a chunk and a write each, a millisecond apart."""

    events = 100

    def respond(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % HEADERS
        self._transport.write(head)
        self._send(self.events)

    def _send(self, left: int) -> None:
        if left == 0:
            self._transport.write(b"0\r\n\r\n")
            return
        self._transport.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
        asyncio.get_running_loop().call_later(0.001, self._send, left - 1)


def _serve(pipe: Connection, kind: type[Answerer]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(kind, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


async def _worker(transport: Transport, target: Target, body: bytes, count: int) -> int:
    pieces = 0
    for _ in range(count):
        call = transport.call(target, body)
        await call.open(1.0)
        while await call.read():
            pieces += 1
        call.close()
    return pieces


async def _measure(
    make: type[NativeTransport] | type[HttpxTransport], port: int, parallel: int, count: int
) -> tuple[float, float, int]:
    """CPU and wall seconds, and pieces read."""
    transport = make()
    headers = [(b"authorization", b"Bearer k"), (b"content-type", b"application/json")]
    target = Target(Endpoint("http", "127.0.0.1", port), "POST", "/v1/chat/completions", headers)
    body = b"{" + b" " * 1022 + b"}"
    await asyncio.gather(*(_worker(transport, target, body, 5) for _ in range(parallel)))
    cpu, wall = _cpu_s(), time.perf_counter()
    work = [_worker(transport, target, body, count // parallel) for _ in range(parallel)]
    pieces = sum(await asyncio.gather(*work))
    spent = _cpu_s() - cpu, time.perf_counter() - wall
    await transport.aclose()
    return *spent, pieces


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _row(name: str, kind: type[Answerer], make: Any, parallel: int, count: int) -> None:
    count = max(parallel, count - count % parallel)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, kind))
    process.start()
    try:
        cpu, wall, pieces = uvloop.run(_measure(make, here.recv(), parallel, count))
    finally:
        process.terminate()
        process.join()
    per, each = ("round trip", count) if kind is Answerer else ("event", pieces)
    print(f"{name:<22}{parallel:>8}{each:>9} {per:<11}{cpu / each * 1e6:>10.1f}{each / wall:>12.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    count = parser.parse_args().count
    print(f"{'engine':<22}{'parallel':>8}{'count':>9} {'of':<11}{'cpu µs':>10}{'per second':>12}")
    for parallel in (1, 16, 64):
        _row("native (uvloop)", Answerer, NativeTransport, parallel, count)
    for parallel in (1, 64):
        _row("httpx (uvloop)", Answerer, HttpxTransport, parallel, count // 20)
    for parallel in (1, 16):
        _row("native (uvloop)", Streamer, NativeTransport, parallel, 16 * parallel)
    _row("httpx (uvloop)", Streamer, HttpxTransport, 16, 64)


if __name__ == "__main__":
    main()
