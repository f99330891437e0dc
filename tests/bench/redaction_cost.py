"""What redaction adds to a real gateway that finds nothing: CPU of a request and of a streamed chunk, and
time to the first content.

``python -m tests.bench.redaction_cost [ROUNDS]``: gateways without redaction, with it for requests, and for
answers too, one after the other in interleaved rounds, each alone on a core; about 10 s a round, three by
default. Medians.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from . import processes
from .peers import Peer
from .peers.gateway import Gateway, WithRedaction
from .privacy_cost import CLEAN, KB
from .processes import Cores
from .running import Running, started, upstream
from .upstream import BURST_CHUNKS, MARK
from .wire import Target, read_answer

REQUESTS = 3000
STREAMS = 40
FIRST = 60


class OfRequests(WithRedaction):
    """Answers are not searched."""

    name = "gateway-redaction-of-requests"
    direction = "input"


@dataclass
class Costs:
    """In microseconds; ``first_us`` is wall time until content is there."""

    request_us: list[float] = field(default_factory=list)
    chunk_us: list[float] = field(default_factory=list)
    first_us: list[float] = field(default_factory=list)


def request(target: Target, model: str) -> bytes:
    """A request whose prompt is 1 KB of clean text."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": CLEAN[:KB]}],
        "max_tokens": 1000,
        "stream": model != "bench",
    }
    raw = json.dumps(body).encode()
    head = [f"POST {target.path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(raw)}"]
    head += [f"{name}: {value}" for name, value in target.all_headers.items()]
    return "\r\n".join([*head, "", ""]).encode() + raw


def measure(running: Running, costs: Costs) -> None:
    asked = {name: request(running.target, name) for name in ("bench", "bench-burst", "bench-paced")}
    with socket.create_connection(("127.0.0.1", running.target.port), 20) as connection:
        _run(connection, asked["bench"], REQUESTS // 10)
        before = processes.cpu_ns(running.pids)
        _run(connection, asked["bench"], REQUESTS)
        costs.request_us.append((processes.cpu_ns(running.pids) - before) / 1e3 / REQUESTS)
        before = processes.cpu_ns(running.pids)
        _run(connection, asked["bench-burst"], STREAMS)
        costs.chunk_us.append((processes.cpu_ns(running.pids) - before) / 1e3 / STREAMS / BURST_CHUNKS)
    costs.first_us.append(median(_first_us(running.target, asked["bench-paced"]) for _ in range(FIRST)))


def _run(connection: socket.socket, asked: bytes, times: int) -> None:
    for _ in range(times):
        connection.sendall(asked)
        data = b""
        while (answer := read_answer(data)) is None:
            part = connection.recv(1 << 20)
            if not part:
                raise ConnectionError("the answer ended early")
            data += part
        if answer.status != 200:
            raise ConnectionError(f"status {answer.status}: {answer.body[:200]!r}")


def _first_us(target: Target, asked: bytes) -> float:
    """Until the first content; the rest of the stream is left."""
    with socket.create_connection(("127.0.0.1", target.port), 20) as connection:
        begin = time.perf_counter()
        connection.sendall(asked)
        data = b""
        while MARK not in data:
            part = connection.recv(65536)
            if not part:
                raise ConnectionError(f"no content came: {data[:200]!r}")
            data += part
        return (time.perf_counter() - begin) * 1e6


def rounds(count: int) -> Iterator[tuple[str, Costs]]:
    peers: list[Peer] = [Gateway(), OfRequests(), WithRedaction()]
    costs = {peer.name: Costs() for peer in peers}
    cores = Cores.choose()
    for number in range(count):
        for peer in peers:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                provider, _ = stack.enter_context(upstream(cores, folder, sys.executable))
                running = stack.enter_context(started(peer, cores, folder, provider))
                measure(running, costs[peer.name])
            print(f"round {number + 1} of {count}: {peer.name}", file=sys.stderr)
    yield from costs.items()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    off, requests, both = (costs for _, costs in rounds(count))
    print(f"{'':36} {'off':>9} {'requests':>9} {'added':>9} {'both':>9} {'added':>9}")
    for title, name in (
        ("CPU of a request, 1 KB clean, µs", "request_us"),
        ("CPU of a streamed chunk, µs", "chunk_us"),
        ("until the first content, µs", "first_us"),
    ):
        least, some, most = (median(getattr(costs, name)) for costs in (off, requests, both))
        cells = (least, some, some - least, most, most - least)
        print(f"{title:36} " + " ".join(f"{cell:9.1f}" for cell in cells))


if __name__ == "__main__":
    main()
