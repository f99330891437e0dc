"""The interruption sweep: one exchange stopped at every point where it can be."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import Exchange
from gateway.interrupt import Reason
from tests.fakes.answers import chat_body, chat_stream, json_answer, stream
from tests.fakes.upstream import Upstream, send
from tests.interruption.rig import SIMULATED, MemorySink, Rig, stepped

BODIES: dict[str, dict[str, Any]] = {
    "stream": {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
    "buffered": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
}
REASONS = [*Reason, None]
by_reason = pytest.mark.parametrize("reason", REASONS, ids=lambda r: r.value if r else "cancelled")
by_kind = pytest.mark.parametrize("kind", BODIES)


async def interrupted(rig: Rig, kind: str, reason: Reason | None, at: int) -> tuple[int, MemorySink]:
    """One exchange, stopped at its ``at``-th suspension; returns how many it had."""
    rig.forget()
    exchange, sink = rig.exchange(BODIES[kind]), MemorySink()

    def act(exchange: Exchange = exchange) -> None:
        if reason is None:
            rig.task.cancel()
        elif reason is Reason.CLIENT_GONE:
            sink.leave()
        else:
            exchange.interrupt.fire(reason)

    work, count = stepped(rig.pipeline.serve(exchange, sink), at, act)
    await rig.ended(work)
    rig.check()
    for row in rig.rows:
        told_all = sink.finished and b"error" not in sink.sent[-1]
        assert (row["outcome"] == "ok") == told_all
        if reason is Reason.CLIENT_GONE and not sink.finished:
            assert row["outcome"] == "client_gone"
    return count[0], sink


@by_kind
@by_reason
async def test_interrupted_at_every_await(tmp_path: Path, kind: str, reason: Reason | None) -> None:
    rig = Rig(tmp_path, SIMULATED)
    steps, _ = await interrupted(rig, kind, reason, 10**9)
    assert steps > 15
    for at in range(1, steps + 1):
        await interrupted(rig, kind, reason, at)
        assert rig.transport.open_calls == 0
    await rig.close()


@pytest.mark.parametrize("engine", ["native", "httpx"])
@by_kind
@by_reason
async def test_interrupted_before_a_real_socket(
    tmp_path: Path, kind: str, reason: Reason | None, engine: str
) -> None:
    """The number of suspensions depends on the network: the sweep goes on until one run ends before."""
    steps = stream(chat_stream("abc"), size=200, pause_s=0.0005)
    if kind == "buffered":
        steps = [send(json_answer(chat_body("abc")), size=200, pause_s=0.0005)]
    async with Upstream() as upstream:
        rig = Rig(tmp_path, {"kind": "openai", "base_url": upstream.url, "transport": engine})
        at = taken = 0
        while taken >= at:
            at += 1
            upstream.next(*steps)
            taken, _ = await interrupted(rig, kind, reason, at)
            upstream.forget()
        assert at > 15
        await rig.close()
        async with asyncio.timeout(5):
            for connection in upstream.connections:
                await connection.gone.wait()


@by_kind
async def test_client_gone_at_every_send(tmp_path: Path, kind: str) -> None:
    rig = Rig(tmp_path, SIMULATED)
    for at in range(1, 8):
        rig.forget()
        exchange, sink = rig.exchange(BODIES[kind]), MemorySink()
        sends = 0

        def leave_at(at: int = at, sink: MemorySink = sink) -> None:
            nonlocal sends
            sends += 1
            if sends == at:
                asyncio.get_running_loop().call_soon(sink.leave)

        sink.before_send = leave_at
        await rig.ended(rig.pipeline.serve(exchange, sink))
        rig.check()
        assert len(rig.rows) == 1
        assert rig.rows[0]["outcome"] == ("client_gone" if sends >= at else "ok")
        assert rig.transport.open_calls == 0
    await rig.close()


@by_kind
async def test_nothing_waits_for_the_garbage_collector(tmp_path: Path, kind: str) -> None:
    """An exchange that refers to itself lives until a collection: memory, and pauses, at every rate."""
    rig = Rig(tmp_path, SIMULATED)
    await interrupted(rig, kind, None, 10**9)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(5):
            await interrupted(rig, kind, None, 10**9)
        gc.collect()
        left = {type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith("gateway.")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == set()
    await rig.close()
