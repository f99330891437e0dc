"""Every fault, buffered and streamed, alone and with help: one served gateway, one call for each cell."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.e2e.rig import Gateway
from tests.e2e.routes import Providers, pool
from tests.faults.catalogue import FAULTS, Fault, good
from tests.faults.judge import Seen, seen, violations

Topology = Literal["alone", "spare", "fallback", "continue"]
TOPOLOGIES: tuple[Topology, ...] = ("alone", "spare", "fallback", "continue")
Transport = Literal["native", "httpx"]
ATTEMPTS = 3
AT_ONCE = 12
LONGEST_S = 5.0
TIMEOUTS = {"connect_s": 0.3, "first_event_s": 0.4, "idle_s": 0.4, "total_s": 4}
CAP_BYTES = 1 << 20


@dataclass(frozen=True)
class Cell:
    fault: Fault
    stream: bool
    topology: Topology

    @property
    def group(self) -> str:
        mode = "s" if self.stream else "b"
        return f"g{FAULTS.index(self.fault)}{mode}-{self.topology}"

    @property
    def provider(self) -> str:
        """One of its own where it can be reached: a refused credential is refused for all who use it."""
        return self.group if self.fault.steps else self.fault.provider


@dataclass(frozen=True)
class Result:
    """``calls``: of the ledger, those that never left the gateway included."""

    cell: Cell
    seen: Seen
    elapsed_s: float
    calls: int
    wrong: list[str]


CELLS = [
    Cell(fault, stream, topology) for fault in FAULTS for stream in (False, True) for topology in TOPOLOGIES
]


ALONE = [cell for cell in CELLS if cell.topology == "alone"]


async def run(folder: Path, cells: Sequence[Cell] = CELLS, transport: Transport = "native") -> list[Result]:
    """The results, in the order of ``cells``."""
    async with _serving(folder, cells, transport) as (gateway, upstream):
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(cell: Cell) -> Result:
            async with gate:
                return await _result(gateway, upstream, cell)

        return await asyncio.gather(*map(one, cells))


@asynccontextmanager
async def _serving(
    folder: Path, cells: Sequence[Cell], transport: Transport
) -> AsyncIterator[tuple[Gateway, Providers]]:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Providers())
        urls = {
            "refusing": f"http://127.0.0.1:{stack.enter_context(_nobody())}/v1",
            "unknown-host": "http://nowhere.invalid/v1",
            "no-tls": f"https://127.0.0.1:{await stack.enter_async_context(_no_tls())}/v1",
            "black-hole": f"http://127.0.0.1:{stack.enter_context(_black_hole())}/v1",
            "good": f"{upstream.url}/v1",
        }
        urls |= {cell.provider: urls["good"] for cell in cells if cell.fault.steps}
        shared = {"kind": "openai", "transport": transport}
        providers = {name: {**shared, "base_url": url} for name, url in urls.items()}
        providers["good"]["prefill"] = "message"
        models: dict[str, Any] = {}
        for cell in cells:
            models |= _groups(cell, upstream)
        gateway = Gateway(folder, upstream, {"providers": providers, "models": models})
        await gateway.start()
        try:
            yield gateway, upstream
        finally:
            await gateway.stop()


def _groups(cell: Cell, upstream: Providers) -> dict[str, Any]:
    """The cell's own groups, so that nothing is learned from another one."""
    name, helper = cell.group, f"{cell.group}-good"
    settings: dict[str, Any] = {
        "timeouts": TIMEOUTS,
        "retry": {"attempts": ATTEMPTS, "backoff_s": 0.05, "backoff_max_s": 0.1},
        "response_cap_bytes": CAP_BYTES,
        "event_cap_bytes": CAP_BYTES,
    }
    upstream.always(name, *cell.fault.steps)
    upstream.always(helper, *good(cell.stream))
    if cell.topology == "continue":
        settings["on_cut"] = "continue"
    if cell.topology in ("spare", "continue"):
        return {name: pool(cell.provider, "good", models=[name, helper], **settings)}
    if cell.topology == "fallback":
        settings["fallbacks"] = [helper]
        second = {helper: pool("good", models=[helper])}
    else:
        second = {}
    return {name: pool(cell.provider, models=[name], **settings)} | second


async def _result(gateway: Gateway, upstream: Providers, cell: Cell) -> Result:
    began_s = time.monotonic()
    answer = await gateway.chat(model=cell.group, stream=cell.stream)
    elapsed_s = time.monotonic() - began_s
    one = seen(answer)
    row = await gateway.row(answer.header("x-request-id") or "", within_s=5.0)
    calls = max(len(row["attempts"]), upstream.calls(cell.group, f"{cell.group}-good"))
    helped = cell.topology != "alone"
    continued = cell.topology == "continue"
    wrong = violations(cell.fault, cell.stream, helped, one, calls, ATTEMPTS, continued=continued)
    if elapsed_s > LONGEST_S:
        wrong.append(f"took {elapsed_s:.1f} s")
    return Result(cell, one, elapsed_s, calls, wrong)


@contextmanager
def _nobody() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def _black_hole() -> Iterator[int]:
    """A port whose queue is full: it answers no SYN."""
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for caller in (one, two):
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@asynccontextmanager
async def _no_tls() -> AsyncIterator[int]:
    """A port that speaks, but not TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
