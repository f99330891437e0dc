"""What is written down of an exchange before it has ended: enough to settle it when nobody is left to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from gateway.accounting.money import format_usd
from gateway.accounting.redactions import FIELD
from gateway.telemetry.timestamp import Timestamp

if TYPE_CHECKING:
    from gateway.accounting.journal import Journal
    from gateway.exchange import Exchange
    from gateway.routing.attempt import Attempt
    from gateway.routing.demand import Demand


def facts_of(exchange: Exchange) -> dict[str, Any]:
    """Who asked for what: the same in every row of an exchange; made once."""
    if exchange.facts is None:
        exchange.facts = _facts(exchange)
    return exchange.facts


def _facts(exchange: Exchange) -> dict[str, Any]:
    assert exchange.key is not None and exchange.route is not None
    return {
        "id": str(exchange.number),
        "request_id": exchange.request_id,
        "admitted": exchange.admitted_s,
        "tenant": exchange.key.tenant.name,
        "key": exchange.key.id,
        "feature": exchange.feature,
        "user": exchange.user,
        "tags": exchange.tags,
        "operation": exchange.operation._value_,
        "model": exchange.route.group.name,
    }


class AttemptRows:
    """Rows of the kind ``attempt``, and the notes that stand with reservations in the store."""

    __slots__ = ("_journal", "_timestamp")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._timestamp = Timestamp()

    def note(self, exchange: Exchange, demand: Demand, reserved_nanousd: int) -> bytes:
        """For whoever sweeps the reservation."""
        worst = _worst_case(demand, reserved_nanousd)
        return orjson.dumps({**facts_of(exchange), "writer": self._journal.writer, **worst})

    def opened(self, exchange: Exchange, attempt: Attempt, number: int, demand: Demand) -> None:
        """Written when an attempt opens; ``number`` counts them from 0. Raises ``Unavailable``."""
        deployment = attempt.deployment
        row: dict[str, Any] = {
            "kind": "attempt",
            "id": str(exchange.number),
            "n": number,
            "time": self._timestamp(time.time()),
            "deployment": deployment.id,
            "provider": deployment.provider.name,
        }
        if number == 0:
            row |= facts_of(exchange)
            row |= _worst_case(demand, demand.cost_nanousd(deployment))
            price = deployment.price
            row["price"] = None if price is None else price.tier(demand.input_tokens).as_row()
            if exchange.redaction is not None and (found := exchange.redaction.row()):
                row[FIELD] = found
        self._journal.append(row)


def _worst_case(demand: Demand, reserved_nanousd: int) -> dict[str, Any]:
    return {
        "input_tokens": demand.input_tokens,
        "output_tokens": demand.output_tokens,
        "reserved_usd": format_usd(reserved_nanousd),
    }
