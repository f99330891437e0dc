"""Three times the load at which the gateway does most: what it still answers, and how it says no.

The clients are `wrk`'s: closed loops, which wait as long as they are told to when they are refused.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.rig import CHAT, Gateway, chat, group
from tests.fakes.upstream import Upstream

LATENCY_S = 0.3
EACH_S = 6
CLIENTS = (250, 500, 1000)
LEAST = 0.9
"""Of the peak: answers at three times its clients."""
_SCRIPT = """
wrk.method, wrk.path, wrk.body = "POST", {path}, {body}
wrk.headers = {{ ["content-type"] = "application/json", ["authorization"] = {key} }}
local waits = 0
function response(status)
  if status == 503 then waits = waits + 1 end
end
function delay()
  if waits == 0 then return 0 end
  waits = waits - 1
  return 1000
end
function done(summary)
  local e = summary.errors
  io.write(string.format(
    '\\nresult {{"requests": %d, "micros": %d, "refused": %d, "broken": %d}}\\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """``broken``: connections and timeouts. ``rate``: answers per second."""

    clients: int
    requests: int
    refused: int
    broken: int
    rate: float


async def run(folder: Path) -> list[Load]:
    """The loads of ``CLIENTS``, then three times that with the best rate."""
    async with Upstream() as upstream:
        simulated = {"kind": "simulated", "simulate": {"latency_s": LATENCY_S}}
        gateway = Gateway(
            folder, upstream, {"providers": {"sim": simulated}, "models": {"chat": group("sim")}}
        )
        await gateway.start()
        try:
            loads = [await asyncio.to_thread(_load, gateway, folder, clients) for clients in CLIENTS]
            clients = 3 * max(loads, key=lambda one: one.rate).clients
            return [*loads, await asyncio.to_thread(_load, gateway, folder, clients)]
        finally:
            await gateway.stop()


def _load(gateway: Gateway, folder: Path, clients: int) -> Load:
    script = folder / "overload.lua"
    body, key = json.dumps(json.dumps(chat())), json.dumps(f"Bearer {gateway.key}")
    script.write_text(_SCRIPT.format(path=json.dumps(CHAT), body=body, key=key))
    command = ["wrk", "-t1", f"-c{clients}", f"-d{EACH_S}s", "--timeout", "20s", "-s", str(script)]
    done = subprocess.run([*command, gateway.url], capture_output=True, text=True, timeout=60, check=True)
    line = next(one for one in done.stdout.splitlines() if one.startswith("result "))
    found = json.loads(line.removeprefix("result "))
    answered = found["requests"] - found["refused"]
    return Load(
        clients, found["requests"], found["refused"], found["broken"], answered / found["micros"] * 1e6
    )


def wrong(loads: list[Load]) -> list[str]:
    *others, last = loads
    peak = max(one.rate for one in others)
    found = [f"{one.broken} connections broken at {one.clients} clients" for one in loads if one.broken]
    if last.rate < LEAST * peak:
        found.append(f"{last.rate:.0f} answers per second, {last.rate / peak:.0%} of the peak")
    return found


def text(loads: list[Load]) -> str:
    lines = [f"{'clients':>8}{'requests':>10}{'refused':>9}{'answers/s':>11}"]
    lines += [f"{one.clients:>8}{one.requests:>10}{one.refused:>9}{one.rate:>11.0f}" for one in loads]
    return "\n".join([*lines, *(f"! {one}" for one in wrong(loads))])
