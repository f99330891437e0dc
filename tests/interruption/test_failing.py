"""The sweep where a request makes several calls: hedges, and second attempts after failures."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.interrupt import Reason
from gateway.routing.retry import RetryBudget
from tests.interruption.rig import NEVER, Rig, by_kind, by_reason, interrupted

SLOW = {"kind": "simulated", "simulate": {"latency_s": "0.003", "chunk_s": "0.0001", "words": "3"}}
FAILING = {"kind": "simulated", "simulate": {"latency_s": "0.0001", "fail": "error_500"}}


def calls(rig: Rig) -> list[Any]:
    return [attempt for row in rig.rows for attempt in row["attempts"]]


def allow(budget: RetryBudget | None) -> None:
    assert budget is not None
    for _ in range(4):
        budget.request(time.monotonic())


def idle(rig: Rig) -> None:
    assert rig.transport.open_calls == 0
    assert [one.health.in_flight for one in rig.group.deployments] == [0, 0]


@by_kind
@by_reason
async def test_interrupted_at_every_await_of_a_hedge(
    tmp_path: Path, kind: str, reason: Reason | None
) -> None:
    rig = Rig(tmp_path, SLOW, hedge={"share": "0.5"}, strategy="ordered")
    first = rig.group.deployments[0].health.latency
    hedged = 0
    for at in rig.sweep():
        for _ in range(200):
            first.observe(0.0, 0.0005)
        allow(rig.group.hedges)
        await interrupted(rig, kind, reason, at)
        hedged += len(calls(rig)) == 2
        idle(rig)
    assert at > 15
    assert hedged > 2
    await rig.close()


@by_kind
async def test_only_the_winner_is_charged(tmp_path: Path, kind: str) -> None:
    rig = Rig(tmp_path, SLOW, hedge={"share": "0.5"}, strategy="ordered")
    for _ in range(200):
        rig.group.deployments[0].health.latency.observe(0.0, 0.0005)
    await interrupted(rig, kind, None, NEVER)
    (row,) = rig.rows
    assert row["outcome"] == "ok"
    assert len(row["attempts"]) == 2
    assert 0 < Decimal(row["charged_usd"]) < Decimal(row["cost_usd"])
    idle(rig)
    await rig.close()


@pytest.mark.parametrize("attempts", [1, 2, 3])
@by_kind
@by_reason
async def test_interrupted_at_every_await_of_retries(
    tmp_path: Path, kind: str, reason: Reason | None, attempts: int
) -> None:
    retry = {"attempts": attempts, "backoff_s": "0.0001", "budget": "1"}
    rig = Rig(tmp_path, FAILING, retry=retry, strategy="ordered", breaker={"failures": 10**6})
    most = 0
    for at in rig.sweep():
        allow(rig.group.budget)
        await interrupted(rig, kind, reason, at)
        most = max(most, len(calls(rig)))
        idle(rig)
    assert most == attempts
    await rig.close()
