"""The sweep with an idempotency key: whatever interrupts an exchange, its key is free or has an answer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.caching import idempotency, records
from gateway.exchange import Exchange
from gateway.interrupt import Reason
from gateway.storage.memory import Memory
from tests.interruption.rig import BODIES, NEVER, SIMULATED, Rig, by_kind, by_reason
from tests.interruption.sink import MemorySink

PRINTS = {kind: records.fingerprint("chat", "m", body) for kind, body in BODIES.items()}


class PatientSink(MemorySink):
    """Notes that it would say something in a long silence."""

    def __init__(self) -> None:
        super().__init__()
        self.patient = 0

    def keep_alive(self, head: Callable[[], Any]) -> None:
        self.patient += 1


def keyed(rig: Rig, kind: str, key: str) -> tuple[Exchange, str]:
    """An exchange, and where its record stands."""
    exchange = rig.exchange(BODIES[kind])
    exchange.client.headers[b"idempotency-key"] = key.encode()
    return exchange, f"idem:acme:{hashlib.sha256(key.encode()).hexdigest()}"


async def held(rig: Rig, name: str) -> bytes | None:
    await rig.app.idempotency.drained()
    assert isinstance(rig.app.store, Memory)
    return await rig.app.store.get(name)


async def interrupted(rig: Rig, exchange: Exchange, reason: Reason | None, at: int) -> None:
    await rig.interrupted(exchange, MemorySink(), reason, at)
    rig.check()


@by_kind
@by_reason
async def test_an_opener_leaves_an_answer_or_nothing(
    tmp_path: Path, kind: str, reason: Reason | None
) -> None:
    rig = Rig(tmp_path, SIMULATED)
    exchange, name = keyed(rig, kind, "whole")
    await interrupted(rig, exchange, reason, NEVER)
    assert await held(rig, name) is not None
    for at in range(1, rig.taken + 1):
        exchange, name = keyed(rig, kind, f"key-{at}")
        await interrupted(rig, exchange, reason, at)
        record, (row, *_) = await held(rig, name), rig.rows or [{"outcome": "refused"}]
        assert (record is not None) == (row["outcome"] == "ok")
        if record is not None:
            assert records.read(record).answer is not None
    await rig.close()


@by_kind
@by_reason
async def test_who_waits_leaves_the_opener_alone(
    tmp_path: Path, kind: str, reason: Reason | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "POLL_S", (0.001, 0.002))
    rig = Rig(tmp_path, SIMULATED)
    running = records.running(PRINTS[kind], "elsewhere:1")
    waited = 0
    for at in range(10, 40):
        exchange, name = keyed(rig, kind, f"key-{at}")
        await rig.app.store.put(name, running, 60)
        await interrupted(rig, exchange, reason, at)
        assert await held(rig, name) == running
        for row in rig.rows:
            assert row["attempts"] == []
        waited += len(rig.rows)
    assert waited > 15
    await rig.close()


@pytest.mark.parametrize(("kind", "patient"), [("stream", 1), ("buffered", 0)])
async def test_a_stream_that_waits_is_kept_alive(tmp_path: Path, kind: str, patient: int) -> None:
    rig, sink = Rig(tmp_path, SIMULATED), PatientSink()
    exchange, name = keyed(rig, kind, "key")
    running = records.running(PRINTS[kind], "elsewhere:1")
    await rig.app.store.put(name, running, 60)
    ending = asyncio.get_running_loop().create_task(rig.ended(rig.pipeline.serve(exchange, sink)))
    await asyncio.sleep(0.2)
    assert (sink.patient, sink.started) == (patient, False)
    assert await rig.app.store.replace(name, running, None, 0)
    async with asyncio.timeout(5.0):
        await ending
    assert (sink.patient, sink.finished, rig.rows[0]["outcome"]) == (patient, True, "ok")
    assert await held(rig, name) is not None
    await rig.close()
