"""Waits, stops and the budget of retries."""

from __future__ import annotations

import pytest

from gateway.routing.latency import Latency
from gateway.routing.retry import Backoff, RetryBudget, RetryPolicy
from gateway.routing.window import Window


def test_waits_grow_with_full_jitter() -> None:
    policy = RetryPolicy(attempts=10, backoff_s=0.5, backoff_max_s=2)
    for calls, most in [(1, 0.5), (2, 1.0), (3, 2.0), (4, 2.0)]:
        waits = [Backoff(policy).wait_s(calls, None, 100) or 0.0 for _ in range(200)]
        assert min(waits) >= 0 and max(waits) <= most
        assert max(waits) > most / 2


def test_attempts_are_the_whole_requests() -> None:
    assert Backoff(RetryPolicy(attempts=3)).wait_s(2, None, 100) is not None
    assert Backoff(RetryPolicy(attempts=3)).wait_s(3, None, 100) is None


@pytest.mark.parametrize(("hint_s", "left_s", "wait_s"), [(2, 100, 2), (2, 1.5, None), (3600, 9999, None)])
def test_hints_are_honoured_within_reason(hint_s: float, left_s: float, wait_s: float | None) -> None:
    assert Backoff(RetryPolicy()).wait_s(1, hint_s, left_s) == wait_s


def test_the_budget_is_a_share_with_a_floor() -> None:
    budget = RetryBudget(0.1)
    assert [budget.take(0) for _ in range(5)] == [True, True, True, False, False]
    for _ in range(100):
        budget.request(1)
    assert [budget.take(1) for _ in range(9)] == [True] * 7 + [False] * 2
    assert budget.take(12)


def test_a_window_forgets() -> None:
    window = Window(10)
    window.add(0.5, first=1, second=2)
    window.add(9.5, first=1)
    assert window.totals(9.9) == (2, 2)
    assert window.totals(10.5) == (1, 0)
    assert window.totals(1e6) == (0, 0)


def test_a_slow_answer_counts_at_once_and_fades() -> None:
    latency = Latency()
    assert not latency.known and latency.estimate_s(5) == 0
    latency.observe(10, 0.2)
    latency.observe(11, 5.0)
    assert latency.estimate_s(11) == 5.0
    latency.observe(12, 0.2)
    assert 4.5 < latency.estimate_s(12) < 5.0
    assert latency.estimate_s(300) < 0.01


def test_quantiles_need_enough_answers() -> None:
    latency = Latency()
    for number in range(19):
        latency.observe(number, number / 100)
    assert latency.quantile_s(0.95) is None
    latency.observe(20, 1.0)
    assert latency.quantile_s(0.95) == 1.0
    assert latency.quantile_s(0.5) == 0.1
