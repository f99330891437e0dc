"""The interruption sweep: one exchange stopped at every point where it can be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import Exchange
from gateway.interrupt import Reason
from tests.interruption.rig import SIMULATED, MemorySink, Rig, simulated, stepped

BODIES: dict[str, dict[str, Any]] = {
    "stream": {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
    "buffered": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
}
REASONS = [*Reason, None]


async def _ended(rig: Rig, work: Any) -> None:
    """Runs ``work`` as a task of its own; ``rig.task`` is that task."""

    async def drive() -> None:
        await work

    rig.task = rig.tasks.spawn(drive(), "exchange")
    await asyncio.wait([rig.task])
    for _ in range(3):
        await asyncio.sleep(0)  # the settler's turn


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("reason", REASONS, ids=lambda r: r.value if r else "cancelled")
async def test_interrupted_at_every_await(tmp_path: Path, kind: str, reason: Reason | None) -> None:
    transport = simulated()
    rig = Rig(tmp_path, transport, SIMULATED)

    def act(exchange: Exchange, sink: MemorySink) -> None:
        if reason is None:
            rig.task.cancel()
        elif reason is Reason.CLIENT_GONE:
            sink.leave()
        else:
            exchange.interrupt.fire(reason)

    async def interrupted(at: int) -> tuple[int, MemorySink]:
        rig.forget()
        exchange, sink = rig.exchange(BODIES[kind]), MemorySink()
        work, count = stepped(rig.pipeline.serve(exchange, sink), at, lambda: act(exchange, sink))
        await _ended(rig, work)
        return count[0], sink

    steps, _ = await interrupted(10**9)
    assert steps > 15
    for at in range(1, steps + 1):
        _, sink = await interrupted(at)
        rig.check()
        assert transport.open_calls == 0
        for row in rig.rows:
            told_all = sink.finished and b"error" not in sink.sent[-1]
            assert (row["outcome"] == "ok") == told_all
            if reason is Reason.CLIENT_GONE and not sink.finished:
                assert row["outcome"] == "client_gone"
    await rig.close()


@pytest.mark.parametrize("kind", BODIES)
async def test_client_gone_at_every_send(tmp_path: Path, kind: str) -> None:
    transport = simulated()
    rig = Rig(tmp_path, transport, SIMULATED)
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
        await _ended(rig, rig.pipeline.serve(exchange, sink))
        rig.check()
        assert len(rig.rows) == 1
        assert rig.rows[0]["outcome"] == ("client_gone" if sends >= at else "ok")
        assert transport.open_calls == 0
    await rig.close()
