"""What a client is told when it may not begin: whose limit it was, and whether and when to try again."""

from __future__ import annotations

import pytest

from gateway.admission.refusals import refusal, store_away
from gateway.admission.terms import Allowance, Bound, Budget, Limits, Terms
from gateway.errors import GatewayError
from gateway.storage.interface import Ask, Decision, FundClaim, RateClaim, Verdict

HOUR_S = 3600
NOW_S = 500_000 * HOUR_S + 1000
EACH = Allowance(Limits(rpm=5, tpm=100, concurrency=3), Budget(10, "hour"))
NAMES = ["tenant", "key", "model", "feature", "user"]
TERMS = Terms("acme", EACH, {"ci": EACH}, {"m": EACH}, {"search": EACH}, EACH)
BOUND = TERMS.bound("ci", "m", "search", "eve")


def refused(
    decision: Decision, index: int, wait_us: int = 0, bound: Bound = BOUND
) -> tuple[GatewayError, str]:
    tokens = [RateClaim(counter, limit, 250) for counter, limit in bound.tokens]
    funds = [FundClaim(fund, 4) for fund in bound.funds(NOW_S)]
    ask = Ask("acme", 1, [*bound.requests, *tokens], bound.slots, funds)
    return refusal(bound, ask, Verdict(decision, NOW_S * 1_000_000, 0, index, wait_us))


@pytest.mark.parametrize("index", range(5))
def test_the_limit_that_was_reached_is_named(index: int) -> None:
    kind = NAMES[index]
    prefix = "" if kind == "tenant" else f"{kind}_"
    for decision, offset, limit, what in (
        ("rate", 0, "rpm", "5 requests a minute"),
        ("rate", 5, "tpm", "100 tokens a minute"),
        ("slot", 0, "concurrency", "3 requests running"),
    ):
        error, name = refused(decision, index + offset, 1)  # type: ignore[arg-type]
        assert name == prefix + limit
        assert kind in error.message and what in error.message
    for decision in ("spent", "reserved"):
        at = index
        error, name = refused(decision, at)  # type: ignore[arg-type]
        assert name == prefix + "budget"
        assert kind in error.message


@pytest.mark.parametrize(("wait_us", "told_s"), [(1, 1), (999_999, 1), (1_000_001, 2), (60_000_000, 60)])
def test_after_the_time_told_it_is_over(wait_us: int, told_s: int) -> None:
    error, _ = refused("rate", 0, wait_us)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert (error.retry_after_s, error.retryable) == (told_s, True)


def test_a_request_larger_than_the_limit_never_fits() -> None:
    error, _ = refused("rate", 5, 0)
    assert (error.status, error.code, error.retryable) == (429, "rate_limit_exceeded", False)
    assert "100 tokens" in error.message and "250" in error.message and "max_tokens" in error.message


def test_a_place_may_come_back_at_any_time() -> None:
    error, _ = refused("slot", 0)
    assert (error.status, error.code) == (429, "concurrency_exceeded")
    assert (error.retry_after_s, error.retryable) == (1, True)


def test_money_that_is_spent_comes_back_with_the_period() -> None:
    error, _ = refused("spent", 0)
    assert (error.status, error.code) == (429, "budget_exceeded")
    assert (error.retry_after_s, error.retryable) == (HOUR_S - 1000, False)


def test_money_that_is_reserved_may_come_back_at_any_time() -> None:
    error, _ = refused("reserved", 0)
    assert (error.code, error.retry_after_s, error.retryable) == ("budget_exceeded", 1, True)


def test_money_without_a_period_never_comes_back() -> None:
    total = Terms("acme", Allowance(budget=Budget(1, "total"))).bound("ci", "m", "", "")
    error, _ = refused("spent", 0, bound=total)
    assert (error.retry_after_s, error.retryable) == (86_400, False)


def test_a_lost_store_is_no_fault_of_the_client() -> None:
    error = store_away("connection refused at 10.0.0.1")
    assert (error.status, error.code) == (503, "storage_unavailable")
    assert (error.retry_after_s, error.retryable) == (1, True)
    assert "10.0.0.1" not in error.message and error.detail == "connection refused at 10.0.0.1"
