"""What an exchange leaves behind: its row in the ledger, and what the metrics count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.accounting.attempts import facts_of
from gateway.accounting.journal import Journal
from gateway.accounting.money import format_usd
from gateway.accounting.redactions import FIELD
from gateway.exchange import Exchange, Outcome
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.admission.account import Reservation
    from gateway.calls.call import Bill, Call

_NOTHING = {"input_tokens": 0, "output_tokens": 0, "cached_input_tokens": 0}


@dataclass(slots=True, frozen=True)
class Books:
    """Where a settlement is entered. ``settle``: gives a reservation back and counts what of it was
    used, in nano-dollars and tokens."""

    journal: Journal
    log: Log
    metrics: Metrics
    settle: Callable[[Reservation, int, int], None]


class Settlement:
    """Made when the exchange has ended; called by the settler, until it has been written."""

    __slots__ = ("_books", "_ended_at_s", "_exchange", "_outcome")

    def __init__(self, exchange: Exchange, outcome: Outcome, books: Books) -> None:
        self._exchange = exchange
        self._outcome = outcome
        self._books = books
        self._ended_at_s = time.time()

    def __call__(self) -> None:
        """Raises ``Unavailable`` when the ledger has no room yet: nothing has been counted then."""
        call = self._exchange.call
        bill = None if call is None else call.bill()
        self._books.journal.append(self._row(call, bill))
        if self._exchange.reservation is not None:
            used = (bill.charged_nanousd, bill.usage.input + bill.usage.output) if bill else (0, 0)
            self._books.settle(self._exchange.reservation, *used)
        if call is not None and bill is not None:
            self._count(call, bill)

    def _row(self, call: Call | None, bill: Bill | None) -> dict[str, Any]:
        exchange = self._exchange
        row: dict[str, Any] = {
            "kind": "exchange",
            "time": self._books.log.timestamp(self._ended_at_s),
            **facts_of(exchange),
            "outcome": self._outcome.name,
            "degraded": None,
            "error_code": self._outcome.code or None,
        }
        if call is None or bill is None:
            row |= _UNANSWERED
            if self._outcome.name == "ok":
                row["cost_source"] = "cached"
        else:
            _add_answer(row, call, bill)
        if exchange.reservation is not None and exchange.reservation.local:
            row["degraded"] = row["degraded"] or "storage"
        if exchange.redaction is not None and (found := exchange.redaction.row()):
            row[FIELD] = found
        return row

    def _count(self, call: Call, bill: Bill) -> None:
        route = self._exchange.route
        assert route is not None
        for attempt in call.attempts:
            route.metrics(attempt.deployment).attempt(attempt.outcome)
            if attempt.usage_rejected:
                self._books.log.event(
                    "usage_rejected",
                    level="warning",
                    request_id=self._exchange.request_id,
                    deployment=attempt.deployment.id,
                )
        for model, reason in call.fallbacks():
            self._books.metrics.fallbacks.child(route.group.name, model, reason).inc()
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
    "joins": [],
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
    row["joins"] = [
        {"deployment": join.after.deployment.id, "after_bytes": join.after_bytes} for join in call.joins
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
