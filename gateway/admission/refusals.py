"""What a client is told when it may not begin."""

from __future__ import annotations

from gateway.admission.terms import Bound, Scope
from gateway.errors import GatewayError, LimitExceeded, Unavailable
from gateway.storage.interface import Ask, Verdict

NEVER_RETURNS_S = 86_400
"""What ``retry-after`` says of a budget without a period."""


def refusal(bound: Bound, ask: Ask, verdict: Verdict) -> tuple[GatewayError, str]:
    """The error, and the limit's name for metrics."""
    if verdict.decision == "rate":
        return _rate(bound.rate_scopes[verdict.index], ask, verdict)
    if verdict.decision == "slot":
        return _slot(bound.slot_scopes[verdict.index], ask, verdict)
    return _budget(bound.fund_scopes[verdict.index], ask, verdict)


def store_away(detail: str | None) -> Unavailable:
    """For what is not let through while the store cannot be asked."""
    return Unavailable(
        "Limits and budgets cannot be checked at the moment.",
        code="storage_unavailable",
        retry_after_s=1,
        detail=detail,
    )


def _named(scope: Scope, limit: str) -> str:
    return limit if scope.kind == "tenant" else f"{scope.kind}_{limit}"


def _rate(scope: Scope, ask: Ask, verdict: Verdict) -> tuple[GatewayError, str]:
    claim = ask.rates[verdict.index]
    limit, unit = ("rpm", "requests") if claim.counter.endswith(".rpm") else ("tpm", "tokens")
    bound = f"The limit of {claim.limit} {unit} a minute of this {scope.shown}"
    if verdict.wait_us <= 0:
        error = LimitExceeded(
            f"{bound} is less than the {claim.cost} that this request may use;"
            " shorten it or name a smaller max_tokens.",
            retryable=False,
        )
    else:
        error = LimitExceeded(f"{bound} is reached.", retry_after_s=_seconds(verdict.wait_us))
    return error, _named(scope, limit)


def _slot(scope: Scope, ask: Ask, verdict: Verdict) -> tuple[GatewayError, str]:
    limit = ask.slots[verdict.index].limit
    text = f"This {scope.shown} has {limit} requests running, and may not have more at a time."
    return LimitExceeded(text, code="concurrency_exceeded", retry_after_s=1), _named(scope, "concurrency")


def _budget(scope: Scope, ask: Ask, verdict: Verdict) -> tuple[GatewayError, str]:
    fund = ask.funds[verdict.index].fund
    name = _named(scope, "budget")
    if verdict.decision == "reserved":
        text = f"All that is left of the budget of this {scope.shown} is reserved by running requests."
        return LimitExceeded(text, code="budget_exceeded", retry_after_s=1), name
    left_s = fund.end_s - verdict.time_us // 1_000_000 if fund.end_s else NEVER_RETURNS_S
    text = f"What is left of the budget of this {scope.shown} is less than this request may cost."
    error = LimitExceeded(text, code="budget_exceeded", retryable=False, retry_after_s=max(int(left_s), 1))
    return error, name


def _seconds(us: int) -> int:
    return max(-(-us // 1_000_000), 1)
