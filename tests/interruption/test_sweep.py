"""The interruption sweep: one exchange stopped at every point where it can be."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from gateway.interrupt import Reason
from tests.fakes.answers import chat_body, chat_stream, json_answer, stream
from tests.fakes.upstream import Upstream, send
from tests.interruption.rig import NEVER, SIMULATED, Rig, by_kind, by_reason, interrupted


@by_kind
@by_reason
async def test_interrupted_at_every_await(tmp_path: Path, kind: str, reason: Reason | None) -> None:
    rig = Rig(tmp_path, SIMULATED)
    await interrupted(rig, kind, reason, NEVER)
    assert rig.taken > 15
    for at in range(1, rig.taken + 1):
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
        for at in rig.sweep():
            upstream.next(*steps)
            await interrupted(rig, kind, reason, at)
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
        sends = await rig.left_at_send(kind, at)
        rig.check()
        assert len(rig.rows) == 1
        assert rig.rows[0]["outcome"] == ("client_gone" if sends >= at else "ok")
        assert rig.transport.open_calls == 0
    await rig.close()


@by_kind
async def test_nothing_waits_for_the_garbage_collector(tmp_path: Path, kind: str) -> None:
    """An exchange that refers to itself lives until a collection: memory, and pauses, at every rate."""
    rig = Rig(tmp_path, SIMULATED)
    await interrupted(rig, kind, None, NEVER)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(5):
            await interrupted(rig, kind, None, NEVER)
        gc.collect()
        left = {type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith("gateway.")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == set()
    await rig.close()
