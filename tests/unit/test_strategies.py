"""The order in which deployments are tried."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from gateway.routing.strategies import STRATEGIES
from tests.unit.routing_rig import REQUEST, Site


def first(strategy: str, site: Site, *deployments: object, seed: int = 1) -> str:
    order = STRATEGIES[strategy](deployments, REQUEST, 100.0, random.Random(seed).random)  # type: ignore[arg-type]
    assert {one.id for one in order} == {one.id for one in deployments}  # type: ignore[attr-defined]
    return order[0].id


def test_weights_are_proportions() -> None:
    site = Site()
    heavy, light = site.deployment("heavy", weight=3), site.deployment("light")
    source = random.Random(7)
    counts = Counter(
        STRATEGIES["weighted"]([heavy, light], REQUEST, 0, source.random)[0].id for _ in range(4000)
    )
    assert counts["heavy"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_ordered_is_as_listed() -> None:
    site = Site()
    assert first("ordered", site, site.deployment("b"), site.deployment("a")) == "b"


def test_the_fastest_and_the_unknown_come_first() -> None:
    site = Site()
    fast, slow, new = site.deployment("fast"), site.deployment("slow"), site.deployment("new")
    fast.health.latency.observe(99, 0.1)
    slow.health.latency.observe(99, 1.0)
    assert first("least_latency", site, slow, fast) == "fast"
    assert first("least_latency", site, slow, fast, new) == "new"
    fast.health.in_flight = 20
    assert first("least_latency", site, slow, fast) == "slow"


def test_failing_fast_is_not_fast() -> None:
    site = Site()
    failing, slow = site.deployment("failing"), site.deployment("slow")
    failing.health.failed(99, may_open=True)
    slow.health.latency.observe(99, 1.0)
    assert first("least_latency", site, failing, slow) == "slow"


def test_the_least_busy_by_weight() -> None:
    site = Site()
    big, small = site.deployment("big", weight=4), site.deployment("small")
    big.health.in_flight, small.health.in_flight = 3, 1
    assert first("least_busy", site, small, big) == "big"
    big.health.in_flight = 5
    assert first("least_busy", site, small, big) == "small"


def test_the_cheapest_and_the_unpriced_last() -> None:
    site = Site()
    dear, cheap = site.deployment("dear", price=9 * 10**9), site.deployment("cheap", price=10**9)
    unknown = site.deployment("unknown", price=None)
    assert first("lowest_cost", site, unknown, dear, cheap) == "cheap"
    assert first("lowest_cost", site, unknown, dear) == "dear"
