"""What one process finds out about a deployment, the others know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from gateway.routing.breaker import BreakerPolicy
from gateway.routing.health import Health, Learned
from gateway.routing.peers import Peers
from gateway.storage.memory import Memory, MemoryState

POLICY = BreakerPolicy(failures=2, open_s=30.0)


class Process:
    def __init__(self, writer: str, state: MemoryState) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.told: list[tuple[str, str]] = []
        self.learned = Learned(self._changed)
        self.peers = Peers(Memory(writer, state), self.learned.all, self._spawn)
        self.health: Health = self.learned.health("gpt-a", "openai", "gpt", POLICY)

    def _changed(self, deployment: str, state: Any) -> None:
        self.told.append((deployment, state))
        self.peers.changed(deployment, state)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks.add(asyncio.get_running_loop().create_task(work))

    def fail(self) -> None:
        for _ in range(POLICY.failures):
            self.health.failed(time.monotonic(), may_open=True)

    def succeed(self) -> None:
        for _ in range(3):
            self.health.breaker.succeeded(time.monotonic())


async def _delivered() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_opening_is_known_to_all_with_its_time() -> None:
    state = MemoryState()
    one, other = Process("w1", state), Process("w2", state)
    one.fail()
    await _delivered()
    assert (one.health.breaker.state(), other.health.breaker.state()) == ("open", "open")
    apart_s = abs(one.health.breaker.open_until_s - other.health.breaker.open_until_s)
    assert apart_s < 0.5
    assert other.told == [("gpt-a", "open")], "heard news are not told on"
    assert not other.tasks


async def test_a_closing_is_known_to_all() -> None:
    state = MemoryState()
    one, other = Process("w1", state), Process("w2", state)
    one.fail()
    await _delivered()
    later_s = one.health.breaker.open_until_s + 1
    assert one.health.breaker.admit(later_s)
    one.succeed()
    await _delivered()
    assert (one.health.breaker.state(), other.health.breaker.state()) == ("closed", "closed")


async def test_half_open_is_every_process_own() -> None:
    state = MemoryState()
    one, other = Process("w1", state), Process("w2", state)
    one.fail()
    await _delivered()
    assert one.health.breaker.admit(one.health.breaker.open_until_s + 1)
    await _delivered()
    assert (one.health.breaker.state(), other.health.breaker.state()) == ("half-open", "open")


async def test_who_comes_later_is_told() -> None:
    state = MemoryState()
    one = Process("w1", state)
    one.fail()
    await _delivered()
    late = Process("w2", state)
    assert late.health.breaker.state() == "closed"
    await late.peers.catch_up()
    assert late.health.breaker.state() == "open"


async def test_news_of_unknown_deployments_and_of_the_past_are_passed_over() -> None:
    state = MemoryState()
    one, other = Process("w1", state), Process("w2", state)
    other.learned.retain({})
    one.fail()
    await _delivered()
    late = Process("w3", state)
    old = await Memory("x", state).fields("breakers")
    news = old["gpt-a"].replace(b'"until":', b'"until":1.0,"then":')
    await Memory("x", state).put_fields("breakers", {"gpt-a": news}, 60)
    await late.peers.catch_up()
    assert late.health.breaker.state() == "closed"
