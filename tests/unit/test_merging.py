"""The metrics of several processes as one exposition."""

from __future__ import annotations

import re

import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.telemetry.merging import Merging, Row
from gateway.telemetry.metrics import Metrics
from tests.e2e.rig import samples


def told(metrics: Metrics) -> list[Row]:
    """As it comes from another process."""
    rows: list[Row] = orjson.loads(orjson.dumps(metrics.rows()))
    return rows


def counted(requests: int, seconds: float, nanousd: int, in_flight: int = 0, breaker: int = 0) -> Metrics:
    metrics = Metrics(CollectorRegistry())
    metrics.ended("acme", "chat", "chat", "ok", "ok").inc(requests)
    metrics.overhead.child("chat").observe(seconds)
    metrics.cost.child("acme", "", "chat", "fake", "provider").inc(nanousd)
    metrics.in_flight.set(in_flight)
    metrics.breaker_state.child("chat-1").set(breaker)
    metrics.retain(["acme"], ["chat"], ["chat-1"])
    return metrics


def merged(*parts: list[Row], dead: list[list[Row]] | None = None) -> dict[str, float]:
    merging = Merging()
    for rows in parts:
        merging.add(rows)
    for rows in dead or []:
        merging.add(rows, gauges=False)
    found = samples(merging.render().decode())
    return {name: sum(value for _, value in values) for name, values in found.items()}


def steady(text: str) -> list[str]:
    """Without what changes from moment to moment; in the order of names."""
    moving = re.compile(r"(process|python)_")
    return sorted(line for line in text.splitlines() if not moving.match(line.removeprefix("# HELP ")))


def test_of_one_process_nothing_changes() -> None:
    metrics = counted(3, 0.5, 10**9 + 1, 2, 1)
    merging = Merging()
    merging.add(told(metrics))
    assert steady(merging.render().decode()) == steady(metrics.render().decode())
    shown = samples(merging.render().decode())
    for name in ("process_cpu_seconds_total", "python_gc_collections_total", "python_info"):
        assert [labels for labels, _ in shown[name]] == [
            labels for labels, _ in samples(metrics.render().decode())[name]
        ]


def test_counts_are_added_and_of_states_the_worst_holds() -> None:
    found = merged(told(counted(3, 0.0002, 1, 2, 2)), told(counted(4, 0.04, 10**18 + 1, 5, 1)))
    assert found["gateway_requests_total"] == 7
    assert found["gateway_overhead_seconds_count"] == 2
    assert found["gateway_overhead_seconds_sum"] == pytest.approx(0.0402)
    assert found["gateway_cost_usd_total"] == (10**18 + 2) / 10**9
    assert found["gateway_in_flight_requests"] == 7
    assert found["gateway_breaker_state"] == 2


def test_of_the_dead_only_the_counters_count() -> None:
    found = merged(told(counted(3, 0.1, 5)), dead=[told(counted(4, 0.1, 5, 9, 2))])
    assert found["gateway_requests_total"] == 7 and found["gateway_overhead_seconds_count"] == 2
    assert found["gateway_in_flight_requests"] == 0 and found["gateway_breaker_state"] == 0


def test_rows_of_a_sum_can_be_added_again() -> None:
    first = Merging()
    first.add(told(counted(3, 0.1, 5)))
    first.add(told(counted(4, 0.2, 6)))
    assert merged(orjson.loads(orjson.dumps(first.rows()))) == merged(first.rows())


def test_what_is_not_configured_any_more_is_not_shown() -> None:
    gone, now = counted(3, 0.1, 5), counted(4, 0.1, 5)
    now.retain(["other"], ["chat"], ["chat-1"])
    merging = Merging()
    merging.add(told(gone))
    merging.add(told(now))
    text = merging.render(now.keeps).decode()
    assert 'tenant="acme"' not in text and 'deployment="chat-1"' in text


def test_another_version_that_counts_otherwise_is_left_out() -> None:
    rows = told(counted(3, 0.1, 5))
    for row in rows:
        if row[0] == "gateway_overhead_seconds":
            row[4] = [1.0, 2.0]
            row[5] = [[["chat"], [[1, 1, 1], 3.0]]]
    assert merged(told(counted(3, 0.1, 5)), rows)["gateway_overhead_seconds_count"] == 1
