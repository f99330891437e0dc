"""More than can be carried: what does not fit is refused soon, and what is slow holds up nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import orjson
import pytest
import pytest_asyncio

from gateway.control.concurrency import LEAST, QUEUE
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, group
from tests.e2e.routes import Providers, gauge, pool, routing, said, tried, whole
from tests.fakes.client import Answer, request
from tests.fakes.upstream import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENTS, LOAD_S = 700, 3.0
PLACES, BEYOND = 5, 20
HELD, CROWD = 2 * LEAST, QUEUE + 20
STOPPED_S, GOING_S = 0.2, 0.03
"""The gateway's timers, due every 0.1 s, are late by more than 0.05 s each time."""
SLOW_ROUNDS = 10
"""More than it takes until the gateway knows that it is too slow."""
LONG_PROMPT = orjson.dumps({"model": "chat", "messages": [{"role": "user", "content": "x"}] * 1000})
"""A millisecond's work: enough clients that send this keep the gateway busy, and the test less so."""

Timed = tuple[Answer, float]


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Providers]:
    async with Providers() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(tmp_path: Path, upstream: Providers) -> AsyncIterator[Gateway]:
    slow = {"kind": "openai", "base_url": f"{upstream.url}/v1", "max_connections": PLACES}
    patient = {"connect_s": 2, "first_event_s": 20, "total_s": 30}
    changes = routing(
        upstream,
        {
            "slow": pool("slow", timeouts=patient),
            "helped": pool("slow", "b", timeouts=patient),
            "quick": pool("b"),
            "held": pool("a", timeouts=patient),
        },
    )
    changes["providers"] |= {
        "slow": slow,
        "simulated": {"kind": "simulated", "simulate": {"latency_s": 0.2}},
    }
    changes["models"]["chat"] = group("simulated")
    running = Gateway(tmp_path, upstream, changes)
    await running.start()
    yield running
    assert await gauge(running, "gateway_in_flight_requests") == 0
    assert await running.stop() == 0


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test has a gateway of its own."""


async def timed(gateway: Gateway, body: Any) -> Timed:
    began_s = time.monotonic()
    async with gateway.client(30.0) as client:
        await client.send(request(CHAT, body, key=gateway.key))
        return await client.read(), time.monotonic() - began_s


def asking(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "x"}]}


class Slowed:
    """``rounds``: how often the process has been stopped and let go on."""

    def __init__(self, pid: int) -> None:
        self.rounds = 0
        self._pid = pid
        self._over = Event()
        self._thread = Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            os.kill(self._pid, signal.SIGSTOP)
            time.sleep(STOPPED_S)
            os.kill(self._pid, signal.SIGCONT)
            time.sleep(GOING_S)
            self.rounds += 1

    async def after(self, rounds: int) -> None:
        """Returns when there have been so many rounds."""
        async with asyncio.timeout(20.0):
            while self.rounds < rounds:
                await asyncio.sleep(0.01)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


@contextmanager
def slowed(gateway: Gateway) -> Iterator[Slowed]:
    """The gateway has the processor for a short time every now and then, on however fast a machine."""
    slow = Slowed(gateway.pid)
    slow.start()
    try:
        yield slow
    finally:
        slow.stop()


async def test_more_than_a_slow_gateway_carries_is_refused(gateway: Gateway, upstream: Providers) -> None:
    """It takes no more than it has; who comes then waits for a second, or not where many wait already."""
    healed = asyncio.Event()
    upstream.always("held-1", wait_for(healed), *whole(False))
    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(timed(gateway, asking("held"))) for _ in range(HELD)]
        async with asyncio.timeout(10.0):
            while upstream.calls("held-1") < HELD:
                await asyncio.sleep(0.01)
        with slowed(gateway) as slow:
            await slow.after(SLOW_ROUNDS)
            refused = await asyncio.gather(*(timed(gateway, asking("chat")) for _ in range(CROWD)))
        for answer, took_s in refused:
            assert_refused(answer, 503, "overloaded")
            assert took_s < 4.0
        async with asyncio.timeout(10.0):  # on time again, it takes more beside those that it has
            while (await timed(gateway, asking("chat")))[0].status != 200:
                await asyncio.sleep(0.1)
        assert not any(task.done() for task in held)
        assert upstream.calls("held-1") == HELD
        healed.set()
    assert [said(task.result()[0]) for task in held] == ["fine"] * HELD


async def test_a_crowd_is_answered_or_refused_soon(gateway: Gateway) -> None:
    """As much as this process can send; the times allow for the test's own work."""
    until_s = time.monotonic() + LOAD_S
    seen: list[Timed] = []

    async def one() -> None:
        while time.monotonic() < until_s:
            answer, took_s = await timed(gateway, LONG_PROMPT)
            seen.append((answer, took_s))
            if answer.status == 503:
                await asyncio.sleep(int(answer.header("retry-after") or 0))

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(one())
    refused = [(answer, took_s) for answer, took_s in seen if answer.status != 200]
    assert len(seen) - len(refused) >= CLIENTS / 2
    for answer, took_s in refused:
        assert_refused(answer, 503, "overloaded")
        assert took_s < 4.0
    answer, took_s = await timed(gateway, asking("chat"))
    assert answer.status == 200 and took_s < 2.0


async def test_a_provider_that_hangs_holds_up_nobody_else(gateway: Gateway, upstream: Providers) -> None:
    healed = asyncio.Event()
    for name in ("slow-1", "helped-1"):
        upstream.always(name, wait_for(healed), *whole(False))
    for name in ("quick-1", "helped-2"):
        upstream.always(name, *whole(False))

    async def quick() -> float:
        waits_s = []
        for _ in range(40):
            answer, took_s = await timed(gateway, asking("quick"))
            assert said(answer) == "fine"
            waits_s.append(took_s)
        return statistics.median(waits_s)

    alone_s = await quick()
    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(timed(gateway, asking("slow"))) for _ in range(PLACES)]
        async with asyncio.timeout(5.0):
            while upstream.calls("slow-1") < PLACES:
                await asyncio.sleep(0.01)
        beyond = [tasks.create_task(timed(gateway, asking("slow"))) for _ in range(BEYOND)]
        helped = [tasks.create_task(timed(gateway, asking("helped"))) for _ in range(BEYOND)]
        assert await quick() < 5 * alone_s + 0.05
        for task in beyond:
            answer, took_s = await task
            assert_refused(answer, 503, "overloaded")
            assert took_s < 3.0
            assert len(await tried(gateway, answer)) == 1
        for task in helped:
            answer, took_s = await task
            assert said(answer) == "fine"
            assert took_s < 3.0
            assert await tried(gateway, answer) == [("helped-1", "overloaded"), ("helped-2", "ok")]
        assert not any(task.done() for task in held)
        healed.set()
    assert [said(task.result()[0]) for task in held] == ["fine"] * PLACES
    assert upstream.calls("slow-1") == PLACES and upstream.calls("helped-1") == 0
