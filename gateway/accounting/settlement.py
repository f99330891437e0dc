"""What an exchange leaves behind: its row in the ledger, and what the metrics count."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gateway.accounting.journal import Journal
from gateway.accounting.money import format_usd
from gateway.exchange import Exchange, Outcome
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.calls.call import Bill, Call

_NOTHING = {"input_tokens": 0, "output_tokens": 0, "cached_input_tokens": 0}


class Settlement:
    """Made when the exchange has ended; called by the settler, until it has been written."""

    __slots__ = ("_ended_at_s", "_exchange", "_journal", "_log", "_metrics", "_outcome")

    def __init__(
        self, exchange: Exchange, outcome: Outcome, journal: Journal, log: Log, metrics: Metrics
    ) -> None:
        self._exchange = exchange
        self._outcome = outcome
        self._journal = journal
        self._log = log
        self._metrics = metrics
        self._ended_at_s = time.time()

    def __call__(self) -> None:
        """Raises ``Unavailable`` when the ledger has no room yet: nothing has been counted then."""
        call = self._exchange.call
        bill = None if call is None else call.bill()
        self._journal.append(self._row(call, bill))
        if call is not None and bill is not None:
            self._count(call, bill)

    def _row(self, call: Call | None, bill: Bill | None) -> dict[str, Any]:
        exchange = self._exchange
        assert exchange.key is not None and exchange.route is not None
        row: dict[str, Any] = {
            "kind": "exchange",
            "request_id": exchange.request_id,
            "time": self._log.timestamp(self._ended_at_s),
            "tenant": exchange.key.tenant.name,
            "key": exchange.key.id,
            "feature": exchange.feature,
            "user": exchange.user,
            "tags": exchange.tags,
            "operation": exchange.operation._value_,
            "model": exchange.route.group.name,
            "outcome": self._outcome.name,
            "degraded": None,
            "error_code": self._outcome.code or None,
        }
        if call is None or bill is None:
            row |= _UNANSWERED
        else:
            _add_answer(row, call, bill)
        return row

    def _count(self, call: Call, bill: Bill) -> None:
        route = self._exchange.route
        assert route is not None
        for attempt in call.attempts:
            route.metrics(attempt.deployment).attempt(attempt.outcome)
            if attempt.usage_rejected:
                self._log.event(
                    "usage_rejected",
                    level="warning",
                    request_id=self._exchange.request_id,
                    deployment=attempt.deployment.id,
                )
        for model, reason in call.fallbacks():
            self._metrics.fallbacks.child(route.group.name, model, reason).inc()
        route.metrics(call.answered_by).settled(
            self._exchange.feature,
            bill.source,
            input_tokens=bill.usage.input,
            output_tokens=bill.usage.output,
            cost_nanousd=bill.cost_nanousd if bill.priced else None,
        )


_UNANSWERED: dict[str, Any] = {
    "deployment": None,
    "provider": None,
    "attempts": [],
    "usage": _NOTHING,
    "cost_usd": format_usd(0),
    "charged_usd": format_usd(0),
    "cost_source": "provider",
    "price": None,
}


def _add_answer(row: dict[str, Any], call: Call, bill: Bill) -> None:
    shown = call.shown
    deployment = None if shown is None else shown.deployment
    price, usage = deployment.price if deployment else None, bill.usage
    row["deployment"] = deployment.id if deployment else None
    row["provider"] = deployment.provider.name if deployment else None
    row["attempts"] = [
        {"deployment": a.deployment.id, "outcome": a.outcome, "status": a.status} for a in call.attempts
    ]
    row["degraded"] = call.degraded
    row["usage"] = {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cached_input_tokens": usage.cached_input,
    }
    row["cost_usd"] = format_usd(bill.cost_nanousd)
    row["charged_usd"] = format_usd(bill.charged_nanousd)
    row["cost_source"] = bill.source
    row["price"] = None if price is None else price.tier(usage.input).as_row()
