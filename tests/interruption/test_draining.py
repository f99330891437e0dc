"""The sweep where a client that leaves does not end the answer: it is read on, and settled once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gateway.calls.drain import Drains
from gateway.exchange import Exchange
from gateway.interrupt import Reason
from gateway.pipeline import Pipeline
from gateway.stage import Stage
from tests.fakes.answers import chat_body, chat_stream, error_answer, json_answer, stream
from tests.fakes.upstream import Upstream, send, wait
from tests.interruption import rig as rigs
from tests.interruption.rig import BODIES, NEVER, SIMULATED, Rig, by_kind, by_reason, stepped
from tests.interruption.sink import MemorySink
from tests.interruption.test_failing import FAILING, SLOW, allow

by_leaving = pytest.mark.parametrize("reason", [Reason.CLIENT_GONE, None], ids=["client_gone", "cancelled"])
NEVER_OPEN = {"failures": 10**6, "min_requests": 10**6}


@pytest.fixture(autouse=True)
def _reads_on() -> Iterator[None]:
    """The rig's tenant wants the answers of clients that have left."""
    settings = rigs._settings

    def draining(*arguments: Any) -> Any:
        made = settings(*arguments)
        tenant = made.tenants["acme"].model_copy(update={"on_disconnect": "drain"})
        return made.model_copy(update={"tenants": {"acme": tenant}})

    with mock.patch.object(rigs, "_settings", draining):
        yield


async def settled(rig: Rig) -> None:
    """Returns when nothing is read on any more, and what was is written down."""
    async with asyncio.timeout(5):
        while rig.app.dispatch.drains.running or rig.app.admission.controller.open:
            await asyncio.sleep(0.001)
    for _ in range(6):
        await asyncio.sleep(0)


async def interrupted(rig: Rig, kind: str, reason: Reason | None, at: int) -> tuple[MemorySink, bool]:
    """One exchange, stopped at its ``at``-th suspension: its client, and whether it was read on."""
    exchange, sink = rig.exchange(BODIES[kind]), MemorySink()
    await rig.interrupted(exchange, sink, reason, at)
    kept = exchange.drain is not None and exchange.drain.kept
    await settled(rig)
    rig.check()
    for row in rig.rows:
        told_all = sink.finished and b"error" not in sink.sent[-1]
        assert (row["outcome"] == "ok") == told_all
        assert not kept or row["outcome"] == "client_gone"
    assert not kept or (reason is Reason.CLIENT_GONE and len(rig.rows) == 1)
    return sink, kept


def watch_loop() -> list[dict[str, Any]]:
    """What the loop is told that nobody else hears."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    return heard


@by_kind
@by_reason
async def test_interrupted_at_every_await(tmp_path: Path, kind: str, reason: Reason | None) -> None:
    """Whoever leaves once a provider was asked is charged what the whole answer costs, to the token."""
    heard = watch_loop()
    rig = Rig(tmp_path, SIMULATED)
    await interrupted(rig, kind, None, NEVER)
    (whole,) = rig.rows[:]
    assert rig.taken > 15
    read_on = 0
    for at in range(1, rig.taken + 1):
        sink, kept = await interrupted(rig, kind, reason, at)
        read_on += kept
        assert rig.transport.open_calls == 0
        if kept:
            (row,) = rig.rows
            assert row["usage"] == whole["usage"]
            assert row["charged_usd"] == whole["charged_usd"]
            assert not sink.finished
    assert bool(read_on) == (reason is Reason.CLIENT_GONE)
    gc.collect()
    assert heard == []
    await rig.close()


@pytest.mark.parametrize("engine", ["native", "httpx"])
@by_kind
@by_leaving
async def test_interrupted_before_a_real_socket(
    tmp_path: Path, kind: str, reason: Reason | None, engine: str
) -> None:
    heard = watch_loop()
    steps = stream(chat_stream("abc"), size=200, pause_s=0.0005)
    if kind == "buffered":
        steps = [send(json_answer(chat_body("abc")), size=200, pause_s=0.0005)]
    async with Upstream() as upstream:
        rig = Rig(tmp_path, {"kind": "openai", "base_url": upstream.url, "transport": engine})
        read_on = 0
        for at in rig.sweep():
            upstream.next(*steps)
            _, kept = await interrupted(rig, kind, reason, at)
            upstream.forget()
            if kept and rig.rows[0]["attempts"]:
                read_on += 1
                (row,) = rig.rows
                assert (row["cost_source"], row["usage"]["output_tokens"]) == ("provider", 7)
        assert at > 12
        assert bool(read_on) == (reason is Reason.CLIENT_GONE)
        await rig.close()
        async with asyncio.timeout(5):
            for connection in upstream.connections:
                await connection.gone.wait()
    gc.collect()
    assert heard == []


async def left_beside(rig: Rig, kind: str, reason: Reason | None, at: int) -> bool:
    """As ``interrupted``, at the ``at``-th suspension of the task that reads the answer: whether it was
    read on."""
    rig.forget()
    exchange, sink = rig.exchange(BODIES[kind]), MemorySink()
    count = [0]
    drains = rig.app.dispatch.drains
    spawn = rig.tasks.spawn
    stop = rig.stopping(exchange, sink, reason)

    def stepping(work: Any, name: str) -> asyncio.Task[None]:
        nonlocal count
        slow, count = stepped(work, at, stop)

        async def run() -> None:
            await slow

        return spawn(run(), name)

    drains.spawn = stepping
    await rig.ended(rig.pipeline.serve(exchange, sink))
    kept = exchange.drain is not None and exchange.drain.kept
    await settled(rig)
    rig.check()
    assert not kept or [row["outcome"] for row in rig.rows] == ["client_gone"]
    rig.taken = count[0]
    return kept


@by_kind
@by_reason
async def test_interrupted_at_every_await_of_the_reading(
    tmp_path: Path, kind: str, reason: Reason | None
) -> None:
    """From before the call begins until after its last frame."""
    heard = watch_loop()
    rig = Rig(tmp_path, SIMULATED)
    await interrupted(rig, kind, None, NEVER)
    (whole,) = rig.rows[:]
    read_on = 0
    for at in rig.sweep():
        kept = await left_beside(rig, kind, reason, at)
        read_on += kept
        assert len(rig.rows) == 1
        assert rig.transport.open_calls == 0
        if kept:
            assert rig.rows[0]["usage"] == whole["usage"]
            assert rig.rows[0]["charged_usd"] == whole["charged_usd"]
    assert at > (4 if kind == "stream" else 2)
    assert bool(read_on) == (reason is Reason.CLIENT_GONE)
    gc.collect()
    assert heard == []
    await rig.close()


@by_kind
async def test_client_gone_at_every_send(tmp_path: Path, kind: str) -> None:
    rig = Rig(tmp_path, SIMULATED)
    for at in range(1, 8):
        sends = await rig.left_at_send(kind, at)
        await settled(rig)
        rig.check()
        assert len(rig.rows) == 1
        assert rig.rows[0]["outcome"] == ("client_gone" if sends >= at else "ok")
        assert rig.transport.open_calls == 0
    await rig.close()


@by_kind
@by_leaving
async def test_interrupted_at_every_await_of_retries(
    tmp_path: Path, kind: str, reason: Reason | None
) -> None:
    """Nobody else is asked for who has left; one attempt that was about to begin may still be made."""
    heard = watch_loop()
    retry = {"attempts": 3, "backoff_s": "0.0001", "budget": "1"}
    rig = Rig(tmp_path, FAILING, retry=retry, strategy="ordered", breaker=NEVER_OPEN)
    for at in rig.sweep():
        allow(rig.group.budget)
        await interrupted(rig, kind, reason, at)
        assert [one.health.in_flight for one in rig.group.deployments] == [0, 0]
    gc.collect()
    assert heard == []
    await rig.close()


@by_kind
@by_leaving
async def test_interrupted_at_every_await_of_a_hedge(
    tmp_path: Path, kind: str, reason: Reason | None
) -> None:
    heard = watch_loop()
    rig = Rig(tmp_path, SLOW, hedge={"share": "0.5"}, strategy="ordered")
    first = rig.group.deployments[0].health.latency
    for at in rig.sweep():
        for _ in range(200):
            first.observe(0.0, 0.0005)
        allow(rig.group.hedges)
        _, kept = await interrupted(rig, kind, reason, at)
        assert rig.transport.open_calls == 0
        assert [one.health.in_flight for one in rig.group.deployments] == [0, 0]
        if kept and rig.rows[0]["attempts"]:
            assert Decimal(rig.rows[0]["charged_usd"]) > 0
    assert at > 10
    gc.collect()
    assert heard == []
    await rig.close()


@by_kind
async def test_interrupted_where_there_is_no_room(tmp_path: Path, kind: str) -> None:
    """All the places of those who have left are taken: this one ends at once."""
    rig = Rig(tmp_path, SIMULATED)
    rig.app.dispatch.drains = Drains(rig.tasks.spawn, most=0)
    await interrupted(rig, kind, None, NEVER)
    for at in range(1, rig.taken + 1):
        _, kept = await interrupted(rig, kind, Reason.CLIENT_GONE, at)
        assert not kept
        assert rig.transport.open_calls == 0
    await rig.close()


@by_kind
async def test_interrupted_where_time_is_short(tmp_path: Path, kind: str) -> None:
    """The provider says nothing for longer than anybody reads on: it is left, and estimated."""
    steps = [wait(0.3), send(error_answer("500 Late"))]
    async with Upstream() as upstream:
        rig = Rig(tmp_path, {"kind": "openai", "base_url": upstream.url})
        rig.app.dispatch.drains = Drains(rig.tasks.spawn, longest_s=0.02)
        at, kept = 0, False
        while not (kept and rig.rows[0]["attempts"]):
            at += 1
            upstream.next(*steps)
            async with asyncio.timeout(3):
                _, kept = await interrupted(rig, kind, Reason.CLIENT_GONE, at)
            upstream.forget()
            assert rig.taken >= at
        assert rig.rows[0]["cost_source"] == "estimated"
        await rig.close()


class _Broken(Stage):
    async def enter(self) -> None:
        raise RuntimeError("a fault of ours")


class _Breaking:
    def begin(self, exchange: Exchange) -> Stage:
        return _Broken()


@by_kind
async def test_a_fault_behind_the_limits_gives_all_back(tmp_path: Path, kind: str) -> None:
    """The rig's tenant has one place: it is there for the next one."""
    rig = Rig(tmp_path, SIMULATED)
    whole = rig.pipeline
    broken = (*rig.app.chain(), _Breaking())
    for _ in range(3):
        exchange, sink = rig.exchange(BODIES[kind]), MemorySink()
        failed: list[str] = []
        rig.pipeline = Pipeline(broken, rig.app.dispatch, lambda event, *_: failed.append(event))  # noqa: B023
        await rig.ended(rig.pipeline.serve(exchange, sink))
        assert (failed, b"internal_error" in sink.sent[-1]) == (["internal_error"], True)
        assert rig.app.admission.controller.open == 0
    rig.pipeline = whole
    await interrupted(rig, kind, None, NEVER)
    assert [row["outcome"] for row in rig.rows] == ["ok"]
    await rig.close()
