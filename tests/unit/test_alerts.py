"""Each threshold of a budget is told once in a period, by one of the fleet, and never for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any
from unittest import mock

import pytest

from gateway.admission.alerts import Alert, Alerts
from gateway.admission.terms import Allowance, Budget, Terms
from gateway.storage.interface import Fund, FundState, Spent, StoreLost
from gateway.storage.memory import Memory, MemoryState
from gateway.telemetry import webhook
from tests.fakes.answers import json_answer
from tests.fakes.upstream import Step, Upstream, fin, hang, reset, send

LIMIT = 1000
TERMS = Terms(
    "acme",
    own=Allowance(budget=Budget(LIMIT, "day", (0.5, 0.8, 1.0))),
    features={"search": Allowance(budget=Budget(LIMIT, "total", (0.1,)))},
    each_user=Allowance(budget=Budget(LIMIT, "month", (1.0,))),
)
DAY = Fund("t.day", LIMIT, 0, 86_400)


class Shared(Memory):
    shared = True


class Away(Shared):
    async def put_new(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        raise StoreLost("away")


class Process:
    def __init__(self, store: Memory) -> None:
        self.told: list[Alert] = []
        self.alerts = Alerts(store, {"acme": TERMS}.get, self._spawn, self.told.append)
        self._tasks: set[asyncio.Task[None]] = set()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def spends(self, total: int, fund: Fund = DAY, tenant: str = "acme") -> list[float]:
        """The shares that were told on the way to ``total``."""
        before = len(self.told)
        self.alerts.spent(tenant, Spent(fund, total), FundState(total, total))
        await asyncio.gather(*self._tasks)
        return [alert.share for alert in self.told[before:]]


async def test_each_threshold_once() -> None:
    process = Process(Memory("w1"))
    seen = [await process.spends(total) for total in (499, 500, 501, 799, 801, 900, 1000, 5000)]
    assert seen == [[], [0.5], [], [], [0.8], [], [1.0], []]
    first = process.told[0]
    assert (first.tenant, first.scope, first.fund, first.spent_nanousd) == ("acme", "t", DAY, 500)


async def test_all_that_one_answer_crosses() -> None:
    process = Process(Memory("w1"))
    assert await process.spends(LIMIT * 3) == [0.5, 0.8, 1.0]


async def test_a_new_period_tells_anew() -> None:
    process = Process(Memory("w1"))
    assert await process.spends(600) == [0.5]
    assert await process.spends(600, Fund("t.day", LIMIT, 86_400, 2 * 86_400)) == [0.5]


async def test_by_the_scopes_own_thresholds() -> None:
    process = Process(Memory("w1"))
    assert await process.spends(100, Fund("f:search.total", LIMIT, 0, 0)) == [0.1]
    assert await process.spends(999, Fund("u:eve.month", LIMIT, 0, 99)) == []
    assert await process.spends(1000, Fund("u:eve.month", LIMIT, 0, 99)) == [1.0]
    assert await process.spends(1000, Fund("u:a.b.month", LIMIT, 0, 99)) == [1.0]
    assert await process.spends(1000, Fund("k:none.day", LIMIT, 0, 99)) == []
    assert await process.spends(1000, DAY, tenant="gone") == []
    assert [alert.scope for alert in process.told] == ["f:search", "u:eve", "u:a.b"]


async def test_one_of_the_fleet_tells() -> None:
    state = MemoryState()
    fleet = [Process(Shared(f"w{index}", state)) for index in range(4)]
    told = await asyncio.gather(*(process.spends(850) for process in fleet))
    assert sorted(share for shares in told for share in shares) == [0.5, 0.8]
    late = Process(Shared("w9", state))
    assert await late.spends(860) == []


async def test_twice_is_better_than_never() -> None:
    process = Process(Away("w1", MemoryState()))
    assert await process.spends(600) == [0.5]
    assert await process.spends(700) == [], "but this process knows what it has told"


async def test_a_restart_tells_nothing_again() -> None:
    """Where no store remembers, the ledger says what must have been told."""
    process = Process(Memory("w1"))
    process.alerts.began_with("acme", DAY, 700)
    assert await process.spends(750) == []
    assert await process.spends(800) == [0.8]


async def test_with_a_shared_store_the_mark_decides() -> None:
    """Whoever died may have spent and not told."""
    state = MemoryState()
    process = Process(Shared("w1", state))
    process.alerts.began_with("acme", DAY, 700)
    assert await process.spends(750) == [0.5]


async def test_marks_last_beyond_the_period() -> None:
    clock_us = 0
    state = MemoryState(lambda: clock_us)
    assert await Process(Shared("w1", state)).spends(600) == [0.5]
    clock_us = 2 * 86_400 * 10**6
    assert await Process(Shared("w2", state)).spends(600) == []
    total = Fund("t.total", LIMIT, 0, 0)
    assert await Process(Shared("w1", state)).spends(600, total) == [0.5]
    clock_us = 4000 * 86_400 * 10**6
    assert await Process(Shared("w2", state)).spends(600, total) == []


@pytest.fixture
def hurried() -> Iterator[None]:
    with (
        mock.patch.object(webhook, "PAUSES_S", (0.01, 0.01)),
        mock.patch.object(webhook, "TIMEOUT_S", 0.1),
    ):
        yield


async def posted(url: str) -> list[str]:
    """Why it was given up."""
    failed: list[str] = []
    await webhook.post(url, {"event": "budget_alert", "spent_usd": "0.500000000"}, failed.append)
    return failed


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "refusals",
    [
        [],
        [send(json_answer({}, status="503 Busy"))],
        [reset(), send(json_answer({}, status="302 Elsewhere"))],
        [hang(), fin()],
    ],
    ids=["at-once", "busy", "reset-and-moved", "silent-and-closed"],
)
async def test_a_hook_is_tried_until_it_takes_it(refusals: list[Step]) -> None:
    async with Upstream() as hook:
        for step in refusals:
            hook.next(step)
        hook.next(send(json_answer({}, status="204 Taken")))
        assert await posted(f"{hook.url}/hook") == []
        assert len(hook.seen) == len(refusals) + 1
        for seen in hook.seen:
            assert (seen.method, seen.path) == ("POST", "/hook")
            assert dict(seen.headers)["content-type"] == "application/json"
            assert seen.json() == {"event": "budget_alert", "spent_usd": "0.500000000"}


@pytest.mark.usefixtures("hurried")
async def test_a_hook_is_given_up_with_a_reason() -> None:
    async with Upstream() as hook:
        for _ in range(3):
            hook.next(send(json_answer({}, status="500 Oops")))
        assert await posted(hook.url) == ["status 500"]
        assert len(hook.seen) == 3
        for _ in range(3):
            hook.next(hang())
        assert await posted(hook.url) == ["ReadTimeout"]
    assert await posted(hook.url) == ["ConnectError"]
